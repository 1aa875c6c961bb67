"""Initial weights of recurrent layers.

====================  ==============================  =========================  ================
init                  weight_ih, a gate's (H, I)      weight_hh, a gate's (H, H)  biases
====================  ==============================  =========================  ================
uniform (PyTorch's)   U(-1/√H, 1/√H)                  U(-1/√H, 1/√H)             U(-1/√H, 1/√H)
xavier [1]            U(-√(6/(I+H)), √(6/(I+H)))      U(-√(3/H), √(3/H))         0
orthogonal [2]        as xavier                       a random orthogonal one    0
identity [3]          N(0, 0.001²)                    1                          0
====================  ==============================  =========================  ================

Vectors, such as peepholes, are U(-1/√H, 1/√H) with each, but for gains, 1, and shifts, 0, of layer
normalisation. A projection is drawn as weight_hh, with as many rows as it has; where a matrix is not square,
its rows or columns are orthonormal. With heads H is the units of one. Numbers are drawn in float64 and then
rounded, so that both precisions begin at the same place.

[1] X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
AISTATS 2010, eq. 16. [2] A. M. Saxe, J. L. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics
of learning in deep linear neural networks", ICLR 2014; drawn as F. Mezzadri, "How to generate random matrices
from the classical compact groups", Notices of the AMS 54 (2007), section 5, tells. [3] Q. V. Le, N. Jaitly,
G. E. Hinton, "A simple way to initialize recurrent networks of rectified linear units", arXiv:1504.00941
(2015).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.cells import display_name
from lstm_numba.cells.parameters import second_weight

Weights = npt.NDArray[np.float64]

INITS = ("uniform", "xavier", "orthogonal", "identity")
#: The cell that identity is for.
IDENTITY_CELL = "rnn-relu"
#: Standard deviation of the input's weights beside identity.
_SMALL = 0.001


def check_init(init: Any, cell: Any) -> None:
    """Raise a ValueError where there is no such `init`, or it does not go with the cell."""
    if init not in INITS:
        raise ValueError(f"init: expected one of {', '.join(INITS)}, got {init!r}")
    if init == "identity" and cell.key != IDENTITY_CELL:
        raise ValueError(f"init: identity is for the cell {IDENTITY_CELL}, got {display_name(cell)}")


def initial_weights(
    init: str, cell: Any, shapes: Mapping[str, tuple[int, ...]], hidden: int, rng: np.random.Generator
) -> Iterator[tuple[str, Weights]]:
    """Draw the parameters of stacked layers.

    Parameters
    ----------
    init : {"uniform", "xavier", "orthogonal", "identity"}
        See above; `check_init` has accepted it.
    cell : Cell
    shapes : mapping of str to tuple of int
        From `lstm_numba.cells.parameters.stack_shapes`.
    hidden : int
        Hidden units, of one head.
    rng : numpy.random.Generator

    Yields
    ------
    name, array : str, ndarray of float64
    """
    recurrent = ("weight_hh", second_weight(cell))
    for name, shape in shapes.items():
        kind = name.rpartition("_l")[0]
        if kind == "weight_ph" and cell.initial_vectors:
            heads = shape[0] // (hidden * len(cell.initial_vectors))
            yield name, np.tile(np.repeat(cell.initial_vectors, hidden), heads)
        elif init == "uniform" or kind == "weight_ph":
            yield name, _uniform(1 / math.sqrt(hidden), shape, rng)
        elif kind == "weight_ih" and init == "identity":
            yield name, rng.normal(0.0, _SMALL, shape)
        elif kind == "weight_ih":
            yield name, _uniform(math.sqrt(6 / (hidden + shape[1])), shape, rng)
        elif kind in recurrent:
            rows = shape[0] if kind == recurrent[1] and cell.projected else hidden
            yield name, _recurrent(init, rows, shape, rng)
        else:
            yield name, np.zeros(shape)


def _recurrent(init: str, rows: int, shape: tuple[int, ...], rng: np.random.Generator) -> Weights:
    """Recurrent weights, or those of a projection, in blocks of so many rows."""
    if init == "xavier":
        return _uniform(math.sqrt(6 / (rows + shape[1])), shape, rng)
    blocks = range(shape[0] // rows)
    if init == "identity":
        return np.concatenate([np.eye(rows) for _ in blocks])
    return np.concatenate([_orthogonal(rows, shape[1], rng) for _ in blocks])


def _uniform(bound: float, shape: tuple[int, ...], rng: np.random.Generator) -> Weights:
    return rng.uniform(-bound, bound, shape)


def _orthogonal(rows: int, columns: int, rng: np.random.Generator) -> Weights:
    """A random matrix with orthonormal columns, or rows if those are fewer, from the uniform distribution."""
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    # Without this the signs are those that the decomposition happens to choose.
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return q if rows >= columns else q.T
