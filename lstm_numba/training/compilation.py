"""Notices when Numba compiles, so that a program can say why nothing moves."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from lstm_numba.training.reporter import Reporter


class CompileWatch:
    """Context manager that reports compilation inside its block.

    Numba announces a compilation only where its disk cache had nothing. Compilations nest (a kernel compiles
    what it calls); the outermost are timed.

    Parameters
    ----------
    reporter : Reporter
        Hears `on_compile_begin` and `on_compile_end`.

    Attributes
    ----------
    seconds : float
        Time spent compiling so far.
    kernels : list of str
        Names of what was compiled so far.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.seconds = 0.0
        self.kernels: list[str] = []
        self._reporter = reporter
        self._depth = 0
        self._began = 0.0
        self._unreported: float | None = None
        self._stack = ExitStack()

    def __enter__(self) -> CompileWatch:
        from numba.core import event

        watch = self

        class Listener(event.Listener):
            def on_start(self, event: Any) -> None:
                watch._start(event.data["dispatcher"].py_func.__name__)

            def on_end(self, event: Any) -> None:
                watch._end()

        self._stack.enter_context(event.install_listener("numba:compile", Listener()))
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
