"""Which rows of a batch belong to which rank."""

from __future__ import annotations

from typing import Any, NamedTuple


class Part(NamedTuple):
    """Rows `first` to `stop` of a batch of `total`."""

    first: int
    stop: int
    total: int

    @property
    def rows(self) -> slice:
        """The rows, to index with."""
        return slice(self.first, self.stop)

    @property
    def size(self) -> int:
        """How many they are; there may be none."""
        return self.stop - self.first


class Share(NamedTuple):
    """What a rank computes of a batch.

    Attributes
    ----------
    batch : object
        Its rows; if there are none for it, the first row, which then counts for nothing.
    part : Part
        Which rows these are.
    predictions : float
        Of the whole batch, or the sum of their weights.
    largest : int
        Predictions at most in the share of any rank, where each may be of another row of a table.
    """

    batch: Any
    part: Part
    predictions: float
    largest: int = 0


def part_of(total: int, rank: int, size: int) -> Part:
    """The rows of one rank; shares are contiguous and differ by one row at most, the first are the larger.

    Parameters
    ----------
    total : int
        Rows of the batch.
    rank, size : int
        Which of how many ranks.
    """
    if not 0 <= rank < size:
        raise ValueError(f"rank: expected 0 to {size - 1}, got {rank}")
    least, more = divmod(total, size)
    first = rank * least + min(rank, more)
    return Part(first, first + least + (rank < more), total)
