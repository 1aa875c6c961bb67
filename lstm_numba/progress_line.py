"""Lines of progress on standard error: where they can be overwritten, and the one while kernels compile."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TextIO

#: What is said while kernels compile.
COMPILING = "compiling kernels for this processor (kept on disk for later runs) ..."

#: Seconds from one sign to the next.
_TURN = 0.25
_SIGNS = "|/-\\"


def overwrites(stream: TextIO | None) -> bool:
    """Whether a line on the stream can be overwritten: in a terminal, and in a notebook."""
    if stream is None:
        return False
    if type(stream).__module__.startswith("ipykernel"):
        return True
    try:
        return stream.isatty()
    except (AttributeError, OSError, ValueError):  # no file, or a closed one
        return False


def write(stream: TextIO, text: str) -> None:
    """Write to a stream whose reader may have gone: what reports on it does not end for that."""
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        pass


class Spinner:
    """A line that says that kernels are being compiled, and below it a sign that turns until `end`.

    Below it, because what is short can be erased in a terminal of any width. The cursor stands at the
    beginning of a line whenever nothing turns.

    Parameters
    ----------
    stream : file
    turns : bool
        Whether lines can be overwritten; without, there is the line only.
    began : float, optional
        When the compilation began, by ``time.monotonic``; now by default. The time since then is shown.
    """

    def __init__(self, stream: TextIO, turns: bool, began: float | None = None) -> None:
        self._stream, self._began = stream, time.monotonic() if began is None else began
        self._done, self._lock = threading.Event(), threading.Lock()
        self._resting, self._drawn = False, ""
        write(stream, f"lstm_numba: {COMPILING}\n")
        self._thread = threading.Thread(target=self._turn, daemon=True) if turns else None
        if self._thread is not None:
            self._thread.start()

    def _turn(self) -> None:
        for sign in itertools.cycle(_SIGNS):
            with self._lock:
                if not self._resting:
                    self._show(f"{sign} {time.monotonic() - self._began:.0f} s")
            if self._done.wait(_TURN):
                return

    def rest(self) -> None:
        """Erase the sign, for something else to be written."""
        with self._lock:
            self._resting = True
            self._show("")

    def resume(self) -> None:
        """Turn again."""
        with self._lock:
            self._resting = False

    def end(self) -> None:
        """Stop turning, and erase the sign."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self.rest()

    def _show(self, text: str) -> None:
        if text:
            write(self._stream, f"\r{text.ljust(len(self._drawn))}")
        elif self._drawn:
            write(self._stream, f"\r{' ' * len(self._drawn)}\r")
        self._drawn = text
