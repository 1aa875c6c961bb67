"""The guide to custom cells: its code and commands run, and give what it shows."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import call
from repository import ROOT

import lstm_numba as ln
from lstm_numba.examples import janet

GUIDE = (ROOT / "lstm_numba" / "cells" / "README.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = GUIDE) -> list[str]:
    """Code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run(source: str, names: dict[str, Any]) -> str:
    """Run a block and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "guide", "exec"), names)
    return printed.getvalue()


def outputs(layer: Any) -> list[np.ndarray]:
    """Output and gradients on fixed numbers."""
    x = np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32)
    rnn = layer(2, 5, seed=0)
    y, _, tape = rnn.forward(x)
    dx, _, grads = rnn.backward(tape, np.ones_like(y))
    return [y, dx, *grads.values()]


def test_the_guides_cell_is_checked_trained_and_the_same_as_the_example() -> None:
    cell, check, training = blocks("python")
    names: dict[str, Any] = {"__name__": "janet"}
    run(cell, names)
    report = run(check, names)
    assert report.startswith("JANET")
    assert all(float(line.split()[-1]) < 1e-9 for line in report.splitlines() if line.startswith("  "))
    found = float(run(training, names).split()[-1])
    target = np.asarray(names["target"])
    assert found < 0.5 * float(np.mean((target - target.mean()) ** 2))
    for got, expected in zip(outputs(names["JANET"]), outputs(janet.JANET), strict=True):
        np.testing.assert_array_equal(got, expected)
    made = ln.make_layer("janet:JANET", 4, 4)
    assert made.cell is names["JANET"].cell


def test_the_guides_mistake_gives_the_guides_error() -> None:
    ((before, after),) = re.findall(r"<!-- error: (.*) -> (.*) -->", GUIDE)
    (shown,) = blocks("text")
    source = blocks("python")[0]
    assert source.count(before) == 1
    names: dict[str, Any] = {"__name__": "wrong_janet"}
    run(source.replace(before, after), names)
    with pytest.raises(ln.GradientError) as caught:
        ln.check_gradients(names["JANET"])
    kind = type(caught.value)
    assert f"{kind.__module__}.{kind.__name__}: {caught.value}".startswith(shown.strip())


def test_the_guides_commands_run(tmp_path: Path) -> None:
    (tmp_path / "janet.py").write_text(blocks("python")[0])
    (commands,) = blocks("sh")
    few = {
        "train": "--images 100 --epochs 1 --hidden 8 --batch-size 20 --threads 1",
        "evaluate": "--threads 1",
        "bench": "--threads 1 --repeats 1 --shape 2x3x4x5 --task inference --implementation cpu-serial",
    }
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    for line in commands.splitlines():
        words = line.removeprefix("lstm-numba ").split()
        answer = call(*words, *few.pop(words[0]).split(), cwd=tmp_path, env=environment)
        assert answer.status == 0, (line, answer.err)
    assert not few


def test_the_readmes_cell_is_the_guides() -> None:
    (source,) = (block for block in blocks("py", README) if "register_cell" in block)
    names: dict[str, Any] = {"ln": ln, "__name__": "readme"}
    run(source, names)
    for got, expected in zip(outputs(names["JANET"]), outputs(janet.JANET), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.smoke
def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", GUIDE)
    assert links
    assert [link for link in links if not (ROOT / "lstm_numba" / "cells" / link).exists()] == []
