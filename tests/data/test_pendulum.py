"""The generated pendulum: the same for ever, true to its equation, and what linear and other models make of
it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import solve_ivp
from scipy.special import ellipk

from lstm_numba.data import _exact, pendulum
from lstm_numba.metrics import rmse
from lstm_numba.training.baselines import LastValue, RidgeForecast

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def table() -> Any:
    return pendulum.table()


def digest(columns: dict[str, npt.NDArray[Any]]) -> str:
    found = hashlib.sha256()
    for name, column in columns.items():
        found.update(name.encode() + column.astype(column.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()


@pytest.mark.smoke
def test_the_same_for_ever(table: Any) -> None:
    assert digest(table) == "6acdc278d457783e32d8af6612d5a12975b8d187af02967c5407cb26180af63c"


def test_form(table: Any) -> None:
    assert list(table) == ["time", "torque", "angle"]
    for column in table.values():
        assert column.dtype == np.float64
        assert column.shape == (4000,)
    np.testing.assert_allclose(np.diff(table["time"]), 0.05, rtol=1e-9)
    assert table["time"][0] == 0.0
    np.testing.assert_allclose(table["angle"] * 10_000, np.rint(table["angle"] * 10_000), atol=1e-9)


def test_seeds_differ_and_lengths_do_not(table: Any) -> None:
    short, other = pendulum.table(steps=300), pendulum.table(seed=1, steps=300)
    for name in ("torque", "angle"):
        np.testing.assert_array_equal(short[name], table[name][:300])
        assert not np.array_equal(short[name], other[name])


def test_noise(table: Any) -> None:
    error = table["angle"] - pendulum.simulate(table["torque"])[0]
    assert np.std(error) == pytest.approx(pendulum.NOISE, rel=0.05)
    assert abs(np.mean(error)) < 4 * pendulum.NOISE / np.sqrt(4000)
    assert abs(np.corrcoef(error[1:], error[:-1])[0, 1]) < 4 / np.sqrt(4000)


def test_beyond_the_linear_but_not_over_the_top() -> None:
    for seed in range(6):
        angle = pendulum.table(seed)["angle"]
        assert 0.02 < np.mean(np.abs(angle) > 1.0) < 0.2
        assert np.max(np.abs(angle)) < np.pi


# Physics


def energy(angle: Array, velocity: Array) -> Array:
    return 0.5 * pendulum.INERTIA * velocity**2 + pendulum.GRAVITY * (1.0 - np.cos(angle))


def test_energy_decays_without_torque_and_stays_without_damping() -> None:
    still = np.zeros(600)
    decaying = energy(*pendulum.simulate(still, 2.5))
    assert np.diff(decaying).max() < 1e-6
    assert decaying[-1] < 1e-6 * decaying[0]
    kept = energy(*pendulum.simulate(still, 2.5, damping=0.0))
    np.testing.assert_allclose(kept, kept[0], rtol=2e-4)


def test_period_of_small_and_large_swings() -> None:
    """Small: 2 pi / sqrt(9.81) s; at 2 rad by the complete elliptic integral of the first kind."""
    for amplitude, stretch in ((0.01, 1.0), (2.0, 2.0 / np.pi * ellipk(np.sin(1.0) ** 2))):
        angle, _ = pendulum.simulate(np.zeros(400), amplitude, damping=0.0)
        up = np.flatnonzero((angle[:-1] < 0) & (angle[1:] >= 0))
        crossings = up - angle[up] / (angle[up + 1] - angle[up])
        period = np.diff(crossings).mean() / pendulum.RATE
        assert period == pytest.approx(stretch * 2.0 * np.pi / np.sqrt(9.81), rel=1e-3)


def test_against_another_integrator(table: Any) -> None:
    time, torque = table["time"][:400], table["torque"][:400]

    def slope(t: float, state: Any) -> tuple[float, float]:
        drive = np.interp(t, time, torque)
        return state[1], drive - 9.81 * np.sin(state[0]) - pendulum.DAMPING * state[1]

    exact = solve_ivp(slope, (0.0, time[-1]), (0.0, 0.0), t_eval=time, rtol=1e-9, atol=1e-10, max_step=0.05)
    angle, velocity = pendulum.simulate(torque)
    np.testing.assert_allclose(angle, exact.y[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(velocity, exact.y[1], rtol=0, atol=4e-4)


def test_sine_and_cosine() -> None:
    angles = np.linspace(-20.0, 20.0, 4001)
    np.testing.assert_allclose(_exact.sines(angles), np.sin(angles), rtol=0, atol=4e-15)
    np.testing.assert_allclose(_exact.cosines(angles), np.cos(angles), rtol=0, atol=4e-15)
    assert [_exact.sine(angle) for angle in angles.tolist()] == _exact.sines(angles).tolist()


# What models make of it


STEPS = 120
SPLITS = (slice(0, 2400), slice(2400, 3000), slice(3000, None))


def before(column: Array) -> Array:
    """The last `STEPS` values at each step, (T, STEPS), zeros before the first."""
    return np.lib.stride_tricks.sliding_window_view(np.concatenate([np.zeros(STEPS - 1), column]), STEPS)


def fitted(features: Array, y: Array) -> Array:
    """Predictions of the ridge regression from the training part, for all steps."""
    train, valid, _ = SPLITS
    model = RidgeForecast().fit([(features[train], y[train])], [(features[valid], y[valid])])
    return model.predict(features)


def test_a_linear_model_is_beaten_but_not_useless(table: Any) -> None:
    """Angle from the torque of six seconds: a linear model, one that also has the cubes of its own last
    answers, and the equation, which is left with the noise."""
    y, test, drive = table["angle"][:, None], SPLITS[2], before(table["torque"])
    answer = linear = fitted(drive, y)
    for _ in range(3):
        answer = fitted(np.concatenate([drive, before(answer[:, 0] ** 3)], axis=1), y)
    exact = pendulum.simulate(table["torque"])[0][:, None]
    errors = [rmse(y[test], found[test]) for found in (linear, answer, exact)]
    print("spread {:.4f}, linear {:.4f}, with cubes {:.4f}, floor {:.4f}".format(y[test].std(), *errors))
    assert errors[0] < 0.4 * y[test].std()
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] == pytest.approx(pendulum.NOISE, rel=0.05)
    assert errors[2] < 0.6 * errors[1]


def test_forecasts(table: Any) -> None:
    """A second ahead with the torque known: ridge is better than the last value, and not at the floor."""
    horizon = 20
    starts = np.arange(40, 4000 - horizon)
    x = table["angle"][starts[:, None] + np.arange(-40, 0)]
    drive = table["torque"][starts[:, None] + np.arange(-40, horizon)]
    y = table["angle"][starts[:, None] + np.arange(horizon)]
    features = np.concatenate([x, drive], axis=1)
    # No window of the test reaches into the training: 60 steps lie between.
    train, valid, test = slice(0, 2400), slice(2460, 3000), slice(3060, None)
    ridge = RidgeForecast().fit([(features[train], y[train])], [(features[valid], y[valid])])
    last = rmse(y[test, :, None], LastValue([0]).predict(x[test, :, None], horizon))
    error = rmse(y[test], ridge.predict(features[test]))
    print(f"last value {last:.4f}, ridge {error:.4f}")
    assert error < 0.3 * last
    assert error > 1.5 * pendulum.NOISE


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"seed": -1}, ValueError, "seed: expected an integer >= 0, got -1"),
        ({"steps": 0}, ValueError, "steps: expected an integer >= 1, got 0"),
        ({"steps": 1.5}, TypeError, "steps: expected an integer, got float"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pendulum.table(**arguments)
    with pytest.raises(ValueError, match=r"torque: expected shape \(T,\), got \(2, 2\)"):
        pendulum.simulate(np.zeros((2, 2)))
