"""Both verdict formats: strict reading, and writing as its inverse."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym.errors import ConfigurationError
from retouch_reward_models.errors import VerdictError
from retouch_reward_models.grm import (
    Criterion,
    JsonVerdict,
    LineVerdict,
    Scored,
    Verdict,
    VerdictFormat,
    get_verdict_format,
)
from retouch_reward_models.grm.formats import MAX_VERDICT

JSON, LINES = JsonVerdict(), LineVerdict()


def row(name: Any = "light", weight: Any = 100, score: Any = 5, **more: Any) -> dict[str, Any]:
    return {"criterion": name, "weight": weight, "score": score, **more}


def write(*rows: Any, **more: Any) -> str:
    return json.dumps({"criteria": list(rows), **more})


def test_a_json_verdict_is_read_with_weights_scores_notes_and_rationale() -> None:
    text = write(row("warm tones", 60, 8, note="warmer"), row("rest", 40, 5.5), rationale="well done")
    verdict = JSON.parse(text)
    assert verdict.criteria == (Criterion("warm tones", 0.6), Criterion("rest", 0.4))
    assert [item.scores for item in verdict.scored] == [(8.0,), (5.5,)]
    assert [item.notes for item in verdict.scored] == [("warmer",), ("",)]
    assert verdict.rationale == "well done"
    assert verdict.total() == pytest.approx(0.6 * 8 + 0.4 * 5.5)


def test_a_fence_and_spaces_around_json_are_taken_off() -> None:
    assert JSON.parse(f"\n```json\n{write(row(score=7))}\n```\n").total() == 7


def test_lines_are_read_for_several_candidates() -> None:
    verdict = LINES.parse("exposure|75|+40=9|0=2\nother|25|5=8|=10", 2)
    assert [verdict.total(place) for place in (0, 1)] == [0.75 * 9 + 0.25 * 8, 0.75 * 2 + 0.25 * 10]
    assert verdict.scored[0].notes == ("+40", "0")


@pytest.mark.parametrize("total", [95, 97.3, 100, 104.99, 105])
def test_weights_within_five_per_cent_are_scaled_to_one(total: float) -> None:
    for verdict in (
        JSON.parse(write(row("a", total / 2, 10), row("b", total / 2, 0))),
        LINES.parse(f"a|{total / 2:g}|=10\nb|{total / 2:g}|=0"),
    ):
        assert math.fsum(item.weight for item in verdict.criteria) == pytest.approx(1, abs=1e-12)
        assert verdict.total() == pytest.approx(5)


@pytest.mark.parametrize("total", [94.9, 105.1, 50, 200, 1e-300, 1e307, 1e308])
def test_weights_that_add_up_to_something_else_are_no_verdict(total: float) -> None:
    with pytest.raises(VerdictError):
        JSON.parse(write(row("a", total / 2), row("b", total / 2), row("c", total / 2)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "[]",
        "null",
        "Score: 10",
        '{"score": 10}',
        write(),
        write(*[row(f"c{number}", 100 / 13) for number in range(13)]),
        write(row(weight=0)),
        write(row("a", 150), row("b", -50)),
        write(row(weight=-100)),
        write(row(weight=True)),
        write(row(weight="100")),
        write(row(weight=None)),
        write(row()).replace("100", "NaN"),
        write(row()).replace("100", "1e999"),
        write(row("a", 50), row("a", 50)),
        write(row("Warm tones", 50), row(" warm  TONES ", 50)),
        write(row("")),
        write(row("  ")),
        write(row("x" * 121)),
        write(row(7)),
        write({"criterion": "a", "weight": 100}),
        write(row(score=None)),
        write(row(score="10")),
        write(row(score=True)),
        write(row(score=[5])),
        write(row(score=-0.1)),
        write(row(score=10.1)),
        write(row(score=1e300)),
        write(row(score=10**60)),
        write(row()).replace('"score": 5', '"score": Infinity'),
        write(row()).replace('"score": 5', '"score": 5, "score": 10'),
        write(row()).replace('"score"', '"\\u0073core"'),
        write(row(note=3)),
        write(row(scores=[5, 5])),
        write(row(bonus=1)),
        write(row(), rationale=3),
        write(row(), total=10),
        write("light"),
        '{"criteria": {"criterion": "a", "weight": 100, "score": 5}}',
        write(row()) + write(row(score=10)),
        f"{write(row())} Final score: 10",
        f"I think: {write(row())}",
        f"```json\n{write(row())}",
        write(row())[:-1],
        "[" * 5000,
        write(row(note="x" * MAX_VERDICT)),
    ],
)
def test_whatever_is_not_exactly_the_json_format_is_no_verdict(text: str) -> None:
    with pytest.raises(VerdictError) as error:
        JSON.parse(text)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n \n",
        "light",
        "light|100",
        "light|100|5",
        "light|100|=5|=5",
        "light|100|=",
        "light|100|=ten",
        "light|100|=10.1",
        "light|100|=11",
        "light|100|=-1",
        "light|100|=+5",
        "light|100|= 5",
        "light|100|=1e1",
        "light|100|=5.1234",
        "light|100|a=b=5",
        "light|100|=٥",
        "light|100|=５",
        "light|١٠٠|=5",
        "light|-100|=5",
        "light|nan|=5",
        "light|1e2|=5",
        "light||=5",
        "|100|=5",
        "light|0|=5\nrest|100|=5",
        "light|60|=5\nlight|40|=5",
        "light|60|=5\nLIGHT |40|=5",
        "light|60|=5",
        "light|100|=5\nScore: 10",
        "The edit is good.\nlight|100|=5",
        "\n".join(f"c{number}|7.69|=5" for number in range(13)),
        f"light|100|{'x' * MAX_VERDICT}=5",
    ],
)
def test_whatever_is_not_exactly_lines_is_no_verdict(text: str) -> None:
    with pytest.raises(VerdictError) as error:
        LINES.parse(text)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("candidates", [1, 2, 3])
@pytest.mark.parametrize("asked", [1, 2, 3])
def test_a_verdict_is_about_as_many_candidates_as_were_shown(candidates: int, asked: int) -> None:
    scores = (5.0,) * candidates
    verdict = Verdict((Scored(Criterion("light", 1.0), scores, ("",) * candidates),))
    for spoken in (JSON, LINES):
        if candidates == asked:
            assert spoken.parse(spoken.write(verdict), asked).candidates == asked
        else:
            with pytest.raises(VerdictError):
                spoken.parse(spoken.write(verdict), asked)


def test_criteria_alone_are_read_as_strictly() -> None:
    assert JSON.parse_criteria('{"criteria": [{"criterion": "a", "weight": 98}]}') == (Criterion("a", 1.0),)
    assert LINES.parse_criteria("a|30\n\nb|70\n") == (Criterion("a", 0.3), Criterion("b", 0.7))
    for text in (write(row()), '{"criteria": [{"criterion": "a", "weight": 98}], "rationale": ""}', "x" * 20_000):
        with pytest.raises(VerdictError):
            JSON.parse_criteria(text)
    for text in ("a|100|=5", "a", "a|90", ""):
        with pytest.raises(VerdictError):
            LINES.parse_criteria(text)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LINE_WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="|=\n"), max_size=20)


@st.composite
def verdicts(draw: st.DrawFn, words: st.SearchStrategy[str], digits: int) -> Verdict:
    names = draw(
        st.lists(
            words.map(str.strip).filter(bool),
            min_size=1,
            max_size=6,
            unique_by=lambda name: " ".join(name.casefold().split()),
        )
    )
    shares = draw(st.lists(st.integers(1, 1000), min_size=len(names), max_size=len(names)))
    count = draw(st.integers(1, 4))
    scores = st.floats(0, 10).map(lambda score: round(score, digits))
    scored = [
        Scored(
            Criterion(name, share / sum(shares)),
            tuple(draw(st.lists(scores, min_size=count, max_size=count))),
            tuple(draw(st.lists(words, min_size=count, max_size=count))),
        )
        for name, share in zip(names, shares, strict=True)
    ]
    return Verdict(tuple(scored), draw(words))


def check_round_trip(spoken: VerdictFormat, verdict: Verdict) -> None:
    text = spoken.write(verdict)
    found = spoken.parse(text, verdict.candidates)
    for item, expected in zip(found.scored, verdict.scored, strict=True):
        assert item.criterion.name == expected.criterion.name
        assert item.criterion.weight == pytest.approx(expected.criterion.weight, abs=1e-7)
        assert (item.scores, item.notes) == (expected.scores, expected.notes)
        # A span is where the digits of that score stand.
        assert tuple(float(text[start:end]) for start, end in item.spans) == expected.scores
    again = spoken.parse_criteria(spoken.write_criteria(verdict.criteria))
    assert [item.name for item in again] == [item.name for item in verdict.criteria]


@settings(max_examples=150, deadline=None)
@given(verdict=verdicts(WORDS, 12))
def test_json_reads_what_it_writes(verdict: Verdict) -> None:
    check_round_trip(JSON, verdict)
    assert JSON.parse(JSON.write(verdict), verdict.candidates).rationale == verdict.rationale


@settings(max_examples=150, deadline=None)
@given(verdict=verdicts(LINE_WORDS, 3))
def test_lines_read_what_they_write(verdict: Verdict) -> None:
    check_round_trip(LINES, verdict)


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(max_size=200)
    | st.lists(st.sampled_from(['{"criteria": [', '"score": 5', "|", "=5", "a", "100", "\n", "}", "]"])).map("".join)
)
def test_any_text_is_a_verdict_or_a_verdict_error(text: str) -> None:
    for spoken in (JSON, LINES):
        for read in (spoken.parse, spoken.parse_criteria):
            try:
                found = read(text)
            except VerdictError:
                continue
            criteria = found.criteria if isinstance(found, Verdict) else found
            assert math.fsum(item.weight for item in criteria) == pytest.approx(1)


def test_formats_are_found_by_name_and_their_guides_speak_of_the_candidates() -> None:
    assert isinstance(get_verdict_format("retouch_reward_models.grm.formats:JsonVerdict"), JsonVerdict)
    assert isinstance(get_verdict_format("lines"), LineVerdict)
    assert LINES.guide(3).count("=score") == 3
    assert '"scores": [0 to 10, 0 to 10]' in JSON.guide(2)
    with pytest.raises(ConfigurationError, match="Did you mean 'lines'"):
        get_verdict_format("line")
