"""What a model is told: prompt templates as data that a user can replace.

A template is two strings with the fields ``{instruction}``, ``{tools}``, ``{recipe}``, ``{feedback}``
and ``{turns_left}``. It is saved beside a checkpoint, so that a model always meets the prompt that it
was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from retouch_gym.errors import ConfigurationError
from retouch_gym.tools.toolset import Toolset

FILE_NAME = "retouch_prompt.json"


@dataclass(frozen=True)
class PromptTemplate:
    """The words around the photo.

    Args:
        user: Text that follows the photo in the user's turn.
        system: System turn; empty for none.

    Raises:
        ConfigurationError: If a field in braces is not known.
    """

    user: str
    system: str = ""

    def __post_init__(self) -> None:
        try:
            self.fill({"instruction": "", "recipe": "", "feedback": "", "turns_left": 1}, "")
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigurationError(
                f"Prompt template has an unknown field ({error}); known: instruction, tools, recipe, feedback, "
                "turns_left. Write literal braces twice."
            ) from error

    def fill(self, observation: Mapping[str, Any], tools: str) -> tuple[str, str]:
        """The system and the user text of an observation."""
        fields = {name: observation[name] for name in ("instruction", "recipe", "feedback", "turns_left")}
        return self.system.format(tools=tools, **fields), self.user.format(tools=tools, **fields)

    def save(self, folder: str | Path) -> None:
        """Write the template into a checkpoint folder."""
        (Path(folder) / FILE_NAME).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> PromptTemplate:
        """The template of a checkpoint folder; `IEA_EDIT` where there is none."""
        path = Path(folder) / FILE_NAME
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else IEA_EDIT


IEA_EDIT = PromptTemplate(
    system=(
        "You are a photo retoucher. You see a photo and a request, think briefly, and set sliders.\n"
        "Sliders (integers, 0 leaves the photo untouched):\n{tools}\n"
        "Answer exactly in this form, naming only the sliders that you move:\n"
        '<think>what the photo needs</think><answer>{{"slider": value}}</answer>'
    ),
    user="Request: {instruction}",
)
"""For pretrained models: lists every slider with its range and meaning."""

BARE = PromptTemplate(user=" {instruction}")
"""The instruction alone, for tiny models that learn the sliders from examples."""


def describe_tools(toolset: Toolset) -> str:
    """One line per control: name, range, meaning."""
    lines = []
    for tool in toolset.tools:
        for control in tool.controls:
            lines.append(f"- {control.name} ({control.low:g}..{control.high:g}): {tool.description}")
    return "\n".join(lines)


def build_messages(observation: Mapping[str, Any], template: PromptTemplate, toolset: Toolset) -> list[dict[str, Any]]:
    """Chat messages with the photo as a PIL image, as Hugging Face chat templates take them.

    Args:
        observation: An observation of `Retouch/Retouch-v0`.
        template: The words around the photo.
        toolset: The environment's toolset.
    """
    system, user = template.fill(observation, describe_tools(toolset))
    photo = {"type": "image", "image": PIL.Image.fromarray(observation["image"])}
    messages = [{"role": "user", "content": [photo, {"type": "text", "text": user}]}]
    if system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    return messages
