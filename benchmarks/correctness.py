"""Results before times: who computes something wrong is not timed.

Two comparisons, both on the weights that are timed afterwards.

1. A shortened problem, of a few steps and sequences, against `lstm_numba.reference`, plain float64 NumPy that
   shares no code with any contestant. Outputs are compared number by number. The reference has no backward
   pass: a gradient g is multiplied with a random direction v of length 1, and g·v compared with the
   reference's central difference along v. Each array has its own direction, so that a wrong one is named.
2. The whole problem, number by number, between the contestants. Each must agree with at least one that does
   not share its code, or, where there is none, with one that does.

Differences are relative to the largest number of the array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lstm_numba import reference
from lstm_numba.benchmarks.cases import Shape
from lstm_numba.benchmarks.implementations import Array, Contestant, Problem

#: Largest difference of outputs (y), of gradients (d), and of gradients along a direction. Rounding stays a
#: factor of ten and more below. The last is the strictest for float32, because a gradient that is wrong by a
#: factor shows along a direction as little as the direction has of it; for float64 it is what central
#: differences can see.
TOLERANCES = {
    "float32": {"y": 2e-5, "d": 2e-4, "slope": 3e-6},
    "float64": {"y": 1e-10, "d": 1e-9, "slope": 1e-7},
}
#: Step of the central differences, along a direction of length 1.
_EPSILON = 1e-6
#: Steps and sequences of the shortened problem, the first pair whose reference runs multiply no more than
#: this, or else the last; that many take about a second.
_SHORTENED = ((5, 3), (3, 2), (2, 2))
_MOST_MULTIPLICATIONS = 1.5e9
#: Steps of streaming that are compared: enough to see that the state is carried on.
STREAMED_STEPS = 5


class Difference(NamedTuple):
    """How far an array of a contestant is from the same of somebody else."""

    array: str
    relative: float
    tolerance: float
    other: str

    @property
    def acceptable(self) -> bool:
        """Whether it is within the tolerance; NaN is not."""
        return bool(self.relative <= self.tolerance)

    @property
    def excess(self) -> float:
        """In units of the tolerance; NaN is more than any number."""
        return np.inf if np.isnan(self.relative) else self.relative / self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.array} differs from {self.other} by {self.relative:.1e} of its largest number "
            f"(allowed: {self.tolerance:.0e})"
        )


def shortened(shape: Shape, gates: int, runs: int) -> Shape:
    """Make a problem small enough for `runs` runs of the reference."""
    weights = gates * shape.hidden * (shape.inputs + shape.hidden)
    for steps, batch in _SHORTENED:
        small = shape._replace(steps=min(steps, shape.steps), batch=min(batch, shape.batch))
        if runs * small.steps * small.batch * weights <= _MOST_MULTIPLICATIONS:
            break
    return small


def compute(contestant: Contestant, problem: Problem) -> dict[str, Array]:
    """Compute the task once and name the arrays; streaming: the outputs of all steps."""
    contestant.start()
    if problem.task != "streaming":
        return contestant.arrays(contestant.call())
    contestant.rewind()
    outputs = []
    for step in range(problem.shape.steps):
        contestant.feed(step)
        outputs.append(contestant.arrays(contestant.call())["y"].copy())
    contestant.rewind()
    return {"y": np.concatenate(outputs)}


class Reference:
    """What `lstm_numba.reference` says about a problem."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._leaves = {
            name: np.asarray(array, np.float64)
            for name, array in {"x": problem.x, **problem.state, **problem.params}.items()
        }
        self._y = self._output({})
        self._slopes: dict[str, tuple[Array, float]] = {}
        if problem.task == "training":
            rng = np.random.default_rng(2)
            for name, leaf in self._leaves.items():
                direction = rng.standard_normal(leaf.shape)
                direction /= np.linalg.norm(direction)
                ahead, behind = (self._output({name: leaf + sign * _EPSILON * direction}) for sign in (1, -1))
                # The loss is the sum of dy * y; subtracted first, its rounding is that of the difference.
                slope = float(np.sum(problem.dy * (ahead - behind)) / (2 * _EPSILON))
                self._slopes[f"d{name}"] = direction, slope

    def _output(self, changed: Mapping[str, Array]) -> Array:
        leaves = {**self._leaves, **changed}
        states = [leaves.pop(name) for name in self._problem.state]
        return reference.run(self._problem.cell, leaves, leaves.pop("x"), states)[0]

    def differences(self, arrays: Mapping[str, Array]) -> list[Difference]:
        """Compare a contestant's arrays."""
        tolerances = TOLERANCES[self._problem.dtype]
        found = [_difference("y", arrays["y"], self._y, tolerances["y"], "the reference")]
        for name, (direction, slope) in self._slopes.items():
            gradient = np.asarray(arrays[name], np.float64)
            if gradient.shape != direction.shape:
                found.append(Difference(name, np.inf, tolerances["slope"], "the reference"))
                continue
            scale = max(float(np.max(np.abs(gradient))), abs(slope))
            error = abs(float(np.sum(gradient * direction)) - slope) / (scale or 1.0)
            found.append(Difference(name, error, tolerances["slope"], "the reference"))
        return found


def between(
    arrays: Mapping[str, Array], others: Mapping[str, Array], other: str, dtype: str
) -> list[Difference]:
    """Compare two contestants' arrays."""
    tolerances = TOLERANCES[dtype]
    return [_difference(name, arrays[name], others[name], tolerances[name[0]], other) for name in arrays]


def _difference(name: str, array: Array, expected: Array, tolerance: float, other: str) -> Difference:
    if array.shape != expected.shape:
        return Difference(name, np.inf, tolerance, other)
    error = np.max(np.abs(array.astype(np.float64) - expected))
    return Difference(name, float(error / (np.max(np.abs(expected)) or 1.0)), tolerance, other)


def worst(found: Sequence[Difference]) -> Difference:
    """The one furthest beyond its tolerance, or closest to it."""
    return max(found, key=lambda difference: difference.excess)


def with_others(
    name: str,
    results: Mapping[str, Mapping[str, Array]],
    families: Mapping[str, str],
    dtype: str,
) -> list[Difference]:
    """Compare one contestant's full-size arrays with those of the others.

    Parameters
    ----------
    name : str
        The contestant.
    results : mapping of str to dict of ndarray
        Everybody's arrays.
    families : mapping of str to str
        Everybody's family.
    dtype : str

    Returns
    -------
    list of Difference
        From the one that it agrees with, if there is one; empty where there is nobody to compare with.
    """
    others = [other for other in results if other != name]
    strangers = [other for other in others if families[other] != families[name]]
    found = [between(results[name], results[other], other, dtype) for other in strangers or others]
    return min(found, key=lambda differences: worst(differences).excess, default=[])
