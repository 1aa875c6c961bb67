"""Four tasks in which something must be kept for a number of steps that one chooses, the gap.

=======  ======================================================================================
adding   the sum of two marked numbers among many (experiment 4 of [1])
order    which two symbols came, X or Y, and in which order (experiment 6a of [1])
reber    the last symbol but one of an embedded Reber string (experiment 1 of [1])
copy     all of a few symbols, in their order, after a sign (experiment 4.1 of [2])
=======  ======================================================================================

The gap is the number of steps from the last one that matters to the one at which the answer, or its first
part, is due; none of the steps between tells anything about it. In this the tasks differ from the papers':

* adding: there the second marked number may be anywhere in the first half of the sequence, so that a gap of g
  takes 2 g steps. Here both are among the first `WINDOW` steps, and all of the gap is free of marks. The
  sequences of one gap have one length, and no marks at their ends.
* order: there the second symbol comes half-way. Here both are among the first `WINDOW` steps.
* reber: the string inside has as many symbols as the gap; see `lstm_numba.data.reber`. Only the last symbol
  but one is asked for, which among the 7 symbols is T or P; there, each next symbol is.
* copy: `COPIED` symbols of `KINDS` kinds, not 10 of 8.

[1] S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997). [2] M. Arjovsky,
A. Shah, Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016, after [1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer
from lstm_numba.data import reber
from lstm_numba.data._random import LANES, CounterStream

Codes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float32]

#: Steps at the beginning of "adding" and "order" that hold all that matters.
WINDOW = 10
#: Symbols of a sequence of "copy", and of how many kinds they are.
COPIED, KINDS = 3, 2
#: Symbols of "order": four that mean nothing, the two that matter, and signs of the beginning and the end.
ORDER_SYMBOLS = "abcdXYEB"
#: Symbols of "copy": the kinds, nothing, and the sign to begin.
BLANK, GO = KINDS, KINDS + 1
#: Least gap, for which a Reber string is long enough, and largest.
LEAST, MOST = reber.SHORTEST, LANES - WINDOW - 8


class Sequences(NamedTuple):
    """Sequences of one task and gap, and their answers.

    Attributes
    ----------
    inputs : ndarray
        Symbols (T, N), uint8; of "adding" numbers and marks (T, N, 2), float32.
    answers : ndarray
        Due at the last K steps: symbols or classes (K, N), uint8; of "adding" numbers (1, N), float32.
    """

    inputs: npt.NDArray[Any]
    answers: npt.NDArray[Any]


class Task(NamedTuple):
    """A task.

    Attributes
    ----------
    draw : callable
        Called with gap, count, seed and the number of the first sequence; gives `Sequences`. Sequence i
        depends on the gap, the seed and i alone, and is the same on every machine.
    features : int
        Numbers that a network reads at a step: kinds of symbols, or those of "adding".
    classes : int
        Kinds of answers; 0 where they are numbers.
    """

    draw: Callable[[int, int, int, int], Sequences]
    features: int
    classes: int


def one_hot(symbols: Codes, kinds: int) -> Numbers:
    """Symbols (...) as rows of zeros and a one, (..., kinds)."""
    rows: Numbers = np.eye(kinds, dtype=np.float32)[symbols]
    return rows


def _two_places(stream: CounterStream, items: npt.NDArray[np.int64], first: int) -> npt.NDArray[np.int64]:
    """Two different steps from `first` to `WINDOW` - 1, (2, N), the earlier one first; two lanes of each."""
    size = WINDOW - first
    uniform = stream.uniform(items, 0, 2).T
    one = np.floor(size * uniform[0]).astype(np.int64)
    other = np.floor((size - 1) * uniform[1]).astype(np.int64)
    other += other >= one
    return first + np.sort(np.stack([one, other]), axis=0)


def _adding(gap: int, count: int, seed: int, first: int) -> Sequences:
    """Numbers from -1 to 1, and 1/2 + (sum of the two marked) / 4, as in the paper."""
    stream, items = CounterStream("adding", seed, gap), np.arange(first, first + count)
    places, steps = _two_places(stream, items, 0), WINDOW + gap
    inputs = np.zeros((steps, count, 2), np.float32)
    inputs[:, :, 0] = 2.0 * stream.uniform(items, 2, steps).T - 1.0
    columns = np.arange(count)
    inputs[places, columns, 1] = 1.0
    return Sequences(inputs, 0.5 + inputs[places, columns, 0].sum(axis=0, keepdims=True) / 4)


def _order(gap: int, count: int, seed: int, first: int) -> Sequences:
    """E, symbols without meaning but for two, and B at the end; 2 * (first is Y) + (second is Y)."""
    stream, items = CounterStream("order", seed, gap), np.arange(first, first + count)
    places, steps = _two_places(stream, items, 1), WINDOW + gap
    inputs = (stream.bits(items, 4, steps) >> np.uint64(62)).T.astype(np.uint8)
    which = (stream.bits(items, 2, 2) >> np.uint64(63)).T.astype(np.uint8)
    inputs[places, np.arange(count)] = ORDER_SYMBOLS.index("X") + which
    inputs[0], inputs[-1] = ORDER_SYMBOLS.index("E"), ORDER_SYMBOLS.index("B")
    return Sequences(inputs, 2 * which[:1] + which[1:])


def _reber(gap: int, count: int, seed: int, first: int) -> Sequences:
    """All but the last two symbols, and the last but one."""
    symbols = reber.embedded(gap, count, seed, first)
    return Sequences(symbols[:-2], symbols[-2:-1])


def _copy(gap: int, count: int, seed: int, first: int) -> Sequences:
    """Symbols, the gap, whose last step is the sign, and as many steps as the rest of the answer takes."""
    stream, items = CounterStream("copy", seed, gap), np.arange(first, first + count)
    symbols = np.floor(KINDS * stream.uniform(items, 0, COPIED)).T.astype(np.uint8)
    inputs = np.full((2 * COPIED + gap - 1, count), BLANK, np.uint8)
    inputs[:COPIED], inputs[COPIED + gap - 1] = symbols, GO
    return Sequences(inputs, symbols)


#: The tasks by name.
TASKS: dict[str, Task] = {
    "adding": Task(_adding, 2, 0),
    "order": Task(_order, len(ORDER_SYMBOLS), 4),
    "reber": Task(_reber, len(reber.SYMBOLS), len(reber.SYMBOLS)),
    "copy": Task(_copy, KINDS + 2, KINDS),
}


def sequences(task: str, gap: int, count: int, seed: int = 0, first: int = 0) -> Sequences:
    """Draw sequences of a task.

    Parameters
    ----------
    task : {"adding", "order", "reber", "copy"}
    gap : int
        From `LEAST` to `MOST`.
    count : int
        How many, N.
    seed : int
        Each seed gives other sequences.
    first : int
        Number of the first one; see `Task`.

    Raises
    ------
    ValueError, TypeError
        There is no such task; an argument that is no integer, or out of range.
    """
    if task not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {task!r}")
    gap, count = integer("gap", gap, LEAST), integer("count", count)
    if gap > MOST:
        raise ValueError(f"gap: expected an integer <= {MOST}, got {gap}")
    return TASKS[task].draw(gap, count, integer("seed", seed, 0), integer("first", first, 0))
