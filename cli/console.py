"""Progress and messages on standard error: a progress line on a terminal, occasional plain lines elsewhere.

If standard error breaks (its reader has gone), nothing more is written, and a training that may have run for
hours continues.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstm_numba.progress_line import COMPILING
from lstm_numba.ranks.launcher import launched
from lstm_numba.training.callbacks import Reporter
from lstm_numba.training.run import json_line
from lstm_numba.training.setting import MEASURES
from lstm_numba.wording import plural

if TYPE_CHECKING:
    from lstm_numba.training.callbacks import EpochInfo, StartInfo, StepInfo

#: Seconds between updates of the progress line, and between plain lines within an epoch.
_REFRESH = 0.1
_PLAIN = 15.0
#: Characters of the progress bar, at most and at least.
_BAR = 20
_SHORTEST_BAR = 6


def metrics_text(result: Any) -> str:
    """Loss and metric of an evaluation as text: ``loss 0.0512, accuracy 98.40 %``."""
    values = result if isinstance(result, dict) else result.as_dict()
    if values.get("accuracy") is not None:
        text = f"loss {values['loss']:.4f}, accuracy {100 * values['accuracy']:.2f} %"
    elif values.get("perplexity") is not None:
        text = f"loss {values['loss']:.4f}, perplexity {values['perplexity']:.2f}"
    else:
        text = f"loss {values['loss']:.4f}"
    return ", ".join([text, *(f"{shown} {values[n]:.4g}" for n, shown in MEASURES.items() if n in values)])


def duration(seconds: float) -> str:
    """A time as text: ``0:07``, ``12:30``, ``3:05:00``."""
    whole = max(round(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _columns() -> int:
    """Width of the terminal on standard error."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


class Terminal(Reporter):
    """Reports the progress of a training or an evaluation on standard error.

    Parameters
    ----------
    silent : bool
        Write nothing.
    """

    def __init__(self, silent: bool = False) -> None:
        self._interactive = sys.stderr is not None and sys.stderr.isatty()
        self._silent = silent or sys.stderr is None
        self._line = ""
        self._last = time.monotonic()
        self._metric = ""
        self._unit = ""

    # -- writing ---------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Write a permanent line."""
        self._write(f"{self._erasure()}{text}\n")
        self._line = ""
        self._last = time.monotonic()

    def clear(self) -> None:
        """Erase the progress line."""
        self._write(self._erasure())
        self._line = ""

    def update(self, text: str) -> None:
        """Replace the progress line; without a terminal, write a line from time to time."""
        now = time.monotonic()
        if now - self._last < (_REFRESH if self._interactive else _PLAIN):
            return
        self._last = now
        if self._interactive:
            text = text[: _columns() - 1]
            self._write(f"{self._erasure()}{text}")
            self._line = text
        else:
            self._write(f"{text}\n")

    def _erasure(self) -> str:
        return f"\r{' ' * len(self._line)}\r" if self._line else ""

    def _write(self, text: str) -> None:
        if self._silent or not text:
            return
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            self._silent = True

    def _share(self, head: str, done: int, total: int, tail: str = "") -> str:
        """A line with the percentage that is done and, if there is room, a progress bar."""
        share = done / total if total else 1.0
        percent = f"{100 * share:3.0f} %"
        length = min(_BAR, _columns() - 6 - len(head) - len(percent) - len(tail)) if self._interactive else 0
        if length < _SHORTEST_BAR:
            return f"{head} {percent}  {tail}"
        filled = round(length * share)
        return f"{head} [{'#' * filled}{'.' * (length - filled)}] {percent}  {tail}"

    # -- the trainer's reports -------------------------------------------------------------------

    def on_start(self, info: StartInfo) -> None:
        """Write the size of the model and of the training."""
        self._metric, self._unit = info.metric, info.unit
        steps = plural(info.steps_per_epoch, "step")
        self.say(f"{info.parameters:,} parameters, {plural(info.epochs, 'epoch')} of {steps}")
        if info.floor is not None:
            self.say(f"perplexity lower bound (source entropy) {info.floor:.2f}")

    def on_compile_begin(self) -> None:
        """Write that kernels are being compiled."""
        self.say(COMPILING)

    def on_compile_end(self, seconds: float) -> None:
        """Write how long the compilation took."""
        self.say(f"compiled in {seconds:.1f} s")

    def on_step(self, info: StepInfo) -> None:
        """Update the progress line."""
        metric = f"{100 * info.metric:.2f} %" if self._metric == "accuracy" else f"{info.metric:.2f}"
        shown = "" if self._metric == "loss" else f"{self._metric} {metric}  "
        tail = f"loss {info.loss:.4f}  {shown}{info.rate:,.0f} {self._unit}/s"
        head = f"epoch {info.epoch}/{info.epochs}"
        self.update(
            self._share(head, info.step, info.steps_per_epoch, f"{tail}  {duration(info.remaining)} left")
        )

    def on_evaluation(self, split: str, done: int, total: int) -> None:
        """Update the progress line."""
        self.update(self._share(f"evaluating {split}", done, total).rstrip())

    def on_epoch(self, info: EpochInfo) -> None:
        """Write a line with the results of the epoch."""
        parts = [f"epoch {info.epoch}/{info.epochs}", f"train: {metrics_text(info.train)}"]
        parts += [f"{split}: {metrics_text(result)}" for split, result in info.evaluations.items()]
        parts += [f"lr {info.lr:.4g}", f"{info.seconds:.1f} s", f"{info.rate:,.0f} {self._unit}/s"]
        self.say("  ".join(parts))

    def on_part(self, done: int, total: int, what: str) -> None:
        """Update the progress line of work in parts."""
        self.update(self._share(f"{done} of {total}", done, total, what))

    def on_message(self, text: str) -> None:
        """Write a message of the trainer."""
        self.say(text)


def print_json(values: Any) -> None:
    """Print a result as one line of JSON, see `json_line`."""
    click.echo(json_line(values))


def result_object(result: Any, floor: float | None = None) -> dict[str, Any]:
    """An evaluation for ``--json``; `floor` is the lowest reachable perplexity, where known."""
    values: dict[str, Any] = dict(result.as_dict())
    if floor is not None:
        values["lowest_perplexity"] = floor
    return values


def result_line(result: Any, floor: float | None = None) -> str:
    """An evaluation as one line of text."""
    lowest = f" (lower bound {floor:.2f})" if floor is not None else ""
    return f"{result.split}: {metrics_text(result)}{lowest}"


def measures_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Measures of several predictors, one a line under a heading."""
    names = {"accuracy": "accuracy", **MEASURES}
    columns = [name for name in names if any(name in row for row in rows.values())]
    lines = [["", *(names[name] for name in columns)]]
    for title, row in rows.items():
        lines.append([title, *(f"{row[name]:.4g}" if name in row else "" for name in columns)])
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Rows of texts as columns, those named in `left` aligned to the left, others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if k in left else text.rjust(width)
            for k, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def warn(text: str) -> None:
    """Write a line to standard error; of several processes of one training the first does."""
    if not launched().rank:
        click.echo(text, err=True)


def short_path(path: Path) -> str:
    """A path relative to the current folder, if it is inside."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
