"""The vectorised nonlinearities against NumPy in extended precision, edges included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from tolerances import assert_close

from lstm_numba.cells import CELLS
from lstm_numba.cells.activations import positive, relu, sigmoid, tanh
from lstm_numba.cpu.arrays import address
from lstm_numba.cpu.dispatch import load_vector
from lstm_numba.cpu.options import SERIAL
from lstm_numba.cpu.simd import pointer_to, store_vectors
from lstm_numba.cpu.target import lanes


@njit(**{**SERIAL, "cache": False})
def _apply(cell: Any, x: Any, out: Any, size: int, zero: Any, lane: int) -> None:
    source, target = pointer_to(x, zero), pointer_to(out, zero)
    for at in range(0, size, lane):
        (v,) = load_vector(cell, source, at, 0, size - at)
        store_vectors(target, at, size, (sigmoid(v), tanh(v), relu(v), positive(v)), size - at)


def _run(x: np.ndarray) -> np.ndarray:
    out = np.full((4, x.size), np.nan, x.dtype)
    _apply(CELLS["lstm"], address(x), address(out), x.size, x.dtype.type(0), lanes(x.dtype))
    return out


EDGES = [0.0, -0.0, 1e-30, -1e-30, 88.0, -88.0, 1e4, -1e4, 710.0, -746.0, np.inf, -np.inf]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_against_extended_precision(dtype: str) -> None:
    x = np.concatenate([np.linspace(-30, 30, 40_001), np.linspace(-1e-3, 1e-3, 777), EDGES]).astype(dtype)
    wide = x.astype(np.longdouble)
    with np.errstate(over="ignore"):
        expected = [1 / (1 + np.exp(-wide)), np.tanh(wide), np.maximum(wide, 0), (wide > 0) * 1.0]
    for name, got, truth in zip(("sigmoid", "tanh", "relu", "positive"), _run(x), expected, strict=True):
        finite = np.isfinite(truth)
        assert_close(got[finite], truth[finite], "activation", name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relative_precision_near_zero(dtype: str) -> None:
    """1 - 2 / (exp(2x) + 1) would lose it all here."""
    x = np.geomspace(1e-20, 1e-2, 500).astype(dtype)
    error = np.abs(_run(x)[1].astype(np.longdouble) / np.tanh(x.astype(np.longdouble)) - 1)
    assert error.max() < 2 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_stays_nan_and_spoils_no_neighbour(dtype: str) -> None:
    x = np.linspace(-2, 2, 37).astype(dtype)
    clean = _run(x)
    x[5] = np.nan
    dirty = _run(x)
    assert np.isnan(dirty[:3, 5]).all()
    keep = np.arange(37) != 5
    np.testing.assert_array_equal(dirty[:, keep], clean[:, keep])


def test_plain_functions_are_the_same_functions() -> None:
    x = np.linspace(-40, 40, 161)
    out = _run(x)
    for n, function in enumerate((sigmoid, tanh, relu, positive)):
        assert_close(out[n], np.array([function(float(v)) for v in x]), "activation", function.__name__)
