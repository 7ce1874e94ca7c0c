"""Benchmarks of rewards: edits that people have compared, and how often a reward agrees with them."""

from retouch_reward_models.benchmarks.accuracy import NoRenderer, pairwise_accuracy
from retouch_reward_models.benchmarks.base import PreferenceBenchmark, PreferencePair
from retouch_reward_models.benchmarks.editscore_bench import EDITSCORE_COMPONENTS, load_editscore_bench
from retouch_reward_models.benchmarks.result import AccuracyResult, PairRow
from retouch_reward_models.benchmarks.tiger_bench import load_tiger_bench

__all__ = [
    "EDITSCORE_COMPONENTS",
    "AccuracyResult",
    "NoRenderer",
    "PairRow",
    "PreferenceBenchmark",
    "PreferencePair",
    "load_editscore_bench",
    "load_tiger_bench",
    "pairwise_accuracy",
]
