"""Lines of progress on standard error: how long they are, where they can be overwritten, what they leave out.

A line is made of pieces in the order in which they are read, each with a rank. Where the line would be longer
than the terminal is wide, the pieces of the highest ranks are left out, so that it is never cut or wrapped in
the middle of a number. A number that is not known yet, or not finite, has no piece.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections.abc import Sequence
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


#: Columns of what is no terminal, and of a terminal that does not tell.
COLUMNS = 80

#: Characters of a line with their rank: 0 always stays, the highest is the first to go.
Piece = tuple[int, str]


def columns(stream: TextIO | None) -> int:
    """Width of the terminal behind a stream; `COLUMNS` if there is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or COLUMNS if stream else COLUMNS
    except (OSError, ValueError, AttributeError):
        return COLUMNS


def cut(text: str, width: int) -> str:
    """Text of at most so many characters; dots stand for the end of a longer one."""
    return text if len(text) <= width else f"{text[: max(width - 3, 0)]}..."[:width]


def fitted(pieces: Sequence[Piece], width: int) -> str:
    """Join as many pieces as fit, those of the lowest ranks.

    Parameters
    ----------
    pieces : sequence of (int, str)
        Rank and characters, separators included; of equal ranks the last goes first.
    width : int
        Characters at most; what must stay and is longer is cut.

    Returns
    -------
    str
    """
    kept = dict(enumerate(pieces))
    while sum(len(text) for _, text in kept.values()) > width:
        last = max(kept, key=lambda place: (kept[place][0], place))
        if kept[last][0] == 0:
            break
        del kept[last]
    return cut("".join(text for _, text in kept.values()), width)


def number(value: float, form: str) -> str:
    """A number as the format says, in four digits if it is too large for that: ``0.0512``, ``1.235e+07``."""
    return f"{value:{form if abs(value) < 1e5 else '.4g'}}"


def worded(name: str, value: float, form: str = ".4f") -> str:
    """A measure as text: ``loss 0.0512``, ``accuracy 98.40 %``."""
    return f"{name} {100 * value:.2f} %" if name.endswith("accuracy") else f"{name} {number(value, form)}"


def measured(name: str, value: float | None, form: str = ".4f") -> str:
    """As `worded`; empty if the value is not known or not finite."""
    return worded(name, value, form) if value is not None and math.isfinite(value) else ""


def pace(rate: float, unit: str) -> str:
    """A throughput as text: ``12,345 images/s``; empty before it is known."""
    if not math.isfinite(rate) or rate <= 0:
        return ""
    return f"{rate:,.0f} {unit}/s" if 10 <= rate < 1e9 else f"{rate:.2g} {unit}/s"


def time_left(seconds: float) -> str:
    """An estimate as text: ``0:07 left``, ``3:05:00 left``, ``12 d 5 h left``; empty before it is known."""
    if not math.isfinite(seconds) or round(seconds) <= 0:
        return ""
    return f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """A time as text: ``0:07``, ``12:30``, ``3:05:00``, from 100 hours on ``12 d 5 h``."""
    whole = max(round(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    if hours >= 100:
        return f"{hours // 24:,} d {hours % 24} h"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


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
