"""Starting Ray quietly on one machine."""

from __future__ import annotations

import logging
import os
from typing import Any

import ray

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

    Loopback only, no dashboard, no usage report, workers with one thread each. Ray shows its workers' output
    nowhere: it is in the session's log folder (``/tmp/ray/session_latest/logs``).

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
    # A false alarm about constructor arguments that RLlib keeps alive would be printed for every runner.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {"_node_ip_address": "127.0.0.1"}
    ray.init(
        num_cpus=num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=object_store_memory,
        runtime_env={"env_vars": {**_WORKER_ENVIRONMENT, **(env_vars or {})}},
        **options,
    )
