"""The prompt of a checkpoint: the words and the answer format that a model was trained with, beside its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from retouch_gym.chat import (
    ANSWER_FORMATS,
    IEA_EDIT,
    AnswerFormat,
    Message,
    PromptTemplate,
    describe_history,
    describe_photos,
    get_answer_format,
    opening,
    to_pil,
)
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools.toolset import Toolset

FILE_NAME = "retouch_prompt.json"

_FORMAT = "answer_format"
_DEFAULT_FORMAT = "iea"


def save_prompt(
    folder: str | Path, template: PromptTemplate, answer_format: str | AnswerFormat = _DEFAULT_FORMAT
) -> None:
    """Write template and answer format into a checkpoint folder.

    Raises:
        ConfigurationError: If the answer format is one that could not be found again by its name.
    """
    data = {**template.to_dict(), _FORMAT: _name_of(get_answer_format(answer_format))}
    (Path(folder) / FILE_NAME).write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")


def load_prompt(folder: str | Path) -> tuple[PromptTemplate, AnswerFormat]:
    """Template and answer format of a checkpoint folder; `IEA_EDIT` and ``"iea"`` where it says nothing of them.

    Raises:
        ConfigurationError: If the file is there and holds no prompt.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        return IEA_EDIT, get_answer_format(_DEFAULT_FORMAT)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        name = data.pop(_FORMAT, _DEFAULT_FORMAT) if isinstance(data, dict) else _DEFAULT_FORMAT
        return PromptTemplate.from_dict(data), get_answer_format(name)
    except ValueError as error:
        raise ConfigurationError(f"{str(path)!r} holds no prompt: {error}") from error


def copy_prompt(source: str | Path, target: str | Path) -> None:
    """Write the prompt of one checkpoint folder into another."""
    save_prompt(target, *load_prompt(source))


def build_messages(
    observation: Mapping[str, Any],
    template: PromptTemplate,
    toolset: Toolset,
    answer_format: str | AnswerFormat = _DEFAULT_FORMAT,
    clean: Callable[[str], str] = str,
) -> list[Message]:
    """Chat messages with the photo as it is now as a PIL image, as Hugging Face chat templates take them.

    Args:
        observation: An observation of `Retouch/Retouch-v0`.
        template: The words around the photo.
        toolset: The environment's toolset.
        answer_format: How the model is to answer.
        clean: Applied to every text of the observation.
    """
    spoken = get_answer_format(answer_format)
    values = {name: clean(str(observation.get(name, ""))) for name in ("instruction", "recipe", "feedback")}
    values["history"] = clean(describe_history(json.loads(observation.get("history") or "[]")))
    values["turns_left"] = str(observation["turns_left"])
    values["tools"] = spoken.tools(toolset)
    values["guide"] = spoken.guide(str(observation.get("task", "edit")))
    values["photos"] = describe_photos(["the photo as it is now"])
    return to_pil(opening(template, values, [observation["image"]]))


def _name_of(answer_format: AnswerFormat) -> str:
    kind = type(answer_format)
    for name in (answer_format.name, f"{kind.__module__}:{kind.__qualname__}"):
        if (name in ANSWER_FORMATS or ":" in name) and _finds(name, answer_format):
            return name
    raise ConfigurationError(
        f"Answer format {answer_format!r} cannot be saved by name: {kind.__qualname__}() of module {kind.__module__!r} "
        "is not equal to it. Make it a frozen dataclass at module level whose defaults are the settings in use."
    )


def _finds(name: str, answer_format: AnswerFormat) -> bool:
    try:
        return get_answer_format(name) == answer_format
    except (ConfigurationError, TypeError):
        return False
