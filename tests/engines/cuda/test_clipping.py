"""Gradient norms and clipping on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, normal, totals, upload

from lstm_numba.engines.cpu import clipping as cpu
from lstm_numba.engines.cuda.clipping import clip_by_norm, clip_by_value
from lstm_numba.engines.sparse import SparseRows


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


def both(grads: Any, max_norm: float | None = None, loss: float = 1.0) -> Any:
    """Norm and factor."""
    sums = totals(loss, 7, np.nan, np.nan)
    clip_by_norm(grads, sums, 2, 3, max_norm)
    result = download(sums)
    np.testing.assert_array_equal(result[:2], [loss, 7])
    return result[2:]


@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_of_all_gradients(dtype: Any) -> None:
    host, device = gradients(dtype)
    expected = cpu.global_norm(host)
    np.testing.assert_allclose(both(device), [expected, 1], rtol=1e-13)
    np.testing.assert_allclose(both(device, 0.25), [expected, 0.25 / expected], rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", cases([1, 3, 8, 61], [255, 257, 10**7 + 1]))
def test_norm_of_any_size(size: int, dtype: Any) -> None:
    array = normal(size, dtype)
    device = {"a": upload(array)}
    first = both(device)
    np.testing.assert_allclose(first[0], cpu.global_norm({"a": array}), rtol=1e-13)
    np.testing.assert_array_equal(both(device), first)


def test_norm_of_both_dtypes() -> None:
    host = {"a": normal(9, np.float32), "b": normal((2, 3), np.float64, 1), "c": normal(1, np.float32, 2)}
    norm = both({name: upload(array) for name, array in host.items()})[0]
    np.testing.assert_allclose(norm, cpu.global_norm(host), rtol=1e-13)


def test_norm_of_nothing() -> None:
    np.testing.assert_array_equal(both({}, 1.0), [0, 1])
    np.testing.assert_array_equal(both({"a": upload(np.zeros((0, 2), np.float32))}), [0, 1])


@pytest.mark.parametrize(("norm", "max_norm"), [(4.0, 0.25), (4.0, 4.0), (4.0, 9.0), (4.0, None), (0.0, 1.0)])
def test_factor(norm: float, max_norm: float | None) -> None:
    got = both({"a": upload(np.array([0, norm, 0]))}, max_norm)
    np.testing.assert_array_equal(got, [norm, cpu.clip_factor(norm, max_norm)])


@pytest.mark.parametrize("max_norm", [1.0, None])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_factor_is_nan_where_loss_or_norm_is_not_finite(wrong: float, max_norm: Any) -> None:
    array = normal(9, np.float32)
    assert np.isnan(both({"a": upload(array)}, max_norm, loss=wrong)[1])
    array[8] = wrong
    np.testing.assert_array_equal(both({"a": upload(array)}, max_norm), [wrong, np.nan])


def test_place_of_the_loss() -> None:
    grads = {"a": upload(np.ones(4))}
    sums = totals(1, np.nan, 2, 0)
    clip_by_norm(grads, sums, 2, 3, None)
    np.testing.assert_array_equal(download(sums), [1, np.nan, 2, 1])
    clip_by_norm(grads, sums, 2, 3, None, loss_index=1)
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
        clip_by_norm({}, totals(0, 0), 0, 1, 0.0)
    with pytest.raises(ValueError, match="limit"):
        clip_by_value({}, -1.0)
