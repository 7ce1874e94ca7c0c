"""The head of EditReward as plain tensors: a safetensors file and a small JSON file beside a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from retouch_reward_models.errors import BackendError
from retouch_reward_models.judges.edit_judge import FIELD
from retouch_reward_models.judges.edit_reward import DIMENSIONS

CONFIG_FILE = "reward_head.json"
WEIGHTS_FILE = "reward_head.safetensors"
OUTPUTS = 2
"""Outputs of each dimension's head: the mean, then the uncertainty."""

Layer = tuple[torch.Tensor, torch.Tensor | None]
"""Weight (out, in) and bias (out,) of a linear layer."""

_KEY = re.compile(r"(?P<dimension>.+)\.(?P<layer>\d+)\.(?P<part>weight|bias)")
_PUBLISHED = re.compile(r"rm_heads\.head_(?P<head>\d+)\.(?P<layer>\d+)\.(?P<part>weight|bias)")


@dataclass(frozen=True)
class HeadConfig:
    """How a head is to be used.

    Args:
        questions: What the model is asked for each dimension, in order; `FIELD` stands where the instruction goes.
        token: The special token whose last hidden state is rated; it is put behind the question. None rates the last
            token of the prompt.
    """

    questions: Mapping[str, str]
    token: str | None = None

    def __post_init__(self) -> None:
        wrong = [name for name, text in self.questions.items() if text.count(FIELD) != 1]
        if not self.questions or wrong:
            raise BackendError(f"A head needs a question with one {FIELD} for each dimension; look at {wrong}.")


class ScoringHead(nn.Module):
    """For each dimension linear layers with ReLU between them, from a hidden state to mean and uncertainty.

    Args:
        layers: The layers of each dimension, first to last.

    Raises:
        BackendError: If sizes do not fit one another or a last layer has not two outputs.
    """

    def __init__(self, layers: Mapping[str, Sequence[Layer]]) -> None:
        super().__init__()
        self.dimensions = tuple(layers)
        self.heads = nn.ModuleList(_stack(name, found) for name, found in layers.items())

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states that it takes."""
        return int(self.layers()[self.dimensions[0]][0][0].shape[1])

    def forward(self, hidden: torch.Tensor, dimension: str) -> torch.Tensor:
        """Mean and uncertainty.

        Args:
            hidden: Hidden states, (B, D).
            dimension: Which head.

        Returns:
            (B, 2).
        """
        found: torch.Tensor = self.heads[self.dimensions.index(dimension)](hidden)
        return found

    def layers(self) -> dict[str, list[Layer]]:
        """The layers of each dimension, first to last."""
        return {
            name: [(m.weight.data, None if m.bias is None else m.bias.data) for m in head if isinstance(m, nn.Linear)]
            for name, head in zip(self.dimensions, self._stacks(), strict=True)
        }

    def _stacks(self) -> list[nn.Sequential]:
        return [head for head in self.heads if isinstance(head, nn.Sequential)]


def save_head(folder: str | Path, head: ScoringHead, config: HeadConfig) -> None:
    """Write a head beside its model: `CONFIG_FILE` and `WEIGHTS_FILE`."""
    tensors = {
        f"{dimension}.{number}.{part}": tensor.contiguous()
        for dimension, layers in head.layers().items()
        for number, layer in enumerate(layers)
        for part, tensor in zip(("weight", "bias"), layer, strict=True)
        if tensor is not None
    }
    safetensors.torch.save_file(tensors, Path(folder) / WEIGHTS_FILE)
    text = json.dumps({"version": 1, "token": config.token, "questions": dict(config.questions)}, indent=2)
    (Path(folder) / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def load_head(folder: str | Path) -> tuple[ScoringHead, HeadConfig]:
    """Read a head that `save_head` wrote. Nothing is unpickled.

    Raises:
        BackendError: If a file is missing or damaged, or they do not fit each other.
    """
    source = Path(folder)
    try:
        written = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
        tensors = safetensors.torch.load_file(source / WEIGHTS_FILE)
        config = HeadConfig(dict(written["questions"]), written["token"])
    except (OSError, ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        raise BackendError(
            f"No head in {str(folder)!r} ({type(error).__name__}: {error}). It needs {CONFIG_FILE} and {WEIGHTS_FILE}, "
            "as save_head writes them; convert_published_head makes them from a published checkpoint."
        ) from error
    head = ScoringHead(_grouped(tensors, _KEY, "dimension", config.questions))
    return head, config


def convert_published_head(folder: str | Path, config: HeadConfig) -> None:
    """Write a head's files from the checkpoint of a published EditReward model in the same folder.

    Known from the public repository: a checkpoint is one state dict, the backbone's tensors together with
    ``rm_heads.head_<i>.<layer>.weight`` and ``.bias``, where ReLU and dropout count as layers too. Only safetensors are
    read; ``model.pth`` would have to be unpickled.

    Args:
        folder: Holds ``*.safetensors``.
        config: Its dimensions are those of head 0, 1, … in order.

    Raises:
        BackendError: If there are no such tensors, or not as many heads as dimensions.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as opened:
            names = [key for key in list(opened.keys()) if _PUBLISHED.fullmatch(key)]
            tensors |= {key: opened.get_tensor(key) for key in names}
    numbered = _grouped(tensors, _PUBLISHED, "head", [str(number) for number in range(len(config.questions))])
    save_head(folder, ScoringHead(dict(zip(config.questions, numbered.values(), strict=True))), config)


def _grouped(
    tensors: Mapping[str, torch.Tensor], pattern: re.Pattern[str], group: str, names: Sequence[str] | Mapping[str, str]
) -> dict[str, list[Layer]]:
    found: dict[str, dict[int, dict[str, torch.Tensor]]] = {}
    for key, tensor in tensors.items():
        match = pattern.fullmatch(key)
        if match is None:
            raise BackendError(f"The head's tensor {key!r} is not named as expected, {pattern.pattern!r}.")
        found.setdefault(match[group], {}).setdefault(int(match["layer"]), {})[match["part"]] = tensor.float()
    if set(found) != set(names):
        raise BackendError(f"The head has tensors for {sorted(found)}, expected {sorted(names)}.")
    if any("weight" not in layer for layers in found.values() for layer in layers.values()):
        raise BackendError("A layer of the head has a bias and no weight.")
    return {name: [(layer["weight"], layer.get("bias")) for _, layer in sorted(found[name].items())] for name in names}


def _stack(name: str, layers: Sequence[Layer]) -> nn.Sequential:
    parts: list[nn.Module] = []
    width: int | None = None
    for weight, bias in layers:
        if weight.ndim != 2 or (width is not None and weight.shape[1] != width):
            raise BackendError(f"Dimension {name!r}: a layer of shape {tuple(weight.shape)} follows one of {width}.")
        width = int(weight.shape[0])
        linear = nn.Linear(int(weight.shape[1]), width, bias=bias is not None)
        with torch.no_grad():
            linear.weight.copy_(weight)
            if bias is not None:
                linear.bias.copy_(bias)
        parts += [nn.ReLU(), linear] if parts else [linear]
    if width != OUTPUTS:
        raise BackendError(f"Dimension {name!r} ends with {width} outputs, expected {OUTPUTS}: mean and uncertainty.")
    return nn.Sequential(*parts)


def _question(what: str, best: str, worst: str) -> str:
    return (
        "The first photo is the original, the second was edited by the instruction. Rate "
        f"{what}, from 1 ({worst}) to 4 ({best}).\nTEXT INSTRUCTION: {FIELD}\nOverall rating of this edit: "
    )


QUESTIONS = dict(
    zip(
        DIMENSIONS,
        (
            _question(
                "how well the instruction was followed: rightly understood, done in full, and nothing else changed",
                "accurate, complete, nothing else touched",
                "ignored or wrong",
            ),
            _question(
                "how the edited photo looks beside the original: plausible light and perspective, free of flaws, "
                "pleasing",
                "real and flawless",
                "spoilt",
            ),
        ),
        strict=True,
    )
)
"""A question for each dimension, ours. For a published model's own figures use its repository's wording instead."""
