"""Gestures of a hand as an acceleration sensor would see them: generated sequences of different lengths.

Nobody moved a hand for them: the program computes accelerations and adds noise. They are for trying out and
testing the classification of sequences; a result on them says nothing about people or sensors.

=========  =========================================================================================
`circle`   the acceleration turns in a plane, one to three times, either way, on an ellipse
`swipe`    along a line: speed up, slow down
`shake`    along a line, two to four times to and fro
=========  =========================================================================================

All classes have the same distributions of length (20 to 80 steps), strength, pauses before and after,
orientation of the sensor (which also turns gravity) and noise. Swipes go mostly along x, shakes along y,
circles lie in between, which is all that means and spreads of the axes tell about the class; the order of the
values tells more: see `table`.

Gesture `i` depends on (seed, i) alone, and is the same on every machine: see `lstm_numba.data._exact`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer
from lstm_numba.data._exact import Array, cosines, rounded, sines
from lstm_numba.data._random import CounterStream

#: The labels.
CLASSES = ("circle", "swipe", "shake")
#: Fewest and most steps of a gesture.
SHORTEST, LONGEST = 20, 80
#: Standard deviation of the noise of each axis, in units of gravity's acceleration g.
NOISE = 0.12

_WEAKEST, _STRONGEST = 0.3, 0.9  # g, amplitude of the acceleration
_PAUSE = 0.25  # longest share of the steps before the movement, and after it
_RAMP = 0.12  # share of the movement in which it sets in, and in which it ends
_HURRY = 0.25  # how much faster than in the mean a movement may be at its beginning or end
_FLATTEST = 0.5  # shorter over longer axis of a circle
_TILT = 0.2  # spread of the quaternion that turns the sensor
_SWAY = 0.35  # rad, spread of the direction within the plane
_APART = 1.5  # rad, between the mean directions of swipes, along x, and of shakes; circles lie between
# Lanes of the counter stream, by what a gesture's random numbers are used for.
_LANE_ORDER = 0
_LANE_UNIFORM = 8
_LANE_BELL = 32
_LANE_NOISE = 64


class _Draw(NamedTuple):
    """Random properties of n gestures, each of shape (n,)."""

    kind: npt.NDArray[np.int64]  # index into CLASSES
    length: npt.NDArray[np.int64]
    strength: Array  # g
    before: Array  # share of the steps before the movement
    after: Array
    turns: Array
    sense: Array  # 1.0 or -1.0
    flatness: Array  # 0 for a line
    start: Array  # rad, phase at the beginning
    hurry: Array
    direction: Array  # rad, within the plane


def table(seed: int = 0, count: int = 360) -> dict[str, npt.NDArray[Any]]:
    """Compute the accelerations of gestures.

    Parameters
    ----------
    seed : int
        Each seed gives other gestures.
    count : int
        How many. Fewer are the beginning of more.

    Returns
    -------
    dict of str to ndarray (R,)
        A row for each step of each gesture, in order: ``gesture``, int64, which it belongs to, from 0;
        ``x``, ``y``, ``z``, float64, accelerations in g, to 0.001 g; ``label``, text, one of `CLASSES`, the
        same in all rows of a gesture. Of each three gestures one is of each class.

    Raises
    ------
    ValueError, TypeError
        An argument that is no integer or too small.

    Notes
    -----
    Of seeds 0 to 3, 180 gestures to learn from, 60 to choose the penalty and 120 for the test: logistic
    regression on `lstm_numba.training.logistic_ridge.sequence_features` classifies 64 to 72 % correctly, on
    three numbers that depend on the order of the values 93 to 98 %. Chance is 33 %.
    """
    seed, count = integer("seed", seed, 0), integer("count", count)
    stream, items = CounterStream("gestures", seed), np.arange(count)
    drawn = _draw(stream, items)
    moved = _turned(_movement(drawn), stream.bell(items, _LANE_BELL, 3))
    noise = stream.bell(items, _LANE_NOISE, 3 * LONGEST).reshape(count, 3, LONGEST)
    measured = rounded(moved + NOISE * noise, 1000)
    used = np.arange(LONGEST) < drawn.length[:, None]
    return {
        "gesture": np.repeat(items, drawn.length),
        **{axis: measured[:, k][used] for k, axis in enumerate("xyz")},
        "label": np.repeat(np.array(CLASSES)[drawn.kind], drawn.length),
    }


def _draw(stream: CounterStream, items: npt.NDArray[np.int64]) -> _Draw:
    # One of each class in every three, in an order of their own.
    order = np.argsort(stream.bits(items // 3, _LANE_ORDER, 3), axis=1, kind="stable")
    kind = np.take_along_axis(order, (items % 3)[:, None], axis=1)[:, 0]
    u = stream.uniform(items, _LANE_UNIFORM, 9).T
    circle, swipe = kind == 0, kind == 1
    # A swipe is one to and fro of the acceleration, from rest to rest.
    turns = np.where(circle, 1.0 + 2.0 * u[4], np.where(swipe, 1.0, 2.0 + 2.0 * u[4]))
    return _Draw(
        kind=kind,
        length=SHORTEST + np.floor((LONGEST - SHORTEST + 1) * u[0]).astype(np.int64),
        strength=_WEAKEST + (_STRONGEST - _WEAKEST) * u[1],
        before=_PAUSE * u[2],
        after=_PAUSE * u[3],
        turns=turns,
        sense=np.where(u[5] < 0.5, -1.0, 1.0),
        flatness=np.where(circle, _FLATTEST + (1.0 - _FLATTEST) * u[6], 0.0),
        start=np.where(swipe, 0.0, 2.0 * np.pi * u[7]),
        hurry=_HURRY * (2.0 * u[8] - 1.0),
        direction=_APART * np.where(circle, 0.5, np.where(swipe, 0.0, 1.0))
        + _SWAY * stream.bell(items, _LANE_BELL + 16, 1)[:, 0],
    )


def _movement(drawn: _Draw) -> Array:
    """Accelerations (n, 3, LONGEST) in g, gravity among them, of a sensor that lies flat."""

    def column(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values[:, None]

    share = (np.arange(LONGEST) + 0.5) / column(drawn.length)
    moving = 1.0 - column(drawn.before) - column(drawn.after)
    s = np.clip((share - column(drawn.before)) / moving, 0.0, 1.0)
    # Smooth at both ends: 3 r^2 - 2 r^3 goes from 0 to 1 with level ends.
    ramp = np.minimum(np.minimum(s, 1.0 - s) / _RAMP, 1.0)
    swell = column(drawn.strength) * (ramp * ramp * (3.0 - 2.0 * ramp))
    phase = 2.0 * np.pi * column(drawn.turns) * (s + column(drawn.hurry) * s * (1.0 - s))
    phase = phase + column(drawn.start)
    along = swell * sines(phase)
    across = swell * column(drawn.flatness * drawn.sense) * cosines(phase)
    cosine, sine = column(cosines(drawn.direction)), column(sines(drawn.direction))
    x, y = cosine * along - sine * across, sine * along + cosine * across
    return np.stack([x, y, np.ones_like(x)], axis=1)


def _turned(vectors: Array, bell: Array) -> Array:
    """Turn vectors (n, 3, LONGEST) by the quaternions ``1 + _TILT * (bell . (i, j, k))``."""
    b, c, d = _TILT * bell.T
    norm = 1.0 + b * b + c * c + d * d
    rows = (
        (1.0 + b * b - c * c - d * d, 2.0 * (b * c - d), 2.0 * (b * d + c)),
        (2.0 * (b * c + d), 1.0 - b * b + c * c - d * d, 2.0 * (c * d - b)),
        (2.0 * (b * d - c), 2.0 * (c * d + b), 1.0 - b * b - c * c + d * d),
    )
    x, y, z = vectors[:, 0], vectors[:, 1], vectors[:, 2]
    # Written out instead of a matrix product: the order of BLAS's sums differs between machines.
    turned = [(p / norm)[:, None] * x + (q / norm)[:, None] * y + (r / norm)[:, None] * z for p, q, r in rows]
    return np.stack(turned, axis=1)
