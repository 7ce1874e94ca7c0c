"""retouch-gym: a Gymnasium environment for agents that retouch photos by instruction.

Importing the package registers its environments and loads nothing heavy: never torch, ray or
transformers, and the compiled renderer only when a photo is first rendered.
"""

from retouch_gym.envs.registration import register_envs
from retouch_gym.errors import RetouchError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tasks import Episode, Task
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import ToolCall, Unparsable

__version__ = "0.1.0"
__all__ = ["Episode", "Recipe", "RetouchError", "Task", "ToolCall", "Toolset", "Unparsable", "__version__"]

register_envs()
