"""The renderer "torch": agreement with the specification and with `native`, gradients, fits, batches, refusals."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import pytest

from retouch_gym import Recipe
from retouch_gym.adjustments.local import Brush, Crop, LocalAdjustment, LuminanceRange, MaskPart, RadialGradient
from retouch_gym.errors import ImageError, RendererError
from retouch_gym.renderers import get_renderer
from retouch_gym.renderers.lightroom.reference import render_reference
from retouch_gym.testing import check_renderer
from retouch_gym.tools import lightroom_controls as panels
from retouch_gym.tools.lightroom_controls import CONTROLS, CURVES
from retouch_gym.types import Image

pytest.importorskip("torch")

import torch

from retouch_gym.renderers.torch import Local, TorchRenderer, render_tensor

RENDERER = TorchRenderer()
NATIVE = get_renderer("native")
DEFAULTS = {control.name: control.default for control in CONTROLS}
# What a control needs beside it to change anything, by the beginning of its name.
COMPANIONS: Mapping[str, Mapping[str, float]] = {
    "grading": {
        "grading_shadows_saturation": 60,
        "grading_midtones_saturation": 40,
        "grading_highlights_saturation": 50,
    }
    | {"grading_global_saturation": 20, "grading_midtones_hue": 100, "grading_highlights_hue": 200},
    "sharpening": {"sharpening_amount": 100},
    "vignette": {"vignette_amount": -70},
    "grain": {"grain_amount": 60},
    "bw": {"black_and_white": 1},
}
S_CURVE = ((0.0, 0.05), (0.3, 0.2), (0.7, 0.85), (1.0, 0.95))


def photo(height: int, width: int, seed: int = 0) -> Image:
    """Soft colours with some noise."""
    rng = np.random.default_rng(seed)
    soft = cv2.resize(rng.uniform(0, 255, (4, 5, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(soft.reshape(height, width, 3) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def with_companions(name: str, value: float) -> dict[str, float]:
    return {**COMPANIONS.get(name.partition("_")[0], {}), name: value}


def draw(seed: int) -> Recipe:
    """A recipe of up to 20 controls, and sometimes curves, a crop and local adjustments."""
    rng = np.random.default_rng(seed)
    chosen = [CONTROLS[i] for i in rng.permutation(len(CONTROLS))[: 1 + seed % 20]]
    values = {c.name: float(rng.triangular(c.low, c.default, c.high)) for c in chosen}
    controls = {c.name: round(values[c.name]) if c.integer else values[c.name] for c in chosen}
    curves = {name: tuple(zip((0, 0.4, 1), np.sort(rng.random(3)), strict=True)) for name in rng.choice(CURVES, 1)}
    crop = Crop(left=0.1, top=rng.random() / 2, right=0.8, bottom=1.0, angle=float(rng.choice([0, -7.5, 3])))
    parts = (
        MaskPart(shape=RadialGradient(x=rng.random(), y=rng.random(), radius_x=0.3, radius_y=0.5, angle=20)),
        MaskPart(shape=LuminanceRange(low=0.3, high=0.6), op="subtract"),
        MaskPart(shape=Brush(points=((0.1, 0.2), (0.8, 0.9)), radius=0.1), invert=bool(rng.integers(2))),
    )
    local = {"exposure": 0.8, "clarity": 40, "temperature": -30, "saturation": 20, "noise_color": 50}
    locals_ = [
        LocalAdjustment(name=f"mask {i}", parts=parts[: i + 1], controls=local, amount=0.8)
        for i in range(int(rng.integers(1, 4)))
    ]
    return Recipe(
        "lightroom",
        controls,
        seed,
        curves if seed % 4 == 0 else {},
        crop if seed % 5 == 0 else None,
        tuple(locals_) if seed % 3 == 0 else (),
    )


def distance(a: Image, b: Image) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


def encoded(image: Image, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].to(dtype) / 255


def test_keeps_the_contract_of_a_renderer() -> None:
    check_renderer("torch", "lightroom", agrees_with="native", max_delta_e=0.2)
    assert isinstance(get_renderer("torch"), TorchRenderer)
    assert RENDERER.render([], []) == []
    copy = pickle.loads(pickle.dumps(TorchRenderer("cpu", torch.float64, stack_bytes=7)))
    assert (copy.device, copy.dtype, copy.stack_bytes) == (torch.device("cpu"), torch.float64, 7)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_every_control_agrees_with_the_specification_and_with_native(control: panels.Control) -> None:
    image = photo(37, 50, 1)
    for share in (0, 0.3, 1):
        value = control.low + share * (control.high - control.low)
        value = round(value) if control.integer else value
        recipe = Recipe("lightroom", with_companions(control.name, value), seed=3)
        rendered = RENDERER.render([image], [recipe])[0]
        assert distance(rendered, render_reference(image, recipe)) <= 1
        assert distance(rendered, NATIVE.render([image], [recipe])[0]) <= 1


def test_random_recipes_agree_with_the_specification_and_with_native() -> None:
    recipes = [draw(seed) for seed in range(200)]
    photos = [photo(30 + seed % 11, 45 - seed % 13, seed) for seed in range(200)]
    rendered = RENDERER.render(photos, recipes)
    for image, recipe, mine, native in zip(photos, recipes, rendered, NATIVE.render(photos, recipes), strict=True):
        assert distance(mine, render_reference(image, recipe)) <= 1, recipe
        assert distance(mine, native) <= 1, recipe


def test_neutral_is_the_identity() -> None:
    image = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
    controls = {control.name: torch.tensor(float(control.default), requires_grad=True) for control in CONTROLS}
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(render_tensor(encoded(image, dtype), {}), encoded(image, dtype))
        through_every_stage = render_tensor(encoded(image, dtype), controls).detach()
        assert np.array_equal(torch.round(255 * through_every_stage[0]).permute(1, 2, 0).numpy(), image)
    empty = RENDERER.render([image], [Recipe("lightroom")])[0]
    assert np.array_equal(empty, image)
    assert not np.shares_memory(empty, image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (700, 1), (2, 3)])
def test_extreme_photos_stay_in_range(shape: tuple[int, int]) -> None:
    everything = {c.name: c.high for c in CONTROLS}
    for color, end in product(((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 40, 255)), (everything, DEFAULTS)):
        image = np.full((*shape, 3), color, np.uint8)
        controls = {name: torch.tensor(float(value)) for name, value in end.items()}
        rendered = render_tensor(encoded(image, torch.float32), controls)
        assert rendered.isfinite().all()
        assert rendered.min() >= 0
        assert rendered.max() <= 1
        recipe = Recipe("lightroom", end)
        assert distance(RENDERER.render([image], [recipe])[0], render_reference(image, recipe)) <= 1


def test_stages_at_a_reduced_size_agree() -> None:
    """Only a photo of 1000 pixels and more has its texture, clarity and haze found at a fraction of its size."""
    image = photo(203, 1103, 5)
    recipe = Recipe(
        "lightroom", {"dehaze": 60, "texture": -80, "clarity": 90, "noise_color": 70, "noise_luminance": 50}
    )
    rendered = RENDERER.render([image], [recipe])[0]
    assert distance(rendered, render_reference(image, recipe)) <= 1
    assert distance(rendered, NATIVE.render([image], [recipe])[0]) <= 1


def test_stacked_photos_come_out_as_they_do_alone() -> None:
    recipes = [draw(seed) for seed in range(40)]
    photos = [photo(24, 32, seed) for seed in range(40)]
    stacked = TorchRenderer(dtype=torch.float64, stack_bytes=1 << 24).render(photos, recipes)
    alone = TorchRenderer(dtype=torch.float64).render(photos, recipes)
    coarse = TorchRenderer(stack_bytes=1 << 24).render(photos, recipes)
    for one, other, third in zip(stacked, alone, coarse, strict=True):
        assert np.array_equal(one, other)
        assert distance(one, third) <= 1


# A small photo without clipped, equal or extreme values, and settings that keep it so: gradients have corners there.
SMALL = torch.tensor(np.random.default_rng(7).uniform(0.3, 0.7, (1, 3, 4, 5)))
PANELS = {
    "basic": panels.BASIC,
    "parametric": panels.PARAMETRIC,
    "hsl": panels.HSL,
    "grading": panels.GRADING,
    "detail": panels.DETAIL,
    "effects": panels.EFFECTS,
    "black_and_white": panels.BLACK_AND_WHITE,
    "calibration": panels.CALIBRATION,
    "everything": CONTROLS,
}


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_of_every_control(panel: str, sign: int) -> None:
    values = {}
    for index, control in enumerate(PANELS[panel]):
        middle = control.default if control.default > control.low else (control.low + control.high) / 4
        values[control.name] = middle + sign * (0.06 + 0.01 * (index % 5)) * (control.high - control.low) / 2
    leaves = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in values.values()]

    def render(*given: torch.Tensor) -> torch.Tensor:
        return render_tensor(SMALL, dict(zip(values, given, strict=True)), seeds=5)

    # All controls together are checked along random directions.
    assert torch.autograd.gradcheck(render, leaves, fast_mode=panel == "everything")
    gradients = torch.autograd.grad(render(*leaves).square().sum(), leaves)
    assert [name for name, gradient in zip(values, gradients, strict=True) if not gradient.abs().sum() > 0] == []


def test_gradients_of_photos_curves_masks_and_local_controls() -> None:
    rng = np.random.default_rng(3)
    points = torch.tensor(S_CURVE, dtype=torch.float64)
    leaves = [
        SMALL.clone(),
        points[:, 1].clone(),
        torch.tensor(rng.uniform(0.2, 0.8, (1, 1, 4, 5))),
        torch.tensor([0.3], dtype=torch.float64),
    ]
    for leaf in leaves:
        leaf.requires_grad_()

    def render(image: torch.Tensor, outputs: torch.Tensor, mask: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        curve = torch.stack([points[:, 0], outputs], dim=1)
        return render_tensor(
            image,
            {"contrast": torch.tensor(20.0)},
            curves={"curve": [curve], "curve_blue": [curve]},
            locals_=[Local(mask, {"exposure": local, "saturation": 40 * local})],
            crop=Crop(left=0.2, right=0.9, top=0.0, bottom=0.8, angle=5),
        )

    assert torch.autograd.gradcheck(render, leaves)


def test_a_fit_can_begin_at_the_defaults() -> None:
    """Gradients at the defaults are finite, on a photo with grey, black and white, and do not vanish."""
    image = encoded(photo(13, 15, 4), torch.float32)
    image[..., :3] = 0.5
    image[..., 3:5] = 0
    image[..., 5:7] = 1
    controls = {c.name: torch.tensor([float(c.default)], requires_grad=True) for c in CONTROLS}
    rendered = render_tensor(image, controls)
    rendered.square().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in controls.values())
    dead = {name for name, value in controls.items() if not value.grad.any()}
    alone = {"exposure", "temperature", "contrast", "highlights", "vibrance", "hsl_red_hue", "clarity", "grain_amount"}
    assert not dead & (alone | {c.name for c in panels.CALIBRATION})


def test_gradient_descent_finds_the_controls_of_a_pair() -> None:
    wanted = {"exposure": 0.6, "temperature": -35.0, "saturation": 25.0}
    before = np.clip(photo(24, 32, 9), 60, 170)
    after = render_reference(before, Recipe("lightroom", wanted))
    scales = {"exposure": 1.0, "temperature": 100.0, "saturation": 100.0}
    shares = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([shares], max_iter=30, line_search_fn="strong_wolfe")

    def found() -> dict[str, torch.Tensor]:
        return {name: scale * share for (name, scale), share in zip(scales.items(), shares, strict=True)}

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        error = (render_tensor(encoded(before, torch.float32), found()) - encoded(after, torch.float32)).square().mean()
        error.backward()
        return error

    optimizer.step(loss)
    for name, value in found().items():
        assert abs(value.item() - wanted[name]) < 0.01 * scales[name]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_renders_the_same() -> None:
    recipes = [draw(seed) for seed in range(40)]
    photos = [photo(24, 32, seed) for seed in range(40)]
    for one, other in zip(TorchRenderer("cuda").render(photos, recipes), RENDERER.render(photos, recipes), strict=True):
        assert distance(one, other) <= 1


def test_without_pytorch_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["torch"] = None
from retouch_gym.errors import ConfigurationError
from retouch_gym.renderers import get_renderer
try:
    get_renderer("torch")
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "needs PyTorch" in done.stdout
    assert "pip install" in done.stdout


def test_refusals_name_what_is_wrong() -> None:
    image = encoded(photo(4, 5))
    with pytest.raises(RendererError, match="Unknown control 'exposur'"):
        render_tensor(image, {"exposur": torch.tensor(1.0)})
    with pytest.raises(RendererError, match=r"exposure has shape \(3,\)"):
        render_tensor(image, {"exposure": torch.ones(3)})
    with pytest.raises(RendererError, match="Unknown curve 'curve_grey'"):
        render_tensor(image, {}, curves={"curve_grey": [torch.tensor(S_CURVE)]})
    with pytest.raises(RendererError, match="one per photo"):
        render_tensor(image, {}, curves={"curve": [torch.tensor(S_CURVE)] * 2})
    with pytest.raises(RendererError, match="2 seeds for 1 photos"):
        render_tensor(image, {}, seeds=[1, 2])
    with pytest.raises(RendererError, match=r"mask has shape \(4, 5\)"):
        render_tensor(image, {}, locals_=[Local(torch.ones(4, 5))])
    with pytest.raises(ImageError, match="divide by 255"):
        render_tensor(image.to(torch.uint8), {})
    with pytest.raises(RendererError, match=r"too coarse"):
        TorchRenderer(dtype=torch.float16)
    with pytest.raises(RendererError, match="exposure = 9"):
        RENDERER.render([photo(4, 5)], [replace(draw(0), controls={"exposure": 9})])
