"""The `retouch-gym train` command."""

from __future__ import annotations

import os
from typing import Annotated

import torch
import transformers
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from retouch_agents.training.plan import FOLDER, make_plan, print_plan, write_sample
from retouch_agents.training.reading import read_config, shipped
from retouch_agents.training.run import Run
from retouch_gym.errors import ConfigurationError


def train(
    config: Annotated[
        str | None,
        typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a shipped one.", show_default=False),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes to it, values as in YAML.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print plan, memory and a data sample; train nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped configurations.")] = False,
) -> None:
    """Train a retouching agent as a YAML file says: SFT and reinforcement, from a laptop to a cluster.

    **Examples**

    - `retouch-gym train --list`
    - `retouch-gym train laptop --dry-run`
    - `retouch-gym train laptop rl.lr=1e-4 environment.reward=likeness output=runs/mine`
    - `retouch-gym train my.yaml sft=null` leaves the stage *sft* out
    - `retouch-gym train my.yaml --resume` goes on after an interruption

    A change names a key by its path; a stage may be named without *stages.* in front. The output folder receives a
    model folder per stage, metrics.jsonl, curves.png and the settings in full. docs/training.md explains every key.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    if list_:
        console.print(_listing())
        return
    if config is None:
        raise ConfigurationError(f"Name a configuration: a YAML file, or one of {', '.join(shipped())}; see --help.")
    _quieten()
    run = read_config(config, overrides or ())
    if dry_run:
        plan = make_plan(run)
        print_plan(plan, console)
        for path in write_sample(plan, run.output / FOLDER):
            console.print(Text(f"Written: {path}"), soft_wrap=True)
        for problem in plan.problems:
            console.print(Text(f"Problem: {problem}", style="red"), soft_wrap=True)
        raise typer.Exit(1 if plan.problems else 0)
    try:
        Run(run, console).run(resume=resume)
    except KeyboardInterrupt:
        console.print("\nInterrupted. The same command with --resume goes on from the last checkpoint.")
        raise typer.Exit(130) from None


def _listing() -> Table:
    table = Table(title="Shipped configurations")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is for")
    for name in shipped():
        table.add_row(name, read_config(name).description)
    return table


def _quieten() -> None:
    """One thread a process, as processes are what scales here; the stages show their own progress."""
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
