"""Ctrl-C and SIGTERM during training: recorded, and handled between steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any


class Interrupted(Exception):
    """A training stopped because of a signal, after saving.

    Attributes
    ----------
    signum : int
    path : Path
        The checkpoint.
    step : int
        Total number of steps.
    alone : bool
        Of several ranks only this one stops, the others may wait for it.
    exit_status : int
        130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, signum: int, path: Path, step: int, alone: bool = False) -> None:
        name = "interrupted" if signum == signal.SIGINT else signal.Signals(signum).name
        super().__init__(f"{name}: stopped after step {step}, saved in {path}")
        self.signum = signum
        self.path = path
        self.step = step
        self.alone = alone
        self.exit_status = 128 + signum


class SignalWatch:
    """Context manager that records SIGINT and SIGTERM instead of interrupting a step.

    The handler only records the first signal, so that no signal can damage a checkpoint or be lost. Outside
    the main thread, where Python does not allow handlers, nothing is installed; an ignored signal stays
    ignored.

    Parameters
    ----------
    tell : callable, optional
        Gets a message when the first signal comes, because finishing the step may take a while. Its
        exceptions are dropped: it may be called at any point.

    Attributes
    ----------
    received : int or None
        The first signal that came.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self.received: int | None = None
        self._tell = tell
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                previous = signal.getsignal(signum)
                if previous is not signal.SIG_IGN:
                    signal.signal(signum, self._note)
                    self._previous[signum] = previous
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for signum, previous in self._previous.items():
            # None stands for a handler that was not installed from Python, which it cannot put back.
            signal.signal(signum, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None:
            return
        self.received = signum
        if self._tell is not None:
            with contextlib.suppress(Exception):
                self._tell(f"{signal.Signals(signum).name}: finishing this step, then saving ...")
