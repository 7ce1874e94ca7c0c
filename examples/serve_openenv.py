"""The environment behind an OpenEnv server, and an agent without a model that retouches through a client.

The agent draws plans at random and keeps nothing; it shows where a model of yours goes in.

Run: python examples/serve_openenv.py serve [--port 8000] [--dataset samples]
and, in another terminal: python examples/serve_openenv.py play [--url http://127.0.0.1:8000] [--episodes 4]
"""

from __future__ import annotations

import argparse

import numpy as np

from retouch_gym import ToolCall
from retouch_gym.adapters.openenv.client import RetouchClient
from retouch_gym.adapters.openenv.server import serve
from retouch_gym.tools.toolset import get_toolset


def play(url: str, episodes: int) -> None:
    """Play some episodes of three turns and say what they came to."""
    rng = np.random.default_rng(0)
    sliders = [tool for tool in get_toolset("iea").tools if tool.controls]
    with RetouchClient(base_url=url).sync() as env:
        for seed in range(episodes):
            result = env.reset(seed=seed)
            request = result.observation.instruction
            for _ in range(2):
                tool = sliders[rng.integers(len(sliders))]
                result = env.step(ToolCall(tool.name, tool.sample(rng)))
            result = env.step(ToolCall("finish"))
            print(f"{request}\n  {result.observation.recipe}: reward {result.reward:+.3f}")


def main() -> None:
    """Serve or play."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run the server, on this machine only")
    serving.add_argument("--port", type=int, default=8000)
    serving.add_argument("--dataset", default="samples", help="a name, or folder:PATH")
    playing = commands.add_parser("play", help="run the agent")
    playing.add_argument("--url", default="http://127.0.0.1:8000")
    playing.add_argument("--episodes", type=int, default=4)
    given = parser.parse_args()
    if given.command == "serve":
        serve(port=given.port, dataset=given.dataset)
    else:
        play(given.url, given.episodes)


if __name__ == "__main__":
    main()
