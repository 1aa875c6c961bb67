"""Times of forecasts as text: one form for a column."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba.data.series_times import next_times, shown_time


@pytest.mark.parametrize(
    ("first", "step", "expected"),
    [
        ("2024-01-30", "24h", ["2024-02-03", "2024-02-04"]),
        ("2024-01-31T22:00", "30m", ["2024-02-01 00:00", "2024-02-01 00:30"]),
        ("2024-01-31T23:59:57", "1s", ["2024-02-01 00:00:01", "2024-02-01 00:00:02"]),
        ("2024-01-31T23:59:59.000", "250ms", ["2024-02-01 00:00:00.000000", "2024-02-01 00:00:00.250000"]),
        ("2024-01-31T12:00", "24h", ["2024-02-04 12:00", "2024-02-05 12:00"]),
    ],
)
def test_midnight_has_the_form_of_the_other_times(first: str, step: str, expected: list[str]) -> None:
    number, unit = int(step.rstrip("hms")), step.lstrip("0123456789")
    times = np.datetime64(first, "ns") + np.timedelta64(number, unit) * np.arange(4)
    assert next_times(times, 2) == expected


def test_months_and_numbers() -> None:
    months = np.array(["2024-10", "2024-11", "2024-12"], "datetime64[M]").astype("datetime64[ns]")
    assert next_times(months, 2) == ["2025-01-01", "2025-02-01"]
    assert next_times(np.array([0.5, 1.0, 1.5]), 2) == ["2", "2.5"]


def test_a_time_alone_has_its_shortest_form() -> None:
    for text in ("2024-02-01", "2024-02-01 10:00", "2024-02-01 10:00:07", "2024-02-01 00:00:07.500000"):
        assert shown_time(np.datetime64(text, "ns")) == text
