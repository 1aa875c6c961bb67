"""Gradient norms and clipping on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, download, normal, totals, upload

from lstm_numba import clipping as cpu
from lstm_numba.gpu.clipping import clip_by_value, clip_factor, global_norm
from lstm_numba.sparse import SparseRows


def gradients(dtype: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gradients of both devices."""
    indices = np.array([0, 4], np.int64)
    host: dict[str, Any] = {
        "a": normal((3, 7), dtype),
        "b": normal(5, dtype, 1),
        "rows": SparseRows(indices, normal((2, 4), dtype, 2), (6, 4)),
        "none": np.zeros((0, 3), dtype),
    }
    device = {name: upload(g) for name, g in host.items() if name != "rows"}
    device["rows"] = SparseRows(upload(indices), upload(host["rows"].values), (6, 4))
    return host, device


@pytest.mark.parametrize("dtype", DTYPES)
def test_global_norm(dtype: Any) -> None:
    host, device = gradients(dtype)
    sums = totals(1, 2, 3)
    global_norm(device, sums, 1)
    np.testing.assert_allclose(download(sums), [1, cpu.global_norm(host), 3], rtol=1e-13)


def test_norm_of_nothing() -> None:
    sums = totals(5)
    global_norm({}, sums, 0)
    np.testing.assert_array_equal(download(sums), [0])


@pytest.mark.parametrize(("norm", "max_norm"), [(4.0, 0.25), (4.0, 4.0), (4.0, 9.0), (4.0, None), (0.0, 1.0)])
def test_clip_factor(norm: float, max_norm: float | None) -> None:
    sums = totals(1, 0, norm, 0)
    clip_factor(sums, 2, 3, max_norm)
    np.testing.assert_array_equal(download(sums), [1, 0, norm, cpu.clip_factor(norm, max_norm)])


@pytest.mark.parametrize("max_norm", [1.0, None])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_factor_is_nan_where_loss_or_norm_is_not_finite(place: int, wrong: float, max_norm: Any) -> None:
    numbers = [1.0, 0.0, 2.0, 0.0]
    numbers[place] = wrong
    sums = totals(*numbers)
    clip_factor(sums, 2, 3, max_norm)
    assert np.isnan(download(sums)[3])


def test_place_of_the_loss() -> None:
    sums = totals(1, np.nan, 2, 0)
    clip_factor(sums, 2, 3, None)
    assert download(sums)[3] == 1
    clip_factor(sums, 2, 3, None, loss_index=1)
    assert np.isnan(download(sums)[3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_by_value(dtype: Any) -> None:
    host, device = gradients(dtype)
    host["b"][:3] = np.nan, np.inf, -np.inf
    device["b"] = upload(host["b"])
    cpu.clip_by_value(host, 0.3)
    clip_by_value(device, 0.3)
    np.testing.assert_array_equal(download(device["a"]), host["a"])
    np.testing.assert_array_equal(download(device["b"]), host["b"])
    np.testing.assert_array_equal(download(device["rows"].values), host["rows"].values)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="max_norm"):
        clip_factor(totals(0, 0), 0, 1, 0.0)
    with pytest.raises(ValueError, match="limit"):
        clip_by_value({}, -1.0)
