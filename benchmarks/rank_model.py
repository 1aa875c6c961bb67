"""A model of a training step on many ranks, from what two ranks and one were measured to take.

It is a model: nothing in it was measured on more than two ranks. Its assumptions:

- A sum of m bytes over p ranks takes, by the faster of two known ways [1]_, ``log2(p)`` rounds of
  ``L + m / W`` (recursive doubling), or ``2 (p - 1)`` messages of ``m / p`` bytes (ring):
  ``(p - 1) (L + 2 m / (p W))``. For p = 2 both are ``L + m / W``, to which latency L and bandwidth W are
  fitted; adding is within W.
- Rows of a table are gathered in ``(p - 1) (L / 2 + m / W)``, m bytes a rank, also where sending the whole
  table would be faster.
- Every pair of ranks has L and W for itself, whoever else sends: ranks on cores that share a memory have not.
- The computation takes ``fixed + rows * row`` seconds, fitted to two numbers of rows; the ranks are equal,
  and nobody waits but for messages.

References
----------
.. [1] R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of collective communication operations in MPICH",
   International Journal of High Performance Computing Applications 19 (2005).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Line(NamedTuple):
    """Latency in seconds, and bandwidth in bytes a second, of a sum over two ranks."""

    latency: float
    bandwidth: float

    def sum_seconds(self, size: float, ranks: int) -> float:
        """Seconds of a sum of so many bytes over so many ranks."""
        if ranks == 1:
            return 0.0
        doubling = math.ceil(math.log2(ranks)) * (self.latency + size / self.bandwidth)
        ring = (ranks - 1) * (self.latency + 2 * size / ranks / self.bandwidth)
        return min(doubling, ring)

    def gather_seconds(self, size: float, ranks: int) -> float:
        """Seconds until every rank has so many bytes of each."""
        return (ranks - 1) * (self.latency / 2 + size / self.bandwidth)


class Work(NamedTuple):
    """Seconds of a step on one rank without messages: ``fixed + rows * row``."""

    fixed: float
    row: float

    def seconds(self, rows: float) -> float:
        """Of a step with so many rows."""
        return self.fixed + rows * self.row


class Messages(NamedTuple):
    """What a step sends.

    Attributes
    ----------
    sums : tuple of int
        Bytes of each sum, the first is begun first.
    rows : int
        Bytes of the rows of a table that a rank gives.
    overlap : float
        Seconds for which the processor computes after the first sum has begun.
    """

    sums: tuple[int, ...]
    rows: int
    overlap: float


class Prediction(NamedTuple):
    """A step on so many ranks: seconds where nothing overlaps, and where the first sum does."""

    ranks: int
    rows: int
    apart: float
    overlapped: float
    alone: float  # of one rank on the whole batch

    @property
    def efficiency(self) -> tuple[float, float]:
        """Speed over that of so many times one rank."""
        first, second = (self.alone / self.ranks / seconds for seconds in (self.apart, self.overlapped))
        return first, second


def fit_line(seconds: Mapping[int, float]) -> Line:
    """Latency and bandwidth from seconds by bytes; each size counts alike, by its relative error."""
    sizes = np.array(list(seconds), np.float64)
    times = np.array(list(seconds.values()))
    terms = np.stack([np.ones_like(sizes), sizes], axis=1) / times[:, None]
    (latency, slope), *_ = np.linalg.lstsq(terms, np.ones_like(times), rcond=None)
    return Line(max(float(latency), 0.0), 1.0 / float(slope))


def fit_work(seconds: Mapping[int, float]) -> Work:
    """From seconds by rows, of two numbers of rows."""
    (few, fast), (many, slow) = sorted(seconds.items())
    row = (slow - fast) / (many - few)
    return Work(fast - few * row, row)


def predict(
    line: Line, work: Work, messages: Messages, ranks: Sequence[int], rows_a_rank: int | None, batch: int
) -> list[Prediction]:
    """Steps on more and more ranks.

    Parameters
    ----------
    line, work, messages
        As fitted and measured.
    ranks : sequence of int
    rows_a_rank : int or None
        Rows of each rank, however many there are; None: the rows of `batch` are shared.
    batch : int
        Rows of the whole batch.
    """
    found = []
    for count in ranks:
        rows = rows_a_rank if rows_a_rank is not None else -(-batch // count)
        whole = rows * count if rows_a_rank is not None else batch
        first, *others = (line.sum_seconds(size, count) for size in messages.sums)
        rest = sum(others) + line.gather_seconds(messages.rows * rows, count)
        overlap = min(first, messages.overlap * rows)
        apart = work.seconds(rows) + first + rest
        found.append(Prediction(count, rows, apart, apart - overlap, work.seconds(whole)))
    return found
