from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from retouch_agents.training.config import ModelConfig, RLStage, SFTStage, TrainConfig
from retouch_agents.training.reading import parse_config, read_config, shipped, write_config
from retouch_gym.errors import ConfigurationError

TEXT = """\
model: {tiny: {}}
environment:
  reward: edit
stages:
  sft: {algorithm: sft, steps: 3}
  rl:
    iterations: 2
    lr: 1e-5
output: runs/x
"""


def stage(*overrides: str) -> RLStage:
    found = parse_config(TEXT, "my.yaml", overrides).stages["rl"]
    assert isinstance(found, RLStage)
    return found


def test_a_file_becomes_settings_with_defaults() -> None:
    config = parse_config(TEXT, "my.yaml")
    assert isinstance(config.stages["sft"], SFTStage)
    assert list(config.stages) == ["sft", "rl"]
    assert stage().lr == 1e-5
    assert stage().algorithm == "grpo"
    assert config.environment_of("rl").arguments["reward"] == "edit"
    assert config.output == Path("runs/x")


def test_overrides_name_keys_stages_and_whole_values() -> None:
    assert stage("rl.lr=2e-4").lr == 2e-4
    assert stage("stages.rl.clip=0.3").clip == (0.3, 0.3)
    assert stage("rl.clip=[0.1, 0.3]").clip == (0.1, 0.3)
    config = parse_config(TEXT, "my.yaml", ["environment.reward=likeness", "sft=null", "rl.environment.max_turns=2"])
    assert list(config.stages) == ["rl"]
    assert config.environment_of("rl").reward == "likeness"
    assert (config.environment.max_turns, config.environment_of("rl").max_turns) == (1, 2)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("rl.lr=fast", r'^command line: stages\.rl\.lr = "fast" should be a valid number\.$'),
        ("rl.lr=-1", r"stages\.rl\.lr = -1 should be greater than 0"),
        ("rl.lrr=1", r"command line: unknown key stages\.rl\.lrr \(did you mean 'lr'\?\), expected one of algorithm"),
        ("rll.lr=1", r"no key 'rll'\. Did you mean 'rl'\?"),
        ("rl.lr", r"'rl\.lr' should be key=value"),
        ("rl.lr.x=1", r"'lr' is 1e-05 and has no keys in it"),
        ("model.path=x", r"my\.yaml, line 1 and command line: model should name one of 'path'"),
        ("model.tiny.hiden=3", r"unknown key model\.tiny\.hiden \(did you mean 'hidden'\?\)"),
        ("rl.algorithm=grp", r"has 'grp' and should be an algorithm: sft, grpo, .*did you mean 'grpo'\?"),
        ("rl.options.kl_estimatr=k1", r"stages\.rl\.options has 'kl_estimatr' .*did you mean 'kl_estimator'\?"),
        ("rl.options.lr=1", r"stages\.rl\.options has 'lr'"),
        ("sft.options.soure=ray", r"stages\.sft\.options has 'soure' .*did you mean 'source'\?"),
        ("sft.micro_batches=3", r"stages\.sft has batch_size 16, which micro_batches 3 must divide"),
        ("rl.group_size=1", r"stages\.rl has group_size 1; grpo compares the episodes"),
        ("rl.environment.rewrd=edit", r"stages\.rl\.environment: has 'rewrd' .*did you mean 'reward'\?"),
        ("rl.environment.max_turns=0", r"stages\.rl\.environment: max_turns = 0 should be greater"),
        ("environment.max_turns=true", r"environment\.max_turns = true should be a valid integer"),
        ("seed=1.5", r"seed = 1\.5 should be a valid integer"),
        ("logging.wandb=on", r"logging\.wandb = \"on\" should be 'off', 'offline' or 'online'"),
        ("stages={}", r"stages = \{\} should not be empty"),
        ("stages.Foo.iterations=3", r"stages\.Foo = \"Foo\" should be lower-case letters"),
        ("stages.wandb.iterations=3", r"a stage called 'wandb'"),
        ("output=null", r"output = null should be a valid string"),
    ],
)
def test_errors_say_where_what_and_what_was_expected(override: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        parse_config(TEXT, "my.yaml", [override])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT.replace("lr: 1e-5", "lr: 0"), r"my\.yaml, line 8: stages\.rl\.lr = 0 should be greater than 0"),
        (TEXT + "sed: 1\n", r"my\.yaml, line 10: unknown key sed \(did you mean 'seed'\?\)"),
        (TEXT.replace("output: runs/x", ""), r"output is missing"),
        (TEXT.replace("    iterations: 2\n", ""), r"my\.yaml, line 6: stages\.rl\.iterations is missing"),
        (TEXT + "model: {}\n", r"my\.yaml, line 10: the key 'model' stands here a second time"),
        ("model: [", r"my\.yaml, line 1: not YAML"),
        ("model: !!python/object:os.system x", r"line 1: the tag .* is not plain data"),
        ("- 1", r"my\.yaml: found \[1\], expected keys"),
        ("", r"my\.yaml: found null, expected keys"),
    ],
)
def test_errors_in_a_file_name_its_line(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        parse_config(text, "my.yaml")


def test_several_errors_come_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"lr = -1 .*; .*seed = \"x\""):
        parse_config(TEXT, "my.yaml", ["rl.lr=-1", "seed=x"])


def test_yaml_holds_no_surprises() -> None:
    given = "{a: 1e-5, b: no, c: 2026-01-02, d: '3', e: 1_000, f: ~, g: .5, h: 0x10}"
    options = parse_config(TEXT, "my.yaml", [f"environment.options={given}"]).environment.options
    assert options == {"a": 1e-5, "b": "no", "c": "2026-01-02", "d": "3", "e": 1000, "f": None, "g": 0.5, "h": "0x10"}


def test_settings_survive_being_written_and_read() -> None:
    config = parse_config(TEXT, "my.yaml", ["rl.clip=[0.1, 0.3]", "model.tiny.hidden=32"])
    assert parse_config(write_config(config), "again") == config


def test_the_same_checks_hold_in_python(tmp_path: Path) -> None:
    made = TrainConfig(
        model=ModelConfig(path="somewhere"), stages={"sft": SFTStage(steps=1, batch_size=2)}, output=tmp_path
    )
    assert made.environment_of("sft").id == "Retouch/Retouch-v0"
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        SFTStage(steps=0)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_configuration_is_valid_and_describes_itself(name: str) -> None:
    config = read_config(name)
    assert config.description
    assert config.output == Path("runs") / name
    assert parse_config(write_config(config), name) == config


def test_the_papers_numbers_are_in_the_shipped_configurations() -> None:
    assert set(shipped()) >= {"laptop", "laptop_ppo", "laptop_multiturn", "iea", "retouchiq"}
    grpo = read_config("iea").stages["grpo"]
    assert isinstance(grpo, RLStage)
    assert (grpo.prompts_per_iteration, grpo.group_size, grpo.lr, grpo.kl_coeff) == (16, 5, 1e-6, 0.01)
    assert (grpo.max_new_tokens, grpo.options["kl_estimator"]) == (512, "k3")
    assert read_config("retouchiq").model.path == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_the_file_in_the_documentation_is_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    config = parse_config(block, "training.md")
    assert (config.model.tuning.lora_rank, config.environment_of("sft").dataset) == (64, "recorded:data/edits")


def test_a_configuration_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match=r"no configuration 'latop'\. Did you mean 'laptop'\?"):
        read_config("latop")
