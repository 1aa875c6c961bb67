"""Training a model on arrays in memory, from Python; `lstm_numba.training.trainer` trains in a run folder."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.engines.base import NORM
from lstm_numba.errors import TrainingDiverged
from lstm_numba.models.base import Model, State, StepResult
from lstm_numba.optim.optimizers import Optimizer, make_optimizer
from lstm_numba.optim.schedules import Schedule, make_schedule
from lstm_numba.signatures import explicit
from lstm_numba.training.array_data import Batches
from lstm_numba.training.compile_watch import CompileWatch
from lstm_numba.training.evaluation import as_batches, as_data, check_one, evaluate, mean, named, result_of
from lstm_numba.training.history import History
from lstm_numba.training.progress import Progress
from lstm_numba.training.step import TrainingStep

#: Called after every epoch with the history; True stops the training.
Callback = Callable[[History], Any]


@explicit()
def fit(
    model: Model,
    data: Any,
    *,
    validation: Any = None,
    epochs: int = 10,
    batch_size: int = 32,
    bptt: int = 35,
    optimizer: str | Optimizer = "adam",
    lr: float = 0.002,
    schedule: str | Schedule = "constant",
    clip: float | None = 1.0,
    clip_value: float | None = None,
    patience: int | None = None,
    tol: float = 0.0,
    keep_best: bool | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int = 0,
    verbose: bool = True,
) -> History:
    """Train a model on arrays.

    Parameters
    ----------
    model : SequenceClassifier, SequenceRegressor or LanguageModel
        Is trained in place.
    data : tuple, Items, ndarray or Batches
        ``(x, y)``, see `SequenceData`; the tokens of a text, 1-D, for a `LanguageModel`; or an object of
        one's own that makes batches of items, or whole batches.
    validation : the same, optional
        Evaluated after every epoch.
    epochs : int
        Passes over the data.
    batch_size : int
        Sequences in a batch, of one's own batches as they are.
    bptt : int
        Steps of a window of text.
    optimizer : {"adam", "adamw", "sgd", "rmsprop", "nt-asgd"} or Optimizer
        "nt-asgd" needs `validation`; see `NTASGD`, whose averages the model has at the end.
    lr : float
        Learning rate, of an `Optimizer` or `Schedule` its own.
    schedule : {"constant", "cosine", "ptb", "plateau"} or Schedule
    clip, clip_value : float, optional
        Largest global norm of the gradient; largest absolute value of each of its numbers.
    patience : int, optional
        Stop when the watched loss, that of `validation` if there is one, has not improved for so many epochs.
    tol : float
        Smallest decrease that counts as an improvement.
    keep_best : bool, optional
        Give the model the parameters of the best epoch at the end; by default where `patience` or
        `validation` is given.
    callbacks : sequence of callable
        Each is called after every epoch with the history so far; a true result stops the training.
    seed : int
        Seed of the order of the sequences.
    verbose : bool
        Write the progress to standard error: a line that is overwritten in a terminal or a notebook.

    Returns
    -------
    History

    Raises
    ------
    TrainingDiverged
        The loss or the gradient is not finite; the model keeps its last finite parameters.
    ValueError, TypeError
        An argument is out of range, or does not fit the model; there are many, see `fit_models`.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> x = np.random.default_rng(0).standard_normal((64, 5, 3)).astype(np.float32)  # N, T, F
    >>> labels = (x[:, :, 0].mean(axis=1) > 0).astype(int)
    >>> model = ln.SequenceClassifier(3, 4, 2, cell="lstm", seed=0)
    >>> before = ln.evaluate(model, (x, labels)).loss
    >>> history = ln.fit(model, (x, labels), epochs=5, lr=0.05, verbose=False)
    >>> bool(ln.evaluate(model, (x, labels)).loss < before)
    True
    """
    if patience is not None:
        integer("patience", patience)
    if keep_best is None:
        keep_best = patience is not None or validation is not None
    check_one(model, "fit_models")
    batches = as_batches(model, data, batch_size, bptt, seed)
    rate = optimizer.lr if isinstance(optimizer, Optimizer) else lr
    rule = optimizer if isinstance(optimizer, Optimizer) else make_optimizer(optimizer, model.params, rate)
    if rule.needs_validation and validation is None:
        raise ValueError(f"validation: expected data, which {type(rule).__name__} needs, got None")
    if not isinstance(schedule, Schedule):
        schedule = make_schedule(schedule, rate, integer("epochs", epochs))
    step = TrainingStep(model, rule, clip_value, clip, batches.carries_state)
    loop = _Loop(model, batches, step, rule, schedule, Progress(verbose))
    held = None if validation is None else as_data(model, validation, batch_size, bptt, "validation")
    return loop.run(integer("epochs", epochs), held, patience, tol, keep_best, callbacks)


class _Loop:
    """The epochs of a training; see `fit`."""

    def __init__(
        self,
        model: Model,
        batches: Batches,
        step: TrainingStep,
        optimizer: Optimizer,
        schedule: Schedule,
        progress: Progress,
    ) -> None:
        self._model, self._batches, self._step = model, batches, step
        self._optimizer, self._schedule, self._progress = optimizer, schedule, progress
        self._compiling = CompileWatch(progress)
        self.history = History()
        self._best: dict[str, Any] | None = None

    def run(
        self,
        epochs: int,
        validation: Any,
        patience: int | None,
        tol: float,
        keep_best: bool,
        callbacks: Sequence[Callback],
    ) -> History:
        history = self.history
        with self._compiling, self._progress:
            for epoch in range(epochs):
                numbers = self._epoch(epoch, epochs)
                if validation is not None:
                    with self._optimizer.using_averages():
                        result = evaluate(self._model, validation)
                    self._compiling.flush()
                    numbers.update(named(result, "valid_"))
                history.epochs.append(numbers)
                watched = numbers["loss" if validation is None else "valid_loss"]
                self._schedule.end_epoch(watched)
                with self._optimizer.using_averages():
                    self._note(watched, tol, keep_best)
                if validation is not None and self._optimizer.end_evaluation(watched):
                    self._step.forget_records()
                self._progress.epoch_done(epoch + 1, epochs, numbers)
                waited = epoch + 1 - history.best_epoch
                history.stopped_early = patience is not None and waited >= patience
                stop = [callback(history) for callback in callbacks]
                if history.stopped_early or any(stop):
                    break
        for name, array in self._optimizer.averages.items():
            self._model.engine.assign(self._model.params[name], array)
        if self._best is not None:
            self._model.load_params(self._best)
        return history

    def _note(self, loss: float, tol: float, keep: bool) -> None:
        """Note whether the epoch was the best so far."""
        if self.history.note(loss, tol) and keep:
            download = self._model.engine.download
            self._best = {name: np.array(download(array)) for name, array in self._model.params.items()}

    def _epoch(self, epoch: int, epochs: int) -> dict[str, float]:
        steps, state = len(self._batches), None
        began, waiting = time.perf_counter(), deque[StepResult]()
        sums = [0.0, 0.0, 0.0]
        rate = self._optimizer.lr
        for k in range(steps):
            rate = self._schedule.rate(epoch, k, steps)
            result = self._step(self._batches.batch(epoch, k), state, rate)
            self._compiling.flush()
            state = self._carried(result)
            waiting.append(result)
            while len(waiting) > self._model.engine.in_flight:
                self._settle(waiting.popleft(), sums, epoch)
            self._progress.step_done(epoch + 1, epochs, k + 1, steps, mean(sums[0], sums[2]))
        while waiting:
            self._settle(waiting.popleft(), sums, epoch)
        total, right, count = sums
        numbers = named(result_of(self._model, total, int(right), count), "")
        return {**numbers, "lr": rate, "seconds": time.perf_counter() - began}

    def _carried(self, result: StepResult) -> State:
        return result.state if self._batches.carries_state else None

    def _settle(self, result: StepResult, sums: list[float], epoch: int) -> None:
        norm = result.number(NORM)
        if not (math.isfinite(result.objective) and math.isfinite(norm)):
            raise TrainingDiverged(
                f"training diverged in epoch {epoch + 1}: the loss is {result.objective:g}, learning rate "
                f"{self._optimizer.lr:g}, gradient norm {norm:g}; the parameters are those before"
            )
        for n, number in enumerate((result.loss_sum, result.correct, result.count)):
            sums[n] += number
