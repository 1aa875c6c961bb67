"""A smallest set of expressions through which everything goes that others are computed from.

By Menger's theorem it has as many expressions as there are paths, none of which share one, from what must
not be computed again to what is needed: a largest flow in which each expression lets one path through.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from lstm_numba.cells.expressions import Expression, ancestors


def smallest_cut(
    needed: Iterable[Expression],
    known: set[Expression],
    may_keep: Callable[[Expression], bool],
    sources: Iterable[Expression] | None = None,
) -> list[Expression]:
    """A smallest set of expressions from which, with known ones, the needed ones can be computed.

    Of several such sets the one nearest to the needed ones.

    Parameters
    ----------
    needed : iterable of Expression
    known : set of Expression
        In addition to numbers.
    may_keep : callable
        Whether an expression may be in the set; for all sources it must be true.
    sources : iterable of Expression, optional
        What must not be computed from the known ones: by default all that is not known and has no arguments.
    """
    begin = None if sources is None else set(sources)
    needed = [node for node in needed if node not in known and node.number is None]
    nodes = [n for n in ancestors(needed, known) if n not in known and n.number is None]
    users: dict[Expression, list[Expression]] = {node: [] for node in nodes}
    for node in nodes:
        for operand in node.operands:
            if operand in users:
                users[operand].append(node)
    capacities: dict[Any, dict[Any, float]] = {}

    def join(one: Any, other: Any, capacity: float) -> None:
        capacities.setdefault(one, {})[other] = capacity
        capacities.setdefault(other, {}).setdefault(one, 0)

    for node in nodes:
        n = node.order
        join((n, "in"), (n, "out"), 1 if may_keep(node) else math.inf)
        if not node.operands if begin is None else node in begin:
            join("source", (n, "in"), math.inf)
        for user in users[node]:
            join((n, "out"), (user.order, "in"), math.inf)
    for node in needed:
        join((node.order, "out"), "target", math.inf)
    _saturate(capacities)
    left = _reaching(capacities, "target")
    return [node for node in nodes if (node.order, "out") in left and (node.order, "in") not in left]


def _saturate(capacities: dict[Any, dict[Any, float]]) -> None:
    """Take the largest flow from the source to the target out of the capacities, path by path."""
    while "target" in capacities:
        before: dict[Any, Any] = {"source": None}
        waiting = deque(["source"])
        while waiting and "target" not in before:
            here = waiting.popleft()
            for there, capacity in capacities.get(here, {}).items():
                if capacity > 0 and there not in before:
                    before[there] = here
                    waiting.append(there)
        if "target" not in before:
            return
        there = "target"
        while before[there] is not None:
            here = before[there]
            capacities[here][there] -= 1
            capacities[there][here] += 1
            there = here


def _reaching(capacities: dict[Any, dict[Any, float]], target: Any) -> set[Any]:
    """All places from which there is capacity left to the target."""
    found, waiting = {target}, [target]
    while waiting:
        there = waiting.pop()
        for here in capacities.get(there, {}):
            if capacities[here][there] > 0 and here not in found:
                found.add(here)
                waiting.append(here)
    return found
