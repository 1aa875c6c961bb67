"""Which gate of a cell decides how much of a state is kept, read from the cell's equations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from lstm_numba.cells.derivation import PREVIOUS, trace
from lstm_numba.cells.expressions import Expression
from lstm_numba.cells.plan import make_plan
from lstm_numba.cells.traced import traced_values


class Keeping(NamedTuple):
    """A state is the gate times the state before, plus something else.

    Attributes
    ----------
    gate : str
        Its name in a trace.
    state : str
    inverted : bool
        It is one minus the gate.
    """

    gate: str
    state: str
    inverted: bool

    def __str__(self) -> str:
        return f"1 − {self.gate}" if self.inverted else self.gate


def keeping(cell: Any) -> Keeping | None:
    """The gate that decides how much of a state is kept: f of an LSTM, z of a GRU.

    Parameters
    ----------
    cell : Cell

    Returns
    -------
    Keeping or None
        None where no state has a term of the form gate times state before, as in a plain RNN.
    """
    definition = cell.definition
    forward = trace(definition)
    traced = traced_values(definition, make_plan(definition), forward)
    gates = {traced.values[name]: name for name in traced.gates}
    for state in definition.states:
        before = forward.graph.symbol(PREVIOUS, state)
        for factor in _factors(forward.results[state], before):
            if factor in gates:
                return Keeping(gates[factor], state, False)
            rest = factor.operands[1] if factor.operation == "-" and factor.operands[0].number == 1 else None
            if rest is not None and rest in gates:
                return Keeping(gates[rest], state, True)
    return None


def _factors(node: Expression, of: Expression) -> Iterator[Expression]:
    """What an expression is multiplied by in the terms of a sum."""
    if node.operation == "+":
        for term in node.operands:
            yield from _factors(term, of)
    elif node.operation == "-":  # of a difference what is added
        yield from _factors(node.operands[0], of)
    elif node.operation == "*":
        left, right = node.operands
        if left is of or right is of:
            yield right if left is of else left
