"""Warnings name the line of the user who can do something about them."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.errors import WeightsWarning

ROOT = Path(ln.__file__).resolve().parents[1]
FOLDERS = ("lstm_numba", "cli", "data", "benchmarks")
SOURCES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]


def test_a_warning_names_the_line_of_the_caller(tmp_path: Path) -> None:
    path, state = tmp_path / "w.npz", ln.LSTM(2, 3, seed=0).state_dict()
    np.savez(path, **{f"enc_{name}": array for name, array in state.items()}, enc_shift=np.ones(2))
    with pytest.warns(WeightsWarning, match="enc_shift") as found:
        ln.load_weights(path, prefix="enc_")
    assert found[0].filename == __file__


def test_all_warnings_go_through_one_function() -> None:
    """`lstm_numba.errors.warn` finds the caller's line, whatever wraps the function that warns."""
    assert len(SOURCES) > 200
    calls = [
        path.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("warn", "warn_explicit")
        if isinstance(node.value, ast.Name) and node.value.id == warnings.__name__
    ]
    assert calls == ["errors.py"]
