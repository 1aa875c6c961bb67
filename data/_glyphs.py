"""Pen strokes of the ten digits: several glyphs for each, and for each glyph two extremes.

A glyph is given in a box of width 0.7 and height 1, x to the right, y down, as text: points ``x,y`` in
drawing order, ``|`` where the pen is lifted, ``*`` after a corner. Between corners and ends the stroke is a
Catmull-Rom spline. Each glyph has two texts of the same structure; a drawing is interpolated between them, or
extrapolated a little beyond either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

#: (digit, weight among the glyphs of its digit, one extreme, the other extreme)
_SOURCES: tuple[tuple[int, int, str, str], ...] = (
    # 0: an oval closed at the top; an oval begun at the right with a tail inside.
    (
        0,
        4,
        "0.38,0.02 0.14,0.14 0.02,0.50 0.12,0.86 0.36,0.98 0.60,0.84 0.68,0.50 0.58,0.15 0.36,0.02",
        "0.50,0.10 0.24,0.06 0.08,0.45 0.10,0.86 0.30,0.97 0.48,0.82 0.58,0.45 0.52,0.12 0.30,0.05",
    ),
    (
        0,
        2,
        "0.62,0.16 0.36,0.02 0.10,0.24 0.04,0.66 0.26,0.97 0.55,0.86 0.68,0.48 0.56,0.12 0.34,0.12",
        "0.52,0.06 0.26,0.06 0.05,0.38 0.08,0.80 0.32,0.98 0.60,0.72 0.62,0.30 0.46,0.10 0.20,0.22",
    ),
    # 1: a stroke; with a flag; with flag and base.
    (
        1,
        5,
        "0.36,0.00 0.34,0.50 0.33,1.00",
        "0.56,0.00 0.36,0.50 0.16,1.00",
    ),
    (
        1,
        2,
        "0.14,0.24 0.38,0.02* 0.37,0.50 0.36,1.00",
        "0.30,0.14 0.44,0.00* 0.36,0.50 0.26,1.00",
    ),
    (
        1,
        1,
        "0.14,0.22 0.37,0.02* 0.36,0.97 | 0.12,0.98 0.62,0.96",
        "0.24,0.16 0.42,0.02* 0.36,0.95 | 0.16,0.95 0.58,0.97",
    ),
    # 2: with a corner at the foot; with a loop at the foot; like a Z.
    (
        2,
        4,
        "0.05,0.25 0.20,0.05 0.45,0.03 0.60,0.22 0.45,0.52 0.20,0.80 0.03,0.97* 0.35,0.94 0.68,0.96",
        "0.10,0.14 0.30,0.02 0.54,0.10 0.56,0.32 0.38,0.58 0.16,0.80 0.02,0.92* 0.32,0.96 0.64,0.88",
    ),
    (
        2,
        3,
        "0.08,0.22 0.26,0.04 0.52,0.08 0.57,0.34 0.38,0.64 0.15,0.90 0.03,0.84 0.17,0.74 0.42,0.92 0.70,0.90",
        "0.04,0.16 0.30,0.02 0.60,0.14 0.54,0.44 0.34,0.74 0.12,0.98 0.02,0.86 0.20,0.80 0.46,0.96 0.68,0.84",
    ),
    (
        2,
        1,
        "0.04,0.10 0.34,0.03 0.60,0.08* 0.04,0.95* 0.66,0.95",
        "0.10,0.16 0.38,0.02 0.56,0.16* 0.10,0.94* 0.62,0.90",
    ),
    # 3: round; with a flat top; with a small loop at the waist.
    (
        3,
        4,
        "0.08,0.12 0.32,0.01 0.56,0.14 0.52,0.36 0.26,0.47* 0.56,0.56 0.62,0.80 0.36,0.99 0.05,0.88",
        "0.14,0.08 0.38,0.01 0.54,0.18 0.46,0.38 0.32,0.44* 0.50,0.54 0.54,0.78 0.30,0.98 0.10,0.94",
    ),
    (
        3,
        1,
        "0.08,0.04 0.58,0.04* 0.28,0.40* 0.55,0.50 0.62,0.76 0.38,0.98 0.05,0.88",
        "0.12,0.08 0.56,0.02* 0.32,0.36* 0.52,0.48 0.54,0.76 0.34,0.96 0.04,0.94",
    ),
    (
        3,
        2,
        "0.08,0.14 0.34,0.01 0.56,0.18 0.44,0.40 0.24,0.49 0.30,0.44 0.54,0.56 0.60,0.78 0.38,0.97 0.06,0.90",
        "0.14,0.06 0.40,0.02 0.58,0.20 0.40,0.44 0.20,0.46 0.28,0.39 0.52,0.58 0.52,0.84 0.26,0.98 0.02,0.84",
    ),
    # 4: open, two strokes; closed, one stroke; open, like a y.
    (
        4,
        4,
        "0.14,0.02 0.07,0.30 0.05,0.55* 0.35,0.55 0.66,0.52 | 0.52,0.05 0.48,0.50 0.45,1.00",
        "0.22,0.06 0.12,0.30 0.06,0.48* 0.34,0.52 0.58,0.48 | 0.56,0.10 0.46,0.50 0.36,1.00",
    ),
    (
        4,
        2,
        "0.66,0.64 0.03,0.64* 0.48,0.02* 0.47,1.00",
        "0.62,0.58 0.06,0.56* 0.52,0.04* 0.38,0.98",
    ),
    (
        4,
        2,
        "0.08,0.03 0.05,0.32 0.22,0.50 0.44,0.42 0.58,0.06* 0.54,0.50 0.46,1.00",
        "0.14,0.06 0.10,0.34 0.24,0.44 0.44,0.34 0.54,0.10* 0.48,0.55 0.34,1.00",
    ),
    # 5: two strokes; one stroke with corners; one smooth stroke, near an S.
    (
        5,
        3,
        "0.16,0.04 0.12,0.42* 0.38,0.36 0.60,0.55 0.56,0.84 0.30,0.99 0.03,0.88 | 0.16,0.04 0.62,0.02",
        "0.24,0.10 0.17,0.44* 0.38,0.42 0.54,0.60 0.46,0.88 0.26,0.98 0.06,0.94 | 0.20,0.12 0.60,0.04",
    ),
    (
        5,
        3,
        "0.62,0.03 0.20,0.04* 0.13,0.42* 0.42,0.38 0.60,0.62 0.46,0.93 0.05,0.93",
        "0.66,0.06 0.30,0.04* 0.20,0.40* 0.44,0.44 0.52,0.66 0.36,0.92 0.02,0.88",
    ),
    (
        5,
        2,
        "0.62,0.04 0.32,0.03 0.16,0.20 0.26,0.42 0.50,0.52 0.58,0.76 0.36,0.98 0.04,0.90",
        "0.66,0.08 0.36,0.04 0.22,0.22 0.26,0.40 0.44,0.54 0.48,0.78 0.26,0.96 0.02,0.86",
    ),
    # 6: curved back; straight back with a large bowl.
    (
        6,
        4,
        "0.48,0.00 0.20,0.25 0.05,0.62 0.16,0.93 0.42,0.97 0.58,0.76 0.44,0.56 0.20,0.60 0.07,0.80",
        "0.38,0.00 0.14,0.34 0.08,0.72 0.22,0.97 0.44,0.92 0.50,0.74 0.36,0.62 0.18,0.72 0.12,0.86",
    ),
    (
        6,
        2,
        "0.30,0.00 0.12,0.35 0.05,0.72 0.22,0.98 0.52,0.92 0.60,0.66 0.38,0.50 0.10,0.64",
        "0.56,0.04 0.28,0.22 0.08,0.60 0.14,0.94 0.42,0.96 0.54,0.72 0.36,0.60 0.14,0.82",
    ),
    # 7: plain; crossed; with a serif.
    (
        7,
        4,
        "0.03,0.08 0.62,0.05* 0.40,0.45 0.25,1.00",
        "0.08,0.14 0.60,0.03* 0.42,0.48 0.34,1.00",
    ),
    (
        7,
        1,
        "0.03,0.08 0.62,0.05* 0.40,0.45 0.25,1.00 | 0.14,0.52 0.58,0.48",
        "0.08,0.12 0.62,0.04* 0.44,0.45 0.32,1.00 | 0.20,0.46 0.62,0.44",
    ),
    (
        7,
        2,
        "0.04,0.26 0.09,0.06 0.36,0.10 0.64,0.04* 0.42,0.42 0.28,0.98",
        "0.10,0.20 0.14,0.08 0.38,0.08 0.58,0.10* 0.46,0.46 0.36,0.98",
    ),
    # 8: one stroke begun at the right of the head; one begun at the top; two ovals.
    (
        8,
        4,
        "0.56,0.13 0.33,0.01 0.10,0.17 0.22,0.40 0.48,0.58 0.58,0.82 0.34,0.99 0.08,0.84 "
        "0.18,0.60 0.44,0.40 0.57,0.16 0.46,0.04",
        "0.60,0.08 0.36,0.02 0.18,0.20 0.26,0.42 0.44,0.58 0.48,0.80 0.26,0.98 0.06,0.84 "
        "0.20,0.60 0.46,0.38 0.60,0.18 0.58,0.02",
    ),
    (
        8,
        2,
        "0.36,0.02 0.12,0.12 0.12,0.34 0.34,0.47 0.58,0.62 0.58,0.90 0.34,0.98 0.08,0.88 "
        "0.10,0.62 0.34,0.47 0.56,0.32 0.56,0.10 0.34,0.02",
        "0.42,0.04 0.22,0.10 0.18,0.30 0.34,0.45 0.50,0.62 0.46,0.86 0.24,0.97 0.08,0.84 "
        "0.18,0.62 0.36,0.46 0.56,0.30 0.58,0.12 0.38,0.02",
    ),
    (
        8,
        1,
        "0.34,0.02 0.12,0.12 0.14,0.36 0.34,0.46 0.54,0.36 0.55,0.12 0.34,0.02 | 0.34,0.46 "
        "0.08,0.60 0.06,0.88 0.34,0.99 0.60,0.88 0.60,0.60 0.34,0.46",
        "0.40,0.04 0.18,0.12 0.18,0.36 0.36,0.44 0.56,0.32 0.58,0.12 0.40,0.04 | 0.34,0.44 "
        "0.14,0.60 0.08,0.84 0.28,0.97 0.50,0.86 0.54,0.60 0.36,0.44",
    ),
    # 9: straight stem; curved stem; loop and stem in one smooth stroke.
    (
        9,
        4,
        "0.56,0.18 0.34,0.02 0.10,0.16 0.10,0.42 0.34,0.50 0.56,0.30 0.58,0.10* 0.55,0.50 0.48,1.00",
        "0.58,0.14 0.40,0.04 0.16,0.18 0.12,0.38 0.30,0.44 0.52,0.26 0.60,0.10* 0.50,0.52 0.34,1.00",
    ),
    (
        9,
        2,
        "0.58,0.20 0.36,0.02 0.10,0.18 0.14,0.44 0.42,0.44 0.57,0.18* 0.59,0.60 0.44,0.93 0.12,0.96",
        "0.60,0.16 0.40,0.03 0.16,0.20 0.18,0.42 0.42,0.40 0.58,0.14* 0.56,0.58 0.36,0.92 0.06,0.92",
    ),
    (
        9,
        2,
        "0.52,0.44 0.22,0.46 0.08,0.24 0.28,0.03 0.54,0.14 0.56,0.46 0.50,0.76 0.44,1.00",
        "0.48,0.36 0.22,0.44 0.14,0.24 0.34,0.04 0.58,0.16 0.52,0.48 0.40,0.76 0.28,1.00",
    ),
)

#: Distance between neighbouring sample points along a stroke, in units of the glyph's height: at the usual
#: 20 pixels of height 0.6 of a pixel, at which the scallops between the points' discs stay below 5 % of one.
SPACING = 0.03


@dataclass(frozen=True)
class Glyph:
    """One way of writing a digit.

    Attributes
    ----------
    digit : int
        Which digit.
    weight : int
        How often it is drawn among the glyphs of its digit.
    controls : ndarray, shape (2, M, 2)
        Control points (x, y) of the two extremes.
    weights : ndarray, shape (K, M)
        Sample points of the strokes are ``weights @ controls``: a spline is linear in its control points.
    along : ndarray, shape (K,)
        Position of each sample point along its own stroke, from 0 to 1.
    """

    digit: int
    weight: int
    controls: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    along: npt.NDArray[np.float64]


def _parse(source: str) -> tuple[npt.NDArray[np.float64], list[list[list[int]]]]:
    """Return the control points (M, 2) and, for each stroke, its smooth runs as lists of point indices."""
    points: list[tuple[float, float]] = []
    strokes: list[list[list[int]]] = []
    for stroke in source.split("|"):
        runs: list[list[int]] = [[]]
        for word in stroke.split():
            x, y = word.rstrip("*").split(",")
            points.append((float(x), float(y)))
            runs[-1].append(len(points) - 1)
            if word.endswith("*"):
                runs.append([len(points) - 1])
        strokes.append(runs)
    return np.array(points), strokes


def _run_weights(run: list[int], total: int, controls: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return rows of spline weights, one a sample point, for one smooth run (its last point left out)."""
    rows = []
    for k in range(len(run) - 1):
        # Ends are doubled, so that the spline starts and stops in its outer points.
        p0, p1, p2, p3 = (run[min(max(k + d, 0), len(run) - 1)] for d in (-1, 0, 1, 2))
        dx, dy = controls[p2] - controls[p1]
        steps = max(2, int(np.ceil(np.sqrt(dx * dx + dy * dy) * 1.1 / SPACING)))
        for s in range(steps):
            t = s / steps
            row = np.zeros(total)
            row[p0] += 0.5 * ((2.0 - t) * t - 1.0) * t
            row[p1] += 0.5 * ((3.0 * t - 5.0) * t * t + 2.0)
            row[p2] += 0.5 * ((4.0 - 3.0 * t) * t + 1.0) * t
            row[p3] += 0.5 * (t - 1.0) * t * t
            rows.append(row)
    return np.array(rows)


def _glyph(digit: int, weight: int, first: str, second: str) -> Glyph:
    controls_1, strokes = _parse(first)
    controls_2, other = _parse(second)
    if [len(run) for runs in strokes for run in runs] != [len(run) for runs in other for run in runs]:
        raise ValueError(f"glyph of {digit}: the two extremes differ in form: {first!r}, {second!r}")
    total = len(controls_1)
    weights, along = [], []
    for runs in strokes:
        rows = [_run_weights(run, total, controls_1) for run in runs]
        last = np.zeros((1, total))
        last[0, runs[-1][-1]] = 1.0
        stroke = np.concatenate([*rows, last])
        weights.append(stroke)
        along.append(np.arange(len(stroke)) / (len(stroke) - 1))
    return Glyph(
        digit, weight, np.stack([controls_1, controls_2]), np.concatenate(weights), np.concatenate(along)
    )


@lru_cache(maxsize=1)
def glyphs() -> tuple[Glyph, ...]:
    """Return all glyphs, ordered by digit."""
    return tuple(_glyph(*source) for source in _SOURCES)
