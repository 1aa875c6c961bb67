"""Random numbers that are the same on every machine and NumPy version, in whatever order they are drawn.

NumPy guarantees the output of its bit generators and of ``SeedSequence``, but not that of ``Generator``.
Everything here is therefore computed from raw bits: a data set of a given seed is the same after an update.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_TO_UNIT = 2.0**-53

#: Random numbers that one item may draw from a `CounterStream`.
LANES = 1 << 12


def _words(parts: tuple[int | str, ...]) -> list[int]:
    return [int.from_bytes(part.encode(), "little") if isinstance(part, str) else part for part in parts]


def permutation(count: int, *key: int | str) -> npt.NDArray[np.int64]:
    """Draw a permutation of ``range(count)`` by sorting 64 random bits per item.

    Parameters
    ----------
    count : int
        Number of items.
    *key : int or str
        Which permutation, e.g. ``seed, "shuffle", epoch``.
    """
    bits = np.random.PCG64(np.random.SeedSequence(_words(key))).random_raw(count)
    return np.argsort(np.asarray(bits, dtype=np.uint64), kind="stable").astype(np.int64, copy=False)


def uniforms(*key: int | str) -> Iterator[float]:
    """Yield an endless stream of numbers in [0, 1), determined by the key."""
    source = np.random.PCG64(np.random.SeedSequence(_words(key)))
    while True:
        bits = np.asarray(source.random_raw(1 << 14), dtype=np.uint64)
        yield from ((bits >> np.uint64(11)).astype(np.float64) * _TO_UNIT).tolist()


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64-bit words in place: the output function of SplitMix64 (Steele, Lea, Flood 2014)."""
    z ^= z >> np.uint64(30)
    z *= _MIX_1
    z ^= z >> np.uint64(27)
    z *= _MIX_2
    z ^= z >> np.uint64(31)
    return z


class CounterStream:
    """Random numbers addressed by (item, lane), independent of the order in which they are drawn.

    Each word is a SplitMix64 of the counter ``item * LANES + lane``, scrambled twice with two keys, so that
    streams of two seeds are not shifted copies of each other.

    Parameters
    ----------
    *key : int or str
        Which stream, e.g. ``"digits", seed, "train"``.
    """

    def __init__(self, *key: int | str) -> None:
        state = np.random.SeedSequence(_words(key)).generate_state(2, np.uint64)
        self._offset, self._mask = state[0], state[1]

    def bits(self, items: npt.NDArray[np.int64], lane: int, lanes: int) -> npt.NDArray[np.uint64]:
        """Return words of shape (len(items), lanes), the lanes counted from `lane`."""
        if lane + lanes > LANES:
            raise ValueError(f"lane: {lane} + {lanes} is beyond the {LANES} lanes of an item")
        counter = items.astype(np.uint64)[:, None] * np.uint64(LANES)
        counter = counter + np.arange(lane, lane + lanes, dtype=np.uint64)
        z = _mix(counter * _GOLDEN + self._offset)
        z ^= self._mask
        return _mix(z)

    def uniform(self, items: npt.NDArray[np.int64], lane: int, lanes: int) -> npt.NDArray[np.float64]:
        """Return numbers in [0, 1), shape (len(items), lanes)."""
        numbers: npt.NDArray[np.float64] = (self.bits(items, lane, lanes) >> np.uint64(11)).astype(np.float64)
        numbers *= _TO_UNIT
        return numbers

    def bell(self, items: npt.NDArray[np.int64], lane: int, lanes: int) -> npt.NDArray[np.float64]:
        """Return bell-shaped numbers of mean 0 and variance 1 within +-3.47, shape (len(items), lanes).

        The sum of four uniforms (Irwin-Hall): close to normal, without the logarithms whose last bit
        differs between machines. Draws ``4 * lanes`` lanes.
        """
        u = self.uniform(items, lane, 4 * lanes)
        total: npt.NDArray[np.float64] = (u[:, :lanes] + u[:, lanes : 2 * lanes]) + (
            u[:, 2 * lanes : 3 * lanes] + u[:, 3 * lanes :]
        )
        total -= 2.0
        total *= float(np.sqrt(3.0))
        return total
