"""Reads pictures as they are, or those of digits in MNIST's format."""

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

#: Supported formats.
FORMATS = ("PNG", "JPEG", "BMP", "PPM")
#: Largest number of pixels in a picture.
LARGEST_PICTURE = 50_000_000

_BOX = 20  # MNIST's digits fill a box of 20 by 20 pixels
_FAINTEST = 24  # a picture with a smaller range of grey levels is blank

_ORIENTATION = 0x0112
#: EXIF orientation -> strides of rows and columns, and whether to transpose afterwards.
_ORIENTATIONS = {
    2: (1, -1, False),
    3: (-1, -1, False),
    4: (-1, 1, False),
    5: (1, 1, True),
    6: (-1, 1, True),
    7: (-1, -1, True),
    8: (1, -1, True),
}

Array = npt.NDArray[np.float64]


def read_images(path: str | os.PathLike[str], shape: tuple[int, ...] | None = None) -> npt.NDArray[np.uint8]:
    """Read the images of an IDX file or the digit in a picture.

    Parameters
    ----------
    path : path
        An IDX file of 28 by 28 images, gzipped or not, or a PNG, JPEG, BMP or PPM picture.
    shape : tuple of int, optional
        Height, width and, for colours, 3: images of any size are scaled to it, see `fit`, and are not taken
        for MNIST's.

    Returns
    -------
    ndarray, uint8, shape (N, 28, 28) or (N, *shape)
        As in the IDX file; a picture as `read_picture` returns it, N = 1.

    Raises
    ------
    UserError
        As `read_picture` and `lstm_numba.data.idx.read_idx`, or the images have another size.
    """
    if not is_idx(path):
        return read_picture(path, shape=shape).pixels[None]
    images = read_idx(path)
    if images.ndim == 2:
        images = images[None]
    if images.ndim != 3 or (shape is None and images.shape[1:] != (SIDE, SIDE)):
        found = " x ".join(map(str, images.shape))
        expected = "height x width" if shape else f"{SIDE} x {SIDE}"
        raise fault(path, f"holds {found} numbers, expected images: N x {expected}")
    return images if shape is None else fit(images, shape)


def is_idx(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an IDX file, plain or gzipped, and no picture, from its first bytes.

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
    """A picture that was read.

    Attributes
    ----------
    pixels : ndarray, uint8, shape (28, 28), or (height, width) or (height, width, 3)
        Of a digit, light ink on black.
    changes : tuple of str
        How it was changed, in words.
    """

    pixels: npt.NDArray[np.uint8]
    changes: tuple[str, ...]


def read_picture(
    path: str | os.PathLike[str], invert: bool | None = None, shape: tuple[int, ...] | None = None
) -> Picture:
    """Read a picture of one digit and convert it to MNIST's format: light ink on black, 28 by 28 pixels.

    The EXIF orientation is applied; 16-bit pixels, palettes, CMYK and transparency are supported; of several
    frames the first is read. Colour is converted to grey, and transparent parts become background. Gamma and
    colour profiles are ignored, as they do not change the shape.

    If the border is lighter than middle grey, the picture is dark ink on light paper and is inverted. A
    picture of 28 by 28 pixels is otherwise left as it is. Any other is converted as MNIST was (LeCun, Cortes
    and Burges): contrast stretched from paper to ink, cropped to the ink, scaled to a box of 20 by 20 with
    its aspect ratio kept, and its centre of mass put in the middle of 28 by 28.

    Parameters
    ----------
    path : path
        PNG, JPEG, BMP or PPM file.
    invert : bool, optional
        Swap black and white; by default only if the border is light.
    shape : tuple of int, optional
        Of a picture that is no digit: height, width and, for colours, 3. It is scaled to that without being
        cropped, and inverted only if `invert` says so.

    Returns
    -------
    Picture
        Pixels and what was changed.

    Raises
    ------
    DataError
        The file is missing, no picture, damaged, blank, of floating-point pixels, or has more than 50
        million pixels.
    UserError
        Pillow is not installed; the text names the extra that installs it.
    """
    if shape is not None:
        return _scaled(read_pixels(path, len(shape) == 3), invert is True, shape)
    grey, changes = _levels(path, False)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(border))
    inverted = invert or (invert is None and paper > 127.5)
    if inverted:
        grey, paper = 255.0 - grey, 255.0 - paper
        changes.append("inverted" if invert else "inverted, because its border is light")
    if float(grey.max() - grey.min()) < _FAINTEST:
        raise fault(path, "image is blank: all of it is of nearly the same grey")
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


def read_pixels(path: str | os.PathLike[str], colour: bool = False) -> Picture:
    """Read a picture as it is, upright, of any size; raises as `read_picture`.

    Parameters
    ----------
    path : path
        PNG, JPEG, BMP or PPM file.
    colour : bool
        Red, green and blue in the place of grey levels: (height, width, 3) in the place of (height, width).
    """
    levels, changes = _levels(path, colour)
    return Picture(np.rint(levels).astype(np.uint8), tuple(changes))


def fit(images: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Scale images of one size to another one, whatever the aspect ratio.

    Parameters
    ----------
    images : ndarray, uint8, shape (N, height, width) or (N, height, width, 3)
        Returned as they are if they have the right shape.
    shape : tuple of int
        Height, width and, for colours, 3; grey images have the same level in all three.

    Returns
    -------
    ndarray, uint8, shape (N, *shape)

    Raises
    ------
    UserError
        Pillow, which scales, is not installed.
    """
    if len(shape) > images.ndim - 1:
        images = np.repeat(images[..., None], shape[2], axis=-1)
    if images.shape[1:] == shape:
        return images
    Image = _pillow()
    out = np.empty((len(images), *shape), np.uint8)
    for number, pixels in enumerate(images):
        # Bilinear: Pillow averages all pixels that fall into one.
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        out[number] = picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return out


def _scaled(picture: Picture, inverted: bool, shape: tuple[int, ...]) -> Picture:
    """A picture in the size that a model was trained on."""
    pixels, changes = picture.pixels, list(picture.changes)
    if inverted:
        pixels = 255 - pixels
        changes.append("inverted")
    height, width = pixels.shape[:2]
    if (height, width) != shape[:2]:
        changes.append(f"scaled from {height}x{width} to {shape[0]}x{shape[1]} (height x width)")
    return Picture(fit(pixels[None], shape)[0], tuple(changes))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise UserError("reading images needs Pillow: pip install 'lstm_numba[images]'") from None
    return Image


def _levels(path: str | os.PathLike[str], colour: bool) -> tuple[Array, list[str]]:
    """Return the levels of a picture, 0 to 255, upright, and the changes for that."""
    content = read_file(path)
    if not content:
        raise fault(path, "the file is empty")
    Image = _pillow()
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                if picture.width * picture.height > LARGEST_PICTURE:
                    size = f"{picture.width} x {picture.height}"
                    raise fault(path, f"too large: {size} pixels; at most {LARGEST_PICTURE} are read")
                if picture.mode == "F":
                    raise fault(
                        path,
                        "floating-point pixels of unknown white level; expected 8 or 16 bits per channel",
                    )
                return _upright(picture, _stored_levels(picture, content, "RGB" if colour else "L"))
    except UserError:
        raise
    except UnidentifiedImageError:
        raise fault(path, f"not an image: none of {', '.join(FORMATS)}, nor an IDX file") from None
    except Exception as error:  # decoders raise many kinds of errors for damaged files
        raise fault(path, f"damaged image: {type(error).__name__}: {error}") from None


def _upright(picture: Any, levels: Array) -> tuple[Array, list[str]]:
    """Rotate and flip levels according to the EXIF orientation."""
    changes = []
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # MPO: a JPEG with previews
        changes.append(f"the first of {frames} frames")
    orientation = 1
    with contextlib.suppress(Exception):  # damaged EXIF data do not make the picture invalid
        orientation = int(picture.getexif().get(_ORIENTATION, 1))
    if orientation in _ORIENTATIONS:
        rows, columns, transposed = _ORIENTATIONS[orientation]
        levels = levels[::rows, ::columns]
        levels = levels.swapaxes(0, 1) if transposed else levels
        changes.append(f"rotated upright, because its EXIF orientation is {orientation}")
    return np.ascontiguousarray(levels), changes


def _stored_levels(picture: Any, content: bytes, mode: str) -> Array:
    """Levels as they are stored: (height, width) for the mode L, (height, width, 3) for RGB."""
    key = picture.info.get("transparency")
    if picture.mode.startswith("I"):  # 16 bits a pixel, grey
        raw = np.asarray(picture, dtype=np.float64)
        levels = np.clip(raw / 257.0, 0.0, 255.0)
        levels = levels if key is None else _on_paper(levels, (raw != key).astype(np.float64))
        return levels if mode == "L" else np.repeat(levels[..., None], 3, axis=-1)
    if "A" not in picture.mode and key is None:
        return np.asarray(picture.convert(mode), dtype=np.float64)
    if picture.format == "PNG" and picture.mode in ("L", "RGB"):
        # Pillow converts pixels of other depths to 8 bits, but not the transparent colour.
        top = (1 << content[24]) - 1
        picture.info["transparency"] = (
            key * 255 // top if isinstance(key, int) else tuple(part * 255 // top for part in key)
        )
    with_alpha = picture.convert("RGBA")
    opaque = np.asarray(with_alpha.getchannel("A"), dtype=np.float64) / 255.0
    return _on_paper(np.asarray(with_alpha.convert("RGB").convert(mode), dtype=np.float64), opaque)


def _on_paper(ink: Array, opaque: Array) -> Array:
    """Put the ink on a background that contrasts with it: white for dark ink, black for light ink."""
    if ink.ndim == 3:
        opaque = np.repeat(opaque[..., None], 3, axis=-1)
    drawn = float((ink * opaque).sum()) / max(float(opaque.sum()), 1e-9)
    return opaque * ink + (1.0 - opaque) * (0.0 if drawn > 127.5 else 255.0)


def _as_mnist(ink: Array) -> npt.NDArray[np.uint8]:
    """Return ink (0 to 1, any size) cropped, scaled and centred as in MNIST."""
    Image = _pillow()
    there = ink > 0.2
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = _BOX / max(ink.shape)
    height, width = (max(1, round(n * scale)) for n in ink.shape)
    # Pillow's resampling averages all pixels that fall into one, so that large photographs keep thin strokes.
    small = Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    digit = np.clip(np.asarray(small, dtype=np.float64), 0.0, 1.0)
    digit /= max(float(digit.max()), 1e-9)
    out = np.zeros((SIDE, SIDE))
    top = _corner(digit.sum(axis=1))
    left = _corner(digit.sum(axis=0))
    out[top : top + height, left : left + width] = digit
    return np.rint(255.0 * out).astype(np.uint8)


def _corner(profile: Array) -> int:
    """Return the offset of a digit along one axis that puts its centre of mass in the middle."""
    middle = float(np.dot(profile, np.arange(len(profile))) / profile.sum())
    return int(np.clip(round((SIDE - 1) / 2 - middle), 0, SIDE - len(profile)))
