"""Starting Ray quietly on one machine."""

from __future__ import annotations

import logging
import os

import ray
from ray._private import ray_constants

MIB = 1024 * 1024
_WORKER_ENVIRONMENT = {
    # A worker has one core. More threads than that made runs 10–20 times slower.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # numba does not obey OMP_NUM_THREADS.
    "NUMBA_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def start_ray(
    num_cpus: int | None = None, *, object_store_memory: int = 256 * MIB, env_vars: dict[str, str] | None = None
) -> None:
    """Start a local Ray for training, or do nothing if one is running.

    Loopback only, no dashboard, no usage report, workers with one thread each. What workers print is in the
    session's log folder (``/tmp/ray/session_latest/logs``). With remote runners Ray prints one false alarm,
    about constructor arguments in the object store: RLlib keeps them alive.

    Args:
        num_cpus: Cores that Ray may plan with; each remote env runner and each remote learner takes one. None
            counts the machine's.
        object_store_memory: Bytes of shared memory for rollouts and weights.
        env_vars: Further environment variables of the workers.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # On Linux, Ray listens on every interface, whatever address init is given. This switch of its own, which is
    # off on macOS and Windows and was read when Ray was imported, keeps every one of its servers on 127.0.0.1.
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray.init(
        num_cpus=num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=object_store_memory,
        runtime_env={"env_vars": {**_WORKER_ENVIRONMENT, **(env_vars or {})}},
    )
