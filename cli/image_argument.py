"""The image arguments of ``lstm-numba predict``: a picture file, or ``FILE:INDEX`` of an IDX file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_numba.cli.console import warn
from lstm_numba.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Named = tuple[str, npt.NDArray[np.uint8]]


def named_images(
    word: str, indices: Sequence[int], invert: bool | None, shape: tuple[int, ...] | None = None
) -> list[Named]:
    """Read the images that an argument names.

    Parameters
    ----------
    word : str
        A picture file, an IDX file, or ``FILE:INDEX``.
    indices : sequence of int
        Indices of images in an IDX file, from 0.
    invert : bool or None
        Swap black and white; None: only if the border is light. Pictures only. With `shape`, None means not.
    shape : tuple of int, optional
        Of a model of own pictures: height, width and, for colours, 3. Images are scaled to it, and not taken
        for MNIST's.

    Returns
    -------
    list of (str, ndarray)
        Name and pixels, uint8 of shape (28, 28), 0 is background; or of `shape`.

    Raises
    ------
    UserError
        If the file is missing, damaged, no image, or does not have the index.
    """
    from lstm_numba.data.image_files import is_idx, read_images, read_picture

    path = Path(word)
    numbered = re.fullmatch(r"(.+):(\d+)", word)
    if numbered and not path.exists():
        path, indices = Path(numbered[1]), [int(numbered[2])]
    if not is_idx(path):
        picture = read_picture(path, invert, shape)
        if str(path) != str(Path(word)):
            raise DataError(f"{path}: a single image, not an IDX file: it has no image {indices[0]}")
        if picture.changes:
            warn(f"{path}: {', '.join(picture.changes)}")
        return [(word, picture.pixels)]
    images = read_images(path, shape)
    if not indices:
        raise DataError(f"{path}: choose one of its {len(images)} images with {path}:INDEX or --index INDEX")
    for index in indices:
        if index >= len(images):
            raise DataError(f"{path}: no image {index}, it holds {len(images)} (0 to {len(images) - 1})")
    return [(f"{path}:{index}", images[index]) for index in indices]
