"""What a generalist reward model is shown and told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from retouch_gym.chat import Message
from retouch_gym.chat.messages import system_message, user_message
from retouch_gym.errors import ConfigurationError, ImageError
from retouch_gym.images import check_image, fit, resize
from retouch_gym.types import Image
from retouch_reward_models.cases import Case
from retouch_reward_models.grm.formats import MAX_VERDICT, VerdictFormat
from retouch_reward_models.grm.verdict import Criterion
from retouch_reward_models.quoting import DATA_RULE, quote

VIEWS = ("before", "after", "difference")
"""What may be shown: the photo before; each candidate; each candidate's difference from before, mid-grey where nothing
changed."""

LETTERS = "ABCDEFGH"
"""What the candidates are called."""

_SYSTEM = (
    "You judge edits of photographs as an experienced retoucher does. For the case at hand, first decide what a good "
    "edit of this photo for this request has to achieve: a few criteria, each with its weight, the request before "
    "everything else, and that nothing was changed that nobody asked for. Then look at the edit and score every "
    "criterion from 0 (missed, or damaged the photo) to 10 (as a professional would have done it). An untouched photo "
    "does not fulfil a request; an exaggerated edit does not either. "
)

_USER = "{photos}\nREQUEST: {instruction}\n{criteria}\n{guide}"

_FIELD = re.compile(r"\{(photos|instruction|criteria|guide)\}")


@dataclass(frozen=True)
class JudgePrompt:
    """The words and photos of a judge's prompt.

    Args:
        system: The system turn; empty for none. What is said there of quoted data is up to it: see `DATA_RULE`.
        user: The user's turn after the photos. Fields: ``{photos}`` (what they are, in order), ``{instruction}`` (the
            request as quoted data), ``{criteria}`` (those that are to be scored, if they are given), ``{guide}`` (how
            to answer). A field that is left out is not said.
        views: Which photos are shown, of `VIEWS`.
        strip: Whether what belongs to one candidate is put side by side into one picture.
        longest: Photos are shrunk so that the longer side has at most this many pixels. None shows every pixel.
    """

    system: str = _SYSTEM + DATA_RULE
    user: str = _USER
    views: tuple[str, ...] = ("before", "after")
    strip: bool = False
    longest: int | None = 768

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(self.views))
        unknown = [view for view in self.views if view not in VIEWS]
        if unknown or not set(self.views) & {"after", "difference"}:
            raise ConfigurationError(
                f"views = {self.views!r} should be of {', '.join(VIEWS)}, with the edit (after or difference) in it."
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JudgePrompt:
        """The inverse of `to_dict`.

        Raises:
            ConfigurationError: If a key is not known.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise ConfigurationError(f"{dict(data)!r} is no judge's prompt: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """As plain data that JSON can hold."""
        return asdict(self)

    def verdict(self, case: Case, spoken: VerdictFormat, criteria: Sequence[Criterion] = ()) -> list[Message]:
        """The conversation that asks for a verdict.

        Args:
            case: Instruction, photo before, candidates.
            spoken: How it is to be answered.
            criteria: Criteria that are to be scored; empty if the judge writes its own.

        Raises:
            ImageError: If a photo is none, or there are more candidates than `LETTERS`.
        """
        given = ""
        if criteria:
            written = quote(spoken.write_criteria(criteria), MAX_VERDICT)
            given = f"Score exactly these criteria, with these weights:\n{written}"
        return self._messages(case, spoken.guide(len(case.candidates)), given)

    def ask_criteria(self, case: Case, spoken: VerdictFormat) -> list[Message]:
        """The conversation that asks for criteria alone, from the instruction and the photo before.

        Raises:
            ImageError: If the photo before is none.
        """
        alone = Case(case.instruction, case.before, (), case.task_id)
        return self._messages(
            alone, spoken.criteria_guide(), "Write criteria for edits of this photo; no edit is shown."
        )

    def _messages(self, case: Case, guide: str, criteria: str) -> list[Message]:
        photos, labels = self._photos(case)
        described = " ".join(f"Photo {number}: {label}." for number, label in enumerate(labels, 1))
        values = {"photos": described, "instruction": quote(case.instruction), "criteria": criteria, "guide": guide}
        # One pass over the template: a field's name inside a value stays what it is.
        text = _FIELD.sub(lambda field: values[field[1]], self.user)
        return [*([system_message(self.system)] if self.system else []), user_message(text, photos)]

    def _photos(self, case: Case) -> tuple[list[Image], list[str]]:
        """The photos in the order shown, and what each is."""
        check_image(case.before, "the photo before")
        for candidate in case.candidates:
            check_image(candidate, "a photo after")
        if len(case.candidates) > len(LETTERS):
            raise ImageError(f"The case has {len(case.candidates)} candidates; at most {len(LETTERS)} are shown.")
        before = case.before if self.longest is None else fit(case.before, self.longest)
        height, width = before.shape[:2]
        shown, labels = [], []
        if not case.candidates or ("before" in self.views and not self.strip):
            shown, labels = [before], ["before any edit"]
        for letter, candidate in zip(LETTERS[: len(case.candidates)], case.candidates, strict=True):
            after = candidate if candidate.shape == before.shape else resize(candidate, width, height)
            views = {"before": before, "after": after, "difference": difference(before, after)}
            wanted = [view for view in self.views if self.strip or view != "before"]
            name = f"edit {letter}" if len(case.candidates) > 1 else "the edit"
            if self.strip:
                shown.append(np.concatenate([views[view] for view in wanted], axis=1))
                labels.append(f"{name}: {', '.join(wanted)} side by side")
            else:
                shown += [views[view] for view in wanted]
                labels += [name if view == "after" else f"what {name} changed, grey is nothing" for view in wanted]
        return shown, labels


def difference(before: Image, after: Image) -> Image:
    """What changed from one photo to another of the same size: uint8 (H, W, 3), 128 where nothing did.

    after − before + 128 on 8-bit sRGB values, clipped to 0..255.
    """
    change = after.astype(np.int16) - before.astype(np.int16) + 128
    return np.clip(change, 0, 255).astype(np.uint8)
