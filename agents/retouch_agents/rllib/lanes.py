"""Groups shared into lanes: while one lane's answers are scored elsewhere, another's are drawn."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from retouch_agents.generation import Generator
from retouch_agents.rllib.conversing import Chat, Drawing, converse
from retouch_agents.rllib.playing import Player
from retouch_agents.rllib.rollouts import GroupRequest, SampleResult


@contextmanager
def released(lock: threading.Lock) -> Iterator[None]:
    """Let go of a lock that is held, and take it again afterwards."""
    lock.release()
    try:
        yield
    finally:
        lock.acquire()


def play_in_lanes(
    chat: Chat, generator: Generator, players: Sequence[Player], requests: Sequence[GroupRequest], drawing: Drawing
) -> SampleResult:
    """Play every request G times; see `retouch_agents.rllib.conversing.converse`.

    Each lane plays its share of the groups with a player of its own. Lanes take turns with model and tokenizer, and
    wait for renders and rewards side by side. What is drawn depends on the number of lanes as it depends on the number
    of runners: not at all, but for rounding.

    Args:
        chat: Between observations and tokens.
        generator: What answers are drawn with.
        players: One for each lane.
        requests: The groups.
        drawing: How answers are drawn.
    """
    parts = [part for part in np.array_split(np.arange(len(requests)), len(players)) if len(part)]
    used = threading.Lock()

    def play(lane: int) -> SampleResult:
        share = [requests[number] for number in parts[lane]]
        with used:
            return converse(chat, generator, players[lane], share, drawing, lambda: released(used))

    if len(parts) == 1:
        return play(0)
    with ThreadPoolExecutor(len(players), thread_name_prefix="lane") as threads:
        return SampleResult.merged(list(threads.map(play, range(len(parts)))))
