"""What a sweep knows of its trials, as plain data. Optuna is not imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What a trial may be, in the order of a report. `abandoned`: no process trains it, and the next one goes on
#: with it; `elsewhere`: its run folder is in the sweep's folder of another machine.
COMPLETE, PRUNED, DIVERGED, FAILED = "complete", "pruned", "diverged", "failed"
RUNNING, ABANDONED, ELSEWHERE = "running", "abandoned", "elsewhere"
STATES = (COMPLETE, PRUNED, DIVERGED, FAILED, RUNNING, ABANDONED, ELSEWHERE)


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Attributes
    ----------
    number : int
        From 0.
    state : str
        One of `STATES`.
    params : dict
        Drawn settings.
    curve : dict of float
        Epoch, from 1 -> metric on what is watched.
    value : float, optional
        Of the best epoch; only of a complete trial.
    reason : str
        Why it diverged or failed.
    test : dict
        Measures of the test data, of a complete trial; nothing is chosen by them.
    seconds : float, optional
        From its begin to its end, pauses too.
    """

    number: int
    state: str
    params: Mapping[str, Any]
    curve: Mapping[int, float] = field(default_factory=dict)
    value: float | None = None
    reason: str = ""
    test: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return max(self.curve, default=0)

    def best_epoch(self, maximizes: bool) -> int:
        """The first of its best epochs; 0 before the end of one."""
        return best_epoch(self.curve, maximizes)


def best_epoch(curve: Mapping[int, float], maximizes: bool) -> int:
    """The first of the best epochs of a curve; 0 if it is empty."""
    sign = -1.0 if maximizes else 1.0
    return min(curve, key=lambda epoch: (sign * curve[epoch], epoch), default=0)


def ranked(trials: Sequence[Trial], maximizes: bool) -> list[Trial]:
    """The complete trials, the best first."""
    complete = [trial for trial in trials if trial.value is not None]
    sign = -1.0 if maximizes else 1.0
    return sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def counts(trials: Sequence[Trial]) -> dict[str, int]:
    """How many there are of each state that there is."""
    found = {state: sum(trial.state == state for trial in trials) for state in STATES}
    return {state: count for state, count in found.items() if count}
