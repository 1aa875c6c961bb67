"""The vectorised nonlinearities against NumPy in extended precision, edges included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from scipy.special import erf
from tolerances import assert_close

from lstm_numba.cells import CELLS
from lstm_numba.cells.activations import FUNCTIONS, positive, relu, rsqrt, sigmoid, tanh
from lstm_numba.engines.cpu.cpu_features import lanes
from lstm_numba.engines.cpu.memory import address
from lstm_numba.engines.cpu.options import INLINE, SERIAL
from lstm_numba.engines.cpu.specialize import load_vector
from lstm_numba.engines.cpu.vector import pointer_to, store_vectors


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", [*FUNCTIONS, rsqrt], ids=lambda function: function.__name__)
def test_functions_against_extended_precision(function: Any, dtype: str) -> None:
    """Over the whole range: overflow to infinity, underflow, what is not defined, and a NaN."""

    @njit(**{**SERIAL, "cache": False})
    def apply(cell, x, out, size, zero, lane):  # type: ignore[no-untyped-def]
        source, target = pointer_to(x, zero), pointer_to(out, zero)
        for at in range(0, size, lane):
            (v,) = load_vector(cell, source, at, 0, size - at)
            store_vectors(target, at, 0, (function(v),), size - at)

    ends = [0.0, -0.0, 1e-20, -746.0, 710.0, 88.7, -103.9, np.inf, -np.inf, np.nan]
    info = np.finfo(dtype)
    ends += [info.tiny / 8, info.tiny, 1 + info.eps, 1 - info.eps, info.eps - 1, -1, -info.eps, 2.0**40]
    x = np.concatenate([np.linspace(-120, 120, 4001), np.linspace(0, 3, 999), ends]).astype(dtype)
    out = np.empty_like(x)
    apply(CELLS["lstm"], address(x), address(out), x.size, x.dtype.type(0), lanes(x.dtype))
    name = {"fabs": "abs", "atan": "arctan"}.get(function.__name__, function.__name__)
    with np.errstate(all="ignore"):
        wide = x.astype(np.longdouble)
        others = {"erf": lambda x: erf(x.astype(float)), "rsqrt": lambda x: 1 / np.sqrt(x)}
        truth = (others.get(name) or getattr(np, name))(wide)
        expected = truth.astype(dtype)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(out[~finite], expected[~finite])  # infinities and NaN
    error = np.abs(out[finite] - truth[finite]) / np.maximum(np.abs(truth[finite]), info.tiny)
    assert error.max() < 2.5 * info.eps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operators_min_max_and_powers_are_pythons(dtype: str) -> None:
    def equations(v: Any, w: Any) -> Any:
        total = +v
        total += w
        total -= 0.5
        total *= 2
        total /= 4
        return (total, max(v, w), min(v, w), max(v, 0.25), min(1, v), abs(-v), abs(v) ** 1.5, v**3 - v**2)

    compiled = njit(**INLINE)(equations)

    @njit(**{**SERIAL, "cache": False})
    def apply(cell, x, y, out, size, zero, lane):  # type: ignore[no-untyped-def]
        source, other, target = pointer_to(x, zero), pointer_to(y, zero), pointer_to(out, zero)
        for at in range(0, size, lane):
            (v,) = load_vector(cell, source, at, 0, size - at)
            (w,) = load_vector(cell, other, at, 0, size - at)
            store_vectors(target, at, size, compiled(v, w), size - at)

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 67)).astype(dtype)
    x[3], y[4] = np.nan, np.nan
    out = np.empty((8, x.size), dtype)
    apply(CELLS["lstm"], address(x), address(y), address(out), x.size, x.dtype.type(0), lanes(x.dtype))
    expected = np.array([equations(float(a), float(b)) for a, b in zip(x, y, strict=True)]).T
    np.testing.assert_allclose(out, expected, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


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
