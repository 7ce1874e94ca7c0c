"""Where a server is, what it speaks, and how much patience it gets."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from retouch_gym.errors import ConfigurationError
from retouch_reward_models.backends.resilience import Backoff, Limits

WireName: TypeAlias = Literal["vllm", "sglang", "chat"]
"""vLLM's token endpoints; SGLang's own; OpenAI's chat API with vLLM's ``return_token_ids``."""

WIRES: tuple[WireName, ...] = ("vllm", "sglang", "chat")

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class EndpointSettings:
    """A server that answers in place of the policy in the runner. Picklable: it goes to every runner.

    Args:
        model: Name that the server serves the model under; the adapter's base where adapters are pushed.
        base_url: Root of the server, without ``/v1``.
        wire: What it speaks, see `WireName` and ``docs/generation.md``.
        api_key_env: Environment variable with the secret, read in the process that sends; None sends none.
        concurrency: Most requests at the same time.
        timeout_s: Seconds for one request, its retries and waits included.
        attempts: Most attempts for one request.
        attempt_timeout_s: Seconds for one attempt, so that one that hangs leaves time for another.
        backoff: Waits between attempts.
        seeded: ``sglang`` only: ask with seeds, one request an answer, as SGLang gives all answers of a request the
            same; it obeys them under ``--enable-deterministic-inference``. The others always ask with seeds.
        collapse_placeholders: ``sglang`` only: send one placeholder token a photo, which the server expands.
        check_logprobs: Before the first answers, find out whether log-probabilities are those after temperature and
            logit bias, and refuse a server that returns others.
        adapter_folder: Folder that this machine and the server open under the same path, where adapters are written to
            be pushed; None: a temporary one, for a server on this machine.

    Raises:
        ConfigurationError: If a setting is out of range.
    """

    model: str
    base_url: str = "http://127.0.0.1:8000"
    wire: WireName = "vllm"
    api_key_env: str | None = None
    concurrency: int = 32
    timeout_s: float = 900.0
    attempts: int = 4
    attempt_timeout_s: float = 300.0
    backoff: Backoff = field(default_factory=Backoff)
    seeded: bool = False
    collapse_placeholders: bool = True
    check_logprobs: bool = True
    adapter_folder: str | None = None

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigurationError(f"base_url has to be a URL like 'http://127.0.0.1:8000', got {self.base_url!r}.")
        if url.path.rstrip("/").endswith("/v1"):
            raise ConfigurationError(f"base_url = {self.base_url!r} should be the server's root; leave out '/v1'.")
        if self.wire not in WIRES:
            raise ConfigurationError(f"wire = {self.wire!r} should be one of {', '.join(WIRES)}.")
        if not self.model:
            raise ConfigurationError("model is empty; give the name that the server serves the model under.")
        if self.concurrency < 1:
            raise ConfigurationError(f"concurrency = {self.concurrency} should be at least 1.")
        _ = self.limits  # checks its own

    @property
    def limits(self) -> Limits:
        """Attempts and seconds for one request."""
        return Limits(self.attempts, self.timeout_s, self.attempt_timeout_s)

    @property
    def shares_files(self) -> bool:
        """Whether the server opens the files that are written here."""
        return self.adapter_folder is not None or urlsplit(self.base_url).hostname in _LOOPBACK

    def api_key(self) -> str | None:
        """The secret, read from the environment.

        Raises:
            ConfigurationError: If the variable is not set.
        """
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env)
        if not key:
            raise ConfigurationError(f"The environment variable {self.api_key_env} of api_key_env is not set; set it.")
        return key
