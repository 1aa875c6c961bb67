"""Detects when Numba compiles, so that a program can report it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from lstm_numba.training.callbacks import Reporter


class CompilationStopped(BaseException):
    """Raised inside a compilation to abandon it; no Exception, since Numba catches those."""


class CompileWatch:
    """Context manager that reports compilation inside its block.

    Numba announces a compilation only where its disk cache had nothing. Compilations nest (a kernel compiles
    what it calls); the outermost are timed.

    Parameters
    ----------
    reporter : Reporter
        Receives `on_compile_begin` and `on_compile_end`.
    unwanted : callable, optional
        Whether to abandon the compilation; called several times a second.

    Attributes
    ----------
    seconds : float
        Time spent compiling so far.
    kernels : list of str
        Names of what was compiled so far.
    """

    def __init__(self, reporter: Reporter, unwanted: Callable[[], bool] = lambda: False) -> None:
        self.seconds = 0.0
        self.kernels: list[str] = []
        self._reporter = reporter
        self._unwanted = unwanted
        self._depth = 0
        self._began = 0.0
        self._unreported: float | None = None
        self._stack = ExitStack()

    def __enter__(self) -> CompileWatch:
        from numba.core import event

        from lstm_numba.engines.compile_notice import COMPILE_EVENT, silenced

        watch = self

        class Listener(event.Listener):
            def on_start(self, event: Any) -> None:
                watch._start(event.data["dispatcher"].py_func.__name__)

            def on_end(self, event: Any) -> None:
                watch._end()

        class ListenerApart(event.Listener):
            def on_start(self, event: Any) -> None:
                self.state = len(watch.kernels), watch.seconds, time.perf_counter()

            def on_end(self, event: Any) -> None:
                if event.data["compiled"]:
                    watch._count_apart(event.data["name"], *self.state)

        class PassListener(event.Listener):
            def on_start(self, event: Any) -> None:
                if watch._unwanted():
                    raise CompilationStopped

            def on_end(self, event: Any) -> None:
                pass

        self._stack.enter_context(silenced())
        self._stack.enter_context(event.install_listener("numba:run_pass", PassListener()))
        self._stack.enter_context(event.install_listener("numba:compile", Listener()))
        self._stack.enter_context(event.install_listener(COMPILE_EVENT, ListenerApart()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        self.flush()

    def flush(self) -> None:
        """Report the end of a burst of compilation, if there was one."""
        if self._unreported is not None and self._depth == 0:
            seconds, self._unreported = self._unreported, None
            self._reporter.on_compile_end(seconds)

    def _start(self, name: str) -> None:
        if self._depth == 0:
            self.kernels.append(name)
            self._began = time.perf_counter()
            if self._unreported is None:
                self._unreported = 0.0
                self._reporter.on_compile_begin()
        self._depth += 1

    def _end(self) -> None:
        self._depth = max(self._depth - 1, 0)
        if self._depth == 0 and self._unreported is not None:
            spent = time.perf_counter() - self._began
            self.seconds += spent
            self._unreported += spent

    def _count_apart(self, name: str, kernels: int, seconds: float, began: float) -> None:
        """Count a function compiled apart as one kernel, instead of all that compiled within it."""
        self.kernels[kernels:] = [name]
        rest = time.perf_counter() - began - (self.seconds - seconds)
        self.seconds += rest
        if self._unreported is not None:
            self._unreported += rest
