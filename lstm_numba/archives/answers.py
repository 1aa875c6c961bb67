"""What a layer, a model or an estimator answers to sequences, with sequences first."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba._version import __version__
from lstm_numba.cells import display_name
from lstm_numba.data.sequences import Sequences
from lstm_numba.models.base import Model
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.wording import nearest

Array = npt.NDArray[Any]


class Part(NamedTuple):
    """An array of an answer.

    Attributes
    ----------
    shape : tuple of int
        Of what one sequence is answered, or with `per_step` one step of it.
    dtype : dtype
    per_step : bool
    dims : tuple of str
        Names of the axes in `shape`.
    labels : ndarray, optional
        What the last axis stands for, such as classes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    per_step: bool = False
    dims: tuple[str, ...] = ()
    labels: Array | None = None

    def size(self, steps: int) -> int:
        """Bytes that a sequence of so many steps takes."""
        return (
            int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize * (steps if self.per_step else 1)
        )


class Answer:
    """Base: something that reads sequences.

    Parameters
    ----------
    model : object
    method : str
        What is computed, one of `methods`.

    Attributes
    ----------
    features : int or None
        Features of a step that it reads; None if only `check` knows.
    takes_missing : bool
        Whether NaN means something to it.
    """

    methods: tuple[str, ...] = ()
    takes_missing = False

    def __init__(self, model: Any, rnn: Recurrent, method: str | None, methods: tuple[str, ...]) -> None:
        self.model, self.rnn = model, rnn
        if method is not None and method not in methods:
            expected = ", ".join(methods)
            raise ValueError(
                f"method: expected one of {expected} for {type(model).__name__}, got {method!r}"
                f"{nearest(str(method), methods)}"
            )
        self.method = method or methods[0]
        self.features: int | None = rnn.input_size

    @property
    def bytes_per_step(self) -> int:
        """Memory of a step of one sequence while it is computed: input, and outputs of two layers."""
        width = self.rnn.input_size + 2 * self.rnn.directions * self.rnn.output_size
        return width * self.rnn.dtype.itemsize

    def parts(self, steps: int, features: int) -> dict[str, Part]:
        """The arrays of an answer to sequences of so many steps."""
        raise NotImplementedError

    def __call__(self, sequences: Sequences) -> dict[str, Array]:
        """Answer sequences; arrays (N, ...) or, of every step, (N, T, ...), undefined beyond an end."""
        raise NotImplementedError

    def content(self) -> list[Any]:
        """What the answers depend on: names, numbers and arrays."""
        raise NotImplementedError

    def digest(self) -> str:
        """SHA-256 of the parameters and all else that the answers depend on."""
        found = hashlib.sha256()
        _feed(found, [__version__, type(self.model).__name__, self.method, self.content()])
        return found.hexdigest()


class LayerAnswer(Answer):
    """Of a recurrent layer: its outputs at every step, or its final state."""

    def __init__(self, model: Recurrent, method: str | None) -> None:
        super().__init__(model, model, method, ("y", "state"))

    def parts(self, steps: int, features: int) -> dict[str, Part]:
        """See `Answer`."""
        rnn = self.rnn
        if self.method == "y":
            return {"y": Part((rnn.directions * rnn.output_size,), rnn.dtype, True, ("unit",))}
        layers, sizes = rnn.num_layers * rnn.directions, (rnn.output_size, rnn.hidden_size)
        return {
            name: Part((layers, sizes[min(n, 1)]), rnn.dtype, False, ("layer", f"{name}_unit"))
            for n, name in enumerate(rnn.plain_cell.states)
        }

    def __call__(self, sequences: Sequences) -> dict[str, Array]:
        """See `Answer`."""
        x, lengths = _padded(sequences, self.rnn.dtype)
        y, state = self.rnn(x.swapaxes(0, 1).copy() if self.rnn.batch_first else x, None, lengths)
        if self.method == "y":
            return {"y": y if self.rnn.batch_first else y.swapaxes(0, 1)}
        states = state if isinstance(state, tuple) else (state,)
        return {
            name: array.swapaxes(0, 1) for name, array in zip(self.rnn.plain_cell.states, states, strict=True)
        }

    def content(self) -> list[Any]:
        """See `Answer`."""
        return [repr(self.rnn), display_name(self.rnn.plain_cell), type(self.rnn.cell).__name__,
                self.rnn.state_dict()]  # fmt: skip


class ModelAnswer(Answer):
    """Of a classifier or regressor of sequences."""

    def __init__(self, model: SequenceModel, method: str | None) -> None:
        own = ("probabilities", "logits") if isinstance(model, SequenceClassifier) else ("predict",)
        super().__init__(model, model.rnn, method, (*own, "scores"))

    def parts(self, steps: int, features: int) -> dict[str, Part]:
        """See `Answer`."""
        model, outputs = self.model, len(self.model.output.params["weight"])
        if self.method == "probabilities":
            return {self.method: Part((outputs,), np.dtype(np.float64), False, ("class",))}
        if self.method == "predict":
            shape = model.outputs, model.loss.width
            return {self.method: Part(shape, np.dtype(np.float64), model.per_step, ("target", "level"))}
        return {self.method: Part((outputs,), model.dtype, model.per_step, ("score",))}

    def __call__(self, sequences: Sequences) -> dict[str, Array]:
        """See `Answer`."""
        x, lengths = _padded(sequences, self.model.dtype)
        found = getattr(self.model, self.method)(x, lengths)
        return {self.method: found.swapaxes(0, 1) if self.model.per_step else found}

    def content(self) -> list[Any]:
        """See `Answer`."""
        return _model_content(self.model)


class EstimatorAnswer(Answer):
    """Of a fitted estimator, by the methods that scikit-learn's estimators have."""

    takes_missing = True

    def __init__(self, model: Any, method: str | None) -> None:
        names = ("predict", "predict_proba", "predict_quantiles")
        super().__init__(model, model._model.rnn, method, tuple(n for n in names if hasattr(model, n)))
        self.features = None
        if getattr(model, "n_known_", 0):
            raise ValueError("model: its forecasts need features known in advance, which no archive gives")

    def parts(self, steps: int, features: int) -> dict[str, Part]:
        """See `Answer`; tried on zeros, since what the estimator was fitted to decides."""
        try:
            (found,) = self(Sequences.of_equal_length(np.zeros((1, steps, features)))).values()
        except ValueError as error:
            raise ValueError(f"variables: {error}") from None
        per_step = bool(getattr(self.model, "per_step", False))
        shape = found.shape[2 if per_step else 1 :]
        dtype, labels = found.dtype, None
        classes = getattr(self.model, "classes_", None)
        if self.method == "predict" and classes is not None:
            dtype = _texts(classes).dtype
        elif self.method == "predict_proba":
            labels = _texts(classes)
        dims = {"predict_proba": ("class",)}.get(self.method, ("target", "level", "more")[: len(shape)])
        return {self.method: Part(shape, np.dtype(dtype), per_step, dims, labels)}

    def __call__(self, sequences: Sequences) -> dict[str, Array]:
        """See `Answer`."""
        lengths, use = sequences.lengths, getattr(self.model, self.method)
        ends = np.cumsum(lengths)[:-1]
        equal = bool((lengths == lengths[0]).all())
        x: Any = np.split(sequences.rows, ends)
        x = np.stack(x) if equal else x
        found = use(y=x) if "y" in inspect.signature(use).parameters else use(x)
        if isinstance(found, list):
            full = np.full((len(found), int(lengths.max()), *found[0].shape[1:]), np.nan)
            for row, part in zip(full, found, strict=True):
                row[: len(part)] = part
            found = full
        return {self.method: _texts(found)}

    def content(self) -> list[Any]:
        """See `Answer`."""
        own = self.model
        chosen = ("loss", "quantiles", "per_step", "horizon")
        fitted = ("classes_", "window_", "relative_", "n_outputs_")
        return [
            *_model_content(own._model),
            *(list(scaler) if scaler else None for scaler in (own._inputs, own._targets)),
            *(getattr(own, name, None) for name in (*chosen, *fitted)),
        ]


def answer_of(model: Any, method: str | None = None) -> Answer:
    """What `lstm_numba.map_sequences` computes with a model.

    Raises
    ------
    TypeError
        It is nothing that answers sequences.
    ValueError
        It has no such method, or is not fitted.
    """
    if isinstance(model, Recurrent):
        return LayerAnswer(model, method)
    if isinstance(model, (SequenceClassifier, SequenceRegressor)):
        return ModelAnswer(model, method)
    # Not by its class: the room of the estimators imports scikit-learn.
    if hasattr(model, "get_params") and type(model).__module__.startswith("lstm_numba.estimators"):
        if not isinstance(getattr(model, "_model", None), SequenceModel):
            raise ValueError(
                f"model: expected a fitted estimator, this {type(model).__name__} is not fitted yet"
            )
        return EstimatorAnswer(model, method)
    if isinstance(model, Model):
        raise TypeError(f"model: expected one that reads sequences of numbers, got a {type(model).__name__}")
    hint = "; lstm_numba.load_run opens a run folder" if isinstance(model, (str, os.PathLike)) else ""
    raise TypeError(f"model: expected a layer, a model or an estimator, got {type(model).__name__}{hint}")


def _padded(sequences: Sequences, dtype: npt.DTypeLike) -> tuple[Array, Array | None]:
    return sequences.padded(np.arange(len(sequences)), dtype)


def _texts(values: Any) -> Array:
    """Labels without Python objects, which files do not hold."""
    array = np.asarray(values)
    return array.astype(str) if array.dtype == object else array


def _model_content(model: Model) -> list[Any]:
    params = {name: np.asarray(model.engine.download(array)) for name, array in model.params.items()}
    return [type(model).__name__, model.config(), type(model.rnn.cell).__name__, params]


def _feed(found: Any, value: Any) -> None:
    """Add a value to a checksum, of containers each element."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        found.update(f"{value.dtype.str}{value.shape}".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        _feed(found, [item for name in sorted(value) for item in (name, value[name])])
    elif isinstance(value, (list, tuple, np.ndarray)):
        found.update(f"[{len(value)}".encode())
        for item in value:
            _feed(found, item)
    else:
        found.update(f"{value!r};".encode())
