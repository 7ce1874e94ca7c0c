"""The `retouch-gym demo` command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import torch
import transformers
import typer
from rich.console import Console

from retouch_agents.demo.config import DemoConfig
from retouch_agents.demo.pipeline import Demo


def demo(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, metrics and pictures.")] = Path("runs/demo"),
    photos: Annotated[
        list[Path] | None,
        typer.Option(help="Train on the photos below this folder instead of the samples; may be given again."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of data, weights and sampling.")] = 0,
    sft_steps: Annotated[int, typer.Option(min=1, help="Steps of supervised fine-tuning.")] = DemoConfig.sft_steps,
    grpo_iterations: Annotated[int, typer.Option(min=1, help="Iterations of GRPO.")] = DemoConfig.grpo_iterations,
    env_runners: Annotated[int, typer.Option(min=0, help="Remote Ray env runners.")] = DemoConfig.env_runners,
    test_tasks: Annotated[int, typer.Option(min=10, help="Held-out tasks, half of each kind.")] = DemoConfig.test_tasks,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: delete what is in the folder.")] = False,
) -> None:
    """Build a tiny multimodal agent, fine-tune it, reinforce it with GRPO on Ray, and test it on held-out photos.

    Needs no download, no GPU and no key. Takes about 15 minutes on two cores. Run it again after an
    interruption and it goes on where it was; once it is done it says so and prints the table.
    """
    config = DemoConfig(
        photos=tuple(str(folder.resolve()) for folder in photos or ()),
        seed=seed,
        sft_steps=sft_steps,
        grpo_iterations=grpo_iterations,
        env_runners=env_runners,
        test_tasks=test_tasks,
    )
    console = Console()
    # A second thread made small models slower, at times by more than ten times; processes are what scales here.
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # The stages show their own progress.
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    try:
        Demo(out, config, console).run(fresh=fresh)
    except KeyboardInterrupt:
        console.print("\nInterrupted. Run the same command again to go on from the last checkpoint.")
        raise typer.Exit(130) from None
