"""Models as ONNX graphs: embedding, recurrent layers and output layer; of series in the units of the data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_numba.data.file_io import atomic_write
from lstm_numba.engines.number_losses import GAUSSIAN, QUANTILE, variance
from lstm_numba.errors import WeightsError
from lstm_numba.interop.onnx.layer_export import add_layers, encode_layers, lengths_value, state_values
from lstm_numba.interop.onnx.writer import ELEMENTS, Graph, value
from lstm_numba.interop.state_dict import cell_name
from lstm_numba.models.base import Model
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.language_model import LanguageModel
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.nn.recurrent import Recurrent

if TYPE_CHECKING:
    from lstm_numba.training.series_description import SeriesDescription

#: Metadata: the class of the model, by which `onnx_model_import` knows the file, and its cell.
MODEL_KEY, CELL_KEY = "lstm_numba.model", "lstm_numba.cell"
#: Prefix of the names of the recurrent layers' constants.
LAYERS = "rnn."
#: To Slice: until the end.
_END = np.iinfo(np.int64).max

Size = list[int | str]


def save_onnx(
    model: Model | Recurrent,
    path: str | os.PathLike[str],
    *,
    initial_state: bool | None = None,
    lengths: bool = False,
    series: SeriesDescription | None = None,
    facts: Mapping[str, str] | None = None,
) -> int:
    """Write a model or a layer as an ONNX model that computes the same. Dropout is omitted, as in inference.

    T and B are dynamic. Of the layer inputs are ``x`` (T, B, I), or (B, T, I) with `batch_first`; with
    `initial_state` ``h0`` (and ``c0``) (num_layers*D, B, H); with `lengths` int32 ``lengths`` (B,). Outputs
    are ``y`` (T, B, D*H), or (B, T, D*H), and the final ``h`` (and ``c``).

    A `LanguageModel` takes int64 ``tokens`` (T, B) and gives ``logits`` (T, B, V); its states are those of
    the layer, so that what one call returns as ``h`` the next one takes as ``h0``. A `SequenceClassifier`
    takes ``x`` (T, B, I) and gives ``probabilities`` and ``scores`` (B, C). A `SequenceRegressor` gives
    ``scores`` (B, M*P), or (T, B, M*P) if it predicts at every step: P numbers for each of M targets, as its
    `loss` takes them: with "quantile" one a level, with "gaussian" mean and logarithm of the variance.

    Parameters
    ----------
    model : LanguageModel, SequenceClassifier, SequenceRegressor or Recurrent
        ONNX Runtime (1.32) runs float32 models only.
    path : path
        ``.onnx``; an existing file is replaced atomically.
    initial_state : bool, optional
        Whether there are initial and, of a model, final states; else they begin with zero. By default a layer
        and a `LanguageModel` have them, others not.
    lengths : bool
        Whether the model takes the sequences' lengths; not of a `LanguageModel`.
    series : SeriesDescription, optional
        What a run of series knows of its data (`Run.series`). Then ``x`` is float64, in the units of the data
        and without missing numbers, and there is ``prediction``, float64, in these units too: (B, M, P), at
        every step (T, B, M, P), of a forecast (B, horizon, M, P). Quantiles are sorted; of a Gaussian there
        are mean and standard deviation.
    facts : mapping of str to str, optional
        Further metadata of the file.

    Returns
    -------
    int
        Number of parameters written; a tied matrix is one.

    Raises
    ------
    WeightsError
        ONNX has no operator for the cell, or the file has another suffix.
    TypeError, ValueError
        It is neither model nor layer, or an option is for other models.
    OSError
        The file cannot be written.
    """
    path = Path(path)
    if isinstance(model, Recurrent):
        if series is not None:
            raise ValueError("series: is for models, a layer has no targets")
        content, count = encode_layers(model, initial_state=initial_state is not False, lengths=lengths)
    elif isinstance(model, LanguageModel):
        if lengths or series is not None:
            raise ValueError(f"{'lengths' if lengths else 'series'}: is not for a LanguageModel")
        content, count = _language_model(model, initial_state is not False, facts or {})
    elif isinstance(model, SequenceModel):
        content, count = _sequence_model(model, bool(initial_state), lengths, series, facts or {})
    else:
        raise TypeError(f"model: expected a model or a recurrent layer, got {type(model).__name__}")
    if path.suffix != ".onnx":
        raise WeightsError(f"{path}: expected a name that ends in .onnx")
    atomic_write(path, content)
    return count


def _metadata(model: Model, facts: Mapping[str, str]) -> dict[str, str]:
    return {MODEL_KEY: type(model).__name__, CELL_KEY: cell_name(model.rnn), **facts}


def _array(model: Model, name: str) -> Any:
    return np.asarray(model.engine.download(model.params[name]))


def _linear(graph: Graph, model: Model, x: str, y: str, weight: str) -> None:
    """``y = x W^T + b``, for a weight that is there already or ``output.weight``."""
    if weight == "output.weight":
        graph.constant(weight, _array(model, weight), trained=True)
    graph.constant("output.bias", _array(model, "output.bias"), trained=True)
    graph.add("Transpose", [weight], ["output.weight.T"], perm=[1, 0])
    graph.add("MatMul", [x, "output.weight.T"], [f"{y}_unbiased"])
    graph.add("Add", [f"{y}_unbiased", "output.bias"], [y])


# -- language models ---------------------------------------------------------------------------------


def _language_model(model: LanguageModel, states: bool, facts: Mapping[str, str]) -> tuple[bytes, int]:
    graph, element = Graph(), model.dtype.name
    table = graph.constant("embedding.weight", _array(model, "embedding.weight"), trained=True)
    graph.add("Gather", [table, "tokens"], ["x"], axis=0)
    add_layers(graph, model.rnn, initial_state=states, lengths=False, prefix=LAYERS, finals=states)
    _linear(graph, model, "y", "logits", table if model.tie else "output.weight")
    given, final = state_values(model.rnn)
    time: Size = ["steps", "batch"]
    inputs = [value("tokens", "int64", time), *(given if states else [])]
    logits = value("logits", element, [*time, len(_array(model, "embedding.weight"))])
    content = graph.encode(
        type(model).__name__, inputs, [logits, *(final if states else [])], _metadata(model, facts)
    )
    return content, graph.parameters


# -- models of sequences -----------------------------------------------------------------------------


def _sequence_model(
    model: SequenceModel,
    states: bool,
    lengths: bool,
    series: SeriesDescription | None,
    facts: Mapping[str, str],
) -> tuple[bytes, int]:
    graph, rnn = Graph(), model.rnn
    x = "x" if series is None else _standardised(graph, model, series)
    given, final = state_values(rnn)
    last = add_layers(
        graph, rnn, initial_state=states, lengths=lengths, x=x, prefix=LAYERS, sequence=model.per_step,
        finals=states,
    )  # fmt: skip
    if not model.per_step:
        # (D, B, H) -> (B, D, H) -> (B, D*H)
        graph.add("Transpose", [last], ["last_t"], perm=[1, 0, 2])
        graph.constant("joined_last", np.array([0, rnn.directions * rnn.hidden_size], np.int64))
        graph.add("Reshape", ["last_t", "joined_last"], ["last"])
    _linear(graph, model, "y" if model.per_step else "last", "scores", "output.weight")
    time: Size = ["steps", "batch"] if model.per_step else ["batch"]
    count = len(_array(model, "output.bias"))
    outputs = [value("scores", rnn.dtype.name, [*time, count])]
    if isinstance(model, SequenceClassifier):
        graph.add("Softmax", ["scores"], ["probabilities"], axis=-1)
        outputs.insert(0, value("probabilities", rnn.dtype.name, [*time, count]))
    elif isinstance(model, SequenceRegressor) and series is not None:
        outputs.insert(0, value("prediction", "float64", [*time, *_in_units(graph, model, series)]))
    inputs = [value("x", rnn.dtype.name if series is None else "float64", ["steps", "batch", rnn.input_size])]
    inputs += given if states else []
    inputs += [lengths_value()] if lengths else []
    content = graph.encode(
        type(model).__name__, inputs, [*outputs, *(final if states else [])], _metadata(model, facts)
    )
    return content, graph.parameters


def _standardised(graph: Graph, model: SequenceModel, it: SeriesDescription) -> str:
    """Add what makes of numbers in the data's units those that the model was trained on.

    In float64, as `lstm_numba.training.series_items` and `forecast_windows` do.
    """
    x = "x"
    if it.relative:
        # The window's last step, of the targets alone: (1, B, F).
        graph.constant("last_step", np.array([-1], np.int64))
        graph.constant("last_end", np.array([_END], np.int64))
        graph.constant("time_axis", np.array([0], np.int64))
        mask = np.isin(np.arange(len(it.features)), it.target_columns).astype(np.float64)
        graph.constant("is_target", mask)
        graph.add("Slice", ["x", "last_step", "last_end", "time_axis"], ["x_last"])
        graph.add("Mul", ["x_last", "is_target"], ["x_level"])
        graph.add("Sub", ["x", "x_level"], ["x_relative"])
        x = "x_relative"
    graph.constant("input.mean", np.asarray(it.inputs.mean, np.float64))
    graph.constant("input.scale", np.asarray(it.inputs.scale, np.float64))
    graph.add("Sub", [x, "input.mean"], ["x_centred"])
    graph.add("Div", ["x_centred", "input.scale"], ["x_standardised"])
    graph.add("Cast", ["x_standardised"], ["x_model"], to=ELEMENTS[model.dtype.name])
    return "x_model"


def _in_units(graph: Graph, model: SequenceRegressor, it: SeriesDescription) -> Size:
    """Add what makes ``prediction`` of ``scores``; returns its sizes behind those of time and batch."""
    targets, width, kind = len(it.targets), model.loss.width, model.loss.kind
    sizes: Size = [targets, width] if it.horizon is None else [it.horizon, targets, width]
    shape = [0, *([0] if model.per_step else []), *sizes]
    graph.constant("prediction_shape", np.array(shape, np.int64))
    graph.add("Cast", ["scores"], ["scores_double"], to=ELEMENTS["float64"])
    graph.add("Reshape", ["scores_double", "prediction_shape"], ["answers"])
    answers = "answers"
    if kind == QUANTILE:
        graph.constant("levels", np.array([width], np.int64))
        graph.add("TopK", [answers, "levels"], ["answers_sorted", "answers_order"], axis=-1, largest=0)
        answers = "answers_sorted"
    if kind == GAUSSIAN:
        answers = _deviation(graph, answers)
    moved = np.ones(width)  # by a change of the level; a standard deviation is not
    moved[1:] = 0.0 if kind == GAUSSIAN else 1.0
    graph.constant("target.scale", np.asarray(it.outputs.scale, np.float64)[:, None])
    level = graph.constant("target.mean", np.asarray(it.outputs.mean, np.float64)[:, None] * moved)
    if it.relative:
        graph.constant("target_columns", np.array(it.target_columns, np.int64))
        graph.constant("level_shape", np.array([-1, 1, targets, 1], np.int64))
        graph.constant("moved", moved)
        graph.add("Gather", ["x_last", "target_columns"], ["target_last"], axis=2)
        graph.add("Reshape", ["target_last", "level_shape"], ["target_last_4d"])
        graph.add("Mul", ["target_last_4d", "moved"], ["target_last_moved"])
        graph.add("Add", ["target_last_moved", level], ["level"])
        level = "level"
    graph.add("Mul", [answers, "target.scale"], ["answers_scaled"])
    graph.add("Add", ["answers_scaled", level], ["prediction"])
    return sizes


def _deviation(graph: Graph, answers: str) -> str:
    """Standard deviations in the place of logarithms of the variance: (..., 2) to (..., 2)."""
    graph.constant("smallest_variance", variance(np.array([-np.inf])))
    graph.add("Split", [answers], ["answer_mean", "answer_log_variance"], axis=-1)
    graph.add("Exp", ["answer_log_variance"], ["answer_exp"])
    graph.add("Add", ["answer_exp", "smallest_variance"], ["answer_variance"])
    graph.add("Sqrt", ["answer_variance"], ["answer_deviation"])
    graph.add("Concat", ["answer_mean", "answer_deviation"], ["answers_deviation"], axis=-1)
    return "answers_deviation"
