"""Losses against float64 NumPy; the fused kernel's traps: padding, ties, NaN, large logits."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

from lstm_numba.engines.cpu.losses import softmax_cross_entropy
from lstm_numba.nn.losses import cross_entropy, mean_squared_error, regression_loss, softmax

DTYPES = [np.float32, np.float64]


def _expected(logits: Any, targets: Any, weights: Any) -> tuple[float, Any]:
    """Loss and gradient by the definition, in extended precision where the machine has it."""
    z = logits.astype(np.longdouble)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(z))
    loss = -(weights * np.log(p[rows, targets])).sum()
    p[rows, targets] -= 1
    return float(loss), (weights[:, None] * p).astype(np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "classes"), [(1, 1), (1, 2), (3, 10), (7, 127), (5, 128), (4, 1000), (2, 10007)]
)
def test_cross_entropy_matches_definition(dtype: Any, rows: int, classes: int) -> None:
    rng = np.random.default_rng(rows * classes)
    logits = (4 * rng.standard_normal((rows, classes))).astype(dtype)
    bias = rng.standard_normal(classes).astype(dtype)
    targets = rng.integers(0, classes, rows).astype(np.int32)
    weights = rng.uniform(0.5, 2, rows)
    kept = logits.copy()
    loss, gradient, correct = softmax_cross_entropy(logits, targets, scale=0.25, weights=weights, bias=bias)
    biased = logits + bias
    expected_loss, expected_gradient = _expected(biased, targets, weights)
    assert_close(np.array(loss), np.array(expected_loss), "loss", "loss", dtype)
    assert_close(gradient, 0.25 * expected_gradient, "loss", "gradient", dtype)
    assert correct == np.count_nonzero(biased.argmax(axis=1) == targets)
    np.testing.assert_array_equal(logits, kept)


@pytest.mark.parametrize("dtype", DTYPES)
def test_overwrite_and_no_gradient_give_the_same_bits(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((6, 300)).astype(dtype)
    targets = rng.integers(0, 300, 6)
    loss, gradient, correct = softmax_cross_entropy(logits, targets)
    scratch = logits.copy()
    loss2, gradient2, correct2 = softmax_cross_entropy(scratch, targets, overwrite=True)
    assert gradient2 is scratch
    np.testing.assert_array_equal(gradient, gradient2)
    loss3, gradient3, correct3 = softmax_cross_entropy(logits, targets, gradient=False)
    assert gradient3 is None
    assert loss == loss2 == loss3
    assert correct == correct2 == correct3


def test_gradient_is_the_central_difference_of_the_loss() -> None:
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((3, 5))
    targets = np.array([4, 0, 2])
    weights = np.array([1.0, 0.5, 2.0])
    _, gradient, _ = softmax_cross_entropy(logits, targets, weights=weights)
    differences = np.empty_like(logits)
    for index in np.ndindex(*logits.shape):
        moved = logits.copy()
        moved[index] += 1e-5
        up = softmax_cross_entropy(moved, targets, weights=weights)[0]
        moved[index] -= 2e-5
        differences[index] = (up - softmax_cross_entropy(moved, targets, weights=weights)[0]) / 2e-5
    assert_close(gradient, differences, "central differences", "gradient")


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_is_accurate_over_its_whole_range(dtype: Any) -> None:
    """Each row is (0, x): its gradient holds exp(x) / (1 + exp(x))."""
    x = np.concatenate([np.linspace(-87, 0, 20001), -np.logspace(-8, 0, 500)]).astype(dtype)
    logits = np.stack([np.zeros_like(x), x], axis=1)
    _, gradient, _ = softmax_cross_entropy(logits, np.zeros(len(x), int))
    assert gradient is not None
    exponential = np.exp(x.astype(np.float64))
    expected = exponential / (1 + exponential)
    ulp = np.finfo(dtype).eps
    np.testing.assert_allclose(gradient[:, 1], expected, rtol=3 * ulp, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits(dtype: Any) -> None:
    big = np.finfo(dtype).max / 4
    logits = np.array([[big, -big, 0.0], [-big, -big, -big], [1000.0, 999.0, -np.inf]], dtype)
    loss, gradient, _ = softmax_cross_entropy(logits, np.array([0, 1, 1]))
    assert gradient is not None
    expected = np.log(3.0) + np.log1p(np.e)  # rows: certain, uniform, odds 1 : e
    assert loss == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient[0], 0, atol=1e-30)
    np.testing.assert_allclose(gradient[1], [1 / 3, -2 / 3, 1 / 3], rtol=1e-6)
    assert gradient[2, 2] == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 77, 149])
def test_nan_and_infinity_stay_visible(dtype: Any, bad: float, place: int) -> None:
    logits = np.zeros((2, 150), dtype)
    logits[1, place] = bad
    loss, _, correct = softmax_cross_entropy(logits, np.array([0, 3]))
    assert not np.isfinite(loss)
    assert correct == 1


def test_padding_counts_nothing_whatever_it_holds() -> None:
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((4, 6)).astype(np.float32)
    targets = np.array([1, -100, 3, 9999])
    weights = np.array([1, 0, 1, 0], np.float32)
    logits[1] = np.nan
    loss, gradient, correct = softmax_cross_entropy(logits, targets, weights=weights)
    alone = softmax_cross_entropy(logits[[0, 2]], targets[[0, 2]])
    assert alone[1] is not None
    assert gradient is not None
    assert loss == alone[0]
    assert correct == alone[2]
    np.testing.assert_array_equal(gradient[[0, 2]], alone[1])
    np.testing.assert_array_equal(gradient[[1, 3]], 0)


def test_a_tie_goes_to_the_first_as_in_argmax() -> None:
    logits = np.array([[1.0, 3.0, 3.0, 0.0]] * 3)
    assert softmax_cross_entropy(logits, np.array([1, 2, 0]))[2] == 1


@pytest.mark.parametrize(
    ("logits", "targets", "options", "text"),
    [
        (np.zeros((2, 3)), [0, 3], {}, "targets: expected values from 0 to 2, got 3"),
        (np.zeros((2, 3)), [-1, 0], {}, "targets: expected values from 0 to 2, got -1"),
        (np.zeros((2, 3)), [0], {}, r"targets: expected shape \(2,\), got \(1,\)"),
        (np.zeros((2, 3)), [0.0, 1.0], {}, "targets: expected integers, got float64"),
        (np.zeros((2, 3), np.int64), [0, 1], {}, "logits: expected float32 or float64, got int64"),
        (np.zeros(3), [0], {}, r"logits: expected shape \(N, V\)"),
        (np.zeros((3, 2)).T, [0, 1], {}, "logits: expected a C-contiguous array"),
        (np.zeros((2, 3)), [0, 1], {"weights": [1, -1]}, "weights: expected finite numbers"),
        (np.zeros((2, 3)), [0, 1], {"weights": [1]}, r"weights: expected shape \(2,\)"),
        (np.zeros((2, 3)), [0, 1], {"bias": np.zeros(2)}, r"bias: expected shape \(3,\), got \(2,\)"),
    ],
)
def test_bad_arguments_are_named(logits: Any, targets: Any, options: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        softmax_cross_entropy(logits, np.array(targets), **options)


def test_softmax_in_any_shape() -> None:
    logits = np.array([[[0.0, np.log(3.0)], [1000.0, 1000.0]]])
    np.testing.assert_allclose(softmax(logits), [[[0.25, 0.75], [0.5, 0.5]]], rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_squared_error(dtype: Any) -> None:
    rng = np.random.default_rng(4)
    prediction = rng.standard_normal((3, 4, 2)).astype(dtype)
    target = rng.standard_normal((3, 4, 2)).astype(dtype)
    loss, gradient = mean_squared_error(prediction, target, scale=0.5)
    difference = prediction.astype(np.float64) - target
    assert_close(np.array(loss), np.array((difference**2).sum() / 24), "loss", "loss", dtype)
    assert_close(gradient, 0.5 * 2 * difference / 24, "loss", "gradient")
    assert gradient.dtype == dtype
    with pytest.raises(ValueError, match=r"target: expected shape \(3, 4, 2\), got \(3, 4\)"):
        mean_squared_error(prediction, target[..., 0])


_BITS = """
import hashlib
import numpy as np
from lstm_numba.engines.cpu.clipping import global_norm
from lstm_numba.engines.cpu.reductions import column_sums
from lstm_numba.engines.cpu.losses import softmax_cross_entropy
from lstm_numba.optim.optimizers import Adam
rng = np.random.default_rng(0)
logits = (3 * rng.standard_normal((50, 3000))).astype(np.float32)
loss, gradient, _ = softmax_cross_entropy(logits, rng.integers(0, 3000, 50), scale=0.05)
params = {"p": logits.copy()}
Adam(params).step({"p": gradient}, scale=0.3)
digest = hashlib.sha256(gradient)
digest.update(column_sums(gradient))
digest.update(params["p"])
print(loss.hex(), global_norm({"p": gradient}).hex(), digest.hexdigest())
"""


def test_same_bits_compiled_cached_and_on_one_thread(tmp_path: Any) -> None:
    """The code that LLVM makes differs between a process that compiles and one that loads from the cache."""

    def run(**more: str) -> str:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **more}
        done = subprocess.run(
            [sys.executable, "-c", _BITS], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    compiled = run()
    assert len(compiled.split()) == 3
    assert run() == compiled
    assert run(NUMBA_NUM_THREADS="1") == compiled


def _number_losses(prediction: Any, target: Any, loss: str) -> Any:
    """Loss of every target, by the definition."""
    if loss == "quantile":
        under = target[..., None] - prediction
        return np.maximum(np.multiply((0.1, 0.5, 0.9), under), np.multiply((-0.9, -0.5, -0.1), under)).mean(
            -1
        )
    if loss == "gaussian":
        variance = np.exp(prediction[..., 1]) + 1e-6
        return 0.5 * (np.log(2 * np.pi * variance) + (target - prediction[..., 0]) ** 2 / variance)
    error = np.abs(prediction - target)
    return {
        "mse": error**2,
        "mae": error,
        "huber": np.where(error <= 1, 0.5 * error**2, error - 0.5),
    }[loss]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "quantile", "gaussian"])
def test_losses_of_numbers_match_their_definitions(loss: str, dtype: Any) -> None:
    rng = np.random.default_rng(4)
    target = 2 * rng.standard_normal((7, 3))
    more = {"quantile": (3,), "gaussian": (2,)}.get(loss, ())
    prediction = rng.standard_normal((7, 3, *more)).astype(dtype)
    weights = rng.integers(3, size=(7, 3)).astype(np.float64)
    target[weights == 0] = np.nan
    kept = prediction.copy()
    found, gradient = regression_loss(prediction, target, loss, weights=weights)
    np.testing.assert_array_equal(prediction, kept)
    assert gradient.shape == prediction.shape
    assert gradient.dtype == dtype

    def mean(p: Any) -> float:
        return float(np.nansum(weights * _number_losses(p, target, loss)) / weights.sum())

    exact = prediction.astype(np.float64)
    assert_close(found, mean(exact), "loss", dtype=np.float32)
    differences = np.empty(exact.shape)
    for place in np.ndindex(exact.shape):
        up, down = exact.copy(), exact.copy()
        up[place] += 1e-6
        down[place] -= 1e-6
        differences[place] = (mean(up) - mean(down)) / 2e-6
    assert_close(gradient.astype(np.float64), differences, "central differences")


def test_losses_of_numbers_show_nan_where_it_counts() -> None:
    for loss in ("mse", "mae", "huber"):  # and of a weight of zero not
        found, gradient = regression_loss(np.array([1.0, np.nan]), np.zeros(2), loss)
        assert np.isnan(found)
        assert np.isnan(gradient[1])
        found, gradient = regression_loss(
            np.array([1.0, np.nan]), np.zeros(2), loss, weights=np.array([1, 0])
        )
        assert np.isfinite(found)
        assert gradient[1] == 0


def test_cross_entropy_is_a_mean_over_steps() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    logits, labels = rng.standard_normal((4, 3, 5)), rng.integers(5, size=(4, 3))
    weights = rng.integers(2, size=(4, 3)).astype(float)
    theirs = torch.tensor(logits, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(
        theirs.reshape(-1, 5), torch.tensor(labels.reshape(-1)), reduction="none"
    )
    expected = (losses * torch.tensor(weights.reshape(-1))).sum() / weights.sum()
    expected.backward()
    loss, gradient = cross_entropy(logits, labels, weights=weights)
    assert_close(loss, expected.item(), "forward")
    assert_close(gradient, theirs.grad.numpy(), "backward")


def test_refusals_of_losses_from_python() -> None:
    numbers = np.zeros((3, 2))
    for arguments, words in (
        ((numbers, numbers[:2]), r"prediction: expected shape \(2, 2\)"),
        ((numbers, numbers, "quantile"), r"prediction: expected shape \(3, 2, 3\)"),
        ((numbers, numbers, "l2"), "loss: expected one of"),
    ):
        with pytest.raises(ValueError, match=words):
            regression_loss(*arguments)
    with pytest.raises(ValueError, match="positive weight"):
        regression_loss(numbers, numbers, weights=np.zeros((3, 2)))
    with pytest.raises(TypeError, match="prediction: expected"):
        regression_loss(numbers.astype(int), numbers)
