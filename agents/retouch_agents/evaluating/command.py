"""The `retouch-gym evaluate` command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from retouch_agents.evaluating.comparison import compare, short_names, table, write
from retouch_agents.policy import AgentPolicy, blindfold
from retouch_gym.datasets.base import get_dataset
from retouch_gym.errors import ConfigurationError
from retouch_gym.evaluation.evaluate import Policy
from retouch_gym.rewards.base import get_reward


def evaluate(
    policies: Annotated[list[Path], typer.Argument(metavar="POLICY...", help="Folders of models or adapters.")],
    dataset: Annotated[str, typer.Option(help="Name of a dataset, or module:attribute.")] = "samples",
    dataset_kwargs: Annotated[str | None, typer.Option(help="Its options, as a JSON object.")] = None,
    toolset: Annotated[str, typer.Option(help="The policies' tools.")] = "iea",
    reward: Annotated[str, typer.Option(help="Name of a reward, or module:attribute.")] = "edit",
    reward_kwargs: Annotated[str, typer.Option(help="Its options, as a JSON object.")] = "{}",
    renderer: Annotated[str, typer.Option(help="What renders the edits.")] = "native",
    blanked: Annotated[
        bool, typer.Option("--blanked", help="Each policy once more with every photo grey: what it reads from words.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Tasks at a time.")] = 64,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 128,
    device: Annotated[str, typer.Option(help="Where the models run, for instance cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for evaluation.json and contact_sheet.png.")] = Path(
        "runs/evaluation"
    ),
) -> None:
    """Measure trained policies on held-out tasks: one greedy answer a task, with 95% bootstrap intervals.

    **Examples**

    - `retouch-gym evaluate runs/laptop/rl --dataset-kwargs '{"split": "test", "size": 100}'`
    - `retouch-gym evaluate runs/laptop/sft runs/laptop/rl --blanked` compares the second with the first, task by task
    - `retouch-gym evaluate POLICY --dataset folder:photos --reward statistics`

    The untouched photo is always among those compared. Without options, *samples* gives 240 tasks of its test split.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    usual = '{"split": "test", "size": 240}' if dataset == "samples" else "{}"
    tasks = get_dataset(dataset, **_options("dataset", usual if dataset_kwargs is None else dataset_kwargs))
    judge = get_reward(reward, **_options("reward", reward_kwargs))
    chosen: dict[str, Policy] = {}
    for name, folder in zip(short_names(policies), policies, strict=True):
        policy = AgentPolicy.from_pretrained(folder, toolset, max_new_tokens=max_new_tokens, device=device)
        chosen[name] = policy
        if blanked:
            chosen[f"{name}, blanked"] = blindfold(policy)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("answers", total=len(tasks) * (len(chosen) + 1))
        found = compare(
            chosen,
            tasks,
            toolset=toolset,
            reward=judge,
            renderer=renderer,
            batch_size=batch_size,
            heard=lambda count: progress.advance(bar, count),
        )
    console.print(table(found))
    for path in write(found, tasks, renderer, out):
        console.print(Text(f"Written: {path}"), soft_wrap=True)


def _options(of: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"--{of}-kwargs {text!r} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"--{of}-kwargs {text!r} should be a JSON object, like '{{\"seed\": 1}}'.")
    return found
