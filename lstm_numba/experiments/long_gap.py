"""The claim: RNNs cannot bridge a growing gap, gated cells can.

Four tasks (`lstm_numba.data.gap_tasks`), in which something has to be kept for 10 to 1,000 steps; networks of
every kind of cell, trained with one recipe (`lstm_numba.experiments.gap_training`), from several seeds.

In a task the claim holds if, of the largest gap, the interval of the share of runs that bridged it lies
below one half for the cells without gates, and above one half for the gated cells. It holds if it holds in
every task. The intervals take the runs of one kind as repetitions; they say nothing about cells that were not
tried.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median, median_low
from typing import Any, NamedTuple

from lstm_numba.arguments import integer
from lstm_numba.cells import BUILT_IN
from lstm_numba.data.gap_tasks import LEAST, MOST, TASKS
from lstm_numba.experiments.gap_training import UNGATED, Stage, train
from lstm_numba.experiments.intervals import proportion
from lstm_numba.experiments.outcome import Claim, Outcome, Progress
from lstm_numba.experiments.workers import run_parts

#: All cells that can be tried.
CELLS = (*BUILT_IN, "clockwork")
GAPS = (10, 30, 100, 300, 1000)
#: Hidden units.
HIDDEN = 16
#: Kinds of cells.
KINDS = ("without gates", "gated")
#: Stands for all tasks.
ALL = "all"

CLAIM = "RNNs cannot bridge a growing gap, gated cells can"


class Part(NamedTuple):
    """All runs of a cell."""

    cell: str
    tasks: tuple[str, ...]
    gaps: tuple[int, ...]
    seeds: tuple[int, ...]
    hidden: int
    updates: int
    device: str


class Run(NamedTuple):
    """What came of one network."""

    cell: str
    task: str
    seed: int
    stages: list[Stage]

    @property
    def bridged(self) -> int:
        """The largest gap that it bridged; 0 if none."""
        return max((stage.gap for stage in self.stages if stage.bridged), default=0)

    def updates(self, gap: int) -> int:
        """Updates until it bridged a gap, those with smaller ones too."""
        return sum(stage.updates for stage in self.stages if stage.gap <= gap)


def run(
    *,
    cells: Sequence[str] = CELLS,
    tasks: Sequence[str] = tuple(TASKS),
    gaps: Sequence[int] = GAPS,
    seeds: int = 3,
    updates: int = 2500,
    hidden: int = HIDDEN,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Outcome:
    """Run the experiment.

    Parameters
    ----------
    cells, tasks : sequence of str
        Of `CELLS` and `lstm_numba.data.gap_tasks.TASKS`.
    gaps : sequence of int
        In steps.
    seeds : int
        Networks of each cell and task.
    updates : int
        With a gap of 10 at most, see `lstm_numba.experiments.gap_training.most_updates`.
    hidden : int
        Hidden units, H.
    seed : int
        The first one; the others follow it.
    device : {"cpu", "cuda"}
    progress : callable, optional

    Returns
    -------
    Outcome
        A row for each cell and task, and for each cell and all tasks.

    Raises
    ------
    ValueError, TypeError
        An argument is out of range or of the wrong type; the message names it.
    """
    cells, tasks = _chosen("cells", cells, CELLS), _chosen("tasks", tasks, tuple(TASKS))
    gaps = tuple(sorted({integer("gaps", gap, LEAST) for gap in gaps}))
    if not gaps or gaps[-1] > MOST:
        raise ValueError(f"gaps: expected one or more integers from {LEAST} to {MOST}, got {list(gaps)}")
    first, count = integer("seed", seed, 0), integer("seeds", seeds)
    hidden, updates = integer("hidden", hidden), integer("updates", updates)
    numbers = tuple(range(first, first + count))
    parts = [Part(cell, tasks, gaps, numbers, hidden, updates, device) for cell in _slowest_first(cells)]
    found = run_parts(
        run_cell, parts, progress, workers=1 if device == "cuda" else None, label=lambda part: part.cell
    )
    runs = sorted(
        (one for of_cell in found for one in of_cell),
        key=lambda one: (cells.index(one.cell), tasks.index(one.task), one.seed),
    )
    settings = {
        "cells": list(cells),
        "tasks": list(tasks),
        "gaps": list(gaps),
        "seeds": count,
        "updates": updates,
        "hidden": hidden,
        "seed": first,
        "device": device,
    }
    return outcome(runs, settings)


def run_cell(part: Part) -> list[Run]:
    """All runs of a cell."""
    return [
        Run(
            part.cell,
            task,
            seed,
            train(
                part.cell, task, part.gaps, hidden=part.hidden, updates=part.updates, seed=seed,
                device=part.device,
            ),
        )
        for task in part.tasks
        for seed in part.seeds
    ]  # fmt: skip


def outcome(runs: Sequence[Run], settings: dict[str, Any]) -> Outcome:
    """Table and claims of runs.

    Parameters
    ----------
    runs : sequence of Run
        Of all cells, tasks and seeds of the settings.
    settings : dict
        Cells, tasks and gaps, and what else is to be written down.
    """
    cells, tasks, gaps = settings["cells"], settings["tasks"], settings["gaps"]
    rows = [_row(cell, task, gaps, _of(runs, task, {cell})) for cell in cells for task in (*tasks, ALL)]
    kinds = [
        {"kind": kind, "task": task, **_shares(gaps, _of(runs, task, _members(kind, cells)))}
        for kind in KINDS
        for task in (*tasks, ALL)
        if _members(kind, cells)
    ]
    columns = ("cell", "task", "bridged", *(f"gap {gap}" for gap in gaps), "updates")
    series = {"kinds": kinds, "runs": [_document(one) for one in runs]}
    return Outcome("long-gap", settings, columns, rows, series, _claims(runs, rows, settings))


def _document(one: Run) -> dict[str, Any]:
    return {**one._asdict(), "stages": [stage._asdict() for stage in one.stages]}


def _members(kind: str, cells: Sequence[str]) -> set[str]:
    """The cells that are of a kind."""
    return {cell for cell in cells if (cell in UNGATED) == (kind == KINDS[0])}


def _of(runs: Sequence[Run], task: str, cells: Collection[str]) -> list[Run]:
    """The runs of some cells on a task, or on all."""
    return [one for one in runs if one.cell in cells and task in (one.task, ALL)]


def _row(cell: str, task: str, gaps: Sequence[int], runs: Sequence[Run]) -> dict[str, Any]:
    """A row of the table; of all tasks the largest gap is the (lower) median of theirs."""
    largest = [
        max((gap for gap in gaps if _majority(same, gap)), default=0)
        for name in dict.fromkeys(one.task for one in runs)
        for same in [_of(runs, name, {cell})]
    ]
    shares = _shares(gaps, runs)
    shown = {
        f"gap {gap}": share if tried else None
        for gap, share, tried in zip(gaps, shares["share"], shares["tried"], strict=True)
    }
    reached = [updates for updates in shares["updates"] if updates is not None]
    row = {"cell": cell, "task": task, "bridged": median_low(largest), **shown}
    return {**row, "updates": reached[-1] if reached else None, "by gap": shares}


def _shares(gaps: Sequence[int], runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Of each gap: the share of the runs that bridged it, its interval, how many tried, median updates.

    Who failed at a smaller gap has not bridged it either.
    """
    found = [proportion(_count(runs, gap), len(runs)) for gap in gaps]
    updates = [[one.updates(gap) for one in runs if one.bridged >= gap] for gap in gaps]
    return {
        "share": [one.estimate for one in found],
        "low": [one.low for one in found],
        "high": [one.high for one in found],
        "tried": [sum(stage.gap == gap for one in runs for stage in one.stages) for gap in gaps],
        "updates": [median(some) if some else None for some in updates],
    }


def _count(runs: Sequence[Run], gap: int) -> int:
    """How many of the runs bridged a gap."""
    return sum(one.bridged >= gap for one in runs)


def _majority(runs: Sequence[Run], gap: int) -> bool:
    """Whether more than half of the runs bridged a gap."""
    return 2 * _count(runs, gap) > len(runs)


def _claims(runs: Sequence[Run], rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> list[Claim]:
    """The claim for each task, and for all of them."""
    cells, tasks, gap = settings["cells"], settings["tasks"], settings["gaps"][-1]
    if not all(_members(kind, cells) for kind in KINDS):
        return [Claim(CLAIM, False, "it takes cells of both kinds, with and without gates")]
    found = [_claim(runs, task, cells, gap) for task in tasks]
    missing = [task for task, one in zip(tasks, found, strict=True) if not one.held]
    tally = f"held in {len(tasks) - len(missing)} of {len(tasks)} tasks"
    tally += f", not in {', '.join(missing)}" if missing else ""
    largest = ", ".join(f"{row['cell']} {row['bridged']:,}" for row in rows if row["task"] == ALL)
    because = (
        f"{tally}; largest gap that most seeds bridged, median of the tasks: {largest}; "
        f"{_claim(runs, ALL, cells, gap).because}"
    )
    return [*found, Claim(CLAIM, not missing, because)]


def _claim(runs: Sequence[Run], task: str, cells: Sequence[str], gap: int) -> Claim:
    """The claim for a task: which shares of the runs bridged the largest gap."""
    texts, intervals = [], []
    for kind in KINDS:
        of_kind = _of(runs, task, _members(kind, cells))
        bridged = _count(of_kind, gap)
        intervals.append(proportion(bridged, len(of_kind)))
        ends = f"{100 * intervals[-1].low:.0f} to {100 * intervals[-1].high:.0f} %"
        texts.append(f"{kind} {bridged} of {len(of_kind)} runs, {ends}")
    held = intervals[0].high < 0.5 < intervals[1].low
    numbers = f"gap of {gap:,}: {'; '.join(texts)}"
    if task == ALL:
        return Claim(CLAIM, held, numbers)
    most = [cell for cell in cells if _majority(_of(runs, task, {cell}), gap)]
    for kind, verb in zip(KINDS, ("did", "did not"), strict=True):
        members = _members(kind, cells)
        odd = [cell for cell in cells if cell in members and (cell in most) == (kind == KINDS[0])]
        numbers += f"; {kind}, most seeds of {', '.join(odd)} {verb}" if odd else ""
    return Claim(f"{task}: {CLAIM}", held, numbers)


def _chosen(name: str, given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Names, each once, in the order of those that there are."""
    for one in given:
        if one not in known:
            raise ValueError(f"{name}: expected some of {', '.join(known)}, got {one!r}")
    if not given:
        raise ValueError(f"{name}: expected some of {', '.join(known)}, got none")
    return tuple(one for one in known if one in given)


def _slowest_first(cells: Sequence[str]) -> list[str]:
    """The last cells of the registry have the most equations and take longest to compile and to train."""
    return list(reversed(cells))
