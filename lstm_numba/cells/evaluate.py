"""Evaluates a cell's equations as plain Python on floats."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Point(NamedTuple):
    """Arguments of the equations of one hidden unit.

    Attributes
    ----------
    slots : tuple of float
        Pre-activations.
    previous : tuple of float
        Previous states.
    peephole : tuple of float
        Per-unit vectors, such as peephole weights, extras, and means.
    """

    slots: tuple[float, ...]
    previous: tuple[float, ...]
    peephole: tuple[float, ...]


class Gradients(NamedTuple):
    """Gradients with respect to the fields of a `Point`; NaN for extras."""

    slots: tuple[float, ...]
    previous: tuple[float, ...]
    peephole: tuple[float, ...]


def mean_count(cell: Any) -> int:
    """Means over a row's units."""
    return sum(map(len, cell.mean_levels))


def draw(cell: Any, number: Callable[[], float]) -> Point:
    """A point for the cell, each number from `number`."""
    counts = (len(cell.slots), len(cell.states), len(cell.peepholes) + len(cell.extras) + mean_count(cell))
    return Point(*(tuple(number() for _ in range(count)) for count in counts))


def forward(cell: Any, point: Point) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Slots to keep for backward, and new states."""
    _, reused = _means(cell, point)
    kept, states = cell.forward(point.slots, point.previous, (*point.peephole, *reused))
    return kept, states


def operand(cell: Any, point: Point) -> float:
    """The operand of the second product."""
    return float(cell.operand(*point))


def prepare(cell: Any, point: Point) -> float:
    """The operand of the first product, for a cell that prepares it."""
    return float(cell.prepare(point.previous, point.peephole))


def prepare_backward(cell: Any, point: Point, gradient: float) -> tuple[float, ...]:
    """Gradients of the previous states from that of this operand."""
    return tuple(cell.prepare_backward(point.previous, point.peephole, gradient))


def backward(cell: Any, point: Point, gradient: Sequence[float]) -> Gradients:
    """`Cell.backward` at a point, for a gradient of the new states and of what is added to means."""
    kept, states = forward(cell, point)

    def run(name: str, reused: Sequence[float]) -> Any:
        given = kept, point.previous, states, (*point.peephole, *reused), tuple(gradient)
        return getattr(cell, name)(*given)

    dmeans, reused = _in_groups(cell.dreused, True, lambda n, reused: run(f"dmeans_{n}", reused))
    slots, previous, vectors = run("backward", reused)
    return Gradients(slots, previous, (*vectors, *(math.nan for _ in cell.extras), *dmeans))


def _means(cell: Any, point: Point) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What a unit adds to each of the means, and what is reused."""

    def run(n: int, reused: Sequence[float]) -> Any:
        return getattr(cell, f"means_{n}")(point.slots, point.previous, (*point.peephole, *reused))

    return _in_groups(cell.reused, False, run)


def _in_groups(
    counts: Sequence[int], backward: bool, function: Callable[[int, Sequence[float]], Any]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """All that the functions of some groups of means return, each of what those before it leave to reuse."""
    values: list[tuple[float, ...]] = [()] * len(counts)
    reused: list[tuple[float, ...]] = [(math.nan,) * count for count in counts]
    for n in reversed(range(len(counts))) if backward else range(len(counts)):
        values[n], reused[n] = function(n, tuple(itertools.chain.from_iterable(reused)))
    return tuple(itertools.chain.from_iterable(values)), tuple(itertools.chain.from_iterable(reused))


def contributions(cell: Any, point: Point) -> tuple[float, ...]:
    """What a unit adds to each of the means."""
    return _means(cell, point)[0]


def operand_backward(cell: Any, point: Point, after: Gradients, gradient: float) -> Gradients:
    """`TwoStageCell.operand_backward`, for the gradients `after` that `backward` returned."""
    slots, added = cell.operand_backward(after.slots, point.previous, point.peephole, gradient)
    return Gradients(slots, tuple(a + b for a, b in zip(after.previous, added, strict=True)), after.peephole)


def run_once(cell: Any, number: Callable[[], float]) -> None:
    """Run all equations of a cell once on random numbers."""
    point = draw(cell, number)
    gradient = tuple(number() for _ in range(len(cell.states) + mean_count(cell)))
    found = backward(cell, point, gradient)
    contributions(cell, point)
    if len(cell.stages) > 1:
        operand(cell, point)
        operand_backward(cell, point, found, number())
    if cell.prepared:
        prepare(cell, point)
        prepare_backward(cell, point, number())
