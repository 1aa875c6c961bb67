"""A driven pendulum: a generated time series with an input, for forecasts and for regression.

Nothing here was measured: the program integrates the equation of a rigid pendulum and adds noise to the
angle. It is for trying out and testing the program; a result on it says nothing about a real machine.

The angle θ obeys

    I θ'' = −m g l sin θ − c θ' + τ

with the moment of inertia I = m l² = 1 kg m², gravity's torque m g l = 9.81 N m, the damping c = 0.8 N m s,
and the driving torque τ, whose levels are drawn at random, held for a while and smoothed by two lags. The
pendulum starts at rest. It is integrated by the classical Runge-Kutta method of fourth order with steps of
0.025 s; between two samples the torque changes linearly.

Small swings are linear with a period of 2.0 s. The angle reaches more than 1 rad, where the sine is far from
its tangent and swings are slower: a linear model cannot follow. The torque is without error, the angle has
noise of `NOISE` rad: no model of the past has a smaller root mean square error than this.

The table is the same on every machine: see `lstm_numba.data._exact`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer
from lstm_numba.data._exact import Array, rounded, sine
from lstm_numba.data._random import CounterStream, uniforms

#: Seconds between two samples are ``1 / RATE``.
RATE = 20
#: Standard deviation of the measured angle's error in rad.
NOISE = 0.02
#: Moment of inertia, kg m².
INERTIA = 1.0
#: Largest torque of gravity, N m.
GRAVITY = 9.81
#: Torque of friction per angular velocity, N m s.
DAMPING = 0.8

_LEVEL = 6.0  # N m, largest level of the driving torque
_SHORTEST, _LONGEST = 0.4, 2.4  # s, how long a level is held
_LAG = 0.15  # s, of each of the two lags that smooth the torque
_STEPS_PER_SAMPLE = 2


def table(seed: int = 0, steps: int = 4000) -> dict[str, npt.NDArray[np.float64]]:
    """Compute a pendulum's record.

    Parameters
    ----------
    seed : int
        Each seed gives another torque and other noise.
    steps : int
        Number of rows, `RATE` a second. A shorter table is the beginning of a longer one.

    Returns
    -------
    dict of str to ndarray (steps,), float64
        ``time`` in s from 0; ``torque``, the driving torque in N m, to 0.001 N m, without error; ``angle`` in
        rad from hanging down, to 0.0001 rad, with noise of the standard deviation `NOISE`. Beyond a full turn
        the angle goes on counting.

    Raises
    ------
    ValueError, TypeError
        An argument that is no integer or too small.
    """
    seed, steps = integer("seed", seed, 0), integer("steps", steps)
    torque = _torque(seed, steps)
    angle, _ = simulate(torque)
    noise = CounterStream("pendulum", seed, "noise").bell(np.arange(steps), 0, 1)[:, 0]
    return {
        "time": np.arange(steps) / RATE,
        "torque": torque,
        "angle": rounded(angle + NOISE * noise, 10_000),
    }


def _torque(seed: int, steps: int) -> Array:
    """Levels held for a random time, after two lags of the first order."""
    source = uniforms("pendulum", seed, "torque")
    share = 1.0 / (_LAG * RATE)
    torque = np.empty(steps)
    level = left = first = second = 0.0
    for k in range(steps):
        if left < 0.5:
            level = _LEVEL * (2.0 * next(source) - 1.0)
            left = RATE * (_SHORTEST + (_LONGEST - _SHORTEST) * next(source))
        left -= 1.0
        first += share * (level - first)
        second += share * (first - second)
        torque[k] = second
    return rounded(torque, 1000)


def simulate(
    torque: npt.ArrayLike, angle: float = 0.0, velocity: float = 0.0, damping: float = DAMPING
) -> tuple[Array, Array]:
    """Integrate the pendulum's equation.

    Parameters
    ----------
    torque : array_like (T,)
        Driving torque in N m, `RATE` samples a second.
    angle, velocity : float
        At the first sample, in rad and rad/s.
    damping : float
        In N m s.

    Returns
    -------
    angle, velocity : ndarray (T,), float64
        At the samples, in rad and rad/s. Sample k depends on the torque up to and with sample k.

    Raises
    ------
    ValueError
        A torque that is not one-dimensional.
    """
    drive = np.asarray(torque, dtype=np.float64)
    if drive.ndim != 1:
        raise ValueError(f"torque: expected shape (T,), got {drive.shape}")
    samples = drive.tolist()
    angles, velocities = np.empty(len(samples)), np.empty(len(samples))
    for k, now in enumerate(samples):
        if k:
            angle, velocity = _advance(angle, velocity, damping, samples[k - 1], now)
        angles[k], velocities[k] = angle, velocity
    return angles, velocities


def _advance(
    angle: float, velocity: float, damping: float, before: float, after: float
) -> tuple[float, float]:
    """Angle and velocity one sample later, the torque going from `before` to `after` on a straight line."""
    h = 1.0 / (RATE * _STEPS_PER_SAMPLE)
    rise = (after - before) / _STEPS_PER_SAMPLE

    def acceleration(angle: float, velocity: float, torque: float) -> float:
        return (torque - GRAVITY * sine(angle) - damping * velocity) / INERTIA

    for step in range(_STEPS_PER_SAMPLE):
        start = before + step * rise
        v1, a1 = velocity, acceleration(angle, velocity, start)
        v2 = velocity + 0.5 * h * a1
        a2 = acceleration(angle + 0.5 * h * v1, v2, start + 0.5 * rise)
        v3 = velocity + 0.5 * h * a2
        a3 = acceleration(angle + 0.5 * h * v2, v3, start + 0.5 * rise)
        v4 = velocity + h * a3
        a4 = acceleration(angle + h * v3, v4, start + rise)
        angle += h / 6.0 * (v1 + 2.0 * v2 + 2.0 * v3 + v4)
        velocity += h / 6.0 * (a1 + 2.0 * a2 + 2.0 * a3 + a4)
    return angle, velocity
