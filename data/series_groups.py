"""Tables parted by their sequences, so that each can be read by itself."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from pathlib import Path

from lstm_numba.data.file_io import fault, one_line
from lstm_numba.data.series_columns import grouped_rows, require
from lstm_numba.data.tables import Array, FilePath, Table, read_table

#: Tables of each sequence, by its name.
Parted = dict[str, list[Table]]


def named_rows(tables: SequenceOf[Table], group: str | None) -> Iterator[tuple[str, Table, Array]]:
    """The rows of each sequence, with its name: the group's, or the file's.

    Yields
    ------
    name : str
    table : Table
    index : ndarray of int64
        The rows; those of one name may stand in several tables.

    Raises
    ------
    DataError
        A row's group is missing.
    """
    stems = [Path(table.name).name.partition(".")[0] for table in tables]
    names = stems if len(set(stems)) == len(stems) else [table.name for table in tables]
    for table, file in zip(tables, names, strict=True):
        for key, index in grouped_rows(table, group):
            name = file if not key else key if group or len(tables) == 1 else f"{file}/{key}"
            yield name, table, index


def part(tables: SequenceOf[Table], group: str | None) -> Parted:
    """Part tables by their sequences, in the order of first rows; rows keep their numbers.

    Parameters
    ----------
    tables : sequence of Table
    group : str, optional
        The column that says which sequence a row belongs to; by default each file is one.

    Raises
    ------
    DataError
        There is no such column, or a row's group is missing.
    """
    for table in tables:
        require(table, [] if group is None else [group], "group")
    found: Parted = {}
    for name, table, index in named_rows(tables, group):
        columns = {column: values[index] for column, values in table.columns.items()}
        groups = None if table.groups is None else table.groups[index]
        rows = replace(table, columns=columns, rows=table.rows[index], groups=groups)
        found.setdefault(name, []).append(rows)
    return found


def read_parted(
    paths: SequenceOf[FilePath], needed: set[str] | None, text: set[str], group: str | None
) -> Parted:
    """Read files and part them; the last ones read are kept, as one model after the other wants them.

    Parameters
    ----------
    paths, needed, text
        See `lstm_numba.data.tables.read_table`.
    group
        See `part`.
    """
    files = tuple((os.fspath(path), _moment(path)) for path in paths)
    return _read(files, None if needed is None else frozenset(needed), frozenset(text), group)


def _moment(path: FilePath) -> tuple[int, int]:
    """Tells a file from what it was before."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # whoever reads it says what is wrong
        return 0, 0
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=1)
def _read(
    files: tuple[tuple[str, tuple[int, int]], ...],
    needed: frozenset[str] | None,
    text: frozenset[str],
    group: str | None,
) -> Parted:
    return part([read_table(path, needed, text) for path, _ in files], group)


def tables_of(parted: Parted, name: str, source: str) -> list[Table]:
    """The tables of one sequence.

    Parameters
    ----------
    parted : dict of list of Table
    name : str
    source : str
        Where they come from, for the message.

    Raises
    ------
    DataError
        There is no such sequence.
    """
    if name not in parted:
        raise fault(source, f"holds no rows of {one_line(name, 60)}")
    return parted[name]
