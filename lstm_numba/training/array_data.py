"""Arrays of a user's own as batches: sequences with classes or numbers, or a text as tokens."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integers, real_numbers, refuse_mask
from lstm_numba.data.batching import BatchOrder, ContiguousBatches
from lstm_numba.data.sequences import Sequences
from lstm_numba.models.base import SequenceBatch, TokenBatch
from lstm_numba.wording import plural

Array = npt.NDArray[Any]


class Batches(Protocol):
    """What `lstm_numba.training.fitting.fit` trains on; an object of one's own will do.

    Attributes
    ----------
    carries_state : bool
        The final state of a batch is the initial state of the next.
    """

    carries_state: bool

    def __len__(self) -> int:
        """Number of batches of an epoch."""

    def batch(self, epoch: int, step: int) -> Any:
        """Batch `step` of `epoch`, both from 0: a `SequenceBatch` or `TokenBatch`."""


class Items(Protocol):
    """Items that are put together to batches, as `SequenceData` is; an object of one's own will do."""

    def __len__(self) -> int:
        """Number of items."""

    def gather(self, chosen: Array, dtype: npt.DTypeLike) -> SequenceBatch:
        """The batch of the items `chosen` (B,), with an input of that dtype."""


class SequenceData:
    """Sequences and what is to be predicted of them, in memory.

    Parameters
    ----------
    x : ndarray (N, T, F), list of ndarray (T_i, F), or Sequences
        Numbers, without NaN.
    y : array_like
        Classes (N,), int or bool; numbers (N, M); or of every step, (N, T, M), a list of (T_i, M), or
        `Sequences`. Where a model predicts one number, its axis may be missing: (N,), (N, T).
    lengths : array_like (N,), int, optional
        Steps of each sequence, of an array that is padded.
    weights : array_like, optional
        Of the sequences, (N,) or (N, M); where `y` is of every step also of the steps, as `y`.

    Raises
    ------
    ValueError, TypeError
        A shape or dtype does not fit; the message names the argument.
    """

    def __init__(self, x: Any, y: Any, *, lengths: Any = None, weights: Any = None) -> None:
        self.x = _sequences("x", x, lengths)
        if not len(self.x):
            raise ValueError("x: expected at least one sequence, got none")
        if not np.all(np.isfinite(self.x.rows)):
            raise ValueError("x: expected finite numbers, got NaN or infinity")
        ragged = isinstance(y, Sequences) or (isinstance(y, (list, tuple)) and np.ndim(y[0]) == 2)
        if ragged or np.ndim(y) == 3:
            self.y: Any = _sequences("y", y, lengths)
            if not np.array_equal(self.y.lengths, self.x.lengths):
                raise ValueError("y: expected as many steps as x has, of each sequence")
        else:
            self.y = _labels(y)
            if self.y.ndim not in (1, 2) or len(self.y) != len(self.x):
                expected = f"{len(self.x)} labels, one for each sequence of x (N, T, F)"
                raise ValueError(f"y: expected {expected}, got {self.y.shape}")
        self._steps = None if isinstance(x, (Sequences, list, tuple)) else np.shape(x)[1]
        self.weights = self._weights(weights)

    def _weights(self, weights: Any) -> Any:
        if weights is None or isinstance(weights, Sequences):
            return weights
        found = real_numbers("weights", weights).astype(np.float64, copy=False)
        if not np.all(found >= 0) or not np.all(np.isfinite(found)):
            raise ValueError("weights: expected finite numbers that are not negative")
        if len(found) != len(self.x):
            raise ValueError(f"weights: expected {len(self.x)}, one per sequence, got {found.shape}")
        return found

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        shortest, longest = self.x.lengths.min(), self.x.lengths.max()
        steps = plural(longest, "step") if shortest == longest else f"{shortest} to {longest} steps"
        what = f"{plural(len(self.x), 'sequence')} of {steps}, {plural(self.x.rows.shape[1], 'feature')}"
        weights = "" if self.weights is None else ", weights"
        return f"SequenceData({what}; {self._targets()}{weights})"

    def _targets(self) -> str:
        if isinstance(self.y, Sequences):
            return f"{plural(self.y.rows.shape[1], 'target')} a step"
        if self.y.ndim == 1 and self.y.dtype.kind != "f":
            return f"classes {self.y.min()} to {self.y.max()}"
        return plural(self.y.shape[1] if self.y.ndim == 2 else 1, "target")

    def with_target_axis(self, per_step: bool) -> SequenceData:
        """The same with numbers (N, 1), or (N, T, 1) of every step, where their last axis is missing."""
        steps = (self._steps,) if per_step else ()
        if isinstance(self.y, Sequences) or self.y.shape[1:] != steps:
            return self
        found, y = copy.copy(self), self.y[..., None]
        found.y = _sequences("y", y, self.x.lengths) if per_step else y
        return found

    def gather(self, chosen: Array, dtype: npt.DTypeLike) -> SequenceBatch:
        """The sequences `chosen` (B,), padded to the longest of them."""
        x, lengths = self.x.padded(chosen, dtype)
        y, weights = (_pick(of, chosen) for of in (self.y, self.weights))
        return SequenceBatch(x, y, lengths, weights)


def _labels(y: Any) -> Array:
    """Classes or numbers of sequences; True is class 1."""
    refuse_mask("y", y)
    if np.ndim(y) and (kind := np.asarray(y).dtype.kind) in "bUSO":
        if kind != "b":
            raise TypeError("y: expected numbers, got text; np.unique(y, return_inverse=True)[1] are classes")
        return np.asarray(y).astype(np.int64)
    return real_numbers("y", y)


def _sequences(name: str, given: Any, lengths: Any) -> Sequences:
    if isinstance(given, Sequences):
        return given
    if isinstance(given, (list, tuple)):
        arrays = [real_numbers(f"{name}[{n}]", array) for n, array in enumerate(given)]
        widths = {array.shape[1:] for array in arrays}
        if len(widths) > 1 or any(array.ndim != 2 for array in arrays):
            raise ValueError(f"{name}: expected arrays (T, F) of one F, got {sorted(map(str, widths))}")
        if any(len(array) == 0 for array in arrays):
            raise ValueError(f"{name}: expected at least one step of each sequence")
        return Sequences.join(arrays) if arrays else Sequences(np.empty((0, 1)), np.empty(0, np.int64))
    array = real_numbers(name, given)
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise ValueError(f"{name}: expected shape (N, T, F), or a list of arrays (T, F), got {array.shape}")
    if lengths is None:
        return Sequences.of_equal_length(array)
    counts = integers("lengths", lengths)
    if counts.shape != (len(array),) or not np.all((counts >= 1) & (counts <= array.shape[1])):
        raise ValueError(f"lengths: expected {len(array)} whole numbers from 1 to {array.shape[1]}")
    return Sequences.join([sequence[:count] for sequence, count in zip(array, counts, strict=True)])


def _pick(of: Any, chosen: Array) -> Any:
    """Labels or weights of some sequences."""
    if isinstance(of, Sequences):
        found, _ = of.padded(chosen, of.rows.dtype)
        return found if of.rows.ndim == 2 else found[..., 0]
    return None if of is None else of[chosen]


class Shuffled:
    """Batches of items in another order at each epoch, determined by the seed.

    Parameters
    ----------
    items : Items
    batch_size : int
    seed : int
    dtype : float32 or float64
        The model's.
    """

    carries_state = False

    def __init__(self, items: Items, batch_size: int, seed: int, dtype: npt.DTypeLike) -> None:
        self._items, self._dtype = items, dtype
        self._order = BatchOrder(len(items), batch_size, seed)

    def __len__(self) -> int:
        return len(self._order)

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        """See `Batches`."""
        return self._items.gather(self._order.batch(epoch, step), self._dtype)


def in_order(items: Items, batch_size: int, dtype: npt.DTypeLike) -> Iterator[SequenceBatch]:
    """Batches of all items, in their order."""
    for first in range(0, len(items), batch_size):
        yield items.gather(np.arange(first, min(first + batch_size, len(items))), dtype)


class TokenStreams:
    """Windows of a text, for a `LanguageModel`; see `lstm_numba.data.batching.ContiguousBatches`.

    Parameters
    ----------
    tokens : array_like of int, 1-D
    batch_size : int
        Parallel streams.
    bptt : int
        Steps of a window.
    """

    carries_state = True

    def __init__(self, tokens: Any, batch_size: int, bptt: int) -> None:
        self._windows = ContiguousBatches(tokens, batch_size, bptt)

    def __len__(self) -> int:
        return len(self._windows)

    def batch(self, epoch: int, step: int) -> TokenBatch:
        """See `Batches`."""
        return TokenBatch(*self._windows.window(step))
