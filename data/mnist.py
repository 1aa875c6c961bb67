"""MNIST, from a given folder, the cache, or the network."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from lstm_numba.data import store
from lstm_numba.data.download import ProgressCallback
from lstm_numba.data.idx import read_idx
from lstm_numba.data.images import Images

__all__ = ["load", "read_idx"]

_PREFIXES = {"train": "train", "test": "t10k"}


def load(
    split: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> Images:
    """Load a split of MNIST.

    The files are searched for in `data_dir`, in the folder given by the environment variable
    ``LSTM_NUMBA_DATA`` and in the user's cache, and there in ``mnist`` and ``MNIST/raw``; gzipped or not.
    Missing files are downloaded to the first of these folders. The content must have the published SHA-256.

    Parameters
    ----------
    split : {"train", "test"}
        60000 or 10000 images.
    data_dir : path, optional
        Folder to search first.
    progress : callable, optional
        Called with a `lstm_numba.data.download.Progress` during a download.

    Returns
    -------
    Images
        Pixels (N, 28, 28) uint8, 0 is background; labels (N,) uint8.

    Raises
    ------
    ValueError
        Unknown split.
    DataError
        A file is damaged or has other content, or is missing and cannot be downloaded.
    """
    if split not in _PREFIXES:
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    arrays: list[npt.NDArray[np.uint8]] = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        name = f"{_PREFIXES[split]}-{kind}.gz"
        shape = next(file.shape for file in store.dataset("mnist").files if file.name == name)
        content = store.content("mnist", name, data_dir, progress=progress)
        # The checksum includes the header.
        arrays.append(np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape))
    return Images("mnist", split, arrays[0], arrays[1])
