"""Make the task of a configuration, or open that of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.errors import CheckpointError
from lstm_numba.models.base import Model, State
from lstm_numba.ranks.base import ALONE, Ranks
from lstm_numba.training import checkpoint
from lstm_numba.training.classification import ImageTask
from lstm_numba.training.config import ConfigError, check_config
from lstm_numba.training.language_modeling import TextTask
from lstm_numba.training.run import Run
from lstm_numba.training.run_consistency import check_belongs, check_described
from lstm_numba.training.series import SeriesTask
from lstm_numba.training.settings import CLASSIFIERS, SERIES
from lstm_numba.training.task import Task


def _make(
    config: Mapping[str, Any],
    data_dir: str | os.PathLike[str] | None,
    device: str | None,
    kept: Any = None,
    ranks: Ranks = ALONE,
) -> Task:
    check_config(config)
    if config["dataset"] in CLASSIFIERS:
        return ImageTask(config, data_dir, device, kept, ranks)
    if config["dataset"] in SERIES:
        return SeriesTask(config, data_dir, device, kept, ranks)
    return TextTask(config, data_dir, device, kept, ranks)


def build_task(
    config: Mapping[str, Any],
    data_dir: str | os.PathLike[str] | None = None,
    device: str | None = None,
    ranks: Ranks = ALONE,
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
    ranks : Ranks
        From `lstm_numba.ranks.launch.connect`: processes that share the training; each calls this.

    Returns
    -------
    ImageTask, TextTask or SeriesTask

    Raises
    ------
    DataError
        The data are missing or damaged.
    ConfigError
        The configuration is not sound, or does not fit the data.
    """
    if ranks.size > config["batch_size"]:
        raise ConfigError(
            "batch_size",
            f"expected at least a row for each of {ranks.size} ranks, got {config['batch_size']}",
        )
    task = _make(config, data_dir, device, ranks=ranks)
    task.load_data()
    return task


def open_task(
    run: Run | str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    load_data: bool = True,
    device: str = "cpu",
    which: str | None = None,
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
        If False, make do without data: a text's vocabulary, or the form of own pictures, comes from the run
        folder.
    device : {"cpu", "cuda"}
        Where to compute, wherever the run was trained.
    which : {"last", "best"}, optional
        Checkpoint: the last, or that of the best epoch; see `Run.path_of`.

    Returns
    -------
    ImageTask, TextTask or SeriesTask

    Raises
    ------
    CheckpointError
        The run folder is damaged, or its parts do not belong together.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    path = run.path_of(which)
    tensors, meta = checkpoint.load(path)
    check_belongs(run, path, meta)
    kept: Any = None
    if run.config["dataset"] == "images":
        kept = run.needed_form()
    elif run.config["dataset"] in SERIES:
        kept = run.needed_series()
    elif run.config["dataset"] not in CLASSIFIERS:
        kept = run.vocabulary()
        if kept is None and not load_data:
            raise CheckpointError(f"{run.vocabulary_path}: missing")
    task = _make(run.config, data_dir, device, kept)
    load_model(task.model, tensors, meta, run, path)
    return task


def load_run(folder: str | os.PathLike[str], *, checkpoint: str = "last", device: str = "cpu") -> Model:
    """The trained model of a run folder; no data are needed.

    Parameters
    ----------
    folder : path
        As ``lstm-numba train`` leaves it.
    checkpoint : {"last", "best"}
    device : {"cpu", "cuda"}

    Returns
    -------
    SequenceClassifier, SequenceRegressor or LanguageModel

    Raises
    ------
    CheckpointError
        There is no run, or it is damaged.

    Examples
    --------
    >>> from lstm_numba.data.images import image_sequences
    >>> model = ln.load_run("runs/digits-1")  # doctest: +SKIP
    >>> model.probabilities(image_sequences(images, dataset="digits"))  # doctest: +SKIP
    """
    if checkpoint not in ("last", "best"):
        raise ValueError(f"checkpoint: expected 'last' or 'best', got {checkpoint!r}")
    return open_task(folder, load_data=False, device=device, which=checkpoint).model


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


@contextmanager
def best_parameters(
    task: Task, run: Run, load: Callable[[Path], tuple[dict[str, Any], dict[str, Any]]] = checkpoint.load
) -> Iterator[None]:
    """Lend a task's model the parameters of the run's best epoch; afterwards it has its own again.

    With its own a training goes on if it is given more epochs, and they are what the next checkpoint holds.

    Parameters
    ----------
    task : Task
    run : Run
    load : callable
        Reads a checkpoint, as `lstm_numba.training.checkpoint.load` does.

    Raises
    ------
    CheckpointError
        The best epoch's checkpoint is missing, damaged, or of another run.
    """
    model = task.model
    own = {name: np.array(model.engine.download(array)) for name, array in model.params.items()}
    tensors, meta = load(run.best_path)
    check_belongs(run, run.best_path, meta)
    load_model(model, tensors, meta, run, run.best_path)
    try:
        yield
    finally:
        model.load_params(own)
