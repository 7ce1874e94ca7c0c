"""Recipes for the user's own software, and back: Lightroom's XMP, RawTherapee's pp3, 3-D LUTs."""

from retouch_gym.export.cube import CubeError, Lut, cube_error, export_cube, read_cube, to_cube
from retouch_gym.export.pp3 import export_pp3, from_pp3, import_pp3, to_pp3
from retouch_gym.export.report import Exported, Imported
from retouch_gym.export.xmp import export_xmp, from_xmp, import_xmp, to_xmp

__all__ = [
    "CubeError",
    "Exported",
    "Imported",
    "Lut",
    "cube_error",
    "export_cube",
    "export_pp3",
    "export_xmp",
    "from_pp3",
    "from_xmp",
    "import_pp3",
    "import_xmp",
    "read_cube",
    "to_cube",
    "to_pp3",
    "to_xmp",
]
