"""Write a layer, or a model of a layer and a linear one, as the JSON that audio plugins read.

"guitarml" is what Proteus, NeuralPi and others read, "rtneural" what the C++ library RTNeural reads; their
layouts and sources stand in `lstm_numba.interop.files.json_file`, which reads both back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.data.file_io import atomic_write
from lstm_numba.errors import WeightsError, WeightsWarning, warn
from lstm_numba.interop.files.contents import Array
from lstm_numba.interop.files.numbers import check_finite
from lstm_numba.interop.keras import to_keras
from lstm_numba.interop.state_dict import cell_name
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.wording import plural

#: Style -> cell -> the type that it is there.
STYLES: dict[str, dict[str, str]] = {
    "guitarml": {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"},
    "rtneural": {"lstm": "lstm", "gru": "gru"},
}


def save_json(
    model: Recurrent | SequenceModel,
    path: str | os.PathLike[str],
    style: str = "guitarml",
    *,
    skip: bool | int = False,
) -> None:
    """Write weights as JSON.

    float32 weights are written as the shortest texts that are read as them, so that none changes. RTNeural's
    LSTM has one bias: there our two are added. Where a layer has no biases, zeros are written, as both
    readers expect them.

    Parameters
    ----------
    model : Recurrent, SequenceClassifier or SequenceRegressor
        One direction; an LSTM or GRU, in GuitarML's files also an RNN. GuitarML's plug-ins cannot use a layer
        without a linear one. They and RTNeural give an output at every step, whatever `per_step` is, and a
        classifier's scores without softmax.
    path : path
        Ending in ``.json``; an existing file is replaced atomically.
    style : {"guitarml", "rtneural"}
    skip : bool or int
        Whether a plug-in adds the input to the model's output, or how many of its first features: one, which
        is True, or as many as the model has outputs. What was trained this way says so when it is loaded.
        Only "guitarml" has it.

    Raises
    ------
    WeightsError
        The style has no such layer or no `skip`, the file has another suffix, or a weight is not finite.
    TypeError, ValueError
        `model` is something else, or there is no such style.
    OSError
        The file cannot be written.

    Warns
    -----
    WeightsWarning
        GuitarML's plug-ins cannot use the file, as there is no linear layer.
    """
    path = Path(path)
    if style not in STYLES:
        raise ValueError(f"style: expected one of {', '.join(STYLES)}, got {style!r}")
    if not isinstance(model, (Recurrent, SequenceModel)):
        raise TypeError(
            "model: expected a recurrent layer, SequenceClassifier or SequenceRegressor, "
            f"got {type(model).__name__}"
        )
    if path.suffix != ".json":
        raise WeightsError(f"{path}: expected a name that ends in .json")
    rnn = model if isinstance(model, Recurrent) else model.rnn
    name = cell_name(rnn)
    if name not in STYLES[style] or rnn.directions > 1:
        have = "one direction" if rnn.directions > 1 else ", ".join(STYLES[style])
        got = "two" if rnn.directions > 1 else name
        raise WeightsError(f"model: {style} has {have}, got {got}")
    head = {} if isinstance(model, Recurrent) else _head(model)
    _check_skip(skip, style, rnn.input_size, len(head["weight"]) if head else 0)
    for key, array in (*rnn.state_dict().items(), *head.items()):
        check_finite(key, np.asarray(array), "model")
    kind = STYLES[style][name]
    whole = _guitarml(rnn, kind, head, int(skip)) if style == "guitarml" else _rtneural(rnn, kind, head)
    atomic_write(path, json.dumps(whole, allow_nan=False).encode())
    if style == "guitarml" and not head:
        warn(f"{path}: GuitarML's plug-ins cannot use a layer without a linear one", WeightsWarning)


def _check_skip(skip: Any, style: str, inputs: int, outputs: int) -> None:
    """Refuse a number of features that no program could add; `outputs` is 0 without a linear layer."""
    if not isinstance(skip, int):
        raise TypeError(f"skip: expected a bool or a number of features, got {skip!r}")
    if not skip:
        return
    if style != "guitarml":
        raise WeightsError(f"skip: {style} has none, got {skip}")
    if not outputs:
        raise WeightsError(f"skip: expected a model with a linear layer, got a layer with skip={skip}")
    if skip not in (1, outputs) or skip > inputs:
        have = f"{plural(inputs, 'input')} and {plural(outputs, 'output')}"
        raise WeightsError(f"skip: expected 1, or the number of outputs, of a model of {have}, got {skip}")


def _head(model: SequenceModel) -> dict[str, Array]:
    """Weight (O, H) and bias (O,) of the linear layer."""
    return {key: np.asarray(model.engine.download(array)) for key, array in model.output.params.items()}


def _guitarml(rnn: Recurrent, unit: str, head: Mapping[str, Array], skip: int) -> dict[str, Any]:
    state = {f"rec.{key}": _lists(array) for key, array in rnn.state_dict().items()}
    if not rnn.bias:
        for key, array in rnn.state_dict().items():
            name = f"rec.{key}".replace("weight", "bias")
            state[name] = _lists(np.zeros(len(array), array.dtype))
    state.update({f"lin.{key}": _lists(array) for key, array in head.items()})
    outputs = len(head["weight"]) if head else rnn.hidden_size
    model = {
        "model": "SimpleRNN",
        "input_size": rnn.input_size,
        "skip": skip,
        "output_size": outputs,
        "unit_type": unit,
        "num_layers": rnn.num_layers,
        "hidden_size": rnn.hidden_size,
        "bias_fl": True,
    }
    return {"model_data": model, "state_dict": state}


def _rtneural(rnn: Recurrent, kind: str, head: Mapping[str, Array]) -> dict[str, Any]:
    layers = []
    for arrays in to_keras(rnn):
        if not rnn.bias:
            columns = arrays[0].shape[1]
            arrays.append(np.zeros((2, columns) if kind == "gru" else columns, arrays[0].dtype))
        layers.append(_layer(kind, "tanh", rnn.hidden_size, arrays))
    if head:
        layers.append(_layer("dense", "", len(head["weight"]), [head["weight"].T, head["bias"]]))
    return {"in_shape": [None, None, rnn.input_size], "layers": layers}


def _layer(kind: str, activation: str, size: int, arrays: list[Array]) -> dict[str, Any]:
    return {
        "type": kind,
        "activation": activation,
        "shape": [None, None, size],
        "weights": [_lists(array) for array in arrays],
    }


def _lists(array: Array) -> Any:
    """Nested lists of the numbers; those of float32 so that Python writes their shortest texts."""
    array = np.asarray(array)
    if array.dtype != np.float32:
        return array.tolist()
    short = array.astype(str).astype(np.float64)
    # A reader goes by float64, which may round to another float32 than the text itself.
    return np.where(short.astype(np.float32) == array, short, array.astype(np.float64)).tolist()
