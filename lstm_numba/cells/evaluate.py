"""A cell's equations as plain Python on plain numbers, with a look at what they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class WrongShape(ValueError):
    """Equations returned something else than as many numbers as there are slots, states, peepholes."""


class Point(NamedTuple):
    """The numbers that one unit's equations are about.

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
    """Of the same numbers; those of the slots are in the order of the slots."""

    slots: tuple[float, ...]
    previous: tuple[float, ...]
    peephole: tuple[float, ...]


def draw(cell: Any, number: Callable[[], float]) -> Point:
    """A point of as many numbers as the cell needs."""
    counts = (len(cell.slots), len(cell.states), len(cell.peepholes))
    return Point(*(tuple(number() for _ in range(count)) for count in counts))


def forward(cell: Any, point: Point) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Slots to keep, and new states."""
    kept, states = _pair("forward", cell.forward(*point), "slots to keep, new states")
    return (
        _numbers("forward", "slots to keep", kept, cell.slots),
        _numbers("forward", "new states", states, cell.states),
    )


def operand(cell: Any, point: Point) -> float:
    """The operand of a second product."""
    (value,) = _numbers("operand", "operand", (cell.operand(point.slots, point.previous),), ("operand",))
    return value


def backward(cell: Any, point: Point, gradient: Sequence[float]) -> Gradients:
    """What `Cell.backward` says at a point, for a gradient of the new states."""
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
    """What `TwoStageCell.operand_backward` makes of the gradients that `backward` found."""
    found = _pair(
        "operand_backward",
        cell.operand_backward(after.slots, point.previous, gradient),
        "slots' gradients, addition to the previous states' gradients",
    )
    slots = _numbers("operand_backward", "slots' gradients", found[0], cell.slots)
    added = _numbers("operand_backward", "addition to the previous states' gradients", found[1], cell.states)
    return Gradients(slots, tuple(a + b for a, b in zip(after.previous, added, strict=True)), after.peephole)


def run_once(cell: Any, number: Callable[[], float]) -> None:
    """Run everything that a cell has on numbers.

    Raises
    ------
    WrongShape
        Something returned has another form than it should.
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
