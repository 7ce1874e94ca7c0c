"""Public checkers and stand-ins for whoever adds a tool, a format, a reward, a renderer, a dataset or a user."""

from retouch_gym.testing.datasets import check_dataset
from retouch_gym.testing.doubles import BrokenPhoto, NoisePhoto, TinyDataset, TinyRenderer, make_episode
from retouch_gym.testing.formats import check_answer_format
from retouch_gym.testing.renderers import check_renderer
from retouch_gym.testing.rewards import check_reward
from retouch_gym.testing.tools import check_tool, check_toolset
from retouch_gym.testing.users import check_user

__all__ = [
    "BrokenPhoto",
    "NoisePhoto",
    "TinyDataset",
    "TinyRenderer",
    "check_answer_format",
    "check_dataset",
    "check_renderer",
    "check_reward",
    "check_tool",
    "check_toolset",
    "check_user",
    "make_episode",
]
