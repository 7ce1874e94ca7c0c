"""Supervised fine-tuning: teach a model the answers of recipes, of files or of any other demonstrations."""

from retouch_agents.sft.config import SFTConfig
from retouch_agents.sft.examples import Demonstration, Demonstrations, Example, Examples
from retouch_agents.sft.files import FileDemonstrations
from retouch_agents.sft.loss import completion_loss, soft_labels
from retouch_agents.sft.trainer import SFTTrainer

__all__ = [
    "Demonstration",
    "Demonstrations",
    "Example",
    "Examples",
    "FileDemonstrations",
    "SFTConfig",
    "SFTTrainer",
    "completion_loss",
    "soft_labels",
]
