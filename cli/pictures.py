"""Reads a user's images as a classifier wants them: 28 x 28 grey levels, light ink on dark ground."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_numba.cli.reporting import warn
from lstm_numba.errors import DataError, UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

#: Side of an image in pixels.
SIDE = 28
#: A border lighter than this means dark ink on light ground.
_LIGHT = 127
_GZIP = b"\x1f\x8b"
_IDX = b"\x00\x00"


def read_images(name: str, indices: Sequence[int], invert: bool | None) -> list[tuple[str, Pixels]]:
    """Read what the user calls an image.

    Parameters
    ----------
    name : str
        A picture's file, an IDX file, or ``FILE:INDEX``.
    indices : sequence of int
        Images to take of an IDX file, counted from 0.
    invert : bool or None
        Swap black and white; None: if the border is light. Pictures only.

    Returns
    -------
    list of (str, ndarray)
        Name and pixels, uint8 of shape (28, 28), 0 is background.

    Raises
    ------
    DataError
        If the file is missing, damaged, or no picture, or holds fewer images.
    """
    path = Path(name)
    numbered = re.fullmatch(r"(.+):(\d+)", name)
    if not path.exists() and numbered:
        path, indices = Path(numbered[1]), [int(numbered[2])]
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")
    with path.open("rb") as file:
        start = file.read(2)
    if start in (_GZIP, _IDX):
        return _from_idx(path, indices)
    if numbered and str(path) != name:
        raise DataError(f"{path}: not an IDX file, so it has no image number {indices[0]}")
    return [(name, _picture(path, invert))]


def _from_idx(path: Path, indices: Sequence[int]) -> list[tuple[str, Pixels]]:
    from lstm_numba.data.mnist import read_idx

    images = read_idx(path)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{path}: expected images of {SIDE} x {SIDE} pixels, got an array of shape {images.shape}"
        )
    if not indices:
        raise DataError(f"{path}: say which of its {len(images)} images: {path}:INDEX or --index INDEX")
    for index in indices:
        if index >= len(images):
            raise DataError(f"{path}: no image {index}, it holds {len(images)} (0 to {len(images) - 1})")
    return [(f"{path}:{index}", images[index]) for index in indices]


def _picture(path: Path, invert: bool | None) -> Pixels:
    """Read a picture, make it grey, square, 28 x 28 and light on dark; say what was changed."""
    import numpy as np

    grey = _grey(path)
    pixels = np.asarray(grey, np.uint8)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    changes = []
    if grey.size != (SIDE, SIDE):
        changes.append(f"scaled from {grey.width} x {grey.height} to {SIDE} x {SIDE}")
        grey = _fit(grey, int(np.median(border)))
        pixels = np.asarray(grey, np.uint8)
    if invert is None and float(np.median(border)) > _LIGHT:
        changes.append("inverted, for its border is light (--no-invert keeps it)")
        invert = True
    if changes:
        warn(f"{path}: {', '.join(changes)}")
    return 255 - pixels if invert else pixels.copy()


def _grey(path: Path) -> Any:
    """Open a picture with Pillow as 8-bit grey; transparent parts count as white."""
    try:
        from PIL import Image
    except ImportError:
        raise UserError("reading pictures needs Pillow: pip install 'lstm_numba[images]'") from None
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith("I"):  # 16 bits a pixel: keep the upper eight
                return picture.point(lambda value: value / 256).convert("L")
            if "A" in picture.mode or "transparency" in picture.info:
                layer = picture.convert("RGBA")
                ground = Image.new("RGBA", layer.size, "white")
                return Image.alpha_composite(ground, layer).convert("L")
            return picture.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        fault = getattr(error, "strerror", None) or "no picture that Pillow can read, or a damaged one"
        raise DataError(f"{path}: {fault}") from None


def _fit(grey: Any, ground: int) -> Any:
    """Put a picture on a square of its background's grey level and scale that to 28 x 28."""
    from PIL import Image

    side = max(grey.size)
    square = Image.new("L", (side, side), ground)
    square.paste(grey, ((side - grey.width) // 2, (side - grey.height) // 2))
    return square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
