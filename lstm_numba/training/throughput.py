"""Throughput and remaining time, for display only."""

from __future__ import annotations

import math
import time

#: Weight of the newest step in the running mean of seconds per step.
_NEWEST = 0.05


class Pace:
    """Times steps and evaluations.

    The first step of a process loads kernels and later ones may compile: these steps are counted with the
    mean time of the others in their epoch.

    Attributes
    ----------
    rate : float
        Running mean of units (images, tokens) per second; 0 before a step was timed.
    """

    def __init__(self) -> None:
        self.rate = 0.0
        self._step_seconds = 0.0
        self._evaluation_seconds = 0.0
        self._last = time.monotonic()
        self._first = True
        self._timed_steps = 0
        self._timed_seconds = 0.0
        self._epoch_steps = 0
        self._epoch_units = 0.0

    def begin_epoch(self) -> None:
        """An epoch starts."""
        self._last = time.monotonic()
        self._timed_steps, self._timed_seconds = 0, 0.0
        self._epoch_steps, self._epoch_units = 0, 0.0

    def note_step(self, units: float, compiled: bool) -> None:
        """A step is done.

        Parameters
        ----------
        units : float
            Images or tokens in it.
        compiled : bool
            It compiled kernels.
        """
        now = time.monotonic()
        seconds = max(now - self._last, 1e-9)
        self._last = now
        self._epoch_steps += 1
        self._epoch_units += units
        if compiled or self._first:
            self._first = False
            return
        self._timed_steps += 1
        self._timed_seconds += seconds
        if self._step_seconds == 0.0:
            self._step_seconds = seconds
        else:
            self._step_seconds += _NEWEST * (seconds - self._step_seconds)
        self.rate = units / self._step_seconds

    def end_epoch(self) -> tuple[float, float]:
        """Return the time of the epoch's steps in seconds and its units per second."""
        if not self._timed_steps:
            return 0.0, 0.0
        seconds = self._timed_seconds * self._epoch_steps / self._timed_steps
        return seconds, self._epoch_units / seconds

    def note_evaluation(self, seconds: float) -> None:
        """An evaluation is done."""
        self._evaluation_seconds = seconds

    def remaining(self, steps: int, evaluations: int) -> float:
        """Estimate the seconds that so many steps and evaluations will take; NaN before a step was timed."""
        if steps and not self._step_seconds:
            return math.nan
        return steps * self._step_seconds + evaluations * self._evaluation_seconds
