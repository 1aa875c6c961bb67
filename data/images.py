"""Images, and their conversion to sequences for a recurrent network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer
from lstm_numba.data._random import permutation

#: Pixels along each side of an image.
SIDE = 28

#: Mean and standard deviation of all training pixels, scaled to 0..1. MNIST: of its 60000 training images;
#: digits: of the 20000 training images of seed 0.
NORMALISATION: dict[str, tuple[float, float]] = {
    "mnist": (0.13066, 0.30811),
    "digits": (0.12702, 0.26731),
}

#: How an image is read: 28 steps of 28 pixels, 784 steps of one pixel, or these in a fixed random order.
VIEWS = ("rows", "pixels", "permuted")

#: Default seed of the order of the view "permuted". Results for different orders are not comparable.
PERMUTATION_SEED = 0


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of grey images.

    Attributes
    ----------
    name : str
        Data set: "mnist" or "digits".
    split : str
        "train" or "test".
    images : ndarray, uint8, shape (N, 28, 28)
        0 is background, 255 full ink.
    labels : ndarray, uint8, shape (N,)
        Classes 0 to 9.
    """

    name: str
    split: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.integer[Any]] | slice) -> Images:
        """Return the images at `indices`, under the same name and split."""
        return Images(self.name, self.split, self.images[indices], self.labels[indices])


def pixel_permutation(seed: int = PERMUTATION_SEED) -> npt.NDArray[np.int64]:
    """Return the order in which the view "permuted" reads the 784 pixels (row by row numbering)."""
    return permutation(SIDE * SIDE, "pixels", integer("permutation_seed", seed, 0))


def image_sequences(
    images: Images | npt.NDArray[np.uint8],
    view: str = "rows",
    dtype: npt.DTypeLike = np.float32,
    permutation_seed: int = PERMUTATION_SEED,
    dataset: str | None = None,
) -> npt.NDArray[Any]:
    """Convert images to normalised sequences, time first.

    Parameters
    ----------
    images : Images or ndarray, uint8, shape (N, 28, 28)
        The images.
    view : {"rows", "pixels", "permuted"}
        28 steps of 28 features, 784 steps of one, or 784 steps of one in a fixed random order (Le, Jaitly
        and Hinton 2015).
    dtype : dtype
        float32 or float64.
    permutation_seed : int
        Seed of the order, for the view "permuted".
    dataset : {"mnist", "digits"}, optional
        Data set of the mean and standard deviation; by default that of `images`, or "mnist" for an array.

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
    dataset = "mnist" if dataset is None else dataset
    if dataset not in NORMALISATION:
        raise ValueError(f"dataset: expected one of {', '.join(NORMALISATION)}, got {dataset!r}")
    if view not in VIEWS:
        raise ValueError(f"view: expected one of {', '.join(VIEWS)}, got {view!r}")
    if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype: expected float32 or float64, got {np.dtype(dtype)}")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        got = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise TypeError(f"images: expected an array of uint8, got {got}")
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"images: expected shape (N, {SIDE}, {SIDE}), got {images.shape}")

    if view == "rows":
        steps = images.transpose(1, 0, 2)
    else:
        steps = images.reshape(len(images), SIDE * SIDE).T[:, :, None]
        if view == "permuted":
            steps = steps[pixel_permutation(permutation_seed)]
    mean, deviation = NORMALISATION[dataset]
    out: npt.NDArray[Any] = np.empty(steps.shape, dtype)
    np.copyto(out, steps)
    out -= 255.0 * mean
    out *= 1.0 / (255.0 * deviation)
    return out
