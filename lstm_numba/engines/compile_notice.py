"""Says on standard error that kernels are being compiled, where nobody else reports it.

A program that computes for the first time would be silent for tens of seconds. Compilations that follow each
other closely are one burst; when a burst has compiled for a second, a thread of its own writes the line, in a
terminal or a notebook, and elsewhere logs it at INFO as "lstm_numba". ``LSTM_NUMBA_PROGRESS=0`` keeps it
silent. Whatever goes wrong here, a compilation goes on.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from lstm_numba.progress_line import COMPILING, Spinner, overwrites

#: Kind of the event around what is compiled apart (`lstm_numba.engines.cpu.function_pointers`): its data say
#: the `name` and, in the end, whether it was `compiled`.
COMPILE_EVENT = "lstm_numba:compile_apart"

#: Seconds of compilation that go unsaid, and at most between compilations of one burst: on a slow machine a
#: good part of a second passes before what was compiled is stored, and the next begins.
DELAY, GAP = 1.0, 5.0


class Notice:
    """Watches bursts of compilation, and says so; for threads that begin and end at any time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._compiling = 0
        self._spent = self._since = 0.0
        self._watcher: threading.Thread | None = None
        self._spinner: Spinner | None = None
        self._silent = 0

    @contextlib.contextmanager
    def silenced(self) -> Iterator[None]:
        """Say nothing meanwhile."""
        with self._changed:
            self._silent += 1
        try:
            yield
        finally:
            with self._changed:
                self._silent -= 1

    def begin(self) -> bool:
        """A compilation begins; whether `end` is to be called after it."""
        with self._changed:
            if self._silent or os.environ.get("LSTM_NUMBA_PROGRESS") == "0":
                return False
            if self._watcher is None:
                watcher = threading.Thread(target=self._watch, daemon=True, name="lstm_numba compile notice")
                watcher.start()
                self._watcher, self._spent = watcher, 0.0
            self._compiling += 1
            if self._compiling == 1:
                self._since = time.monotonic()
                if self._spinner is not None:
                    self._spinner.resume()
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """A compilation has ended, or failed; nothing is left on the line when this returns."""
        with self._changed:
            self._compiling -= 1
            if self._compiling == 0:
                self._spent += time.monotonic() - self._since
                if self._spinner is not None:
                    self._spinner.rest()
                self._changed.notify_all()

    def _watch(self) -> None:
        with contextlib.suppress(Exception):
            if self._has_lasted():
                self._say()
                with self._changed:
                    while self._goes_on():
                        self._changed.wait()
        with self._changed:
            if self._watcher is threading.current_thread():
                self._finish()

    def _has_lasted(self) -> bool:
        """Wait until the burst has compiled for long enough; False if it ends before."""
        with self._changed:
            while self._goes_on():
                left = DELAY - self._spent - (time.monotonic() - self._since)
                if left <= 0:
                    return True
                self._changed.wait(left)
            return False

    def _goes_on(self) -> bool:
        """Wait for the next compilation if there is none, holding the lock; False if the burst is over."""
        if not self._compiling and not self._changed.wait_for(lambda: self._compiling, GAP):
            self._finish()  # before another compilation can begin, which then gets a watcher of its own
            return False
        return True

    def _finish(self) -> None:
        spinner, self._spinner, self._watcher = self._spinner, None, None
        if spinner is not None:
            spinner.end()

    def _say(self) -> None:
        stream = sys.stderr
        if not overwrites(stream):  # a program's log is its own: it hears this if it wants to
            logging.getLogger("lstm_numba").info(COMPILING)
            return
        with self._changed:
            if not self._silent:
                self._spinner = Spinner(stream, True, time.monotonic() - DELAY)
                if not self._compiling:
                    self._spinner.rest()


_notice = Notice()
silenced = _notice.silenced
_here = threading.local()


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Around what compiles, where Numba tells nobody."""
    _enter(certain=True)
    try:
        yield
    finally:
        _leave()


def _enter(certain: bool) -> None:
    """This thread begins something that compiles, or, if not certain, may be read from disk."""
    with contextlib.suppress(Exception):
        _here.depth = getattr(_here, "depth", 0) + 1
        if certain:
            _begin()


def _begin() -> None:
    """What this thread is in does compile."""
    with contextlib.suppress(Exception):
        if getattr(_here, "depth", 0) and not getattr(_here, "told", False):
            _here.told = _notice.begin()


def _leave() -> None:
    """End what `_enter` began."""
    with contextlib.suppress(Exception):
        _here.depth = max(getattr(_here, "depth", 0) - 1, 0)
        if _here.depth == 0 and getattr(_here, "told", False):
            _here.told = False
            _notice.end()


@functools.cache
def install() -> None:
    """Listen to Numba, once in a process and its children. An engine calls it when it is first made."""
    from numba.core import event

    class Kernels(event.Listener):  # what is compiled within a kernel, or by it, is part of it
        def on_start(self, event: Any) -> None:
            if getattr(_here, "depth", 0) or _is_ours(event.data["dispatcher"]):
                _enter(certain=True)

        def on_end(self, event: Any) -> None:
            _leave()

    class Apart(event.Listener):  # begins before it is known whether it lies on disk
        def on_start(self, event: Any) -> None:
            _enter(certain=False)

        def on_end(self, event: Any) -> None:
            _leave()

    class Passes(event.Listener):
        def on_start(self, event: Any) -> None:
            _begin()

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Kernels())
    event.register(COMPILE_EVENT, Apart())
    event.register("numba:run_pass", Passes())
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_in_child)


def _is_ours(dispatcher: Any) -> bool:
    module = getattr(getattr(dispatcher, "py_func", None), "__module__", None) or ""
    return module.partition(".")[0] == "lstm_numba"


def _in_child() -> None:
    """A forked process has no watcher, and the lock as it was."""
    _notice.__dict__.update(Notice().__dict__, _silent=_notice._silent)
