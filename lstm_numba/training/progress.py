"""Progress of a training from Python: one line in a terminal or a notebook, occasional lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from lstm_numba.progress_line import Piece, Spinner, columns, fitted, measured, overwrites, write
from lstm_numba.training.callbacks import Reporter

#: Seconds between updates of a line that is overwritten, and between lines elsewhere.
_REFRESH, _PLAIN = 0.1, 15.0


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
        shown = measured("loss", loss)
        head = f"epoch {epoch}/{epochs} {100 * step / steps:3.0f} %"
        text = fitted([(0, head), (1, f"  {shown}" if shown else "")], self._width)
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
        pieces: list[Piece] = [(0, f"epoch {epoch}/{epochs}")]
        for name, value in numbers.items():
            shown = measured(name, value, ".4g")
            if name != "seconds" and shown:
                pieces.append((_rank(name, numbers), f"  {shown}"))
        self._say(fitted(pieces, self._width))

    @property
    def _width(self) -> int:
        """Characters of a line: a full one would move the cursor to the next."""
        return columns(self._stream) - 1

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


def _rank(name: str, numbers: Mapping[str, float]) -> int:
    """How soon a number of an epoch is left out: what is watched stays longest."""
    if name == "lr":
        return 5
    watched = name.startswith("valid_") or "valid_loss" not in numbers
    return (1 if watched else 3) + (not name.endswith("loss"))
