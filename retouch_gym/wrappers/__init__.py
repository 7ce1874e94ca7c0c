"""Wrappers: recording of episodes, frames for videos."""

from retouch_gym.wrappers.frames import FitFrames
from retouch_gym.wrappers.record import RecordEpisode, RecordVectorEpisode

__all__ = ["FitFrames", "RecordEpisode", "RecordVectorEpisode"]
