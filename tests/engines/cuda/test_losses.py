"""Softmax cross-entropy on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, normal, totals, upload
from tolerances import assert_close

from lstm_numba.engines import number_losses as kinds
from lstm_numba.engines.cpu.losses import softmax_cross_entropy as softmax_cross_entropy_of_cpu
from lstm_numba.engines.cpu.number_losses import number_loss as number_loss_of_cpu
from lstm_numba.engines.cuda.losses import softmax_cross_entropy
from lstm_numba.engines.cuda.number_losses import number_loss


def compare(
    logits: Any,
    targets: Any,
    *,
    scale: float = 1.0,
    weights: Any = None,
    bias: Any = None,
    gradient: bool = True,
) -> Any:
    """Compare loss, hits and gradient of both devices; return the device's totals and logits."""
    loss, expected, correct = softmax_cross_entropy_of_cpu(
        logits, targets, scale=scale, weights=weights, bias=bias, gradient=gradient
    )
    device, sums = upload(logits), totals(10, 20, 30)
    softmax_cross_entropy(
        device, upload(targets), sums, scale=scale, gradient=gradient,
        weights=None if weights is None else upload(weights), bias=None if bias is None else upload(bias),
    )  # fmt: skip
    result = download(sums)
    dtype = logits.dtype
    assert_close(result[0] - 10, loss, "loss", "loss", np.float32 if dtype == np.float32 else np.float64)
    assert result[1] == 20 + correct
    assert result[2] == 30
    assert_close(download(device), logits if expected is None else expected, "loss", "gradient")
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    "shape", cases([(1, 1), (5, 3), (3, 17), (2, 4)], [(400, 10000), (3000, 50)]), ids=str
)
def test_matches_cpu(shape: Any, biased: bool, dtype: Any) -> None:
    rows, classes = shape
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal(shape)).astype(dtype)
    targets = rng.integers(0, classes, rows)
    targets[::2] = logits[::2].argmax(axis=1)
    bias = rng.standard_normal(classes).astype(dtype) if biased else None
    compare(logits, targets, scale=0.5, weights=rng.uniform(0.1, 2, rows), bias=bias)
    compare(logits, targets, bias=bias)


def test_without_gradient_the_logits_stay() -> None:
    compare(normal((4, 6), np.float32), np.array([0, 5, 2, 1]), gradient=False)


def test_padding() -> None:
    logits = normal((4, 6), np.float32)
    logits[1] = np.nan
    targets = np.array([2, -(10**9), 3, 10**9])
    weights = np.array([1.0, 0.0, 0.5, 0.0])
    compare(logits, targets, weights=weights)


def test_nan_is_visible() -> None:
    for column in (0, 3, 5):
        logits, sums = normal((2, 6), np.float32), totals(0, 0)
        logits[1, column] = np.nan
        device = upload(logits)
        targets = np.array([logits[0].argmax(), np.nanargmax(logits[1])])
        softmax_cross_entropy(device, upload(targets), sums)
        np.testing.assert_array_equal(download(sums), [np.nan, 1])
        result = download(device)
        assert np.isfinite(result[0]).all()
        assert np.isnan(result[1]).all()


def test_the_first_of_equal_logits_counts() -> None:
    logits = np.zeros((4, 9), np.float32)
    logits[:, [2, 7]] = 1
    assert compare(logits, np.array([2, 7, 0, 8]))[1] == 21


@pytest.mark.filterwarnings("ignore:overflow")  # of NumPy, which the simulator calculates with
def test_extreme_logits() -> None:
    logits = np.array([[1e4, 0, -1e4], [-3e38, 3e38, 0], [-200, -100, -300]], np.float32)
    compare(logits, np.array([1, 1, 0]))


def test_no_rows() -> None:
    sums = totals(1, 2)
    none = upload(np.zeros((0, 5), np.float32)), upload(np.zeros(0, np.int64))
    softmax_cross_entropy(*none, sums)
    np.testing.assert_array_equal(download(sums), [1, 2])
    softmax_cross_entropy(*none, sums, start=True)
    np.testing.assert_array_equal(download(sums), [0, 0])


def test_too_many_classes() -> None:
    none = upload(np.zeros((0, 2**31), np.float32)), upload(np.zeros(0, np.int64))
    with pytest.raises(ValueError, match=r"logits: expected less than 2\*\*31 classes, got 2147483648"):
        softmax_cross_entropy(*none, totals(0, 0))


def test_totals_that_start_forget_what_they_held() -> None:
    logits, targets = normal((7, 6), np.float32), upload(np.arange(7) % 6)
    sums, expected = totals(np.nan, 3, np.inf, -1), totals(0, 0, 0, 0)
    softmax_cross_entropy(upload(logits), targets, sums, start=True)
    softmax_cross_entropy(upload(logits), targets, expected)
    np.testing.assert_array_equal(download(sums), download(expected))
    assert download(sums)[0] > 0


def test_same_bits_again() -> None:
    results = []
    for _ in range(2):
        sums, logits = totals(0, 0), upload(normal((9, 13), np.float32))
        softmax_cross_entropy(logits, upload(np.arange(9)), sums)
        results.append((download(sums), download(logits)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", kinds.NUMBER_LOSSES)
@pytest.mark.parametrize("shape", cases([(1, 1), (7, 3)], [(400, 48)]), ids=str)
def test_losses_of_numbers_match_cpu(shape: Any, name: str, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    loss, (rows, count) = kinds.number_loss(name), shape
    predictions = (2 * rng.standard_normal((rows, count * loss.width))).astype(dtype)
    bias = rng.standard_normal(count * loss.width).astype(dtype)
    weights = rng.integers(3, size=shape).astype(np.float64)
    predictions[0, 0] = np.nan if weights[0, 0] == 0 else predictions[0, 0]
    given = rng.standard_normal(shape), weights, np.array(loss.levels)
    for gradient in (False, True):
        device, sums, expected = upload(predictions), totals(10, 20, 30), predictions.copy()
        truth = number_loss_of_cpu(expected, bias, given, loss.kind, scale=0.5, gradient=gradient)
        arrays = tuple(map(upload, given))
        number_loss(device, upload(bias), arrays, loss.kind, sums, scale=0.5, gradient=gradient)
        assert_close(download(sums), [truth, 0, 0], "loss", "loss", dtype)
        assert_close(np.nan_to_num(download(device)), np.nan_to_num(expected), "loss", "gradient")
