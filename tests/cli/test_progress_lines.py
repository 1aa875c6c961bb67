"""Lines of progress: what fits into 80 columns, and that nothing is said before it is known."""

from __future__ import annotations

import io
import itertools
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from terminal_tools import NotebookStream, screen

from lstm_numba import progress_line
from lstm_numba.cli import console
from lstm_numba.cli.console import Terminal
from lstm_numba.cli.results import Done
from lstm_numba.cli.set_training import EPOCH, STEP, Course
from lstm_numba.progress_line import cut, duration, fitted, measured, pace, time_left
from lstm_numba.training import progress
from lstm_numba.training.callbacks import EpochInfo, Evaluation, Outcome, StartInfo, StepInfo
from lstm_numba.training.config import make_config
from lstm_numba.training.progress import Progress
from lstm_numba.training.run_sets import SEEDS, Member, RunSet
from lstm_numba.training.throughput import Pace

#: Losses, from a good one to none.
LOSSES = (0.0, 0.0123, 6.9, 812.5, 123456.789, 1e38, math.inf, math.nan)
#: Time left in seconds: none, unknown, and up to years.
LEFT = (0.0, math.nan, math.inf, 0.4, 7.0, 3599.6, 11100.0, 359_999.0, 360_000.0, 1e9)
RATES = (0.0, 0.003, 8.0, 28_123.4, 123_456_789.0, 1e15)


class TerminalStream(io.StringIO):
    """Text that says it is written on a terminal, of a width that it does not tell."""

    def isatty(self) -> bool:
        """It is."""
        return True


#: Standard error of both kinds.
both = pytest.mark.parametrize("sort", [TerminalStream, io.StringIO], ids=["terminal", "pipe"])


def listen(patch: pytest.MonkeyPatch, kind: type[io.StringIO] = TerminalStream) -> io.StringIO:
    """What standard error becomes; every line is written at once. For a test's body: pytest sets it anew."""
    made = kind()
    patch.setattr(sys, "stderr", made)
    for module, name in itertools.product((console, progress), ("_REFRESH", "_PLAIN")):
        patch.setattr(module, name, 0.0)
    return made


def texts(stream: io.StringIO) -> list[str]:
    """All that was written, line by line, also those that were overwritten; then begin anew."""
    written = stream.getvalue()
    stream.seek(0)
    stream.truncate()
    if not stream.isatty():
        assert "\r" not in written
        assert written.endswith("\n")  # whole lines only
    return [line for line in re.split(r"[\r\n]", written) if line.strip()]


def assert_honest(line: str) -> None:
    """It fits, and has nothing in it that is not known."""
    assert len(line) <= 79, line
    assert not re.search(r"\b(inf|nan)\b|\b0:00 left|\b0 \w+/s|[ ,]$", line), line
    for text in re.split(r"  |, |train: |valid: ", line):  # no number is cut
        assert re.fullmatch(
            r"|epochs? [\d/-]+( \[[#.]+\])?( 100 %)?|\d+ %|lr \S+|[\d:.]+ s|[\d:]+"
            r"|([\d,]+ d \d+ h|[\d:]+) left"
            r"|(loss|perplexity|MAE|RMSE|MASE|macro-F1|ROC-AUC) -?[\d.e+-]+|accuracy [\d.]+ %"
            r"|[\d.,e+]+ (images|tokens|sequences)/s|\d+ (of \d+ done|under way)|seeds: \d+ of \d+ done",
            text,
        ), line


def started(metric: str, unit: str) -> Terminal:
    """A terminal that knows what is trained."""
    terminal = Terminal()
    terminal.on_start(StartInfo(3, 0, 0, 4, 5, unit, metric, None, False))
    return terminal


@both
@pytest.mark.parametrize(
    ("metric", "unit"), [("accuracy", "images"), ("perplexity", "tokens"), ("loss", "sequences")]
)
def test_every_line_of_a_step_fits(
    metric: str, unit: str, sort: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = listen(monkeypatch, sort)
    terminal = started(metric, unit)
    texts(stream)
    places = ((1, 2, 1, 4), (1000, 1000, 123_456, 123_456))
    for (epoch, epochs, step, steps), loss, rate, left in itertools.product(places, LOSSES, RATES, LEFT):
        share = {"accuracy": 0.5, "perplexity": math.exp(min(loss, 700)) if loss < 1e9 else loss}
        terminal.on_step(
            StepInfo(epoch, epochs, step, steps, loss, share.get(metric, loss), 0.1, 1.0, rate, left)
        )
        shown = texts(stream)
        for line in shown:
            assert_honest(line)
        # What matters most is never left out.
        if math.isfinite(loss):
            assert measured("loss", loss) in shown[-1]
        assert time_left(left) in shown[-1]


def evaluation(split: str, kind: str, loss: float) -> Evaluation:
    """As a classifier's, a language model's or that of numbers."""
    accuracy = 0.98765 if kind == "accuracy" else None
    perplexity = (math.exp(loss) if loss < 700 else math.inf) if kind == "perplexity" else None
    measures = {"mae": loss / 2, "rmse": 12345.678, "mase": loss, "nse": -1.5} if kind == "loss" else {}
    return Evaluation(split, loss, accuracy, perplexity, 10, measures)


@both
@pytest.mark.parametrize("kind", ["accuracy", "perplexity", "loss"])
def test_every_line_of_an_epoch_fits(
    kind: str, sort: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = listen(monkeypatch, sort)
    terminal = started(kind, "images")
    texts(stream)
    times, rates = (0.0, 59.97, 1e6), (0.0, 28_123.4, 1e15)
    for first, second, held, rate, seconds in itertools.product(LOSSES, LOSSES, (0, 1), rates, times):
        others = {"valid": evaluation("valid", kind, second)} if held else {}
        train = evaluation("train", kind, first)
        terminal.on_epoch(EpochInfo(1000, 1000, 0.000123456, seconds, rate, train, others))
        (line,) = texts(stream)
        assert len(line) <= 79, line
        assert not re.search(r"\b(inf|nan)\b|\b0 images/s|  0 s", line), line
        watched = second if held else first
        if math.isfinite(watched):
            assert f"{'valid' if held else 'train'}: {measured('loss', watched)}" in line
        if held and math.isfinite(first):
            assert f"train: {measured('loss', first)}" in line or kind == "loss"


def test_what_an_epoch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it on a wide terminal; on one of 80 columns what is watched, and the time."""
    stream = listen(monkeypatch)
    train, valid = Evaluation("train", 0.45, 0.86, None, 9), Evaluation("valid", 0.21, 0.935, None, 9)
    info = EpochInfo(1, 10, 0.002, 1.93, 28_123.0, train, {"valid": valid})
    terminal = started("accuracy", "images")
    texts(stream)
    terminal.on_epoch(info)
    narrow = "epoch 1/10  train: loss 0.4500  valid: loss 0.2100, accuracy 93.50 %  1.9 s"
    assert texts(stream) == [narrow]
    monkeypatch.setattr(console, "columns", lambda _: 200)
    terminal.on_epoch(info)
    assert texts(stream) == [
        "epoch 1/10  train: loss 0.4500, accuracy 86.00 %  valid: loss 0.2100, accuracy 93.50 %  lr 0.002"
        "  1.9 s  28,123 images/s"
    ]
    monkeypatch.setattr(console, "columns", lambda _: 40)
    terminal.on_epoch(info)
    assert texts(stream) == ["epoch 1/10  valid: loss 0.2100"]


def test_nothing_is_said_before_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first step on, as `Pace` times it: neither a throughput nor a time, then both."""
    stream = listen(monkeypatch)
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    timed = Pace()
    timed.begin_epoch()
    terminal = started("loss", "values")
    texts(stream)
    found = []
    for step in (1, 2):
        now += 2.0
        timed.note_step(10, compiled=False)  # the first one loads kernels
        left = timed.remaining(9 - step, 1)
        terminal.on_step(StepInfo(1, 1, step, 9, 0.5, 0.5, 0.1, 1.0, timed.rate, left))
        found += texts(stream)
    assert found[0] == "epoch 1/1 [##..................]  11 %  loss 0.5000"
    assert found[-1] == "epoch 1/1 [####................]  22 %  loss 0.5000  5 values/s  0:14 left"
    assert math.isnan(Pace().remaining(3, 0))
    # No bar that would have to go for what comes later.
    terminal = started("accuracy", "images")
    texts(stream)
    for rate, left in ((0.0, math.nan), (12_345.0, 42.0)):
        terminal.on_step(StepInfo(1, 2, 3, 4, 0.5, 0.5, 0.1, 1.0, rate, left))
        assert "[" not in texts(stream)[-1]
    assert Pace().remaining(0, 1) == 0


@both
def test_the_trials_of_a_sweep_and_parts_fit(
    sort: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = listen(monkeypatch, sort)
    terminal = started("perplexity", "tokens")
    terminal._prefix = "trial 12345: "
    texts(stream)
    terminal.on_step(StepInfo(90, 100, 7, 9, 5.123, 167.8, 0.1, 1.0, 12_345.0, 3723.0))
    for line in texts(stream):
        assert line.startswith("trial 12345: epoch 90/100")
        assert len(line) <= 79
        assert line.endswith("1:02:03 left")
    terminal.on_part(3, 7, "a very long name of what is under way " * 5)
    for line in texts(stream):
        assert len(line) <= 79
        assert line.endswith("...")


@both
def test_how_far_a_set_is_fits(sort: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = listen(monkeypatch, sort)
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    cell = "a_module_of_mine.inner_module:" + "LongCellName" * 6
    config = make_config("digits", {"seed": 1})
    pair = [
        Member(f"{k}/seed-{n}", str(n), {**config, "cell": name, "seed": n})
        for k, name in enumerate((cell, "lstm"))
        for n in range(2000)
    ]
    course = Course(RunSet(Path("x"), SEEDS, tuple(pair)), Terminal())
    for number in range(64):
        course.report(number, (STEP, 0.5, 1000))
    now += 1e6
    for number in range(64):
        course.report(number, (EPOCH, 10.0 * number + 1, 1000))
    shown = texts(stream)
    for line in shown:
        assert_honest(line)
    assert re.fullmatch(
        r"seeds: 0 of 4000 done, 64 under way, epochs 2-632/1000  [\d,]+ d \d+ h left", shown[-1]
    )
    monkeypatch.setattr("lstm_numba.cli.set_training._LINES", 5000)
    result = Evaluation("test", 0.5, 0.9, None, 10)
    outcome = Outcome(1, 1, result, {"test": result}, Path("x"), False)
    course.end(0, Done(outcome, None, config, "x", {}))
    (line,) = texts(stream)
    assert line.endswith("...: test: loss 0.5000, accuracy 90.00 %")
    assert len(line) <= 79


NUMBERS = {
    "loss": 0.1, "accuracy": 0.5, "lr": 0.002, "valid_loss": 0.2, "valid_accuracy": 0.6, "valid_mae": 3.0,
}  # fmt: skip


@both
def test_every_line_of_fit_fits(sort: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = listen(monkeypatch, sort)
    shown = Progress(True)
    for loss, other in itertools.product(LOSSES, LOSSES):
        shown.step_done(1000, 1000, 3, 123_456, loss)
        numbers = {
            **NUMBERS,
            "loss": loss,
            "perplexity": loss,
            "valid_loss": other,
            "valid_perplexity": other,
        }
        shown.epoch_done(1000, 1000, numbers)
        lines = texts(stream)
        for line in lines:
            assert len(line) <= 79, line
            assert not re.search(r"\b(inf|nan)\b", line), line
        if math.isfinite(other):
            assert f"valid_{measured('loss', other, '.4g')}" in lines[-1]
    shown.epoch_done(2, 2, NUMBERS)
    assert texts(stream) == ["epoch 2/2  loss 0.1  valid_loss 0.2  valid_accuracy 60.00 %  valid_mae 3"]


def test_lines_are_overwritten_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = NotebookStream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(console, "_REFRESH", 0.0)
    terminal = started("accuracy", "images")
    terminal.on_step(StepInfo(1, 2, 1, 4, 0.5, 0.5, 0.1, 1.0, 0.0, math.nan))
    terminal.on_evaluation("valid", 1, 2)
    assert screen(stream.text)[-1] == "evaluating valid [##########..........]  50 %"
    terminal.clear()
    assert screen(stream.text)[1:] == [""]


def test_pieces() -> None:
    pieces = [(0, "head"), (2, " second"), (1, " first"), (2, " third")]
    assert fitted(pieces, 99) == "head second first third"
    assert fitted(pieces, 22) == "head second first"
    assert fitted(pieces, 16) == "head first"
    assert fitted(pieces, 9) == "head"
    assert fitted([(0, "a long head")], 6) == "a l..."
    assert cut("abc", 2) == ".."
    assert progress_line.columns(io.StringIO()) == progress_line.columns(None) == 80


def test_numbers_in_words() -> None:
    assert [duration(s) for s in (7.4, 750, 11100, 359_999, 360_000, 86400 * 1234)] == [
        "0:07", "12:30", "3:05:00", "99:59:59", "4 d 4 h", "1,234 d 0 h",
    ]  # fmt: skip
    assert measured("perplexity", 12345678.9, ".2f") == "perplexity 1.235e+07"
    assert (
        measured("perplexity", None) == measured("loss", math.inf) == time_left(0.3) == pace(0.0, "x") == ""
    )
    assert [pace(rate, "images") for rate in (0.0031, 28_123.4, 1e15)] == [
        "0.0031 images/s", "28,123 images/s", "1e+15 images/s",
    ]  # fmt: skip


def test_an_infinite_perplexity_is_said_in_a_result() -> None:
    """A line of progress leaves it out; a result is a result."""
    found: Any = Evaluation("test", 800.0, None, math.inf, 5)
    assert console.metrics_text(found) == "loss 800.0000, perplexity inf"
