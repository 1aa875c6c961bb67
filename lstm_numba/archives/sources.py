"""Archives as sequences that are read a block at a time: the interface, and arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import refuse_mask
from lstm_numba.data.file_io import one_line
from lstm_numba.data.sequences import Sequences
from lstm_numba.errors import DataError
from lstm_numba.wording import nearest

Array = npt.NDArray[Any]


class Source:
    """Base of the archives.

    Attributes
    ----------
    name : str
        For messages.
    count, steps : int
        Sequences, and steps of the longest.
    features : tuple of str
        What a step holds, in the order of `Sequences.rows`' columns.
    item_bytes : int
        Of a step of one sequence as it is read.
    chunk : int
        Sequences that the archive stores together; 1 if it does not.
    ids, times : ndarray or None
        What the sequences are called, and the times of the steps where all sequences have the same.
    sequence, time : str
        Names of these axes.
    lengths : ndarray (N,) or None
        Where sequences have lengths of their own.
    portable : bool
        Whether another process can read it, too.
    """

    name: str
    count: int
    steps: int
    features: tuple[str, ...]
    item_bytes: int
    chunk = 1
    ids: Array | None = None
    times: Array | None = None
    sequence, time = "sequence", "time"
    lengths: Array | None = None
    portable = True

    def read(self, first: int, stop: int) -> Sequences:
        """The sequences from `first` up to `stop`."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """What tells this archive from others, as JSON holds it."""
        return {
            "name": self.name,
            "sequences": self.count,
            "steps": self.steps,
            "features": list(self.features),
            "bytes": self.item_bytes,
        }

    def label(self, number: int) -> str:
        """A sequence's name."""
        if self.ids is None:
            return f"{self.sequence} {number}"
        return f"{self.sequence} {one_line(self.ids[number], 60)}"

    def step_label(self, step: int) -> str:
        """A step's name."""
        return f"step {step}" if self.times is None else f"{self.time} {one_line(self.times[step], 40)}"

    def remark(self, column: int) -> str:
        """What makes a feature's numbers count as missing, for a message; empty if nothing does."""
        return ""

    def _check_filled(self) -> None:
        """Refuse an archive that holds nothing."""
        if not (self.count and self.steps and self.features):
            size = f"{self.count} sequences, {self.steps} steps, {len(self.features)} features"
            raise DataError(f"{self.name}: is empty: {size}")


class ArraySource(Source):
    """Arrays (N, T), one feature each, or (N, T, F): of NumPy, memory-mapped or not, of Zarr or of h5py.

    Parameters
    ----------
    arrays : sequence of (str, array)
    name : str
    """

    def __init__(self, arrays: Sequence[tuple[str, Any]], name: str) -> None:
        self.name = name
        self._arrays = [array for _, array in arrays]
        features: list[str] = []
        for label, array in arrays:
            refuse_mask(label, array)
            shape = tuple(array.shape)
            if len(shape) not in (2, 3):
                raise DataError(
                    f"{name}: {label}: expected shape (sequences, steps) or (sequences, steps, features), "
                    f"got {shape}"
                )
            if shape[:2] != tuple(self._arrays[0].shape[:2]):
                raise DataError(
                    f"{name}: {label}: expected {self._arrays[0].shape[:2]} sequences and steps as of "
                    f"{arrays[0][0]}, got {shape[:2]}"
                )
            check_kind(name, label, array.dtype)
            features += [label] if len(shape) == 2 else [f"{label}[..., {k}]" for k in range(shape[2])]
        self.features = tuple(features)
        self.count, self.steps = map(int, self._arrays[0].shape[:2])
        self.item_bytes = sum(
            np.dtype(a.dtype).itemsize * (a.shape[2] if len(a.shape) == 3 else 1) for a in self._arrays
        )
        self.chunk = max(map(_chunk, self._arrays))
        self.portable = all(_is_zarr(a) or _mapped(a) is not None for a in self._arrays)
        self._check_filled()

    def read(self, first: int, stop: int) -> Sequences:
        """See `Source`."""
        parts = [np.asarray(array[first:stop]) for array in self._arrays]
        return joined(parts)

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled with all its numbers.
        state = dict(self.__dict__)
        state["_arrays"] = [_mapped(array) or array for array in self._arrays]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["_arrays"] = [np.memmap(**a) if isinstance(a, dict) else a for a in state["_arrays"]]
        self.__dict__.update(state)


def joined(parts: Sequence[Array]) -> Sequences:
    """Sequences of arrays (N, T) and (N, T, F), one after the other along the features."""
    parts = [part[:, :, None] if part.ndim == 2 else part for part in parts]
    return Sequences.of_equal_length(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2))


def check_kind(name: str, variable: str, dtype: Any) -> None:
    """Refuse what holds no real numbers."""
    if np.dtype(dtype).kind not in "fiu":
        raise DataError(f"{name}: {one_line(variable, 60)}: expected real numbers, got {np.dtype(dtype)}")


def choose(name: str, wanted: Any, there: Sequence[str], candidates: Sequence[str]) -> list[str]:
    """The variables that a model reads, in its order.

    Parameters
    ----------
    name : str
        The archive, for messages.
    wanted : str, sequence of str, or None
    there : sequence of str
        All that can be named.
    candidates : sequence of str
        Those that may be meant if none is named: there must be one only, since nothing tells the order.

    Raises
    ------
    DataError
        One is not there, or none is named and there are several.
    """
    if wanted is None:
        if len(candidates) == 1:
            return list(candidates)
        if not candidates:
            raise DataError(f"{name}: holds no variable of numbers by sequence and time")
        shown = one_line(", ".join(candidates), 200)
        raise DataError(
            f"{name}: variables: say which ones the model reads, and in which order; there are {shown}"
        )
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not names:
        raise ValueError("variables: expected at least one name, got none")
    for each in names:
        if each not in there:
            near = nearest(str(each), there) or f"; there are {one_line(', '.join(there), 200)}"
            raise DataError(f"{name}: variables: no variable {one_line(each, 60)}{near}")
    twice = [each for each in names if names.count(each) > 1]
    if twice:
        raise ValueError(f"variables: expected each name once, got {twice[0]!r} twice")
    return names


def _is_zarr(array: Any) -> bool:
    return type(array).__module__.split(".")[0] == "zarr"


def _chunk(array: Any) -> int:
    """Sequences in a stored piece of an array."""
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    return int(chunks[0]) if isinstance(chunks, tuple) and chunks else 1


def _mapped(array: Any) -> dict[str, Any] | None:
    """How to map a memory-mapped array once more; None if it is none, or not whole rows of a file."""
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous or array.filename is None:
        return None
    root = array
    while isinstance(root.base, np.memmap):
        root = root.base
    offset = root.offset + array.ctypes.data - root.ctypes.data
    return {
        "filename": str(array.filename),
        "dtype": array.dtype,
        "mode": "r",
        "offset": offset,
        "shape": array.shape,
    }


def common_chunk(chunks: Sequence[int], most: int) -> int:
    """A number of sequences that is whole chunks of all variables, or of the largest if there is none."""
    together = math.lcm(*chunks)
    return together if together <= most else max(chunks)
