"""Reading, checking, resizing and writing photos without loss, in sRGB whatever the file's colour profile."""

from retouch_gym.images.arrays import DeepImage, check_image, fit, is_image, resize, to_8_bits
from retouch_gym.images.files import PHOTO_SUFFIXES, PhotoData, load_image, read_photo, save_image
from retouch_gym.images.photos import PhotoFile, Pixels, Remembered
from retouch_gym.images.profiles import srgb_profile
from retouch_gym.images.raw import RAW_SUFFIXES

__all__ = [
    "PHOTO_SUFFIXES",
    "RAW_SUFFIXES",
    "DeepImage",
    "PhotoData",
    "PhotoFile",
    "Pixels",
    "Remembered",
    "check_image",
    "fit",
    "is_image",
    "load_image",
    "read_photo",
    "resize",
    "save_image",
    "srgb_profile",
    "to_8_bits",
]
