"""Times of a sequence: their order, repetitions and gaps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lstm_numba.data.file_io import fault
from lstm_numba.data.tables import Array

#: Share of equal steps from which on times count as regular.
_REGULAR = 0.8
_MONTH = "a month"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def order_of(file: str, column: str, times: Array, rows: npt.NDArray[np.int64]) -> slice:
    """The order in which the rows of a sequence are to be read: as they are, or backwards.

    Parameters
    ----------
    file, column : str
        For messages.
    times : ndarray (T,), float64 or datetime64[ns]
    rows : ndarray (T,), int64
        Where they stand in the file.

    Raises
    ------
    DataError
        A time is missing, comes twice, or the rows are in no order; the text names the row.
    """
    missing = np.flatnonzero(np.isnan(times) if times.dtype.kind == "f" else np.isnat(times))
    if len(missing):
        raise fault(file, f"row {rows[missing[0]]}, column {column}: the time is missing")
    backwards = len(times) > 1 and bool(np.all(times[1:] < times[:-1]))
    if backwards:
        return slice(None, None, -1)
    _, first = np.unique(times, return_index=True)
    if len(first) < len(times):
        seen = np.zeros(len(times), bool)
        seen[first] = True
        second = int(np.flatnonzero(~seen)[0])
        before = int(np.flatnonzero(times[:second] == times[second])[0])
        raise fault(
            file,
            f"row {rows[second]}, column {column}: {shown_time(times[second])} appears twice, first in row "
            f"{rows[before]}; where a table holds several series, --group names the column that parts them",
        )
    falls = np.flatnonzero(times[1:] < times[:-1])
    if len(falls):
        k = int(falls[0])
        raise fault(
            file,
            f"row {rows[k + 1]}, column {column}: {shown_time(times[k + 1])} comes after "
            f"{shown_time(times[k])}: the rows must be in the order of time",
        )
    return slice(None)


#: Parts of a time that are left out where they are zero, from the last one.
_ZEROS = (".000000", ":00", " 00:00")


def shown_time(time: np.generic, zeros: int | None = None) -> str:
    """A time as text, without its last parts: so many of them, or by default those that are zero."""
    if time.dtype.kind == "f":
        return f"{float(time):g}"
    text = str(time.astype("datetime64[us]")).replace("T", " ")
    for part in _ZEROS[:zeros]:
        if zeros is None and not text.endswith(part):
            break
        text = text[: -len(part)]
    return text


def common_zeros(times: Array) -> int:
    """How many last parts are zero in all of some times, for `shown_time`: a column has one form."""
    if times.dtype.kind == "f":
        return 0
    for count, unit in ((3, "D"), (2, "m"), (1, "s")):
        if np.all(times == times.astype(f"datetime64[{unit}]")):
            return count
    return 0


def next_times(times: Array, count: int) -> list[str]:
    """The times after the last one, shown; none where the times are not regular.

    Months go on by the calendar where their day is one that all months have.
    """
    step, _ = gaps(times)
    if not step:
        return []
    if step == _MONTH:
        months = times[-1].astype("datetime64[M]")
        rest = times[-1] - months.astype("datetime64[ns]")
        if rest >= np.timedelta64(28, "D"):
            return []
        found = np.array([(months + k).astype("datetime64[ns]") + rest for k in range(1, count + 1)])
        return _column(times, found)
    usual = np.median(np.diff(times).astype(np.int64 if times.dtype.kind == "M" else np.float64))
    unit = np.timedelta64(round(usual), "ns") if times.dtype.kind == "M" else usual
    return _column(times, np.array([times[-1] + k * unit for k in range(1, count + 1)]))


def _column(earlier: Array, times: Array) -> list[str]:
    """Times as text, in the form that the earlier ones have too."""
    zeros = min(common_zeros(earlier), common_zeros(times))
    return [shown_time(time, zeros) for time in times]


def gaps(times: Array) -> tuple[str, npt.NDArray[np.int64]]:
    """The usual step of ascending times, and the rows before which there is a larger one.

    Returns
    -------
    step : str
        Empty where the times are not regular.
    places : ndarray of int64
        Indices of the first rows after the gaps.
    """
    steps = np.diff(times)
    if times.dtype.kind == "M":
        steps = steps.astype(np.int64) / 1e9
    nothing = np.empty(0, np.int64)
    if len(steps) < 2:
        return "", nothing
    usual = float(np.median(steps))
    if times.dtype.kind == "M" and np.all((steps >= 28 * 86_400) & (steps <= 31 * 86_400)):
        return _MONTH, nothing
    close = np.abs(steps - usual) <= 0.01 * usual
    if np.mean(close) < _REGULAR:
        return "", nothing
    return _shown_step(usual, times.dtype.kind == "M"), np.flatnonzero(steps > 1.5 * usual) + 1


def _shown_step(step: float, seconds: bool) -> str:
    if not seconds:
        return f"{step:g}"
    for size, unit in _UNITS:
        if step >= size and step % size == 0:
            return f"{step / size:g} {unit}"
    return f"{step:g} s"
