"""Tables of the members of a set of runs: one row each, and what they have in common."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lstm_numba.cli.console import aligned, short_path
from lstm_numba.data.file_io import one_line
from lstm_numba.training.run_sets import GROUPS, Member, RunSet
from lstm_numba.training.setting import MEASURES
from lstm_numba.wording import plural

#: What can be averaged, and how it is called.
_NAMES = {"loss": "loss", "accuracy": "accuracy", "perplexity": "perplexity", **MEASURES}
#: Rows that are printed of the groups with the largest errors, and of those with the smallest.
_MOST = 10


class Row(NamedTuple):
    """A member of a set.

    Attributes
    ----------
    name : str
        Its seed or its group.
    cell : str
    values : mapping, optional
        Its evaluation; None if it has no result.
    epochs : int, optional
    note : str
        What is to be said of it.
    baselines : mapping
        Measures of simple predictions by their names.
    """

    name: str
    cell: str
    values: Mapping[str, Any] | None
    epochs: int | None = None
    note: str = ""
    baselines: Mapping[str, Mapping[str, float]] = {}


def shown(name: str, value: float) -> str:
    """A value as a table has it."""
    if name == "accuracy":
        return f"{100 * value:.2f} %"
    return f"{value:{ {'loss': '.4f', 'perplexity': '.2f'}.get(name, '.4g') }}"


def measured(rows: Sequence[Row]) -> list[str]:
    """Names of what all rows with a result have."""
    results = [row.values for row in rows if row.values is not None]
    return [name for name in _NAMES if results and all(name in values for values in results)]


# -- seeds -------------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, standard deviation, and the ends of Student's interval of 95 % of the mean; None if unknown."""
    from lstm_numba.experiments import intervals

    if not all(map(math.isfinite, values)):
        return {"mean": math.inf, "deviation": None, "low": None, "high": None}
    found = intervals.mean(values)
    if len(values) < 2:
        return {"mean": found.estimate, "deviation": None, "low": None, "high": None}
    return {
        "mean": found.estimate,
        "deviation": statistics.stdev(values),
        "low": found.low,
        "high": found.high,
    }


def summaries(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Of each cell the number of its results and their `spread`."""
    found = []
    for cell in dict.fromkeys(row.cell for row in rows):
        mine = [row for row in rows if row.cell == cell]
        results = [row.values for row in mine if row.values is not None]
        each = {name: spread([values[name] for values in results]) for name in measured(mine)}
        found.append({"cell": cell, "runs": len(mine), "count": len(results), **each})
    return found


def seeds_table(rows: Sequence[Row], split: str = "test") -> str:
    """A row for each seed of one cell, and below it mean, standard deviation and interval."""
    names = measured(rows)
    lines = [["seed", *(f"{split} {_NAMES[name]}" for name in names), "epochs", ""]]
    for row in rows:
        lines.append([row.name, *_cells(row, names), _count(row), row.note])
    (found,) = summaries(rows)
    if found["count"] > 1:
        for what, key in (
            ("mean", "mean"),
            ("standard deviation", "deviation"),
            ("95 % from", "low"),
            ("95 % to", "high"),
        ):
            values = [(name, found[name][key]) for name in names]
            lines.append([what, *("" if v is None else shown(n, v) for n, v in values), "", ""])
    text = aligned(lines)
    lost = found["runs"] - found["count"]
    return text + (f"\n{_without_result(lost)}" if lost and found["count"] else "")


def cells_table(rows: Sequence[Row], split: str = "test") -> str:
    """A row for each cell: means, and half of their intervals' widths."""
    names = measured(rows)
    lines = [["cell", "runs", *(f"{split} {_NAMES[name]}" for name in names), ""]]
    for found in summaries(rows):
        cells = [_with_half(name, found[name]) if name in found else "" for name in names]
        lost = found["runs"] - found["count"]
        lines.append([found["cell"], str(found["count"]), *cells, f"{lost} without a result" if lost else ""])
    return f"{aligned(lines)}\nmean ± half of the 95 % interval of the mean"


def _with_half(name: str, found: Mapping[str, Any]) -> str:
    if found["high"] is None:
        return shown(name, found["mean"])
    return f"{shown(name, found['mean'])} ± {shown(name, (found['high'] - found['low']) / 2)}"


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    return [shown(name, row.values[name]) if row.values is not None else "" for name in names]


def _count(row: Row) -> str:
    return "" if row.epochs is None else str(row.epochs)


def _without_result(count: int) -> str:
    return f"{plural(count, 'run')} without a result {'is' if count == 1 else 'are'} not in these numbers"


# -- groups ------------------------------------------------------------------------------------------


def main_measure(rows: Sequence[Row]) -> str:
    """What the errors of groups are compared by."""
    names = measured(rows)
    return next((name for name in ("mae", "accuracy", "perplexity") if name in names), "loss")


def error_of(values: Mapping[str, float], measure: str) -> float:
    """A measure as an error: the smaller the better."""
    return 1 - values[measure] if measure == "accuracy" else values[measure]


def best_baseline(row: Row, measure: str) -> tuple[str, float] | None:
    """Name and measure of the baseline with the smallest error."""
    known = {name: found[measure] for name, found in row.baselines.items() if measure in found}
    if not known:
        return None
    name = min(known, key=lambda name: error_of({measure: known[name]}, measure))
    return name, known[name]


def ratio(row: Row, measure: str) -> float | None:
    """The error divided by that of the best baseline; None where that is zero or there is none."""
    best = best_baseline(row, measure)
    if row.values is None or best is None or error_of({measure: best[1]}, measure) <= 0:
        return None
    return error_of(row.values, measure) / error_of({measure: best[1]}, measure)


def worst_first(rows: Sequence[Row], measure: str) -> list[Row]:
    """Rows with a result, by their ratio, or, where one has none, by their error, which units decide."""
    results = [row for row in rows if row.values is not None]
    ratios = [ratio(row, measure) for row in results]
    keys = [
        error_of(row.values or {}, measure) if None in ratios else r or 0.0
        for row, r in zip(results, ratios, strict=True)
    ]
    order = sorted(range(len(results)), key=lambda k: -keys[k])
    return [results[k] for k in order]


def overall(rows: Sequence[Row]) -> dict[str, Any]:
    """Means and medians over the groups, and how many are better than their best baseline."""
    results = [row.values for row in rows if row.values is not None]
    found: dict[str, Any] = {"runs": len(rows), "count": len(results)}
    for name in measured(rows):
        values = [float(one[name]) for one in results]
        found[name] = {"mean": statistics.fmean(values), "median": statistics.median(values)}
    measure = main_measure(rows)
    ratios = [r for row in rows if (r := ratio(row, measure)) is not None]
    if ratios:
        found["ratio"] = {"mean": statistics.fmean(ratios), "median": statistics.median(ratios)}
        found["better"] = sum(r < 1 for r in ratios)
        found["compared"] = len(ratios)
    return found


def groups_table(rows: Sequence[Row], heading: str, split: str = "test") -> str:
    """A row for each group, the worst first; of very many the worst and the best."""
    measure = main_measure(rows)
    ordered = [*worst_first(rows, measure), *(row for row in rows if row.values is None)]
    few = len(ordered) <= 2 * _MOST
    first, last = (ordered, []) if few else (ordered[:_MOST], ordered[-_MOST:])
    lines = [[heading, f"{split} {_NAMES[measure]}", "best baseline", "", "ratio", "epochs", ""]]
    lines += [_group_cells(row, measure) for row in (*first, *last)]
    text = aligned(lines, left=(0, 3))
    if not few:
        head, *body = text.splitlines()
        between = f"... {plural(len(ordered) - 2 * _MOST, 'group')} between these"
        text = "\n".join([head, *body[:_MOST], between, *body[_MOST:]])
    return f"{text}\n{_overall_line(rows, measure)}"


def _group_cells(row: Row, measure: str) -> list[str]:
    best, times = best_baseline(row, measure), ratio(row, measure)
    return [
        one_line(row.name, 40),
        "" if row.values is None else shown(measure, row.values[measure]),
        "" if best is None else shown(measure, best[1]),
        "" if best is None else best[0],
        "" if times is None else f"{times:.3f}",
        _count(row),
        row.note,
    ]


def _overall_line(rows: Sequence[Row], measure: str) -> str:
    found = overall(rows)
    if not found["count"]:
        return "no group has a result"
    text = f"{plural(found['count'], 'group')}: {_NAMES[measure]} "
    text += ", ".join(f"{what} {shown(measure, found[measure][what])}" for what in ("mean", "median"))
    if "ratio" in found:
        text += (
            f"; ratio to the best baseline: mean {found['ratio']['mean']:.3f}, median "
            f"{found['ratio']['median']:.3f}; better than it in {found['better']} of {found['compared']}"
        )
    lost = found["runs"] - found["count"]
    return text + (f"; {_without_result(lost)}" if lost else "")


# -- sets --------------------------------------------------------------------------------------------


def table(found: RunSet, rows: Sequence[Row], split: str = "test") -> str:
    """The result of a set as text."""
    if found.kind == GROUPS:
        return groups_table(rows, found.column or "file", split)
    return seeds_table(rows, split) if len(found.cells) == 1 else cells_table(rows, split)


def summary(found: RunSet, rows: Sequence[Row]) -> dict[str, Any]:
    """What the members have in common, for ``--json``."""
    if found.kind == GROUPS:
        return {"overall": overall(rows), "skipped": dict(found.skipped)}
    return {"summary": summaries(rows)}


def identity(found: RunSet, member: Member) -> dict[str, Any]:
    """What tells a member from the others, for ``--json``."""
    run = {"run": short_path(found.path(member))}
    return {"group": member.name, **run} if found.kind == GROUPS else {"seed": member.config["seed"], **run}
