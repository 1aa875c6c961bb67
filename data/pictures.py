"""A user's own labelled pictures: a folder for each class, or IDX files of any count and size.

The pictures are read once and kept as bytes, all of one size. Where there is no test part, a share of every
class is put aside for it. The choice depends on the seed, on a class's number and on how many pictures it
has, and on nothing else; pictures are numbered in the order of their names.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.data._random import permutation
from lstm_numba.data.file_io import LARGEST_CONTENT, fault, one_line
from lstm_numba.data.image_files import fit
from lstm_numba.data.images import ImageForm, Images
from lstm_numba.data.picture_folders import Part, Pixels, is_idx_folder, read_folders, read_idx_files

#: Share of the pictures to test on where the data have no test part.
TEST_SHARE = 0.1
#: Classes that a message names.
_SHOWN = 8


class PictureSet(NamedTuple):
    """Pictures of one size, to train and to test on.

    Attributes
    ----------
    form : ImageForm
        Classes, size, and mean and standard deviation of the training pictures.
    train, test : Images
        The training pictures are in an order in which every class is spread evenly, so that those at its end,
        which are held out to validate, have nearly the classes' shares.
    notes : tuple of str
        What a user should know: counts, the size, what was scaled or ignored.
    """

    form: ImageForm
    train: Images
    test: Images
    notes: tuple[str, ...]


def load(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    colour: bool = False,
    test: float | None = None,
    seed: int = 0,
) -> PictureSet:
    """Read labelled pictures.

    Parameters
    ----------
    path : path
        A folder with one folder for each class, in which its pictures lie (PNG, JPEG, BMP, PPM), or with two
        folders ``train`` and ``test`` of that kind; or a folder with IDX files ``train-images...`` and
        ``train-labels...``, and ``t10k-`` or ``test-`` ones if there are any, plain or gzipped.
    size : tuple of 2 int, optional
        Height and width in pixels to which pictures of other sizes are scaled; by default the most frequent
        size, of several the smallest.
    colour : bool
        Three levels a pixel, red, green and blue, in the place of one.
    test : float, optional
        Share of each class to put aside to test on, at least one picture and not all, where the data have no
        test part; by default `TEST_SHARE`.
    seed : int
        Seed of the choice of the test pictures, and of the order of the training pictures.

    Returns
    -------
    PictureSet

    Raises
    ------
    ValueError, TypeError
        A `size`, `test` or `seed` out of range.
    DataError
        The folder or a file in it is missing, damaged or too large, a class has too few pictures, or labels
        do not fit; the text names the file or folder.
    UserError
        Pillow is needed and not installed.
    """
    seed = integer("seed", seed, 0)
    if size is not None:
        size = integer("size", size[0]), integer("size", size[1])
    if test is not None and not 0.0 < test < 1.0:
        raise ValueError(f"test: expected a number above 0 and below 1, got {test}")
    root = Path(path)
    if size is not None:
        _check_total(root, 1, size)
    if not is_idx_folder(root):
        classes, parts, skipped = read_folders(root, size, colour)
    elif colour:
        raise fault(root, "holds IDX files, whose images are grayscale, without color channels")
    else:
        classes, parts, skipped = read_idx_files(root)
    if test is not None and "test" in parts:
        raise fault(root, "has its own test folder: cannot be combined with a fraction held out for the test")
    train, others = _divided(root, classes, parts, TEST_SHARE if test is None else test, seed)
    size, note = _common_size([*train.sizes, *others.sizes], size)
    shape: tuple[int, ...] = (*size, 3) if colour else size
    _check_total(root, len(train.labels) + len(others.labels), shape)
    images, test_images = _stacked(train.pictures, shape), _stacked(others.pictures, shape)
    return PictureSet(
        ImageForm(classes, shape, *_mean_and_deviation(root, images)),
        Images("images", "train", images, train.labels),
        Images("images", "test", test_images, others.labels),
        (_counts(classes, len(images), len(test_images)), note, *skipped),
    )


def _divided(
    root: Path, classes: Sequence[str], parts: Mapping[str, Part], share: float, seed: int
) -> tuple[Part, Part]:
    """Pictures to train and to test on; where there is no test part, a share of each class."""
    whole, given = parts["train"], parts.get("test")
    chosen, place = np.zeros(len(whole.labels), bool), np.zeros(len(whole.labels))
    for label, name in enumerate(classes):
        mine = np.flatnonzero(whole.labels == label)
        mine = mine[permutation(len(mine), seed, "pictures", label)]
        held = 0
        if given is None:
            if len(mine) < 2:
                shown = one_line(name, 80)
                raise fault(
                    root, f"class {shown} has one image: expected at least one to train and one to test"
                )
            held = min(max(round(share * len(mine)), 1), len(mine) - 1)
            chosen[mine[:held]] = True
        place[mine[held:]] = (np.arange(len(mine) - held) + 0.5) / (len(mine) - held)
    kept = np.flatnonzero(~chosen)
    kept = kept[np.lexsort((whole.labels[kept], place[kept]))]
    return whole.take(kept), whole.take(np.flatnonzero(chosen)) if given is None else given


def _common_size(
    sizes: Sequence[tuple[int, int]], wanted: tuple[int, int] | None
) -> tuple[tuple[int, int], str]:
    """Height and width of all pictures, and what to say of them."""
    counts = Counter(sizes)
    size = min(counts, key=lambda one: (-counts[one], one)) if wanted is None else wanted
    others = len(sizes) - counts[size]
    text = f"images of {size[0]}x{size[1]} pixels (height x width)"
    if others:
        which = ", the most frequent size" if wanted is None else ""
        text += f"{which}; {others:,} of {len(sizes):,} are scaled to it"
    return size, text


def _check_total(root: Path, count: int, shape: tuple[int, ...]) -> None:
    total = count * prod(shape)
    if total > LARGEST_CONTENT:
        text = " x ".join(map(str, (count, *shape)))
        raise fault(root, f"too large: {text} = {total} bytes of images; at most {LARGEST_CONTENT} are read")


def _stacked(pictures: Sequence[Pixels], shape: tuple[int, ...]) -> Pixels:
    out = np.empty((len(pictures), *shape), np.uint8)
    for number, pixels in enumerate(pictures):
        out[number] = fit(pixels[None], shape)[0]
    return out


def _mean_and_deviation(root: Path, images: Pixels) -> tuple[float, float]:
    """Of all pixels, scaled to 0..1; from integers, so that they are the same everywhere."""
    counts = np.zeros(256, np.int64)
    for pixels in images:
        counts += np.bincount(pixels.reshape(-1), minlength=256)
    levels = np.arange(256)
    count, total, squares = images.size, int(counts @ levels), int(counts @ levels**2)
    variance = count * squares - total * total  # times count**2
    if not variance:
        raise fault(root, "all pixels of the training images have the same level: there is nothing to learn")
    return total / (255 * count), math.sqrt(variance) / (255 * count)


def _counts(classes: Sequence[str], train: int, test: int) -> str:
    names = ", ".join(one_line(name, 40) for name in classes[:_SHOWN])
    more = f" and {len(classes) - _SHOWN:,} more" if len(classes) > _SHOWN else ""
    return f"{len(classes)} classes ({names}{more}): {train:,} training images, {test:,} test images"
