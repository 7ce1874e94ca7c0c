"""The prompt and the verdict format that a judge was trained with, beside its weights."""

from __future__ import annotations

import json
from pathlib import Path

from retouch_gym.errors import ConfigurationError
from retouch_reward_models.grm.formats import VERDICT_FORMATS, VerdictFormat, get_verdict_format
from retouch_reward_models.grm.prompts import JudgePrompt

FILE_NAME = "retouch_judge.json"


def save_judge_prompt(folder: str | Path, prompt: JudgePrompt, verdict_format: str | VerdictFormat) -> None:
    """Write prompt and format into a checkpoint folder.

    Raises:
        ConfigurationError: If the format is none of those that a name finds again.
    """
    spoken = get_verdict_format(verdict_format)
    kind = type(spoken)
    name = spoken.name if spoken.name in VERDICT_FORMATS else f"{kind.__module__}:{kind.__qualname__}"
    get_verdict_format(name)
    data = {"prompt": prompt.to_dict(), "verdict_format": name}
    (Path(folder) / FILE_NAME).write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")


def load_judge_prompt(folder: str | Path) -> tuple[JudgePrompt, VerdictFormat]:
    """Prompt and format of a checkpoint folder; `JudgePrompt()` and ``"json"`` where it says nothing of them.

    Raises:
        ConfigurationError: If the file is there and holds no prompt.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        return JudgePrompt(), get_verdict_format("json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return JudgePrompt.from_dict(data["prompt"]), get_verdict_format(data["verdict_format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{str(path)!r} holds no judge's prompt: {error}") from error
