"""RetouchIQ's generalist reward model."""

from retouch_reward_models.grm.files import load_judge_prompt, save_judge_prompt
from retouch_reward_models.grm.formats import JsonVerdict, LineVerdict, VerdictFormat, get_verdict_format
from retouch_reward_models.grm.prompts import JudgePrompt
from retouch_reward_models.grm.reward import GeneralistReward, load_generalist
from retouch_reward_models.grm.verdict import Criterion, Scored, Verdict

__all__ = [
    "Criterion",
    "GeneralistReward",
    "JsonVerdict",
    "JudgePrompt",
    "LineVerdict",
    "Scored",
    "Verdict",
    "VerdictFormat",
    "get_verdict_format",
    "load_generalist",
    "load_judge_prompt",
    "save_judge_prompt",
]
