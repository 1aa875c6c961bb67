"""Baselines find what is there to be found: known processes, seasons and classes; and formulas in one go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tolerances import assert_close

from lstm_numba.training.baselines import (
    LastValue,
    LogisticRidge,
    Majority,
    MeanValue,
    RidgeForecast,
    SeasonalNaive,
    guess_season,
    sequence_features,
)
from lstm_numba.training.logistic_ridge import logistic_loss

Array = npt.NDArray[np.float64]


def windows(series: Array, steps: int, horizon: int) -> tuple[Array, Array]:
    """Windows (N, T, F) of a series (L, F) and the first column of the H steps after, (N, H, 1)."""
    starts = np.arange(len(series) - steps - horizon + 1)
    x = series[starts[:, None] + np.arange(steps)]
    return x, series[starts[:, None] + steps + np.arange(horizon)][:, :, :1]


def in_batches(*arrays: Any, size: int = 64) -> Iterator[tuple[Any, ...]]:
    for first in range(0, len(arrays[0]), size):
        yield tuple(array[first : first + size] for array in arrays)


# Without fitting


@pytest.mark.smoke
def test_last_value_and_seasonal_naive() -> None:
    x = np.arange(24.0).reshape(2, 4, 3)  # first window: rows 0 1 2, 3 4 5, 6 7 8, 9 10 11
    last = LastValue([2, 0]).predict(x, 3)
    np.testing.assert_array_equal(last[0], [[11.0, 9.0]] * 3)
    np.testing.assert_array_equal(last[1], [[23.0, 21.0]] * 3)
    seasonal = SeasonalNaive([1], 3).predict(x, 5)
    np.testing.assert_array_equal(seasonal[0, :, 0], [4.0, 7.0, 10.0, 4.0, 7.0])
    np.testing.assert_array_equal(SeasonalNaive([2, 0], 1).predict(x, 3), last)


def test_seasonal_naive_is_perfect_on_a_season() -> None:
    series = np.tile([3.0, 1.0, 4.0, 1.0, 5.0], 20)[:, None]
    x, y = windows(series, 12, 7)
    np.testing.assert_array_equal(SeasonalNaive([0], guess_season([series]) or 0).predict(x, 7), y)


def test_mean_value() -> None:
    x = np.zeros((3, 4, 1))
    y, weights = np.array([[[1.0], [np.nan]], [[3.0], [6.0]], [[5.0], [8.0]]]), np.ones((3, 2, 1))
    weights[0, 1], weights[2, 0] = 0.0, 2.0
    mean = MeanValue().fit(in_batches(x, y, weights, size=2)).predict(x[:2])
    np.testing.assert_allclose(mean, [[[14.0 / 4.0], [7.0]]] * 2)
    assert MeanValue().fit([(x, y[:, 0])]).predict(x).tolist() == [[3.0]] * 3


def test_majority() -> None:
    found = Majority(3).fit([1, 2, 2, 1, 0, 2])
    np.testing.assert_allclose(found.probabilities(np.zeros((2, 5, 1))), [[1 / 6, 2 / 6, 3 / 6]] * 2)
    assert found.predict(np.zeros((4, 5, 1))).tolist() == [2, 2, 2, 2]
    assert Majority(3).fit([1, 2, 2], [3.0, 1.0, 1.0]).predict(np.zeros((1, 1, 1))).tolist() == [1]


# The season


@pytest.mark.parametrize(("season", "noise"), [(7, 0.3), (12, 0.5), (24, 0.5), (24, 0.0), (60, 0.3)])
def test_a_season_is_found(season: int, noise: float) -> None:
    rng = np.random.default_rng(season)
    shape = rng.standard_normal(season)
    shape = (shape - shape.mean()) / shape.std()
    steps = np.arange(8 * season)
    several = [
        5.0 * shape[(steps + k) % season] + 0.05 * steps + 5.0 * noise * rng.standard_normal(len(steps))
        for k in range(2)
    ]
    several[1][3:9] = np.nan
    assert guess_season(several) == season
    assert guess_season([np.stack(several, axis=1)]) == season


def test_a_sine_and_a_day_within_slow_weather() -> None:
    steps = np.arange(2000)
    assert guess_season([np.sin(2.0 * np.pi * steps / 24.0)]) == 24
    slow = 0.7 * np.sin(2.0 * np.pi * steps / 1400.0)
    assert guess_season([np.sin(2.0 * np.pi * steps / 24.0) + slow]) == 24
    # A ripple that hardly matters is no season.
    assert guess_season([0.1 * np.sin(2.0 * np.pi * steps / 10.0) + slow]) is None


def test_no_season_where_there_is_none() -> None:
    """Noise, a random walk, persistence and a damped oscillation: at most two mistakes in a hundred."""
    mistakes = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal(1000)
        walk = np.cumsum(noise)
        lasting, passing = np.zeros(1000), np.zeros(1000)
        for t in range(2, 1000):
            lasting[t] = 0.95 * lasting[t - 1] + noise[t]
            passing[t] = 1.593 * passing[t - 1] - 0.9025 * passing[t - 2] + noise[t]  # period 10.9
        for series in (noise[:30], walk, lasting, passing):
            mistakes += guess_season([series]) is not None
    assert mistakes <= 2


def test_too_little_for_a_season() -> None:
    day = np.sin(2.0 * np.pi * np.arange(60) / 24.0)
    assert guess_season([day]) is None  # two days and a half
    assert guess_season([]) is None
    assert guess_season([np.arange(50.0), np.full(50, 3.1)]) is None
    assert guess_season([np.full(50, np.nan), np.zeros(0)]) is None
    with pytest.raises(ValueError, match=r"series\[0\]: expected shape"):
        guess_season(np.arange(50.0))  # type: ignore[arg-type]


# Ridge


def noisy_process(length: int, noise: float) -> Array:
    """Column 0 follows itself and column 1, a known input far from zero; the noise is in the process."""
    rng = np.random.default_rng(length)
    drive, shock = rng.standard_normal((2, length))
    y = np.zeros(length)
    for t in range(2, length):
        y[t] = 1.2 * y[t - 1] - 0.5 * y[t - 2] + 0.8 * drive[t - 1] + noise * shock[t]
    return np.stack([1000.0 + 3.0 * y, 50.0 + 0.1 * drive], axis=1)


@pytest.mark.smoke
def test_ridge_recovers_a_linear_process_to_the_noise() -> None:
    """One step ahead the error is that of the shock, 3 * 0.2; further ahead that of the shocks in between."""
    x, y = windows(noisy_process(6000, 0.2), 8, 2)
    model = RidgeForecast().fit(
        in_batches(x[:4000], y[:4000]), in_batches(x[4000:5000], y[4000:5000], size=333)
    )
    error = np.sqrt(np.mean((model.predict(x[5000:]) - y[5000:]) ** 2, axis=0))[:, 0]
    # The second step also misses the input in between: 1.2 of the shock, the shock, and 0.8 of the input.
    expected = 3.0 * np.array([0.2, np.sqrt(0.2**2 * (1.0 + 1.2**2) + 0.8**2)])
    np.testing.assert_allclose(error, expected, rtol=0.05)
    np.testing.assert_allclose(model.predict(x[:1])[0, 0, 0], y[0, 0, 0], atol=3.0)


def directly(x: Array, y: Array, weights: Array, penalty: float) -> tuple[Array, float]:
    """Coefficients of one target by least squares on all rows, with the penalty as rows more."""
    share = weights / weights.sum()
    mean = share @ x
    scale = np.sqrt(share @ (x - mean) ** 2)
    z, middle = (x - mean) / scale, share @ y
    root = np.sqrt(share)[:, None]
    system = np.concatenate([root * z, np.sqrt(penalty) * np.eye(x.shape[1])])
    right = np.concatenate([root[:, 0] * (y - middle), np.zeros(x.shape[1])])
    w = np.linalg.lstsq(system, right, rcond=None)[0] / scale
    return w, middle - w @ mean


@pytest.mark.parametrize("kind", ["none", "windows", "targets"])
def test_ridge_against_least_squares_in_one_go(kind: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((90, 3, 2)) * [1.0, 100.0] + [5.0, -300.0]
    y = np.tensordot(x, rng.standard_normal((3, 2, 2, 2)), 2) + rng.standard_normal((90, 2, 2))
    weights = {
        "none": np.ones(y.shape),
        "windows": np.broadcast_to(rng.integers(0, 3, (90, 1, 1)), y.shape),
        "targets": rng.integers(0, 3, y.shape) * np.array([1, 0, 2])[rng.integers(0, 3, (90, 1, 1))],
    }[kind].astype(np.float64)
    given = np.where(weights > 0, y, np.nan)
    batches = in_batches(x, given, size=17) if kind == "none" else in_batches(x, given, weights, size=17)
    found = RidgeForecast(0.03).fit(batches).predict(x).reshape(90, 4)
    for k in range(4):
        w, b = directly(x.reshape(90, 6), y.reshape(90, 4)[:, k], weights.reshape(90, 4)[:, k], 0.03)
        np.testing.assert_allclose(found[:, k], x.reshape(90, 6) @ w + b, rtol=1e-9)


def test_ridge_leaves_out_what_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_numba.training import ridge

    rng = np.random.default_rng(2)
    x, y, weights = rng.standard_normal((40, 2, 1)), rng.standard_normal((40, 3, 1)), np.ones((40, 3, 1))
    weights[5:9, 1] = 0.0
    kept = np.r_[0:5, 9:40]
    monkeypatch.setattr(ridge, "_OWN_PRODUCTS", 0)
    model = RidgeForecast(0.1).fit(in_batches(x, y, weights, size=7))
    assert model.left_out == 4
    np.testing.assert_allclose(model.predict(x), RidgeForecast(0.1).fit([(x[kept], y[kept])]).predict(x))


def test_ridge_chooses_its_penalty_on_the_validation_windows() -> None:
    """Where there is nothing to learn the largest wins, where all is known the smallest."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((60, 10, 2)), rng.standard_normal((60, 1))
    assert RidgeForecast().fit([(x[:30], y[:30])], [(x[30:], y[30:])]).chosen == 1.0
    y = x.sum(axis=1)
    assert RidgeForecast().fit([(x[:30], y[:30])], [(x[30:], y[30:])]).chosen == 1e-6
    # Weights of the validation part count: only the first of its targets has a sense.
    mixed = np.where(np.arange(60)[:, None] < 45, y, rng.standard_normal(y.shape))
    part = (x[30:], mixed[30:], (np.arange(30, 60) < 45).astype(float))
    assert RidgeForecast().fit([(x[:30], y[:30])], [part]).chosen == 1e-6


def test_a_constant_column_has_no_say() -> None:
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.standard_normal((50, 2, 1)), np.full((50, 2, 1), 1e6 / 3.0)], axis=2)
    y = x[:, :, 0]
    model = RidgeForecast(1e-9).fit(in_batches(x, y, size=20))
    other = x.copy()
    other[:, :, 1] = 7.0
    np.testing.assert_allclose(model.predict(other), y, rtol=0, atol=1e-6)


BATCH = (np.zeros((4, 3, 2)), np.zeros((4, 1, 1)))


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([], "batches: expected at least one window"),
        ([(np.zeros((4, 3)), np.zeros(4))], r"y: expected shape \(N, H, M\) or \(N, M\), got \(4,\)"),
        ([(np.zeros(4), np.zeros((4, 1)))], "x: expected 2 or 3 axes"),
        ([(np.full((4, 3), np.nan), np.zeros((4, 1)))], "x: expected finite numbers, got nan"),
        ([(np.zeros((4, 3)), np.full((4, 1), np.nan))], "y: expected finite numbers, got nan"),
        ([(np.zeros((4, 3)), np.zeros((5, 1)))], "y: expected targets of 4 windows, got 5"),
        ([BATCH, (np.zeros((4, 3, 1)), BATCH[1])], r"x: expected windows of shape \(3, 2\), got \(3, 1\)"),
        (
            [BATCH, (BATCH[0], np.zeros((4, 2, 1)))],
            "6 numbers a window and 1 targets as in the first, got 6 and 2",
        ),
        ([(*BATCH, np.zeros(4))], "weights: expected some above 0 for each target, target 0 has none"),
        ([(*BATCH, -np.ones(4))], "weights: expected none below 0, got -1"),
        ([(*BATCH, np.ones(3))], r"weights: expected shape \(4, 1, 1\) or its beginning, got \(3,\)"),
        ([(np.zeros((1, 9000)), np.zeros((1, 1)))], "x: expected at most 8192 numbers a window, got 9000"),
    ],
)
def test_ridge_refuses(batches: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RidgeForecast(0.1).fit(batches)


def test_ridge_refuses_what_it_cannot_choose_or_solve() -> None:
    with pytest.raises(ValueError, match="validation: expected windows to choose out of 6 penalties"):
        RidgeForecast().fit([BATCH])
    with pytest.raises(ValueError, match="validation: expected at least one target"):
        RidgeForecast().fit([BATCH], [])
    for penalty in (-1.0, np.nan, ()):
        with pytest.raises(ValueError, match="penalty: expected"):
            RidgeForecast(penalty)  # type: ignore[arg-type]
    twice = np.repeat(np.arange(4.0)[:, None], 2, axis=1)
    with pytest.raises(ValueError, match="penalty: expected more than 0"):
        RidgeForecast(0.0).fit([(twice, twice)])
    with pytest.raises(ValueError, match="fit to be called first"):
        RidgeForecast(0.1).predict(BATCH[0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: LastValue([2]).predict(np.zeros((1, 4, 2)), 1), r"expected some of 0 to 1, got \[2\]"),
        (lambda: LastValue([0]).predict(np.zeros((4, 2)), 1), "x: expected 3 axes"),
        (lambda: LastValue([0]).predict(np.zeros((1, 4, 2)), 0), "horizon: expected an integer >= 1"),
        (lambda: LastValue([-1]), "target_columns: expected an integer >= 0"),
        (lambda: SeasonalNaive([0], 5).predict(np.zeros((1, 4, 2)), 1), "a season, 5 steps, got 4"),
        (lambda: MeanValue().fit([]), "batches: expected at least one target"),
        (lambda: MeanValue().predict(BATCH[0]), "fit to be called first"),
        (lambda: Majority(2).fit([0, 2]), "labels: expected 0 to 1, got 0 to 2"),
        (lambda: Majority(2).fit(np.zeros(0, int)), "weights: expected none below 0 and one above"),
        (lambda: Majority(2).predict(BATCH[0]), "fit to be called first"),
    ],
)
def test_others_refuse(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


# Classes


def test_gradient_of_the_logistic_loss() -> None:
    rng = np.random.default_rng(5)
    features, labels = rng.standard_normal((12, 4)), rng.integers(0, 3, 12)
    weights = rng.random(12)
    weights /= weights.sum()
    at = rng.standard_normal(15)
    _, gradient = logistic_loss(at, features, labels, weights, 0.3)
    step = 1e-5
    differences = [
        (
            logistic_loss(at + step * unit, features, labels, weights, 0.3)[0]
            - logistic_loss(at - step * unit, features, labels, weights, 0.3)[0]
        )
        / (2.0 * step)
        for unit in np.eye(15)
    ]
    assert_close(gradient, np.array(differences), "central differences")


def test_logistic_loss_by_hand() -> None:
    """At zero it is log K; with one feature of 2 and the factors 0 and 1 the classes are as 1 to e^2."""
    zero = logistic_loss(np.zeros(6), np.ones((4, 1)), np.array([0, 1, 2, 2]), np.full(4, 0.25), 1.0)[0]
    assert zero == pytest.approx(np.log(3.0))
    loss = logistic_loss(np.array([0.0, 1.0, 0.0, 0.0]), np.array([[2.0]]), np.array([0]), np.ones(1), 0.5)[0]
    assert loss == pytest.approx(np.log(1.0 + np.exp(2.0)) + 0.25)
    large = logistic_loss(np.array([0.0, 1e4, 0.0, 0.0]), np.array([[1.0]]), np.array([1]), np.ones(1), 0.0)[
        0
    ]
    assert large == 0.0


def classes_by_direction(count: int, lengths: Any = None) -> tuple[Array, npt.NDArray[np.int64]]:
    """Three classes which differ in the mean of two columns of very different units."""
    rng = np.random.default_rng(count)
    labels = rng.integers(0, 3, count)
    centre = np.array([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])[labels]
    steps = (centre[:, None] + rng.standard_normal((count, 9, 2))) * [1.0, 1e4] + [0.0, 1e6]
    if lengths is not None:
        steps[np.arange(9) >= lengths[:, None]] = 1e9  # must not be read
    return steps, labels


@pytest.mark.smoke
@pytest.mark.parametrize("ragged", [False, True])
def test_separable_classes(ragged: bool) -> None:
    lengths = np.random.default_rng(1).integers(4, 10, 300) if ragged else None
    x, labels = classes_by_direction(300, lengths)
    of = [
        None if lengths is None else lengths[part] for part in (slice(100), slice(100, 200), slice(200, 300))
    ]
    model = LogisticRidge(3).fit(
        x[:100], labels[:100], of[0], validation=(x[100:200], labels[100:200], of[1])
    )
    assert np.mean(model.predict(x[200:], of[2]) == labels[200:]) > 0.97
    chances = model.probabilities(x[200:], of[2])
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    assert -np.log(chances[np.arange(100), labels[200:]]).mean() < 0.1


def test_logistic_ridge_is_at_the_minimum_and_the_bias_is_free() -> None:
    """Without a use of the features the probabilities are the classes' shares, whatever the penalty."""
    x, labels = classes_by_direction(100)
    shares = np.bincount(labels) / 100.0
    huge = LogisticRidge(3, 1e6).fit(x, labels)
    np.testing.assert_allclose(huge.probabilities(x[:3]), [shares] * 3, atol=1e-4)
    weights = np.where(labels == 1, 3.0, 1.0)
    heavy = LogisticRidge(3, 1e6).fit(x, labels, weights=weights).probabilities(x[:1])[0]
    np.testing.assert_allclose(heavy, np.bincount(labels, weights) / weights.sum(), atol=1e-4)


def test_a_weight_of_zero_leaves_out() -> None:
    x, labels = classes_by_direction(60)
    wrong = labels.copy()
    wrong[:20] = -1
    weights = (np.arange(60) >= 20).astype(float)
    one = LogisticRidge(3, 0.01).fit(x, wrong, weights=weights).probabilities(x)
    other = LogisticRidge(3, 0.01).fit(x[20:], labels[20:]).probabilities(x)
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_sequence_features_by_hand() -> None:
    x = np.array([[[1.0, 0.0], [3.0, -1.0], [99.0, 99.0]], [[2.0, 2.0], [0.0, 2.0], [4.0, 5.0]]])
    found = sequence_features(x, [2, 3])
    np.testing.assert_allclose(found[0], [2.0, -0.5, 1.0, 0.5, 1.0, -1.0, 3.0, 0.0, 1.0, 0.0, 3.0, -1.0, 2.0])
    spread = np.std([2.0, 0.0, 4.0]), np.std([2.0, 2.0, 5.0])
    np.testing.assert_allclose(found[1], [2.0, 3.0, *spread, 0.0, 2.0, 4.0, 5.0, 2.0, 2.0, 4.0, 5.0, 3.0])


def test_logistic_ridge_refuses() -> None:
    x, labels = classes_by_direction(12)
    model = LogisticRidge(3, 0.1).fit(x, labels)
    with pytest.raises(
        ValueError, match="lengths: expected sequences of 9 steps as in training, got one of 8"
    ):
        model.predict(x[:2], [9, 8])
    with pytest.raises(ValueError, match="x: expected 2 features per step, got 1"):
        model.predict(x[:, :, :1])
    with pytest.raises(ValueError, match="lengths: expected 1 to 9, got 0 to 9"):
        model.predict(x[:2], [0, 9])
    with pytest.raises(ValueError, match="labels: expected those of 12 sequences, got 11"):
        LogisticRidge(3, 0.1).fit(x, labels[1:])
    with pytest.raises(ValueError, match="labels: expected 0 to 1, got 0 to 2"):
        LogisticRidge(2, 0.1).fit(x, labels)
    with pytest.raises(ValueError, match="validation: expected sequences to choose out of 5"):
        LogisticRidge(3).fit(x, labels)
    with pytest.raises(ValueError, match="penalty: expected"):
        LogisticRidge(3, -0.1)
    with pytest.raises(ValueError, match="classes: expected an integer >= 2"):
        LogisticRidge(1)
    with pytest.raises(ValueError, match="fit to be called first"):
        LogisticRidge(3).predict(x)
