"""Measures against numbers computed by hand, and against scikit-learn where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_numba import metrics

NAN = float("nan")


@pytest.mark.smoke
def test_errors_by_hand_without_the_missing() -> None:
    true, predicted = [[1.0, NAN], [4.0, -2.0]], [[2.0, 7.0], [2.0, -2.0]]
    assert metrics.mae(true, predicted) == pytest.approx(1.0)  # 1, 2, 0
    assert metrics.rmse(true, predicted) == pytest.approx(np.sqrt(5 / 3))
    # What is predicted for a missing value does not matter, not even that it is a number.
    assert metrics.mae(true, [[2.0, NAN], [2.0, -2.0]]) == pytest.approx(1.0)
    assert metrics.mae([1, 2], [3, 2]) == 1.0


def test_mase_by_hand() -> None:
    """Naive errors of the training series: 1, 3 and 2; with a season of two: 4."""
    training = [[1.0, 2.0, 5.0], [7.0, 5.0]]
    assert metrics.mase([10.0, 20.0], [11.0, 17.0], training) == pytest.approx(2.0 / 2.0)
    assert metrics.mase([10.0, 20.0], [11.0, 17.0], training, season=2) == pytest.approx(2.0 / 4.0)
    # A missing value takes two pairs with it.
    assert metrics.mase([1.0], [2.0], [[1.0, NAN, 3.0, 6.0]]) == pytest.approx(1.0 / 3.0)
    # Time is the first axis.
    assert metrics.mase([1.0], [2.0], [[[1.0, 10.0], [2.0, 13.0]]]) == pytest.approx(1.0 / 2.0)


def test_nse_by_hand() -> None:
    true = [1.0, 2.0, 3.0, NAN]
    assert metrics.nse(true, [1.0, 2.0, 3.0, 0.0]) == 1.0
    assert metrics.nse(true, [2.0, 2.0, 2.0, 9.0]) == pytest.approx(0.0)
    assert metrics.nse(true, [1.0, 3.0, 5.0, 0.0]) == pytest.approx(1.0 - 5.0 / 2.0)


def test_pinball_and_coverage_by_hand() -> None:
    true = np.array([2.0, 5.0, NAN])
    quantiles = np.array([[1.0, 3.0], [6.0, 5.0], [0.0, 0.0]])
    # Errors 1 and -1 at 0.1: 0.1, 0.9; -1 and 0 at 0.7: 0.3, 0.
    assert metrics.pinball(true, quantiles, (0.1, 0.7)) == pytest.approx(1.3 / 4.0)
    assert metrics.pinball([3.0], [[1.0]], [0.5]) == metrics.mae([3.0], [1.0]) / 2
    low, high = [1.0, 6.0, 0.0], [2.0, 7.0, 1.0]
    assert metrics.coverage(true, low, high) == 0.5
    assert metrics.coverage([5.0, 1.0], [6.0, 1.0], [4.0, 1.0]) == 0.5  # an interval that is upside down


def test_the_right_quantile_has_the_smallest_pinball_loss() -> None:
    values = np.random.default_rng(3).standard_exponential(20_000)
    for q in (0.1, 0.5, 0.9):
        tried = np.linspace(0.0, 4.0, 401)
        losses = [metrics.pinball(values, np.full((len(values), 1), t), [q]) for t in tried]
        assert tried[int(np.argmin(losses))] == pytest.approx(-np.log(1.0 - q), abs=0.05)


def test_labels_by_hand() -> None:
    true, predicted = [0, 0, 1, 1, 2], [0, 1, 1, 1, 0]
    assert metrics.accuracy(true, predicted) == pytest.approx(0.6)
    # F1: 2/4, 4/5, 0; class 3 is in neither and does not count.
    assert metrics.macro_f1(true, predicted, 4) == pytest.approx((0.5 + 0.8 + 0.0) / 3.0)
    # Class 2 is only predicted: it counts with 0.
    assert metrics.macro_f1([0, 1], [0, 2], 3) == pytest.approx(1.0 / 3.0)
    words = np.array(["a", "b", "b"])
    assert metrics.accuracy(words, ["a", "b", "long"]) == pytest.approx(2.0 / 3.0)
    assert metrics.macro_f1(words, ["a", "a", "b"], ["a", "b", "c"]) == pytest.approx(2.0 / 3.0)


def test_roc_auc_by_hand() -> None:
    """Pairs of a member and another: right, tied and wrong ones count 1, 1/2 and 0."""
    assert metrics.roc_auc([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.3]) == pytest.approx(2.5 / 4.0)
    both = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3]])
    assert metrics.roc_auc([0, 1, 0, 1], both) == pytest.approx(2.5 / 4.0)
    assert metrics.roc_auc([0, 0, 1], [2.0, 2.0, 2.0]) == 0.5
    # Three classes of which 0 and 2 occur: 0 against 2 by each one's own column.
    three = np.array([[0.6, 0.1, 0.3], [0.2, 0.2, 0.6], [0.3, 0.4, 0.3]])
    assert metrics.roc_auc([0, 2, 2], three) == pytest.approx((1.0 + 0.75) / 2.0)


@pytest.mark.parametrize("classes", [2, 4])
def test_against_scikit_learn(classes: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(classes)
    true = np.concatenate([np.arange(classes), rng.integers(0, classes, 200)])
    scores = rng.random((len(true), classes)).round(1) + 0.5 * np.eye(classes)[true] + 0.1
    chances = scores / scores.sum(axis=1, keepdims=True)
    predicted = np.argmax(chances, axis=1)
    theirs = sklearn.roc_auc_score(true, chances if classes > 2 else chances[:, 1], multi_class="ovr")
    assert metrics.roc_auc(true, chances) == pytest.approx(theirs, rel=1e-12)
    assert metrics.accuracy(true, predicted) == pytest.approx(sklearn.accuracy_score(true, predicted))
    assert metrics.macro_f1(true, predicted, classes) == pytest.approx(
        sklearn.f1_score(true, predicted, average="macro"), rel=1e-12
    )
    truth, guess = rng.standard_normal((2, 50))
    assert metrics.mae(truth, guess) == pytest.approx(sklearn.mean_absolute_error(truth, guess))
    assert metrics.rmse(truth, guess) ** 2 == pytest.approx(sklearn.mean_squared_error(truth, guess))
    assert metrics.nse(truth, guess) == pytest.approx(sklearn.r2_score(truth, guess))
    for q in (0.2, 0.9):
        assert metrics.pinball(truth, guess[:, None], [q]) == pytest.approx(
            sklearn.mean_pinball_loss(truth, guess, alpha=q)
        )


INFINITE = float("inf")


@pytest.mark.parametrize(
    ("call", "arguments", "words"),
    [
        ("mae", ([1.0], [1.0, 2.0]), r"predicted: expected shape \(1,\) as of the true values, got \(2,\)"),
        ("rmse", ([], []), "true: expected at least one value, got 0"),
        ("rmse", ([NAN, NAN], [1.0, 1.0]), "got 2, all missing"),
        ("mae", ([1.0], [NAN]), "predicted: expected finite numbers, got nan"),
        ("mae", ([INFINITE, 1.0], [1.0, 1.0]), "true: expected finite numbers or NaN"),
        ("mase", ([1.0], [1.0], [[1.0, 2.0]], 2), "training: expected values that are 2 steps apart"),
        ("mase", ([1.0], [1.0], []), "training: expected values"),
        ("mase", ([1.0], [1.0], [[3.0, 3.0]]), "training: repeats exactly after 1 steps"),
        ("mase", ([1.0], [1.0], [1.0, 2.0]), r"training\[0\]: expected shape \(T,\) or \(T, M\)"),
        ("mase", ([1.0], [1.0], [[1.0, 2.0]], 0), "season: expected an integer >= 1, got 0"),
        ("nse", ([2.0, 2.0], [1.0, 2.0]), "true: expected values that vary, got 2 only"),
        ("pinball", ([1.0], [[1.0]], [1.0]), "quantiles: expected numbers above 0 and below 1"),
        ("pinball", ([1.0], [1.0], [0.5]), r"quantile_predictions: expected shape \(1, 1\)"),
        ("coverage", ([1.0], [1.0], [[1.0]]), "high: expected shape"),
        ("coverage", ([1.0], [-INFINITE], [1.0]), "low: expected finite"),
        ("accuracy", ([1], [1, 2]), "predicted: expected shape"),
        ("accuracy", ([], []), "true: expected at least one label"),
        ("macro_f1", ([0, 3], [0, 1], 3), "true: expected labels out of"),
        ("macro_f1", (["a"], ["b"], ["a"]), "predicted: expected labels out of"),
        ("roc_auc", ([0, 1], [0.5]), r"true, probabilities: expected shapes"),
        ("roc_auc", ([1, 1], [0.5, 0.2]), "true: expected labels of two or more classes, got 1"),
        ("roc_auc", ([0, 2], [0.5, 0.2]), "true: expected labels 0 to 1, got 0 to 2"),
        ("roc_auc", ([0, 1], [NAN, 0.2]), "probabilities: expected finite"),
        ("roc_auc", ([0, 1], [[1.0], [0.2]]), "two or more classes, got 1 column"),
    ],
)
def test_bad_arguments(call: str, arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        getattr(metrics, call)(*arguments)


def test_other_types() -> None:
    with pytest.raises(TypeError, match="true: expected real numbers"):
        metrics.mae(["a"], [1.0])
    with pytest.raises(TypeError, match="predicted: expected an array without a mask"):
        metrics.mae([1.0], np.ma.masked_array([1.0], [True]))
    with pytest.raises(TypeError, match="true: expected integers or text, got float64"):
        metrics.accuracy([1.0], [1])
    with pytest.raises(TypeError, match="predicted: expected labels as the true ones"):
        metrics.accuracy([1], ["1"])
