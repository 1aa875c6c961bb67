"""Tables as text, with commas, semicolons, tabulators or strokes between the values."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.data.corpus import decode_text
from lstm_numba.data.file_io import fault, one_line, read_content
from lstm_numba.errors import DataError

Path = str | os.PathLike[str]

#: Separator of a table with one column: none of the file.
_NONE = "\x1f"
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabulators", "|": "vertical strokes"}
#: Records that are looked at to find the separator.
_LOOKED_AT = 100


class Fields(NamedTuple):
    """What a file of text holds, not yet read as numbers.

    Attributes
    ----------
    columns : dict of list of str
        By name, in the file's order.
    rows : ndarray of int64
        Line at which each row begins; the header is line 1.
    separator : str
    guesses : list of str
    """

    columns: dict[str, list[str]]
    rows: npt.NDArray[np.int64]
    separator: str
    guesses: list[str]


def read_fields(path: Path, separator: str | None = None) -> Fields:
    """Read a file in UTF-8, with or without a byte order mark, gzipped or not, with a header.

    Parameters
    ----------
    path : path
    separator : str, optional
        By default it is found out.

    Raises
    ------
    DataError
        The file is missing, empty, no such text, has no rows, no header, a name twice, or a row with more or
        fewer values than the header has names; the text names the fault and its row.
    """
    text = decode_text(path, read_content(path))
    guesses = []
    if separator is not None and separator not in text.partition("\n")[0]:
        other = _find_separator(path, text)
        if other != _NONE:
            raise fault(path, f"expected {_SEPARATORS[separator]} in its header, got {_SEPARATORS[other]}")
    if separator is None:
        separator = _find_separator(path, text)
        if separator not in (",", _NONE):
            guesses.append(f"values are separated by {_SEPARATORS[separator]}")
    records = _records(path, text, separator)
    _, names = next(records)
    names = [name.strip() for name in names]
    lines, values = [], []
    for line, record in records:
        if len(record) != len(names):
            raise fault(
                path, f"row {line}: expected {len(names)} values, as the header has names, got {len(record)}"
            )
        lines.append(line)
        values.append(record)
    if len(names) == 1:  # there an empty line is a missing value, but for those at the end
        while values and values[-1] == [""]:
            del values[-1], lines[-1]
    _check_header(path, names, len(values))
    columns = [list(column) for column in zip(*values, strict=True)]
    return Fields(_named(path, names, columns, guesses), np.array(lines, np.int64), separator, guesses)


def _find_separator(path: Path, text: str) -> str:
    """The separator that stands in the header and cuts the first records into as many values."""
    header = text.partition("\n")[0]
    found = [separator for separator in _SEPARATORS if separator in header]
    if not found:
        return _NONE
    head = "\n".join(text.split("\n", 10 * _LOOKED_AT)[: 10 * _LOOKED_AT])
    scores = []
    for separator in found:
        try:
            records = [
                r for (_, r), _ in zip(_records(path, head, separator), range(_LOOKED_AT), strict=False)
            ]
        except DataError:  # a quotation that `head` cuts; the whole file is read below
            records = [header.split(separator)]
        widths = {len(record) for record in records}
        scores.append((len(widths) == 1 and widths != {1}, len(records[0]), separator))
    return max(scores, key=lambda score: score[:2])[2]


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line and values of every record; empty lines are left out of tables with several columns."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
    )
    width, line = 0, 0
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise fault(path, f"row {line}: {error}") from None
        if not record or (len(record) == 1 and not record[0].strip()):
            if width != 1:
                continue
            record = [""]
        width = width or len(record)
        yield line, record


def _check_header(path: Path, names: list[str], rows: int) -> None:
    if all(_is_number(name) for name in names):
        shown = one_line(", ".join(names), 60)
        raise fault(path, f"expected the names of the columns in its first line, got numbers: {shown}")
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise fault(path, f"the header has two columns of the name {one_line(twice[0], 60)}")
    if rows == 0:
        raise fault(path, "holds no rows, only the header")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _named(
    path: Path, names: list[str], columns: list[list[str]], guesses: list[str]
) -> dict[str, list[str]]:
    """Columns by name; those without a name are left out if they count rows or are empty."""
    named: dict[str, list[str]] = {}
    for number, (name, column) in enumerate(zip(names, columns, strict=True), 1):
        if name:
            named[name] = column
        elif number == 1 and not _counts(column) and "index" not in names:
            named["index"] = column
            guesses.append("the first column has no name and is called index")
        elif number == 1 and _counts(column):
            guesses.append("the first column has no name and counts the rows: it is left out")
        elif not any(value.strip() for value in column):
            guesses.append(f"column {number} has no name and no values: it is left out")
        else:
            raise fault(path, f"column {number} has no name")
    return named


def _counts(column: list[str]) -> bool:
    """Whether the texts are whole numbers that rise by 1."""
    try:
        numbers = [int(value) for value in column]
    except ValueError:
        return False
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))
