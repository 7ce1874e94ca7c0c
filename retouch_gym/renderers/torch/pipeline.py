"""The stages in order, as a differentiable function of photos and controls.

It computes what `retouch_gym.renderers.lightroom.reference` says, stage by stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from retouch_gym.adjustments.local import Crop
from retouch_gym.errors import ImageError, RendererError
from retouch_gym.renderers.lightroom.settings import CALIBRATION, GRADING, LUMA_DETAIL, RECOLOR, TONE, WHITE_BALANCE
from retouch_gym.renderers.torch import color, detail, effects, tone
from retouch_gym.renderers.torch.controls import Controls
from retouch_gym.renderers.torch.geometry import crop_and_straighten
from retouch_gym.tools.lightroom_controls import CURVES

_NOTHING: Mapping[str, Sequence[Tensor]] = MappingProxyType({})
_LINEAR = ("dehaze", *CALIBRATION, "exposure", *WHITE_BALANCE)


@dataclass(frozen=True, eq=False)
class Local:
    """A local adjustment of every photo of a batch.

    Args:
        mask: How much it acts where, 0..1, of shape (B, 1, H, W): `retouch_gym.renderers.lightroom.masks.mask_of`,
            or any other.
        controls: Control name to values, shape (B,) or ().
    """

    mask: Tensor
    controls: Mapping[str, Tensor] = field(default_factory=dict)


def render_tensor(
    photos: Tensor,
    controls: Mapping[str, Tensor],
    *,
    curves: Mapping[str, Sequence[Tensor]] = _NOTHING,
    locals_: Sequence[Local] = (),
    crop: Crop | None = None,
    seeds: Sequence[int] | int = 0,
) -> Tensor:
    """Render a batch of photos, each with its own values of the controls.

    Differentiable in the photos, in every control, in the controls and masks of local adjustments and in the outputs
    of curve points. Where a formula has a corner (a sign of a slider, a clip, a hue between two bands) the gradient
    is that of one side. A clipped pixel has none. Not differentiable: the seed of the grain, the crop, and the steps
    at which ``sharpening_radius`` and ``grain_size`` need one more pixel of a Gaussian (between them they have a
    gradient). Masks by `mask_of` are constants: that a luminance or colour range follows the photo, or a gradient its
    places, has no gradient. ``black_and_white`` is a switch, but takes what lies between 0 and 1.

    What is given goes through its stage even at its default, so that fits can begin there; what is not given is left
    out. Ranges are not checked: keep what you fit within those of `retouch_gym.tools.lightroom_controls`, with
    `torch.clamp` or a sigmoid.

    Args:
        photos: Floats (B, 3, H, W), R, G, B of sRGB, encoded, 0..1. They set dtype and device of the result.
        controls: Global control name to values in the control's own unit, shape (B,) or () for all photos alike.
        curves: By name (``curve``, ``curve_red``, …), for each photo a tensor (N, 2) of inputs, which rise, and
            outputs, 0..1.
        locals_: Local adjustments in their order. They act on the photo before the crop.
        crop: What is kept of every photo.
        seeds: Seed of the grain, one for all photos or one for each.

    Returns:
        (B, 3, h, w), encoded, 0..1, where h and w are what the crop leaves.

    Raises:
        ImageError: If `photos` is not such a tensor.
        RendererError: If a control or curve is unknown, or something is not there once per photo.
    """
    if photos.ndim != 4 or photos.shape[1] != 3 or not photos.numel() or not photos.is_floating_point():
        raise ImageError(
            f"photos is {photos.dtype} {tuple(photos.shape)}; expected floats (B, 3, H, W) in 0..1: divide by 255."
        )
    for name in curves:
        if name not in CURVES:
            raise RendererError(f"Unknown curve {name!r}; toolset 'lightroom' has {', '.join(CURVES)}.")
    seeds = [seeds] * len(photos) if isinstance(seeds, int) else seeds
    if len(seeds) != len(photos):
        raise RendererError(f"Got {len(seeds)} seeds for {len(photos)} photos; pass one, or one per photo.")
    values = Controls(controls, photos)
    e = develop(photos, values, curves)
    for local in locals_:
        if local.mask.shape not in ((n, 1, *photos.shape[2:]) for n in (1, len(photos))):
            raise RendererError(
                f"A mask has shape {tuple(local.mask.shape)}; expected {(len(photos), 1, *photos.shape[2:])}."
            )
        e = e + local.mask.to(e) * (develop(e, Controls(local.controls, photos), _NOTHING) - e)
    if crop is not None:
        e = crop_and_straighten(e, crop)
    if values.has("vignette_amount"):
        e = effects.apply_vignette(e, values)
    if values.has("grain_amount"):
        e = effects.apply_grain(e, values, seeds).clamp(0, 1)
    return e


def develop(encoded: Tensor, controls: Controls, curves: Mapping[str, Sequence[Tensor]]) -> Tensor:
    """All controls but vignette and grain. Encoded 0..1 (B, 3, H, W) in and out."""
    e = apply_tones(encoded, controls, curves)
    if controls.has("noise_color"):
        quiet = detail.reduce_color_noise(e, controls["noise_color"] / 100)
        e = torch.where(controls.changes(["noise_color"]), quiet, e)
    if controls.has(*LUMA_DETAIL):
        e = e + detail.luma_detail(tone.luma(e), controls)
    e = e.clamp(0, 1)
    if controls.has(*RECOLOR):
        e = torch.where(controls.changes(RECOLOR), color.recolor(e, controls).clamp(0, 1), e)
    if controls.has(*GRADING):
        e = (e + color.grading_offsets(tone.luma(e), controls)).clamp(0, 1)
    return e


def apply_tones(encoded: Tensor, controls: Controls, curves: Mapping[str, Sequence[Tensor]]) -> Tensor:
    """Linear light (dehaze, calibration, white balance and exposure), encoded again, then the tone curves."""
    e = encoded
    if controls.has(*_LINEAR):
        linear = tone.decode(e)
        if controls.has("dehaze"):
            linear = detail.dehaze(linear, detail.haze_veil(e), controls["dehaze"] / 100)
        if controls.has(*CALIBRATION):
            linear = torch.where(controls.changes(CALIBRATION), color.calibrate(linear, controls), linear)
        e = torch.where(controls.changes(_LINEAR), tone.encode((linear * tone.channel_gains(controls)).clamp(min=0)), e)
    return tone.tone_curves(e, controls, curves) if controls.has(*_LINEAR, *TONE) or curves else e
