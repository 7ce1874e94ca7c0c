"""Recipes of the toolset ``lightroom`` as darktable's edit files (``.xmp``).

A history entry holds the parameters of a module as the bytes of a C structure. Their layout and versions are those that
the modules of darktable 4.2 tell of themselves (their introspection); newer releases convert older versions.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.engines.support import SupportTable, approximate, exact, support_table
from retouch_gym.renderers.lightroom.settings import settings_of, with_defaults
from retouch_gym.renderers.lightroom.tone import channel_gains

DARKTABLE: SupportTable = support_table(
    exposure=exact("exposure, exposure"),
    temperature=exact("color calibration, channel mixer: the gains as a matrix of the working space"),
    tint=exact("color calibration, channel mixer: the gains as a matrix of the working space"),
    saturation=approximate("color balance rgb, global chroma: perceptual, in linear light"),
    vibrance=approximate("color balance rgb, global vibrance"),
    crop=exact("cut by retouch-gym from the program's result"),
    straighten=approximate("turned by retouch-gym, from the program's 8-bit result"),
)
"""How darktable renders each part of a recipe."""

ORDER = 3
"""Version of the order of modules; with others (2, 4) exposure acts on the encoded values of PNG and JPEG files."""

CHROMA, VIBRANCE = 0.01, 0.007
"""Units of the module per unit of saturation and vibrance; fitted on six photographs."""

# Linear sRGB and linear Rec. 2020, darktable's working space, to XYZ (D65); of ITU-R BT.709 and BT.2020.
_SRGB = np.array(
    [
        [0.4123908, 0.3575843, 0.1804808],
        [0.2126390, 0.7151687, 0.0721923],
        [0.0193308, 0.1191948, 0.9505322],
    ]
)
_REC2020 = np.array(
    [
        [0.6369580, 0.1446169, 0.1688810],
        [0.2627002, 0.6779981, 0.0593017],
        [0.0000000, 0.0280727, 1.0609851],
    ]
)
_TO_WORKING = np.linalg.inv(_REC2020) @ _SRGB

# Of color balance rgb, in the structure's order: weights and fulcrums at their defaults, everything else 0.
_BALANCE_FLOATS = 32
_BALANCE_DEFAULTS = {12: 1.0, 14: 1.0, 28: 0.1845, 30: 0.1845}
_CHROMA_GLOBAL, _VIBRANCE = 17, 29

_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '  <rdf:Description rdf:about="" xmlns:darktable="http://darktable.sf.net/"\n'
    '    darktable:xmp_version="5" darktable:raw_params="0" darktable:auto_presets_applied="1"\n'
    '    darktable:history_end="{count}" darktable:iop_order_version="{order}">\n'
    "   <darktable:masks_history><rdf:Seq/></darktable:masks_history>\n"
    "   <darktable:history>\n    <rdf:Seq>\n"
)
_ENTRY = (
    '     <rdf:li darktable:num="{number}" darktable:operation="{name}" darktable:enabled="1"\n'
    '       darktable:modversion="{version}" darktable:params="{params}"\n'
    '       darktable:multi_name="" darktable:multi_priority="0"/>\n'
)
_FOOT = "    </rdf:Seq>\n   </darktable:history>\n  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n"


@dataclass(frozen=True)
class Module:
    """One entry of a history.

    Args:
        name: Name of the operation.
        version: Version of its parameters.
        params: The parameters, as the bytes of its structure.
    """

    name: str
    version: int
    params: bytes


def write_darktable_xmp(modules: Sequence[Module]) -> str:
    """The edit file for a history."""
    entries = (
        _ENTRY.format(number=number, name=module.name, version=module.version, params=module.params.hex())
        for number, module in enumerate(modules)
    )
    return _HEAD.format(count=len(modules), order=ORDER) + "".join(entries) + _FOOT


def modules_of(recipe: Recipe) -> list[Module]:
    """The history of a recipe's supported controls.

    Raises:
        RendererError: If the recipe is of another toolset, or a value is out of range.
    """
    settings_of(recipe)
    modules: list[Module] = []
    if recipe["exposure"]:
        # Manual mode, black 0, the exposure; then parameters of the automatic mode, and no bias of the camera's.
        modules.append(Module("exposure", 6, struct.pack("<iffffi", 0, 0.0, recipe["exposure"], 50.0, -4.0, 0)))
    if recipe["temperature"] or recipe["tint"]:
        modules.append(_white_balance(recipe))
    if recipe["saturation"] or recipe["vibrance"]:
        modules.append(_balance(recipe["saturation"], recipe["vibrance"]))
    return modules


def _white_balance(recipe: Recipe) -> Module:
    """Gains of linear sRGB as a matrix of linear Rec. 2020; no adaptation, compression or clipping joins in."""
    gains = channel_gains(with_defaults({name: recipe[name] for name in ("temperature", "tint")}))
    matrix = _TO_WORKING @ np.diag(gains) @ np.linalg.inv(_TO_WORKING)
    rows = [float(value) for row in matrix for value in (*row, 0.0)]
    others = [0.0] * 12  # saturation, lightness and grey mixes
    rgb_adaptation, newest = 4, 2
    params = struct.pack(
        "<24f6i4i4f2i", *rows, *others, *[0] * 6, 0, 0, 0, rgb_adaptation, 0.3127, 0.3290, 6504.0, 0.0, 0, newest
    )
    return Module("channelmixerrgb", 3, params)


def _balance(saturation: float, vibrance: float) -> Module:
    values = [_BALANCE_DEFAULTS.get(index, 0.0) for index in range(_BALANCE_FLOATS)]
    values[_CHROMA_GLOBAL] = min(max(CHROMA * saturation, -1.0), 1.0)
    values[_VIBRANCE] = VIBRANCE * vibrance
    uniform_color_space = 1
    return Module("colorbalancergb", 5, struct.pack("<32fi", *values, uniform_color_space))
