"""A model made of given weights: recurrent layers, and a linear layer on what they give."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from lstm_numba.engines import host_array
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.network import Network
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.nn.recurrent import Recurrent

#: What a linear layer behind recurrent layers may be trained for.
MODELS = ("regressor", "classifier")


def headed_model(
    rnn: Recurrent,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    model: str = "regressor",
    per_step: bool | None = None,
) -> SequenceRegressor | SequenceClassifier:
    """Make a model of recurrent layers and the weights of a linear layer behind them.

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
    model : {"regressor", "classifier"}
        What is trained: numbers, by the loss "mse"; or classes, by cross-entropy. Neither changes the scores.
    per_step : bool, optional
        Whether the linear layer reads every step, not the end of the sequence alone: by default a regressor's
        does. A classifier's never does.

    Returns
    -------
    SequenceRegressor or SequenceClassifier
        On the layers' device; `scores` are (T, B, O), or (B, O) without `per_step`.

    Raises
    ------
    TypeError, ValueError
        `rnn` is no recurrent layer, or has options that no model has; a shape does not fit; there is
        something else than real numbers.
    """
    if not isinstance(rnn, Recurrent):
        raise TypeError(f"rnn: expected a recurrent layer, got {type(rnn).__name__}")
    check_choice(model, per_step)
    linear = _linear(rnn, weight, bias)
    options: dict[str, Any] = {**Network.of(rnn)._asdict(), "bidirectional": rnn.bidirectional}
    outputs = len(linear["output.bias"])
    made: SequenceRegressor | SequenceClassifier
    if model == "classifier":
        made = SequenceClassifier(rnn.input_size, classes=outputs, device=rnn.device, **options)
    else:
        options["per_step"] = per_step is not False
        made = SequenceRegressor(rnn.input_size, outputs=outputs, device=rnn.device, **options)
    made.load_params({**{f"rnn.{name}": value for name, value in rnn.state_dict().items()}, **linear})
    return made


def check_choice(model: Any, per_step: bool | None) -> None:
    """Check the arguments `model` and `per_step` of `headed_model`.

    Raises
    ------
    ValueError
        There is no such model, or it does not predict at every step.
    """
    if model not in MODELS:
        raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {model!r}")
    if model == "classifier" and per_step:
        raise ValueError("per_step: a classifier predicts at the end of a sequence, got True")


def _linear(rnn: Recurrent, weight: Any, bias: Any) -> dict[str, Any]:
    """The parameters of the linear layer, checked."""
    matrix, units = host_array(weight, "weight"), rnn.directions * rnn.output_size
    if matrix.ndim != 2 or len(matrix) == 0 or matrix.shape[1] != units:
        raise ValueError(f"weight: expected shape (O, {units}) on the layer's outputs, got {matrix.shape}")
    row = host_array([0.0] * len(matrix) if bias is None else bias, "bias")
    if row.shape != (len(matrix),):
        raise ValueError(f"bias: expected shape ({len(matrix)},), as weight has rows, got {row.shape}")
    return {"output.weight": matrix.astype(rnn.dtype), "output.bias": row.astype(rnn.dtype)}
