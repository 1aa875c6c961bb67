"""Tables of sets of runs, which member is next, how far they are, and the mean of their curves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lstm_numba.cli.set_results import (
    Row,
    cells_table,
    groups_table,
    overall,
    ratio,
    seeds_table,
    spread,
    summaries,
    worst_first,
)
from lstm_numba.cli.set_training import COMPILE, EPOCH, START, STEP, Course, Failed, Queue
from lstm_numba.training.config import make_config
from lstm_numba.training.run_sets import SEEDS, Member, RunSet

LOSSES = (0.5, 0.7, 0.6, 0.65)


def seed_rows(cell: str = "lstm", more: float = 0.0) -> list[Row]:
    """Four seeds with a result, and one that diverged."""
    rows = [
        Row(str(k), cell, {"loss": loss + more, "accuracy": 1 - loss}, 3 + k) for k, loss in enumerate(LOSSES)
    ]
    return [*rows, Row("4", cell, None, None, "diverged")]


def test_spread_is_students() -> None:
    found = spread(LOSSES)
    low, high = stats.t.interval(0.95, 3, np.mean(LOSSES), stats.sem(LOSSES))
    assert found["mean"] == pytest.approx(np.mean(LOSSES))
    assert found["deviation"] == pytest.approx(np.std(LOSSES, ddof=1))
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert spread([0.5]) == {"mean": 0.5, "deviation": None, "low": None, "high": None}
    assert spread([0.5, math.inf]) == {"mean": math.inf, "deviation": None, "low": None, "high": None}


def test_seeds() -> None:
    lines = seeds_table(seed_rows()).splitlines()
    assert lines[0].split() == ["seed", "test", "loss", "test", "accuracy", "epochs"]
    assert lines[2].split() == ["1", "0.7000", "30.00", "%", "4"]
    assert lines[5].split() == ["4", "diverged"]
    # 0.6125 and 0.0854 are mean and deviation; 3.1824 is Student's, of 3 degrees of freedom, and 97.5 %.
    assert lines[6].split() == ["mean", "0.6125", "38.75", "%"]
    assert lines[7].split() == ["standard", "deviation", "0.0854", "8.54", "%"]
    assert lines[8].split() == ["95", "%", "from", "0.4766", "25.16", "%"]
    assert lines[9].split() == ["95", "%", "to", "0.7484", "52.34", "%"]
    assert lines[10:] == ["1 run without a result is not in these numbers"]
    assert seeds_table(seed_rows()[-1:]).splitlines()[1:] == ["4             diverged"]
    assert "valid loss" in seeds_table(seed_rows(), "valid")


def test_cells() -> None:
    rows = [*seed_rows(), *seed_rows("gru", 1.0), Row("0", "rnn", {"loss": 3.0, "accuracy": 0.1}, 1)]
    lines = cells_table(rows).splitlines()
    assert " ".join(lines[1].split()) == "lstm 4 0.6125 ± 0.1359 38.75 % ± 13.59 % 1 without a result"
    assert lines[2].split()[:5] == ["gru", "4", "1.6125", "±", "0.1359"]
    assert lines[3].split() == ["rnn", "1", "3.0000", "10.00", "%"]
    assert lines[4] == "mean ± half of the 95 % interval of the mean"
    assert [(one["cell"], one["runs"], one["count"]) for one in summaries(rows)] == [
        ("lstm", 5, 4),
        ("gru", 5, 4),
        ("rnn", 1, 1),
    ]


def group(name: str, mae: float, *baselines: float, **more: Any) -> Row:
    """A group's row, with baselines by the numbers of their errors."""
    simple = {f"simple {k}": {"mae": error} for k, error in enumerate(baselines)}
    return Row(name, "lstm", {"loss": 1.0, "mae": mae}, 2, baselines=simple, **more)


def test_groups_are_ordered_by_what_their_units_do_not_change() -> None:
    rows = [group("small", 0.5, 1.0, 2.0), group("large", 900.0, 2000.0, 1000.0), group("bad", 3.0, 2.0)]
    assert [ratio(row, "mae") for row in rows] == [0.5, 0.9, 1.5]
    assert [row.name for row in worst_first(rows, "mae")] == ["bad", "large", "small"]
    lines = groups_table([*rows, Row("none", "lstm", None, None, "failed")], "shop").splitlines()
    assert lines[0].split() == ["shop", "test", "MAE", "best", "baseline", "ratio", "epochs"]
    assert lines[1].split() == ["bad", "3", "2", "simple", "0", "1.500", "2"]
    assert lines[2].split() == ["large", "900", "1000", "simple", "1", "0.900", "2"]
    assert lines[4].split() == ["none", "failed"]
    assert lines[5] == (
        "3 groups: MAE mean 301.2, median 3; ratio to the best baseline: mean 0.967, median 0.900; "
        "better than it in 2 of 3; 1 run without a result is not in these numbers"
    )
    found = overall(rows)
    assert found["ratio"]["median"] == 0.9
    assert (found["better"], found["compared"], found["count"]) == (2, 3, 3)
    # Without baselines the error itself decides.
    assert [row.name for row in worst_first([group("a", 1.0), group("b", 2.0)], "mae")] == ["b", "a"]
    assert ratio(group("perfect baseline", 1.0, 0.0), "mae") is None


def test_classes_are_ordered_by_their_errors() -> None:
    rows = [
        Row("good", "lstm", {"loss": 1.0, "accuracy": 0.9}, 2, baselines={"x": {"accuracy": 0.8}}),
        Row("bad", "lstm", {"loss": 1.0, "accuracy": 0.7}, 2, baselines={"x": {"accuracy": 0.8}}),
    ]
    assert [row.name for row in worst_first(rows, "accuracy")] == ["bad", "good"]
    assert [ratio(row, "accuracy") for row in rows] == [pytest.approx(0.5), pytest.approx(1.5)]


def test_of_many_groups_the_worst_and_the_best_are_printed() -> None:
    rows = [group(f"g{k:02}", float(k), 10.0) for k in range(30)]
    lines = groups_table(rows, "shop").splitlines()
    assert [line.split()[0] for line in lines[1:11]] == [f"g{k}" for k in range(29, 19, -1)]
    assert lines[11] == "... 10 groups between these"
    assert [line.split()[0] for line in lines[12:22]] == [f"g{k:02}" for k in range(9, -1, -1)]
    assert len(lines) == 23
    assert len(groups_table(rows[:20], "shop").splitlines()) == 22


def test_one_of_a_kind_goes_ahead_while_it_compiles() -> None:
    queue = Queue(["lstm", "lstm", "gru", "lstm"])
    assert queue.take() == 0
    assert queue.take() == 2  # another cell needs other kernels
    assert queue.take() is None
    queue.note(0, START)
    queue.note(0, COMPILE)
    queue.note(0, STEP)
    assert queue.take() is None  # it has not evaluated yet
    queue.note(2, EPOCH)
    assert queue.take() is None  # of the other kind
    queue.note(0, EPOCH)
    assert [queue.take(), queue.take(), queue.take()] == [1, 3, None]
    assert not queue


def test_nobody_waits_where_kernels_are_there_or_the_first_has_ended() -> None:
    found = Queue(["lstm", "lstm"])
    assert found.take() == 0
    found.note(0, STEP)
    assert found.take() == 1
    failed = Queue(["lstm", "lstm"])
    assert failed.take() == 0
    failed.note(0, COMPILE)
    failed.ended(0)
    assert failed.take() == 1
    cleared = Queue(["lstm", "lstm"])
    cleared.clear()
    assert cleared.take() is None
    assert not cleared


def test_nobody_waits_for_a_long_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    queue = Queue(["lstm", "lstm"])
    assert queue.take() == 0
    queue.note(0, COMPILE)
    now = 150.0  # however long it compiled
    queue.note(0, STEP)
    assert queue.take() is None
    now = 171.0
    queue.note(0, STEP)
    assert queue.take() == 1


class Lines:
    """What a terminal was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    update = say


def test_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    members = [Member(f"seed-{k}", str(k), make_config("digits", {"seed": k})) for k in range(4)]
    lines: Any = Lines()
    course = Course(RunSet(Path("x"), SEEDS, tuple(members)), lines)
    course.report(0, (COMPILE, 0.0, 0))
    course.report(1, (COMPILE, 0.0, 0))
    assert len(lines.said) == 1
    assert "compiling" in lines.said[0]
    course.report(0, (STEP, 0.5, 10))
    assert lines.said[-1] == "seeds: 0 of 4 done, 1 under way, epoch 1/10"
    now = 160.0
    course.report(1, (START, 5.0, 10))  # it goes on
    course.report(0, (STEP, 5.5, 10))
    # Half a member's work took a minute, and 2.95 of the four are left.
    assert lines.said[-1] == "seeds: 0 of 4 done, 2 under way, epoch 6/10  5:54 left"
    course.report(1, (EPOCH, 10.0, 10))
    assert "epochs 6-10/10" in lines.said[-1]
    course.end(1, Failed("training diverged at step 3", True))
    assert lines.said[-1] == "seed 1: training diverged at step 3"
    assert course.text().startswith("seeds: 1 of 4 done, 1 under way, epoch 6/10")


def test_mean_of_curves() -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from lstm_numba.cli.set_plots import curve_of, mean_curve

    lines = [
        {"split": split, "epoch": epoch, "loss": loss, "accuracy": loss / 10}
        for epoch in (1, 2)
        for split, loss in (("train", 9.0), ("valid", float(epoch)))
    ]
    assert curve_of(lines, "loss") == {1: 1.0, 2: 2.0}
    assert curve_of(lines, "accuracy") == {1: 10.0, 2: 20.0}
    assert curve_of(lines[::2], "loss") == {1: 9.0, 2: 9.0}
    assert mean_curve([{1: 1.0, 2: 2.0, 3: 9.0}, {1: 3.0, 2: 3.0}]) == {1: 2.0, 2: 2.5}
