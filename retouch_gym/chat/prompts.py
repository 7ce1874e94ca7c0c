"""The prompts of every task, and how a user replaces them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from retouch_gym.chat.templates import PromptTemplate, read_json_file, write_json_file
from retouch_gym.errors import ConfigurationError

IEA_EDIT = PromptTemplate(
    system=(
        "You are a photo retoucher. You see a photo and a request, think briefly, and set sliders.\n"
        "Sliders (integers, 0 leaves the photo untouched):\n{tools}\n"
        "Answer exactly in this form, naming only the sliders that you move:\n"
        '<think>what the photo needs</think><answer>{{"slider": value}}</answer>'
    ),
    user="Request: {instruction}",
)
"""Single-shot edits in the format ``iea``: lists every slider with its range and meaning."""

BARE = PromptTemplate(user=" {instruction}")
"""The instruction alone, for tiny models that learn the sliders from examples."""

_EDITOR = (
    "You are a photo retoucher. You work with the tools below. What they set adds up to one recipe: a later value "
    "replaces the earlier one, and the photo is rendered anew from the original each time.\n"
    "Tools:\n{tools}\n"
    "{guide}"
)
_STATE = "Set so far: {recipe}\nTurns left: {turns_left}"

PROMPTS: Mapping[str, PromptTemplate] = MappingProxyType(
    {
        "edit": PromptTemplate(
            system=_EDITOR,
            user=f"Photos: {{photos}}\nEarlier requests: {{history}}\nRequest: {{instruction}}\n{_STATE}",
        ),
        "refine": PromptTemplate(
            system=_EDITOR,
            user=(
                "Photos: {photos}\nThe photo was edited already, as asked for: {history}\n"
                f"Now the user wants: {{instruction}}\nChange what this takes and keep the rest.\n{_STATE}"
            ),
        ),
        "summary": PromptTemplate(
            system=(
                "You see a photo before and after it was retouched. Say what the user asked for, as one request in the "
                "user's own plain words, without slider names and numbers.\n{guide}"
            ),
            user="Photos: {photos}\nRequest: {request}",
            follow_up="{feedback}\nTurns left: {turns_left}",
        ),
        "match": PromptTemplate(
            system=_EDITOR,
            user=f"Photos: {{photos}}\nMake the photo as it is now look like the goal.\nRequest: {{request}}\n{_STATE}",
        ),
        "transfer": PromptTemplate(
            system=_EDITOR,
            user=(
                "Photos: {photos}\nThe example shows an edit of another photo, before and after. Give the photo as it "
                f"is now the same edit, as far as it suits it.\nRequest: {{request}}\n{_STATE}"
            ),
        ),
    }
)
"""The built-in prompt of each task, for any answer format."""


@dataclass(frozen=True)
class Prompts:
    """A prompt for each task.

    Args:
        templates: Task to template.

    Raises:
        ConfigurationError: If a template is none.
    """

    templates: Mapping[str, PromptTemplate] = field(default_factory=lambda: PROMPTS)

    def __post_init__(self) -> None:
        for task, template in self.templates.items():
            if not isinstance(template, PromptTemplate):
                raise ConfigurationError(
                    f"The prompt of task {task!r} is a {type(template).__name__}, expected a PromptTemplate."
                )
        object.__setattr__(self, "templates", MappingProxyType(dict(self.templates)))

    def __hash__(self) -> int:
        return hash(frozenset(self.templates.items()))

    def __reduce__(self) -> tuple[type[Prompts], tuple[dict[str, PromptTemplate]]]:
        return (Prompts, (dict(self.templates),))

    def for_task(self, task: str) -> PromptTemplate:
        """The template of a task.

        Raises:
            ConfigurationError: If there is none.
        """
        if task not in self.templates:
            raise ConfigurationError(
                f"There is no prompt for the task {task!r}; there are prompts for {', '.join(self.templates)}. Give "
                f"one: get_prompts({{{task!r}: PromptTemplate(user=…)}})."
            )
        return self.templates[task]

    def to_dict(self) -> dict[str, dict[str, str]]:
        """The prompts as JSON-able data."""
        return {task: template.to_dict() for task, template in self.templates.items()}

    def save(self, path: str | Path) -> None:
        """Write the prompts as one JSON file."""
        write_json_file(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Prompts:
        """Read a JSON file: an object of task to template, or one template for every task.

        Tasks that the file does not name keep their built-in prompt.

        Raises:
            ConfigurationError: If the file cannot be read or holds no prompts.
        """
        try:
            return get_prompts(read_json_file(path))
        except ConfigurationError as error:
            raise ConfigurationError(f"{str(path)!r}: {error}") from error


PromptsLike: TypeAlias = Prompts | PromptTemplate | Mapping[str, Any] | str | Path | None
"""What `get_prompts` takes."""


def get_prompts(prompts: PromptsLike = None) -> Prompts:
    """Prompts from whatever a user gives.

    Args:
        prompts: None for the built-in ones; a template for every task; the path of a JSON file (see `Prompts.load`);
            or a mapping, of task to template or of the keys of one template. A template in a mapping may itself be
            a mapping. Tasks that are not named keep their built-in prompt.

    Raises:
        ConfigurationError: If it is none of these or not valid.
    """
    if prompts is None:
        return Prompts()
    if isinstance(prompts, Prompts):
        return prompts
    if isinstance(prompts, PromptTemplate):
        return Prompts(dict.fromkeys(PROMPTS, prompts))
    if isinstance(prompts, str | Path):
        return Prompts.load(prompts)
    if not isinstance(prompts, Mapping):
        raise ConfigurationError(
            f"prompts is a {type(prompts).__name__}; expected Prompts, a PromptTemplate, a mapping or the path of a "
            "JSON file."
        )
    if isinstance(prompts.get("user"), str):
        return get_prompts(PromptTemplate.from_dict(prompts))
    given = {
        task: template if isinstance(template, PromptTemplate) else PromptTemplate.from_dict(template)
        for task, template in prompts.items()
    }
    return Prompts({**PROMPTS, **given})
