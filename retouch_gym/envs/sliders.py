"""The numeric view, for stable-baselines3 and for RLlib's stock algorithms: fixed-size arrays in, numbers out."""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, Unpack, cast

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from retouch_gym.envs.base import BaseRetouchEnv
from retouch_gym.envs.engine import one_of
from retouch_gym.envs.options import EnvOptions
from retouch_gym.envs.session import Session
from retouch_gym.envs.slots import running
from retouch_gym.envs.vector import VECTOR_OPTIONS, BaseRetouchVectorEnv
from retouch_gym.envs.view import Rules, View
from retouch_gym.errors import ConfigurationError
from retouch_gym.images import resize
from retouch_gym.tasks import Mode
from retouch_gym.tools.base import Control
from retouch_gym.tools.toolset import MAX_CALLS
from retouch_gym.types import Image, ToolCall, Unparsable

Actions: TypeAlias = Literal["box", "multi-discrete", "discrete"]
Words: TypeAlias = Literal["hash", "tokens", "none"]

CONTEXT_PHOTOS: Mapping[Mode, int] = {"edit": 0, "refine": 0, "match": 1, "transfer": 2}
"""Further photos that are shown in each mode that can be answered with numbers."""


class SlidersView(View):
    """Photos at one size, instructions as vectors, sliders as numbers. See `SlidersEnv` for the arguments."""

    def __init__(
        self,
        *,
        size: int = 36,
        words: Words = "hash",
        words_size: int = 64,
        vocabulary: int = 1024,
        flat: bool = False,
        actions: Actions = "box",
        levels: int = 9,
        sliders: Sequence[str] | None = None,
    ) -> None:
        for name, value, least in (("size", size, 1), ("words_size", words_size, 1), ("vocabulary", vocabulary, 2)):
            if not isinstance(value, int) or value < least:
                raise ConfigurationError(f"{name} is {value!r}; expected a whole number of at least {least}.")
        if not isinstance(levels, int) or levels < 3 or levels % 2 == 0:
            raise ConfigurationError(f"levels is {levels!r}; expected an odd number of at least 3, so that 0 is one.")
        one_of("words", words, ("hash", "tokens", "none"))
        one_of("actions", actions, ("box", "multi-discrete", "discrete"))
        self.size, self.words, self.words_size = size, words, words_size
        self.vocabulary, self.flat, self.actions, self.levels = vocabulary, flat, actions, levels
        self.sliders = None if sliders is None else tuple(sliders)
        self.controls: tuple[Control, ...] = ()
        self.extras: tuple[str, ...] = ()
        self.context = 0

    def bind(self, rules: Rules) -> SlidersView:
        """See `View.bind`."""
        bound = super().bind(rules)
        for mode in rules.modes:
            if mode not in CONTEXT_PHOTOS:
                raise ConfigurationError(
                    f"Task {mode!r} is answered in words; the numeric view shows {', '.join(CONTEXT_PHOTOS)}. "
                    "Use Retouch/Chat-v0 or Retouch/Retouch-v0."
                )
        known = {name: control for name, control in rules.toolset.controls.items() if name in rules.toolset.by_name}
        for name in self.sliders or ():
            one_of("slider", name, known)
        bound.controls = tuple(known[name] for name in (known if self.sliders is None else self.sliders))
        if not 0 < len(bound.controls) <= MAX_CALLS:
            raise ConfigurationError(f"The numeric view needs 1..{MAX_CALLS} sliders, got {len(bound.controls)}.")
        bound.extras = tuple(name for name in ("finish", "undo") if name in rules.toolset.by_name)
        bound.context = max(CONTEXT_PHOTOS[mode] for mode in rules.modes)
        return bound

    @property
    def photos(self) -> tuple[str, ...]:
        """Keys of the photos in an observation."""
        return ("image", "original", *(f"context_{number}" for number in range(1, self.context + 1)))

    def observation_space(self) -> Space[Any]:
        """A `Dict` of `Box`, or one flat `Box`; see `SlidersEnv`."""
        parts = self._parts()
        if not self.flat:
            return spaces.Dict(parts)
        boxes = [cast(spaces.Box, part) for part in parts.values()]
        low, high = (np.concatenate([getattr(box, end).ravel() for box in boxes]) for end in ("low", "high"))
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    def _parts(self) -> dict[str, Space[Any]]:
        shape = (self.size, self.size, 3)
        photo = spaces.Box(0, 1, shape, np.float32) if self.flat else spaces.Box(0, 255, shape, np.uint8)
        parts: dict[str, Space[Any]] = dict.fromkeys(self.photos, photo)
        parts["controls"] = spaces.Box(-1, 1, (len(self.controls),), np.float32)
        parts["turns_left"] = spaces.Box(0, 1, (1,), np.float32)
        if self.words == "hash":
            parts["instruction"] = spaces.Box(-1, 1, (self.words_size,), np.float32)
        elif self.words == "tokens":
            parts["instruction"] = spaces.Box(0, self.vocabulary - 1, (self.words_size,), np.float32)
        return parts

    def action_space(self) -> Space[Any]:
        """`Box`, `MultiDiscrete` or `Discrete`; see `SlidersEnv`."""
        count, extra = len(self.controls), len(self.extras)
        if self.actions == "box":
            return spaces.Box(-1, 1, (count,), np.float32)
        if self.actions == "multi-discrete":
            return spaces.MultiDiscrete([count + extra, self.levels])
        return spaces.Discrete(count * self.levels + extra)

    def observe(self, session: Session) -> Any:
        """What the agent sees; new arrays every time."""
        context = [photo.load() for photo in session.task.context]
        shown = dict(zip(self.photos, [session.image, session.source, *context], strict=False))
        parts: dict[str, NDArray[Any]] = {name: self._photo(shown.get(name)) for name in self.photos}
        parts["controls"] = np.array([to_unit(session.recipe[c.name], c) for c in self.controls], np.float32)
        parts["turns_left"] = np.array([session.turns_left / session.max_turns], np.float32)
        if self.words == "hash":
            parts["instruction"] = hash_words(session.requests[-1], self.words_size)
        elif self.words == "tokens":
            parts["instruction"] = tokenize(session.requests[-1], self.words_size, self.vocabulary)
        if not self.flat:
            return parts
        return np.concatenate([part.ravel() for part in parts.values()], dtype=np.float32)

    def _photo(self, photo: Image | None) -> NDArray[Any]:
        if photo is None:
            return np.zeros((self.size, self.size, 3), np.float32 if self.flat else np.uint8)
        small = resize(photo, self.size, self.size)
        return small.astype(np.float32) / np.float32(255) if self.flat else small.copy()

    def read(self, action: Any, session: Session) -> tuple[object, str | None]:
        """The plan that a vector or an index stands for; what is neither becomes `Unparsable`."""
        try:
            values = np.asarray(action, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            values = np.array([math.nan])
        space = self.action_space()
        if values.shape != space.shape or not np.isfinite(values).all():
            return Unparsable(f"expected finite numbers of shape {space.shape} for {space}"), None
        if self.actions == "box":
            return self._plan(values, session), None
        if self.actions == "multi-discrete":
            tool, level = int(values[0]), int(values[1])
        else:
            beyond = int(values) - len(self.controls) * self.levels
            tool, level = divmod(int(values), self.levels) if beyond < 0 else (len(self.controls) + beyond, 0)
        if not 0 <= tool < len(self.controls) + len(self.extras) or not 0 <= level < self.levels:
            return Unparsable(f"{values.tolist()} is outside {space}"), None
        if tool >= len(self.controls):
            return ToolCall(self.extras[tool - len(self.controls)]), None
        control = self.controls[tool]
        return ToolCall(control.name, {"value": self.value_of(control, level)}), None

    def value_of(self, control: Control, level: int) -> float:
        """The slider value of a level 0..levels − 1; the middle level is the value that changes nothing."""
        return from_unit(2 * level / (self.levels - 1) - 1, control)

    def _plan(self, values: NDArray[np.float64], session: Session) -> tuple[ToolCall, ...]:
        wanted = {c.name: from_unit(float(value), c) for c, value in zip(self.controls, values, strict=True)}
        return tuple(
            ToolCall(name, {"value": value}) for name, value in wanted.items() if value != session.recipe[name]
        )

    def mask(self, session: Session) -> NDArray[np.bool_]:
        """Which discrete actions would do something; empty for ``"box"``.

        Setting a slider to the value that it has, and undoing nothing, are masked. For ``"multi-discrete"`` the
        masks of the two choices follow each other, as sb3-contrib's `MaskablePPO` expects; they are not
        independent, so only the tools are masked there.
        """
        extras = [name != "undo" or bool(session.changes) for name in self.extras]
        if self.actions == "box":
            return np.ones(0, np.bool_)
        if self.actions == "multi-discrete":
            return np.array([True] * len(self.controls) + extras + [True] * self.levels)
        moves = [
            self.value_of(control, level) != session.recipe[control.name]
            for control in self.controls
            for level in range(self.levels)
        ]
        return np.array(moves + extras)

    def info(self, session: Session) -> dict[str, Any]:
        """The mask as ``action_mask``, where actions are discrete."""
        return {} if self.actions == "box" else {"action_mask": self.mask(session)}


def to_unit(value: float, control: Control) -> float:
    """A slider value on −1..1, where 0 is the value that changes nothing."""
    side = control.high - control.default if value >= control.default else control.default - control.low
    return (value - control.default) / side if side else 0.0


def from_unit(unit: float, control: Control) -> float:
    """Inverse of `to_unit`, rounded where the slider has whole numbers; what is outside −1..1 is clipped."""
    unit = min(1.0, max(-1.0, unit))
    side = control.high - control.default if unit >= 0 else control.default - control.low
    value = control.default + unit * side
    return round(value) if control.integer else value


def hash_words(text: str, size: int) -> NDArray[np.float32]:
    """Words and pairs of words, hashed with signs into a vector of length 1 (Weinberger et al. 2009).

    Args:
        text: Any text; case does not matter.
        size: Length of the vector.

    Returns:
        float32 (size,), −1..1; zeros for a text without words.
    """
    words = _words(text)
    vector = np.zeros(size, np.float32)
    for feature in (*words, *(" ".join(pair) for pair in itertools.pairwise(words))):
        code = zlib.crc32(feature.encode())
        vector[(code >> 1) % size] += 1 if code & 1 else -1
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector


def tokenize(text: str, length: int, vocabulary: int) -> NDArray[np.float32]:
    """The first words as hashed ids 1..vocabulary − 1, padded with 0.

    Returns:
        float32 (length,); whole numbers, as floats because neither library embeds integers out of the box.
    """
    ids = np.zeros(length, np.float32)
    for place, word in enumerate(_words(text)[:length]):
        ids[place] = 1 + zlib.crc32(word.encode()) % (vocabulary - 1)
    return ids


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower().encode("utf-8", "replace").decode())


class SlidersOptions(EnvOptions, total=False):
    """Arguments of the numeric environments; `SlidersEnv` explains them."""

    size: int
    words: Words
    words_size: int
    vocabulary: int
    flat: bool
    actions: Actions
    levels: int
    sliders: Sequence[str] | None


def _split(options: SlidersOptions) -> tuple[SlidersView, EnvOptions]:
    """The view, and the arguments that are left for the environment."""
    rest: dict[str, Any] = dict(options)
    names = set(SlidersOptions.__annotations__) - set(EnvOptions.__annotations__)
    own = {name: rest.pop(name) for name in names & set(rest)}
    return SlidersView(**own), cast(EnvOptions, rest)


class SlidersEnv(BaseRetouchEnv):
    """Retouch a photo with numbers, for stable-baselines3 and RLlib's stock algorithms.

    ## Description
    The same tasks, rules, rendering and rewards as `RetouchEnv`. Photos are shown at one size, the instruction
    as a vector, and actions are numbers. The edit itself is rendered, and scored, at the photo's full size.

    ## Action Space
    | actions | Space | Meaning |
    |---|---|---|
    | ``box`` | `Box` float32 (sliders,) −1..1 | sets every slider at once; 0 leaves it untouched |
    | ``multi-discrete`` | `MultiDiscrete([sliders + 2, levels])` | sets one slider to a level, or finish, or undo |
    | ``discrete`` | `Discrete(sliders · levels + 2)` | the same as one number: slider · levels + level |

    Level 0 is the slider's lowest value and levels − 1 its highest. ``finish`` and ``undo`` come after the
    sliders. With ``box`` an episode ends when its turns are used up. What is no such number costs a turn,
    changes nothing, and is told in ``info["tool_error"]``.

    Masks: `action_masks`, as sb3-contrib's `MaskablePPO` calls it, and ``info["action_mask"]``.

    ## Observation Space
    A `Dict` of:

    | Key | Space | Meaning |
    |---|---|---|
    | image | uint8 (size, size, 3) | the photo as it is now, sRGB, 0..255 |
    | original | the same | the photo before any edit |
    | context_1, context_2 | the same | match: the goal; transfer: the example before and after |
    | controls | float32 (sliders,) | the sliders as they are, −1..1 |
    | turns_left | float32 (1,) | share of the turns that are left, 0..1 |
    | instruction | float32 (words_size,) | ``hash``: hashed words and pairs of words, −1..1; ``tokens``: ids |

    With ``flat=True`` one `Box` float32 with all of these in this order, photos as 0..1.

    ## Rewards
    As `RetouchEnv`.

    ## Starting State
    As `RetouchEnv`.

    ## Episode End
    As `RetouchEnv`.

    ## Arguments
    >>> import gymnasium, retouch_gym
    >>> env = gymnasium.make("Retouch/Sliders-v0", sliders=["exposure", "temperature"], max_turns=1)
    >>> observation, info = env.reset(seed=0)
    >>> observation["image"].shape, env.action_space
    ((36, 36, 3), Box(-1.0, 1.0, (2,), float32))
    >>> observation, reward, terminated, truncated, info = env.step([0.4, -0.1])
    >>> dict(info["recipe"].controls), terminated
    ({'exposure': 40, 'temperature': -10}, True)

    Args:
        size: Side of the shown photos in pixels. stable-baselines3's CNN needs at least 36.
        words: How the instruction is shown: ``"hash"``, ``"tokens"`` or ``"none"``.
        words_size: Length of the instruction's vector.
        vocabulary: Number of token ids, 0 for padding included.
        flat: One flat vector of floats instead of a `Dict`, as RLlib's stock models want it.
        actions: ``"box"``, ``"multi-discrete"`` or ``"discrete"``.
        levels: Levels of a slider where actions are discrete; odd, at least 3.
        sliders: The sliders that can be moved; None for all.
        toolset: See `RetouchEnv`, as for all further arguments.

    Raises:
        ConfigurationError: If an argument is not known or the arguments do not go together.
        DatasetError: If the dataset cannot be found or is empty.

    ## Version History
    * v0: first release.
    """

    def __init__(self, **options: Unpack[SlidersOptions]) -> None:
        view, rest = _split(options)
        super().__init__(view, **rest)

    def action_masks(self) -> NDArray[np.bool_]:
        """Which discrete actions would do something. See `SlidersView.mask`.

        Raises:
            ResetNeeded: Before the first reset.
        """
        view = cast(SlidersView, self.engine.view)
        return view.mask(running(self._slot, ended=True, purpose="mask actions"))


class SlidersVectorEnv(BaseRetouchVectorEnv):
    """Many `SlidersEnv` in one: ``gymnasium.make_vec("Retouch/Sliders-v0", num_envs=16)``. See `RetouchVectorEnv`."""

    def __init__(self, num_envs: int = 1, **options: Any) -> None:
        own = {name: options.pop(name) for name in VECTOR_OPTIONS if name in options}
        view, rest = _split(cast(SlidersOptions, options))
        super().__init__(view, num_envs, **own, **rest)
