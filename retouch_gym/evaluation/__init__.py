"""Evaluation of policies on datasets, with confidence intervals."""

from retouch_gym.evaluation.bootstrap import Interval, bootstrap_interval
from retouch_gym.evaluation.evaluate import Policy, evaluate
from retouch_gym.evaluation.result import EpisodeRow, EvaluationResult, Summary

__all__ = ["EpisodeRow", "EvaluationResult", "Interval", "Policy", "Summary", "bootstrap_interval", "evaluate"]
