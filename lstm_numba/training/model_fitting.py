"""Training many models at once on arrays in memory.

Each model has its own order of the data, learning rate, clipping and end. A model that is done leaves the
others, which go on without it, so that it costs nothing any more.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.engines.base import NORM
from lstm_numba.errors import TrainingDiverged
from lstm_numba.models.base import StepResult
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.optim.optimizers import Optimizer, make_optimizer
from lstm_numba.optim.schedules import Schedule, make_schedule
from lstm_numba.signatures import explicit
from lstm_numba.training.array_data import Batches
from lstm_numba.training.compile_watch import CompileWatch
from lstm_numba.training.evaluation import (
    as_batches,
    evaluate_models,
    mean,
    models_of,
    named,
    of_each_model,
    result_of,
)
from lstm_numba.training.history import History
from lstm_numba.training.model_batches import stacked
from lstm_numba.training.progress import Progress
from lstm_numba.training.step import TrainingStep
from lstm_numba.wording import plural

#: Called after every epoch with the histories; True stops the training.
Callback = Callable[[list[History]], Any]


@explicit()
def fit_models(
    model: SequenceModel,
    data: Any,
    *,
    validation: Any = None,
    epochs: int = 10,
    batch_size: int = 32,
    optimizer: str | Optimizer = "adam",
    lr: float | Sequence[float] = 0.002,
    schedule: str | Schedule = "constant",
    clip: float | None = 1.0,
    clip_value: float | None = None,
    patience: int | None = None,
    tol: float = 0.0,
    keep_best: bool | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int | Sequence[int] = 0,
    verbose: bool = True,
) -> list[History]:
    """Train many models at once on arrays, each as `lstm_numba.fit` would on one thread.

    Parameters
    ----------
    model : SequenceClassifier or SequenceRegressor
        Made with `models`, and trained in place.
    data : object
        What `fit` takes but for texts, the same for all models; or a list of one for each, of any sizes.
    validation : the same, optional
    epochs, batch_size, schedule, tol, keep_best, verbose
        See `fit`; each model goes through a copy of a `Schedule`.
    optimizer : str or Optimizer
    lr : float or sequence of float
        Learning rate of all models, or of each.
    clip, clip_value : float, optional
        Largest norm of each model's gradient; largest absolute value of each of its numbers.
    patience : int, optional
        See `fit`; each model stops at its own time, and costs nothing afterwards.
    callbacks : sequence of callable
        Each is called after every epoch with all histories; a true result stops the training.
    seed : int or sequence of int
        Of the order of the sequences: model n's is that plus n, or one of a sequence.

    Returns
    -------
    list of History
        One for each model.

    Raises
    ------
    TrainingDiverged
        Loss or gradient of a model were not finite: it keeps its last finite parameters, and the others are
        trained to their end.
    ValueError, TypeError
        An argument is out of range, or does not fit the model.
    """
    if patience is not None:
        integer("patience", patience)
    if keep_best is None:
        keep_best = patience is not None or validation is not None
    training = _ModelFitting(
        model, data, validation, batch_size=batch_size, seed=seed, optimizer=optimizer, lr=lr,
        schedule=schedule, epochs=integer("epochs", epochs), clip=clip, clip_value=clip_value,
        progress=Progress(verbose),
    )  # fmt: skip
    return training.run(patience, tol, keep_best, callbacks)


@dataclass
class _Training:
    """One model's training: `n` is its number among all."""

    n: int
    batches: Batches
    schedule: Schedule
    history: History = field(default_factory=History)
    best: dict[str, Any] | None = None
    diverged: str = ""
    done: bool = False


class _ModelFitting:
    """The epochs of a training of many models; see `fit_models`."""

    def __init__(
        self,
        model: SequenceModel,
        data: Any,
        validation: Any,
        *,
        batch_size: int,
        seed: int | Sequence[int],
        optimizer: str | Optimizer,
        lr: float | Sequence[float],
        schedule: str | Schedule,
        epochs: int,
        clip: float | None,
        clip_value: float | None,
        progress: Progress,
    ) -> None:
        models = models_of(model)
        several = of_each_model(data, models)
        given = [data] * models if several is None else several
        seeds = [seed + n for n in range(models)] if isinstance(seed, int) else list(seed)
        rates = np.broadcast_to(optimizer.lr if isinstance(optimizer, Optimizer) else lr, (models,)).tolist()
        if not isinstance(optimizer, Optimizer):
            optimizer = make_optimizer(optimizer, model.params, np.array(rates))
        if optimizer.needs_validation:
            raise ValueError(f"optimizer: {type(optimizer).__name__} trains one model, got {models}; see fit")
        self._all, self._of_all = model, optimizer
        self._clips, self._epochs, self._validation = (clip_value, clip), epochs, validation
        self._trainings = [
            _Training(
                n, as_batches(model, one, batch_size, 0, own_seed), _schedule_of(schedule, rate, epochs)
            )
            for n, (one, own_seed, rate) in enumerate(zip(given, seeds, rates, strict=True))
        ]
        self._progress, self._compiling = progress, CompileWatch(progress)
        self._go_on_with(self._trainings, model, self._of_all)

    def _go_on_with(self, active: list[_Training], model: SequenceModel, optimizer: Optimizer) -> None:
        self._active, self._model, self._optimizer = active, model, optimizer
        self._step = TrainingStep(model, optimizer, *self._clips)

    def run(
        self, patience: int | None, tol: float, keep_best: bool, callbacks: Sequence[Any]
    ) -> list[History]:
        """Train; see `fit_models`."""
        histories = [training.history for training in self._trainings]
        with self._compiling, self._progress:
            for epoch in range(self._epochs):
                self._epoch(epoch)
                self._progress.epoch_done(epoch + 1, self._epochs, self._means())
                self._note(patience, tol, keep_best)
                stop = [callback(histories) for callback in callbacks]
                if any(stop):
                    break
                self._leave_out()
                if not self._active:
                    break
        self._write_back()
        self._end()
        return histories

    def _epoch(self, epoch: int) -> None:
        """Train the active models for an epoch, evaluate them, and write their histories."""
        began, active = time.perf_counter(), self._active
        counts = np.array([len(training.batches) for training in active], np.int64)
        sums = np.zeros((3, len(active)))
        for k in range(counts.max()):
            taking = k < counts
            taking &= np.array([not training.diverged for training in active])
            result = self._take_step(epoch, k, counts, taking)
            self._settle(result, taking, sums, epoch)
            so_far = mean(sums[0].sum(), sums[2].sum())
            self._progress.step_done(epoch + 1, self._epochs, k + 1, int(counts.max()), so_far)
        held: list[Any] = [None] * len(active)
        if self._validation is not None:
            data = self._validation
            if isinstance(data, list):
                data = [data[training.n] for training in active]
            held = evaluate_models(self._model, data)
            self._compiling.flush()
        seconds = time.perf_counter() - began
        for n, (training, valid) in enumerate(zip(active, held, strict=True)):
            total, right, count = sums[:, n]
            numbers = named(result_of(self._model, total, int(right), count), "")
            rate = training.schedule.rate(epoch, int(counts[n]) - 1, int(counts[n]))
            numbers |= {"lr": rate, "seconds": seconds} | ({} if valid is None else named(valid, "valid_"))
            training.history.epochs.append(numbers)
            training.schedule.end_epoch(numbers["loss" if valid is None else "valid_loss"])

    def _take_step(self, epoch: int, k: int, counts: Any, taking: Any) -> StepResult:
        # A model without a batch left is given its last one again, and does not learn from it.
        batches = [
            training.batches.batch(epoch, min(k, int(count) - 1))
            for training, count in zip(self._active, counts, strict=True)
        ]
        rates = np.array([
            training.schedule.rate(epoch, min(k, int(count) - 1), int(count))
            for training, count in zip(self._active, counts, strict=True)
        ])  # fmt: skip
        batch = stacked(batches, self._model.per_step)
        result = self._step(batch, None, rates, None if taking.all() else taking)
        self._compiling.flush()
        return result

    def _settle(self, result: StepResult, taking: Any, sums: Any, epoch: int) -> None:
        """Count a step; a model whose loss or gradient is not finite did not learn from it."""
        norms, objectives = result.number(NORM), result.objective
        sound = np.isfinite(norms) & np.isfinite(objectives)
        counted = taking & sound
        for row, numbers in zip(sums, (result.loss_sum, result.correct, result.count), strict=True):
            row[counted] += np.broadcast_to(numbers, counted.shape)[counted]
        for n in np.flatnonzero(taking & ~sound):
            training = self._active[n]
            training.diverged = training.diverged or (
                f"model {training.n} in epoch {epoch + 1}: the loss is {objectives[n]:g}, "
                f"gradient norm {norms[n]:g}"
            )

    def _means(self) -> dict[str, float]:
        """Means over the active models, for the progress."""
        last = [training.history.epochs[-1] for training in self._active]
        return {name: float(np.mean([numbers[name] for numbers in last])) for name in last[0]}

    def _note(self, patience: int | None, tol: float, keep: bool) -> None:
        """Note which models are at their best, and which are done."""
        for k, training in enumerate(self._active):
            history, numbers = training.history, training.history.epochs[-1]
            loss = numbers.get("valid_loss", numbers["loss"])
            if history.note(loss, tol) and keep:
                download = self._model.engine.download
                training.best = {name: np.array(download(a[k])) for name, a in self._model.params.items()}
            waited = len(history.epochs) - history.best_epoch
            history.stopped_early = patience is not None and waited >= patience
            training.done = history.stopped_early or bool(training.diverged)

    def _leave_out(self) -> None:
        """Go on without the models that are done."""
        left = [k for k, training in enumerate(self._active) if not training.done]
        if len(left) < len(self._active):
            self._write_back()
            active = [self._active[k] for k in left]
            if left:
                model = self._model.select(left)
                self._go_on_with(active, model, self._optimizer.select(left, model.params))
            self._active = active

    def _write_back(self) -> None:
        """Copy the active models to their places among all."""
        if self._model is self._all or not self._active:
            return
        engine, places = self._all.engine, enumerate(self._active)
        pairs = [
            (self._all.params, self._model.params),
            (self._of_all.state_arrays(), self._optimizer.state_arrays()),
        ]
        for k, training in places:
            for targets, sources in pairs:
                for name, source in sources.items():
                    engine.assign(targets[name][training.n], source[k])
        active = [training.n for training in self._active]
        for name in ("steps", "lr"):
            whole = np.array(np.broadcast_to(getattr(self._of_all, name), (len(self._trainings),)))
            whole[active] = getattr(self._optimizer, name)
            setattr(self._of_all, name, whole)

    def _end(self) -> None:
        for training in self._trainings:
            for name, array in (training.best or {}).items():
                self._all.engine.upload(array, out=self._all.params[name][training.n])
        lost = [training.diverged for training in self._trainings if training.diverged]
        if lost:
            raise TrainingDiverged(
                f"training diverged, of {plural(len(lost), 'model')} in {len(self._trainings)}; {lost[0]}; "
                "their parameters are those before"
            )


def _schedule_of(schedule: str | Schedule, rate: float, epochs: int) -> Schedule:
    """A model's own."""
    return (
        copy.deepcopy(schedule) if isinstance(schedule, Schedule) else make_schedule(schedule, rate, epochs)
    )
