"""Which values of a step are looked at: gates and candidates, found in a cell's equations.

A cell's author may name them (``traced``, with results of these names). Else they are, for every gate, the
activation of its pre-activation: the function of it, or of a sum that it is part of, with which the
equations go on; where there is none, the pre-activation itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from lstm_numba.cells.definition import Definition
from lstm_numba.cells.derivation import SLOT, Forward
from lstm_numba.cells.expressions import Expression, ancestors
from lstm_numba.cells.functions import (
    Function,
    cos,
    erf,
    exp,
    maximum,
    minimum,
    positive,
    relu,
    sigmoid,
    sin,
    tanh,
)
from lstm_numba.cells.plan import Plan

#: Functions whose values are within bounds.
_BOUNDED: dict[Function, tuple[float, float]] = {
    sigmoid: (0.0, 1.0),
    positive: (0.0, 1.0),
    tanh: (-1.0, 1.0),
    erf: (-1.0, 1.0),
    sin: (-1.0, 1.0),
    cos: (-1.0, 1.0),
}


class Traced(NamedTuple):
    """Values of a step by name.

    Attributes
    ----------
    values : dict of str to Expression
    gates : tuple of str
        Those that are within 0 and 1, whatever the numbers.
    """

    values: dict[str, Expression]
    gates: tuple[str, ...]


def traced_values(cell: Definition, plan: Plan, forward: Forward) -> Traced:
    """What a trace of a cell shows beside its states."""
    graph, known = forward.graph, {forward.results[name] for name in cell.states}
    found = {name: forward.results[name] for name in cell.traced}
    if not found:
        uses = _Uses.of([*forward.results.values(), *forward.operands, *forward.means.values()])
        for gate in dict.fromkeys((*plan.gates, *plan.recurrent_gates)):
            slot = graph.symbol(SLOT, gate)
            node = uses.activation(slot)
            if node is None or gate in cell.states or (node is slot and gate not in plan.gates):
                continue  # a slot that recurrent products alone feed is part of another one's gate
            if node not in known:
                found[gate] = node
                known.add(node)
    return Traced(found, tuple(name for name, node in found.items() if _within_one(node)))


class _Uses(NamedTuple):
    """What equations compute from what.

    Attributes
    ----------
    nodes : list of Expression
        All of them, arguments first.
    users : dict
        For each expression those that are computed from it directly.
    outputs : set of Expression
    """

    nodes: list[Expression]
    users: dict[Expression, list[Expression]]
    outputs: set[Expression]

    @classmethod
    def of(cls, outputs: list[Expression]) -> _Uses:
        users: dict[Expression, list[Expression]] = {}
        nodes = ancestors(outputs)
        for node in nodes:
            for operand in dict.fromkeys(node.operands):
                users.setdefault(operand, []).append(node)
        return cls(nodes, users, set(outputs))

    def activation(self, slot: Expression) -> Expression | None:
        """The function of a pre-activation, or of a sum that it is part of, with which others compute.

        The pre-activation itself where there is none, but None where it is part of a sum that has none.
        """
        root = slot
        while True:
            first = self._used(root)
            sums = [user for user in self.users.get(root, []) if user.operation in ("+", "-", "negative")]
            if first is not root:
                return first
            if not sums:
                return slot if root is slot else None
            root = sums[0]

    def _used(self, root: Expression) -> Expression:
        """The first expression of `root` and numbers alone that something else is computed from."""
        own = {root}
        for node in self.nodes:
            inner = [operand for operand in node.operands if operand.number is None]
            if inner and own.issuperset(inner):
                own.add(node)
        for node in sorted(own, key=lambda node: node.order):
            if node in self.outputs or not own.issuperset(self.users.get(node, [])):
                return node
        return root


def _within_one(node: Expression) -> bool:
    low, high = bounds(node)
    return low >= 0.0 and high <= 1.0


def bounds(node: Expression) -> tuple[float, float]:
    """Between what an expression is, whatever the numbers that it is computed from; found by its parts."""
    found: dict[Expression, tuple[float, float]] = {}  # each once: what is used twice is one expression
    for part in ancestors([node]):
        found[part] = _bounds_by(part, [found[operand] for operand in part.operands])
    return found[node]


def _bounds_by(node: Expression, inner: list[tuple[float, float]]) -> tuple[float, float]:
    """The same from those of its operands."""
    if node.number is not None:
        return float(node.number), float(node.number)
    if node.operation == "negative":
        ((low, high),) = inner
        return -high, -low
    if node.operation == "+":
        (a, b), (c, d) = inner
        return a + c, b + d
    if node.operation == "-":
        (a, b), (c, d) = inner
        top = 0.0 if node.operands[0] in set(_below(node.operands[1])) else math.inf
        return a - d, min(b - c, top)
    if node.operation == "*":
        products = [_times(x, y) for x in inner[0] for y in inner[1]]
        return min(products), max(products)
    return _function_bounds(node, inner)


def _function_bounds(node: Expression, inner: list[tuple[float, float]]) -> tuple[float, float]:
    if node.operation in _BOUNDED:
        return _BOUNDED[node.operation]
    if node.operation is relu:
        ((low, high),) = inner
        return max(low, 0.0), max(high, 0.0)
    if node.operation is exp:
        ((low, high),) = inner
        return _exp(low), _exp(high)
    if node.operation in (maximum, minimum):
        best = max if node.operation is maximum else min
        (a, b), (c, d) = inner
        return best(a, c), best(b, d)
    return -math.inf, math.inf


def _below(node: Expression) -> Iterator[Expression]:
    """What a maximum is never less than."""
    yield node
    if node.operation is maximum:
        for operand in node.operands:
            yield from _below(operand)


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0.0 or b == 0.0 else a * b


def _exp(value: float) -> float:
    return math.exp(value) if value < 700.0 else math.inf
