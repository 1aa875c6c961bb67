"""A linear layer, ``y = x W^T + b``, on matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer
from lstm_numba.engines import engine_of

Array = npt.NDArray[Any]


class Linear:
    """Linear layer with PyTorch's shapes and initial weights U(-1/sqrt(in), 1/sqrt(in)).

    Parameters
    ----------
    in_features, out_features : int
        Columns of input and output.
    bias : bool
        Whether to add a bias.
    dtype : float32 or float64
    rng : numpy.random.Generator, optional
        Draws the initial weights, in float64 for any dtype.

    Attributes
    ----------
    params : dict
        ``weight`` (out, in) and, with a bias, ``bias`` (out,), to be updated in place.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        shape = integer("out_features", out_features), integer("in_features", in_features)
        rng = np.random.default_rng() if rng is None else rng
        bound = 1.0 / math.sqrt(in_features)
        self.params: dict[str, Array] = {"weight": rng.uniform(-bound, bound, shape).astype(dtype)}
        if bias:
            self.params["bias"] = rng.uniform(-bound, bound, out_features).astype(dtype)

    def __repr__(self) -> str:
        outputs, inputs = self.params["weight"].shape
        bias = "" if "bias" in self.params else ", bias=False"
        return f"Linear({inputs}, {outputs}{bias}, dtype={self.params['weight'].dtype})"

    def forward(self, x: Array, *, out: Array | None = None) -> Array:
        """Apply the layer.

        Parameters
        ----------
        x : ndarray (N, in)
        out : ndarray (N, out), optional

        Returns
        -------
        ndarray (N, out)
        """
        x = self._accept("x", x, 1)
        engine = engine_of(x)
        y: Array = engine.matmul(x, engine.transposed(self.params["weight"]), out=out)
        return engine.add_row(y, self.params["bias"]) if "bias" in self.params else y

    def backward(
        self, x: Array, dy: Array, *, need_dx: bool = True, out: dict[str, Array] | None = None
    ) -> tuple[Array | None, dict[str, Array]]:
        """Gradients of the layer.

        Parameters
        ----------
        x : ndarray (N, in)
            Argument of `forward`.
        dy : ndarray (N, out), C-contiguous
            Gradient of the result of `forward`.
        need_dx : bool
            Compute the gradient of `x` too.
        out : dict, optional
            Arrays for the gradients of the parameters, keys as in `params`.

        Returns
        -------
        dx : ndarray (N, in) or None
        grads : dict
            Gradients of the parameters, keys as in `params`.
        """
        x, dy = self._accept("x", x, 1), self._accept("dy", dy, 0)
        if len(x) != len(dy):
            raise ValueError(f"dy: expected {len(x)} rows, got {len(dy)}")
        out = {} if out is None else out
        engine = engine_of(dy)
        grads = {"weight": engine.matmul(engine.transposed(dy), x, out=out.get("weight"))}
        if "bias" in self.params:
            grads["bias"] = engine.column_sums(dy, out.get("bias"))
        return (engine.matmul(dy, self.params["weight"]) if need_dx else None), grads

    def _accept(self, name: str, value: Any, axis: int) -> Array:
        weight = self.params["weight"]
        array = engine_of(weight).from_user(name, value, weight.dtype)
        if array.ndim != 2 or array.shape[1] != weight.shape[axis]:
            raise ValueError(f"{name}: expected shape (N, {weight.shape[axis]}), got {array.shape}")
        return array
