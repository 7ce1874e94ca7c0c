"""Starting Ray quietly on one machine, or joining a cluster that others started."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import ray_constants
from ray._private.utils import read_ray_address

from retouch_gym.errors import ConfigurationError

logger = logging.getLogger(__name__)

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
_LOCAL = "local"
_PATIENCE_S = 5.0
_AS_IMPORTED = (os.environ.get(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR), ray_constants.ENABLE_RAY_CLUSTER)


def start_ray(
    num_cpus: int | None = None,
    *,
    address: str | None = None,
    object_store_memory: int = 256 * MIB,
    env_vars: dict[str, str] | None = None,
) -> None:
    """Start a local Ray for training, or join a cluster. Does nothing if this process has a Ray already.

    A local Ray: loopback only, no dashboard, no usage report, workers with one thread each. It ends with this process
    or with ``ray.shutdown()``. A cluster is joined as it is: its resources and its other users' jobs stay untouched,
    the environment variables hold for this job's workers alone, and ``ray.shutdown()`` only takes leave of it.

    What workers print is in the session's log folder (``/tmp/ray/session_latest/logs``). With remote runners Ray
    prints one false alarm, about constructor arguments in the object store: RLlib keeps them alive.

    Args:
        num_cpus: Cores that Ray may plan with; each remote env runner and each remote learner takes one. None
            counts the machine's. On a cluster: cores that are needed; a warning is logged if there are fewer.
        address: ``"host:port"`` of a cluster's head, from one of its machines; ``"auto"`` for the one that runs on
            this machine; ``"ray://host:port"`` from outside; ``"local"`` for a Ray of our own. None: the environment
            variable ``RAY_ADDRESS``, which ``ray job submit`` sets, and else ``"local"``.
        object_store_memory: Bytes of shared memory for rollouts and weights, of a local Ray.
        env_vars: Further environment variables of the workers.

    Raises:
        ConfigurationError: If there is no cluster at the address.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where = address or os.environ.get(ray_constants.RAY_ADDRESS_ENVIRONMENT_VARIABLE) or _LOCAL
    runtime_env = {"env_vars": {**_WORKER_ENVIRONMENT, **(env_vars or {})}}
    if where != _LOCAL:
        _join(where, runtime_env, num_cpus)
        return
    # On Linux, Ray listens on every interface, whatever address init is given. This switch of its own, which is
    # off on macOS and Windows and was read when Ray was imported, keeps every one of its servers on 127.0.0.1.
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray.init(
        # Without it, Ray would join whatever `ray start` has left running on this machine.
        address=_LOCAL,
        num_cpus=num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=object_store_memory,
        runtime_env=runtime_env,
    )


@contextmanager
def running_ray(num_cpus: int | None = None, *, address: str | None = None) -> Iterator[None]:
    """A Ray for the body; see `start_ray`. What was there before stays, what was started or joined is left again."""
    already_running = ray.is_initialized()
    start_ray(num_cpus, address=address)
    try:
        yield
    finally:
        if not already_running:
            ray.shutdown()


def _join(address: str, runtime_env: dict[str, dict[str, str]], num_cpus: int | None) -> None:
    place = _place(address)
    variable, switch = _AS_IMPORTED
    if variable is None:
        os.environ.pop(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, None)
    ray_constants.ENABLE_RAY_CLUSTER = switch
    if place is not None and _on_loopback_alone(*place):
        # Otherwise Ray would take 127.0.0.1 for this machine's address in its network.
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        if place is not None:
            socket.create_connection(place, timeout=_PATIENCE_S).close()
        ray.init(address=address, runtime_env=runtime_env, log_to_driver=False, logging_level=logging.ERROR)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"No Ray cluster could be joined at address = {address!r} ({error}). Expected 'auto' or 'host:port' on a "
            "machine of a running cluster (`ray start --head`), 'ray://host:port' from outside (needs ray[client] on "
            "both sides), or 'local' for a Ray of this process's own. If it asks for a token, set RAY_AUTH_MODE=token."
        ) from error
    found = float(ray.cluster_resources().get("CPU", 0.0))
    if num_cpus is not None and found < num_cpus:
        logger.warning("The cluster has %g cores now, %d are needed: training waits for the others.", found, num_cpus)


def _place(address: str) -> tuple[str, int] | None:
    """Host and port of an address, to knock before Ray does, which takes minutes to give up; None if not known."""
    known = read_ray_address() if address == "auto" else address.removeprefix("ray://")
    host, _, port = (known or "").rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else None


def _on_loopback_alone(host: str, port: int) -> bool:
    if host not in ("127.0.0.1", "localhost"):
        return False
    try:
        socket.create_connection((ray.util.get_node_ip_address(), port), timeout=_PATIENCE_S).close()
    except OSError:
        return True
    return False
