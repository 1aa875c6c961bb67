"""Predictions for tables that a run has not seen, whole or row by row."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lstm_numba.data.file_io import fault, one_line
from lstm_numba.data.series import Sequence as Piece
from lstm_numba.data.series import WindowIndex, raw_sequences, stacked
from lstm_numba.data.series_columns import Columns, check_kinds, require
from lstm_numba.data.series_times import common_zeros, next_times, shown_time
from lstm_numba.data.tables import Array, Table, read_table
from lstm_numba.data.text_columns import read_number
from lstm_numba.errors import DataError, UserError
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.training.prediction_stream import PredictionStream
from lstm_numba.training.series import SeriesTask
from lstm_numba.training.series_description import SeriesDescription
from lstm_numba.training.series_items import SeriesItems

#: Heading of the sequence's name where no column has it.
_SEQUENCE = "sequence"
#: Where messages say that rows come from.
_INPUT = "standard input"

Row = list[Any]


def read_inputs(
    it: SeriesDescription,
    paths: Sequence[str | os.PathLike[str]],
    skip: Callable[[str, DataError], None] | None = None,
) -> tuple[list[Piece], list[str]]:
    """Read tables with a model's features, and nothing else that it wants.

    Parameters
    ----------
    it : SeriesDescription
    paths : sequence of path
    skip : callable, optional
        Gets a path that cannot be used, and why; it is then left out. By default that is raised.

    Returns
    -------
    sequences : list of Sequence
        Without targets.
    remarks : list of str

    Raises
    ------
    DataError
        A column is missing or does not fit; see `lstm_numba.data.series.load_series`.
    """
    text = [] if it.group is None else [it.group]
    tables = []
    for path in paths:
        try:
            table = read_table(path, _needed(it), text)
            check_lengths(it, pieces_of(it, [table]))
        except DataError as error:
            if skip is None:
                raise
            skip(os.fspath(path), error)
        else:
            tables.append(table)
    return pieces_of(it, tables) if tables else [], [
        f"{table.name}: {guess}" for table in tables for guess in table.guesses
    ]


def _needed(it: SeriesDescription) -> list[str]:
    """Columns that a model reads."""
    return [name for name in (*it.features, it.time, it.group) if name is not None]


def pieces_of(it: SeriesDescription, tables: Sequence[Table]) -> list[Piece]:
    """As `read_inputs`, of tables that were read before."""
    columns = Columns((), it.features, it.time, it.group)
    for table in tables:
        require(table, _needed(it), None)
    check_kinds(tables, columns)
    pieces = []
    for raw in raw_sequences(tables, columns):
        y = np.full((len(raw.places), len(it.targets)), np.nan)
        rows = raw.table.rows[raw.places]
        pieces.append(Piece(raw.name, raw.table.name, raw.time, stacked(raw, it.features), y, rows))
    return pieces


def check_lengths(it: SeriesDescription, pieces: Sequence[Piece]) -> None:
    """Check that sequences are as long as the window; raises a DataError that names file and sequence."""
    for piece in pieces:
        if it.window is not None and piece.steps < it.window:
            raise fault(
                piece.file,
                f"{one_line(piece.name, 60)} has {piece.steps} rows, the model reads windows of {it.window}",
            )


def heading(task: SeriesTask, streamed: bool = False) -> list[str]:
    """Names of the columns of `predictions`, or of `SeriesStream`."""
    it = task.description
    names = [] if streamed and it.group is None else [it.group or _SEQUENCE]
    forecast = it.task == "forecast"
    if streamed or not (forecast or _whole(it)):
        names.append("row")
    if forecast:
        names.append("step")
    if it.time is not None and (streamed or not _whole(it)):
        names.append(it.time)
    if it.task == "classify":
        return [*names, *it.targets, *(f"p({text})" for text in it.classes)]
    assert isinstance(task.model, SequenceRegressor)
    levels = task.model.loss.levels
    if len(levels) == 1:
        return [*names, *it.targets]
    return [*names, *(f"{target} {100 * level:g} %" for target in it.targets for level in levels)]


def _whole(it: SeriesDescription) -> bool:
    """Whether there is one prediction for each sequence."""
    return it.window is None and not it.per_step


def predictions(task: SeriesTask, pieces: Sequence[Piece]) -> Iterator[Row]:
    """Predict: the steps after the end of each sequence, or each sequence, window or step.

    Yields
    ------
    list
        Values under `heading`.

    Raises
    ------
    DataError
        A sequence is shorter than the model's window.
    """
    it = task.description
    check_lengths(it, pieces)
    forecast = it.task == "forecast"
    items = ends(task, pieces) if forecast else task.items_of(pieces, all_items=True)
    chosen_items = [items.index.last_items()] if forecast else items.batches()
    zeros = [0 if piece.time is None else common_zeros(piece.time) for piece in pieces]
    for chosen in chosen_items:
        answers = _finite(items.predict(task.model, chosen))
        for k, item in enumerate(chosen):
            place = items.index.place(int(item))
            piece = pieces[place.piece]
            if forecast:
                yield from _forecast_rows(it, [piece.name], piece.time, answers[k])
            elif it.per_step:
                for step in range(piece.steps):
                    yield [*_at(piece, step, zeros[place.piece]), *answers[step, k].ravel().tolist()]
            else:
                head = [piece.name] if _whole(it) else _at(piece, place.last - 1, zeros[place.piece])
                yield [*head, *_values(it, answers[k])]


def _finite(answers: Array) -> Array:
    if not np.all(np.isfinite(answers)):
        raise UserError(
            "the model's outputs are not finite: its weights, or the data's numbers, are too large"
        )
    return answers


def _at(piece: Piece, step: int, zeros: int) -> Row:
    time = [] if piece.time is None else [shown_time(piece.time[step], zeros)]
    return [piece.name, int(piece.rows[step]), *time]


def _values(it: SeriesDescription, answer: Array) -> Row:
    if it.task == "classify":
        return [it.classes[int(np.argmax(answer))], *answer.tolist()]
    return list(answer.ravel().tolist())


def _forecast_rows(it: SeriesDescription, head: Row, time: Array | None, answer: Array) -> Iterator[Row]:
    """A row for each step ahead; times go on where they are regular."""
    times = [] if time is None else next_times(time, len(answer))
    for step, values in enumerate(answer):
        shown = [] if it.time is None else [times[step] if times else ""]
        yield [*head, step + 1, *shown, *values.ravel().tolist()]


def ends(task: SeriesTask, pieces: Sequence[Piece]) -> SeriesItems:
    """All windows of sequences without what comes after them: that of a forecast is not known yet."""
    it = task.description
    index = WindowIndex(pieces, it.window, 0, 1, before=np.array(it.means), all_items=True)
    return SeriesItems(index, it)


class SeriesStream:
    """Predicts from rows of a table as they come.

    A model with a window reads the last rows of each group, as soon as there are enough; one that reads whole
    sequences is fed step by step, and says after each what it would say if the sequence ended there.

    Parameters
    ----------
    task : SeriesTask
    names : sequence of str
        The table's header.

    Raises
    ------
    DataError
        A column of the model's is missing.
    UserError
        It reads whole sequences in both directions, of which the end is not known.
    """

    def __init__(self, task: SeriesTask, names: Sequence[str]) -> None:
        it = task.description
        if it.window is None and task.config["bidirectional"]:
            raise UserError("the model reads whole sequences in both directions, and must know their end")
        self._task, self._it = task, it
        self._places = [self._place(names, name) for name in it.features]
        self._group = None if it.group is None else self._place(names, it.group)
        self._time = names.index(it.time) if it.time is not None and it.time in names else None
        self._width = len(names)
        self._last: dict[str, Array] = {}
        self._windows: dict[str, deque[Array]] = {}
        self._streams: dict[str, PredictionStream] = {}

    @staticmethod
    def _place(names: Sequence[str], name: str) -> int:
        if name not in names:
            there = one_line(", ".join(names), 200)
            raise DataError(
                f"{_INPUT}: no column {one_line(name, 60)}, which the model reads; there are {there}"
            )
        return list(names).index(name)

    def push(self, fields: Sequence[str], row: int) -> list[Row]:
        """Read a row and predict.

        Parameters
        ----------
        fields : sequence of str
            Its values under the header.
        row : int
            Its line, for messages and the result.

        Returns
        -------
        list of list
            Rows under ``heading(task, streamed=True)``; none while a window is not complete.

        Raises
        ------
        DataError
            The row has another number of values, or one is no number; the text names row and column.
        """
        if len(fields) != self._width:
            raise DataError(f"{_INPUT}: row {row}: expected {self._width} values, got {len(fields)}")
        group = "" if self._group is None else fields[self._group].strip()
        sample = np.array(
            [
                read_number(_INPUT, name, fields[place], row)
                for name, place in zip(self._it.features, self._places, strict=True)
            ]
        )
        before = self._last.get(group, np.array(self._it.means))
        sample = np.where(np.isnan(sample), before, sample)
        self._last[group] = sample
        answer = self._step(group, sample) if self._it.window is None else self._window(group, sample)
        if answer is None:
            return []
        time = [] if self._it.time is None else [fields[self._time] if self._time is not None else ""]
        head = [row] if self._group is None else [group, row]
        if self._it.task != "forecast":
            return [[*head, *time, *_values(self._it, _finite(answer))]]
        steps = enumerate(_finite(answer), 1)
        return [[*head, step, *time, *values.ravel().tolist()] for step, values in steps]

    def _step(self, group: str, sample: Array) -> Array:
        it = self._it
        if group not in self._streams:
            outputs = it.outputs if it.task != "classify" else None
            self._streams[group] = PredictionStream(self._task.model, it.inputs, outputs)
        return self._streams[group].step(sample)

    def _window(self, group: str, sample: Array) -> Array | None:
        it = self._it
        rows = self._windows.setdefault(group, deque(maxlen=it.window))
        rows.append(sample)
        if len(rows) < (it.window or 0):
            return None
        x = np.stack(rows)
        y = np.full((len(x), len(it.targets)), np.nan)
        items = ends(self._task, [Piece(group, _INPUT, None, x, y, np.arange(len(x)))])
        answer: Array = items.predict(self._task.model, np.array([0]))[0]
        return answer
