from __future__ import annotations

from pathlib import Path

import pytest

from retouch_agents.finetuning import FineTuning
from retouch_agents.models import load_model
from retouch_agents.tiny import TinySize, build_tiny
from retouch_agents.training.config import RayConfig, RLStage, SFTStage
from retouch_agents.training.memory import PromptSize, Shape, find_config, human, rl_loads, sft_loads, shape_of
from retouch_gym.tools import IEA

SHAPE = Shape(
    "made up",
    parameters=1000,
    trained=1000,
    reference=True,
    layers=2,
    cache_width=8,
    vocabulary=50,
    pixels_per_token=28,
)
PROMPT = PromptSize(tokens=10, feature_bytes=600)


@pytest.mark.parametrize(
    ("model", "parameters"),
    # As the models' pages say.
    [("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656), ("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976)],
)
def test_well_known_models_are_counted_without_a_download(model: str, parameters: int) -> None:
    config = find_config(model)
    assert config is not None
    assert shape_of(config).parameters == parameters


def test_a_folder_is_counted_as_it_is_loaded(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path, IEA, ["warmer"], size=TinySize(hidden=32, layers=2, heads=2, vision_hidden=16))
    config = find_config(folder)
    assert config is not None
    shape = shape_of(config)
    assert shape.parameters == load_model(folder).num_parameters()
    assert (shape.layers, shape.cache_width, shape.pixels_per_token) == (2, 2 * 32, 16)


def test_an_adapter_is_all_that_learns_and_travels() -> None:
    config = find_config("Qwen/Qwen2.5-VL-3B-Instruct")
    assert config is not None
    shape = shape_of(config, FineTuning(lora_rank=8, lora_alpha=16))
    # Rank 8 on the seven matrices of 36 layers: 8 · (inputs + outputs) numbers each.
    hidden, inner, keys = 2048, 11008, 256
    pairs = [(hidden, hidden), (hidden, keys), (hidden, keys), (hidden, hidden), *[(hidden, inner)] * 3]
    assert shape.trained == 36 * 8 * sum(a + b for a, b in pairs)
    assert shape.parameters == 3_754_622_976 + shape.trained
    stage = RLStage(iterations=1, prompts_per_iteration=2, group_size=2, max_new_tokens=5)
    loads = {load.process: load for load in rl_loads(stage, RayConfig(env_runners=1), shape, PROMPT, 1, "bfloat16")}
    assert "learning: reference model" not in loads["main process"].parts
    assert loads["main process"].parts["learning: optimizer (Adam)"] == 8 * shape.trained
    assert loads["object store"].parts["weights"] == 4 * shape.trained


def test_nothing_is_known_of_an_unknown_id() -> None:
    assert find_config("nobody/nothing-of-this-name") is None


def test_reinforcement_in_one_process_by_hand() -> None:
    stage = RLStage(iterations=1, prompts_per_iteration=3, group_size=4, max_new_tokens=5, micro_batch_size=2)
    (main,) = rl_loads(stage, RayConfig(), SHAPE, PROMPT, 1, "bfloat16")
    assert main.parts["learning: weights"] == 2 * 1000
    assert main.parts["learning: optimizer (Adam)"] == 2 * 2 * 1000
    assert main.parts["learning: reference model"] == 2 * 1000
    assert main.parts["learning: logits of a backward pass"] == 3 * (2 * 5) * 50 * 4
    # 12 answers of 10 + 5 tokens in 2 layers of 8 numbers of 2 bytes.
    assert main.parts["sampling: keys and values"] == 12 * 15 * 2 * 8 * 2
    assert main.parts["weights on their way"] == 4 * 1000


def test_runners_and_learners_are_processes_of_their_own() -> None:
    stage = RLStage(iterations=1, prompts_per_iteration=4, group_size=2, max_new_tokens=5, kl_coeff=0)
    ray = RayConfig(env_runners=2, learners=1)
    loads = {load.process: load for load in rl_loads(stage, ray, SHAPE, PROMPT, 3, "float32")}
    assert set(loads) == {"main process", "env runner", "learner", "object store"}
    assert loads["env runner"].count == 2
    # Each draws 4 of the 8 episodes, whose last prompt holds three photos and three answers.
    assert loads["env runner"].parts["keys and values"] == 4 * (3 * 15) * 2 * 8 * 4
    assert "reference model" not in loads["learner"].parts
    rollouts = 4 * 3 * (600 + 16 * 10) + 8 * 3 * 5 * 12
    assert loads["object store"].parts["rollouts of an iteration"] == rollouts
    assert loads["object store"].total == 4 * 1000 + 2 * rollouts


def test_supervised_training_in_bfloat16_keeps_copies() -> None:
    stage = SFTStage(steps=1, batch_size=4, micro_batches=2)
    (whole,) = sft_loads(stage, SHAPE, PROMPT, 7, "float32")
    (half,) = sft_loads(stage, SHAPE, PROMPT, 7, "bfloat16")
    assert whole.total == 4 * 1000 * 4 + 3 * (2 * 7) * 50 * 4
    assert half.parts["float32 copies"] == 4 * 1000
    assert half.parts["weights"] == 2 * 1000


def test_bytes_in_words() -> None:
    assert [human(512), human(2048), human(3 * 2**20), human(1.5 * 2**30)] == ["512 B", "2 KiB", "3 MiB", "1.5 GiB"]
