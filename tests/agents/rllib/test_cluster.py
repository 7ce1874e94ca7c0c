"""Joining a Ray that somebody else has started, as it is, and leaving it as it was."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

pytestmark = pytest.mark.ray

VISITOR = """
import json, os
from pathlib import Path
import ray
from ray._private import ray_constants
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.reinforce import reinforce
from retouch_agents.rllib import start_ray
from retouch_agents.rllib.cluster import running_ray
from retouch_gym.errors import ConfigurationError

seen = {}

@ray.remote(num_cpus=0)
class Guest:
    def setting(self):
        return os.environ.get("TRANSFORMERS_VERBOSITY")

@ray.remote(num_cpus=0)
def setting():
    return os.environ.get("TRANSFORMERS_VERBOSITY")

def join_as_others():
    # As Ray itself does it, with its switch for addresses in the network off.
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray.init(address=ADDRESS, log_to_driver=False, namespace="theirs")
    ray_constants.ENABLE_RAY_CLUSTER = True

def look(name):
    address = ray.get_runtime_context().gcs_address
    seen[name] = [address, ray.cluster_resources()["CPU"]]

# Somebody else's job.
join_as_others()
guest = Guest.options(name="guest", lifetime="detached").remote()
ray.get(guest.setting.remote())  # one that has not started goes with its job, detached or not
ray.shutdown()

start_ray(64, address=ADDRESS)
look("joined")
start_ray(1)  # this process has a Ray: nothing happens
look("again")
seen["ours"] = ray.get(setting.remote())
ray.shutdown()

os.environ["RAY_ADDRESS"] = ADDRESS
with running_ray(2):
    look("by environment")
assert not ray.is_initialized()
del os.environ["RAY_ADDRESS"]

log = MetricsLog(Path(FOLDER) / "metrics.jsonl")
dice = __import__("runpy").run_path(DICE)
stage = dice["stage"](iterations=2)
reinforce(Path(MODEL), Path(FOLDER) / "policy", stage, log, lambda step, text: None, address=ADDRESS)
seen["trained"] = [row["answers"] for row in log.read()]

with running_ray(1):
    look("of our own")

try:
    start_ray(address="127.0.0.1:1")
except ConfigurationError as error:
    seen["nobody there"] = str(error)

join_as_others()
seen["guest"] = ray.get(ray.get_actor("guest").setting.remote())
Path(FOLDER, "seen.json").write_text(json.dumps(seen))
"""


@pytest.fixture
def cluster_elsewhere() -> Iterator[str]:
    """The address of a Ray of three cores that another process has started."""
    # Short, as the paths of its sockets may have 107 letters; its own, so that no other Ray here takes note of it.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0", "--num-cpus=3"]
    options = ["--include-dashboard=false", "--object-store-memory=100000000"]
    # Without clusters, as Ray calls it, its head listens on 127.0.0.1 alone.
    alone = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    inherited = {name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"}
    head = subprocess.Popen(
        [*command, *options, f"--temp-dir={folder}"],
        env={**inherited, **alone},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        note, deadline = folder / "ray_current_cluster", time.monotonic() + 150
        while not (note.is_file() and note.read_text().strip()):
            assert head.poll() is None, "ray start gave up"
            assert time.monotonic() < deadline, "ray start takes too long"
            time.sleep(0.1)
        address = note.read_text().strip()
        assert address.startswith("127.0.0.1:")
        yield address
    finally:
        # `ray stop` would end everybody's.
        started = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        head.terminate()
        for left in psutil.wait_procs(started, 10)[1]:
            left.kill()
        head.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_cluster_is_joined_and_left_as_it_was(
    cluster_elsewhere: str, dice: ModuleType, seedling: Path, tmp_path: Path
) -> None:
    script = tmp_path / "visitor.py"
    script.write_text(VISITOR)
    given = {"ADDRESS": cluster_elsewhere, "DICE": dice.__file__, "MODEL": str(seedling), "FOLDER": str(tmp_path)}
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["retouch_agents.reinforce"])
    visitor = processes.Process(target=runpy.run_path, args=(str(script), given, "__main__"))
    visitor.start()
    try:
        visitor.join(200)
        assert visitor.exitcode == 0
    finally:
        visitor.kill()
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["joined"] == seen["again"] == seen["by environment"] == [cluster_elsewhere, 3.0]
    assert seen["of our own"][0] != cluster_elsewhere
    assert seen["of our own"][1] == 1.0
    assert (seen["ours"], seen["guest"]) == ("error", None), "settings of our job are not everybody's"
    assert seen["trained"] == [6, 6]
    assert "address = '127.0.0.1:1'" in seen["nobody there"]
