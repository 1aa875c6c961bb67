"""The experiment on the parts of an LSTM trains on the device as on the processor."""

from __future__ import annotations

import pytest
from tolerances import assert_close

from lstm_numba.experiments import odyssey, odyssey_tasks
from lstm_numba.experiments.ablations import ABLATIONS


def test_a_training_is_that_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odyssey_tasks, "BATCH", 2)
    monkeypatch.setattr(odyssey_tasks, "WINDOW", 3)
    monkeypatch.setattr(odyssey_tasks, "STRINGS", {"train": 5, "valid": 2, "test": 2})
    own, cell = odyssey_tasks.Reber(0), ABLATIONS["no-forget-gate"]
    found = {
        device: odyssey.trained(own, cell, 3, rate=0.01, updates=3, seed=1, device=device)
        for device in ("cpu", "cuda")
    }
    for name, expected in found["cpu"].params.items():
        actual = found["cuda"].engine.download(found["cuda"].params[name])
        assert_close(actual, expected, "backward", name)
    assert own.score(found["cuda"], "test") == own.score(found["cpu"], "test")
