"""Checks results before anything is timed: an implementation with wrong results is refused.

Two comparisons, both with the weights that are timed afterwards.

1. A shortened problem, of a few steps and sequences, against `lstm_numba.reference`, plain float64 NumPy that
   shares no code with any implementation. Outputs are compared element by element. The reference has no
   backward pass: the dot product of a gradient and a random direction of length 1 is compared with the
   reference's central difference along that direction. Each array has its own direction, so that a wrong
   gradient can be named.
2. The whole problem, element by element, between the implementations. Each must agree with at least one that
   does not share its code, or, where there is none, with one that does.

Differences are relative to the largest element of the array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lstm_numba import reference
from lstm_numba.benchmarks.cases import Blocks, Shape
from lstm_numba.benchmarks.implementations import Array, Implementation, Problem

#: Largest difference of outputs (y), of gradients (d), and of directional derivatives. Rounding errors are
#: smaller by a factor of at least ten. The last is the strictest for float32, because a random direction has
#: only a small component along a gradient's error; for float64 it is the accuracy of central differences.
TOLERANCES = {
    "float32": {"y": 2e-5, "d": 2e-4, "directional": 3e-6},
    "float64": {"y": 1e-10, "d": 1e-9, "directional": 1e-7},
}
#: Step of the central differences.
_EPSILON = 1e-6
#: Steps and sequences of the shortened problem: the first pair for which the reference needs at most so many
#: multiplications (about a second), else the last.
_SHORTENED = ((5, 3), (3, 2), (2, 2))
_MAX_MULTIPLICATIONS = 1.5e9
#: Streaming steps that are compared: enough to see that the state is carried from step to step.
STREAMED_STEPS = 5


class Difference(NamedTuple):
    """How far an array of one implementation is from that of another."""

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
        """The difference in units of the tolerance; infinite for NaN."""
        return np.inf if np.isnan(self.relative) else self.relative / self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.array} differs from {self.other} by {self.relative:.1e} of its largest element "
            f"(allowed: {self.tolerance:.0e})"
        )


def shortened(shape: Shape, blocks: Blocks, runs: int) -> Shape:
    """Return a shape small enough for `runs` runs of the reference."""
    for steps, batch in _SHORTENED:
        small = shape._replace(steps=min(steps, shape.steps), batch=min(batch, shape.batch))
        if runs * small.steps * small.batch * blocks.weights(shape) <= _MAX_MULTIPLICATIONS:
            break
    return small


def compute(implementation: Implementation, problem: Problem) -> dict[str, Array]:
    """Compute the task once and return the arrays by name; for streaming the outputs of all steps."""
    implementation.start()
    if problem.task != "streaming":
        return implementation.arrays(implementation.call())
    implementation.rewind()
    outputs = []
    for step in range(problem.shape.steps):
        implementation.feed(step)
        outputs.append(implementation.arrays(implementation.call())["y"].copy())
    implementation.rewind()
    return {"y": np.concatenate(outputs)}


class Reference:
    """The results of `lstm_numba.reference` for a problem."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._inputs = {
            name: np.asarray(array, np.float64)
            for name, array in {"x": problem.x, **problem.state, **problem.params}.items()
        }
        self._y = self._output({})
        self._derivatives: dict[str, tuple[Array, float]] = {}
        if problem.task == "training":
            rng = np.random.default_rng(2)
            for name, array in self._inputs.items():
                direction = rng.standard_normal(array.shape)
                direction /= np.linalg.norm(direction)
                step = _EPSILON * direction
                difference = self._output({name: array + step}) - self._output({name: array - step})
                # The loss is the sum of dy * y; subtracting the outputs first rounds less.
                derivative = float(np.sum(problem.dy * difference) / (2 * _EPSILON))
                self._derivatives[f"d{name}"] = direction, derivative

    def _output(self, changed: Mapping[str, Array]) -> Array:
        params = {**self._inputs, **changed}
        x, states = params.pop("x"), [params.pop(name) for name in self._problem.state]
        return reference.run(self._problem.cell, params, x, states)[0]

    def differences(self, arrays: Mapping[str, Array]) -> list[Difference]:
        """Compare an implementation's arrays with the reference."""
        tolerances = TOLERANCES[self._problem.dtype]
        found = [_difference("y", arrays["y"], self._y, tolerances["y"], "the reference")]
        for name, (direction, derivative) in self._derivatives.items():
            gradient = np.asarray(arrays[name], np.float64)
            if gradient.shape != direction.shape:
                found.append(Difference(name, np.inf, tolerances["directional"], "the reference"))
                continue
            scale = max(float(np.max(np.abs(gradient))), abs(derivative))
            error = abs(float(np.sum(gradient * direction)) - derivative) / (scale or 1.0)
            found.append(Difference(name, error, tolerances["directional"], "the reference"))
        return found


def between(
    arrays: Mapping[str, Array], others: Mapping[str, Array], other: str, dtype: str
) -> list[Difference]:
    """Compare the arrays of two implementations."""
    tolerances = TOLERANCES[dtype]
    return [_difference(name, arrays[name], others[name], tolerances[name[0]], other) for name in arrays]


def _difference(name: str, array: Array, expected: Array, tolerance: float, other: str) -> Difference:
    if array.shape != expected.shape:
        return Difference(name, np.inf, tolerance, other)
    error = np.max(np.abs(array.astype(np.float64) - expected))
    return Difference(name, float(error / (np.max(np.abs(expected)) or 1.0)), tolerance, other)


def worst(found: Sequence[Difference]) -> Difference:
    """The difference that is largest in units of its tolerance."""
    return max(found, key=lambda difference: difference.excess)


def with_others(
    name: str,
    results: Mapping[str, Mapping[str, Array]],
    families: Mapping[str, str],
    dtype: str,
) -> list[Difference]:
    """Compare one implementation's full-size arrays with those of the others.

    Parameters
    ----------
    name : str
        The implementation.
    results : mapping of str to dict of ndarray
        The arrays of all implementations.
    families : mapping of str to str
        The families of all implementations.
    dtype : str

    Returns
    -------
    list of Difference
        From the implementation that it agrees with best; empty where there is none to compare with.
    """
    others = [other for other in results if other != name]
    unrelated = [other for other in others if families[other] != families[name]]
    found = [between(results[name], results[other], other, dtype) for other in unrelated or others]
    return min(found, key=lambda differences: worst(differences).excess, default=[])
