"""Tables of the published trainings, of the rows that `lstm_numba.benchmarks.accuracy collect` wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lstm_numba.benchmarks.markdown import table
from lstm_numba.training.presets import PUBLISHED

Row = Mapping[str, Any]
_AWD = "awd"


def read_rows(results: Path) -> list[dict[str, Any]]:
    """All rows, in the folder of results or in its folder ``accuracy``."""
    folder = results / "accuracy" if (results / "accuracy").is_dir() else results
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def tests(row: Row) -> list[float]:
    """Results on the test data of the runs that are complete."""
    return [run["test"] for run in row["runs"] if run["test"] is not None]


def _number(row: Row, value: float) -> str:
    return f"{100 * value:.2f}" if row["measure"] == "accuracy" else f"{value:.1f}"


def _test(row: Row) -> str:
    """Mean and standard deviation; empty if nothing is complete."""
    found = tests(row)
    if len(found) < 2:
        return "".join(_number(row, value) for value in found)
    return f"{_number(row, mean(found))} ± {_number(row, stdev(found))}"


def _valid(row: Row) -> str:
    """The last value on the validation data; of several runs their mean."""
    last = [run["valid"][-1] for run in row["runs"] if run["valid"] and run["valid"][-1] is not None]
    return _number(row, mean(last)) if last else ""


def _seeds(row: Row) -> str:
    done = len(tests(row))
    return str(done) if done == row["planned_runs"] else f"{done} of {row['planned_runs']}"


def _epochs(row: Row) -> str:
    """Epochs of the complete runs; if none is, how many of the planned ones are done."""
    complete = [run for run in row["runs"] if run["test"] is not None]
    if complete:
        early = ", stopped early" if any(run["stopped_early"] for run in complete) else ""
        return f"{max(run['epochs'] for run in complete)}{early}"
    return f"{max(run['epochs'] for run in row['runs'])} of {row['epochs']}"


def _best_first(rows: Sequence[Row]) -> list[Row]:
    """By their results, those without one last."""
    sign = -1 if rows and rows[0]["measure"] == "accuracy" else 1
    return sorted(rows, key=lambda row: (not tests(row), sign * mean(tests(row) or [0])))


def _parameters(row: Row) -> str:
    return "" if row["parameters"] is None else f"{row['parameters']:,}"


def _table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> list[str]:
    return table(head, lines) if lines else ["No results yet."]


def _permuted(row: Row) -> bool:
    return "permuted" in row["options"]


def mnist_table(results: Path) -> list[str]:
    """MNIST row by row: mean and standard deviation over the seeds of each cell."""
    rows = [row for row in read_rows(results) if row["dataset"] == "mnist" and not _permuted(row)]
    lines = [
        (_cell(row), _parameters(row), _test(row), _seeds(row), _epochs(row)) for row in _best_first(rows)
    ]
    return _table(["cell", "parameters", "test accuracy, %", "seeds", "epochs"], lines)


def _cell(row: Row) -> str:
    """The cell, and the options that others have not: all learn from all training images."""
    words = " ".join(row["options"])
    more = (
        words.replace("--validation 0", "").strip()
        if "--validation 0" in words
        else f"{words} (a tenth held out)"
    )
    return f"`{row['cell']}` {more}".strip()


def permuted_table(results: Path) -> list[str]:
    """MNIST pixel by pixel in a fixed order that is shuffled."""
    rows = [row for row in read_rows(results) if row["dataset"] == "mnist" and _permuted(row)]
    lines = [
        (f"`{row['command']}`", _parameters(row), _test(row), _valid(row), _epochs(row))
        for row in _best_first(rows)
    ]
    head = ["command", "parameters", "test accuracy, %", "validation accuracy, %", "epochs"]
    return _table(head, lines)


def _ptb(results: Path) -> list[Row]:
    return [row for row in read_rows(results) if row["dataset"] == "ptb"]


def ptb_table(results: Path) -> list[str]:
    """Perplexities on Penn Treebank beside the published ones."""
    rows = [row for row in _ptb(results) if not row["preset"].startswith(_AWD)]
    lines = []
    for row in sorted(rows, key=lambda row: row["parameters"] or 0):
        paper = PUBLISHED.get(row["preset"]) if not row["options"] and row["cell"] == "lstm" else None
        published = (f"{paper['test']:g}", f"{paper['valid']:g}") if paper else ("", "")
        lines.append(
            (f"`{row['command']}`", _parameters(row), _test(row), published[0], _valid(row), published[1],
             _epochs(row))
        )  # fmt: skip
    head = ["command", "parameters", "test perplexity", "published", "validation perplexity", "published",
            "epochs"]  # fmt: skip
    return _table(head, lines)


def awd_table(results: Path) -> list[str]:
    """The AWD-LSTM and what is lost without each of its parts."""
    rows = [row for row in _ptb(results) if row["preset"].startswith(_AWD)]
    whole = {row["preset"]: row for row in rows if not row["options"]}
    lines = []
    for row in sorted(_best_first(rows), key=lambda row: bool(row["options"])):
        full, lost = whole.get(row["preset"]), ""
        if row["options"] and full is not None and tests(full) and tests(row):
            lost = f"{mean(tests(row)) - mean(tests(full)):+.1f}"
        lines.append((f"`{row['command']}`", _parameters(row), _test(row), lost, _valid(row), _epochs(row)))
    head = [
        "command",
        "parameters",
        "test perplexity",
        "more than the whole",
        "validation perplexity",
        "epochs",
    ]
    return _table(head, lines)


def runs_table(results: Path) -> list[str]:
    """Every row's file, command, machine and versions."""
    lines = []
    for row in read_rows(results):
        of = row["machine"]
        versions = ", ".join(f"{name} {of[name]}" for name in ("python", "numpy", "numba") if of.get(name))
        commit = f", commit {of['commit'][:7]}" if of.get("commit") else ""
        where = f"{of['cpu']}, {of['vector_unit']}, {row['threads']} thread{'s' * (row['threads'] != 1)} each"
        lines.append(
            (f"[{row['name']}]({row['name']}.json)", f"`{row['command']}`", where,
             f"lstm-numba {row['started_with']}{commit}, {versions}")
        )  # fmt: skip
    return _table(["file", "command", "machine", "versions"], lines)


#: Tables by the names that pages have for them.
TABLES: dict[str, Callable[[Path], list[str]]] = {
    "accuracy-mnist": mnist_table,
    "accuracy-permuted": permuted_table,
    "accuracy-ptb": ptb_table,
    "accuracy-awd": awd_table,
    "accuracy-runs": runs_table,
}
