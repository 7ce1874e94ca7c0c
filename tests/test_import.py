"""What `import retouch_gym` costs, measured in fresh processes."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import sys, time
start = time.perf_counter()
import retouch_gym
print(time.perf_counter() - start, *sorted({name.partition(".")[0] for name in sys.modules}))
"""
HEAVY = {"torch", "ray", "transformers", "numba", "matplotlib", "sklearn", "skimage", "retouch_agents"}


def probe(extra: str = "") -> tuple[float, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", extra + PROBE], capture_output=True, text=True, check=True, timeout=120
    )
    seconds, *modules = done.stdout.split()
    return float(seconds), set(modules)


def test_importing_loads_nothing_heavy_and_takes_less_than_a_second() -> None:
    runs = [probe() for _ in range(3)]
    loaded = set.union(*(modules for _, modules in runs))
    assert "gymnasium" in loaded
    assert not loaded & HEAVY
    assert min(seconds for seconds, _ in runs) < 1.0


def test_no_part_of_the_environment_imports_a_framework() -> None:
    everything = "import retouch_gym.cli, retouch_gym.testing, retouch_gym.evaluation, retouch_gym.envs.retouch\n"
    _, modules = probe(everything)
    assert not modules & {"torch", "ray", "transformers"}
