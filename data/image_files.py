"""A user's own pictures of digits, brought into MNIST's form."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.data.file_io import fault, open_regular, read_file, reason
from lstm_numba.data.idx import read_idx
from lstm_numba.data.images import SIDE
from lstm_numba.errors import UserError

#: Formats that are read.
FORMATS = ("PNG", "JPEG", "BMP", "PPM")
#: Pixels that a picture may have at most.
LARGEST_PICTURE = 50_000_000

_BOX = 20  # MNIST's digits fill a box of 20 by 20 pixels
_FAINTEST = 24  # grey levels between ink and paper below which a picture is blank

_ORIENTATION = 0x0112
#: EXIF's orientation -> steps through rows and columns as they lie, and whether these then change places.
_TURNS = {
    2: (1, -1, False),
    3: (-1, -1, False),
    4: (-1, 1, False),
    5: (1, 1, True),
    6: (-1, 1, True),
    7: (-1, -1, True),
    8: (1, -1, True),
}

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
    if not is_idx(path):
        return read_picture(path).pixels[None]
    images = read_idx(path)
    if images.ndim == 2:
        images = images[None]
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        shape = " x ".join(map(str, images.shape))
        raise fault(path, f"holds {shape} numbers, expected images: N x {SIDE} x {SIDE}")
    return images


def is_idx(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as IDX files do, plain or gzipped, and no picture.

    Raises
    ------
    DataError
        The file is missing, not a regular file, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            start = file.read(4)
    except OSError as error:
        raise fault(path, f"cannot be read: {reason(error)}") from None
    return start.startswith((b"\0\0", b"\x1f\x8b")) or len(start) < 4


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

    Pixels mean what the file says of them: EXIF's orientation is followed, 16 bits, palettes, CMYK and
    transparency are read, of several frames the first. Colour becomes grey; transparent parts become paper.
    Gamma and colour profiles are not followed, they change no shape.

    Where the border is lighter than middle grey the picture is dark ink on light paper and is inverted. A
    picture of 28 by 28 pixels is otherwise left as it is. Any other is brought to MNIST's own convention
    (LeCun, Cortes and Burges): contrast stretched from paper to darkest ink, cropped to the ink, scaled with
    its aspect ratio kept into a box of 20 by 20, put with its centre of mass in the middle of 28 by 28.

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
        The file is missing, no picture, damaged, blank, of floating-point numbers, or has more than 50
        million pixels.
    UserError
        Pillow is not installed; the text names the extra to install.
    """
    grey, changes = _grey(path)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(border))
    inverted = invert or (invert is None and paper > 127.5)
    if inverted:
        grey, paper = 255.0 - grey, 255.0 - paper
        changes.append("inverted" if invert else "inverted, for its border is light")
    if float(grey.max() - grey.min()) < _FAINTEST:
        raise fault(path, "shows nothing: all of it is of nearly the same grey")
    if grey.shape == (SIDE, SIDE):
        return Picture(np.rint(grey).astype(np.uint8), tuple(changes))
    if float(grey.max()) - paper < _FAINTEST:
        raise fault(
            path, "shows no ink that is lighter than its border" + (" once inverted" if inverted else "")
        )
    changes.append(
        f"cropped to the digit and scaled from {grey.shape[1]} x {grey.shape[0]} to {SIDE} x {SIDE}"
    )
    return Picture(
        _as_mnist((np.clip(grey, paper, None) - paper) / (float(grey.max()) - paper)), tuple(changes)
    )


def _grey(path: str | os.PathLike[str]) -> tuple[Array, list[str]]:
    """Return a picture's grey levels, 0 to 255, upright, and what was done for that."""
    content = read_file(path)
    if not content:
        raise fault(path, "the file is empty")
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UserError("reading pictures needs Pillow: pip install 'lstm_numba[images]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                if picture.width * picture.height > LARGEST_PICTURE:
                    size = f"{picture.width} x {picture.height}"
                    raise fault(path, f"too large: {size} pixels; at most {LARGEST_PICTURE} are read")
                if picture.mode == "F":
                    raise fault(path, "of floating-point numbers, whose white is not known; 8 or 16 bits are")
                return _upright(picture, _grey_levels(picture, content))
    except UserError:
        raise
    except UnidentifiedImageError:
        raise fault(path, f"no picture: none of {', '.join(FORMATS)}, and no IDX file") from None
    except Exception as error:  # decoders of damaged files raise all sorts
        raise fault(path, f"damaged picture: {type(error).__name__}: {error}") from None


def _upright(picture: Any, levels: Array) -> tuple[Array, list[str]]:
    """Turn and mirror grey levels as EXIF's orientation says."""
    changes = []
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # a telephone's JPEG holds previews besides
        changes.append(f"the first of {frames} frames")
    orientation = 1
    with contextlib.suppress(Exception):  # damaged EXIF says nothing of a sound picture
        orientation = int(picture.getexif().get(_ORIENTATION, 1))
    if orientation in _TURNS:
        rows, columns, transposed = _TURNS[orientation]
        levels = levels[::rows, ::columns]
        levels = levels.T if transposed else levels
        changes.append(f"turned upright, for its EXIF orientation is {orientation}")
    return np.ascontiguousarray(levels), changes


def _grey_levels(picture: Any, content: bytes) -> Array:
    key = picture.info.get("transparency")
    if picture.mode.startswith("I"):  # 16 bits a pixel
        raw = np.asarray(picture, dtype=np.float64)
        levels = np.clip(raw / 257.0, 0.0, 255.0)
        return levels if key is None else _on_paper(levels, (raw != key).astype(np.float64))
    if "A" not in picture.mode and key is None:
        return np.asarray(picture.convert("L"), dtype=np.float64)
    if picture.format == "PNG" and picture.mode in ("L", "RGB"):
        # Pillow brings pixels of other depths to 8 bits, but not the one that the file calls transparent.
        top = (1 << content[24]) - 1
        picture.info["transparency"] = (
            key * 255 // top if isinstance(key, int) else tuple(part * 255 // top for part in key)
        )
    with_alpha = picture.convert("RGBA")
    opaque = np.asarray(with_alpha.getchannel("A"), dtype=np.float64) / 255.0
    return _on_paper(np.asarray(with_alpha.convert("RGB").convert("L"), dtype=np.float64), opaque)


def _on_paper(ink: Array, opaque: Array) -> Array:
    """Lay ink on paper that is the opposite of what is drawn: white under dark ink, black under light."""
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
