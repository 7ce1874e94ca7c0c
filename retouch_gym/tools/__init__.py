"""Tools: what an agent may call, with the JSON Schema of its arguments and what a call does."""

from retouch_gym.tools.base import (
    Arguments,
    Control,
    Effect,
    FinishTool,
    LocalChange,
    SliderTool,
    SummarizeTool,
    Tool,
    ToolSpec,
    UndoTool,
)
from retouch_gym.tools.groups import BandTool, GroupTool
from retouch_gym.tools.iea import IEA, IEA_COMPAT
from retouch_gym.tools.presets import Preset, PresetTool
from retouch_gym.tools.toolset import SUMMARY, TOOLSETS, Toolset, get_toolset

__all__ = [
    "IEA",
    "IEA_COMPAT",
    "SUMMARY",
    "TOOLSETS",
    "Arguments",
    "BandTool",
    "Control",
    "Effect",
    "FinishTool",
    "GroupTool",
    "LocalChange",
    "Preset",
    "PresetTool",
    "SliderTool",
    "SummarizeTool",
    "Tool",
    "ToolSpec",
    "Toolset",
    "UndoTool",
    "get_toolset",
]
