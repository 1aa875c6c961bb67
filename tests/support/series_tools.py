"""Small tables, and runs on them, for the tests of series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.training.config import make_config

#: Sizes with which a training takes a fraction of a second.
SMALL: dict[str, Any] = {"hidden": 6, "batch_size": 16, "epochs": 2, "threads": None, "checkpoint_every": 0.0}


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    """A CSV file; numbers are written so that they are read as they are."""
    values = [[repr(v) if isinstance(v, float) else str(v) for v in column] for column in columns.values()]
    lines = [",".join(columns), *map(",".join, zip(*values, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def waves(path: Path, rows: int = 200, seed: int = 0) -> Path:
    """A series by the hour, with an input, that is there to be forecast."""
    rng = np.random.default_rng(seed)
    heat = np.sin(np.arange(rows) / 3) + 0.1 * rng.standard_normal(rows)
    load = 50 + 10 * np.roll(heat, 2) + 0.1 * rng.standard_normal(rows)
    times = np.datetime64("2024-01-01T00") + np.arange(rows)
    dates = [str(time).replace("T", " ") + ":00" for time in times]
    return write_table(path, {"date": dates, "load": load.tolist(), "heat": heat.tolist()})


def groups(path: Path, count: int = 24, seed: int = 0, target: str = "kind") -> Path:
    """Sequences of 4 to 9 steps that rise or fall: their class, their slope, or the sum so far."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {"id": [], "a": [], "b": [], target: []}
    for k in range(count):
        steps, slope = int(rng.integers(4, 10)), float(rng.uniform(0.2, 1.0)) * (1 if k % 2 else -1)
        a = slope * np.arange(steps) + 0.05 * rng.standard_normal(steps)
        columns["id"] += [f"g{k}"] * steps
        columns["a"] += a.tolist()
        columns["b"] += rng.standard_normal(steps).tolist()
        answers = {
            "kind": ["up" if k % 2 else "down"] * steps,
            "slope": [slope] * steps,
            "sum": np.cumsum(a).tolist(),
        }
        columns[target] += answers[target]
    return write_table(path, columns)


def series_config(
    files: Sequence[Path], data: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A configuration of a small run."""
    named = {"files": [str(file) for file in files], **(data or {})}
    return make_config("series", {**SMALL, **more}, data=named)
