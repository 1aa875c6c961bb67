"""A trained model that is fed step by step, in one compiled call."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from lstm_numba.arguments import real_numbers
from lstm_numba.data.scaling import Scaler
from lstm_numba.engines.cpu.options import SERIAL
from lstm_numba.engines.number_losses import GAUSSIAN, variance
from lstm_numba.kernels.stream import Stream, stream_step
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.wording import plural

Array = np.ndarray[Any, Any]

#: What the scores of the output layer become.
_CLASSES, _NUMBERS, _GAUSSIANS = range(3)
_SMALLEST = float(variance(np.array(-math.inf)))


@njit(**SERIAL)
def _finish(kind: Any, scores: Any, scale: Any, mean: Any, out: Any) -> None:
    """Probabilities of classes; numbers in the targets' units; or their means and standard deviations.

    Of the numbers that predict one target, such as its quantiles, the smallest comes first. What scores of
    float32 become is computed in float64.
    """
    if kind == _CLASSES:
        largest = np.float64(scores.max())
        total = 0.0
        for k in range(scores.size):
            out[k] = math.exp(scores[k] - largest)
            total += out[k]
        for k in range(scores.size):
            out[k] /= total
        return
    width = scores.size // scale.size
    for m in range(scale.size):
        first = m * width
        if kind == _GAUSSIANS:
            out[first] = scores[first] * scale[m] + mean[m]
            out[first + 1] = math.sqrt(math.exp(np.float64(scores[first + 1])) + _SMALLEST) * scale[m]
            continue
        for k in range(first, first + width):
            value, place = np.float64(scores[k]), k
            while place > first and out[place - 1] > value * scale[m] + mean[m]:
                out[place] = out[place - 1]
                place -= 1
            out[place] = value * scale[m] + mean[m]


@njit(**SERIAL)
def prediction_step(
    cell: Any, plan: Any, zero: Any, x_mean: Any, x_scale: Any, held: Any, x: Any, kind: Any, y_scale: Any,
    y_mean: Any, scores: Any, sample: Any, out: Any,
) -> Any:  # fmt: skip
    """Read one sample and predict; for calls from compiled code.

    Parameters
    ----------
    cell, plan, zero, x_mean, x_scale, held, x, kind, y_scale, y_mean, scores
        The stream's `PredictionStream.arguments`.
    sample : ndarray (F,), float64
        One step, not standardised. A NaN stands for the last number of that feature, the training mean before
        the first; where all are NaN the step is missing, and the state stays.
    out : ndarray (O,), float64
        See `PredictionStream.step`.

    Returns
    -------
    int
        0, or as `lstm_numba.kernels.step` returns it; `out` is NaN where a size does not fit.
    """
    if sample.size != held.size or out.size != scores.size:
        out[:] = np.nan
        return 1
    known = False
    for i in range(held.size):
        if not math.isnan(sample[i]):
            known = True
            held[i] = (sample[i] - x_mean[i]) / x_scale[i]
        x[i] = held[i]
    status: Any = 0
    if known:
        status = stream_step(cell, plan, zero, x, scores)
    _finish(kind, scores, y_scale, y_mean, out)
    return status


class PredictionStream:
    """Reads one sample of one sequence at a time and gives the model's prediction after each.

    For one thread at a time; it computes on the CPU.

    Parameters
    ----------
    model : SequenceClassifier or SequenceRegressor
        Of one direction; its parameters are copied now.
    inputs : Scaler, optional
        Standardises the features.
    targets : Scaler, optional
        Its inverse is applied to predicted numbers, of M targets.

    Attributes
    ----------
    arguments : tuple
        What `prediction_step` needs, from compiled code, before the sample.

    Raises
    ------
    ValueError, TypeError
        The model reads in both directions, or is no model of sequences.
    """

    def __init__(
        self, model: SequenceModel, inputs: Scaler | None = None, targets: Scaler | None = None
    ) -> None:
        if isinstance(model, SequenceClassifier):
            kind, count = _CLASSES, 1
        elif isinstance(model, SequenceRegressor):
            kind = _GAUSSIANS if model.loss.kind == GAUSSIAN else _NUMBERS
            count = model.outputs
        else:
            raise TypeError(f"model: expected a classifier or regressor, got {type(model).__name__}")
        rnn = model.rnn
        self._model = type(model).__name__
        self._stream = Stream(model)
        # Of a state of zeros, which there is before the first sample.
        self._first_scores = np.array(model.engine.download(model.output.params["bias"]))
        self._scores = self._first_scores.copy()
        inputs = Scaler.identity(rnn.input_size) if inputs is None else inputs
        targets = Scaler.identity(count) if targets is None else targets
        self._held = np.zeros(rnn.input_size)
        self._out = np.empty(self._scores.shape)
        self._shape = (rnn.input_size,)
        self.arguments = (
            *self._stream.arguments, inputs.mean, inputs.scale, self._held,
            np.zeros(rnn.input_size, rnn.dtype), kind, targets.scale, targets.mean, self._scores,
        )  # fmt: skip

    def __repr__(self) -> str:
        sizes = f"{plural(self._shape[0], 'feature')}, {plural(len(self._out), 'output')}"
        return f"PredictionStream({self._model}, {sizes})"

    def __reduce__(self) -> Any:
        raise TypeError("PredictionStream: cannot be copied or pickled; make another one of the model")

    def reset(self) -> None:
        """Begin another sequence."""
        self._stream.reset()
        self._held[:] = 0
        self._scores[:] = self._first_scores

    def step(self, sample: Any) -> Array:
        """Read one sample.

        Parameters
        ----------
        sample : array_like (F,)
            See `prediction_step`.

        Returns
        -------
        ndarray (O,), float64
            Probabilities of the classes; or the predicted numbers, for each target one, or its quantiles, or
            mean and standard deviation. The next step overwrites it: copy what is to stay.

        Raises
        ------
        ValueError, TypeError
            The shape does not fit, or there is something else than real numbers.
        """
        numbers = real_numbers("sample", sample).astype(np.float64, copy=False)
        if numbers.shape != self._shape:
            raise ValueError(f"sample: expected shape {self._shape}, got {numbers.shape}")
        prediction_step(*self.arguments, numbers, self._out)
        return self._out
