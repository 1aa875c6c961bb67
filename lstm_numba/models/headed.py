"""A model made of given weights: recurrent layers, and a linear layer on what they give at every step."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from lstm_numba.engines import host_array
from lstm_numba.models.network import Network
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.nn.recurrent import Recurrent


def headed_model(
    rnn: Recurrent, weight: npt.ArrayLike, bias: npt.ArrayLike | None = None
) -> SequenceRegressor:
    """Make a regressor of recurrent layers and the weights of a linear layer behind them.

    Parameters
    ----------
    rnn : Recurrent
        Layers of any cell that `make_layer` knows by name, with all their options; H units (or `proj_size`),
        in D directions. They are copied. The model reads (T, B, I) even if they are `batch_first`, and in
        training their dropout is that before its linear layer, too.
    weight : array_like, shape (O, D*H)
        Of the linear layer; cast to the layers' dtype.
    bias : array_like, shape (O,), optional
        Zeros by default.

    Returns
    -------
    SequenceRegressor
        With ``per_step=True`` and the loss "mse", on the layers' device; `scores` are (T, B, O).

    Raises
    ------
    TypeError, ValueError
        `rnn` is no recurrent layer, or has options that no model has; a shape does not fit; there is
        something else than real numbers.
    """
    if not isinstance(rnn, Recurrent):
        raise TypeError(f"rnn: expected a recurrent layer, got {type(rnn).__name__}")
    linear = _linear(rnn, weight, bias)
    options: dict[str, Any] = Network.of(rnn)._asdict()
    model = SequenceRegressor(
        rnn.input_size,
        outputs=len(linear["output.bias"]),
        per_step=True,
        bidirectional=rnn.bidirectional,
        device=rnn.device,
        **options,
    )
    model.load_params({**{f"rnn.{name}": value for name, value in rnn.state_dict().items()}, **linear})
    return model


def _linear(rnn: Recurrent, weight: Any, bias: Any) -> dict[str, Any]:
    """The parameters of the linear layer, checked."""
    matrix, units = host_array(weight, "weight"), rnn.directions * rnn.output_size
    if matrix.ndim != 2 or len(matrix) == 0 or matrix.shape[1] != units:
        raise ValueError(f"weight: expected shape (O, {units}) on the layer's outputs, got {matrix.shape}")
    row = host_array([0.0] * len(matrix) if bias is None else bias, "bias")
    if row.shape != (len(matrix),):
        raise ValueError(f"bias: expected shape ({len(matrix)},), as weight has rows, got {row.shape}")
    return {"output.weight": matrix.astype(rnn.dtype), "output.bias": row.astype(rnn.dtype)}
