"""What a run will do and what it takes, and a sample of its data; nothing is trained, Ray is not started."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from huggingface_hub import constants
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from retouch_agents.training.config import RLStage, SFTStage, TrainConfig
from retouch_agents.training.loggers import check_logging
from retouch_agents.training.memory import Load, PromptSize, Shape, find_config, human, rl_loads, sft_loads, shape_of
from retouch_agents.training.sample import Sample, draw_sample
from retouch_agents.training.start import starting_model
from retouch_gym.errors import RetouchError
from retouch_gym.images import save_image
from retouch_gym.resolve import locate
from retouch_gym.rewards.base import REWARDS

FOLDER = "dry_run"
"""Where in the output folder a dry run writes; it does not keep a run from starting there."""

_ANSWER = 256
"""Tokens that an answer to learn from is taken to have where none can be measured."""

_PROMPT = PromptSize(1024, 4 * 2**20)
"""What a prompt is taken to be where none can be made."""

_MIB = 2**20


@dataclass(frozen=True)
class StagePlan:
    """One stage of the plan.

    Args:
        name: The stage's.
        work: What it does, in words.
        samples: Examples learned from, or episodes played.
        tokens: What is sampled at most, or learned from about.
        loads: Memory by process; empty if the architecture is not known.
    """

    name: str
    work: str
    samples: int
    tokens: str
    loads: Sequence[Load]


@dataclass(frozen=True)
class Plan:
    """A run before it is run.

    Args:
        config: The run.
        shape: The model's; None if nothing on this machine describes it.
        stages: What will be done.
        sample: First task of the first stage whose data is there; None if there is none.
        problems: What would keep it from running, each with what to do.
    """

    config: TrainConfig
    shape: Shape | None
    stages: Sequence[StagePlan]
    sample: Sample | None
    problems: Sequence[str]


def make_plan(config: TrainConfig) -> Plan:
    """Plan a run. A tiny model is built in a temporary folder; nothing is downloaded."""
    problems: list[str] = []
    samples: dict[str, Sample] = {}
    with tempfile.TemporaryDirectory() as folder, _offline():
        model, shape = _model(config, Path(folder) / "model", problems)
        for name in config.stages:
            try:
                locate(config.environment_of(name).reward, REWARDS, "reward")
                samples[name] = draw_sample(config.environment_of(name), model, shape)
            except (RetouchError, OSError) as error:
                problems.append(f"{name}: {error}")
    try:
        check_logging(config.logging)
    except RetouchError as error:
        problems.append(str(error))
    stages = [_stage(config, name, shape, samples.get(name)) for name in config.stages]
    problems += _shortages(config, stages)
    return Plan(config, shape, stages, next(iter(samples.values()), None), list(dict.fromkeys(problems)))


@contextmanager
def _offline() -> Iterator[None]:
    """Find on this machine what is there, and ask nobody for the rest."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _model(config: TrainConfig, folder: Path, problems: list[str]) -> tuple[Path, Shape | None]:
    try:
        model = starting_model(config, folder)
    except RetouchError as error:
        problems.append(f"model: {error}")
        return folder, None
    described = find_config(model)
    if described is None:
        problems.append(
            f"model.path = {str(model)!r} is not on this machine, so its memory cannot be counted; the run would fetch "
            "it."
        )
        return model, None
    try:
        return model, shape_of(described, config.model.tuning)
    except RetouchError as error:
        problems.append(f"model.tuning: {error}")
        return model, None


def _stage(config: TrainConfig, name: str, shape: Shape | None, sample: Sample | None) -> StagePlan:
    stage = config.stages[name]
    prompt = sample.size if sample else _PROMPT
    if isinstance(stage, SFTStage):
        examples = stage.steps * stage.batch_size
        work = f"sft, {stage.steps:,} steps × {stage.batch_size} examples"
        answer = (sample.answer_tokens if sample else None) or _ANSWER
        loads = sft_loads(stage, shape, prompt, answer, config.model.dtype) if shape else []
        return StagePlan(name, work, examples, f"≈ {examples * (prompt.tokens + answer):,}", loads)
    turns = config.environment_of(name).max_turns
    episodes = stage.iterations * stage.episodes
    work = (
        f"{stage.algorithm}, {stage.iterations:,} iterations × {stage.prompts_per_iteration} tasks × "
        f"{stage.group_size} episodes" + (f" × {turns} turns" if turns > 1 else "")
    )
    loads = rl_loads(stage, config.ray, shape, prompt, turns, config.model.dtype) if shape else []
    return StagePlan(name, work, episodes, f"≤ {episodes * turns * stage.max_new_tokens:,}", loads)


def _shortages(config: TrainConfig, stages: Sequence[StagePlan]) -> list[str]:
    """What does not fit into this machine; nothing is known of another cluster."""
    if config.ray.address is not None:
        return []
    found: list[str] = []
    free, store = psutil.virtual_memory().total, config.ray.object_store_mb * _MIB
    for stage in stages:
        needed = sum(load.total for load in stage.loads if load.process == "object store")
        if needed > store:
            found.append(
                f"{stage.name}: the object store holds about {human(needed)} at a time and has {human(store)}; set "
                f"ray.object_store_mb={-(-needed // _MIB)} or more."
            )
        on_gpu = isinstance(config.stages[stage.name], RLStage) and config.ray.gpus_per_learner > 0
        whole = sum(load.total * load.count for load in stage.loads)
        if whole > free and not on_gpu:
            found.append(f"{stage.name}: takes {human(whole)} at least, and this machine has {human(free)}.")
    return found


def write_sample(plan: Plan, folder: Path) -> list[Path]:
    """Write the sample's photo as a PNG and its prompt as text."""
    if plan.sample is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "prompt.txt"]
    written[0].write_text(plan.sample.text, encoding="utf-8")
    if plan.sample.photo is not None:
        written.append(folder / "photo.png")
        save_image(plan.sample.photo, written[-1])
    return written


def print_plan(plan: Plan, console: Console) -> None:
    """Print stages, memory and the sample of the data."""
    config = plan.config
    if config.description:
        console.print(Text(config.description, style="italic"))
    console.print(_model_line(plan))
    console.print(Text(f"Output: {config.output}"), soft_wrap=True)
    console.print(_stages_table(plan))
    if plan.shape is not None:
        console.print(_memory_table(plan))
        console.print(
            "[dim]Counted from the architecture; activations of the layers come on top, and what PyTorch and Ray take "
            "themselves (about 0.5 GiB a process).[/]"
        )
    if plan.sample is not None:
        console.print(_sample_panel(plan.sample))


def _model_line(plan: Plan) -> Text:
    model = plan.config.model
    name = model.path or "a tiny one, built from nothing"
    if plan.shape is None:
        return Text(f"Model: {name}")
    trained = f", {plan.shape.trained:,} trained" if plan.shape.trained < plan.shape.parameters else ""
    return Text(f"Model: {name} · {plan.shape.name} · {plan.shape.parameters:,} parameters{trained} · {model.dtype}")


def _stages_table(plan: Plan) -> Table:
    table = Table(title="Stages")
    table.add_column("stage", no_wrap=True)
    table.add_column("work", no_wrap=True)
    table.add_column("samples", justify="right", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    for stage in plan.stages:
        table.add_row(stage.name, stage.work, f"{stage.samples:,}", stage.tokens)
    return table


def _memory_table(plan: Plan) -> Table:
    table = Table(title="Memory, at least")
    table.add_column("stage")
    table.add_column("process")
    table.add_column("each", justify="right")
    table.add_column("of which")
    for stage in plan.stages:
        for load in stage.loads:
            times = f" × {load.count}" if load.count > 1 else ""
            parts = ", ".join(f"{name} {human(size)}" for name, size in load.parts.items())
            table.add_row(stage.name, load.process + times, human(load.total), parts)
        table.add_section()
    return table


def _sample_panel(sample: Sample) -> Panel:
    how = "counted" if sample.measured else "estimated, as the model's processor is not on this machine"
    shape = "" if sample.photo is None else f", photo of {sample.photo.shape[1]}×{sample.photo.shape[0]} pixels"
    head = f"Prompt of {sample.size.tokens} tokens ({how}){shape}\nRequest: {sample.instruction}"
    return Panel(Text(f"{head}\n\n{sample.text.rstrip()}"), title=Text(f"Task {sample.task_id}"), title_align="left")
