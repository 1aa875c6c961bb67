"""NT-ASGD: gradient descent that begins to average its parameters when the validation loss stops falling.

S. Merity, N. S. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", ICLR 2018, algorithm 1
(non-monotonically triggered averaging); B. T. Polyak, A. B. Juditsky, "Acceleration of stochastic
approximation by averaging" (1992) for the average.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.optim.base import Array
from lstm_numba.optim.sgd import SGD

#: Evaluations of which the loss may be higher than before.
NONMONO = 5
_AVERAGE = "average."


class NTASGD(SGD):
    """Gradient descent, and from a trigger on the averages of the parameters beside it.

    `end_evaluation` is told each validation loss. It triggers when a loss is higher than the lowest of all
    earlier ones but the last `nonmono`. From then on the averages are the mean of the parameters at the
    trigger and after every later step, ``a += (p - a) / n``: they are what is evaluated, used and kept. The
    training itself goes on with `params`, at an unchanged learning rate.

    Parameters
    ----------
    params, lr
        See `Optimizer`; of one model.
    nonmono : int
        Latest losses that the trigger leaves out, from 0.
    weight_decay : float
        L2 penalty: ``weight_decay * p`` is added to the gradient.

    Attributes
    ----------
    losses : list of float
        What `end_evaluation` was told.
    averaged : int
        Sets of parameters in the averages; 0 before the trigger.

    Raises
    ------
    ValueError, TypeError
        See `Optimizer`; `lr` is an array, of many models.
    """

    needs_validation: ClassVar[bool] = True

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float | Array,
        nonmono: int = NONMONO,
        weight_decay: float = 0.0,
    ) -> None:
        if np.ndim(lr):
            raise ValueError(f"lr: expected one, NTASGD trains one model, got {np.size(lr)}")
        super().__init__(params, lr, weight_decay=weight_decay)
        self.nonmono = integer("nonmono", nonmono, 0)
        self.losses: list[float] = []
        self.averaged = 0
        self._one: Any = None

    def end_evaluation(self, loss: float) -> bool:
        """See `Optimizer.end_evaluation`."""
        earlier = self.losses[: max(len(self.losses) - self.nonmono, 0)]
        self.losses.append(float(loss))
        if self.averaged or not earlier or not loss > min(earlier):
            return False
        self._make_averages()
        for name, array in self.averages.items():
            self._engine.assign(array, self.params[name])
        self.averaged = 1
        return True

    def _make_averages(self) -> None:
        empty = self._engine.empty
        self._state = {_AVERAGE + name: empty(a.shape, a.dtype) for name, a in self.params.items()}
        self._one = self._engine.factor(1.0, None)

    @property
    def averages(self) -> dict[str, Array]:
        """See `Optimizer.averages`."""
        return {name.removeprefix(_AVERAGE): array for name, array in self._state.items()}

    @contextlib.contextmanager
    def using_averages(self) -> Iterator[None]:
        """See `Optimizer.using_averages`."""
        averages, engine, own = self.averages, self._engine, {}
        for name, array in averages.items():
            own[name] = engine.empty(array.shape, array.dtype)
            engine.assign(own[name], self.params[name])
            engine.assign(self.params[name], array)
        try:
            yield
        finally:
            for name, array in own.items():
                engine.assign(self.params[name], array)

    def begin_step(self, out: Any = None, taking: Array | None = None) -> Any:
        """See `Optimizer.begin_step`."""
        self.averaged += bool(self.averaged)
        return super().begin_step(out, taking)

    def _numbers(self) -> tuple[float, ...]:
        share = 1.0 / max(self.averaged, 1)
        return (*super()._numbers(), share, -share)

    def _update(self, params: list[Array], grads: list[Any], factor: Any, numbers: Any) -> None:
        super()._update(params, grads, factor, numbers[:-2])
        if not self.averaged:
            return
        if isinstance(factor, float) and math.isnan(factor):  # nothing was updated
            self.averaged -= 1
            return
        averages = [self._state[_AVERAGE + name] for name in self.params]
        # a -= a/n and a += p/n are steps of gradient descent: elementwise passes without another array.
        self._engine.sgd(averages, averages, self._one, numbers[-2:-1])
        self._engine.sgd(averages, params, self._one, numbers[-1:])

    def history(self) -> dict[str, Any]:
        """See `Optimizer.history`."""
        return {"losses": list(self.losses), "averaged": self.averaged}

    def load_history(self, state: Mapping[str, Any]) -> None:
        """See `Optimizer.load_history`."""
        losses, averaged = [float(loss) for loss in state["losses"]], int(state["averaged"])
        if averaged < 0 or not all(map(math.isfinite, losses)):
            raise ValueError(f"state: expected finite losses and a count, got {losses} and {averaged}")
        self.losses, self.averaged = losses, averaged
        self._state = {}
        if averaged:
            self._make_averages()
