"""Dates and times in text: read strictly, converted to UTC."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.data.file_io import fault, one_line
from lstm_numba.errors import UserError

Path = str | os.PathLike[str]
Times = npt.NDArray[np.datetime64]

_FORM = re.compile(
    r"(\d{1,4})([-./])(\d{1,2})(?:\2(\d{1,4}))?"  # 2024-01-31, 31.01.2024, 1/31/2024, 2024-01
    r"(?:[T ]\s*(\d{1,2})(?::(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?(?:\s*([AaPp])[Mm])?)?"
    r"\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?"
)
_YEAR, _HALF, _ZONE = 1, 9, 10
#: Values that are looked at to tell whether a column holds times.
_LOOKED_AT = 20
#: Years that nanoseconds in 64 bits can count.
_FIRST_YEAR, _LAST_YEAR = 1678, 2261
#: Zones that differ by no more minutes than daylight saving time are those of one place.
_SUMMER = 60


def look_like_times(values: Sequence[str]) -> bool:
    """Whether the first of some texts, empty ones left out, all have the form of dates."""
    some = [value for value in values[: 50 * _LOOKED_AT] if value][:_LOOKED_AT]
    return bool(some) and all(_match(value) for value in some)


def _match(value: str) -> re.Match[str] | None:
    found = _FORM.fullmatch(value.strip())
    if found is None or found[4]:
        return found if found and 4 in (len(found[1]), len(found[4])) else None
    month = found[2] == "-" and len(found[1]) == 4 and 1 <= int(found[3]) <= 12  # 2024.01 is a number
    return found if month and _FIRST_YEAR <= int(found[1]) <= _LAST_YEAR else None


def read_times(
    path: Path, column: str, values: Sequence[str], rows: npt.NDArray[np.int64]
) -> tuple[Times, list[str]]:
    """Read a column of dates or times.

    Year first, as in ``2024-01-31 13:00:00``, ``2024-01-31T13Z``, ``2024/01/31``, ``2024-01``; day first with
    points; with strokes, day or month first, as the column itself shows.

    Parameters
    ----------
    path : path
        File, for messages.
    column : str
        Name of the column, for messages.
    values : sequence of str
        An empty one is missing.
    rows : ndarray of int
        Where they stand in the file.

    Returns
    -------
    times : ndarray, datetime64[ns]
        In UTC where the texts name a zone; NaT where missing.
    guesses : list of str
        What was guessed or converted.

    Raises
    ------
    DataError
        One is no date, some have a zone and others none, or zones differ by more than an hour; the text names
        row and value.
    """

    def refuse(index: int, what: str) -> UserError:
        shown = one_line(repr(values[index]), 60)
        return fault(path, f"row {rows[index]}, column {column}: {what}, got {shown}")

    present = [k for k, value in enumerate(values) if value]
    found = [_match(values[k]) for k in present]
    matches: list[re.Match[str]] = []
    for k, match in zip(present, found, strict=True):
        if match is None:
            raise refuse(k, "expected a date or time such as 2024-01-31 13:00")
        matches.append(match)
    month_first = _month_first(path, column, matches)
    offsets, guesses = _offsets(column, matches, present, refuse)
    times = np.full(len(values), "NaT", "datetime64[ns]")
    numbers = np.array([_fields(match, month_first) for match in matches], np.int64).reshape(-1, 7)
    wrong = np.flatnonzero(~_possible(numbers))
    if len(wrong):
        raise refuse(present[int(wrong[0])], f"expected a date between {_FIRST_YEAR} and {_LAST_YEAR}")
    times[present] = _instants(numbers) - offsets.astype("timedelta64[m]")
    if month_first:
        guesses.append(f"column {column}: the month stands before the day, as in {matches[0].string.strip()}")
    return times, guesses


def _month_first(path: Path, column: str, matches: Sequence[re.Match[str]]) -> bool:
    """Whether dates such as 1/31/2024 begin with the month; False for other forms."""
    unclear = [match for match in matches if len(match[_YEAR]) < 4 and match[2] != "."]
    if not unclear:
        return False
    first, second = max(int(match[1]) for match in unclear), max(int(match[3]) for match in unclear)
    if first <= 12 and second <= 12:
        shown = unclear[0].string.strip()
        raise fault(
            path,
            f"column {column}: {shown} can be read with the month or the day first; write 2024-01-31",
        )
    return first <= 12


def _offsets(column: str, matches: Sequence[re.Match[str]], present: list[int], refuse: Any) -> Any:
    """Minutes that the zones are ahead of UTC, and what to say of them."""
    zones = [match[_ZONE] for match in matches]
    minutes = np.array([_minutes(zone) for zone in zones], np.int64)
    named = [zone is not None for zone in zones]
    if not any(named):
        return minutes, []
    if not all(named):
        odd = named.index(not named[0])
        raise refuse(present[odd], f"expected {'a' if named[0] else 'no'} time zone, as in the rows before")
    far = np.flatnonzero(np.abs(minutes - minutes[0]) > _SUMMER)
    if len(far):
        raise refuse(present[int(far[0])], f"expected the time zone of the rows before, {zones[0]}")
    texts = " and ".join(dict.fromkeys(zones))
    return minutes, [f"column {column}: times of zone {texts} are converted to UTC"] if minutes.any() else []


def _minutes(zone: str | None) -> int:
    if zone in (None, "Z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "") if zone else ""
    minutes = 60 * int(digits[:2]) + int(digits[2:] or 0)
    return -minutes if zone and zone[0] == "-" else minutes


def _fields(match: re.Match[str], month_first: bool) -> tuple[int, ...]:
    """Year, month, day, hour, minute, second, nanosecond."""
    a, b, c = int(match[1]), int(match[3]), int(match[4] or 1)
    date = (a, b, c) if len(match[_YEAR]) == 4 else (c, a, b) if month_first else (c, b, a)
    hour, half = int(match[5] or 0), (match[_HALF] or "").lower()
    if half:
        hour = 99 if not 1 <= hour <= 12 else hour % 12 + (12 if half == "p" else 0)
    nanoseconds = int((match[8] or "").ljust(9, "0"))
    return (*date, hour, int(match[6] or 0), int(match[7] or 0), nanoseconds)


def _possible(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which rows of numbers from `_fields` are dates of the calendar."""
    year, month, day, hour, minute, second, _ = numbers.T
    good = (year >= _FIRST_YEAR) & (year <= _LAST_YEAR) & (month >= 1) & (month <= 12) & (day >= 1)
    good &= (hour < 24) & (minute < 60) & (second < 60)
    first = _months(np.where(good, year, 2000), np.where(good, month, 1))
    length = ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(np.int64)
    return good & (day <= length)


def _months(year: npt.NDArray[np.int64], month: npt.NDArray[np.int64]) -> npt.NDArray[np.datetime64]:
    return ((year - 1970) * 12 + month - 1).astype("datetime64[M]")


def _instants(numbers: npt.NDArray[np.int64]) -> Times:
    year, month, day, hour, minute, second, nanosecond = numbers.T
    days = _months(year, month).astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    seconds = (hour * 3600 + minute * 60 + second).astype("timedelta64[s]")
    return days.astype("datetime64[ns]") + seconds + nanosecond.astype("timedelta64[ns]")
