"""The words of the synthetic tasks: what a user asks for, how strongly, and a short reasoning about it.

Lower-case ASCII words, full stops and commas only, about 120 of them, so that a tiny model can learn them
all. A strength word stands for a range of slider values; a *perfect reader* takes the middle of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tasks import Mode


@dataclass(frozen=True)
class Strength:
    """Adverbs that mean the same, and the slider values they stand for.

    Args:
        adverbs: Interchangeable words; an empty one stands for the bare adjective.
        low: Smallest absolute slider value.
        high: Largest absolute slider value.
    """

    adverbs: tuple[str, ...]
    low: int
    high: int

    @property
    def middle(self) -> int:
        """The value that a reader takes it for, a multiple of 5."""
        return round((self.low + self.high) / 10) * 5


STRENGTHS = (
    Strength(("slightly", "a touch"), 15, 25),
    Strength(("", "somewhat"), 30, 45),
    Strength(("much", "clearly"), 50, 65),
    Strength(("far", "way"), 70, 90),
)
"""Strengths in rising order; the ranges do not overlap."""

STEP = 5
"""Slider values are multiples of this."""

ADJECTIVES: Mapping[str, tuple[str, str | None]] = {
    "exposure": ("more exposed", "less exposed"),
    "brightness": ("brighter", "darker"),
    "contrast": ("punchier", "flatter"),
    "highlights": ("brighter in the highlights", "darker in the highlights"),
    "shadows": ("lighter in the shadows", "deeper in the shadows"),
    "saturation": ("more vivid", "more muted"),
    "temperature": ("warmer", "cooler"),
    "tint": ("greener", "pinker"),
    "vignette": ("darker in the corners", "brighter in the corners"),
    "fade": ("more faded", None),
}
"""Slider to the words for a positive and for a negative value."""

FAULTS: Mapping[str, tuple[str, str]] = {
    "exposure": ("too dark", "too bright"),
    "contrast": ("too flat", "too harsh"),
    "saturation": ("too dull", "too vivid"),
    "temperature": ("too cool", "too warm"),
    "tint": ("too pink", "too green"),
}
"""Slider to the fault that a positive and that a negative value of it mends."""

_REQUESTS = (
    "{}.",
    "make it {}.",
    "please make the photo {}.",
    "i want this {}.",
    "could you make the picture {}, thanks.",
    "i took this yesterday and would like it to be {}.",
)

_VAGUE_REQUESTS = (
    "fix this photo.",
    "please repair the colours and the light.",
    "something went wrong here, make it look natural.",
    "this does not look right to me.",
    "make it look like it did when i was there.",
    "please correct this picture.",
    "can you save this photo, thanks.",
    "the camera had the wrong settings.",
    "make it look good.",
    "bring this back to normal, please.",
)

MODE_REQUESTS: Mapping[Mode, tuple[str, ...]] = {
    "summary": (
        "say what was asked for.",
        "what did the user want here.",
        "put the edit into words.",
    ),
    "match": (
        "make the photo look like the second one.",
        "please make this look like the second picture.",
        "i want this to look like the second photo.",
    ),
    "transfer": (
        "do to this photo what was done to the example.",
        "edit the picture like the example, please.",
        "i want this changed like the example.",
    ),
}
"""What is asked where the photos say the rest. `words` leaves these words out unless it is asked for them."""


def draw_instruction(rng: np.random.Generator, sliders: Sequence[str]) -> tuple[str, str, Recipe, Recipe]:
    """Draw a request that names effects and strengths.

    Args:
        rng: Source of randomness.
        sliders: Sliders to draw values for, in the order they are named.

    Returns:
        Instruction, reasoning, the recipe that was drawn, and the recipe of a perfect reader of the words.
    """
    phrases, drawn, read = [], {}, {}
    for slider in sliders:
        strength = STRENGTHS[int(rng.integers(len(STRENGTHS)))]
        positive, negative = ADJECTIVES[slider]
        sign = 1 if negative is None or rng.random() < 0.5 else -1
        drawn[slider] = sign * STEP * int(rng.integers(strength.low // STEP, strength.high // STEP, endpoint=True))
        read[slider] = sign * strength.middle
        adverb = strength.adverbs[int(rng.integers(len(strength.adverbs)))]
        phrases.append(f"{adverb} {positive if sign > 0 else negative}".strip())
    return draw_request(rng, phrases), say(phrases), Recipe("iea", drawn), Recipe("iea", read)


def has_words(slider: str, change: float) -> bool:
    """Whether a user of these words can ask for a slider to be moved by `change` (nobody asks for less fade)."""
    return change != 0 and slider in ADJECTIVES and ADJECTIVES[slider][0 if change > 0 else 1] is not None


def draw_phrase(rng: np.random.Generator, slider: str, change: float) -> str:
    """Words for moving a slider by `change`, for instance ``"slightly warmer"`` for temperature and 20.

    The adverb is of the strength whose range holds `change` or is the nearest to it.

    Raises:
        ValueError: If there are no words for it. See `has_words`.
    """
    if not has_words(slider, change):
        raise ValueError(f"No words for moving {slider!r} by {change:g}; ask has_words first.")
    amount = abs(change)
    strength = next((strength for strength in STRENGTHS if amount < strength.high + STEP / 2), STRENGTHS[-1])
    adverb = strength.adverbs[int(rng.integers(len(strength.adverbs)))]
    return f"{adverb} {ADJECTIVES[slider][0 if change > 0 else 1]}".strip()


def describe_change(rng: np.random.Generator, old: Recipe, new: Recipe) -> list[str]:
    """Phrases for the way from one recipe to another, one per slider that differs, in a drawn order.

    Sliders and directions without words (see `has_words`) are left out, so the list may be empty.
    """
    changes = {name: new[name] - old[name] for name in ADJECTIVES if has_words(name, new[name] - old[name])}
    names = list(changes)
    return [draw_phrase(rng, names[index], changes[names[index]]) for index in rng.permutation(len(names)).tolist()]


def draw_request(rng: np.random.Generator, phrases: Sequence[str]) -> str:
    """Draw a sentence that asks for phrases (at least one), for instance ``"make it warmer and flatter."``."""
    return _REQUESTS[int(rng.integers(len(_REQUESTS)))].format(join(phrases))


def draw_mode_request(rng: np.random.Generator, mode: Mode) -> str:
    """Draw a sentence of `MODE_REQUESTS`."""
    return MODE_REQUESTS[mode][int(rng.integers(len(MODE_REQUESTS[mode])))]


def say(phrases: Sequence[str]) -> str:
    """The reasoning that goes with phrases (at least one)."""
    return f"it should be {join(phrases)}."


def draw_vague_instruction(rng: np.random.Generator) -> str:
    """Draw a request that does not say what is wrong."""
    return _VAGUE_REQUESTS[int(rng.integers(len(_VAGUE_REQUESTS)))]


def describe_faults(remedy: Recipe) -> str:
    """What is wrong with a photo that `remedy` mends, as reasoning."""
    faults = [FAULTS[slider][0 if remedy[slider] > 0 else 1] for slider in FAULTS if remedy[slider]]
    return f"the photo is {join(faults)}."


def join(phrases: Sequence[str]) -> str:
    """``a, b and c``."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def words(*modes: Mode) -> tuple[str, ...]:
    """Every word that the grammar can write, sorted, with those of `MODE_REQUESTS` for the modes given."""
    texts = [*_REQUESTS, *_VAGUE_REQUESTS, "it should be the photo is and"]
    texts += [text for mode in modes for text in MODE_REQUESTS.get(mode, ())]
    texts += [adverb for strength in STRENGTHS for adverb in strength.adverbs]
    texts += [text for pair in (*ADJECTIVES.values(), *FAULTS.values()) for text in pair if text]
    return tuple(sorted({word for text in texts for word in re.findall(r"[a-z]+", text)}))
