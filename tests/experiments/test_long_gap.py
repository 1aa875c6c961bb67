"""Table and claims of the experiment on gaps, of runs that are made up, and one that is not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from lstm_numba.experiments import long_gap
from lstm_numba.experiments.gap_training import Stage
from lstm_numba.experiments.long_gap import Run, outcome

GAPS = (10, 100, 1000)


def made(cell: str, task: str, seed: int, bridged: int) -> Run:
    """A run that bridged so many of the gaps, each after 50 updates, and failed the next after 75."""
    stages = [Stage(gap, 50, 1.0, True) for gap in GAPS[:bridged]]
    return Run(cell, task, seed, [*stages, *[Stage(gap, 75, 0.5, False) for gap in GAPS[bridged:][:1]]])


def found(bridged: dict[tuple[str, str], tuple[int, ...]]) -> Any:
    cells, tasks = (list(dict.fromkeys(key[n] for key in bridged)) for n in (0, 1))
    runs = [
        made(cell, task, seed, count)
        for (cell, task), counts in bridged.items()
        for seed, count in enumerate(counts)
    ]
    seeds = len(next(iter(bridged.values())))
    return outcome(runs, {"cells": cells, "tasks": tasks, "gaps": list(GAPS), "seeds": seeds})


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Ends of Wilson's interval of 95 %, by its formula."""
    z, p = 1.959963984540054, successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    return centre - half, centre + half


@pytest.mark.smoke
def test_rows() -> None:
    result = found({("rnn", "order"): (0, 2, 2), ("rnn", "copy"): (0, 0, 1), ("rnn", "reber"): (3, 3, 3)})
    order, copy, reber, every = result.rows
    assert [row["task"] for row in result.rows] == ["order", "copy", "reber", "all"]
    assert [row["bridged"] for row in result.rows] == [100, 0, 1000, 100]
    assert [order[f"gap {gap}"] for gap in GAPS] == [2 / 3, 2 / 3, 0.0]
    assert [copy[f"gap {gap}"] for gap in GAPS] == [1 / 3, 0.0, None]  # not tried
    assert copy["by gap"]["share"] == [1 / 3, 0.0, 0.0]
    assert [row["by gap"]["tried"] for row in result.rows] == [[3, 2, 2], [3, 1, 0], [3, 3, 3], [9, 6, 5]]
    assert [every[f"gap {gap}"] for gap in GAPS] == [6 / 9, 5 / 9, 3 / 9]
    assert order["by gap"]["updates"] == [50, 100, None]
    assert [row["updates"] for row in result.rows] == [100, 50, 150, 150]
    for n, count in enumerate((6, 5, 3)):
        ends = every["by gap"]["low"][n], every["by gap"]["high"][n]
        assert ends == pytest.approx(wilson(count, 9))
    assert reber["by gap"]["high"] == pytest.approx([1.0] * 3)
    json.dumps(result.document())


@pytest.mark.smoke
def test_the_median_of_an_even_number_of_tasks_is_a_gap() -> None:
    result = found({("rnn", task): (count,) * 3 for task, count in (("order", 3), ("copy", 1))})
    assert result.rows[-1]["bridged"] == 10


@pytest.mark.smoke
def test_the_claim_holds_where_it_holds_in_every_task() -> None:
    good = {("rnn", "order"): (1,) * 6, ("lstm", "order"): (3,) * 6}
    fine = found(good)
    assert [claim.held for claim in fine.claims] == [True, True]
    assert "rnn 10, lstm 1,000" in fine.claims[-1].because
    assert "without gates 0 of 6 runs, 0 to 39 %; gated 6 of 6 runs, 61 to 100 %" in fine.claims[-1].because
    spoilt = found({**good, ("rnn", "reber"): (3,) * 6, ("lstm", "reber"): (3,) * 6})
    assert [claim.held for claim in spoilt.claims] == [True, False, False]
    assert "held in 1 of 2 tasks, not in reber" in spoilt.claims[-1].because


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("ungated", "gated"),
    [((1, 1, 1, 1, 1, 3), (3,) * 6), ((1,) * 6, (3, 3, 3, 3, 3, 2)), ((3,) * 6, (1,) * 6)],
    ids=["an RNN did", "too few gated did", "the other way round"],
)
def test_the_claim_does_not_hold(ungated: tuple[int, ...], gated: tuple[int, ...]) -> None:
    result = found({("rnn-relu", "copy"): ungated, ("gru", "copy"): gated})
    assert [claim.held for claim in result.claims] == [False, False]


@pytest.mark.smoke
def test_a_clockwork_rnn_has_no_gates() -> None:
    result = found({("clockwork", "copy"): (0,) * 6, ("gru", "copy"): (3,) * 6})
    assert result.claims[-1].held
    alone = found({("clockwork", "copy"): (0,) * 6, ("rnn", "copy"): (0,) * 6})
    assert not alone.claims[-1].held
    assert alone.claims[-1].because == "it takes cells of both kinds, with and without gates"


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cells": ["elman"]}, "cells: expected some of rnn, .*, got 'elman'"),
        ({"cells": []}, "cells: expected some of rnn, .*, got none"),
        ({"tasks": ["sums"]}, "tasks: expected some of adding, order, reber, copy, got 'sums'"),
        ({"gaps": []}, r"gaps: expected one or more integers from 5 to 4078, got \[\]"),
        ({"gaps": [10, 5000]}, r"gaps: expected .*, got \[10, 5000\]"),
        ({"gaps": [3]}, "gaps: expected an integer >= 5, got 3"),
        ({"seeds": 0}, "seeds: expected an integer >= 1, got 0"),
    ],
)
def test_bad_arguments(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        long_gap.run(**options)


def test_a_run_and_its_pictures(tmp_path: Path) -> None:
    """Two seeds of one cell: numbers of the document agree with each other and do not depend on the order."""
    told: list[tuple[int, int, str]] = []
    options: dict[str, Any] = {"cells": ["rnn"], "gaps": [5, 8], "updates": 50, "hidden": 8}
    result = long_gap.run(
        tasks=["copy", "reber"], seeds=2, seed=4, progress=lambda *now: told.append(now), **options
    )
    assert told == [(1, 1, "rnn")]
    alone = long_gap.run(tasks=["reber"], seeds=1, seed=5, **options)
    document = json.loads(json.dumps(result.document()))
    runs = document["series"]["runs"]
    assert [(run["task"], run["seed"]) for run in runs] == [
        ("reber", 4),
        ("reber", 5),
        ("copy", 4),
        ("copy", 5),
    ]
    assert alone.document()["series"]["runs"] == [runs[1]]
    for row in document["rows"][:2]:
        of_task = [run["stages"] for run in runs if run["task"] == row["task"]]
        share = sum(stages[0]["bridged"] for stages in of_task) / 2
        assert row["gap 5"] == share
    pytest.importorskip("matplotlib")
    from lstm_numba.plots.long_gap import figures

    assert set(figures(document)) == {"long-gap", "long-gap-curves", "long-gap-updates"}
