"""Recipes for the user's own software, and back: Lightroom's XMP, 3-D LUTs."""

from retouch_gym.export.report import Exported, Imported
from retouch_gym.export.xmp import export_xmp, from_xmp, import_xmp, to_xmp

__all__ = ["Exported", "Imported", "export_xmp", "from_xmp", "import_xmp", "to_xmp"]
