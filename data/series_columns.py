"""Which columns of a user's tables are what: targets, features, times, groups."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lstm_numba.data.file_io import fault, one_line
from lstm_numba.data.tables import Array, Table, texts_of
from lstm_numba.errors import DataError

#: Names, in small letters, of a column of numbers that is taken as time where none is named.
TIME_NAMES = ("time", "t", "timestamp", "date", "year")


class Columns(NamedTuple):
    """The columns by what they are for.

    Attributes
    ----------
    targets, features : tuple of str
        Without the targets among the features.
    time, group : str, optional
    """

    targets: tuple[str, ...]
    features: tuple[str, ...]
    time: str | None
    group: str | None


def is_number(column: Array) -> bool:
    """Whether a table's column holds numbers."""
    return column.dtype.kind == "f"


def require(table: Table, names: Iterable[str], option: str | None) -> None:
    """Refuse names that are no columns, with the nearest one that is; without an option, a model wants them.

    Raises
    ------
    DataError
        Names the file, the option, and the column.
    """
    for name in names:
        if name not in table.columns:
            near = difflib.get_close_matches(name, table.columns, 1, 0.5)
            there = (
                f"did you mean {one_line(near[0], 60)}?" if near else f"there are {_listed(table.columns)}"
            )
            which = f"no column {one_line(name, 60)}"
            what = f"{which}, which the model reads" if option is None else f"--{option}: {which}"
            raise fault(table.name, f"{what}; {there}")


def _listed(names: Iterable[str], most: int = 10) -> str:
    shown = [one_line(name, 40) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def choose_columns(
    tables: Sequence[Table],
    target: Sequence[str],
    features: Sequence[str],
    time: str | None,
    group: str | None,
    guesses: list[str],
) -> Columns:
    """Find out which column is what, where the options do not say so.

    Parameters
    ----------
    tables : sequence of Table
    target, features, time, group
        The options; empty or None if not given.
    guesses : list of str
        What is guessed is added.

    Raises
    ------
    DataError
        There is no such column, one has two roles, or what it is cannot be told.
    """
    first = tables[0]
    for names, option in ((target, "target"), (features, "features")):
        require(first, names, option)
        twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
        if twice is not None:
            raise DataError(f"--{option}: names the column {one_line(twice, 60)} twice")
    require(first, _given(time), "time")
    require(first, _given(group), "group")
    _refuse_two_roles({"target": target, "time": [time], "group": [group]})
    _refuse_two_roles({"features": features, "time": [time], "group": [group]})
    if time is None:
        time = _guess_time(first, {*target, *features, group}, guesses)
    numbers = [
        name for name, column in first.columns.items() if is_number(column) and name not in (time, group)
    ]
    if not target:
        target = _guess_target(first, numbers, guesses)
    if not features:
        features = [name for name in numbers if name not in target]
        others = [n for n in first.columns if n not in {*features, *target, time, group}]
        if others:
            guesses.append(f"left out, as they hold no numbers: {_listed(others)}")
    features = [name for name in features if name not in target]
    chosen = Columns(tuple(target), tuple(features), time, group)
    for table in tables[1:]:
        require(table, target, "target")
        require(table, features, "features")
        require(table, _given(time), "time")
        require(table, _given(group), "group")
    check_kinds(tables, chosen)
    return chosen


def _given(name: str | None) -> list[str]:
    return [] if name is None else [name]


def check_kinds(tables: Sequence[Table], columns: Columns) -> None:
    """Check that features are numbers in all files, and that targets and times are alike.

    Raises
    ------
    DataError
        Names file and column.
    """
    first = tables[0]
    for table in tables:
        for name in columns.features:
            if not is_number(table.columns[name]):
                raise fault(
                    table.name, f"column {name}: expected numbers, as a feature is, got {_kind(table, name)}"
                )
        same = (*columns.targets, *([] if columns.time is None else [columns.time]))
        for name in same:
            if name not in table.columns or name not in first.columns:
                continue
            if table.columns[name].dtype.kind != first.columns[name].dtype.kind:
                raise fault(
                    table.name,
                    f"column {name}: expected {_kind(first, name)} as in {first.name}, "
                    f"got {_kind(table, name)}",
                )
        if columns.time is not None and table.columns[columns.time].dtype.kind not in "fM":
            value = next((v for v in table.columns[columns.time] if v), "")
            shown = one_line(repr(value), 60)
            raise fault(table.name, f"column {columns.time}: expected dates, times or numbers, got {shown}")


def _kind(table: Table, name: str) -> str:
    return {"f": "numbers", "M": "times"}.get(table.columns[name].dtype.kind, "text")


def _refuse_two_roles(roles: dict[str, Sequence[str | None]]) -> None:
    taken: dict[str, str] = {}
    for role, names in roles.items():
        for name in names:
            if name is not None and taken.setdefault(name, role) != role:
                raise DataError(f"--{role}: the column {one_line(name, 60)} is the --{taken[name]} already")


def _guess_time(table: Table, taken: set[str | None], guesses: list[str]) -> str | None:
    times = [n for n, column in table.columns.items() if column.dtype.kind == "M" and n not in taken]
    if len(times) > 1:
        raise fault(table.name, f"--time: say which column orders the rows; there are {_listed(times)}")
    if not times:
        times = [
            name
            for name, column in table.columns.items()
            if name.lower() in TIME_NAMES and name not in taken and is_number(column)
        ][:1]
    if times:
        guesses.append(f"time: the column {times[0]}")
        return times[0]
    return None


def _guess_target(table: Table, numbers: Sequence[str], guesses: list[str]) -> list[str]:
    if len(numbers) != 1:
        what = "which column is to be predicted"
        raise fault(table.name, f"--target: say {what}; there are {_listed(table.columns)}")
    guesses.append(f"target: the column {numbers[0]}, the only one of numbers")
    return [numbers[0]]


def grouped_rows(table: Table, group: str | None) -> list[tuple[str, Array]]:
    """The rows of each sequence in a table, with its name; in the order of their first rows.

    Raises
    ------
    DataError
        A row's group is missing.
    """
    if group is None and table.groups is None:
        return [("", np.arange(len(table)))]
    keys = table.groups if group is None else texts_of(table.columns[group])
    assert keys is not None
    texts = keys.astype(str)
    empty = np.flatnonzero(texts == "")
    if len(empty):
        raise fault(table.name, f"row {table.rows[empty[0]]}, column {group}: the group is missing")
    names, first, which = np.unique(texts, return_index=True, return_inverse=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(which.reshape(-1)))[:-1])
    return [(str(names[k]), parts[k]) for k in np.argsort(first)]
