"""Wrappers: recording of episodes."""
