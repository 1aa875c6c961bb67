"""A task: the model and the data that a configuration describes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from lstm_numba.errors import CheckpointError, UserError
from lstm_numba.models.base import Model, State
from lstm_numba.training import checkpoint
from lstm_numba.training.belonging import check_belongs, check_described
from lstm_numba.training.config import CLASSIFIERS, check_config
from lstm_numba.training.reporter import Evaluation
from lstm_numba.training.run import Run

#: Called with what is done and what there is to do.
Progress = Callable[[int, int], None]


class Task:
    """What a trainer needs to know; see `ImageTask` and `TextTask`.

    Attributes
    ----------
    config : dict
    model : Model
    kind : {"classification", "language-model"}
    unit : {"images", "tokens"}
        What is predicted.
    metric : {"accuracy", "perplexity"}
    device : {"cpu", "cuda"}
        Where the model computes; not always where the run began.
    splits : tuple of str
    carries_state : bool
        The state at the end of a batch is where the next one begins.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]
    metric: ClassVar[str]
    carries_state: ClassVar[bool]
    model: Model
    splits: tuple[str, ...]

    def __init__(
        self, config: Mapping[str, Any], data_dir: str | os.PathLike[str] | None, device: str | None = None
    ) -> None:
        self.config = dict(config)
        self.device = config["device"] if device is None else device
        self.data_dir = config["data"].get("data_dir") if data_dir is None else os.fspath(data_dir)

    @property
    def floor(self) -> float | None:
        """Lowest reachable perplexity, where it is known."""
        return None

    @property
    def chance(self) -> float:
        """Loss of guessing: every answer is as likely as any other."""
        raise NotImplementedError

    @property
    def watched(self) -> str:
        """The split that is looked at after every epoch."""
        return "valid" if "valid" in self.splits else "test"

    @property
    def steps_per_epoch(self) -> int:
        """Number of training batches."""
        raise NotImplementedError

    def load_data(self) -> None:
        """Load all data now, so that a missing file is told before anything is written."""
        raise NotImplementedError

    def batch(self, epoch: int, step: int) -> Any:
        """Training batch `step` of `epoch`, both from 0; the same for the same configuration always."""
        raise NotImplementedError

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
        """A checksum of the training data: a run goes on only with the data that it began with."""
        raise NotImplementedError

    def vocabulary_digest(self) -> str | None:
        """See `lstm_numba.training.belonging`; None for what has no vocabulary."""
        return None

    def keep_with(self, run: Run) -> None:
        """Put into the run folder what using the model needs beside the checkpoint."""

    def summary(self, split: str, loss_sum: float, correct: int, count: int) -> Evaluation:
        """Turn sums into means."""
        loss = loss_sum / max(count, 1)
        if self.metric == "accuracy":
            return Evaluation(split, loss, correct / max(count, 1), None, count)
        return Evaluation(split, loss, None, perplexity(loss), count)

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            raise UserError(f"split: expected one of {', '.join(self.splits)}, got {split!r}")


def perplexity(loss: float) -> float:
    """``exp(loss)``, inf where that is too large a number."""
    return math.exp(loss) if loss < 709 else math.inf


def _make(
    config: Mapping[str, Any],
    data_dir: str | os.PathLike[str] | None,
    device: str | None,
    vocabulary: Mapping[str, Any] | None = None,
) -> Task:
    check_config(config)
    if config["dataset"] in CLASSIFIERS:
        from lstm_numba.training.image_task import ImageTask

        return ImageTask(config, data_dir, device)
    from lstm_numba.training.text_task import TextTask

    return TextTask(config, data_dir, device, vocabulary)


def build_task(
    config: Mapping[str, Any],
    data_dir: str | os.PathLike[str] | None = None,
    device: str | None = None,
) -> Task:
    """Make the model of a configuration, with fresh weights, and load its data.

    Parameters
    ----------
    config : dict
        From `lstm_numba.training.config.make_config`, or a run's.
    data_dir : path, optional
        Where the data are now, instead of ``config["data"]["data_dir"]``.
    device : {"cpu", "cuda"}, optional
        Where to compute, instead of ``config["device"]``.

    Returns
    -------
    ImageTask or TextTask

    Raises
    ------
    DataError
        The data are missing or damaged.
    ConfigError
        The configuration is not sound, or does not fit the data.
    """
    task = _make(config, data_dir, device)
    task.load_data()
    return task


def open_task(
    run: Run | str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    load_data: bool = True,
    device: str = "cpu",
    which: str = "last",
) -> Task:
    """Make the model of a run, with the weights of its checkpoint.

    Data are loaded when they are first needed.

    Parameters
    ----------
    run : Run or path
        Run folder.
    data_dir : path, optional
        Where the data are now.
    load_data : bool
        If False, make do without data: a text's vocabulary comes from the run folder.
    device : {"cpu", "cuda"}
        Where to compute, wherever the run was trained.
    which : {"last", "best"}
        Checkpoint: the last, or that of the best epoch.

    Returns
    -------
    ImageTask or TextTask

    Raises
    ------
    CheckpointError
        The run folder is damaged, or its parts do not belong together.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    path = run.best_path if which == "best" else run.checkpoint_path
    tensors, meta = checkpoint.load(path)
    check_belongs(run, path, meta)
    vocabulary = None
    if run.config["dataset"] not in CLASSIFIERS:
        vocabulary = run.vocabulary()
        if vocabulary is None and not load_data:
            raise CheckpointError(f"{run.vocabulary_path}: missing")
    task = _make(run.config, data_dir, device, vocabulary)
    load_model(task.model, tensors, meta, run, path)
    return task


def load_model(
    model: Model, tensors: Mapping[str, Any], meta: Mapping[str, Any], run: Run, path: Path
) -> None:
    """Take a model's parameters from what was read from the checkpoint at `path`.

    Raises
    ------
    CheckpointError
        They are not this model's.
    """
    check_described(run, path, meta, model.config())
    prefix = "model."
    params = {name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)}
    try:
        model.load_params(params)
    except ValueError as error:
        raise CheckpointError(f"{path}: does not fit {run.config_path.name}: {error}") from None


def pack_state(state: State) -> dict[str, Any]:
    """Name the arrays of a recurrent state for a checkpoint."""
    if state is None:
        return {}
    if isinstance(state, tuple):
        return {f"state.{k}": array for k, array in enumerate(state)}
    return {"state": state}


def unpack_state(tensors: Mapping[str, Any]) -> State:
    """Undo `pack_state`."""
    if "state" in tensors:
        return tensors["state"]
    count = sum(name.startswith("state.") for name in tensors)
    return tuple(tensors[f"state.{k}"] for k in range(count)) or None
