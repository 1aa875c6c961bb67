"""Progress and messages on standard error: a progress line on a terminal, occasional plain lines elsewhere.

If standard error breaks (its reader has gone), nothing more is written, and a training that may have run for
hours continues.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstm_numba.progress_line import (
    COMPILING,
    Piece,
    columns,
    cut,
    duration,
    fitted,
    measured,
    overwrites,
    pace,
    time_left,
    worded,
)
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
#: Characters of a throughput and a time left.
_AWAITED = 28


def _measures(result: Any) -> list[tuple[str, float, str]]:
    """Loss, metric and other measures of an evaluation: name, value and format."""
    values = result if isinstance(result, dict) else result.as_dict()
    metric = next((name for name in ("accuracy", "perplexity") if values.get(name) is not None), None)
    parts = [("loss", values["loss"], ".4f")]
    parts += [] if metric is None else [(metric, values[metric], ".2f")]
    return parts + [(shown, values[name], ".4g") for name, shown in MEASURES.items() if name in values]


def metrics_text(result: Any) -> str:
    """Loss and metric of an evaluation as text: ``loss 0.0512, accuracy 98.40 %``."""
    return ", ".join(worded(*measure) for measure in _measures(result))


def _metrics_pieces(split: str, result: Any, watched: bool) -> list[Piece]:
    """What is finite of an evaluation as pieces of a line; those of what is watched stay longest."""
    texts = filter(None, (measured(*measure) for measure in _measures(result)))
    ranks = itertools.chain((1, 2) if watched else (3, 6), itertools.repeat(8))
    before = itertools.chain([f"  {split}: "], itertools.repeat(", "))
    return [(rank, f"{mark}{text}") for rank, mark, text in zip(ranks, before, texts, strict=False)]


class Terminal(Reporter):
    """Reports the progress of a training or an evaluation on standard error.

    Parameters
    ----------
    silent : bool
        Write nothing.
    """

    def __init__(self, silent: bool = False) -> None:
        self._interactive = overwrites(sys.stderr)
        self._silent = silent or sys.stderr is None
        self._line = ""
        self._last = time.monotonic()
        self._metric = ""
        self._unit = ""
        self._prefix = ""  # of every progress line

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
        text = cut(f"{self._prefix}{text}", self._width)
        if self._interactive:
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

    @property
    def _width(self) -> int:
        """Characters of a line: a full one would move the cursor to the next."""
        return columns(sys.stderr) - 1

    def _share(self, head: str, done: int, total: int, tail: Sequence[Piece] = (), awaited: int = 0) -> str:
        """A line with the percentage that is done, as much of `tail` as fits, and a bar if there is room.

        Room of `awaited` characters is kept for what is not known yet, so that the bar need not go for it.
        """
        share = min(done / total, 1.0) if total else 1.0
        width = self._width - len(self._prefix)
        percent = f" {100 * share:3.0f} %"
        text = fitted([(0, f"{head}{percent}"), *tail], width)
        length = min(_BAR, width - len(text) - 3 - awaited)
        if not self._interactive or length < _SHORTEST_BAR:
            return text
        filled = round(length * share)
        return f"{head} [{'#' * filled}{'.' * (length - filled)}]{text[len(head) :]}"

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
        metric = "" if self._metric == "loss" else measured(self._metric, info.metric, ".2f")
        tail = [
            (1, measured("loss", info.loss)),
            (3, metric),
            (4, pace(info.rate, self._unit)),
            (2, time_left(info.remaining)),
        ]
        pieces = [(rank, f"  {text}") for rank, text in tail if text]
        head = f"epoch {info.epoch}/{info.epochs}"
        awaited = 0 if info.rate else _AWAITED
        self.update(self._share(head, info.step, info.steps_per_epoch, pieces, awaited))

    def on_evaluation(self, split: str, done: int, total: int) -> None:
        """Update the progress line."""
        self.update(self._share(f"evaluating {split}", done, total))

    def on_epoch(self, info: EpochInfo) -> None:
        """Write a line with the results of the epoch."""
        pieces: list[Piece] = [(0, f"epoch {info.epoch}/{info.epochs}")]
        pieces += _metrics_pieces("train", info.train, not info.evaluations)
        for split, result in info.evaluations.items():
            pieces += _metrics_pieces(split, result, True)
        rest = [
            (7, f"lr {info.lr:.4g}"),
            (4, _spent(info.seconds)),
            (5, pace(info.rate, self._unit)),
        ]
        self.say(fitted([*pieces, *((rank, f"  {text}") for rank, text in rest if text)], self._width))

    def on_part(self, done: int, total: int, what: str) -> None:
        """Update the progress line of work in parts."""
        head = f"{done} of {total}"
        # The name of the part is cut, not left out.
        room = self._width - len(self._prefix) - len(head) - len(" 100 %  ")
        self.update(self._share(head, done, total, [(0, f"  {cut(what, room)}")]))

    def on_message(self, text: str) -> None:
        """Write a message of the trainer."""
        self.say(text)


def _spent(seconds: float) -> str:
    """The time of an epoch as text; empty if no step of it was timed."""
    if seconds >= 60:
        return duration(seconds)
    form = ".1f" if seconds >= 1 else ".2f" if seconds >= 0.01 else ".2g"
    return f"{seconds:{form}} s" if seconds else ""


def print_json(values: Any) -> None:
    """Print a result as one line of JSON, see `json_line`."""
    click.echo(json_line(values))


def result_object(result: Any, floor: float | None = None) -> dict[str, Any]:
    """An evaluation for ``--json``; `floor` is the lower bound of the perplexity, where known."""
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


class Skipped:
    """Those of several files that cannot be used: each is said, and the exit status is 1 in the end.

    Parameters
    ----------
    kind : str
        What they are, as ``--json`` names it.

    Attributes
    ----------
    entries : list of dict
        For ``--json``: the name under `kind`, and what is wrong as ``error``.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.entries: list[dict[str, str]] = []

    def __call__(self, name: str, error: Exception) -> None:
        """Write what is wrong with one of them to standard error."""
        text = " ".join(str(error).split())
        click.echo(f"error: {text}", err=True)
        self.entries.append({self._kind: name, "error": text})

    def leave(self) -> None:
        """End the command if there are any."""
        if self.entries:
            click.get_current_context().exit(1)


def short_path(path: Path) -> str:
    """A path relative to the current folder, if it is inside."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
