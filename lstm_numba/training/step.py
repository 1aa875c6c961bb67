"""A training step: gradients of a batch, clipping, and an update of the parameters.

If the engine can record a step, it is replayed without the host: see `lstm_numba.engines.cuda.graph`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lstm_numba.engines.base import TOTALS
from lstm_numba.models.base import Model, Placed, SequenceBatch, State, StepResult
from lstm_numba.optim.optimizers import Optimizer


class TrainingStep:
    """Computes gradients and updates the parameters with them, unless they are not finite.

    Parameters
    ----------
    model : Model
    optimizer : Optimizer
    clip_value : float or None
        Bound of each gradient entry.
    clip : float or None
        Bound of the global norm.
    carries_state : bool
        Whether the final state of a step is the initial state of the next.
    """

    def __init__(
        self,
        model: Model,
        optimizer: Optimizer,
        clip_value: float | None = None,
        clip: float | None = None,
        carries_state: bool = False,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self._clip_value, self._clip, self._carries_state = clip_value, clip, carries_state
        self._sums: dict[str, Any] = {}  # of the gradients of several batches
        self._records: dict[Any, _Record] | None = None if model.engine.recorder() is None else {}

    def __call__(self, batch: Any, state: State, rate: Any, taking: Any = None) -> StepResult:
        """Take a step.

        Parameters
        ----------
        batch : SequenceBatch or TokenBatch
        state : ndarray or tuple of ndarray or None
            Initial state; zero if None.
        rate : float or ndarray (N,)
            Learning rate, or those of many models.
        taking : ndarray of bool (N,), optional
            Which of many models take the step; the others stay as they are.

        Returns
        -------
        StepResult
            Without the gradients; its totals are being copied to the host. Its state is valid until the
            next step.
        """
        self.optimizer.lr = rate
        record = self._record(batch)
        if record is not None:
            return record.step(batch, state)
        result = self.compute(self.model.place(batch, fixed=self._records is not None), state, taking=taking)
        result.fetch()
        return result

    def forget_records(self) -> None:
        """Record steps again: what the optimizer does in one has changed."""
        if self._records is not None:
            self._records = {}

    def compute(self, placed: Any, state: State, numbers: Any = None, taking: Any = None) -> StepResult:
        """The step for a batch in the engine's memory.

        Parameters
        ----------
        placed : object
            From the model's ``place``.
        state : ndarray or tuple of ndarray or None
        numbers : optional
            The optimizer's numbers for this step, if `begin_step` was called.
        taking : optional
            See `__call__`.
        """
        with np.errstate(all="ignore"):  # NaN and inf are checked when the step is settled
            result = self.model.learn(placed, state)
            self._update(result, numbers, taking)
        return result

    def several(self, batches: Iterable[Any], state: State, rate: float) -> StepResult:
        """Take one step with the mean of the gradients of several batches.

        Each counts by the number of its predictions, so that the step is that of one batch which holds them
        all, but for rounding and for the masks of dropout. It is never recorded.

        Parameters
        ----------
        batches : iterable of SequenceBatch or TokenBatch
            At least one. Where the state is carried, each begins with the final state of the one before.
        state, rate
            See `__call__`.

        Returns
        -------
        StepResult
            Of all of them.
        """
        self.optimizer.lr = rate
        placed = [self.model.place(batch) for batch in batches]
        count = sum(one.predictions for one in placed)
        weighted = [(one, one.predictions / count) for one in placed]
        with np.errstate(all="ignore"):
            result = self._learn_all(weighted, count, state)
            self._update(result)
        result.fetch()
        return result

    def _learn_all(self, weighted: Iterable[tuple[Placed, float]], count: float, state: State) -> StepResult:
        """Losses and weighted gradients of several batches, dense arrays that the next call overwrites."""
        engine, params = self.model.engine, self.model.params
        if not self._sums:
            self._sums = {name: engine.empty(array.shape, array.dtype) for name, array in params.items()}
        for array in self._sums.values():
            engine.assign(array, None)
        totals, scale = engine.zeros((len(TOTALS),), np.float64), 0.0
        for one, weight in weighted:
            result = self.model.learn(one, state)
            state = result.state if self._carries_state else None
            self._add([totals], [result.totals], float(one.fraction > 0))
            grads = [result.grads[name] for name in self._sums]
            self._add(list(self._sums.values()), grads, weight)
            scale = result.scale * weight
        return StepResult(engine, totals, count, scale, dict(self._sums), result.state)

    def _add(self, sums: list[Any], terms: list[Any], weight: float) -> None:
        """``sums += weight * terms``, which is a step of plain gradient descent at a negative rate."""
        engine = self.model.engine
        engine.sgd(sums, terms, engine.factor(1.0, None), engine.numbers((-weight,)))

    def _update(self, result: StepResult, numbers: Any = None, taking: Any = None) -> None:
        """Clip the gradients of a result and update the parameters with them."""
        engine = self.model.engine
        if self._clip_value is not None:
            engine.clip_by_value(result.grads, self._clip_value)
        engine.clip_by_norm(result.grads, result.totals, self._clip)
        numbers = self.optimizer.begin_step(taking=taking) if numbers is None else numbers
        factor = engine.factor(1.0, result.totals)
        factor = factor if taking is None else np.where(taking, factor, np.nan)
        self.optimizer.update(result.grads, factor, numbers)
        result.grads = {}

    def _record(self, batch: Any) -> _Record | None:
        """The recorded step for batches of this shape; None for the first one, which compiles."""
        if self._records is None or self.model.models or getattr(batch, "lengths", None) is not None:
            return None
        if isinstance(batch, SequenceBatch) and batch.weights is not None:  # the mean's divisor changes
            return None
        shape = tuple(array.shape for array in batch if array is not None)
        if shape not in self._records:
            self._records[shape] = _Record(self, self._carries_state)
            return None
        return self._records[shape]


class _Record:
    """A step for batches of one shape: run once in its own memory, then recorded, then replayed."""

    def __init__(self, step: TrainingStep, carries_state: bool) -> None:
        self._step, self._carries_state = step, carries_state
        self._model, self._optimizer, self._engine = step.model, step.optimizer, step.model.engine
        self._recorder = self._engine.recorder()
        self._placed: Any = None
        self._state: State = None
        self._result: StepResult | None = None

    def step(self, batch: Any, state: State) -> StepResult:
        """See `TrainingStep`."""
        with self._recorder.apart():
            first = self._placed is None
            self._placed = self._model.place(batch, fixed=True, out=self._placed)
            if first:
                self._numbers = self._engine.empty((self._optimizer.number_count,), np.float64)
                self._state = self._model.zero_state(batch.inputs.shape[1]) if self._carries_state else None
            if self._carries_state and state is not self._state:
                self._assign(state)
            self._optimizer.begin_step(self._numbers)
            result = self._compute() if first else self._repeat()
            result.fetch()
        return result

    def _repeat(self) -> StepResult:
        if self._result is None:
            self._draws = self._recorder.draws(self._model.rng)
            with self._draws.recorded():
                self._result = self._recorder.record(self._compute)
            self._kept = self._model.workspace.arrays()  # the graph writes to them
        else:
            self._draws.repeat()
        self._recorder.repeat()
        return self._result.again(self._placed.predictions)

    def _compute(self) -> StepResult:
        result = self._step.compute(self._placed, self._state, self._numbers)
        if self._carries_state:
            self._assign(result.state)
            result.state = self._state
        return result

    def _assign(self, state: State) -> None:
        targets = _arrays(self._state)
        for target, source in zip(targets, _arrays(state) or [None] * len(targets), strict=True):
            self._engine.assign(target, source)


def _arrays(state: State) -> list[Any]:
    return [] if state is None else list(state) if isinstance(state, tuple) else [state]
