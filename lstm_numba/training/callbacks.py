"""What training reports, and who receives it. This module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a split.

    Attributes
    ----------
    split : str
    loss : float
        Mean of the loss; of classes and tokens of -log p, in nats.
    accuracy : float or None
        Fraction of right answers, of a classifier.
    perplexity : float or None
        ``exp(loss)``, of a language model.
    count : int
        Number of predictions.
    measures : dict of float
        Others, by their names in `lstm_numba.metrics`.
    """

    split: str
    loss: float
    accuracy: float | None
    perplexity: float | None
    count: int
    measures: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The fields that are not None, and the measures."""
        values = asdict(self)
        return {**{n: v for n, v in values.items() if v is not None and n != "measures"}, **self.measures}


class StartInfo(NamedTuple):
    """Training starts or resumes at `epoch` (from 0) and `step`."""

    epochs: int
    epoch: int
    step: int
    steps_per_epoch: int
    parameters: int
    unit: str
    metric: str
    floor: float | None
    resumed: bool


class StepInfo(NamedTuple):
    """A step is done.

    `epoch` and `step` (in the epoch) count from 1; `loss` and `metric` are means over the epoch so far;
    `norm` is the gradient's before clipping; `rate` is in units per second, 0 before a step was timed;
    `remaining` in seconds, NaN before.
    """

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    loss: float
    metric: float
    lr: float
    norm: float
    rate: float
    remaining: float


class EpochInfo(NamedTuple):
    """An epoch is done, counted from 1; `seconds` are the time of its training steps, without compiling."""

    epoch: int
    epochs: int
    lr: float
    seconds: float
    rate: float
    train: Evaluation
    evaluations: dict[str, Evaluation]


class Best(NamedTuple):
    """The epoch with the lowest loss on `split`: ``valid``, or ``train`` where there is no such split."""

    epoch: int
    split: str
    loss: float

    def is_stale(self, epoch: int, patience: int | None) -> bool:
        """Whether a training stops after `epoch`, `patience` epochs later; None waits for ever."""
        return patience is not None and epoch - self.epoch >= patience


class Outcome(NamedTuple):
    """A training is complete.

    Attributes
    ----------
    epochs, step : int
        Epochs and steps taken in all; fewer than configured if it stopped early.
    train : Evaluation
        Means over the last epoch's steps, while the parameters were changing.
    evaluations : dict of Evaluation
        Of the parameters that are kept, by split; always with ``test``.
    checkpoint : Path
        Where these are.
    already_complete : bool
        All epochs were done before, or it had stopped early.
    best : Best, optional
        What `best.safetensors` holds.
    start : float, optional
        Loss before training: that of the first step, or of guessing if that is higher.
    stopped_early : bool
        The loss that is watched had not been lower for as many epochs as the configuration allows.
    kept_epoch : int, optional
        The epoch whose parameters are kept: the last, or the best by the setting `keep`.
    """

    epochs: int
    step: int
    train: Evaluation
    evaluations: dict[str, Evaluation]
    checkpoint: Path
    already_complete: bool
    best: Best | None = None
    start: float | None = None
    stopped_early: bool = False
    kept_epoch: int | None = None

    @property
    def diverged(self) -> bool:
        """Whether the last epoch was worse than the start.

        The training loss by a tenth, since less may be noise; the loss on other data by a factor of ten,
        since overfitting alone can make it worse than at the start.
        """
        if self.start is None:
            return False
        others = max(result.loss for result in self.evaluations.values())
        return self.train.loss > 1.1 * self.start or others > 10 * self.start


class Reporter:
    """Receives the events of a training; subclasses show them. Every method does nothing by default."""

    def on_start(self, info: StartInfo) -> None:
        """Training starts or resumes."""

    def on_compile_begin(self) -> None:
        """Numba starts to compile; not called while all kernels come from its cache."""

    def on_compile_end(self, seconds: float) -> None:
        """Compilation is done and took `seconds`."""

    def on_step(self, info: StepInfo) -> None:
        """A step is done."""

    def on_evaluation(self, split: str, done: int, total: int) -> None:
        """Progress of an evaluation."""

    def on_epoch(self, info: EpochInfo) -> None:
        """An epoch and its evaluations are done."""

    def on_checkpoint(self, path: Path, step: int) -> None:
        """A checkpoint is on disk; `step` is the total number of steps."""

    def on_message(self, text: str) -> None:
        """A message for the user."""

    def on_finish(self, outcome: Outcome) -> None:
        """Training is complete."""
