"""Tables of a user's own: CSV, TSV, Parquet and NumPy files as named columns.

What is doubtful is refused, with one line that names file, row and column; what had to be guessed is told in
`Table.guesses`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.data.delimited import read_fields
from lstm_numba.data.file_io import LARGEST_CONTENT, fault, one_line, open_regular, read_file
from lstm_numba.data.npz import NpzError, read_npy, read_npz
from lstm_numba.data.text_columns import check_numbers, convert
from lstm_numba.errors import DataError, UserError

Array = npt.NDArray[Any]
FilePath = str | os.PathLike[str]

#: Fewest rows of a table.
_FEWEST = 2
#: What NumPy's reader of headers may raise beside `NpzError`.
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, SyntaxError, RecursionError)


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of one length.

    Attributes
    ----------
    name : str
        The file, for messages.
    columns : dict of ndarray
        In the file's order, each (R,): float64 with NaN for missing numbers; objects, texts with "" for
        missing ones; or datetime64[ns] in UTC, NaT for missing times.
    rows : ndarray (R,), int64
        Where each row stands: its line in a text, whose header is line 1; else counted from 1.
    groups : ndarray (R,), int64, optional
        Which sequence each row belongs to, if the file itself holds several.
    guesses : tuple of str
        What was guessed in reading it, a line each.
    """

    name: str
    columns: dict[str, Array]
    rows: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None = None
    guesses: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.rows)


def read_table(path: FilePath, needed: Collection[str] | None = None, text: Collection[str] = ()) -> Table:
    """Read a table; the ending of its name tells what it is.

    ``.csv`` and ``.txt``: text with a header, separated by commas, semicolons, tabulators or strokes;
    ``.tsv``: by tabulators; either may be gzipped (``.csv.gz``). ``.parquet``: needs the extra ``tables``.
    ``.npz``: arrays of one length are the columns. ``.npy``: one array, (T,) or (T, F), whose columns are
    "0", "1" and so on, or (N, T, F), N sequences.

    Parameters
    ----------
    path : path
    needed : collection of str, optional
        Columns that must be sound, by default all; others are kept as text, or left out, if they are not.
    text : collection of str
        Columns that are kept as text, whatever they hold.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        The file is missing, damaged, something else, or doubtful: see `lstm_numba.data.text_columns.convert`.
    UserError
        The extra is not installed.
    """
    name = Path(path).name.lower().removesuffix(".gz")
    kind = name.rpartition(".")[2] if "." in name else ""
    if kind in ("csv", "tsv", "txt"):
        table = _read_text(path, "\t" if kind == "tsv" else None, needed, text)
    elif kind in ("parquet", "pq"):
        table = _read_parquet(path, needed, text)
    elif kind in ("npy", "npz"):
        table = (_read_npy if kind == "npy" else _read_npz)(path, needed, text)
    else:
        open_regular(path).close()  # a missing file is told first
        raise fault(path, "expected a file named .csv, .tsv, .txt, .parquet, .npy or .npz")
    if not table.columns:
        raise fault(path, "holds no columns")
    odd = next((name for name in table.columns if not name.isprintable()), None)
    if odd is not None:
        raise fault(path, f"expected printable names of columns, got {odd!r}")
    if len(table) < _FEWEST:
        rows = "no rows" if len(table) == 0 else "one row only"
        raise fault(path, f"holds {rows}, expected at least {_FEWEST}")
    return table


def _read_text(
    path: FilePath, separator: str | None, needed: Collection[str] | None, text: Collection[str]
) -> Table:
    fields = read_fields(path, separator)
    converted, guesses = convert(path, fields, text, needed)
    return Table(os.fspath(path), converted, fields.rows, None, (*fields.guesses, *guesses))


# -- arrays ------------------------------------------------------------------------------------------


def _read_npy(path: FilePath, needed: Collection[str] | None, text: Collection[str]) -> Table:
    try:
        array = read_npy(".npy", read_file(path))
    except NpzError as error:
        raise fault(path, str(error)) from None
    except _DAMAGE as error:
        raise fault(path, f"damaged, or not an .npy file ({one_line(error, 120)})") from None
    if array.ndim not in (1, 2, 3):
        raise fault(path, f"expected an array (T,), (T, F) or (N, T, F), got shape {array.shape}")
    groups = None
    if array.ndim == 3:
        groups = np.repeat(np.arange(array.shape[0]), array.shape[1])
        array = array.reshape(-1, array.shape[2])
    elif array.ndim == 1:
        array = array[:, None]
    named = {str(k): array[:, k] for k in range(array.shape[1])}
    return _from_arrays(path, named, needed, text, groups)


def _read_npz(path: FilePath, needed: Collection[str] | None, text: Collection[str]) -> Table:
    try:
        named, _ = read_npz(read_file(path), LARGEST_CONTENT)
    except NpzError as error:
        raise fault(path, str(error)) from None
    except _DAMAGE as error:
        raise fault(path, f"damaged, or not an .npz file ({one_line(error, 120)})") from None
    lengths = {name: array.shape for name, array in named.items()}
    first = next(iter(lengths.values()), ())
    for name, shape in lengths.items():
        if len(shape) != 1 or shape != first:
            expected = f"shape {first} as the first has" if len(first) == 1 else "shape (T,)"
            raise fault(path, f"array {one_line(name, 60)}: expected {expected}, got {shape}")
    return _from_arrays(path, named, needed, text)


def _from_arrays(
    path: FilePath,
    named: dict[str, Array],
    needed: Collection[str] | None,
    text: Collection[str],
    groups: npt.NDArray[np.int64] | None = None,
) -> Table:
    """A table of arrays (R,); numbers, times or texts."""
    count = len(next(iter(named.values()), ()))
    rows = np.arange(1, count + 1)
    converted = {}
    for name, array in named.items():
        try:
            converted[name] = _column(path, name, array, rows, name in text)
        except DataError:
            if needed is None or name in needed:
                raise
    return Table(os.fspath(path), converted, rows, groups)


def _column(path: FilePath, name: str, array: Array, rows: npt.NDArray[np.int64], text: bool) -> Array:
    kind = array.dtype.kind
    if kind == "M":
        return array.astype("datetime64[ns]")
    if kind in "fiub":
        numbers = array.astype(np.float64)
        check_numbers(path, name, numbers, rows)
        return texts_of(numbers) if text else numbers
    if kind == "U":
        return array.astype(object)
    raise fault(path, f"column {name}: expected numbers, times or texts, got {array.dtype}")


def texts_of(column: Array) -> Array:
    """A column's values as texts, "" where missing: of numbers, whole ones without a decimal point."""
    if column.dtype.kind == "f":
        texts: Iterable[str] = (
            "" if np.isnan(v) else f"{v:.0f}" if v == np.rint(v) else repr(v) for v in column.tolist()
        )
    elif column.dtype.kind == "M":
        texts = ("" if np.isnat(v) else str(v) for v in column)
    else:
        return column
    return np.array([*texts], object)


# -- Parquet -----------------------------------------------------------------------------------------


def _read_parquet(path: FilePath, needed: Collection[str] | None, text: Collection[str]) -> Table:
    content = read_file(path)
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError:
        raise UserError(f"{path}: Parquet files need pandas: pip install 'lstm_numba[tables]'") from None
    try:
        frame = pandas.read_parquet(io.BytesIO(content), engine="pyarrow")
    except Exception as error:  # pyarrow has many, of its own and of the system's
        raise fault(path, f"damaged, or not a Parquet file ({one_line(error, 120)})") from None
    if frame.index.name is not None or isinstance(frame.index, pandas.DatetimeIndex):
        frame = frame.reset_index()
    names = [str(name) for name in frame.columns]
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise fault(path, f"has two columns of the name {one_line(twice, 60)}")
    frame.columns = names
    said: list[str] = []
    named: dict[str, Array] = {}
    for name in names:
        try:
            named[name] = _series(path, name, frame[name], said)
        except DataError:
            if needed is None or name in needed:
                raise
    table = _from_arrays(path, named, needed, text)
    return Table(table.name, table.columns, table.rows, None, tuple(said))


def _series(path: FilePath, name: str, series: Any, said: list[str]) -> Array:
    """A column of pandas as float64, datetime64[ns] or texts."""
    kind = series.dtype.kind
    try:
        if kind == "M":
            if getattr(series.dtype, "tz", None) is not None:
                said.append(f"column {name}: times of zone {series.dtype.tz} are converted to UTC")
                series = series.dt.tz_convert("UTC").dt.tz_localize(None)
            times: Array = series.to_numpy("datetime64[ns]")
            return times
        if kind in "fiub":
            numbers: Array = series.to_numpy(np.float64, na_value=np.nan)
            return numbers
        values = [None if value is None or value != value else value for value in series]
        if any(value is not None and not isinstance(value, str) for value in values):
            numbers = np.array([np.nan if value is None else float(value) for value in values])
            return numbers
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"{path}: column {name}: expected numbers, times or texts, got {series.dtype}"
        ) from None
    length = max((len(value) for value in values if value is not None), default=1)
    return np.array([value or "" for value in values], f"U{max(length, 1)}")
