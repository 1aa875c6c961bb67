"""The generated pendulum: the same for ever, true to its equation, and what linear and other models make of it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import solve_ivp

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
    assert digest(table) == "@PENDULUM@"


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
    for seed in range(3):
        angle = pendulum.table(seed)["angle"]
        assert 0.05 < np.mean(np.abs(angle) > 1.0) < 0.4
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
    """Small: 2 pi / sqrt(9.81) s; at 2 rad longer by the arithmetic-geometric mean of 1 and cos(1)."""
    for amplitude, stretch in ((0.01, 1.0), (2.0, 1.0 / 0.7529)):
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


STEPS = 60


def regression(table: Any) -> tuple[Array, Array]:
    """The torque of the last three seconds, (N, T, 1), and the angle at their end, (N, 1)."""
    rows = np.arange(STEPS, 4000)
    return table["torque"][rows[:, None] + np.arange(1 - STEPS, 1)][:, :, None], table["angle"][rows, None]


def products_of_features(features: Array) -> Array:
    """The features with all their products of three, by which a polynomial of the third degree is linear."""
    first, second, third = np.meshgrid(*[np.arange(features.shape[1])] * 3, indexing="ij")
    once = (first <= second) & (second <= third)
    return np.concatenate(
        [features, features[:, first[once]] * features[:, second[once]] * features[:, third[once]]], axis=1
    )


def test_a_linear_model_is_beaten_but_not_useless(table: Any) -> None:
    """From the torque alone: a linear model, one with cubes of what it saw of the torque, and the equation."""
    x, y = regression(table)
    train, valid, test = slice(0, 2400), slice(2400, 3000), slice(3000, None)
    linear = RidgeForecast().fit([(x[train], y[train])], [(x[valid], y[valid])])
    error = rmse(y[test], linear.predict(x[test]))
    # What the linear model sees of the torque, in twelve directions, with their products.
    basis = np.linalg.svd(x[train, :, 0] - x[train, :, 0].mean(), full_matrices=False)[2][:12].T
    seen = products_of_features(x[:, :, 0] @ basis / 10.0)
    cubic = RidgeForecast().fit([(seen[train], y[train])], [(seen[valid], y[valid])])
    cubic_error = rmse(y[test], cubic.predict(seen[test]))
    floor = rmse(y[test, 0], pendulum.simulate(table["torque"])[0][STEPS:][test])
    print(f"spread {y[test].std():.4f}, linear {error:.4f}, cubic {cubic_error:.4f}, floor {floor:.4f}")
    assert floor == pytest.approx(pendulum.NOISE, rel=0.05)
    assert 3.0 * floor < error < 0.7 * y[test].std()
    assert cubic_error < 0.8 * error


def forecasts_of_the_equation(table: Any, first: Array, horizon: int) -> Array:
    """Forecasts that know the equation and the last torque: its state at rest, driven by the past torque."""
    angle, velocity = pendulum.simulate(table["torque"])
    answer = np.empty((len(first), horizon))
    for number, start in enumerate(first):
        now = start - 1
        drive = np.full(horizon + 1, table["torque"][now])
        answer[number] = pendulum.simulate(drive, angle[now], velocity[now])[0][1:]
    return answer


def test_forecasts(table: Any) -> None:
    """A second ahead: ridge is better than the last value, and the equation better than ridge."""
    series = np.stack([table["torque"], table["angle"]], axis=1)
    horizon = 20
    starts = np.arange(40, 4000 - horizon)
    x = series[starts[:, None] + np.arange(-40, 0)]
    y = series[starts[:, None] + np.arange(horizon)][:, :, 1:]
    train, valid, test = slice(0, 2400), slice(2420, 3000), slice(3040, None, 5)
    ridge = RidgeForecast().fit([(x[train], y[train])], [(x[valid], y[valid])])
    errors = [
        rmse(y[test], forecast)
        for forecast in (
            LastValue([1]).predict(x[test], horizon),
            ridge.predict(x[test]),
            forecasts_of_the_equation(table, starts[test], horizon)[:, :, None],
        )
    ]
    print("last value {:.4f}, ridge {:.4f}, equation {:.4f}".format(*errors))
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.9 * errors[1]


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
