"""The `retouch-gym serve-reward` command."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer
import uvicorn

from retouch_gym.errors import ConfigurationError
from retouch_gym.rewards.base import get_reward
from retouch_reward_models.serving.server import ServerOptions, make_app
from retouch_reward_models.serving.wire import PhotoLimits


def serve_reward(
    reward: Annotated[str, typer.Option(help="Short name or module:attribute of the reward.")],
    reward_kwargs: Annotated[str, typer.Option(help="Its options, as a JSON object.")] = "{}",
    host: Annotated[str, typer.Option(help="Address to listen on; off loopback a token is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token_env: Annotated[
        str | None, typer.Option(help="Environment variable with the bearer token that clients have to show.")
    ] = None,
    version: Annotated[str, typer.Option(help="Goes into every response, to tell weights apart.")] = "0",
    max_mb: Annotated[float, typer.Option(help="Largest request, in MiB.")] = ServerOptions.max_mb,
    max_pixels: Annotated[int, typer.Option(help="Most pixels of a photo; four times as many in a request.")] = 1 << 24,
    rate: Annotated[float, typer.Option(help="Requests per second of one client.")] = ServerOptions.rate,
    max_batch: Annotated[int, typer.Option(help="Most episodes scored at once.")] = ServerOptions.max_batch,
    max_wait_ms: Annotated[float, typer.Option(help="How long a batch waits for more.")] = ServerOptions.max_wait_ms,
    threads: Annotated[int, typer.Option(help="Batches scored at the same time.")] = ServerOptions.threads,
    timeout_s: Annotated[float, typer.Option(help="Most seconds for a request.")] = ServerOptions.timeout_s,
) -> None:
    """Serve a reward over HTTP, for env runners that cannot hold it.

    POST /score takes episodes (instruction, photos before and after as PNG in base64) and gives their outputs; see
    also /reward, /healthz and /metrics. HTTPReward is the client. Stop it with Ctrl-C or SIGTERM: what is in work is
    finished. Tokens and photos travel in the clear; off loopback put TLS in front.
    """
    token = None
    if token_env is not None:
        token = os.environ.get(token_env)
        if not token:
            raise ConfigurationError(f"--token-env {token_env}: the variable is not set; put the token into it.")
    options = ServerOptions(
        host=host,
        token=token,
        version=version,
        max_mb=max_mb,
        photos=PhotoLimits(max_pixels, 4 * max_pixels),
        rate=rate,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        threads=threads,
        timeout_s=timeout_s,
    )
    app = make_app(get_reward(reward, **_options(reward_kwargs)), options)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        server_header=False,
        # The rate is per client, and a client that names another one in a header would have no limit.
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(timeout_s)),
    )
    uvicorn.Server(config).run()


def _options(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"--reward-kwargs {text!r} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"--reward-kwargs {text!r} should be a JSON object, like '{{\"alpha\": 0.5}}'.")
    return found
