"""Embedding: a row of a table for each token, with a sparse gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer, integers
from lstm_numba.engines import engine_of
from lstm_numba.engines.sparse import SparseRows

Array = npt.NDArray[Any]

#: Bound of the initial weights: small, so that tied output weights give small initial logits.
_INITIAL = 0.1


class Embedding:
    """A table with a vector for each token.

    Parameters
    ----------
    num_embeddings : int
        Number of tokens V.
    dim : int
        Length of the vectors, E.
    dtype : float32 or float64
    rng : numpy.random.Generator, optional
        Draws the initial weights U(-0.1, 0.1).

    Attributes
    ----------
    params : dict
        ``weight`` (V, E), to be updated in place.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> ln.Embedding(10, 4).forward(np.array([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        dim: int,
        *,
        dtype: npt.DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        shape = integer("num_embeddings", num_embeddings), integer("dim", dim)
        rng = np.random.default_rng() if rng is None else rng
        weight = rng.uniform(-_INITIAL, _INITIAL, shape).astype(dtype)
        self.params: dict[str, Array] = {"weight": weight}

    def __repr__(self) -> str:
        count, dim = self.params["weight"].shape
        return f"Embedding({count}, {dim}, dtype={self.params['weight'].dtype})"

    def forward(self, ids: Array, *, out: Array | None = None) -> Array:
        """Look tokens up.

        Parameters
        ----------
        ids : ndarray of int, e.g. (T, B)
        out : ndarray, optional
            Array of the shape of `ids` and E, for the result.

        Returns
        -------
        ndarray, shape of `ids` and E

        Raises
        ------
        ValueError, TypeError
            A token is not in 0..V-1, or `ids` is no integer array.
        """
        weight = self.params["weight"]
        return engine_of(weight).take_rows(weight, self.tokens(ids, gradient=False), out)

    def backward(self, ids: Array, dy: Array) -> SparseRows:
        """Gradient of the table.

        Parameters
        ----------
        ids : ndarray of int
            Argument of `forward`.
        dy : ndarray, shape of `ids` and E
            Gradient of the result of `forward`.

        Returns
        -------
        SparseRows
            One row per distinct token, summed in order of occurrence.
        """
        tokens, weight = self.tokens(ids), self.params["weight"]
        dy = engine_of(weight).from_user("dy", dy, weight.dtype)
        if dy.shape != (*ids.shape, weight.shape[1]):
            raise ValueError(f"dy: expected shape {(*ids.shape, weight.shape[1])}, got {dy.shape}")
        return engine_of(weight).row_gradient(tokens, dy, weight.shape)

    def tokens(self, ids: Array, **options: Any) -> Any:
        """Check tokens and prepare them for the engine, see ``Engine.tokens``."""
        if not isinstance(ids, np.ndarray):
            raise TypeError(f"ids: expected an integer array, got {type(ids).__name__}")
        integers("ids", ids)
        count = len(self.params["weight"])
        if ids.size and not (ids.min() >= 0 and ids.max() < count):
            wrong = ids[(ids < 0) | (ids >= count)][0]
            raise ValueError(f"ids: expected values from 0 to {count - 1}, got {wrong}")
        return engine_of(self.params["weight"]).tokens(ids, **options)
