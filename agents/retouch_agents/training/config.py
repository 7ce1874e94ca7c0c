"""What a training run is, as data: every setting with its meaning, its range and its default.

Read from YAML by `retouch_agents.training.reading`; built in Python, the same checks apply.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic.dataclasses import dataclass

from retouch_agents.finetuning import FineTuning
from retouch_agents.rllib.config import GRPOSettings
from retouch_agents.rllib.objective import ALGORITHMS, Objective
from retouch_agents.sft import SFTConfig
from retouch_agents.tiny import TinySize
from retouch_gym.errors import ConfigurationError

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

_STRICT = ConfigDict(extra="forbid", strict=True)
RESERVED = frozenset({"model", "dry_run", "tensorboard", "wandb"})
"""Names inside a run's folder that no stage may have."""


def _known(kind: str, name: str, names: Sequence[str]) -> str:
    if name in names:
        return name
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"has {name!r} and should be {kind}: {', '.join(names)}{hint}")


def _algorithm(name: str) -> str:
    return _known("an algorithm", name, ["sft", *ALGORITHMS])


def _pair(value: Any) -> Any:
    """One number is both; a list, as YAML has it, is a pair."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value, value)
    return tuple(value) if isinstance(value, list) else value


def _rl_option(options: dict[str, Any]) -> dict[str, Any]:
    own = inspect.signature(GRPOSettings.training).parameters
    names = {*own, *(field.name for field in fields(Objective)), "grad_clip"}
    said = {"self", "kwargs", "model", "dtype", "tuning", "chat_format", *(field.name for field in fields(RLStage))}
    for name in options:
        _known("named as an argument of GRPOConfig.training", name, sorted(names - said))
    return options


def _sft_option(options: dict[str, Any]) -> dict[str, Any]:
    said = {"learning_rate", "dtype", *(field.name for field in fields(SFTStage))}
    for name in options:
        _known("named as a field of SFTConfig", name, sorted({field.name for field in fields(SFTConfig)} - said))
    return options


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ModelConfig:
    """The model that the first stage starts from: `path` or `tiny`.

    Args:
        path: Folder or id that `AutoModelForImageTextToText` opens.
        tiny: Sizes of a small Qwen3-VL with random weights that is built from nothing; ``{}`` for the default ones.
        dtype: Type of the weights in every stage.
        tuning: What of it is trained: all (the default), an adapter, all but the vision tower; see `FineTuning`.
    """

    path: str | None = None
    tiny: TinySize | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    tuning: FineTuning = Field(default_factory=FineTuning)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.tiny is None):
            raise ValueError("should name one of 'path' (a folder or id) and 'tiny' (sizes, {} for the default)")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EnvironmentConfig:
    """The environment; see `retouch_gym.envs.retouch.RetouchEnv` for what its arguments do.

    Args:
        id: Gymnasium's id, ``"module:id"`` if a module has to be imported for it.
        dataset: Name, ``"folder:PATH"``, ``"pairs:PATH"`` or ``"module:attribute"``.
        dataset_options: Options of the dataset, for instance ``split``.
        toolset: ``"iea"``, ``"lightroom"`` or ``"module:attribute"``.
        reward: Name or ``"module:attribute"``.
        reward_options: Options of the reward.
        max_turns: Turns of an episode; 1 is single-shot.
        options: Further arguments, for instance ``answer_format`` and ``longest`` of Retouch/Chat-v0.
    """

    id: str = "Retouch/Retouch-v0"
    dataset: str = "samples"
    dataset_options: dict[str, Any] = Field(default_factory=dict)
    toolset: str = "iea"
    reward: str = "edit"
    reward_options: dict[str, Any] = Field(default_factory=dict)
    max_turns: Count = 1
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the environment."""
        return {
            "dataset": self.dataset,
            "dataset_kwargs": dict(self.dataset_options) or None,
            "toolset": self.toolset,
            "reward": self.reward,
            "reward_kwargs": dict(self.reward_options) or None,
            "max_turns": self.max_turns,
            **self.options,
        }


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SFTStage:
    """A stage of supervised fine-tuning on the recipes and the reasoning of the dataset.

    Args:
        algorithm: ``"sft"``.
        steps: Optimizer steps.
        batch_size: Examples of a step.
        micro_batches: Forward passes that a step is split into; changes memory, not the result.
        bucket: Steps whose examples are sorted by length together, for less padding; 0 keeps their order.
        device: Where the model is: ``"cpu"`` or ``"cuda"``.
        lr: Peak learning rate of a cosine schedule.
        warmup: Steps of linear warm-up.
        weight_decay: AdamW's.
        max_grad_norm: Gradients are clipped to this norm.
        number_sigma: Softens the label of a number towards its neighbours; 0 for hard labels.
        workers: Processes that prepare data.
        log_every: Steps between two rows of metrics.
        checkpoint_every: Steps between two checkpoints to resume from.
        environment: What this stage changes of the run's environment.
        options: Further fields of `retouch_agents.sft.SFTConfig`.
    """

    algorithm: Literal["sft"] = "sft"
    steps: Count
    batch_size: Count = 16
    micro_batches: Count = 1
    bucket: Amount = 0
    device: str = "cpu"
    lr: Positive = 1e-5
    warmup: Amount = 0
    weight_decay: Weight = 0.01
    max_grad_norm: Positive = 1.0
    number_sigma: Weight = 0.0
    workers: Amount = 0
    log_every: Count = 10
    checkpoint_every: Count = 500
    environment: dict[str, Any] = Field(default_factory=dict)
    options: Annotated[dict[str, Any], AfterValidator(_sft_option)] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batches:
            raise ValueError(f"has batch_size {self.batch_size}, which micro_batches {self.micro_batches} must divide")

    @property
    def length(self) -> int:
        """Rows of progress: optimizer steps."""
        return self.steps

    def settings(self, dtype: Literal["float32", "bfloat16"]) -> SFTConfig:
        """The trainer's own settings, with weights of that type."""
        given = {field.name: getattr(self, field.name) for field in fields(SFTConfig) if hasattr(self, field.name)}
        return SFTConfig(**{**given, "learning_rate": self.lr, "dtype": dtype, **self.options})


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RLStage:
    """A stage of reinforcement on Ray RLlib.

    Args:
        algorithm: A row of docs/algorithms.md: ``"grpo"``, ``"dapo"``, ``"rloo"``, ….
        iterations: Iterations of sampling and updating.
        prompts_per_iteration: Tasks of an iteration.
        group_size: Episodes of a task; at least 2, or 1 with a critic (``algorithm: ppo``).
        max_new_tokens: Most tokens of an answer.
        temperature: Of sampling.
        lr: Learning rate at the start.
        lr_end: Share of it that is left at the end; it falls linearly.
        num_updates: Passes over the answers of an iteration.
        minibatch_size: Answers of an optimizer step; null for all of a pass.
        micro_batch_size: Answers of a backward pass; changes memory, not the result. Null for all of a step.
        kl_coeff: Weight of the KL penalty to the stage's first model; null for the algorithm's own.
        clip: Clip of the ratio, one number or [low, high]; null for the algorithm's own.
        checkpoint_every: Iterations between two checkpoints to resume from.
        keep_last: Newest checkpoints that stay while the stage runs.
        keep_best: Whether the one with the highest mean reward stays for good, in ``STAGE.checkpoints/``.
        environment: What this stage changes of the run's environment.
        options: Further arguments of `GRPOConfig.training`, by name.
    """

    algorithm: Annotated[str, AfterValidator(_algorithm)] = "grpo"
    iterations: Count
    prompts_per_iteration: Count = 16
    group_size: Count = 8
    max_new_tokens: Count = 128
    temperature: Positive = 1.0
    lr: Positive = 1e-6
    lr_end: Share = 1.0
    num_updates: Count = 1
    minibatch_size: Count | None = None
    micro_batch_size: Count | None = None
    kl_coeff: Weight | None = None
    clip: Annotated[tuple[Positive, Positive] | None, BeforeValidator(_pair)] = None
    checkpoint_every: Count = 25
    keep_last: Count = 1
    keep_best: bool = False
    environment: dict[str, Any] = Field(default_factory=dict)
    options: Annotated[dict[str, Any], AfterValidator(_rl_option)] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.group_size < 2 and ALGORITHMS[self.algorithm]["advantage"] != "gae":
            raise ValueError(f"has group_size 1; {self.algorithm} compares the episodes of a task, of which it needs 2")

    @property
    def length(self) -> int:
        """Rows of progress: iterations."""
        return self.iterations

    @property
    def episodes(self) -> int:
        """Episodes of an iteration."""
        return self.prompts_per_iteration * self.group_size

    @property
    def objective_kl(self) -> float:
        """β of the KL penalty: what is set, or else the algorithm's own."""
        return float(ALGORITHMS[self.algorithm]["kl_coeff"]) if self.kl_coeff is None else self.kl_coeff


def _kind(value: Any) -> str:
    algorithm = value.get("algorithm") if isinstance(value, Mapping) else getattr(value, "algorithm", None)
    return "sft" if algorithm == "sft" else "rl"


Stage = Annotated[Annotated[SFTStage, Tag("sft")] | Annotated[RLStage, Tag("rl")], Discriminator(_kind)]
"""A stage; ``algorithm: sft`` makes it supervised."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RayConfig:
    """Where reinforcement runs.

    Args:
        address: An existing cluster, ``"auto"`` or ``"HOST:PORT"``; null starts Ray here and stops it again.
        num_cpus: Cores that a Ray started here plans with; null for as many as runners and learners need.
        object_store_mb: Shared memory of a Ray started here, in 2²⁰ bytes.
        env_runners: Remote samplers; 0 samples in the main process.
        cpus_per_env_runner: Cores of each.
        gpus_per_env_runner: GPUs of each; a fraction shares one.
        learners: Remote learners; 0 learns in the main process.
        gpus_per_learner: GPUs of each.
    """

    address: str | None = None
    num_cpus: Count | None = None
    object_store_mb: Annotated[int, Field(ge=80)] = 256
    env_runners: Amount = 0
    cpus_per_env_runner: Count = 1
    gpus_per_env_runner: Weight = 0
    learners: Amount = 0
    gpus_per_learner: Weight = 0


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LoggingConfig:
    """Where numbers go beside metrics.jsonl, which is always written.

    Args:
        tensorboard: Event files in ``tensorboard/``.
        wandb: Weights & Biases: ``"off"``, ``"offline"`` (files in ``wandb/``, for `wandb sync`) or ``"online"``.
        wandb_project: Its project.
        curves: Learning curves in ``curves.png``, drawn anew at every checkpoint.
    """

    tensorboard: bool = True
    wandb: Literal["off", "offline", "online"] = "off"
    wandb_project: str = "retouch-gym"
    curves: bool = True


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainConfig:
    """A run.

    Args:
        description: One line that says what it is for.
        model: What the first stage starts from; every further one starts from the stage before it.
        environment: Where the agent acts.
        stages: Stages by name, in order; a stage's model and metrics carry its name.
        ray: Where reinforcement runs.
        logging: Where numbers go.
        seed: Of weights, data order and sampling.
        output: Folder of the run.
    """

    description: str = ""
    model: ModelConfig
    environment: EnvironmentConfig = Field(default_factory=EnvironmentConfig)
    stages: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Stage] = Field(min_length=1)
    ray: RayConfig = Field(default_factory=RayConfig)
    logging: LoggingConfig = Field(default_factory=LoggingConfig)
    seed: Amount = 0
    output: Path

    def __post_init__(self) -> None:
        taken = RESERVED | {field.name for field in fields(type(self))}
        for name in self.stages:
            if name in taken:
                raise ValueError(f"has a stage called {name!r}; this name means something else, choose another")
            try:
                self.environment_of(name)
            except ValueError as error:
                raise ValueError(f"stages.{name}.environment: {error}") from None

    def environment_of(self, stage: str) -> EnvironmentConfig:
        """The environment of a stage: the run's, with what the stage changes.

        Raises:
            ConfigurationError: If it changes what there is not.
        """
        changes = self.stages[stage].environment
        try:
            for name in changes:
                _known("named as a key of environment", name, [field.name for field in fields(EnvironmentConfig)])
            return replace(self.environment, **changes)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Input ")
            raise ConfigurationError(f"{key} = {first['input']!r} {message}") from None

    def comparable(self) -> dict[str, Any]:
        """What has to be the same for a run to be resumed: all but where it runs, logs and lies."""
        different = ("output", "ray", "logging", "description")
        return {name: value for name, value in asdict(self).items() if name not in different}
