"""Inverted dropout: kept values are scaled by 1 / (1 - p) in training, so inference needs no change.

N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def check_probability(p: float, name: str = "dropout") -> float:
    """Return `p` as a float, or raise ValueError where it is not in [0, 1)."""
    if not 0.0 <= p < 1.0:
        raise ValueError(f"{name}: expected a probability in [0, 1), got {p}")
    return float(p)


def _discard_buffer(rng: np.random.Generator) -> None:
    """Discard the values that a Philox generator has buffered."""
    if isinstance(rng.bit_generator, np.random.Philox):
        rng.bit_generator.advance(0)


#: Float32 numbers that Philox makes of one value of its counter.
_PER_COUNTER = 8
#: Numbers that take as long to draw as to pass over.
_WORTH_SEEKING = 8192


class RowShare:
    """A generator whose masks are some rows of those that another one draws for a whole batch.

    Ranks that share a batch drop what one rank drops that has all of it, and leave the generator as it does.
    Rows are the axis before the last one: masks are (T, B, H), (1, B, H) or (B, H). A Philox draws what is
    wanted only; others draw the whole.

    Parameters
    ----------
    whole : numpy.random.Generator

    Attributes
    ----------
    whole : numpy.random.Generator
    first, stop, total : int
        The rows, and how many the batch has; to be set before each batch.
    """

    def __init__(self, whole: np.random.Generator) -> None:
        self.whole = whole
        self.first, self.stop, self.total = 0, 1, 1

    @property
    def bit_generator(self) -> Any:
        """That of the whole."""
        return self.whole.bit_generator

    def random(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """Draw as ``Generator.random`` does, for the own rows.

        Parameters
        ----------
        shape : tuple of int
            (..., own rows, H).
        dtype : dtype
            float32.
        """
        *outer, rows, width = shape
        if rows != self.stop - self.first:
            raise ValueError(f"shape: expected {self.stop - self.first} rows, got {rows}")
        count = int(np.prod(outer, dtype=np.int64))
        seekable = isinstance(self.bit_generator, np.random.Philox)
        if not seekable or (self.total - rows) * width < _WORTH_SEEKING:
            drawn = self.whole.random((*outer, self.total, width), dtype=np.float32)
            return np.ascontiguousarray(drawn[..., self.first : self.stop, :])
        found = np.empty((count, rows * width), np.float32)
        position = 0  # of the counter, since the mask began
        for k, out in enumerate(found):
            start, skipped = divmod((k * self.total + self.first) * width, _PER_COUNTER)
            self.bit_generator.advance(start - position)
            out[:] = self.whole.random(skipped + out.size, dtype=np.float32)[skipped:]
            self.bit_generator.advance(0)  # begin with a new value
            position = start + -(-(skipped + out.size) // _PER_COUNTER)
        self.bit_generator.advance(-(-count * self.total * width // _PER_COUNTER) - position)
        return found.reshape(shape)


def whole(rng: Any) -> np.random.Generator:
    """The generator itself, not its share of a batch: for masks that no batch has rows of."""
    found: np.random.Generator = rng.whole if isinstance(rng, RowShare) else rng
    return found


def draw_mask(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    p: float,
    dtype: npt.DTypeLike = np.float32,
    out: npt.NDArray[Any] | None = None,
    kept: float | None = None,
) -> npt.NDArray[Any]:
    """Draw a mask to multiply by, such as a dropout mask.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws one float32 per element whatever the dtype: float32 and float64 models drop the same units. With
        `numpy.random.Philox` a mask begins and ends at a counter value, so both engines draw the same masks.
    shape : tuple of int
    p : float
        Probability of dropping, in [0, 1).
    dtype : float32 or float64
    out : ndarray, optional
        Array of that shape and dtype, overwritten with the mask.
    kept : float, optional
        The mask's value where it drops nothing; ``1 / (1 - p)`` by default.

    Returns
    -------
    ndarray
        0 with probability `p`, else `kept`.
    """
    check_probability(p)
    mask = np.empty(shape, dtype) if out is None else out
    _discard_buffer(rng)
    keep = rng.random(shape, dtype=np.float32) >= np.float32(p)
    _discard_buffer(rng)
    np.multiply(keep, mask.dtype.type(1.0 / (1.0 - p) if kept is None else kept), out=mask)
    return mask
