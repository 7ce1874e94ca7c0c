"""The toolset ``lightroom`` on batched tensors: on the CPU or a GPU, and differentiable.

`TorchRenderer` is a renderer like any other. `render_tensor` is what it is made of, for those who fit parameters by
gradient or put a retouching step into a network. It is imported only on demand: the rest of the package knows no
PyTorch.
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("torch") is None:
    raise ModuleNotFoundError("The renderer 'torch' needs PyTorch; install it: pip install 'torch>=2.6'", name="torch")

from retouch_gym.renderers.torch.pipeline import Local, render_tensor
from retouch_gym.renderers.torch.renderer import TorchRenderer

__all__ = ["Local", "TorchRenderer", "render_tensor"]
