"""The model of many ranks gives back what it is made of; the trace shows what was under way."""

from __future__ import annotations

import pytest

from lstm_numba.benchmarks.rank_model import Line, Messages, Work, fit_line, fit_work, predict
from lstm_numba.benchmarks.ranks import messages_of, timeline

LINE = Line(2e-6, 5e9)


def test_fits_find_what_the_times_were_made_of() -> None:
    sizes = [2**n for n in range(3, 24)]
    found = fit_line({size: LINE.latency + size / LINE.bandwidth for size in sizes})
    assert found == pytest.approx(LINE, rel=1e-9)
    assert fit_work({20: 0.05, 10: 0.03}) == pytest.approx((0.01, 0.002))


@pytest.mark.parametrize("size", [8, 1 << 20])
def test_two_ranks_take_what_was_fitted_and_more_take_longer(size: int) -> None:
    assert LINE.sum_seconds(size, 1) == 0
    assert LINE.sum_seconds(size, 2) == pytest.approx(LINE.latency + size / LINE.bandwidth)
    seconds = [LINE.sum_seconds(size, ranks) for ranks in (2, 8, 64)]
    assert seconds == sorted(seconds)
    # Small messages go in rounds of doubling, large ones around a ring, which sends twice the bytes at most.
    wanted = 6 * (LINE.latency + size / LINE.bandwidth) if size == 8 else 63 * LINE.latency
    ring = 63 * (LINE.latency + 2 * size / 64 / LINE.bandwidth)
    assert seconds[-1] == pytest.approx(wanted if size == 8 else ring)


def test_predictions_without_messages_are_the_work() -> None:
    work, nothing = Work(0.01, 0.002), Messages((0,), 0, 1.0)
    free = Line(0.0, 1e30)
    two, eight = predict(free, work, nothing, (2, 8), None, 80)
    assert (two.rows, eight.rows) == (40, 10)
    assert two.apart == pytest.approx(0.09)
    assert eight.efficiency == pytest.approx(((0.17 / 8) / 0.03,) * 2)
    (weak,) = predict(free, work, nothing, (8,), 10, 0)
    assert weak.apart == pytest.approx(eight.apart)
    slow = Messages((50_000_000, 0), 0, 0.001)  # of 10 ms, 0.001 s a row can be hidden
    (some,) = predict(Line(0.0, 5e9), work, slow, (2,), 5, 0)
    assert (some.apart, some.overlapped) == pytest.approx((0.03, 0.025))


def test_a_trace_as_text_and_as_messages() -> None:
    names = ("kind", "name", "begin", "end", "size")
    rows = [
        ("backward", "output.weight, output.bias", 0.0, 0.05, 0),
        ("backward", "rnn.weight_hh_l0", 0.05, 0.09, 0),
        ("sum", "output.weight", 0.05, 0.07, 8_000_000),
        ("rest", "output.bias", 0.09, 0.1, 40_000),
        ("rows", "embedding.weight", 0.1, 0.1, 3200),
    ]
    step = {"seconds": 0.1, "events": [dict(zip(names, row, strict=True)) for row in rows]}
    found = messages_of(step, 10)
    assert (found.sums, found.rows) == ((8_000_000, 40_000), 160)
    assert found.overlap == pytest.approx(0.004)
    lines = timeline(step)
    bars = [line.split("|")[1] for line in lines]
    assert (bars[0].count("="), bars[1].strip(), bars[1].find("=")) == (30, "=" * 24, 30)
    assert (bars[2].find("#"), bars[2].count("#")) == (30, 12)
    assert "8.00 MB" in lines[2]
