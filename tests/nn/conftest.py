"""Every way in which the CPU engine's threads share a sequence."""

from __future__ import annotations

import pytest

from lstm_numba.engines.cpu import sequence
from lstm_numba.engines.cpu.blocking import Plan
from lstm_numba.engines.cpu.records import Team

PLANS = {
    "serial, in chunks": Plan(Team(0, 1, 1), 2, 2),
    "rows, input product in the step": Plan(Team(0, 2, 1), 1, 1),
    "rows, input product before": Plan(Team(0, 2, 2), 3, 2),
    "units": Plan(Team(1, 2, 2), 2, 1),
}


@pytest.fixture(params=list(PLANS))
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way to share the work, whatever the sizes would make the engine choose."""
    monkeypatch.setattr(sequence, "choose_plan", lambda *args: PLANS[request.param])
    return str(request.param)
