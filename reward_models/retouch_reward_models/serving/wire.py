"""Episodes and outputs as JSON: strictly checked, photos as PNG in base64, nothing that runs when it is read."""

from __future__ import annotations

import base64
import binascii
import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import PIL.Image
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from retouch_gym.adapters.photos import to_base64_png
from retouch_gym.errors import ImageError, RendererError, RetouchError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import RENDERERS, Renderer, get_renderer
from retouch_gym.rewards.base import RewardOutput
from retouch_gym.tasks import Episode, Mode, Task, Turn
from retouch_gym.types import Image, Photo, ToolCall
from retouch_reward_models.serving.parcels import SentPhoto

_PNG = b"\x89PNG\r\n\x1a\n"

Text: TypeAlias = Annotated[str, Field(max_length=65_536)]
"""A text of at most as many characters as an instruction may have."""

Name: TypeAlias = Annotated[str, Field(max_length=1_024)]
"""An id or a name."""


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class WireCall(_Wire):
    """See `ToolCall`."""

    name: Name
    arguments: dict[str, JsonValue] = {}


class WireTurn(_Wire):
    """See `Turn`."""

    calls: Annotated[list[WireCall], Field(max_length=64)] = []
    error: Text | None = None
    text: Text | None = None
    parsed: bool = True


class WireEpisode(_Wire):
    """One episode: only `instruction`, `before` and `after` are needed. Photos are PNG, 8 bits, RGB, in base64.

    Attributes:
        instruction: What the user asked for.
        before: The photo before any edit.
        after: The photo as it is now.
        reference: The photo as a good editor leaves it, for rewards that need one.
        context: Further photos that the agent saw.
        task_id: Episodes of one task share it.
        mode: See `Mode`.
        kind: Class of task.
        recipe: The edit, as `Recipe.to_dict` writes it; None for an empty one of the toolset iea.
        start: The recipe that the episode began with.
        target: A recipe that leads to the reference.
        history: Earlier requests.
        requests: Every request of this episode; empty for the instruction alone.
        answer: What the agent said (summary).
        wanted_answer: The words that were asked for (summary).
        turns: What the agent did.
        finished: Whether the agent ended the episode.
        renderer: Short name of what rendered `after`, for rewards that render again.
        metadata: Anything else of the task.
    """

    instruction: Text
    before: str
    after: str
    reference: str | None = None
    context: Annotated[list[str], Field(max_length=4)] = []
    task_id: Name = ""
    mode: Mode = "edit"
    kind: Name = "edit"
    recipe: dict[str, JsonValue] | None = None
    start: dict[str, JsonValue] | None = None
    target: dict[str, JsonValue] | None = None
    history: Annotated[list[Text], Field(max_length=256)] = []
    requests: Annotated[list[Text], Field(max_length=256)] = []
    answer: Text | None = None
    wanted_answer: Text = ""
    turns: Annotated[list[WireTurn], Field(max_length=1_024)] = []
    finished: bool = True
    renderer: Name = "native"
    metadata: dict[str, JsonValue] = {}

    @property
    def photos(self) -> tuple[str, ...]:
        """Every photo of the episode, as text."""
        return (self.before, self.after, *([] if self.reference is None else [self.reference]), *self.context)


class ScoreRequest(_Wire):
    """Body of ``POST /score``."""

    episodes: Annotated[list[WireEpisode], Field(min_length=1)]


class WireOutput(_Wire):
    """See `RewardOutput`."""

    value: float | None
    components: dict[str, float] = {}
    error: str | None = None
    details: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _one_of_both(self) -> WireOutput:
        if (self.value is None) == (self.error is None):
            raise ValueError("an output has either a value or an error")
        return self


class ScoreResponse(_Wire):
    """Answer of ``POST /score``: as many outputs as episodes, in order."""

    outputs: list[WireOutput]
    version: str


class WireDescription(_Wire):
    """Answer of ``GET /reward``: what the reward declares, and how much of what a request may hold."""

    name: str
    low: float
    high: float
    components: list[str]
    needs_reference: bool
    scope: Literal["episode", "group"]
    version: str
    max_episodes: int
    max_bytes: int


@dataclass(frozen=True)
class PhotoLimits:
    """What photos may ask for when they are unpacked.

    Args:
        photo: Most pixels of one photo.
        request: Most pixels of all different photos of a request together.
    """

    photo: int = 1 << 24
    request: int = 1 << 26


class UnknownRenderer(Renderer):
    """Stands for a renderer that is not offered here: rewards that do not render again never notice.

    Args:
        name: Its name there.
        known: Names that are offered.
    """

    toolsets = frozenset[str]()

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        """Fail.

        Raises:
            RendererError: Always.
        """
        raise RendererError(f"The renderer {self.name!r} is not offered here; there are {', '.join(self.known)}.")


def encode_episode(episode: Episode, *, reference: bool) -> WireEpisode:
    """An episode for the way.

    Args:
        episode: The episode.
        reference: Whether its reference goes along.

    Raises:
        RetouchError: If a photo cannot be read, or something in the episode cannot be written.
    """
    task = episode.task
    wanted = episode.reference if reference else None
    try:
        return WireEpisode(
            instruction=task.instruction,
            before=to_base64_png(episode.source),
            after=to_base64_png(episode.image),
            reference=None if wanted is None else to_base64_png(wanted),
            context=[to_base64_png(photo.load()) for photo in task.context],
            task_id=task.id,
            mode=task.mode,
            kind=task.kind,
            recipe=episode.recipe.to_dict(),
            start=None if task.start is None else task.start.to_dict(),
            target=None if task.recipe is None else task.recipe.to_dict(),
            history=list(task.history),
            requests=list(episode.requests),
            answer=episode.answer,
            wanted_answer=task.answer,
            turns=[_encode_turn(turn) for turn in episode.turns],
            finished=episode.finished,
            renderer=episode.renderer.name,
            metadata=_plain(task.metadata),
        )
    except ValidationError as error:
        raise RetouchError(f"The episode of task {task.id!r} cannot be sent: {first_problem(error)}") from error


def decode_episodes(request: ScoreRequest, limits: PhotoLimits, renderers: Sequence[str]) -> list[Episode | str]:
    """The episodes of a request, in order; where one cannot be read, why.

    Equal photos of a request become one array.

    Args:
        request: What came.
        limits: Checked against the photos' headers, before anything is unpacked.
        renderers: Short names of the renderers that rewards may render again with.
    """
    photos = _Photos(limits)
    engines: dict[str, Renderer] = {}
    found: list[Episode | str] = []
    for wire in request.episodes:
        try:
            if wire.renderer not in engines:
                offered = wire.renderer in renderers and wire.renderer in RENDERERS
                engines[wire.renderer] = (
                    get_renderer(wire.renderer) if offered else UnknownRenderer(wire.renderer, renderers)
                )
            found.append(_decode_episode(wire, photos, engines[wire.renderer]))
        except RetouchError as error:
            found.append(str(error))
    return found


def encode_output(output: RewardOutput) -> WireOutput:
    """An output for the way. One that JSON cannot hold becomes an error."""
    try:
        return WireOutput(
            value=None if output.value is None else float(output.value),
            components={name: float(part) for name, part in output.components.items()},
            error=output.error,
            details=_plain(output.details),
        )
    except (ValidationError, TypeError, ValueError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else str(error)
        return WireOutput(value=None, error=output.error or f"the output cannot be written as JSON: {reason}")


def decode_output(wire: WireOutput) -> RewardOutput:
    """Inverse of `encode_output`."""
    return RewardOutput(wire.value, dict(wire.components), wire.error, dict(wire.details))


def first_problem(error: ValidationError) -> str:
    """What is wrong first, and where, without what was sent."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, problem["loc"]))
    return f"{where}: {problem['msg']}" if where else problem["msg"]


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG, from its header alone (PNG, section 11.2.2).

    Raises:
        ImageError: If it is none.
    """
    if data[:8] != _PNG or data[12:16] != b"IHDR" or len(data) < 33:
        raise ImageError(f"The {len(data)} bytes are no PNG; photos are sent as PNG, 8 bits, RGB, in base64.")
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)


class _Photos:
    """The photos of one request, each unpacked once, within the limits."""

    def __init__(self, limits: PhotoLimits) -> None:
        self._limits = limits
        self._known: dict[str, Image] = {}
        self._pixels = 0

    def read(self, text: str, name: str) -> Image:
        if text not in self._known:
            try:
                self._known[text] = self._decode(text)
            except ImageError as error:
                raise ImageError(f"{name}: {error}") from error
        return self._known[text]

    def _decode(self, text: str) -> Image:
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError(f"The text of {len(text)} characters is no base64 ({error}).") from error
        width, height = png_size(data)
        if width * height > self._limits.photo:
            raise ImageError(f"{width}×{height} pixels are too many; at most {self._limits.photo} are taken.")
        if self._pixels + width * height > self._limits.request:
            raise ImageError(
                f"The photos of this request have more than {self._limits.request} pixels; send fewer episodes at once."
            )
        self._pixels += width * height
        try:
            with PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
                if picture.mode != "RGB":
                    raise ImageError(f"The PNG is of mode {picture.mode}; photos are sent as RGB with 8 bits.")
                return np.array(picture, dtype=np.uint8)
        except ImageError:
            raise
        except (OSError, ValueError, SyntaxError, struct.error, PIL.Image.DecompressionBombError) as error:
            raise ImageError(f"The PNG cannot be read ({error}).") from error


def _decode_episode(wire: WireEpisode, photos: _Photos, renderer: Renderer) -> Episode:
    source, image = photos.read(wire.before, "before"), photos.read(wire.after, "after")
    reference = None if wire.reference is None else SentPhoto(photos.read(wire.reference, "reference"))
    context: tuple[Photo, ...] = tuple(SentPhoto(photos.read(text, "context")) for text in wire.context)
    task = Task(
        id=wire.task_id,
        photo=SentPhoto(source),
        instruction=wire.instruction,
        mode=wire.mode,
        kind=wire.kind,
        context=context,
        start=None if wire.start is None else Recipe.from_dict(wire.start),
        history=tuple(wire.history),
        answer=wire.wanted_answer,
        reference=reference,
        recipe=None if wire.target is None else Recipe.from_dict(wire.target),
        metadata=wire.metadata,
    )
    return Episode(
        task=task,
        source=source,
        image=image,
        recipe=Recipe("iea") if wire.recipe is None else Recipe.from_dict(wire.recipe),
        renderer=renderer,
        turns=tuple(_decode_turn(turn) for turn in wire.turns),
        finished=wire.finished,
        requests=tuple(wire.requests) or (wire.instruction,),
        answer=wire.answer,
    )


def _encode_turn(turn: Turn) -> WireTurn:
    calls = [WireCall(name=call.name, arguments=_plain(call.arguments)) for call in turn.calls]
    return WireTurn(calls=calls, error=turn.error, text=turn.text, parsed=turn.parsed)


def _decode_turn(wire: WireTurn) -> Turn:
    calls = tuple(ToolCall(call.name, call.arguments) for call in wire.calls)
    return Turn(calls, wire.error, wire.text, wire.parsed)


def _plain(value: Mapping[str, object]) -> dict[str, JsonValue]:
    """Mappings as dicts and sequences as lists all the way down; strict validation takes no others."""
    return {str(name): _plain_value(part) for name, part in value.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain_value(part) for part in value]
    if isinstance(value, np.generic):
        return _plain_value(value.item())
    return value
