"""How training scales with env runners: measured with 1 and 2, and by stage for what bounds it at 8, 64 and 512.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py                                   # everything, about 8 minutes
    OMP_NUM_THREADS=1 python benchmarks/scaling.py --write benchmarks/scaling.md     # and put the tables there
    OMP_NUM_THREADS=1 python benchmarks/scaling.py --again runs                      # one part once more

`runs` trains the same GRPO with 0, 1 and 2 remote runners at once, iteration by iteration in turns; `stages` times
every stage in a loop of its own; `store` sends real answers and weights through Ray to stand-ins for up to 512 runners.
From `stages` and `store` an iteration is predicted for any number of runners, and the prediction is compared with
`runs`. Every part is a JSON file below --out; what is there is not done again. All with one thread a process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numba
import ray
import torch
import transformers
from _scaling_report import report
from _scaling_runs import kinds, measure_runs, save, start_policy
from _scaling_stages import Laboratory, measure_stages
from _scaling_store import measure_store
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE

from retouch_agents.rllib.cluster import MIB, start_ray

PARTS = ("runs", "stages", "store")
BEGIN = "<!-- scaling.py writes from here -->"
END = "<!-- to here -->"


def store_part(policy: Path, processes: int, repeats: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Real answers and weights, and what sending them takes."""
    laboratory = Laboratory(policy)
    try:
        sampled = laboratory.rollouts(16)
        component = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        state = laboratory.algorithm.learner_group.get_state(components=component, inference_only=True)
        weights = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE]
    finally:
        laboratory.close()
    return measure_store(sampled, {COMPONENT_RL_MODULE: weights}, processes, repeats, say)


def machine(loads: list[float]) -> dict[str, Any]:
    """What the figures were made with.

    Args:
        loads: Load averages seen while measuring.
    """
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ray": ray.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "commit": found.stdout.strip() or "unknown",
        "load": [min(loads), max(loads)],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def perform(out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Do the parts that are missing, and return all."""
    policy = start_policy(out, args.sft_steps)
    parts: Mapping[str, Callable[[], Any]] = {
        "runs": partial(
            measure_runs, policy, out / "runs", args.compare, args.repeats, args.warm_up, args.iterations, _say
        ),
        "stages": partial(measure_stages, policy, args.loops, _say),
        "store": partial(store_part, policy, args.processes, args.loops, _say),
    }
    loads = [os.getloadavg()[0]]
    fresh = False
    found: dict[str, Any] = {}
    for name, part in parts.items():
        target = out / f"{name}.json"
        if target.is_file() and name not in args.again:
            found[name] = json.loads(target.read_text(encoding="utf-8"))
            continue
        if name not in args.only:
            continue
        if name in args.again:
            shutil.rmtree(out / name, ignore_errors=True)
            target.unlink(missing_ok=True)
        began = time.perf_counter()
        save(target, part())
        # From the file, so that a part reads the same whether it was done now or before.
        found[name], fresh = json.loads(target.read_text(encoding="utf-8")), True
        loads.append(os.getloadavg()[0])
        _say(f"{name}: {time.perf_counter() - began:.0f} s")
    target = out / "machine.json"
    if fresh or not target.is_file():
        save(target, machine(loads))
    return {**found, "machine": json.loads(target.read_text(encoding="utf-8"))}


def _say(text: str) -> None:
    print(text, flush=True)


def write_into(page: Path, tables: str) -> None:
    """Replace what is between the two marks of a page.

    Raises:
        SystemExit: If the page does not have them.
    """
    text = page.read_text(encoding="utf-8")
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise SystemExit(f"{page} has no block between {BEGIN!r} and {END!r}; add both lines where the tables belong.")
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="no tables unless all are there")
    parser.add_argument("--again", nargs="+", choices=PARTS, default=[], help="parts to do once more")
    parser.add_argument("--write", type=Path, help="page whose marked block gets the tables")
    parser.add_argument("--sft-steps", type=int, default=200, help="of the policy")
    parser.add_argument("--compare", nargs="+", default=list(kinds()), help="runs; the tables need 0, 1 and 2")
    parser.add_argument("--repeats", type=int, default=3, help="of the runs, from building them on")
    parser.add_argument("--warm-up", type=int, default=2, help="iterations of a run that are not counted")
    parser.add_argument("--iterations", type=int, default=8, help="of a run that are counted")
    parser.add_argument("--loops", type=int, default=7, help="repetitions of every stage's loop")
    parser.add_argument("--processes", type=int, default=8, help="that stand for up to 512 runners")
    args = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    out: Path = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    # Places for all runs at once; those that wait use none of the machine.
    start_ray(num_cpus=16, object_store_memory=1024 * MIB)
    found = perform(out, args)
    if any(name not in found for name in PARTS):
        return
    tables = report(found)
    (out / "tables.md").write_text(tables + "\n", encoding="utf-8")
    print(tables)
    if args.write:
        write_into(args.write, tables)


if __name__ == "__main__":
    main()
