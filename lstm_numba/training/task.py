"""A task for the trainer: a model with its data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lstm_numba.errors import UserError
from lstm_numba.models.base import Model, Network, SequenceBatch, TokenBatch
from lstm_numba.ranks.base import ALONE, Ranks
from lstm_numba.ranks.shares import Part, Share
from lstm_numba.training.callbacks import Evaluation
from lstm_numba.training.run import Run

#: Called as ``progress(done, total)``.
Progress = Callable[[int, int], None]


class Task:
    """Base of `ImageTask`, `TextTask` and `SeriesTask`.

    Attributes
    ----------
    config : dict
    model : Model
    kind : {"classification", "regression", "language-model"}
    unit : str
        What is predicted: "images", "tokens", ...
    metric : {"accuracy", "perplexity", "loss"}
        What says how well beside the loss, "loss" if nothing does.
    device : {"cpu", "cuda"}
        Where the model computes; may differ from where the run started.
    splits : tuple of str
    ranks : Ranks
        That share its batches: each reads data once a machine, and evaluates its rows only.
    carries_state : bool
        The final state of a batch is the initial state of the next one.
    """

    kind: str
    unit: str
    metric: str
    carries_state: bool
    model: Model
    splits: tuple[str, ...]
    ranks: Ranks = ALONE

    def __init__(
        self,
        config: Mapping[str, Any],
        data_dir: str | os.PathLike[str] | None,
        device: str | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.config = dict(config)
        self.device = config["device"] if device is None else device
        self.data_dir = config["data"].get("data_dir") if data_dir is None else os.fspath(data_dir)

    def network(self, *more: str) -> dict[str, Any]:
        """Arguments of the model out of the configuration: those of all models, and others by name."""
        # Layers of a training have biases: it is no setting.
        names = (*(name for name in Network._fields if name != "bias"), "seed", *more)
        return {name: self.config[name] for name in names} | {"device": self.device}

    @property
    def floor(self) -> float | None:
        """Lowest reachable perplexity, where it is known."""
        return None

    @property
    def chance(self) -> float:
        """Loss of guessing: all answers are equally likely."""
        raise NotImplementedError

    @property
    def watched(self) -> str | None:
        """The split that is evaluated after every epoch; None if there is only the training loss to watch.

        The test split is not: it is evaluated once, at the end of the training.
        """
        return "valid" if "valid" in self.splits else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the data."""
        return ()

    @property
    def sequence_steps(self) -> int:
        """Time steps of a training batch."""
        raise NotImplementedError

    @property
    def steps_per_epoch(self) -> int:
        """Number of training batches."""
        raise NotImplementedError

    def load_data(self) -> None:
        """Load all data now, so that a missing file is reported before anything is written."""
        raise NotImplementedError

    def batch(self, epoch: int, step: int) -> Any:
        """Training batch `step` of `epoch`, both from 0; determined by the configuration."""
        raise NotImplementedError

    def share(self, epoch: int, step: int) -> Share:
        """This rank's rows of a training batch."""
        whole = self.batch(epoch, step)
        part = self.ranks.part(whole.inputs.shape[1] if isinstance(whole, TokenBatch) else whole.x.shape[1])
        batch, largest = _rows_of(whole, part), 0
        if isinstance(whole, TokenBatch):
            largest = len(whole.inputs) * self.ranks.largest(part.total)
        return Share(batch, part, self.model.predictions(whole), largest)

    def evaluate(self, split: str, progress: Progress | None = None) -> Evaluation:
        """Predict a split without dropout.

        Parameters
        ----------
        split : str
            One of `splits`.
        progress : callable, optional
            Called as ``progress(done, total)`` after every batch.

        Raises
        ------
        UserError
            There is no such split.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A checksum of the training data: a run can only be resumed with the same data."""
        raise NotImplementedError

    def baselines(self) -> tuple[dict[str, dict[str, float]], list[str]]:
        """Measures of simple predictions on the test split by their names, and remarks on them."""
        return {}, []

    def vocabulary_digest(self) -> str | None:
        """Of vocabulary or series, see `lstm_numba.training.run_consistency`; None for what has neither."""
        return None

    def keep_with(self, run: Run) -> None:
        """Write to the run folder what using the model needs besides the checkpoint."""

    def summary(self, split: str, loss_sum: float, correct: int, count: float) -> Evaluation:
        """Turn sums into means."""
        loss, number = loss_sum / max(count, 1), round(count)
        if self.metric == "accuracy":
            return Evaluation(split, loss, correct / max(count, 1), None, number)
        return Evaluation(
            split, loss, None, perplexity(loss) if self.metric == "perplexity" else None, number
        )

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            raise UserError(f"split: expected one of {', '.join(self.splits)}, got {split!r}")


def _rows_of(batch: Any, part: Part) -> Any:
    """The rows of a part; where it has none, the first row."""
    rows = part.rows if part.size else slice(0, 1)
    if isinstance(batch, TokenBatch):
        inputs, targets = (np.ascontiguousarray(array[:, rows]) for array in batch[:2])
        weights = None if batch.weights is None else np.ascontiguousarray(batch.weights[:, rows])
        return TokenBatch(inputs, targets, weights)
    x, labels, lengths, weights = batch
    steps = labels.ndim == 3  # of predictions at every step
    return SequenceBatch(
        np.ascontiguousarray(x[:, rows]),
        labels[:, rows] if steps else labels[rows],
        None if lengths is None else lengths[rows],
        None if weights is None else weights[:, rows] if steps and weights.ndim > 1 else weights[rows],
    )


def perplexity(loss: float) -> float:
    """``exp(loss)``, or inf if that overflows."""
    return math.exp(loss) if loss < 709 else math.inf
