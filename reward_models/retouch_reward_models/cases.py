"""What a judge sees of an episode: an instruction, the photo before, and one or more candidates for after."""

from __future__ import annotations

from dataclasses import dataclass

from retouch_gym.tasks import Episode
from retouch_gym.types import Image


@dataclass(frozen=True, eq=False)
class Case:
    """One case to be judged.

    Args:
        instruction: What was asked for; several requests are one a line, the oldest first.
        before: The photo before any edit, uint8 (H, W, 3) sRGB.
        candidates: The photo after, once for every edit that is to be judged, uint8 (H, W, 3).
        task_id: Which task it is of; cases of one task may share their criteria. Empty if nobody knows.
    """

    instruction: str
    before: Image
    candidates: tuple[Image, ...]
    task_id: str = ""


def case_of(episode: Episode) -> Case:
    """The case of an episode, with the photo as it is now as the only candidate."""
    asked = [*episode.task.history, *(episode.requests or (episode.task.instruction,))]
    return Case("\n".join(asked), episode.source, (episode.image,), episode.task.id)
