"""The script that measures a large model on a GPU, at a size for this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_grpo.py"


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_small_shape_goes_through_every_stage_on_the_cpu(tmp_path: Path) -> None:
    sizes = ["--prompts", "2", "--group-size", "2", "--new-tokens", "8", "--photo", "56", "--iterations", "1"]
    command = [sys.executable, str(SCRIPT), "--shape", "tiny", "--device", "cpu", "--out", str(tmp_path), *sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "gpu_grpo-tiny-cpu.json").read_text(encoding="utf-8"))
    (row,) = found["iterations"]
    assert row["answers"] == 4
    assert row["response_length"] == 8
    assert found["generated_tokens_per_s"] > 0
    assert found["learned_tokens_per_s"] > 0
    assert "learner_mfu" not in found, "nobody knows the peak of this machine"
