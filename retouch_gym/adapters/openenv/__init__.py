"""The environment as an OpenEnv server, and a client for it; needs the extra ``openenv``.

On the machine that renders and scores::

    from retouch_gym.adapters.openenv.server import serve

    serve(dataset="samples", reward="likeness", max_turns=8)        # http://127.0.0.1:8000

Where the agent runs::

    from retouch_gym import ToolCall
    from retouch_gym.adapters.openenv.client import RetouchClient

    with RetouchClient(base_url="http://127.0.0.1:8000").sync() as env:
        result = env.reset(seed=0)
        result = env.step(ToolCall("exposure", {"value": 40}))
        result.observation.image, result.reward, result.done        # uint8 (H, W, 3), 0.0, False
        result = env.step(ToolCall("finish"))

A client holds a session of its own over a WebSocket. OpenEnv's plain HTTP routes ``/reset`` and ``/step`` keep
no session: every request meets a new environment, so a step there is refused.

Importing OpenEnv takes seconds, so nothing is imported here: choose `server`, `client` or `models`.
"""
