"""How verdicts are written as text, and how they are read: strictly, nothing is completed or guessed."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from retouch_gym.chat.strict_json import read_json, write_json
from retouch_gym.errors import ToolError
from retouch_gym.resolve import build
from retouch_gym.types import JSON
from retouch_reward_models.errors import VerdictError
from retouch_reward_models.grm.verdict import Criterion, Scored, Verdict, check_score, make_criteria

MAX_VERDICT = 16_384
"""Most characters of an answer; a longer one is refused unread."""


class VerdictFormat(ABC):
    """How criteria and scores are written. Implementations are small frozen data.

    Attributes:
        name: Short name.
    """

    name: ClassVar[str]

    @abstractmethod
    def guide(self, candidates: int) -> str:
        """How to answer with a verdict about so many candidates, for the prompt."""

    @abstractmethod
    def criteria_guide(self) -> str:
        """How to answer with criteria alone."""

    @abstractmethod
    def write(self, verdict: Verdict) -> str:
        """The verdict as text: the inverse of `parse`."""

    @abstractmethod
    def write_criteria(self, criteria: Sequence[Criterion]) -> str:
        """The criteria as text: the inverse of `parse_criteria`."""

    @abstractmethod
    def read(self, text: str, candidates: int) -> Verdict:
        """What `parse` does, for texts of bounded length."""

    @abstractmethod
    def read_criteria(self, text: str) -> tuple[Criterion, ...]:
        """What `parse_criteria` does, for texts of bounded length."""

    def parse(self, text: str, candidates: int = 1) -> Verdict:
        """Read a verdict.

        Args:
            text: What the model wrote.
            candidates: How many edits it was to judge.

        Raises:
            VerdictError: With what is wrong: not the format, weights that do not add up, a criterion without a score
                for every candidate, a score out of range.
        """
        return self.read(_bounded(text), candidates)

    def parse_criteria(self, text: str) -> tuple[Criterion, ...]:
        """Read criteria with their weights.

        Raises:
            VerdictError: With what is wrong.
        """
        return self.read_criteria(_bounded(text))


class JsonVerdict(VerdictFormat):
    """One JSON object: what large models write most reliably.

    One candidate: ``{"criteria": [{"criterion": str, "weight": per cent, "note": str, "score": 0..10}, …],
    "rationale": str}``; several: ``"notes"`` and ``"scores"``, lists in the order of the candidates. Notes and
    rationale may be left out.
    """

    name = "json"

    def guide(self, candidates: int) -> str:
        """See `VerdictFormat.guide`."""
        one = '"note": what you see, "score": 0 to 10'
        if candidates > 1:
            one = f'"notes": [what you see in each], "scores": [{", ".join(["0 to 10"] * candidates)}]'
        return (
            "Answer with one JSON object and nothing else: "
            f'{{"criteria": [{{"criterion": a few words, "weight": per cent, {one}}}, ...], "rationale": one sentence}}'
            ". Weights are above 0 and add up to 100."
        )

    def criteria_guide(self) -> str:
        """See `VerdictFormat.criteria_guide`."""
        return (
            "Answer with one JSON object and nothing else: "
            '{"criteria": [{"criterion": a few words, "weight": per cent}, ...]}. '
            "Weights are above 0 and add up to 100."
        )

    def write(self, verdict: Verdict) -> str:
        """See `VerdictFormat.write`."""
        return write_json({"criteria": [_item(entry) for entry in verdict.scored], "rationale": verdict.rationale})

    def write_criteria(self, criteria: Sequence[Criterion]) -> str:
        """See `VerdictFormat.write_criteria`."""
        items: list[JSON] = [{"criterion": item.name, "weight": _percent(item)} for item in criteria]
        return write_json({"criteria": items})

    def read(self, text: str, candidates: int) -> Verdict:
        """See `VerdictFormat.read`."""
        data = _object(_json(text), {"criteria"}, {"rationale"}, "the answer")
        many = candidates > 1
        score, note = ("scores", "notes") if many else ("score", "note")
        items = [
            _object(item, {"criterion", "weight", score}, {note}, "a criterion") for item in _list(data["criteria"])
        ]
        criteria = make_criteria([_named(item) for item in items])
        # Inside a JSON string a double quote is escaped, so that this is found at keys only.
        places = [match.end() for match in re.finditer(rf'"{score}"\s*:\s*', text)]
        if len(places) != len(items):
            raise VerdictError(f"Write the key {score!r} without escapes.")
        scored = []
        for item, criterion, place in zip(items, criteria, places, strict=True):
            values = item[score] if many else [item[score]]
            notes = item.get(note, [""] * candidates) if many else [item.get(note, "")]
            if not isinstance(values, list) or not isinstance(notes, list):
                raise VerdictError(f"{score} and {note} of {criterion.name!r} should be lists, one for each candidate.")
            if len(values) != candidates or len(notes) != candidates:
                raise VerdictError(f"{criterion.name!r} has {len(values)} scores; expected {candidates}.")
            numbers = tuple(check_score(criterion.name, _number(value, score)) for value in values)
            spans = tuple(match.span() for match in re.finditer(r"[-+.\deE]+", text[place:]))[:candidates]
            moved = tuple((start + place, end + place) for start, end in spans)
            scored.append(Scored(criterion, numbers, tuple(_text(value, note) for value in notes), moved))
        return Verdict(tuple(scored), _text(data.get("rationale", ""), "rationale"))

    def read_criteria(self, text: str) -> tuple[Criterion, ...]:
        """See `VerdictFormat.read_criteria`."""
        data = _object(_json(text), {"criteria"}, set(), "the answer")
        items = [_object(item, {"criterion", "weight"}, set(), "a criterion") for item in _list(data["criteria"])]
        return make_criteria([_named(item) for item in items])


class LineVerdict(VerdictFormat):
    """One line a criterion, ``name|weight|note=score``, with ``|note=score`` again for every further candidate.

    A tenth of the tokens of JSON: for small models, and where a judge is asked often. Names and notes hold none of
    ``|``, ``=`` and line breaks.
    """

    name = "lines"

    _SCORE = re.compile(r"[0-9]{1,2}(?:\.[0-9]{1,3})?")

    def guide(self, candidates: int) -> str:
        """See `VerdictFormat.guide`."""
        scores = "".join("|what you see=score" for _ in range(candidates))
        return (
            f"Answer with one line for each criterion and nothing else: criterion|weight{scores}. Weights are per cent "
            "and add up to 100; scores are 0 to 10."
        )

    def criteria_guide(self) -> str:
        """See `VerdictFormat.criteria_guide`."""
        return "Answer with one line for each criterion and nothing else: criterion|weight. Weights add up to 100."

    def write(self, verdict: Verdict) -> str:
        """See `VerdictFormat.write`."""
        lines = []
        for item in verdict.scored:
            judged = [f"{note}={score:g}" for note, score in zip(item.notes, item.scores, strict=True)]
            lines.append("|".join([item.criterion.name, _plain(_percent(item.criterion)), *judged]))
        return "\n".join(lines)

    def write_criteria(self, criteria: Sequence[Criterion]) -> str:
        """See `VerdictFormat.write_criteria`."""
        return "\n".join(f"{item.name}|{_plain(_percent(item))}" for item in criteria)

    def read(self, text: str, candidates: int) -> Verdict:
        """See `VerdictFormat.read`."""
        rows = [_fields(line, start, 2 + candidates) for line, start in _lines(text)]
        criteria = make_criteria([(name, _decimal(weight)) for (name, _), (weight, _), *_ in rows])
        scored = []
        for criterion, (_, _, *judged) in zip(criteria, rows, strict=True):
            notes, scores, spans = [], [], []
            for field, start in judged:
                note, equals, score = field.partition("=")
                if not equals or self._SCORE.fullmatch(score) is None:
                    raise VerdictError(f"{field[:40]!r} of {criterion.name!r} should be a note, '=' and a score.")
                notes.append(note)
                scores.append(check_score(criterion.name, float(score)))
                spans.append((start + len(note) + 1, start + len(field)))
            scored.append(Scored(criterion, tuple(scores), tuple(notes), tuple(spans)))
        return Verdict(tuple(scored))

    def read_criteria(self, text: str) -> tuple[Criterion, ...]:
        """See `VerdictFormat.read_criteria`."""
        rows = [_fields(line, start, 2) for line, start in _lines(text)]
        return make_criteria([(name, _decimal(weight)) for (name, _), (weight, _) in rows])


VERDICT_FORMATS: Mapping[str, str] = {
    "json": "retouch_reward_models.grm.formats:JsonVerdict",
    "lines": "retouch_reward_models.grm.formats:LineVerdict",
}
"""Short names of the formats."""


def get_verdict_format(name: str | VerdictFormat) -> VerdictFormat:
    """The format of a short name or ``"module:attribute"``, or itself.

    Raises:
        ConfigurationError: If it is not known.
    """
    found: VerdictFormat = build(name, VERDICT_FORMATS, "verdict format", VerdictFormat)
    return found


def _bounded(text: str) -> str:
    if len(text) > MAX_VERDICT:
        raise VerdictError(f"The answer has {len(text)} characters; at most {MAX_VERDICT} are read.")
    return text


def _percent(criterion: Criterion) -> float:
    return round(100 * criterion.weight, 6)


def _plain(number: float) -> str:
    """A number in digits, without an exponent."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _item(entry: Scored) -> JSON:
    start: dict[str, JSON] = {"criterion": entry.criterion.name, "weight": _percent(entry.criterion)}
    if len(entry.scores) == 1:
        return {**start, "note": entry.notes[0], "score": entry.scores[0]}
    return {**start, "notes": list(entry.notes), "scores": list(entry.scores)}


def _json(text: str) -> Any:
    try:
        return read_json(text, "the answer")
    except ToolError as error:
        raise VerdictError(str(error)) from None


def _object(value: Any, needed: set[str], optional: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise VerdictError(f"{what} is {str(value)[:40]!r}; expected an object with {sorted(needed)}.")
    missing, unknown = needed - set(value), set(value) - needed - optional
    if missing or unknown:
        wrong = f"lacks {sorted(missing)}" if missing else f"has the unknown keys {sorted(unknown)}"
        raise VerdictError(
            f"{what} {wrong}; expected {sorted(needed)}" + (f" and perhaps {sorted(optional)}." * bool(optional))
        )
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise VerdictError(f"criteria is {str(value)[:40]!r}; expected a list.")
    return value


def _named(item: Mapping[str, Any]) -> tuple[str, float]:
    return _text(item["criterion"], "criterion"), _number(item["weight"], "weight")


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise VerdictError(f"{what} is {str(value)[:40]!r}; expected a number.")
    return float(value)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise VerdictError(f"{what} is {str(value)[:40]!r}; expected a text.")
    return value


def _lines(text: str) -> list[tuple[str, int]]:
    """The lines of an answer that are not blank, with where they begin."""
    found = [(match.group().rstrip(), match.start()) for match in re.finditer(r"\S[^\n]*", text)]
    if not found:
        raise VerdictError("The answer is empty; expected one line for each criterion.")
    return found


def _fields(line: str, start: int, count: int) -> list[tuple[str, int]]:
    """The fields of a line, with where they begin."""
    found = []
    for field in line.split("|"):
        found.append((field, start))
        start += len(field) + 1
    if len(found) != count:
        raise VerdictError(f"The line {line[:60]!r} has {len(found)} fields; expected {count}, separated by '|'.")
    return found


def _decimal(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{1,6})?", text) is None:
        raise VerdictError(f"The weight {text[:20]!r} should be a number of per cent.")
    return float(text)
