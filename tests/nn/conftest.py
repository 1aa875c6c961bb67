"""Every way in which the CPU engine's threads share a sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numba
import pytest

from lstm_numba.engines.cpu import sequence, task
from lstm_numba.engines.cpu.blocking import Plan
from lstm_numba.engines.cpu.records import Team

PLANS = {
    "serial, in chunks": Plan(Team(0, 1, 1), 2, 2),
    "rows, input product in the step": Plan(Team(0, 2, 1), 1, 1),
    "rows, input product before": Plan(Team(0, 2, 2), 3, 2),
    "units": Plan(Team(1, 2, 2), 2, 1),
}


@pytest.fixture(params=list(PLANS))
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every way to share the work, whatever the sizes would make the engine choose."""
    monkeypatch.setattr(sequence, "choose_plan", lambda *args: PLANS[request.param])
    together: list[bool] = []

    def watched(kernel: Callable[..., bool]) -> Callable[..., bool]:
        def run(*args: Any) -> bool:
            together.append(kernel(*args))
            return together[-1]

        return run

    monkeypatch.setattr(task, "run_job", watched(task.run_job))
    yield str(request.param)
    assert together
    # Where threads do not reach a barrier together, one does the work alone, and the plan under test was not
    # used. A few may miss each other on a busy machine.
    if numba.config.NUMBA_NUM_THREADS > 1:
        assert 2 * sum(together) >= len(together)
