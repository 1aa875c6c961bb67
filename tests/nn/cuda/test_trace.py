"""Traces on the device, beside the CPU's, which are tested against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recurrent_problems import Case, Problem, pack
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.engines.cuda.memory import download, upload

CASE = Case(3, 2, 2, 4, 2, True, (3, 1))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm", {"heads": 2, "zoneout": 0.2}),
        ("gru", {"batch_first": True}),
        ("slstm", {}),
        ("layer-norm-lstm", {}),
        ("lstm-projected", {"proj_size": 3}),
        ("clockwork", {}),
    ],
)
def test_values_are_the_processors(name: str, options: dict[str, Any]) -> None:
    found = []
    for device in ("cuda", "cpu"):
        p = Problem(name, CASE, np.float64, device=device, **options)
        x = p.x.transpose(1, 0, 2).copy() if p.layer.batch_first else p.x
        found.append(p.layer.trace(x, pack(p.states), CASE.lengths))
    device, expected = found
    assert list(device) == list(expected)
    for key, value in expected.items():
        assert_close(device[key], value, "forward", key)
        assert value.any(), key


def test_device_arrays_stay_on_the_device() -> None:
    rnn = ln.GRU(2, 3, seed=0, device="cuda")
    x = np.random.default_rng(0).standard_normal((3, 2, 2)).astype(np.float32)
    y, _ = rnn(x)
    found = rnn.trace(upload(x))
    assert not any(isinstance(value, np.ndarray) for value in found.values())
    np.testing.assert_array_equal(download(found["h_l0"]), y)
