"""How a sequence's kernels are launched: launch mode, tile and grid; and missing states and gradients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_tools import download, normal

from lstm_numba.cells import CELLS
from lstm_numba.engines.cuda import launch, memory, plans
from lstm_numba.engines.cuda.driver import DeviceLimits
from lstm_numba.engines.cuda.layout import COUNTER_STRIDE, CooperativeGrid, SingleBlock
from lstm_numba.engines.cuda.specialize import FourRows, OneRow
from lstm_numba.errors import DeviceError
from lstm_numba.nn.layers import make_layer


def plan(
    monkeypatch: pytest.MonkeyPatch, batch: int, hidden: int, fit: int = 264, shared: int = 1 << 20
) -> Any:
    """The choice for an LSTM in float32 where `fit` blocks are on the device at the same time."""
    monkeypatch.setattr(plans, "limits", lambda: launch.Limits())
    monkeypatch.setattr(plans, "cooperative_blocks", lambda *args: fit)
    monkeypatch.setattr(plans, "device_limits", lambda: DeviceLimits(132, shared, (9, 0)))
    sizes, arrays = SimpleNamespace(batch=batch, hidden=hidden), SimpleNamespace(h=np.empty(0, np.float32))
    return plans.general_plan(False, CELLS["lstm"], sizes, (arrays,))


@pytest.mark.parametrize(
    ("batch", "hidden", "mode", "grid", "tile"),
    [
        (128, 128, CooperativeGrid, (4, 32), FourRows),  # on an H100 203 µs; 494 as SingleBlock
        (20, 650, CooperativeGrid, (21, 5), FourRows),
        (20, 1500, CooperativeGrid, (47, 5), FourRows),
        (20, 200, CooperativeGrid, (7, 20), OneRow),  # all tiles at once: 107 µs; 137 with four rows
        (1, 256, CooperativeGrid, (8, 1), OneRow),
        (20, 32, SingleBlock, (1, 20), OneRow),  # nothing to share
        (4000, 64, SingleBlock, (1, 1000), FourRows),  # no block is idle, and no barrier needed
    ],
)
def test_launch_mode(
    batch: int, hidden: int, mode: type, grid: Any, tile: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plan(monkeypatch, batch, hidden)
    assert (type(found.mode), found.grid) == (mode, grid)
    assert type(found.tile) is tile


def test_more_tiles_than_blocks_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(monkeypatch, 20, 1500, fit=132).grid == (47, 2)
    assert plan(monkeypatch, 20, 1500, fit=40).grid == (40, 1)
    assert plan(monkeypatch, 300_000, 32).grid == (1, 65_535)


def test_shared_memory_decides_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    row = 32 * 8 * 4 * 4
    assert type(plan(monkeypatch, 20, 650, shared=4 * row).tile) is FourRows
    found = plan(monkeypatch, 20, 650, shared=4 * row - 1)
    assert (type(found.tile), found.shared, found.grid) == (OneRow, row, (21, 12))
    with pytest.raises(DeviceError, match=r"LSTM.*: no block .* takes 4,096 bytes of shared memory of 4,095"):
        plan(monkeypatch, 20, 650, shared=row - 1)
    with pytest.raises(DeviceError, match="no block"):
        plan(monkeypatch, 20, 650, fit=0)


@pytest.mark.parametrize("name", ["lstm", "gru-reset-before"])
def test_both_modes_give_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several rows of a cooperative grid, each with its own barrier; the counters are zero afterwards."""
    launched: list[Any] = []
    results: list[Any] = []
    real = plans.launch

    def spy(kernel: Any, grid: Any, block: Any, *args: Any, **options: Any) -> None:
        launched.append((grid, options["cooperative"]))
        real(kernel, grid, block, *args, **options)

    monkeypatch.setattr(plans, "launch", spy)
    lanes = launch.limits().lanes
    for forced, across in ((CooperativeGrid, 2), (SingleBlock, 1)):
        monkeypatch.setattr(plans, "FORCED_MODE", forced)
        layer = make_layer(name, 3, lanes + 1, device="cuda", seed=1)
        y, _, tape = layer.forward(normal((4, 12, 3), np.float32))
        dx, _, grads = layer.backward(tape, normal((4, 12, lanes + 1), np.float32))
        for (columns, rows), together in launched[-2:]:
            assert (columns, together) == (across, forced is CooperativeGrid)
            assert rows in (3, 12)  # tiles of four rows, or of one where all of them run at once
        results.append([y, dx, *map(download, grads.values())])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.any(download(memory.counters(12 * COUNTER_STRIDE)))


@pytest.mark.parametrize("name", ["lstm", "peephole", "gru", "gru-reset-before"])
@pytest.mark.parametrize("bias", [False, True])
def test_none_means_zeros(name: str, bias: bool) -> None:
    layer = make_layer(name, 3, 5, 2, bias=bias, bidirectional=True, device="cuda", seed=1)
    x, dy = normal((4, 3, 3), np.float32), normal((4, 3, 10), np.float32, 1)
    zeros = np.zeros((4, 3, 5), np.float32)
    count = len(layer.cell.states)
    state = zeros if count == 1 else (zeros,) * count

    def everything(start: Any, dout: Any, dend: Any) -> list[Any]:
        y, final, tape = layer.forward(x, start)
        dx, dfirst, grads = layer.backward(tape, dout, dend)
        finals = [*final, *dfirst] if count > 1 else [final, dfirst]
        return [y, dx, *finals, *map(download, grads.values())]

    given = [everything(state, dy, state), everything(state, np.zeros_like(dy), state)]
    none = [everything(None, dy, None), everything(None, None, None)]
    for expected, actual in zip(given, none, strict=True):
        for a, b in zip(expected, actual, strict=True):
            np.testing.assert_array_equal(a, b)


def test_borrowed_parameters_give_the_same_gradients() -> None:
    layer = make_layer("lstm", 3, 5, 2, device="cuda", seed=1)
    x, dy = memory.upload(normal((4, 3, 3), np.float32)), memory.upload(normal((4, 3, 5), np.float32, 1))
    results = []
    for copy in (False, True):
        y, _, tape = layer.forward(x, copy=copy)
        dx, _, grads = layer.backward(tape, dy)
        results.append([download(array) for array in (y, dx, *grads.values())])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
