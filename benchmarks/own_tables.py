"""The tables of `lstm_numba.benchmarks.own_data`, of its result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from lstm_numba.benchmarks.markdown import table

#: Our methods, and how a column is called.
_OURS = ("gru", "lstm")
_NAMES = {"gru": "GRU", "lstm": "LSTM", "linear": "linear (ridge)"}
#: A forecast's measures, digits after the point, and how a row is called.
_MEASURES = {"mae": (2, "MAE"), "rmse": (2, "RMSE"), "mase": (3, "MASE")}


def _spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Mean, and lowest and highest of several."""
    text = f"{mean(values):.{digits}f}{unit}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _line(
    values: Mapping[str, Sequence[float]], columns: Sequence[str], higher: bool, digits: int, unit: str = ""
) -> list[str]:
    """Cells of a row; in bold what of ours is worse, in the mean, than the best of the others."""
    others = [mean(found) for name, found in values.items() if name not in _OURS]
    cells = []
    for name in columns:
        text = _spread(values[name], digits, unit) if name in values else ""
        if name in values and name in _OURS and others:
            ours = mean(values[name])
            lost = ours < max(others) if higher else ours > min(others)
            text = f"**{text}**" if lost else text
        cells.append(text)
    return cells


def _columns(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part["methods"]))


def forecasts_table(document: Mapping[str, Any]) -> list[str]:
    """Errors of forecasts, over all steps ahead and of the first."""
    columns, lines = _columns(document["forecasts"]), []
    for part in document["forecasts"]:
        of = part["methods"]
        for measure, (digits, name) in _MEASURES.items():
            values = {method: [run[measure] for run in entry["runs"]] for method, entry in of.items()}
            unit = (
                ""
                if measure == "mase"
                else f", {part['unit']}"
                if part["unit"] != part["name"].lower()
                else ""
            )
            label = f"{part['name']}, 1 to {part['horizon']} steps ahead: {name}{unit}"
            lines.append([label, *_line(values, columns, False, digits)])
        first = {method: [run["mae_by_step"][0] for run in entry["runs"]] for method, entry in of.items()}
        lines.append([f"{part['name']}, 1 step ahead: MAE", *_line(first, columns, False, 2)])
    return table(["lower is better", *(_NAMES.get(name, name) for name in columns)], lines)


def classes_table(document: Mapping[str, Any]) -> list[str]:
    """Accuracy on the test part."""
    columns, lines = _columns(document["classes"]), []
    for part in document["classes"]:
        values = {
            method: [100 * run["accuracy"] for run in entry["runs"]]
            for method, entry in part["methods"].items()
        }
        cells = _line(values, columns, True, 1, " %")
        padded = [part["methods"].get(name, {}).get("padded") for name in columns]
        cells = [f"{cell}, padded" if pad else cell for cell, pad in zip(cells, padded, strict=True)]
        lines.append([f"{part['name']}, {part['test']} sequences", *cells])
    return table(["right, higher is better", *(_NAMES.get(name, name) for name in columns)], lines)


def own_data_table(document: Mapping[str, Any]) -> list[str]:
    """Both tables."""
    parts = [
        make(document)
        for key, make in (("forecasts", forecasts_table), ("classes", classes_table))
        if document[key]
    ]
    return [line for n, part in enumerate(parts) for line in (["", *part] if n else part)]


def settings_table(document: Mapping[str, Any]) -> list[str]:
    """What was chosen, and indicative seconds to learn and to answer once."""
    lines = []
    for part in [*document["forecasts"], *document["classes"]]:
        for name, entry in part["methods"].items():
            settings = ", ".join(f"{key}={value}" for key, value in entry["settings"].items())
            seconds = [
                run["seconds"] if "seconds" in run else run["fit_seconds"] + run["predict_seconds"]
                for run in entry["runs"]
            ]
            lines.append([part["name"], _NAMES.get(name, name), settings, f"{mean(seconds):.3g}"])
    left_out = [f"{name}: left out: {why}" for name, why in document["left_out"].items()]
    notes = [document["note"], *left_out]
    return [*table(["data", "method", "chosen by validation", "s to learn and test"], lines), "", *notes]
