"""Evaluates a cell's equations as plain Python on floats, and checks the form of what they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class WrongShape(ValueError):
    """An equation returned the wrong number of values, or something else than numbers."""


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
    kept, states = _pair("forward", cell.forward(*point), "slots to keep, new states")
    return (
        _numbers("forward", "slots to keep", kept, cell.slots),
        _numbers("forward", "new states", states, cell.states),
    )


def operand(cell: Any, point: Point) -> float:
    """The operand of the second product."""
    (value,) = _numbers("operand", "operand", (cell.operand(point.slots, point.previous),), ("operand",))
    return value


def backward(cell: Any, point: Point, gradient: Sequence[float]) -> Gradients:
    """`Cell.backward` at a point, for a gradient of the new states."""
    kept, states = forward(cell, point)
    found = cell.backward(kept, point.previous, states, point.peephole, tuple(gradient))
    if not isinstance(found, tuple) or len(found) != 3:
        raise WrongShape(
            f"backward: expected the gradients of (slots, previous states, peepholes), got {found!r}"
        )
    slots, previous, peephole = found
    return Gradients(
        _numbers("backward", "slots' gradients", slots, cell.slots),
        _numbers("backward", "previous states' gradients", previous, cell.states),
        _numbers("backward", "peepholes' gradients", peephole, cell.peepholes),
    )


def operand_backward(cell: Any, point: Point, after: Gradients, gradient: float) -> Gradients:
    """`TwoStageCell.operand_backward`, for the gradients `after` that `backward` returned."""
    found = _pair(
        "operand_backward",
        cell.operand_backward(after.slots, point.previous, gradient),
        "slots' gradients, addition to the previous states' gradients",
    )
    slots = _numbers("operand_backward", "slots' gradients", found[0], cell.slots)
    added = _numbers("operand_backward", "addition to the previous states' gradients", found[1], cell.states)
    return Gradients(slots, tuple(a + b for a, b in zip(after.previous, added, strict=True)), after.peephole)


def run_once(cell: Any, number: Callable[[], float]) -> None:
    """Run all equations of a cell once on random numbers.

    Raises
    ------
    WrongShape
        An equation returned the wrong form.
    """
    point = draw(cell, number)
    found = backward(cell, point, tuple(number() for _ in cell.states))
    if len(cell.stages) > 1:
        operand(cell, point)
        operand_backward(cell, point, found, number())


def _pair(method: str, found: Any, expected: str) -> tuple[Any, Any]:
    if not isinstance(found, tuple) or len(found) != 2:
        raise WrongShape(f"{method}: expected to get a pair ({expected}), got {found!r}")
    return found[0], found[1]


def _numbers(method: str, what: str, values: Any, names: Sequence[str]) -> tuple[float, ...]:
    if not isinstance(values, tuple) or len(values) != len(names):
        expected = f"a tuple of {len(names)} ({', '.join(names)})" if names else "an empty tuple"
        raise WrongShape(f"{method}: {what}: expected {expected}, got {values!r}")
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise WrongShape(f"{method}: {what}: expected numbers, got {values!r}") from None
