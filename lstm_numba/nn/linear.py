"""A linear layer, ``y = x W^T + b``, on matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer
from lstm_numba.engines import engine, engine_of
from lstm_numba.nn.many import draw_each

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
    rng : numpy.random.Generator, or list of these, optional
        Draws the initial weights, in float64 for any dtype. A list has one for each of many models: then
        parameters, input and output have a leading axis of them.

    Attributes
    ----------
    params : dict
        ``weight`` (out, in) and, with a bias, ``bias`` (out,), to be updated in place.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> ln.Linear(4, 2).forward(np.ones((5, 4), np.float32)).shape
    (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
        rng: np.random.Generator | list[np.random.Generator] | None = None,
    ) -> None:
        shape = integer("out_features", out_features), integer("in_features", in_features)
        bound = 1.0 / math.sqrt(in_features)

        def draw(rng: np.random.Generator) -> dict[str, Array]:
            shapes = {"weight": shape, "bias": shape[:1]} if bias else {"weight": shape}
            return {name: rng.uniform(-bound, bound, size).astype(dtype) for name, size in shapes.items()}

        self.params: dict[str, Array] = draw_each(engine("cpu"), rng or np.random.default_rng(), draw)

    def __repr__(self) -> str:
        *models, outputs, inputs = self.params["weight"].shape
        bias = "" if "bias" in self.params else ", bias=False"
        several = f", models={models[0]}" if models else ""
        return f"Linear({inputs}, {outputs}{bias}{several}, dtype={self.params['weight'].dtype})"

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
        if x.shape[:-1] != dy.shape[:-1]:
            raise ValueError(f"dy: expected {x.shape[-2]} rows, got {dy.shape[-2]}")
        out = {} if out is None else out
        engine = engine_of(dy)
        grads = {"weight": engine.matmul(engine.transposed(dy), x, out=out.get("weight"))}
        if "bias" in self.params:
            grads["bias"] = engine.column_sums(dy, out.get("bias"))
        return (engine.matmul(dy, self.params["weight"]) if need_dx else None), grads

    def _accept(self, name: str, value: Any, axis: int) -> Array:
        weight = self.params["weight"]
        array = engine_of(weight).from_user(name, value, weight.dtype)
        *lead, outputs, inputs = weight.shape
        width = inputs if axis else outputs
        if array.ndim != weight.ndim or [*array.shape[:-2]] != lead or array.shape[-1:] != (width,):
            expected = ", ".join([*map(str, lead), "N", str(width)])
            raise ValueError(f"{name}: expected shape ({expected}), got {array.shape}")
        return array
