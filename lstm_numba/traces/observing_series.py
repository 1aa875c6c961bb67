"""Traces a run's network on a window, or a whole group, of a table."""

from __future__ import annotations

import os

import numpy as np

from lstm_numba.data.file_io import fault, one_line
from lstm_numba.data.series_types import Sequence as Piece
from lstm_numba.engines.number_losses import GAUSSIAN
from lstm_numba.errors import UserError
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.traces.inspection import Answers, ClassAnswers, Inspection, NumberAnswers, Strip
from lstm_numba.traces.observing import (
    ITEMS,
    SHOWN,
    affordable,
    by_prefixes,
    cut_notes,
    network_text,
    observed,
)
from lstm_numba.traces.statistics import Array
from lstm_numba.training.series import SeriesTask
from lstm_numba.training.series_items import SeriesItems
from lstm_numba.training.series_prediction import ends, read_inputs


def observe_series(
    task: SeriesTask, run: str, file: str | os.PathLike[str] | None = None, row: int | None = None
) -> tuple[Inspection, list[str]]:
    """A model reads a window of a table, or one of its groups.

    Parameters
    ----------
    task : SeriesTask
    run : str
        Name of the run.
    file : path, optional
        A table; by default the first item of the test part is shown, and more of them are read.
    row : int, optional
        Row of the file, as `lstm_numba.training.series_prediction` counts them, at which the window ends, or
        which is in the group; by default the last window of the first group, or the first group.

    Returns
    -------
    Inspection
    list of str
        What was guessed when the file was read.

    Raises
    ------
    DataError
        The file lacks a column, the row is not there, or has not enough rows before it.
    """
    it, model, remarks = task.description, task.model, list[str]()
    if file is None:
        piece = task.data.parts["test"][0]
        place = (it.window or piece.steps) - 1
        several = task.items("test")
        wanted = min(ITEMS, len(several))
        batch = several.gather(np.arange(affordable(model.rnn, several.index.longest, wanted)), model.dtype)
        source = "the first item of the test part"
    else:
        pieces, remarks = read_inputs(it, [file])
        piece, place = _chosen(pieces, row, it.window, file)
        source = f"{file}, {_where(piece, place, it.window)}"
    whole = it.window is None
    items = task.items_of([piece], all_items=True) if whole else ends(task, [piece])
    item = np.array([0 if whole else place + 1 - (it.window or 0)])
    one = items.gather(item, model.dtype)
    if file is None:
        views = observed(model.rnn, batch.x, batch.lengths)
        views = [
            shown._replace(values=own.values)
            for shown, own in zip(views, observed(model.rnn, one.x), strict=True)
        ]
    else:
        batch = one
        views = observed(model.rnn, one.x)
    counted = batch.x.shape[0] * batch.x.shape[1] if batch.lengths is None else int(batch.lengths.sum())
    read = items.index.gather(item).x[:SHOWN, 0]
    first = 0 if whole else place + 1 - (it.window or 0)
    inspection = Inspection(
        run,
        task.config["dataset"],
        network_text(task),
        source,
        "step",
        tuple(f"row {number}" for number in piece.rows[first : first + len(read)]),
        Strip("series", read, it.features),
        views,
        _answers(task, items, item, one.x[:SHOWN, 0], piece, place),
        batch.x.shape[1],
        counted,
        (*cut_notes(len(read), len(one.x), "step"), *_notes(task)),
    )
    return inspection, remarks


def _chosen(
    pieces: list[Piece], row: int | None, window: int | None, file: str | os.PathLike[str]
) -> tuple[Piece, int]:
    """The sequence, and the place in it, that a row names."""
    if row is None:
        piece, place = pieces[0], pieces[0].steps - 1
    else:
        found = [(piece, np.flatnonzero(piece.rows == row)) for piece in pieces]
        places = [(piece, int(where[0])) for piece, where in found if len(where)]
        if not places:
            rows = np.concatenate([piece.rows for piece in pieces])
            raise fault(file, f"no row {row}, it has the rows {rows.min()} to {rows.max()}")
        piece, place = places[0]
    if window is not None and place + 1 < window:
        raise fault(
            file,
            f"{one_line(piece.name, 60)} has {place + 1} rows up to row {piece.rows[place]}, the model reads "
            f"windows of {window}",
        )
    return piece, place


def _where(piece: Piece, place: int, window: int | None) -> str:
    name = one_line(piece.name, 60)
    if window is None:
        return f"all of {name}"
    return f"the {window} rows of {name} up to row {piece.rows[place]}"


def _answers(
    task: SeriesTask, items: SeriesItems, item: Array, x: Array, piece: Piece, place: int
) -> Answers:
    """Answers after each step; of a forecast what comes after the last one."""
    it, model = task.description, task.model
    if isinstance(model, SequenceClassifier):
        label = piece.y[place, 0]
        known = None if np.isnan(label) else int(label)
        return ClassAnswers(task.classes, _finite(by_prefixes(model.probabilities, x)), known)
    names = _columns(it.targets, model)
    if it.task == "forecast":
        values = items.predict(model, item)[0]
        after = piece.x[place + 1 : place + 1 + len(values)][:, it.target_columns]
        true_values = np.full((len(values), len(it.targets)), np.nan)
        true_values[: len(after)] = after
    elif it.per_step:
        values, true_values = items.predict(model, item)[: len(x), 0], piece.y[: len(x)]
    else:
        values = items.in_units(model, by_prefixes(model.predict, x))
        true_values = np.repeat(piece.y[place : place + 1], len(x), axis=0)
    values = _finite(values.reshape(len(values), -1))
    wide = np.repeat(true_values, model.loss.width, axis=1)
    true = None if np.isnan(wide).all() else wide
    return NumberAnswers(names, values, true, it.targets, it.task == "forecast")


def _columns(targets: tuple[str, ...], model: SequenceRegressor) -> tuple[str, ...]:
    """Names of what is predicted."""
    levels = model.loss.levels
    if len(levels) == 1:
        return targets
    if model.loss.kind == GAUSSIAN:
        parts = ["mean", "standard deviation"]
    else:
        parts = [f"{100 * level:g} %" for level in levels]
    return tuple(f"{target}, {part}" for target in targets for part in parts)


def _finite(answers: Array) -> Array:
    if not np.all(np.isfinite(answers)):
        raise UserError(
            "the model's outputs are not finite: its weights, or the data's numbers, are too large"
        )
    return answers


def _notes(task: SeriesTask) -> tuple[str, ...]:
    it, notes = task.description, []
    if it.task != "forecast" and not it.per_step:
        if it.window is not None:
            notes.append(
                f"the model was trained on windows of {it.window} steps; what it answers to parts of one is "
                "outside of what it was trained for"
            )
        if task.model.rnn.directions == 2:
            notes.append(
                "both directions: the answer after a step is that to the sequence that ends there, which the "
                "reverse direction reads from that step back"
            )
    return tuple(notes)
