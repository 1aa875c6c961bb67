"""Images, and their conversion to sequences for a recurrent network."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer
from lstm_numba.data._random import permutation

#: Pixels along each side of an image of MNIST and digits.
SIDE = 28

#: Mean and standard deviation of all training pixels, scaled to 0..1. MNIST: of its 60000 training images;
#: digits: of the 20000 training images of seed 0.
NORMALISATION: dict[str, tuple[float, float]] = {
    "mnist": (0.13066, 0.30811),
    "digits": (0.12702, 0.26731),
}

#: How an image is read: a step for each row, for each pixel, or for each pixel in a fixed random order.
VIEWS = ("rows", "pixels", "permuted")

#: Default seed of the order of the view "permuted". Results for different orders are not comparable.
PERMUTATION_SEED = 0


class ImageForm(NamedTuple):
    """What a model has to know of the images that it classifies.

    Attributes
    ----------
    classes : tuple of str
        Names of the classes; a label is an index of it.
    shape : tuple of int
        Height and width in pixels, and 3 if a pixel has three colours.
    mean, deviation : float
        Mean and standard deviation of all training pixels, scaled to 0..1.
    """

    classes: tuple[str, ...]
    shape: tuple[int, ...]
    mean: float
    deviation: float

    def sequence(self, view: str) -> tuple[int, int]:
        """Steps of an image in a view of `VIEWS`, and features of a step."""
        steps = self.shape[0] if view == "rows" else prod(self.shape[:2])
        return steps, prod(self.shape) // steps


#: The forms of the data sets that have one.
FORMS = {
    name: ImageForm(tuple("0123456789"), (SIDE, SIDE), *numbers) for name, numbers in NORMALISATION.items()
}


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of images.

    Attributes
    ----------
    name : str
        Data set: "mnist", "digits" or "images".
    split : str
        "train" or "test".
    images : ndarray, uint8, shape (N, 28, 28); of "images" (N, height, width) or (N, height, width, 3)
        0 is background, or black, 255 full ink, or white.
    labels : ndarray of integers, shape (N,)
        Classes, from 0.
    """

    name: str
    split: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.integer[Any]] | slice) -> Images:
        """Return the images at `indices`, under the same name and split."""
        return Images(self.name, self.split, self.images[indices], self.labels[indices])


def pixel_permutation(seed: int = PERMUTATION_SEED, pixels: int = SIDE * SIDE) -> npt.NDArray[np.int64]:
    """Return the order in which the view "permuted" reads so many pixels (row by row numbering)."""
    return permutation(pixels, "pixels", integer("permutation_seed", seed, 0))


def image_sequences(
    images: Images | npt.NDArray[np.uint8],
    view: str = "rows",
    dtype: npt.DTypeLike = np.float32,
    permutation_seed: int = PERMUTATION_SEED,
    dataset: str | None = None,
    form: ImageForm | None = None,
) -> npt.NDArray[Any]:
    """Convert images to normalised sequences, time first.

    Parameters
    ----------
    images : Images or ndarray, uint8, shape (N, 28, 28), or N and ``form.shape``
        The images.
    view : {"rows", "pixels", "permuted"}
        A step for each row, 28 of 28 features; for each pixel, 784 of one feature; or for each pixel in a
        fixed random order (Le, Jaitly and Hinton 2015). The three colours of a pixel are three features.
    dtype : dtype
        float32 or float64.
    permutation_seed : int
        Seed of the order, for the view "permuted".
    dataset : {"mnist", "digits"}, optional
        Data set of the mean and standard deviation; by default that of `images`, or "mnist" for an array.
    form : ImageForm, optional
        Size, mean and standard deviation of other images, in the place of `dataset`.

    Returns
    -------
    ndarray, shape (T, N, I)
        ``(pixel / 255 - mean) / standard deviation``, contiguous.

    Raises
    ------
    ValueError, TypeError
        An invalid argument.
    """
    if isinstance(images, Images):
        dataset = images.name if dataset is None else dataset
        images = images.images
    form = _form_of("mnist" if dataset is None else dataset) if form is None else form
    if view not in VIEWS:
        raise ValueError(f"view: expected one of {', '.join(VIEWS)}, got {view!r}")
    if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype: expected float32 or float64, got {np.dtype(dtype)}")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        got = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise TypeError(f"images: expected an array of uint8, got {got}")
    if images.shape[1:] != form.shape:
        expected = ", ".join(map(str, ("N", *form.shape)))
        raise ValueError(f"images: expected shape ({expected}), got {images.shape}")

    steps = images.reshape(len(images), *form.sequence(view)).transpose(1, 0, 2)
    if view == "permuted":
        steps = steps[pixel_permutation(permutation_seed, len(steps))]
    mean, deviation = form.mean, form.deviation
    out: npt.NDArray[Any] = np.empty(steps.shape, dtype)
    np.copyto(out, steps)
    out -= 255.0 * mean
    out *= 1.0 / (255.0 * deviation)
    return out


def _form_of(dataset: str) -> ImageForm:
    if dataset not in FORMS:
        raise ValueError(f"dataset: expected one of {', '.join(FORMS)}, got {dataset!r}")
    return FORMS[dataset]
