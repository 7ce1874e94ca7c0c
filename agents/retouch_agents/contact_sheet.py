"""Edits side by side, for people: rows of photos with what was asked for and what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from retouch_gym.images import resize
from retouch_gym.types import Image


@dataclass(frozen=True)
class Example:
    """One row of the contact sheet: captioned photos, and the text beside them."""

    title: str
    photos: Sequence[tuple[str, Image]]
    notes: Sequence[str]


def contact_sheet(examples: Sequence[Example], path: Path, cell: int = 160) -> None:
    """Draw the examples as rows of photos with their instruction and the calls made, into a PNG.

    Args:
        examples: Rows, each with the same number of photos.
        path: File to write.
        cell: Side of a photo in the sheet, in pixels; small photos are enlarged without smoothing.
    """
    font = PIL.ImageFont.load_default(13)
    gap, header, text_width = 8, 18, 620
    columns = len(examples[0].photos)
    height = header + cell + gap
    sheet = PIL.Image.new("RGB", (gap + columns * (cell + gap) + text_width, gap + len(examples) * height), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    for row, example in enumerate(examples):
        top = gap + row * height
        for column, (caption, photo) in enumerate(example.photos):
            left = gap + column * (cell + gap)
            draw.text((left, top), caption, fill="black", font=font)
            sheet.paste(PIL.Image.fromarray(_enlarge(photo, cell)), (left, top + header))
        lines = [line for note in (example.title, *example.notes) for line in wrap(note, 92)]
        draw.text((gap + columns * (cell + gap), top + header), "\n".join(lines), fill="black", font=font)
    sheet.save(path)


def _enlarge(photo: Image, side: int) -> Image:
    times = max(1, side // max(photo.shape[:2]))
    return resize(photo.repeat(times, axis=0).repeat(times, axis=1), side, side)
