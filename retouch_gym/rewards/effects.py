"""Reading what a sentence says about a photo's light and colour: effects, directions, strengths.

A word list and a few rules for plain English, made for short texts about edits ("a touch warmer, and lift the
shadows"). It knows no grammar beyond the words just before and after; what it does not know it passes over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_DESCRIBING: Final = {
    ("light", 1): "bright brighter brighten brightens brightened brightening lighter lighten lightened exposed",
    ("light", -1): "dark darker darken darkens darkened darkening dimmer dim deeper deepen deepened",
    ("contrast", 1): "punchy punchier contrasty harsh harsher bolder",
    ("contrast", -1): "flat flatter flatten flattened hazy hazier",
    ("saturation", 1): "vivid vibrant colourful colorful saturated saturate richer livelier",
    ("saturation", -1): "muted mute dull duller desaturated desaturate pale paler greyer grayer",
    ("temperature", 1): "warm warmer warmed warming yellow yellower yellowish orange golden",
    ("temperature", -1): "cool cooler cooled cooling cold colder blue bluer bluish",
    ("tint", 1): "green greener greenish",
    ("tint", -1): "pink pinker pinkish magenta purple purplish",
    ("fade", 1): "faded fade matte washed",
    ("sharpness", 1): "sharp sharper sharpen sharpened crisp crisper",
    ("sharpness", -1): "soft softer soften softened blurry blurrier blurred",
    ("grain", 1): "grainy grainier noisy noisier",
}
"""Words that name an effect with its direction."""

_NAMING: Final = {
    "light": "light lighting brightness exposure luminosity",
    "contrast": "contrast punch",
    "saturation": "saturation vibrance vividness colour colours color colors",
    "temperature": "warmth temperature",
    "fade": "fading haze",
    "vignette": "vignette vignetting",
    "sharpness": "sharpness clarity detail details",
    "grain": "grain noise",
    "highlights": "highlights highlight whites",
    "shadows": "shadows shadow blacks",
}
"""Words that name an effect; its direction is in a word before them, or after them ("contrast up")."""

_PLACES: Final = {
    "highlights": ("highlights", 1),
    "highlight": ("highlights", 1),
    "shadows": ("shadows", 1),
    "shadow": ("shadows", 1),
    "corners": ("vignette", -1),
    "edges": ("vignette", -1),
}
"""Where light may change alone, the effect it then is, and its sign: dark corners are more vignette."""

_UP: Final = _set("more increase increased raise raised boost boosted add added lift lifted up enhance")
_DOWN: Final = _set("less decrease decreased reduce reduced lower lowered cut remove removed down recover tame drop")
_NOT: Final = _set("not no never don dont doesn without")
_BARE = 2  # the strength of a word without an adverb
_RANKS: Final = {
    **dict.fromkeys(_set("slightly touch bit little subtle subtly gently mildly"), 1),
    **dict.fromkeys(_set("somewhat rather fairly"), 2),
    **dict.fromkeys(_set("much clearly considerably noticeably quite"), 3),
    **dict.fromkeys(_set("far way very strongly lot extremely really dramatically"), 4),
}
"""Adverbs and their strength, 1 to 4, in the order of `retouch_gym.datasets.grammar.STRENGTHS`."""

_EFFECTS: Final = {word: meaning for meaning, words in _DESCRIBING.items() for word in words.split()}
_NOUNS: Final = {word: effect for effect, words in _NAMING.items() for word in words.split()}
_STOPS: Final = _set("and but with while")

KEYWORDS: Final = frozenset({*_EFFECTS, *_NOUNS, *_PLACES, *_UP, *_DOWN, *_NOT, *_RANKS, "too"})
"""Every word that is read."""


def read_effects(words: Sequence[str]) -> Mapping[str, int]:
    """The effects that a text names, each with its direction as the sign and its strength, 1 to 4.

    Brightness and exposure are one effect, ``"light"``. "Too dark" asks for more light, "less warm" for a cooler
    photo, "too much contrast" for
    less of it, "not warmer" for nothing; "darker in the corners" is a vignette and "brighter in the shadows" of the
    shadows alone. An effect that is named in both directions is left out.

    Args:
        words: Lower-case words in their order, as of `retouch_gym.rewards.summary.tokens`.
    """
    found: dict[str, int] = {}
    undecided = set()
    for index, word in enumerate(words):
        effect, sign = _meaning(words, index, word)
        if not sign:
            continue
        value = sign * _strength(words, index)
        if effect in found and (found[effect] > 0) != (value > 0):
            undecided.add(effect)
        found[effect] = value
    return {effect: value for effect, value in found.items() if effect not in undecided}


def _meaning(words: Sequence[str], index: int, word: str) -> tuple[str, int]:
    """Effect and direction of a word; an empty effect if it has none here."""
    before = _before(words, index)
    if _NOT.intersection(before):
        return "", 0
    less = -1 if _DOWN.intersection(before) else 1
    if word in _EFFECTS:
        effect, sign = _EFFECTS[word]
        if effect == "light":
            effect, sign = _placed(words, index, sign)
        too = -1 if "too" in before else 1
        return effect, sign * less * too
    if word in _NOUNS and _names_itself(words, index):
        if "too" in before:
            return _NOUNS[word], 1 if "little" in before else -1
        after = words[index + 1] if index + 1 < len(words) else ""
        if _DOWN.intersection([*before, after]):
            return _NOUNS[word], -1
        if _UP.intersection([*before, after]):
            return _NOUNS[word], 1
        if index > 1 and words[index - 1] == "and" and words[index - 2] in _NOUNS:
            # "More brightness and contrast": what is said of the one goes for the other.
            return _NOUNS[word], _meaning(words, index - 2, words[index - 2])[1]
    return "", 0


def _names_itself(words: Sequence[str], index: int) -> bool:
    """Whether a noun is not the place or the measure of a describing word ("brighter in the shadows")."""
    return not any(word in _EFFECTS for word in words[max(index - 3, 0) : index])


def _placed(words: Sequence[str], index: int, sign: int) -> tuple[str, int]:
    """The effect of more or less light, by the place that follows within three words, if any."""
    for word in words[index + 1 : index + 4]:
        if word in _STOPS or word in _EFFECTS:
            break
        if word in _PLACES:
            effect, turn = _PLACES[word]
            return effect, sign * turn
    return "light", sign


def _before(words: Sequence[str], index: int) -> list[str]:
    """Up to four words before, back to the last effect or conjunction: those that qualify this one."""
    found: list[str] = []
    for word in reversed(words[max(index - 4, 0) : index]):
        if word in _STOPS or word in _EFFECTS or word in _NOUNS:
            break
        found.append(word)
    return found


def _strength(words: Sequence[str], index: int) -> int:
    """Strength by an adverb before, or by one after that ends the phrase ("brighter by a lot")."""
    for word in _before(words, index):
        if word in _RANKS:
            return _RANKS[word]
    for place, word in enumerate(words[index + 1 : index + 5], start=index + 2):
        if word in _STOPS or word in _EFFECTS or word in _NOUNS:
            break
        if word in _RANKS and (place == len(words) or words[place] in _STOPS):
            return _RANKS[word]
    return _BARE
