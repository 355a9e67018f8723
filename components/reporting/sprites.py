"""Many small images in one PNG: ink as opacity, so that one file serves a light and a dark page."""

import io

import numpy as np

from components.reporting.figures import Array, mosaic

LEVELS = 16
"""Steps of opacity: four bits per pixel."""


def sprite(images: Array) -> bytes:
    """Return images [R, C, SIDE, SIDE] with ink from 0 to 1 side by side, without gaps, as a palette PNG.

    Values outside the range are clipped; values that are not numbers are empty.
    """
    from PIL import Image

    sheet = np.nan_to_num(mosaic(np.asarray(images, np.float32), gap=0), nan=0.0, posinf=1.0, neginf=0.0)
    picture = Image.fromarray((np.clip(sheet, 0, 1) * (LEVELS - 1)).round().astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0] * LEVELS)
    opacity = bytes(round(255 * level / (LEVELS - 1)) for level in range(LEVELS))
    file = io.BytesIO()
    picture.save(file, "PNG", bits=4, transparency=opacity, optimize=True)
    return file.getvalue()


def grid(images: Array, columns: int) -> Array:
    """Return images [N, SIDE, SIDE] as [rows, columns, SIDE, SIDE], the last row filled with empty ones."""
    rows = -(-len(images) // columns)
    filled = np.zeros([rows * columns, *images.shape[1:]], np.float32)
    filled[: len(images)] = images
    return filled.reshape(rows, columns, *images.shape[1:])
