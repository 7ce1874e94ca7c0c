"""Reading effects from words, and the reward of naming the right ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from retouch_gym import Recipe
from retouch_gym.datasets.grammar import ADJECTIVES, FAULTS, STRENGTHS, draw_instruction
from retouch_gym.datasets.reader import read_request
from retouch_gym.rewards import RewardOutput, get_reward, score_batch, score_one
from retouch_gym.rewards.effects import read_effects
from retouch_gym.rewards.intent import IntentReward, effect_agreement, word_agreement
from retouch_gym.rewards.summary import rouge_l, tokens
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, TinyRenderer, check_reward, make_episode


def episode(wanted: str, said: str | None) -> Episode:
    task = dataclasses.replace(TinyDataset()[0], id="said", mode="summary", answer=wanted)
    return make_episode(task, Recipe("iea"), TinyRenderer(), answer=said)


def score(wanted: str, said: str | None) -> RewardOutput:
    return score_one(IntentReward(), episode(wanted, said))


def value(wanted: str, said: str | None) -> float:
    found = score(wanted, said).value
    assert found is not None
    return found


class TestReading:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Cooler and brighter, please.", {"temperature": -2, "light": 2}),
            ("a touch warmer, and lift the shadows", {"temperature": 1, "shadows": 2}),
            ("too dark and too warm", {"light": 2, "temperature": -2}),
            ("there is too much contrast and too little saturation", {"contrast": -3, "saturation": 1}),
            ("much less contrast but more saturation", {"contrast": -3, "saturation": 2}),
            ("less saturated", {"saturation": -2}),
            ("darker in the corners", {"vignette": 2}),
            ("brighten the shadows", {"shadows": 2}),
            ("deeper in the shadows and far more exposed", {"shadows": -2, "light": 4}),
            ("reduce the noise, bring the contrast up", {"grain": -2, "contrast": 2}),
            ("more brightness and contrast", {"light": 2, "contrast": 2}),
            ("the brightness and contrast are fine", {}),
            ("brighter by a lot and sharpen slightly", {"light": 4, "sharpness": 1}),
            ("brighter, much warmer", {"light": 2, "temperature": 3}),
            ("not warmer", {}),
            ("please don't make it darker", {}),
            ("warmer here and cooler there", {}),
            ("make it pop", {}),
            ("", {}),
        ],
    )
    def test_sentences(self, text: str, expected: dict[str, int]) -> None:
        assert read_effects(tokens(text)) == expected

    def test_it_reads_the_grammar_of_the_synthetic_tasks_as_its_perfect_reader_does(self) -> None:
        rng = np.random.default_rng(0)
        rank = {strength.middle: place for place, strength in enumerate(STRENGTHS, start=1)}
        names = [name for name in ADJECTIVES if name != "exposure"]
        for _ in range(500):
            sliders = [names[i] for i in rng.permutation(len(names))[: rng.integers(1, 5)]]
            text, reasoning, _, _ = draw_instruction(rng, sliders)
            changes = read_request(text)
            expected = {
                "light" if name == "brightness" else name: int(np.sign(change)) * rank[abs(change)]
                for name, change in changes.items()
            }
            assert read_effects(tokens(text)) == expected
            assert read_effects(tokens(reasoning)) == expected

    @pytest.mark.parametrize("slider", FAULTS)
    def test_it_takes_a_fault_for_the_wish_to_mend_it(self, slider: str) -> None:
        effect = "light" if slider == "exposure" else slider
        positive, negative = FAULTS[slider]
        assert read_effects(tokens(positive)) == {effect: 2}
        assert read_effects(tokens(negative)) == {effect: -2}


class TestAgreement:
    @pytest.mark.parametrize(
        ("wanted", "said", "expected"),
        [
            ({"light": 2}, {"light": 2}, 1.0),
            ({"light": 1}, {"light": 4}, 0.5),
            ({"light": 2}, {"light": -2}, -1.0),
            ({"light": 2}, {}, 0.0),
            ({}, {"light": 2}, 0.0),
            ({"light": 2, "tint": 1}, {"light": 2}, 2 / 3),
            ({"light": 2}, {"light": 2, "tint": 1}, 2 / 3),
            ({"light": 2, "tint": 1}, {"light": 2, "tint": -1}, 0.0),
        ],
    )
    def test_by_hand(self, wanted: dict[str, int], said: dict[str, int], expected: float) -> None:
        assert effect_agreement(wanted, said) == pytest.approx(expected)

    def test_filler_hardly_counts(self) -> None:
        target = tokens("please make the photo warmer")
        assert word_agreement(target, target) == 1.0
        assert word_agreement(target, ["warmer"]) > 0.8
        assert word_agreement(target, tokens("please make the photo cooler")) < 0.3
        assert word_agreement([], []) == 0.0


class TestReward:
    def test_the_order_that_it_is_there_for(self) -> None:
        wanted = "please make the photo much warmer and slightly darker."
        ladder = [
            "it should be much warmer and slightly darker",
            "it should be warmer and darker",
            "it should be warmer",
            "please make the photo nicer",
            "it should be warmer and brighter",
            "please make the photo much cooler and slightly brighter.",
        ]
        values = [value(wanted, said) for said in ladder]
        assert values[:4] == sorted(values[:4], reverse=True)
        assert values[3] > values[5]
        assert values[3] >= 0 > values[5]
        assert values[2] > values[4]

    def test_the_opposite_is_worth_less_than_nothing_where_rouge_says_otherwise(self) -> None:
        wanted, opposite = "make it warmer.", "make it cooler."
        assert rouge_l(wanted, opposite)[0] > 0.6 > rouge_l(wanted, "")[0]
        assert value(wanted, opposite) == pytest.approx(-0.8)
        assert value(wanted, "") == value(wanted, None) == 0.0
        assert score(wanted, opposite).components == {"effects": -1.0, "words": 0.0, "opposites": 1.0}

    def test_naming_an_opposite_is_always_worse_than_leaving_it_out(self) -> None:
        rng = np.random.default_rng(1)
        names = [name for name in ADJECTIVES if name not in {"exposure", "fade"}]
        for _ in range(200):
            chosen = [names[i] for i in rng.permutation(len(names))[:3]]
            signs = rng.integers(0, 2, 3).tolist()
            right = [ADJECTIVES[name][sign] or "" for name, sign in zip(chosen, signs, strict=True)]
            wrong = ADJECTIVES[chosen[0]][1 - signs[0]]
            wanted = f"make it {', '.join(right)}."
            for kept in (right[1:], right[1:2], []):
                assert value(wanted, f"make it {', '.join([*kept, str(wrong)])}") < value(wanted, ", ".join(kept))

    def test_a_request_without_effects_is_compared_by_its_words(self) -> None:
        assert value("fix this photo", "fix this photo") == 1.0
        assert 0 < value("remove the dog from the beach", "take the dog off the beach") < 1
        assert value("fix this photo", "much warmer") == 0.0

    def test_the_same_words_are_worth_one(self) -> None:
        for text in ("warmer", "make it slightly darker in the corners, and far punchier.", "save this photo"):
            assert value(text, text.upper()) == pytest.approx(1.0)

    def test_repeating_or_listing_everything_gains_nothing(self) -> None:
        wanted = "make it warmer and darker."
        everything = "brighter darker warmer cooler punchier flatter vivid muted greener pinker sharper softer"
        assert value(wanted, everything) < 0.25
        assert value(wanted, "warmer and darker " * 50) < value(wanted, "warmer and darker")

    def test_batch_equals_singles_and_the_checker_agrees(self) -> None:
        check_reward("intent", broken=episode("", "warmer"))
        reward = get_reward("intent")
        episodes = [episode("make it warmer", said) for said in ("warmer", "cooler", None, "x", "make it warmer")]
        assert score_batch(reward, episodes) == [score_one(reward, one) for one in episodes]

    @pytest.mark.parametrize(("answer", "match"), [("", "no answer"), ("更亮", "without a letter")])
    def test_nothing_to_compare_with_is_an_error(self, answer: str, match: str) -> None:
        good, bad = episode("warmer", "warmer"), episode(answer, "warmer")
        first, second = IntentReward().score([good, bad])
        assert first == IntentReward().score([good])[0]
        assert second.value is None
        assert match in (second.error or "")
