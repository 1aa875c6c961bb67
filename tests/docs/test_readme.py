"""The README's library examples run and learn, its links lead to files."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import numpy as np
import pytest
from repository import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of the README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def _run(source: str, names: dict[str, Any]) -> str:
    """What a block prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "README.md", "exec"), names)
    return printed.getvalue()


def _run_library_examples() -> tuple[str, dict[str, Any], list[np.ndarray]]:
    """What the first example prints, the names after the last, and the states after the second and third."""
    source, streaming, inside = blocks("python")[:3]
    names: dict[str, Any] = {}
    printed, states = _run(source, names), []
    for block in (streaming, inside):
        _run(block, names)
        states.append(np.array(names["h"]))
    return printed, names, states


@pytest.mark.processor
def test_library_examples_run_learn_and_stream() -> None:
    printed, names, (streamed, stepped) = _run_library_examples()
    target = names["target"]
    # A network that has learnt nothing about its input can do no better than the target's mean.
    assert float(printed.split()[-1]) < 0.5 * float(np.mean((target - target.mean()) ** 2))
    y, (last, _) = names["rnn"](names["x"])
    np.testing.assert_allclose(streamed, y[-1, 0], atol=1e-6)
    np.testing.assert_allclose(stepped, last[0], atol=1e-6)
    # Where an array begins differs from run to run, what comes out must not.
    for _ in range(9):
        again, _, states = _run_library_examples()
        assert again == printed
        np.testing.assert_array_equal(states[0], streamed)
        np.testing.assert_array_equal(states[1], stepped)


def test_training_on_arrays_runs_and_learns() -> None:
    """The section's two programs; their comments beside the code are PyTorch's."""
    quick, by_hand = (block for block in blocks("py") if "ln.SequenceClassifier(4" in block)
    names: dict[str, Any] = {}
    printed = _run(quick.replace("patience=5", "patience=5, verbose=False"), names)
    assert float(re.findall(r"accuracy=([\d.]+)", printed)[0]) > 0.75
    _run(by_hand, names)
    result = names["ln"].evaluate(names["model"], (names["x"], names["y"]))
    assert result.accuracy > 0.8


@pytest.mark.smoke
def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
