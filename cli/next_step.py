"""The line after a training that says what to do next: a command that can be copied into a shell."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_numba.cli.console import short_path
from lstm_numba.training.settings import CLASSIFIERS, SERIES, is_own_cell

if TYPE_CHECKING:
    from lstm_numba.cli.results import Done


def command(*words: str, paths: Sequence[str] = (), cells: Sequence[str] = ()) -> str:
    """A command line of the program, quoted for the shell.

    Parameters
    ----------
    *words : str
        Command and options.
    paths : sequence of str
        Files and folders; one that begins with a dash is not taken for an option.
    cells : sequence of str
        The run's; those whose code must be imported are named by ``--cell``, as the commands demand.

    Returns
    -------
    str
    """
    places = [f"./{path}" if path.startswith("-") else path for path in paths]
    own = [word for cell in cells if is_own_cell(cell) for word in ("--cell", cell)]
    return shlex.join(["lstm-numba", *words, *places, *own])


def resume_line(dataset: str, folder: str, cells: Sequence[str]) -> str:
    """How an interrupted run, or a set of runs, is resumed."""
    return f"resume with: {command('train', dataset, '--resume', paths=[folder], cells=cells)}"


def next_line(done: Sequence[Done]) -> str | None:
    """What to do with a run that is complete; of several, with the one of the lowest loss that was watched.

    Returns
    -------
    str or None
        None for a run that diverged: its result says what is left of it.
    """
    useful = [one for one in done if not one.outcome.diverged]
    if not useful:
        return None
    best = min(useful, key=_watched_loss)
    return f"next: {_use(best.config, best.folder)}"


def next_line_of_set(config: Mapping[str, Any], folder: str, cells: Sequence[str], groups: bool) -> str:
    """What to do with a set of runs; `config` is that of a member, `groups` if each has a group's data."""
    if groups:
        return f"next: {_use(config, folder)}"
    if len(cells) > 1 and any(map(is_own_cell, cells)):  # only one can be named to `evaluate`
        return f"next: {command('plot', paths=[folder])}"
    return f"next: {command('evaluate', paths=[folder], cells=cells)}"


def _watched_loss(one: Done) -> float:
    best = one.outcome.best
    return one.outcome.train.loss if best is None else best.loss


def _use(config: Mapping[str, Any], folder: str) -> str:
    """A command that uses a run: more text of a language model, forecasts of series, accuracy of classes."""
    cells = [config["cell"]]
    if config["dataset"] in CLASSIFIERS:
        return command("evaluate", paths=[folder], cells=cells)
    if config["dataset"] not in SERIES:
        return command("sample", paths=[folder], cells=cells)
    files = config["data"]["files"]
    if files:
        return command("predict", paths=[folder, short_path(Path(files[0]))], cells=cells)
    drawing = importlib.util.find_spec("matplotlib") is not None
    return command("plot" if drawing else "evaluate", paths=[folder], cells=cells)
