"""Sequences whose first symbol is to be told at their end: the plainest task that needs memory.

The first of the T symbols is one of `KINDS`, the answer. The others are drawn from as many other kinds and
mean nothing, so that what was remembered is disturbed at every step. Inputs are rows of zeros and a one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer
from lstm_numba.data._random import LANES, CounterStream

#: Kinds of answers, and as many kinds of symbols without meaning.
KINDS = 4
#: Numbers a step.
FEATURES = 2 * KINDS


class Sequences(NamedTuple):
    """Sequences and answers.

    Attributes
    ----------
    x : ndarray (T, N, FEATURES), float64
        Zeros and ones.
    labels : ndarray (N,), int64
        The first symbols, 0 to KINDS - 1.
    """

    x: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]


def draw(seed: int, steps: int, count: int, first: int = 0) -> Sequences:
    """Draw sequences.

    Parameters
    ----------
    seed : int
        Each seed gives others.
    steps : int
        Symbols of a sequence, T, up to `LANES`. A shorter sequence is the beginning of a longer one.
    count : int
        Number of sequences, N.
    first : int
        Number of the first one: a sequence depends on the seed and its number alone.

    Raises
    ------
    ValueError, TypeError
        An argument that is no integer or out of range.
    """
    seed, count, first = integer("seed", seed, 0), integer("count", count), integer("first", first, 0)
    steps = integer("steps", steps)
    if steps > LANES:
        raise ValueError(f"steps: expected at most {LANES}, got {steps}")
    drawn = CounterStream("first-symbol", seed).uniform(np.arange(first, first + count), 0, steps)
    symbols = np.floor(KINDS * drawn).astype(np.int64).T
    labels = symbols[0].copy()
    symbols[1:] += KINDS
    return Sequences(np.eye(FEATURES)[symbols], labels)
