"""Batches of contiguous text, of evaluation rows, and of shuffled items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer, integers
from lstm_numba.data._random import permutation
from lstm_numba.errors import DataError

Ids = npt.NDArray[np.int32]


def _tokens(ids: Any) -> Ids:
    array = integers("ids", ids)
    if array.ndim != 1:
        raise ValueError(f"ids: expected the tokens of a text, 1-D, got shape {array.shape}")
    return array.astype(np.int32, copy=False)


class ContiguousBatches:
    """Windows over a text that is cut into parallel streams, for truncated back-propagation through time.

    As in the literature (Zaremba et al. 2014 and TensorFlow's tutorial): the text is cut into `batch_size`
    streams of ``len(ids) // batch_size`` tokens, and the remainder is left out; window k has the tokens ``k *
    bptt`` to ``(k + 1) * bptt`` of each stream, so that the state after window k is the initial state of
    window k + 1; a stream has ``(length - 1) // bptt`` windows.

    Parameters
    ----------
    ids : array of int, 1-D
        Token numbers.
    batch_size : int
        Number of streams B.
    bptt : int
        Steps of a window T.

    Attributes
    ----------
    batch_size, bptt : int
        As given.
    tokens : int
        Tokens predicted in one pass, ``len(self) * batch_size * bptt``.

    Raises
    ------
    DataError
        The text is too short for one window.
    ValueError, TypeError
        Invalid arguments.
    """

    def __init__(self, ids: npt.ArrayLike, batch_size: int, bptt: int) -> None:
        tokens = _tokens(ids)
        self.batch_size, self.bptt = integer("batch_size", batch_size), integer("bptt", bptt)
        length = len(tokens) // self.batch_size
        self._windows = (length - 1) // self.bptt if length else 0
        if self._windows < 1:
            raise DataError(
                f"the text is too short: {len(tokens)} tokens, but batch size {self.batch_size} times "
                f"(bptt {self.bptt} + 1) needs {self.batch_size * (self.bptt + 1)}"
            )
        # Stored time first, so that a window is a slice of rows.
        streams = tokens[: length * self.batch_size].reshape(self.batch_size, length)
        self._streams = np.ascontiguousarray(streams.T)
        self._streams.setflags(write=False)
        self.tokens = self._windows * self.batch_size * self.bptt

    def __len__(self) -> int:
        return self._windows

    def window(self, k: int) -> tuple[Ids, Ids]:
        """Return inputs and targets of window `k`, each (T, B) int32, contiguous and read-only."""
        if not 0 <= k < self._windows:
            raise IndexError(f"k: expected 0 to {self._windows - 1}, got {k}")
        start = k * self.bptt
        return self._streams[start : start + self.bptt], self._streams[start + 1 : start + self.bptt + 1]

    def __iter__(self) -> Iterator[tuple[Ids, Ids]]:
        return (self.window(k) for k in range(self._windows))


@dataclass(frozen=True, eq=False)
class EvaluationWindow:
    """One window of `EvaluationRows`.

    Attributes
    ----------
    x, y : ndarray, int32, shape (T, B)
        Inputs and targets; 0 beyond the end of a row.
    weights : ndarray, float32, shape (T, B)
        1 where there is a target, 0 beyond the end of a row.
    lengths : ndarray, int64, shape (B,)
        Steps of each row in this window: T, or T - 1 for the shorter rows in the last one.
    """

    x: Ids
    y: Ids
    weights: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]


class EvaluationRows:
    """Windows that predict every token of a text exactly once, except the first.

    The ``len(ids) - 1`` targets are cut into rows of nearly equal length (they differ by one at most), the
    rows form a batch, and the state is carried from window to window. A row begins with a zero state and the
    token before it; with one row every token is predicted from the whole text before it, as in the
    literature.

    Parameters
    ----------
    ids : array of int, 1-D
        Token numbers, at least two.
    batch_size : int
        Number of rows B; fewer if there are fewer targets.
    bptt : int
        Largest number of steps in a window T.

    Attributes
    ----------
    batch_size, bptt : int
        Number of rows; largest number of steps in a window.
    tokens : int
        Targets, ``len(ids) - 1``.

    Raises
    ------
    DataError
        The text has fewer than two tokens.
    ValueError, TypeError
        Invalid arguments.
    """

    def __init__(self, ids: npt.ArrayLike, batch_size: int, bptt: int) -> None:
        tokens = _tokens(ids)
        if len(tokens) < 2:
            raise DataError(f"the text is too short to predict anything: {len(tokens)} tokens")
        self.tokens = len(tokens) - 1
        self.batch_size = min(integer("batch_size", batch_size), self.tokens)
        self.bptt = integer("bptt", bptt)
        short, longer = divmod(self.tokens, self.batch_size)
        self._lengths = np.full(self.batch_size, short, np.int64)
        self._lengths[:longer] += 1
        starts = np.concatenate([[0], np.cumsum(self._lengths)[:-1]])
        self._steps = int(self._lengths[0])
        index = starts + np.arange(self._steps)[:, None]
        inside = np.arange(self._steps)[:, None] < self._lengths
        index = np.minimum(index, self.tokens - 1)
        self._x = np.where(inside, tokens[index], 0).astype(np.int32)
        self._y = np.where(inside, tokens[index + 1], 0).astype(np.int32)
        self._weights = inside.astype(np.float32)
        for array in (self._x, self._y, self._weights):
            array.setflags(write=False)

    def __len__(self) -> int:
        return -(-self._steps // self.bptt)

    def window(self, k: int) -> EvaluationWindow:
        """Return window `k`, its arrays contiguous and read-only."""
        if not 0 <= k < len(self):
            raise IndexError(f"k: expected 0 to {len(self) - 1}, got {k}")
        start = k * self.bptt
        part = slice(start, min(start + self.bptt, self._steps))
        lengths = np.minimum(self._lengths, part.stop) - start
        return EvaluationWindow(self._x[part], self._y[part], self._weights[part], lengths)

    def __iter__(self) -> Iterator[EvaluationWindow]:
        return (self.window(k) for k in range(len(self)))


def evaluation_rows(ids: npt.ArrayLike, batch_size: int, bptt: int) -> EvaluationRows:
    """Return the windows that predict every token of `ids` once; see `EvaluationRows`.

    Parameters
    ----------
    ids : array_like of int, 1-D
        Token numbers, in the order of the text.
    batch_size : int
        Rows that are read side by side.
    bptt : int
        Largest number of steps in a window.

    Returns
    -------
    EvaluationRows
    """
    return EvaluationRows(ids, batch_size, bptt)


class BatchOrder:
    """Which items go into which batch, shuffled in each epoch and determined by seed and epoch.

    Parameters
    ----------
    count : int
        Number of items.
    batch_size : int
        Items in a batch; the last batch of an epoch may be smaller.
    seed : int
        Seed of the shuffling.
    drop_last : bool
        Leave a smaller last batch out.
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0, *, drop_last: bool = False) -> None:
        self.count, self.batch_size = integer("count", count), integer("batch_size", batch_size)
        self.seed = integer("seed", seed, 0)
        self.drop_last = bool(drop_last)
        self._epoch = -1
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self.count // self.batch_size if self.drop_last else -(-self.count // self.batch_size)

    def epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the order of all items in an epoch, counted from 0."""
        epoch = integer("epoch", epoch, 0)
        if epoch != self._epoch:
            order = permutation(self.count, "shuffle", self.seed, epoch)
            order.setflags(write=False)
            self._epoch, self._order = epoch, order
        return self._order

    def batch(self, epoch: int, k: int) -> npt.NDArray[np.int64]:
        """Return the items of batch `k` of an epoch."""
        if not 0 <= k < len(self):
            raise IndexError(f"k: expected 0 to {len(self) - 1}, got {k}")
        return self.epoch(epoch)[k * self.batch_size : (k + 1) * self.batch_size]


def held_out(count: int, held: int, seed: int = 0) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose items for validation.

    Parameters
    ----------
    count : int
        Number of items.
    held : int
        How many to hold out, fewer than `count`.
    seed : int
        Seed of the choice.

    Returns
    -------
    kept, held : ndarray of int64
        Sorted, disjoint, together ``range(count)``.
    """
    count, held = integer("count", count), integer("held", held, 0)
    if held >= count:
        raise ValueError(f"held: expected fewer than the {count} items, got {held}")
    order = permutation(count, "held out", integer("seed", seed, 0))
    return np.sort(order[held:]), np.sort(order[:held])
