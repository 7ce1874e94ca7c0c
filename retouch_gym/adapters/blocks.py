"""An episode as content blocks with PIL photos, as Hugging Face's chat templates take them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import PIL.Image

from retouch_gym.errors import ConfigurationError
from retouch_gym.images import fit
from retouch_gym.types import Image

Block: TypeAlias = dict[str, Any]
"""``{"type": "text", "text": str}`` or ``{"type": "image", "image": PIL.Image.Image}`` (RGB, sRGB)."""

Content: TypeAlias = str | list[Block]
"""What a tool returns: a text, or a text followed by the photo as it is now."""

_CONTEXT: Mapping[str, tuple[str, ...]] = {
    "match": ("the goal",),
    "transfer": ("an example before its edit", "the example after it"),
    "summary": ("the photo after the edit",),
}
_MARKER = re.compile(r"<\|.{0,40}?\|>")


@dataclass(frozen=True)
class BlockView:
    """How an episode is shown to a model.

    Args:
        image_feedback: Whether an accepted call is answered with the photo as it is now, beside the text.
        longest: Photos are shown with the longer side at most this many pixels, never enlarged; None shows
            them whole.
        request: Text of the user's message behind the photos, with the fields ``{photos}``, ``{history}``,
            ``{recipe}``, ``{instruction}`` and ``{turns_left}``. The first three are empty, or a line.
        special_tokens: Taken out of every text, as anything of the form ``<|…|>`` is.

    Raises:
        ConfigurationError: If `longest` is no number of pixels, or `request` has another field.
    """

    image_feedback: bool
    longest: int | None
    request: str
    special_tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.longest is not None and self.longest < 1:
            raise ConfigurationError(f"longest is {self.longest!r}; expected pixels, 1 or more, or None.")
        try:
            self.request.format(photos="", history="", recipe="", instruction="", turns_left=1)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigurationError(
                f"request = {self.request!r} has an unknown field ({error}); known: photos, history, recipe, "
                "instruction, turns_left. Write literal braces twice."
            ) from error

    def ask(self, observation: Mapping[str, Any]) -> list[Block]:
        """The user's message: the photos, then the request."""
        further = observation.get("context", ())
        names = _CONTEXT.get(observation.get("task", ""), ())
        labels = ("the photo as it is now", *names, *["a further photo"] * (len(further) - len(names)))
        photos = "; ".join(f"{number} {label}" for number, label in enumerate(labels, 1))
        history = "; ".join(json.loads(observation.get("history", "[]")))
        sliders = ", ".join(
            f"{name} = {value:g}" if isinstance(value, int | float) else f"{name} = {json.dumps(value)}"
            for name, value in json.loads(observation["recipe"]).items()
        )
        text = self.request.format(
            photos=f"Photos: {photos}.\n" if further else "",
            history=f"Earlier requests: {history}\n" if history else "",
            recipe=f"Set already: {sliders}\n" if sliders else "",
            instruction=observation["instruction"],
            turns_left=observation["turns_left"],
        )
        return [*map(self.photo, (observation["image"], *further)), self.text(text)]

    def answer(self, text: str, image: Image | None) -> Content:
        """What a tool returns."""
        if image is None or not self.image_feedback:
            return self.disarm(text)
        return [self.text(text), self.photo(image)]

    def text(self, text: str) -> Block:
        """A block of text."""
        return {"type": "text", "text": self.disarm(text)}

    def photo(self, image: Image) -> Block:
        """A block with a photo."""
        shown = image if self.longest is None else fit(image, self.longest)
        return {"type": "image", "image": PIL.Image.fromarray(shown)}

    def disarm(self, text: str) -> str:
        """Take out what a tokenizer would read as the end of a turn, or as a photo that is not there."""
        for token in self.special_tokens:
            text = text.replace(token, " ")
        return _MARKER.sub(" ", text)
