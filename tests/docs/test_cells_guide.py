"""The guide to custom cells: its code and commands run, and give what it shows."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import call
from repository import ROOT

import lstm_numba as ln
from lstm_numba.cells import evaluate
from lstm_numba.examples import janet

GUIDE = (ROOT / "lstm_numba" / "cells" / "CUSTOM_CELLS.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = GUIDE) -> list[str]:
    """Code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the guide's code defines, run from beginning to end."""
    found: dict[str, Any] = {"__name__": "janet"}
    for source in blocks("python"):
        exec(compile(source, "guide", "exec"), found)
    return found


def outputs(layer: Any) -> list[np.ndarray]:
    """Output and gradients on fixed numbers."""
    x = np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32)
    rnn = layer(2, 5, seed=0)
    y, _, tape = rnn.forward(x)
    dx, _, grads = rnn.backward(tape, np.ones_like(y))
    return [y, dx, *grads.values()]


def test_the_guides_cell_is_the_example_and_its_equations_are_shown(names: dict[str, Any]) -> None:
    assert ln.show_cell(names["JANET"]) == blocks("text")[0].rstrip("\n")
    for got, expected in zip(outputs(names["JANET"]), outputs(janet.JANET), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert ln.make_layer("janet:JANET", 4, 4).cell is names["JANET"].cell


def test_the_guides_gru_is_the_librarys(names: dict[str, Any]) -> None:
    own, ours = names["ResetBefore"].cell, ln.GRU(1, 1, reset_after=False).cell
    point = evaluate.Point((0.3, -0.4, 0.7), (0.2,), ())
    for function in (evaluate.forward, evaluate.operand):
        assert function(own, point) == function(ours, point)


def test_the_guides_own_derivative_is_right_at_zero_where_the_derived_is_not(names: dict[str, Any]) -> None:
    own = names["Softplus"]
    source = blocks("python")[-1]
    without: dict[str, Any] = {**names, "__name__": "derived"}
    exec(source[: source.index("    def backward")], without)
    found = [
        evaluate.backward(cell, evaluate.Point((0.0,), (0.0,), ()), (1.0,)).slots[0]
        for cell in (own.cell, without["Softplus"].cell)
    ]
    assert found[0] == 0.5
    assert abs(found[1] - 0.5) > 0.1


def test_the_guides_mistake_gives_the_guides_error(names: dict[str, Any]) -> None:
    ((before, after),) = re.findall(r"<!-- error: (.*) -> (.*) -->", GUIDE)
    source = blocks("python")[-1]
    assert source.count(before) == 1
    with pytest.raises(ValueError, match="Softplus") as caught:
        exec(source.replace(before, after), {**names, "__name__": "wrong"})
    assert f"ValueError: {caught.value}\n" == blocks("text")[1]


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


def test_the_guides_cell_has_the_gradients_of_its_equations(
    names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print(ln.check_gradients(names["JANET"]))
    report = capsys.readouterr().out
    assert report.startswith("JANET: backward is the derivative")
    differences = [float(line.split()[-1]) for line in report.splitlines() if line.startswith("  ")]
    assert differences
    assert max(differences) < 1e-9


@pytest.mark.smoke
def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", GUIDE)
    assert links
    assert [link for link in links if not (ROOT / "lstm_numba" / "cells" / link).exists()] == []
