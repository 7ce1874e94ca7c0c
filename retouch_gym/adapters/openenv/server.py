"""The server: one `RetouchEnv` per session, over one dataset, reward and renderer."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import EnvironmentMetadata

from retouch_gym.adapters.openenv.models import RetouchAction, RetouchObservation, RetouchState
from retouch_gym.adapters.photos import to_base64_png
from retouch_gym.adapters.sharing import env_factory
from retouch_gym.envs.retouch import RetouchEnv

OUTCOME = ("finished", "reward_valid", "reward_components", "reward_error")
"""What the environment's ``info`` says at the end and clients are told."""


class RetouchServer(Environment[RetouchAction, RetouchObservation, RetouchState]):
    """One session: a `RetouchEnv` behind OpenEnv's interface.

    A bad action is feedback in the observation. What a client or the machine does wrong (a step before the
    first reset, an unknown task, a judge that fails) raises; OpenEnv sends it as an error message and the
    session lives on.

    Args:
        env: The environment; the session is its only user.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, env: RetouchEnv) -> None:
        super().__init__()
        self.env = env
        self._state = RetouchState()
        self._original = ""

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> RetouchObservation:
        """Begin an episode.

        Args:
            seed: Seed of the environment's generator; None goes on with the one there is.
            episode_id: A name for the episode; None makes one up.
            options: ``task_id`` or ``index`` to choose the task.

        Raises:
            ConfigurationError: For an unknown option, or a task without the reference that the reward needs.
            DatasetError: If there is no such task.
            ImageError: If its photo cannot be read.
            RendererError: If it cannot be rendered.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        self._original = to_base64_png(observation["original"])
        self._state = RetouchState(episode_id=episode_id or uuid.uuid4().hex)
        return self._observed(observation, info)

    def step(self, action: RetouchAction, timeout_s: float | None = None, **kwargs: Any) -> RetouchObservation:
        """Take one turn.

        Args:
            action: One call, a plan, or an answer that held no call.
            timeout_s: Not used: a turn cannot be interrupted.
            kwargs: Not used.

        Raises:
            ResetNeeded: Before the first reset, or after the episode ended.
            RendererError: If the photo cannot be rendered.
            RewardError: If the episode cannot be scored.
        """
        observation, reward, terminated, truncated, info = self.env.step(action.to_action())
        self._state.step_count += 1
        observed = self._observed(observation, info)
        observed.done = terminated or truncated
        # Where the reward failed there is none: clients must not take the placeholder for a score.
        observed.reward = reward if info.get("reward_valid", True) else None
        if observed.done:
            told = {name: info[name] for name in OUTCOME if name in info}
            observed.metadata = {**told, "truncated": truncated}
        return observed

    @property
    def state(self) -> RetouchState:
        """Where the session is."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """Name and description."""
        return EnvironmentMetadata(
            name="retouch-gym",
            description=f"Retouch photos by instruction with the toolset {self.env.toolset.name!r}: "
            + "; ".join(f"{spec.name}: {spec.description}" for spec in self.env.toolset.specs),
        )

    def close(self) -> None:
        """Free what the environment holds."""
        self.env.close()

    def _observed(self, observation: dict[str, Any], info: dict[str, Any]) -> RetouchObservation:
        same = np.array_equal(observation["image"], observation["original"])
        photos = {
            "image": self._original if same else to_base64_png(observation["image"]),
            "original": self._original,
            "context": [to_base64_png(photo) for photo in observation["context"]],
        }
        facts = {name: info[name] for name in ("task_id", "kind", "tool_error")}
        self._state.task_id, self._state.recipe = info["task_id"], observation["recipe"]
        self._state.turns_left = int(observation["turns_left"])
        return RetouchObservation(**{**observation, **photos, **facts})


def create_app(max_sessions: int = 8, **options: Any) -> FastAPI:
    """The server as an ASGI application.

    Args:
        max_sessions: Most clients at once; one more is told that the server is full. Sessions are threads, so a
            reward that cannot be called from several threads has to lock itself.
        options: Arguments of `RetouchEnv`, the same for every session.

    Raises:
        ConfigurationError: If an option is not known or the options do not go together.
        DatasetError: If the dataset cannot be found or is empty.
    """
    make = env_factory(**options)

    def retouch_gym() -> RetouchServer:
        return RetouchServer(make())

    app: FastAPI = create_fastapi_app(
        retouch_gym, RetouchAction, RetouchObservation, max_sessions, state_cls=RetouchState, env_name="retouch-gym"
    )
    return app


def serve(host: str = "127.0.0.1", port: int = 8000, *, max_sessions: int = 8, **options: Any) -> None:
    """Serve until interrupted.

    Args:
        host: Address to listen on. Whoever reaches it may use the server: there is no password, so anything
            but the loopback default wants a network or a proxy that keeps strangers out.
        port: Port to listen on.
        max_sessions: Most clients at once.
        options: Arguments of `RetouchEnv`, the same for every session.

    Raises:
        ConfigurationError: If an option is not known or the options do not go together.
        DatasetError: If the dataset cannot be found or is empty.
    """
    # Compressing PNGs once more took longer than everything else and made them no smaller.
    uvicorn.run(create_app(max_sessions, **options), host=host, port=port, ws_per_message_deflate=False)
