"""A user's own pictures of digits, brought into MNIST's form."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.data.files import fault, reason
from lstm_numba.data.idx import read_idx
from lstm_numba.data.images import SIDE
from lstm_numba.errors import UserError

#: Formats that are read.
FORMATS = ("PNG", "JPEG", "BMP", "PPM")
#: Pixels that a picture may have at most.
LARGEST_PICTURE = 50_000_000

_BOX = 20  # MNIST's digits fill a box of 20 by 20 pixels
_FAINTEST = 24  # grey levels between ink and paper below which a picture is blank

Array = npt.NDArray[np.float64]


def read_images(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read the images of an IDX file or the digit in a picture.

    Parameters
    ----------
    path : path
        An IDX file of 28 by 28 images, gzipped or not, or a PNG, JPEG, BMP or PPM picture.

    Returns
    -------
    ndarray, uint8, shape (N, 28, 28)
        As they stand in an IDX file; a picture as `read_picture` returns it, N = 1.

    Raises
    ------
    UserError
        What `read_picture` and `lstm_numba.data.idx.read_idx` say, or images of another size.
    """
    start = _first_bytes(path)
    # An IDX file starts with two zero bytes, a gzip file with its magic number; no picture does either.
    if not (start.startswith((b"\0\0", b"\x1f\x8b")) or len(start) < 4):
        return read_picture(path).pixels[None]
    images = read_idx(path)
    if images.ndim == 2:
        images = images[None]
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        shape = " x ".join(map(str, images.shape))
        raise fault(path, f"holds {shape} numbers, expected images: N x {SIDE} x {SIDE}")
    return images


def _first_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        if Path(path).is_dir():
            raise fault(path, "is a folder")
        with Path(path).open("rb") as file:
            return file.read(4)
    except FileNotFoundError:
        raise fault(path, "no such file") from None
    except OSError as error:
        raise fault(path, f"cannot be read: {reason(error)}") from None
    except ValueError as error:  # a NUL byte in the name
        raise fault(path, f"not a file name: {error}") from None


class Picture(NamedTuple):
    """A picture in MNIST's form.

    Attributes
    ----------
    pixels : ndarray, uint8, shape (28, 28)
        Light ink on black.
    changes : tuple of str
        What was done to bring it there, in words.
    """

    pixels: npt.NDArray[np.uint8]
    changes: tuple[str, ...]


def read_picture(path: str | os.PathLike[str], invert: bool | None = None) -> Picture:
    """Read a picture of one digit and bring it into MNIST's form: light ink on black, 28 by 28 pixels.

    Colour becomes grey; transparent parts become paper. Where the border is lighter than middle grey the
    picture is dark ink on light paper and is inverted. A picture of 28 by 28 pixels is otherwise left as it
    is. Any other is brought to MNIST's own convention (LeCun, Cortes and Burges): contrast stretched from
    paper to darkest ink, cropped to the ink, scaled with its aspect ratio kept into a box of 20 by 20, put
    with its centre of mass in the middle of 28 by 28.

    Parameters
    ----------
    path : path
        PNG, JPEG, BMP or PPM file.
    invert : bool, optional
        Swap black and white; by default where the border is light.

    Returns
    -------
    Picture
        Pixels and what was changed.

    Raises
    ------
    DataError
        The file is missing, no picture, damaged, blank, or has more than 50 million pixels.
    UserError
        Pillow is not installed; the text names the extra to install.
    """
    grey = _grey(path)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(border))
    changes = []
    if invert or (invert is None and paper > 127.5):
        grey, paper = 255.0 - grey, 255.0 - paper
        changes.append("inverted" if invert else "inverted, for its border is light")
    if float(grey.max() - grey.min()) < _FAINTEST:
        raise fault(path, "shows nothing: all of it is of nearly the same grey")
    if grey.shape == (SIDE, SIDE):
        return Picture(np.rint(grey).astype(np.uint8), tuple(changes))
    if float(grey.max()) - paper < _FAINTEST:
        raise fault(
            path, "shows no ink that is lighter than its border" + (" once inverted" if changes else "")
        )
    changes.append(
        f"cropped to the digit and scaled from {grey.shape[1]} x {grey.shape[0]} to {SIDE} x {SIDE}"
    )
    return Picture(
        _as_mnist((np.clip(grey, paper, None) - paper) / (float(grey.max()) - paper)), tuple(changes)
    )


def _grey(path: str | os.PathLike[str]) -> Array:
    """Return a picture's grey levels, 0 to 255."""
    _first_bytes(path)  # tells missing files from damaged ones
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UserError("reading pictures needs Pillow: pip install 'lstm_numba[images]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > LARGEST_PICTURE:
                    size = f"{picture.width} x {picture.height}"
                    raise fault(path, f"too large: {size} pixels; at most {LARGEST_PICTURE} are read")
                return _grey_levels(picture)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise fault(path, f"no picture: none of {', '.join(FORMATS)}, and no IDX file") from None
    except Exception as error:  # decoders of damaged files raise all sorts
        raise fault(path, f"damaged picture: {type(error).__name__}: {error}") from None


def _grey_levels(picture: Any) -> Array:
    if picture.mode.startswith("I"):  # 16 bits a pixel
        return np.clip(np.asarray(picture, dtype=np.float64) / 257.0, 0.0, 255.0)
    if "A" not in picture.mode and "transparency" not in picture.info:
        return np.asarray(picture.convert("L"), dtype=np.float64)
    with_alpha = picture.convert("RGBA")
    opaque = np.asarray(with_alpha.getchannel("A"), dtype=np.float64) / 255.0
    ink = np.asarray(with_alpha.convert("RGB").convert("L"), dtype=np.float64)
    # The paper under it is the opposite of what is drawn: white under dark ink, black under light.
    drawn = float((ink * opaque).sum()) / max(float(opaque.sum()), 1e-9)
    return opaque * ink + (1.0 - opaque) * (0.0 if drawn > 127.5 else 255.0)


def _as_mnist(ink: Array) -> npt.NDArray[np.uint8]:
    """Return ink (0 to 1, any size) cropped, scaled and centred as MNIST's digits are."""
    from PIL import Image

    there = ink > 0.2
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = _BOX / max(ink.shape)
    height, width = (max(1, round(n * scale)) for n in ink.shape)
    # Pillow's resampling averages over all pixels that fall into one: a large photograph keeps its strokes.
    small = Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    digit = np.clip(np.asarray(small, dtype=np.float64), 0.0, 1.0)
    digit /= max(float(digit.max()), 1e-9)
    out = np.zeros((SIDE, SIDE))
    top = _corner(digit.sum(axis=1))
    left = _corner(digit.sum(axis=0))
    out[top : top + height, left : left + width] = digit
    return np.rint(255.0 * out).astype(np.uint8)


def _corner(profile: Array) -> int:
    """Return where a digit begins along one axis so that its centre of mass lies in the middle."""
    middle = float(np.dot(profile, np.arange(len(profile))) / profile.sum())
    return int(np.clip(round((SIDE - 1) / 2 - middle), 0, SIDE - len(profile)))
