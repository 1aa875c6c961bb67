"""A new run with the settings of another one and given parameters."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lstm_numba.data.file_io import unique_name
from lstm_numba.errors import CheckpointError
from lstm_numba.training import checkpoint
from lstm_numba.training.run import Run
from lstm_numba.training.task import Task
from lstm_numba.training.trainer import Trainer


def create_successor(source: Run, task: Task, folder: str | os.PathLike[str]) -> Run:
    """Make a run folder: the configuration of a run, the parameters of a task's model, no training yet.

    Optimizer, schedule, random generators and position are those before the first step.
    Data are not loaded. The folder appears as a whole or not at all.

    Parameters
    ----------
    source : Run
        Not touched.
    task : Task
        Of `open_task`, on this run; its model has the parameters.
    folder : path
        Folder to make; the one around it must be there.

    Returns
    -------
    Run

    Raises
    ------
    CheckpointError
        The folder is there already, or the run's checkpoint is damaged.
    OSError
        The file system refuses.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise CheckpointError(f"{folder}: already exists")
    _, meta = checkpoint.load(source.checkpoint_path)
    hidden = unique_name(folder)
    hidden.mkdir()
    try:
        run = Run.create(hidden, source.config)
        task.keep_with(run)
        Trainer(task, run, fingerprint=meta.get("data")).save()
        try:
            hidden.rename(folder)  # never replaces what holds anything
        except OSError:
            if os.path.lexists(folder):
                raise CheckpointError(f"{folder}: already exists") from None
            raise
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return Run(folder, run.config)
