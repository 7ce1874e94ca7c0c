"""A reward on another machine, as a reward here."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from pydantic import ValidationError

from retouch_gym.errors import ConfigurationError, RetouchError, RewardError
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode
from retouch_reward_models.serving.parcels import split
from retouch_reward_models.serving.scoring import Description, failures
from retouch_reward_models.serving.wire import (
    ScoreRequest,
    ScoreResponse,
    WireDescription,
    WireEpisode,
    decode_output,
    encode_episode,
    first_problem,
)

MAX_ANSWER = 1 << 26
"""Most bytes of an answer that are read."""

_CONNECT_S = 10.0


class HTTPReward(Reward):
    """A reward that `retouch-gym serve-reward` serves; itself a `Reward`, picklable.

    What the reward declares is asked for when the object is made. Cut connections, 429, 5xx and timeouts are tried
    again with growing pauses, or when the server says so, all within one time limit for a call. What then has no
    valid answer is an output with an error, never a number. The server's version is in ``details["version"]``.

    Args:
        url: Address of the server, for instance ``"http://127.0.0.1:8000"``.
        token_env: Environment variable that holds the bearer token, read whenever it is needed so that it is never
            pickled; None sends none.
        timeout_s: Most time for a call of `score`, retries included.
        attempts: How often a request is tried at most.
        backoff_s: Pause after the first failure; it doubles each time and varies by half.
        describe_s: Most time to reach the server when the object is made.

    Raises:
        ConfigurationError: If an option makes no sense.
        RewardError: If the server cannot be reached or is none of ours, or the variable is not set.
    """

    def __init__(
        self,
        url: str,
        *,
        token_env: str | None = None,
        timeout_s: float = 300,
        attempts: int = 5,
        backoff_s: float = 0.5,
        describe_s: float = 30,
    ) -> None:
        parsed = httpx.URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigurationError(f"url is {url!r}; expected something like 'http://127.0.0.1:8000'.")
        if attempts < 1 or not timeout_s > 0 or not backoff_s >= 0:
            raise ConfigurationError(
                f"attempts = {attempts}, timeout_s = {timeout_s}, backoff_s = {backoff_s}; "
                "expected at least 1, more than 0, at least 0."
            )
        self.url = url.rstrip("/")
        self.token_env = token_env
        self.timeout_s = timeout_s
        self.attempts = attempts
        self.backoff_s = backoff_s
        self._reset()
        try:
            answer = self._send("GET", "/reward", None, time.monotonic() + describe_s)
            described = WireDescription.model_validate_json(answer)
        except ValidationError as error:
            raise RewardError(f"{self.url} is no reward server of this version: {first_problem(error)}") from error
        self.max_episodes = described.max_episodes
        self.max_bytes = described.max_bytes
        Description(
            name=described.name,
            range=(described.low, described.high),
            components=tuple(described.components),
            needs_reference=described.needs_reference,
            scope=described.scope,
        ).apply(self)

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode there, in order."""
        deadline = time.monotonic() + self.timeout_s
        found: dict[int, RewardOutput] = {}
        wires: dict[int, WireEpisode] = {}
        for place, episode in enumerate(episodes):
            try:
                wires[place] = encode_episode(episode, reference=self.needs_reference)
            except RetouchError as error:
                found[place] = RewardOutput(None, error=str(error))
        for places in self._requests(episodes, wires):
            outputs = self._score([wires[place] for place in places], deadline)
            found.update(zip(places, outputs, strict=True))
        return [found[place] for place in range(len(episodes))]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_client", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def _requests(self, episodes: Sequence[Episode], wires: dict[int, WireEpisode]) -> Iterator[list[int]]:
        """The places of the episodes of each request, within the server's limits."""
        places = list(wires)
        groups = self.scope == "group"
        for parcel in split([episodes[place] for place in places], self.max_episodes, whole_groups=groups):
            request: list[int] = []
            size = 0
            for place in (places[number] for number in parcel):
                # Base64 outweighs everything else; a twentieth is left for it.
                weight = sum(map(len, wires[place].photos)) + 4_096
                if request and not groups and size + weight > 0.95 * self.max_bytes:
                    yield request
                    request, size = [], 0
                request.append(place)
                size += weight
            if request:
                yield request

    def _score(self, wires: list[WireEpisode], deadline: float) -> list[RewardOutput]:
        body = ScoreRequest(episodes=wires).model_dump_json(exclude_defaults=True).encode()
        try:
            answer = ScoreResponse.model_validate_json(self._send("POST", "/score", body, deadline))
        except RewardError as error:
            return failures(len(wires), str(error))
        except ValidationError as error:
            return failures(len(wires), f"the answer of {self.url} is not valid: {first_problem(error)}")
        if len(answer.outputs) != len(wires):
            problem = f"{self.url} answered with {len(answer.outputs)} outputs for {len(wires)} episodes"
            return failures(len(wires), problem)
        return [self._checked(decode_output(output), answer.version) for output in answer.outputs]

    def _checked(self, output: RewardOutput, version: str) -> RewardOutput:
        low, high = self.range
        details = {"version": version, **output.details}
        if output.value is not None and not low <= output.value <= high:
            problem = f"{self.url} answered {output.value}, outside the range {low}..{high} that it declares"
            return RewardOutput(None, output.components, problem, details)
        return RewardOutput(output.value, output.components, output.error, details)

    def _send(self, method: str, path: str, body: bytes | None, deadline: float) -> bytes:
        """The body of a 200.

        Raises:
            RewardError: If there is none in time.
        """
        problem, pause = "", self.backoff_s
        for attempt in range(1, self.attempts + 1):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            wait = pause * random.uniform(0.5, 1.5)
            try:
                status, answer, later = self._try(method, path, body, deadline)
            except (httpx.HTTPError, OSError) as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if status == 200:
                    return answer
                problem = f"status {status}: {answer[:200].decode(errors='replace')}"
                if status not in (408, 429) and status < 500:
                    raise RewardError(f"{self.url}{path} refused: {problem}")
                wait = max(wait, later)
            if attempt < self.attempts and time.monotonic() + wait < deadline:
                time.sleep(wait)
                pause *= 2
            else:
                break
        raise RewardError(f"{self.url}{path} gave no answer in {attempt} tries: {problem or 'out of time'}")

    def _try(self, method: str, path: str, body: bytes | None, deadline: float) -> tuple[int, bytes, float]:
        """One request: status, body, and the seconds of ``Retry-After``."""
        left = max(1e-3, deadline - time.monotonic())
        timeout = httpx.Timeout(left, connect=min(left, _CONNECT_S))
        headers = {"Content-Type": "application/json", **self._authorization()}
        received = bytearray()
        with self._connection().stream(
            method, self.url + path, content=body, headers=headers, timeout=timeout
        ) as answer:
            for chunk in answer.iter_bytes():
                received += chunk
                # httpx limits each read, not their sum: a server that drips would hold us for ever.
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer took too long")
                if len(received) > MAX_ANSWER:
                    raise RewardError(f"The answer of {self.url}{path} has more than {MAX_ANSWER} bytes.")
            later = answer.headers.get("retry-after", "")
            return answer.status_code, bytes(received), float(later) if later.isdecimal() else 0.0

    def _authorization(self) -> dict[str, str]:
        if self.token_env is None:
            return {}
        token = os.environ.get(self.token_env)
        if not token:
            raise RewardError(f"The environment variable {self.token_env!r} holds no token.")
        return {"Authorization": f"Bearer {token}"}

    def _connection(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                # Photos go to the address that was given and to no proxy of the environment.
                self._client = httpx.Client(trust_env=False, follow_redirects=False)
            return self._client
