"""Everything that looks at the three channels of one pixel, on tensors: see `retouch_gym.renderers.lightroom.color`.

Colours are (B, 3, H, W), controls (B, 1, 1, 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from retouch_gym.renderers.lightroom.color import (
    BAND_CENTERS,
    GRADING_LUMINANCE,
    GRADING_STRENGTH,
    HUE_RANGE,
    PRIMARY_MIX,
    PRIMARY_SATURATION,
    SHADOW_TINT,
    SKIN,
    VIBRANCE,
)
from retouch_gym.renderers.torch.controls import Controls
from retouch_gym.renderers.torch.tone import channels, luma
from retouch_gym.tools.lightroom_controls import COLORS, ZONES


def calibrate(linear: Tensor, controls: Controls) -> Tensor:
    """Linear light with other primaries: the product of `calibration_matrix` and each colour."""
    columns = calibration_matrix(controls).unbind(dim=2)
    red, green, blue = (
        column.view(-1, 3, 1, 1) * channel for column, channel in zip(columns, channels(linear), strict=True)
    )
    return red + green + blue


def calibration_matrix(controls: Controls) -> Tensor:
    """The matrices that move the primaries and keep white: (B, 3, 3)."""
    unit = torch.eye(3, dtype=controls["exposure"].dtype, device=controls["exposure"].device)
    columns = []
    for p, name in enumerate(("red", "green", "blue")):
        hue, saturation = (controls[f"calibration_{name}_{what}"].flatten(1) / 100 for what in ("hue", "saturation"))
        # `clamp`, unlike `relu`, has a gradient at 0, where fits begin.
        column = unit[p] + PRIMARY_MIX * (
            hue.clamp(min=0) * unit[(p + 1) % 3] + (-hue).clamp(min=0) * unit[(p + 2) % 3]
        )
        grey = luma(column)
        columns.append(grey + (1 + PRIMARY_SATURATION * saturation) * (column - grey))
    matrix = torch.stack(columns, dim=2)
    return matrix / matrix.sum(dim=2, keepdim=True)


def hue_of(rgb: Tensor) -> Tensor:
    """HSV hue in degrees, 0..360; 0 for greys: (B, 1, H, W)."""
    r, g, b = channels(rgb)
    top = rgb.amax(dim=1, keepdim=True)
    chroma = top - rgb.amin(dim=1, keepdim=True)
    d = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sextant = torch.where(top == r, (g - b) / d, torch.where(top == g, 2 + (b - r) / d, 4 + (r - g) / d))
    return torch.remainder(60 * sextant, 360)


class Bands:
    """Mixes sliders of the eight colour bands by a hue.

    Args:
        hue: Degrees, (B, 1, H, W).
    """

    def __init__(self, hue: Tensor) -> None:
        centers = torch.tensor((*BAND_CENTERS, 360.0), dtype=hue.dtype, device=hue.device)
        k = torch.bucketize(hue.detach(), centers[1:-1], right=True)
        t = (hue - centers[k]) / (centers[k + 1] - centers[k])
        self._share = t * t * (3 - 2 * t)
        self._index = k.flatten(1)

    def mix(self, controls: Controls, pattern: str) -> Tensor:
        """The mixed sliders over 100: (B, 1, H, W), or one 0 per photo if none is given."""
        names = [pattern.format(color) for color in COLORS]
        if not controls.has(*names):
            return torch.zeros_like(controls[names[0]])
        sliders = torch.cat([controls[name] for name in names], dim=1).flatten(1) / 100
        first = sliders.gather(1, self._index).view_as(self._share)
        second = sliders.roll(-1, dims=1).gather(1, self._index).view_as(self._share)
        return first + self._share * (second - first)


def skin_share(hue: Tensor) -> Tensor:
    """How much a hue is one of skin: 0..1."""
    t = (1 - (hue - SKIN).abs() / SKIN).clamp(min=0)
    return t * t * (3 - 2 * t)


def recolor(rgb: Tensor, controls: Controls) -> Tensor:
    """Colour bands, vibrance, saturation, black and white; not clipped."""
    chroma = rgb.amax(dim=1, keepdim=True) - rgb.amin(dim=1, keepdim=True)
    hue = hue_of(rgb)
    bands, grey = Bands(hue), controls["black_and_white"]
    factor = (1 - grey) * (1 + bands.mix(controls, "hsl_{}_saturation"))
    lift = 0.5 * ((1 - grey) * bands.mix(controls, "hsl_{}_luminance") + grey * bands.mix(controls, "bw_{}"))
    factor = factor * (1 + controls["saturation"] / 100)
    if controls.has("vibrance"):
        muted = (1 - chroma) ** 2 * (1 - skin_share(hue) / 2)
        factor = factor * (1 + VIBRANCE / 100 * controls["vibrance"] * muted)
    angle = math.radians(HUE_RANGE) * bands.mix(controls, "hsl_{}_hue")
    turned = (rgb.roll(1, dims=1) - rgb.roll(-1, dims=1)) / math.sqrt(3)  # (b − g, r − b, g − r)
    r, g, b = channels(rgb)
    d = rgb - (r + g + b) / 3
    d = factor * (torch.cos(angle) * d + torch.sin(angle) * turned)
    return d + (luma(rgb) + lift * chroma - luma(d))


def pure_tint(hue: Tensor) -> Tensor:
    """The colours of hues (B, 1, 1, 1), degrees, with full saturation, less their luma: (B, 3, 1, 1)."""
    offsets = torch.tensor([0.0, 4.0, 2.0], dtype=hue.dtype, device=hue.device).view(1, 3, 1, 1)
    pure = (torch.abs(torch.remainder(hue / 60 + offsets, 6) - 3) - 1).clamp(0, 1)
    return pure - luma(pure)


def grading_offsets(y: Tensor, controls: Controls) -> Tensor:
    """What colour grading and the shadow tint add to R, G and B of a luma in 0..1 (B, 1, H, W): (B, 3, H, W)."""
    offset = torch.zeros_like(y)
    for name, weight in zip(ZONES, zone_weights(y, controls), strict=True):
        zone = (
            GRADING_STRENGTH / 100 * controls[f"grading_{name}_saturation"] * pure_tint(controls[f"grading_{name}_hue"])
            + GRADING_LUMINANCE / 100 * controls[f"grading_{name}_luminance"]
        )
        if name == "shadows":
            tint = pure_tint(torch.full_like(controls["calibration_shadow_tint"], 300.0))
            zone = zone + SHADOW_TINT / 100 * controls["calibration_shadow_tint"] * tint
        offset = offset + weight * zone
    return (1 - (2 * y - 1) ** 4) * offset


def zone_weights(y: Tensor, controls: Controls) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How much of shadows, midtones, highlights and all has a luma in 0..1, each (B, 1, H, W)."""
    balance, blending = controls["grading_balance"] / 100, controls["grading_blending"] / 100
    x = y + 0.8 * balance * y * (1 - y)
    k = 1 + torch.exp2(2 - 2 * blending)
    # White may be 1 + 10⁻⁷ after rounding, and powers of negative numbers are no numbers.
    low, high = (1 - x).clamp(min=0) ** k, x.clamp(min=0) ** k
    return low, 1 - low - high, high, torch.ones_like(x)
