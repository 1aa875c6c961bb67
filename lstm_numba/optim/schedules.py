"""Learning-rate schedules: the rate of a step as a function of its position, not of the steps before.

Only the plateau schedule has a state, which changes between epochs.
"""

from __future__ import annotations

import math
from typing import Any

from lstm_numba.arguments import integer, non_negative
from lstm_numba.wording import nearest, shown


class Schedule:
    """Constant learning rate, and the interface of the others.

    Parameters
    ----------
    lr : float
        The (initial) learning rate.
    """

    def __init__(self, lr: float) -> None:
        self.lr = non_negative("lr", lr)

    def __repr__(self) -> str:
        return shown(self, always=("lr",))

    def rate(self, epoch: int, step: int = 0, steps: int = 1) -> float:
        """Learning rate of one step.

        Parameters
        ----------
        epoch : int
            Counted from 0.
        step : int
            Step in the epoch, counted from 0.
        steps : int
            Steps in an epoch.
        """
        return self.lr

    def end_epoch(self, loss: float) -> None:
        """Report the loss after an epoch (on the validation split if there is one)."""

    def state_dict(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""


class HoldThenDecay(Schedule):
    """Constant for `hold` epochs, then multiplied by `decay` at every further epoch.

    ``lr * decay ** max(epoch + 1 - hold, 0)``: W. Zaremba, I. Sutskever, O. Vinyals, "Recurrent neural
    network regularization" (2014).

    Parameters
    ----------
    lr : float
        First learning rate.
    hold : int
        Epochs at `lr`.
    decay : float
        Factor per epoch after these, in (0, 1].

    Raises
    ------
    ValueError
        An argument is out of range; the message names it.

    Examples
    --------
    >>> import lstm_numba as ln
    >>> schedule = ln.HoldThenDecay(1.0, hold=2, decay=0.5)
    >>> [schedule.rate(epoch) for epoch in range(4)]
    [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, lr: float, hold: int = 4, decay: float = 0.5) -> None:
        super().__init__(lr)
        self.hold = integer("hold", hold, 0)
        if not 0 < decay <= 1:
            raise ValueError(f"decay: expected a factor in (0, 1], got {decay}")
        self.decay = decay

    def rate(self, epoch: int, step: int = 0, steps: int = 1) -> float:
        """See `Schedule.rate`."""
        return self.lr * self.decay ** max(epoch + 1 - self.hold, 0)


class Cosine(Schedule):
    """Linear warm-up, then half a cosine from `lr` to ``final * lr``.

    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), without restarts.

    Parameters
    ----------
    lr : float
        Largest learning rate.
    epochs : int
        Epochs of the training.
    warmup : float
        Epochs (may be a fraction) over which the rate rises from 0.
    final : float
        Last rate as a fraction of `lr`.

    Examples
    --------
    >>> import lstm_numba as ln
    >>> schedule = ln.Cosine(1.0, epochs=4)
    >>> [round(schedule.rate(epoch), 3) for epoch in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """

    def __init__(self, lr: float, epochs: int, warmup: float = 0.0, final: float = 0.0) -> None:
        super().__init__(lr)
        self.epochs = integer("epochs", epochs)
        if not 0 <= warmup < epochs:
            raise ValueError(f"warmup: expected less than the {epochs} epochs of the training, got {warmup}")
        if not 0 <= final <= 1:
            raise ValueError(f"final: expected a fraction in [0, 1], got {final}")
        self.warmup = warmup
        self.final = final

    def rate(self, epoch: int, step: int = 0, steps: int = 1) -> float:
        """See `Schedule.rate`."""
        # The rate at the end of the step: the first step of a warm-up must not have rate 0.
        end = epoch + (step + 1) / steps
        if end < self.warmup:
            return self.lr * end / self.warmup
        position = (epoch + step / steps - self.warmup) / (self.epochs - self.warmup)
        position = min(max(position, 0.0), 1.0)
        return self.lr * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * position)))


class Plateau(Schedule):
    """Multiply the rate by `factor` when the loss has not improved for more than `patience` epochs.

    The rule of PyTorch's ``ReduceLROnPlateau`` with a relative threshold and no cooldown.

    Parameters
    ----------
    lr : float
        Initial learning rate.
    factor : float
        Factor, in (0, 1).
    patience : int
        Epochs without improvement that are tolerated.
    threshold : float
        Relative decrease that counts as an improvement.
    minimum : float
        Lowest rate.
    """

    def __init__(
        self,
        lr: float,
        factor: float = 0.5,
        patience: int = 1,
        threshold: float = 1e-4,
        minimum: float = 0.0,
    ) -> None:
        super().__init__(lr)
        if not 0 < factor < 1:
            raise ValueError(f"factor: expected a number in (0, 1), got {factor}")
        self.patience = integer("patience", patience, 0)
        self.factor = factor
        self.threshold = threshold
        self.minimum = minimum
        self._current = self.lr
        self._best: float | None = None
        self._waited = 0

    def rate(self, epoch: int, step: int = 0, steps: int = 1) -> float:
        """See `Schedule.rate`."""
        return self._current

    def end_epoch(self, loss: float) -> None:
        """See `Schedule.end_epoch`."""
        if self._best is None or loss < self._best * (1 - self.threshold):
            self._best = loss
            self._waited = 0
        else:
            self._waited += 1
        if self._waited > self.patience:
            self._current = max(self._current * self.factor, self.minimum)
            self._waited = 0

    def state_dict(self) -> dict[str, Any]:
        """See `Schedule.state_dict`."""
        return {"current": self._current, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Schedule.load_state_dict`."""
        self._current = float(state["current"])
        self._best = None if state["best"] is None else float(state["best"])
        self._waited = int(state["waited"])


def make_schedule(name: str, lr: float, epochs: int, options: dict[str, Any] | None = None) -> Schedule:
    """Make a schedule by its name in a run's configuration.

    Parameters
    ----------
    name : {"constant", "ptb", "cosine", "plateau"}
    lr : float
        Initial (largest) learning rate.
    epochs : int
        Epochs of the training.
    options : dict, optional
        Further arguments of the class.

    Raises
    ------
    ValueError
        Unknown name or option, or a value out of range.
    """
    options = dict(options or {})
    makers: dict[str, tuple[Any, tuple[str, ...]]] = {
        "constant": (Schedule, ()),
        "ptb": (HoldThenDecay, ("hold", "decay")),
        "cosine": (Cosine, ("warmup", "final")),
        "plateau": (Plateau, ("factor", "patience", "threshold", "minimum")),
    }
    if name not in makers:
        hint = nearest(str(name), makers)
        raise ValueError(f"schedule: expected one of {', '.join(makers)}, got {name!r}{hint}")
    maker, known = makers[name]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"schedule_options: {name} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}"
        )
    if name == "cosine":
        options["epochs"] = epochs
    schedule: Schedule = maker(lr, **options)
    return schedule
