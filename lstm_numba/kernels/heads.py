"""Recurrent layers with a linear layer behind them: which ones a step is made of."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from lstm_numba.engines import host_array
from lstm_numba.nn.linear import Linear
from lstm_numba.nn.recurrent import Recurrent

Array = np.ndarray[Any, Any]


class Headed(Protocol):
    """A model of recurrent layers and a linear one, as `lstm_numba.SequenceRegressor` is."""

    rnn: Recurrent
    output: Linear


class HeadArrays(NamedTuple):
    """Copies of a linear layer's parameters, weight (O, H) and bias (O,), zeros where it has none."""

    weight: Array
    bias: Array


def layer_and_head(rnn: Any, head: Any) -> tuple[Recurrent, Linear | None]:
    """The recurrent layers, and the linear layer if there is one.

    Parameters
    ----------
    rnn : Recurrent or Headed
    head : Linear or None

    Raises
    ------
    TypeError
        They are something else, or both a model and a head.
    """
    if not isinstance(rnn, Recurrent):
        name = type(rnn).__name__
        if hasattr(rnn, "embedding"):
            raise TypeError(
                f"rnn: {name} has an embedding, which no step has; give model.rnn and head=model.output"
            )
        layers, output = getattr(rnn, "rnn", None), getattr(rnn, "output", None)
        if not (isinstance(layers, Recurrent) and isinstance(output, Linear)):
            raise TypeError(f"rnn: expected a recurrent layer, or a model of one and a Linear, got {name}")
        if head is not None:
            raise TypeError(f"head: expected None beside {name}, which has its own, got {head!r}")
        rnn, head = layers, output
    if head is not None and not isinstance(head, Linear):
        raise TypeError(f"head: expected a Linear, got {type(head).__name__}")
    return rnn, head


def head_arrays(rnn: Recurrent, head: Linear) -> HeadArrays:
    """Copies of the head's parameters, checked.

    Raises
    ------
    TypeError, ValueError
        They are not of the layer's dtype, or of shapes that do not fit it.
    """
    weight = host_array(head.params["weight"], "head: weight")
    outputs = weight.shape[:1]
    bias = host_array(head.params.get("bias", np.zeros(outputs, rnn.dtype)), "head: bias")
    for name, array, shape in (
        ("weight", weight, (*outputs, rnn.output_size)),
        ("bias", bias, outputs),
    ):
        if array.dtype != rnn.dtype:
            raise TypeError(f"head: {name}: expected the layer's {rnn.dtype}, got {array.dtype}")
        if array.shape != shape:
            raise ValueError(
                f"head: {name}: expected shape {shape} on {rnn.output_size} units, got {array.shape}"
            )
    return HeadArrays(np.array(weight, order="C"), np.array(bias, order="C"))
