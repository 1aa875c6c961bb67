"""Small sweeps for tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lstm_numba.sweeps.config import SweepConfig
from lstm_numba.sweeps.reading import read_sweep

#: A training of less than a second.
FIXED = """
command = "train digits"
[fixed]
images = 80
epochs = 3
batch_size = 20
hidden = 4
checkpoint_every = 0
"""
#: The same for processes of their own, which draw all of their data: a twentieth of a second.
QUICK = FIXED.replace("digits", "grammar").replace("images = 80", "tokens = 1500")
LR = "[ranges]\nlr = {low = 1e-3, high = 1e-1, log = true}\n"


def need_toml() -> None:
    """Skip tests on a Python without a parser for TOML."""
    if sys.version_info < (3, 11):
        pytest.importorskip("tomli")


def sweep_file(folder: Path, text: str, name: str = "sweep") -> Path:
    """Write a file; lines before the first table are keys of the sweep."""
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def small_sweep(folder: Path, head: str = "", ranges: str = LR) -> SweepConfig:
    """A small sweep with these keys and ranges."""
    return read_sweep(sweep_file(folder, f"{head}\n{FIXED}\n{ranges}"))
