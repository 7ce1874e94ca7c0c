"""Frames of one size, for videos that go on over several episodes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from retouch_gym.errors import ConfigurationError
from retouch_gym.images import is_image, resize
from retouch_gym.types import Image


class FitFrames(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Renders every picture onto a canvas of one size.

    Photos differ in size from task to task, and so do the pictures of ``render_mode="rgb_array"``. Within an episode
    they do not, so that Gymnasium's `RecordVideo` needs this only for a video that spans episodes
    (``video_length`` or ``step_trigger``): ``RecordVideo(FitFrames(env, 640, 240), "videos", video_length=1000)``.

    Args:
        env: An environment whose `render` gives pictures.
        width: Width of the canvas in pixels, even, as video encoders want it.
        height: Height of the canvas in pixels, even.

    Raises:
        ConfigurationError: If a side is not an even number of at least 2.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], width: int, height: int) -> None:
        RecordConstructorArgs.__init__(self, width=width, height=height)
        gymnasium.Wrapper.__init__(self, env)
        for name, side in (("width", width), ("height", height)):
            if not isinstance(side, int) or side < 2 or side % 2:
                raise ConfigurationError(f"{name} is {side!r}; expected an even number of pixels of at least 2.")
        self.width = width
        self.height = height

    def render(self) -> Any:
        """The picture in the middle of a black canvas, shrunk if it is larger.

        Returns:
            uint8 (height, width, 3); what is no picture (text, None) as it is.
        """
        frame: Any = self.env.render()
        return self._fit(frame) if is_image(frame) else frame

    def _fit(self, frame: Image) -> Image:
        rows, columns = frame.shape[:2]
        scale = min(1.0, self.height / rows, self.width / columns)
        small = resize(frame, max(1, int(columns * scale)), max(1, int(rows * scale)))
        canvas = np.zeros((self.height, self.width, 3), np.uint8)
        top, left = (self.height - small.shape[0]) // 2, (self.width - small.shape[1]) // 2
        canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
        return canvas
