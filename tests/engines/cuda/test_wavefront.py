"""When stacked layers run as a wavefront; that they then compute the same is tested in tests/nn."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba.cells import find_cell
from lstm_numba.engines.cuda import branches, launch, plans, wavefront
from lstm_numba.engines.cuda.driver import DeviceLimits

H100 = DeviceLimits(132, 232_448, (9, 0))


@pytest.fixture(autouse=True)
def _an_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plans, wavefront):
        monkeypatch.setattr(module, "device_limits", lambda: H100)
    monkeypatch.setattr(wavefront, "limits", launch.Limits)


def chunks(batch: int, steps: int, hidden: int, layers: int = 2, cell: str = "lstm") -> int:
    return wavefront.chunks(find_cell(cell), layers, steps, (batch, hidden, hidden), np.dtype(np.float32))


def test_long_sequences_that_leave_most_of_the_device_idle() -> None:
    assert chunks(1, 1000, 256) > 1
    assert chunks(1, 1000, 256, layers=4) > 1


@pytest.mark.parametrize(
    ("batch", "steps", "hidden", "layers"),
    [
        (128, 28, 128, 2),  # both layers need the whole device
        (20, 35, 1500, 2),
        (1, 20, 256, 2),  # the host would take longer
    ],
)
def test_one_layer_after_the_other(batch: int, steps: int, hidden: int, layers: int) -> None:
    assert chunks(batch, steps, hidden, layers) == 1


def test_general_kernels_are_no_part_of_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chunks(1, 1000, 256, cell="layer-norm-lstm") == 1
    monkeypatch.setenv(plans.VARIABLE, "general")
    assert chunks(1, 1000, 256) == 1


def test_not_where_everything_runs_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with branches.branches(2):
        assert chunks(1, 1000, 256) == 1
    assert chunks(1, 1000, 256) > 1
    monkeypatch.setenv(branches.VARIABLE, "0")
    assert chunks(1, 1000, 256) == 1
