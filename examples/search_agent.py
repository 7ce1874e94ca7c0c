"""An agent without a model: tries one slider after the other and keeps what brings it closer to the reference.

It cheats, as it looks at the reference; what it reaches is an upper mark for agents that do not.

Run: python examples/search_agent.py [--episodes 4] [--pairs FOLDER]
"""

from __future__ import annotations

import argparse

import numpy as np

from retouch_gym import Recipe, ToolCall
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.rewards import pixel_distance
from retouch_gym.tasks import Episode

STEPS = (-50, -25, -10, -5, 5, 10, 25, 50)


def improve(episode: Episode, slider: str, low: float, high: float) -> int:
    """The value of one slider that brings the photo nearest to the reference, the others as they are."""
    assert episode.reference is not None
    now = int(episode.recipe[slider])
    values = [now, *(now + step for step in STEPS if low <= now + step <= high)]
    recipes = [Recipe(episode.recipe.toolset, {**episode.recipe.controls, slider: value}) for value in values]
    images = episode.renderer.render([episode.source] * len(recipes), recipes)
    return values[int(np.argmin([pixel_distance(image, episode.reference) for image in images]))]


def main() -> None:
    """Play a few episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=4, help="episodes to play")
    parser.add_argument("--pairs", help="folder with pairs.json; default: the built-in samples")
    parser.add_argument("--passes", type=int, default=2, help="times that every slider is tried")
    options = parser.parse_args()
    dataset = f"pairs:{options.pairs}" if options.pairs else "samples"
    env = RetouchEnv(dataset=dataset, reward="likeness", max_turns=1000)
    sliders = [control for control in env.toolset.controls.values() if control.name != "grain"]
    for number in range(options.episodes):
        observation, _ = env.reset(seed=number)
        for _ in range(options.passes):
            for control in sliders:
                value = improve(env.episode, control.name, control.low, control.high)
                if value != env.episode.recipe[control.name]:
                    env.step(ToolCall(control.name, {"value": value}))
        recipe = dict(env.episode.recipe.controls)
        _, reward, _, _, _ = env.step(ToolCall("finish"))
        print(f"{observation['instruction'][:60]!r}: likeness {reward:.3f} with {recipe}")


if __name__ == "__main__":
    main()
