"""Recipes for the user's own software, and back: Lightroom's XMP, 3-D LUTs."""

from retouch_gym.export.cube import CubeError, Lut, cube_error, export_cube, read_cube, to_cube
from retouch_gym.export.report import Exported, Imported
from retouch_gym.export.xmp import export_xmp, from_xmp, import_xmp, to_xmp

__all__ = [
    "CubeError",
    "Exported",
    "Imported",
    "Lut",
    "cube_error",
    "export_cube",
    "export_xmp",
    "from_xmp",
    "import_xmp",
    "read_cube",
    "to_cube",
    "to_xmp",
]
