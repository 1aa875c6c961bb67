"""A user's own tables as sequences with features and targets.

What is not said by the options is guessed only where nothing else makes sense, and each guess is one line in
`SeriesData.guesses`. What would make a result wrong without anybody noticing is refused: rows out of order,
times that come twice, a constant target, a class that changes within its group.
"""

from __future__ import annotations

import os
from collections.abc import Sequence as SequenceOf
from dataclasses import replace

import numpy as np

from lstm_numba.data.file_io import one_line
from lstm_numba.data.series_columns import Columns, choose_columns
from lstm_numba.data.series_groups import named_rows, read_parted, tables_of
from lstm_numba.data.series_split import settle, split, with_parts
from lstm_numba.data.series_targets import read_targets
from lstm_numba.data.series_times import gaps, order_of
from lstm_numba.data.series_types import (
    PARTS,
    SPLITS,
    TASKS,
    Raw,
    Sequence,
    SeriesData,
    SeriesOptions,
    Targets,
)
from lstm_numba.data.series_windows import Place, WindowIndex, Windows
from lstm_numba.data.tables import Array, Table, read_table
from lstm_numba.errors import DataError

__all__ = [
    "PARTS",
    "SPLITS",
    "TASKS",
    "Place",
    "Sequence",
    "SeriesData",
    "SeriesOptions",
    "Targets",
    "WindowIndex",
    "Windows",
    "load_series",
    "series_of_tables",
    "split",
]


def load_series(
    paths: SequenceOf[str | os.PathLike[str]], options: SeriesOptions | None = None
) -> SeriesData:
    """Read tables as sequences; several files are several groups.

    Parameters
    ----------
    paths : sequence of path
        See `lstm_numba.data.tables.read_table`.
    options : SeriesOptions, optional

    Returns
    -------
    SeriesData

    Raises
    ------
    DataError
        A file or an option is at fault; the text names file, row and column, and what was expected.
    """
    options = SeriesOptions() if options is None else options
    if not paths:
        raise DataError("expected at least one file")
    resolved = [os.path.abspath(path) for path in paths]
    twice = next((paths[k] for k, path in enumerate(resolved) if path in resolved[:k]), None)
    if twice is not None:
        raise DataError(f"{one_line(os.fspath(twice), 400)}: is named twice")
    if options.only is not None:
        parted = read_parted(resolved, *asked(options), options.group)
        return series_of_tables(tables_of(parted, options.only, resolved[0]), options)
    return series_of_tables([read_table(path, *asked(options)) for path in paths], options)


def asked(options: SeriesOptions) -> tuple[set[str] | None, set[str]]:
    """The columns that must be sound, by default all, and those that are text whatever they hold."""
    named = {*options.target, *options.features, options.time, options.group} - {None}
    needed = {str(name) for name in named} if options.features else None
    text = {options.group} if options.group is not None else set()
    return needed, text | set(options.target if options.task == "classify" else ())


def series_of_tables(tables: SequenceOf[Table], options: SeriesOptions) -> SeriesData:
    """As `load_series`, of tables that were read or made before."""
    guesses = _said(tables)
    columns = choose_columns(tables, options.target, options.features, options.time, options.group, guesses)
    found = raw_sequences(tables, columns)
    has_groups = len(found) > 1 or (columns.group is not None and options.only is None)
    targets = read_targets(found, columns, options.task, options.window, options.horizon, has_groups, guesses)
    features = columns.features
    if targets.task == "forecast":
        features = tuple(n for n in tables[0].columns if n in {*columns.features, *columns.targets})
    sequences = tuple(
        Sequence(raw.name, raw.table.name, raw.time, stacked(raw, features), y, raw.table.rows[raw.places])
        for raw, y in zip(found, targets.values, strict=True)
    )
    if columns.time is not None:
        guesses += _time_remarks(columns.time, sequences, found)
    data = SeriesData(
        replace(options, task=targets.task), columns, features, targets, sequences, {}, tuple(guesses)
    )
    return with_parts(settle(data, has_groups))


def raw_sequences(tables: SequenceOf[Table], columns: Columns) -> list[Raw]:
    """The rows of all sequences, each in the order of time."""
    found = []
    for name, table, index in named_rows(tables, columns.group):
        time = None if columns.time is None else table.columns[columns.time][index]
        order = slice(None)
        if time is not None and columns.time is not None:
            order = order_of(table.name, columns.time, time, table.rows[index])
            time = time[order]
        found.append(Raw(name, table, index[order], time, order.step == -1))
    return found


def stacked(raw: Raw, names: SequenceOf[str]) -> Array:
    """Columns of numbers side by side, (T, F)."""
    found = np.empty((len(raw.places), len(names)))
    for k, name in enumerate(names):
        found[:, k] = raw.column(name)
    return found


def _said(tables: SequenceOf[Table]) -> list[str]:
    """What reading the files guessed; said once where several say the same."""
    files: dict[str, list[str]] = {}
    for table in tables:
        for text in table.guesses:
            files.setdefault(text, []).append(table.name)
    return [
        f"{names[0]}: {text}" if len(names) == 1 else f"{len(names)} files: {text}"
        for text, names in files.items()
    ]


def _time_remarks(column: str, sequences: SequenceOf[Sequence], found: SequenceOf[Raw]) -> list[str]:
    """What is to be said of the times: order, gaps, irregular steps."""
    remarks = []
    backwards = sum(raw.backwards for raw in found)
    if backwards:
        which = "the rows" if len(found) == 1 else f"the rows of {backwards} sequences"
        remarks.append(f"{which} stand from the latest to the earliest {column}: they are read backwards")
    irregular, count, first, usual = 0, 0, "", ""
    for sequence in sequences:
        assert sequence.time is not None
        step, places = gaps(sequence.time)
        irregular += not step and sequence.steps > 2
        if len(places) and not count:
            first, usual = f"row {sequence.rows[places[0]]} of {sequence.file}", step
        count += len(places)
    if count:
        plural = "gap" if count == 1 else "gaps"
        remarks.append(
            f"{count} {plural} in {column}, whose steps are else {usual}; the first is before {first}: "
            "rows on both sides count as neighbours"
        )
    if irregular:
        remarks.append(f"the steps of {column} are irregular: the rows count as equally far apart")
    return remarks
