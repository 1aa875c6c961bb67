"""Training for the gap on the device: the same course as on the processor."""

from __future__ import annotations

import pytest

from lstm_numba.experiments import gap_training


@pytest.mark.parametrize("task", ["reber", "copy"])
def test_the_same_stages(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCH": 2, "CHECK": 2, "HELD_OUT": 8, "RIGHT": 1.1}.items():
        monkeypatch.setattr(gap_training, name, value)
    there, here = (
        gap_training.train("gru", task, (5,), hidden=3, updates=2, seed=1, device=device)
        for device in ("cuda", "cpu")
    )
    assert there == here
    assert [stage.updates for stage in here] == [4]
