"""Columns of text as numbers, times or text: what a column is, its values decide."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.data.delimited import Fields
from lstm_numba.data.file_io import fault, one_line
from lstm_numba.data.times import look_like_times, read_times
from lstm_numba.errors import DataError

Path = str | os.PathLike[str]
Array = npt.NDArray[Any]

#: Texts that mean a missing value, in small letters.
MISSING = frozenset({"", "na", "nan", "null"})
#: Largest magnitude: sums of squares must not overflow.
LARGEST = 1e150

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?|[+-]?\d+")


def convert(
    path: Path, fields: Fields, text: Collection[str], needed: Collection[str] | None = None
) -> tuple[dict[str, Array], list[str]]:
    """Read each column as numbers, times or text.

    Parameters
    ----------
    path : path
        File, for messages.
    fields : Fields
    text : collection of str
        Columns that are kept as text, whatever they hold.
    needed : collection of str, optional
        Columns that must be sound, by default all; others are text if they are not.

    Returns
    -------
    columns : dict of ndarray
        float64, NaN where missing; datetime64[ns], NaT where missing; or objects, texts, "" where missing.
    guesses : list of str

    Raises
    ------
    DataError
        More than half of a column's values are numbers, or its first ones dates, and another is not; a number
        is infinite or too large. The text names row, column and value.
    """
    stripped = {
        name: ["" if value.strip().lower() in MISSING else value.strip() for value in values]
        for name, values in fields.columns.items()
    }
    columns: dict[str, Array] = {}
    guesses: list[str] = []
    commas = _decimal_commas(path, fields, {n: v for n, v in stripped.items() if n not in text})
    if commas:
        guesses.append("numbers have a decimal comma")
    for name, values in stripped.items():
        columns[name] = np.array(values, object)
        if name in text:
            continue
        plain = [value.replace(",", ".") for value in values] if name in commas else values
        try:
            columns[name], said = _convert(path, name, plain, fields.rows)
        except DataError:
            if needed is None or name in needed:
                raise
        else:
            guesses += said
    return columns, guesses


def _convert(
    path: Path, name: str, values: Sequence[str], rows: npt.NDArray[np.int64]
) -> tuple[Array, list[str]]:
    """A column as what its values say."""
    numbers = _numbers(values)
    if numbers is not None:
        check_numbers(path, name, numbers, rows)
        return numbers, []
    if look_like_times(values):
        return read_times(path, name, values, rows)
    _refuse_odd_text(path, name, values, rows)
    return np.array(values, object), []


def check_numbers(path: Path, name: str, numbers: Array, rows: npt.NDArray[np.int64]) -> None:
    """Refuse numbers that are infinite or whose squares would be; NaN is a missing value.

    Raises
    ------
    DataError
        Names row, column and value.
    """
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(np.abs(numbers) > LARGEST)
    if len(wrong):
        value = numbers[wrong[0]]
        raise fault(
            path, f"row {rows[wrong[0]]}, column {name}: expected a number up to {LARGEST:g}, got {value:g}"
        )


def read_number(file: str, column: str, text: str, row: int) -> float:
    """One number, NaN for a text that means a missing one.

    Raises
    ------
    DataError
        It is no number, infinite or too large; the message names row, column and value.
    """
    value = text.strip()
    if value.lower() in MISSING:
        return np.nan
    if not _is_number(value) or not abs(float(value)) <= LARGEST:
        shown = one_line(repr(value), 60)
        raise fault(file, f"row {row}, column {column}: expected a number up to {LARGEST:g}, got {shown}")
    return float(value)


def _numbers(values: Sequence[str]) -> Array | None:
    """The values as float64, NaN where missing; None if one is no number."""
    if any("_" in value for value in values):  # which Python would read over
        return None
    try:
        return np.array([value or "nan" for value in values], np.float64)
    except ValueError:
        return None


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return "_" not in value


def _refuse_odd_text(path: Path, name: str, values: Sequence[str], rows: npt.NDArray[np.int64]) -> None:
    """Refuse a few texts among many numbers."""
    odd = [k for k, value in enumerate(values) if value and not _is_number(value)]
    present = sum(map(bool, values))
    if len(odd) < present / 2:
        raise fault(
            path,
            f"row {rows[odd[0]]}, column {name}: expected a number, got {one_line(repr(values[odd[0]]), 60)}",
        )


def _decimal_commas(path: Path, fields: Fields, columns: dict[str, list[str]]) -> set[str]:
    """Names of the columns whose numbers have a decimal comma.

    Not where commas separate the values: there a comma inside a number parts thousands. Points and commas in
    one file cannot both be decimal ones.
    """
    if fields.separator == ",":
        return set()
    found, points = set(), []
    for name, values in columns.items():
        some = [value for value in values if value]
        if any("," in value for value in some) and all(map(_DECIMAL_COMMA.fullmatch, some)):
            found.add(name)
        elif any("." in value for value in some) and all(map(_is_number, some)):
            points.append(name)
    if found and points:
        raise fault(
            path, f"column {sorted(found)[0]} has decimal commas and column {points[0]} decimal points"
        )
    return found
