"""Progress of a training from Python: one line in a terminal or a notebook, occasional lines elsewhere."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TextIO

from lstm_numba.training.callbacks import Reporter

#: Seconds between updates of a line that is overwritten, and between lines elsewhere.
_REFRESH, _PLAIN = 0.1, 15.0
_SPINNER = "|/-\\"


def overwrites(stream: TextIO | None) -> bool:
    """Whether a line on the stream can be overwritten: in a terminal, and in a notebook."""
    if stream is None:
        return False
    notebook = type(stream).__module__.startswith("ipykernel")
    return notebook or bool(getattr(stream, "isatty", lambda: False)())


class Progress(Reporter):
    """Writes the progress to standard error; a context manager.

    Parameters
    ----------
    wanted : bool
        False writes nothing.
    """

    def __init__(self, wanted: bool) -> None:
        self._stream = sys.stderr if wanted else None
        self._overwrites = overwrites(self._stream)
        self._line, self._last = "", time.monotonic()
        self._spinner: Spinner | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_spinner()
        self._show("")

    def on_compile_begin(self) -> None:
        """Say that kernels are being compiled; a sign turns meanwhile."""
        if self._stream is not None and self._spinner is None:
            self._show("")
            self._spinner = Spinner(self._stream, self._overwrites)

    def on_compile_end(self, seconds: float) -> None:
        """Say how long the compilation took."""
        if self._spinner is not None:
            self._end_spinner()
            self._say(f"compiled in {seconds:.1f} s")

    def step_done(self, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        """Update the line."""
        now = time.monotonic()
        if self._stream is None or now - self._last < (_REFRESH if self._overwrites else _PLAIN):
            return
        self._last = now
        text = f"epoch {epoch}/{epochs} {100 * step / steps:3.0f} %  loss {loss:.4f}"
        if self._overwrites:
            self._show(text)
        else:
            self._say(text)

    def epoch_done(self, epoch: int, epochs: int, numbers: Mapping[str, float]) -> None:
        """Write a line with the numbers of an epoch; of hundreds of quick epochs some."""
        now = time.monotonic()
        last = epoch == epochs
        if self._stream is None or (epochs > 20 and not last and now - self._last < 1.0):
            return
        self._last = now
        shown = "  ".join(
            f"{name} {100 * value:.2f} %" if name.endswith("accuracy") else f"{name} {value:.4g}"
            for name, value in numbers.items()
            if name != "seconds"
        )
        self._say(f"epoch {epoch}/{epochs}  {shown}")

    def _end_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.end()
            self._spinner = None

    def _say(self, text: str) -> None:
        self._show("")
        self._write(f"{text}\n")

    def _show(self, text: str) -> None:
        """Replace the line."""
        if self._line or text:
            self._write(f"\r{text.ljust(len(self._line))}" if text else f"\r{' ' * len(self._line)}\r")
            self._line = text

    def _write(self, text: str) -> None:
        if self._stream is not None:
            write(self._stream, text)


def write(stream: TextIO, text: str) -> None:
    """Write to a stream whose reader may have gone: a training does not end for that."""
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        pass


class Spinner:
    """A line that says that kernels are being compiled, with a sign that turns until `end`."""

    TEXT = "lstm_numba: compiling kernels for this processor (kept on disk for later runs) ..."

    def __init__(self, stream: TextIO, turns: bool) -> None:
        self._stream, self._done = stream, threading.Event()
        write(stream, f"{self.TEXT} " if turns else f"{self.TEXT}\n")
        self._turns = turns
        self._thread = threading.Thread(target=self._turn, daemon=True) if turns else None
        if self._thread is not None:
            self._thread.start()

    def _turn(self) -> None:
        for sign in itertools.cycle(_SPINNER):
            write(self._stream, f"\b{sign}")
            if self._done.wait(0.25):
                return

    def end(self) -> None:
        """Stop turning, and end the line."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            write(self._stream, "\b \n")
