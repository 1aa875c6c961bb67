"""What `ln.fit` writes on standard error: a line that is overwritten, plain lines elsewhere, or nothing."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from typing import Any

import numpy as np
import pytest
from numba.core import event
from terminal_tools import NotebookStream, run_in_terminal, screen

import lstm_numba as ln
from lstm_numba.models import SequenceBatch
from lstm_numba.training import progress

LINE = "lstm_numba: compiling kernels for this processor (kept on disk for later runs) ..."
#: A line of an epoch.
EPOCH = r"epoch {}/{}  loss 0\.\d+  accuracy \d+\.\d\d %  lr 0\.002"


def model() -> ln.SequenceClassifier:
    """A small one."""
    return ln.SequenceClassifier(3, 4, 2, seed=0)


def data(count: int = 12) -> tuple[Any, Any]:
    """Sequences of two classes."""
    return np.random.default_rng(0).standard_normal((count, 5, 3)), np.arange(count) % 2


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Compile before anything is listened to."""
    ln.fit(model(), data(), validation=data(4), epochs=1, batch_size=4, verbose=False)


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_REFRESH", 0.0)


def has(lines: list[str], patterns: list[str]) -> bool:
    """Whether the lines are of these patterns, and the cursor stands on an empty one behind them."""
    whole = [re.fullmatch(p, line) for p, line in zip(patterns, lines, strict=False)]
    return len(lines) == len(patterns) + 1 and all(whole) and lines[-1] == ""


def test_a_notebooks_line_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = NotebookStream()
    monkeypatch.setattr(sys, "stderr", stream)
    ln.fit(model(), data(), epochs=2, batch_size=4)
    assert has(screen(stream.text), [EPOCH.format(1, 2), EPOCH.format(2, 2)])
    steps = re.findall(r"\repoch (\d)/2 +(\d+) %  loss 0\.\d{4}", stream.text)
    assert steps == [("1", "33"), ("1", "67"), ("1", "100"), ("2", "33"), ("2", "67"), ("2", "100")]
    # A shorter line leaves nothing of the longer one.
    stream.writes.clear()
    line = progress.Progress(True)
    line._show("a long line")
    line._show("short")
    assert screen(stream.text) == ["short"]
    line._show("")
    assert stream.text.endswith("\r     \r")


def test_validation_shows_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = NotebookStream()
    monkeypatch.setattr(sys, "stderr", stream)
    ln.fit(model(), data(), validation=data(4), epochs=1, batch_size=4)
    # In 80 columns there is no room for the accuracy in training.
    wanted = r"epoch 1/1  loss 0\.\d+  valid_loss 0\.\d+  valid_accuracy \d+\.\d\d %"
    assert has(screen(stream.text), [wanted])


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_line_ends_clean(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    class Broken:
        carries_state = False

        def __len__(self) -> int:
            return 3

        def batch(self, epoch: int, step: int) -> SequenceBatch:
            if epoch == 1 and step == 2:
                raise error
            return SequenceBatch(np.ones((5, 4, 3), np.float32), np.arange(4) % 2)

    stream = NotebookStream()
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(error):
        ln.fit(model(), Broken(), epochs=3)
    assert re.search(r"\repoch 2/3 +67 %", stream.text)
    assert has(screen(stream.text), [EPOCH.format(1, 3)])


@pytest.mark.parametrize("fail", [False, True])
def test_compilation_shows_until_it_ends(monkeypatch: pytest.MonkeyPatch, fail: bool) -> None:
    class Compiling:
        """Its second batch stands for one that compiles."""

        carries_state = False

        def __len__(self) -> int:
            return 3

        def batch(self, epoch: int, step: int) -> SequenceBatch:
            if step == 1:
                with event.trigger_event("numba:compile", data={"dispatcher": self}):
                    time.sleep(0.3)
                    if fail:
                        raise KeyboardInterrupt
            return SequenceBatch(np.ones((5, 4, 3), np.float32), np.arange(4) % 2)

        @staticmethod
        def py_func() -> None:
            """A dispatcher's."""

    stream = NotebookStream()
    monkeypatch.setattr(sys, "stderr", stream)
    if fail:
        with pytest.raises(KeyboardInterrupt):
            ln.fit(model(), Compiling(), epochs=1)
        assert has(screen(stream.text), [re.escape(LINE)])
    else:
        ln.fit(model(), Compiling(), epochs=1)
        assert has(screen(stream.text), [re.escape(LINE), r"compiled in 0\.\d s", EPOCH.format(1, 1)])
        # The steps after it have the line to themselves.
        assert re.findall(r"[|/\\-] \d s|compiled|\d+ %  loss", stream.text)[-3:] == [
            "compiled", "67 %  loss", "100 %  loss",
        ]  # fmt: skip


def test_elsewhere_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    ln.fit(model(), data(), epochs=2, batch_size=4)
    assert "\r" not in pipe.getvalue()
    assert has(pipe.getvalue().split("\n"), [EPOCH.format(1, 2), EPOCH.format(2, 2)])


def test_not_verbose_is_silent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    stream = NotebookStream()
    monkeypatch.setattr(sys, "stderr", stream)
    ln.fit(model(), data(), validation=data(4), epochs=2, batch_size=4, verbose=False)
    assert stream.writes == []
    assert capfd.readouterr() == ("", "")


def test_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for gone in (None, io.StringIO()):
        if gone is not None:
            gone.close()
        monkeypatch.setattr(sys, "stderr", gone)
        assert len(ln.fit(model(), data(), epochs=2, batch_size=4).epochs) == 2


_PROGRAM = """
import numpy as np, lstm_numba as ln
from lstm_numba.training import progress
progress._REFRESH = 0.0
x, y = np.random.default_rng(0).standard_normal((12, 5, 3)), np.arange(12) % 2
print(ln.fit(ln.SequenceClassifier(3, 4, 2, seed=0), (x, y), epochs=2, batch_size=4, verbose=VERBOSE))
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_a_terminal() -> None:
    shown = run_in_terminal(_PROGRAM.replace("VERBOSE", "True"))
    assert shown.status == 0
    assert re.fullmatch(r"History\(2 epochs, best loss 0\.\d+ in epoch \d\)\n", shown.out)
    assert has(screen(shown.err), [EPOCH.format(1, 2), EPOCH.format(2, 2)])
    assert len(re.findall(r"\repoch \d/2 +\d+ %  loss 0\.\d{4}", shown.err)) == 6
    silent = run_in_terminal(_PROGRAM.replace("VERBOSE", "False"))
    assert (silent.status, silent.err, silent.out) == (0, "", shown.out)
