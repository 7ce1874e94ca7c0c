"""Wrappers: recording of episodes."""

from retouch_gym.wrappers.record import RecordEpisode, RecordVectorEpisode

__all__ = ["RecordEpisode", "RecordVectorEpisode"]
