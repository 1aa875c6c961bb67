"""Evaluates a cell's equations as plain Python on floats."""

from __future__ import annotations

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
        Peephole weights.
    """

    slots: tuple[float, ...]
    previous: tuple[float, ...]
    peephole: tuple[float, ...]


class Gradients(NamedTuple):
    """Gradients with respect to the fields of a `Point`."""

    slots: tuple[float, ...]
    previous: tuple[float, ...]
    peephole: tuple[float, ...]


def draw(cell: Any, number: Callable[[], float]) -> Point:
    """A point for the cell, each number from `number`."""
    counts = (len(cell.slots), len(cell.states), len(cell.peepholes))
    return Point(*(tuple(number() for _ in range(count)) for count in counts))


def forward(cell: Any, point: Point) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Slots to keep for backward, and new states."""
    kept, states = cell.forward(*point)
    return kept, states


def operand(cell: Any, point: Point) -> float:
    """The operand of the second product."""
    return float(cell.operand(point.slots, point.previous))


def backward(cell: Any, point: Point, gradient: Sequence[float]) -> Gradients:
    """`Cell.backward` at a point, for a gradient of the new states."""
    kept, states = forward(cell, point)
    return Gradients(*cell.backward(kept, point.previous, states, point.peephole, tuple(gradient)))


def operand_backward(cell: Any, point: Point, after: Gradients, gradient: float) -> Gradients:
    """`TwoStageCell.operand_backward`, for the gradients `after` that `backward` returned."""
    slots, added = cell.operand_backward(after.slots, point.previous, gradient)
    return Gradients(slots, tuple(a + b for a, b in zip(after.previous, added, strict=True)), after.peephole)


def run_once(cell: Any, number: Callable[[], float]) -> None:
    """Run all equations of a cell once on random numbers."""
    point = draw(cell, number)
    found = backward(cell, point, tuple(number() for _ in cell.states))
    if len(cell.stages) > 1:
        operand(cell, point)
        operand_backward(cell, point, found, number())
