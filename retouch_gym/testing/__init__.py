"""Public checkers and stand-ins for whoever adds a tool, a reward, a renderer or a dataset."""

from retouch_gym.testing.doubles import BrokenPhoto, NoisePhoto, TinyDataset, TinyRenderer, make_episode

__all__ = ["BrokenPhoto", "NoisePhoto", "TinyDataset", "TinyRenderer", "make_episode"]
