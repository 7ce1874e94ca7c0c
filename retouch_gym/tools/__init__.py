"""Tools: what an agent may call, with the JSON Schema of its arguments and what a call does."""

from retouch_gym.tools.base import Arguments, Control, Effect, FinishTool, SliderTool, Tool, ToolSpec
from retouch_gym.tools.iea import IEA, IEA_COMPAT
from retouch_gym.tools.toolset import TOOLSETS, Toolset, get_toolset

__all__ = [
    "IEA",
    "IEA_COMPAT",
    "TOOLSETS",
    "Arguments",
    "Control",
    "Effect",
    "FinishTool",
    "SliderTool",
    "Tool",
    "ToolSpec",
    "Toolset",
    "get_toolset",
]
