"""Embedding: a row of a table for each token, with a gradient of the touched rows only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from lstm_numba.arguments import integers
from lstm_numba.cpu.options import EXACT, EXACT_PARALLEL
from lstm_numba.cpu.threads import threaded
from lstm_numba.engines import engine_of
from lstm_numba.sparse import SparseRows

Array = npt.NDArray[Any]

#: Columns that one thread adds up; threads share no number, so the order of additions is fixed.
_COLUMNS = 128

#: Up to so many numbers, waking other threads takes longer than the work.
_SERIAL = 1 << 14

#: Half-width of the initial weights: small, so that weights tied to the output start with mild logits.
_INITIAL = 0.1


@njit(**EXACT)
def _add_rows(rows, slots, out, first, last):  # type: ignore[no-untyped-def]
    """``out[slots[k], first:last] += rows[k, first:last]``, in the order of k."""
    for k in range(rows.shape[0]):
        source, target = rows[k, first:last], out[slots[k], first:last]
        for j in range(target.shape[0]):
            target[j] += source[j]


@threaded(**EXACT_PARALLEL)
def _add_rows_parallel(rows, slots, out):  # type: ignore[no-untyped-def]
    columns = rows.shape[1]
    for block in prange((columns + _COLUMNS - 1) // _COLUMNS):
        _add_rows(rows, slots, out, block * _COLUMNS, min((block + 1) * _COLUMNS, columns))


def row_gradient(ids: Array, dy: Array, shape: tuple[int, int]) -> SparseRows:
    """Gradient of a table from those of rows that were taken from it.

    Parameters
    ----------
    ids : ndarray of int
        Which rows were taken.
    dy : ndarray (*ids.shape, E)
        Gradients of the rows.
    shape : tuple of int
        Shape of the table.

    Returns
    -------
    SparseRows
        A row that was taken more than once is there once: the sum in the order of its occurrence.
    """
    indices, slots = np.unique(ids.reshape(-1), return_inverse=True)
    values = np.zeros((len(indices), shape[1]), dy.dtype)
    rows = np.ascontiguousarray(dy.reshape(-1, shape[1]))
    slots = slots.reshape(-1).astype(np.int64)
    if rows.size <= _SERIAL:
        _add_rows(rows, slots, values, 0, rows.shape[1])
    else:
        _add_rows_parallel(rows, slots, values)
    return SparseRows(indices.astype(np.int64), values, shape)


class Embedding:
    """A table with a row of numbers for each token.

    Parameters
    ----------
    num_embeddings : int
        Number of tokens V.
    dim : int
        Numbers a token, E.
    dtype : float32 or float64
    rng : numpy.random.Generator, optional
        Draws the initial weights U(-0.1, 0.1).

    Attributes
    ----------
    params : dict
        ``weight`` (V, E), a live array.
    """

    def __init__(
        self,
        num_embeddings: int,
        dim: int,
        *,
        dtype: npt.DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        if num_embeddings < 1 or dim < 1:
            raise ValueError(f"Embedding: expected positive sizes, got {num_embeddings} and {dim}")
        rng = np.random.default_rng() if rng is None else rng
        weight = rng.uniform(-_INITIAL, _INITIAL, (num_embeddings, dim)).astype(dtype)
        self.params: dict[str, Array] = {"weight": weight}

    def forward(self, ids: Array, *, out: Array | None = None) -> Array:
        """Look the tokens up.

        Parameters
        ----------
        ids : ndarray of int, e.g. (T, B)
        out : ndarray, optional
            Shape of `ids` and E.

        Returns
        -------
        ndarray (*ids.shape, E)

        Raises
        ------
        ValueError
            A token is outside the table.
        """
        weight = self.params["weight"]
        return engine_of(weight).gather(weight, self.tokens(ids, gradient=False), out)

    def backward(self, ids: Array, dy: Array) -> Any:
        """Gradient of the table.

        Parameters
        ----------
        ids : ndarray of int
            What `forward` saw.
        dy : ndarray (*ids.shape, E)
            Gradient of its result.

        Returns
        -------
        SparseRows
            A token that occurs more than once has one row: the sum in the order of its occurrence.
        """
        tokens, weight = self.tokens(ids), self.params["weight"]
        dy = engine_of(weight).accept("dy", dy, weight.dtype)
        if dy.shape != (*ids.shape, weight.shape[1]):
            raise ValueError(f"dy: expected shape {(*ids.shape, weight.shape[1])}, got {dy.shape}")
        return engine_of(weight).row_gradient(tokens, dy, weight.shape)

    def tokens(self, ids: Array, **options: Any) -> Any:
        """Checked tokens as the table's engine wants them; see ``tokens`` there."""
        if not isinstance(ids, np.ndarray):
            raise TypeError(f"ids: expected an integer array, got {type(ids).__name__}")
        integers("ids", ids)
        count = len(self.params["weight"])
        if ids.size and not (ids.min() >= 0 and ids.max() < count):
            wrong = ids[(ids < 0) | (ids >= count)][0]
            raise ValueError(f"ids: expected values from 0 to {count - 1}, got {wrong}")
        return engine_of(self.params["weight"]).tokens(ids, **options)
