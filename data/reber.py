"""Strings of the embedded Reber grammar, whose last symbol but one follows from the second.

A Reber string (Reber 1967) is a walk through this graph, two ways out of a state being equally likely:

=====  ==========================
state  symbol and the next state
=====  ==========================
0      B 1
1      T 2, P 3
2      S 2, X 4
3      T 3, V 5
4      X 3, S 6
5      P 4, V 6
6      E, the end
=====  ==========================

An embedded string is B T *string* T E or B P *string* P E, either being equally likely (Cleeremans,
Servan-Schreiber & McClelland 1989; Hochreiter & Schmidhuber 1997, experiment 1, figures 3 and 4): whoever is
to predict the last symbol but one has to keep the second, while the string between offers many of the same
symbols. In these papers that string has its natural length, 8 on average. Here it has a length that one
chooses, and is drawn from the grammar's own distribution of strings of this length: a walk that is known to
end in r more symbols takes each way out in proportion to its probability times that of ending from there in
r - 1 symbols.

A. S. Reber, "Implicit learning of artificial grammars", Journal of Verbal Learning and Verbal Behavior 6
(1967). A. Cleeremans, D. Servan-Schreiber, J. L. McClelland, "Finite state automata and simple recurrent
networks", Neural Computation 1 (1989). S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural
Computation 9 (1997).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer
from lstm_numba.data._random import CounterStream

#: The symbols, by the numbers that stand for them.
SYMBOLS = "BTPSXVE"
#: Length of the shortest Reber string, such as BTXSE.
SHORTEST = 5

#: Two ways out of each state: symbol and next state; a state with one way has it twice.
_WAYS = (
    ("B1", "B1"),
    ("T2", "P3"),
    ("S2", "X4"),
    ("T3", "V5"),
    ("X3", "S6"),
    ("P4", "V6"),
    ("E7", "E7"),
)
_END = len(_WAYS)
_SYMBOL = np.array([[SYMBOLS.index(way[0]) for way in ways] for ways in _WAYS])
_NEXT = np.array([[int(way[1]) for way in ways] for ways in _WAYS])


def embedded(length: int, count: int, seed: int = 0, first: int = 0) -> npt.NDArray[np.uint8]:
    """Draw embedded Reber strings.

    Parameters
    ----------
    length : int
        Symbols of the string inside, at least `SHORTEST`.
    count : int
        How many.
    seed : int
        Each seed gives other strings.
    first : int
        Number of the first one. String i depends on the seed, the length and i alone.

    Returns
    -------
    ndarray (length + 4, count), uint8
        Indices into `SYMBOLS`, a string in each column.

    Raises
    ------
    ValueError, TypeError
        An argument that is no integer, or too small.
    """
    length, count = integer("length", length, SHORTEST), integer("count", count)
    seed, first = integer("seed", seed, 0), integer("first", first, 0)
    stream, items = CounterStream("reber", seed, length), np.arange(first, first + count)
    uniform = stream.uniform(items, 0, length + 1).T
    symbols = np.empty((length + 4, count), np.uint8)
    symbols[0], symbols[-1] = SYMBOLS.index("B"), SYMBOLS.index("E")
    symbols[1] = symbols[-2] = np.where(uniform[0] < 0.5, SYMBOLS.index("T"), SYMBOLS.index("P"))
    shares = _first_way(length)
    state = np.zeros(count, np.int64)
    for k in range(length):
        way = (uniform[k + 1] >= shares[length - k][state]).astype(np.int64)
        symbols[k + 2], state = _SYMBOL[state, way], _NEXT[state, way]
    return symbols


def _first_way(length: int) -> npt.NDArray[np.float64]:
    """Probability of a state's first way, (length + 1, states), if r = 0, 1, ... more symbols are to come.

    Where no walk ends in r symbols the number means nothing.
    """
    shares = np.zeros((length + 1, _END))
    ending = np.zeros(_END + 1)  # how likely each state ends in r symbols, times a factor that all share
    ending[_END] = 1.0
    for r in range(1, length + 1):
        ways = ending[_NEXT]
        total = ways.sum(axis=1)
        np.divide(ways[:, 0], total, out=shares[r], where=total > 0.0)
        ending = np.append(total, 0.0) / total.max()
    return shares
