"""Writes a cell's equations, forward and derived backward, as Python functions that the engines compile."""

from __future__ import annotations

import linecache
from collections.abc import Iterable
from types import FunctionType
from typing import Any

from lstm_numba.cells.definition import Definition
from lstm_numba.cells.derivation import GRADIENT, OPERAND, PREVIOUS, SLOT, VECTOR, Derived
from lstm_numba.cells.expressions import Expression, ancestors
from lstm_numba.cells.functions import FUNCTIONS, Function

_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "negative": 3}
_TIGHTEST = 4
#: What the functions of equations are called in the text, for the functions that have not their own name.
_CALLS = {"maximum": "max", "minimum": "min"}


class Writer:
    """Writes expressions as lines of Python that assign names.

    Parameters
    ----------
    names : dict
        What expressions are called.
    """

    def __init__(self, names: dict[Expression, str]) -> None:
        self._preferred = dict(names)

    def lines(
        self, given: Iterable[Expression], outputs: Iterable[Expression]
    ) -> tuple[list[str], list[str]]:
        """Assignments of all that is used twice or has a name, and the outputs' texts.

        Parameters
        ----------
        given, outputs : iterables of Expression
            What is known, by its name, and what is wanted.
        """
        outputs, known = list(outputs), set(given)
        nodes = ancestors(outputs, known)
        uses: dict[Expression, int] = {}
        for node in nodes:
            for operand in () if node in known else node.operands:
                uses[operand] = uses.get(operand, 0) + 1
        for node in outputs:
            uses[node] = uses.get(node, 0) + 1
        texts = {node: (self._preferred[node], _TIGHTEST) for node in known if node in self._preferred}
        taken, found, count = set(self._preferred.values()), [], 0
        for node in nodes:
            if node in texts:
                continue
            text = self._text(node, texts)
            if node.number is None and (node in self._preferred or uses[node] > 1):
                name = self._preferred.get(node)
                while name is None:
                    count += 1
                    name = None if f"t{count}" in taken else f"t{count}"
                found.append(f"{name} = {text[0]}")
                text = (name, _TIGHTEST)
            texts[node] = text
        return found, [texts[node][0] for node in outputs]

    def _text(self, node: Expression, texts: dict[Expression, tuple[str, int]]) -> tuple[str, int]:
        if node.number is not None:
            return repr(node.number), _TIGHTEST if node.number >= 0 else _STRENGTH["negative"]
        if isinstance(node.operation, Function):
            arguments = ", ".join(texts[a][0] for a in node.operands)
            return f"{_CALLS.get(node.operation.name, node.operation.name)}({arguments})", _TIGHTEST
        strength = _STRENGTH[node.operation]
        if node.operation == "negative":
            return f"-{_inside(texts[node.operands[0]], strength)}", strength
        left, right = (texts[operand] for operand in node.operands)
        return f"{_inside(left, strength)} {node.operation} {_inside(right, strength + 1)}", strength


def _inside(text: tuple[str, int], strength: int) -> str:
    return text[0] if text[1] >= strength else f"({text[0]})"


class Equations:
    """A cell's equations as text.

    Parameters
    ----------
    cell : Definition
    derived : Derived
    """

    def __init__(self, cell: Definition, derived: Derived) -> None:
        self._cell, self._derived, self._slots = cell, derived, derived.slots
        self._graph = derived.states[0].graph
        self._writer = Writer(self._names())

    def _symbol(self, kind: str, name: str) -> Expression:
        return self._graph.symbol(kind, name)

    def _names(self) -> dict[Expression, str]:
        """What is called as its author would call it; the first name that an expression gets is its own."""
        derived, found = self._derived, {}

        def name(node: Expression, text: str) -> None:
            if node.number is None and node not in found and text not in found.values():
                found[node] = text

        for slot in derived.slots:
            name(self._symbol(SLOT, slot), f"z_{slot}")
        for state in self._cell.states:
            name(self._symbol(PREVIOUS, state), f"{state}_prev")
            name(self._symbol(GRADIENT, state), f"d{state}")
        for vector in self._cell.vectors:
            name(self._symbol(VECTOR, vector), vector)
        name(self._symbol(GRADIENT, OPERAND), "doperand")
        for result, node in derived.results.items():
            name(node, result)
        for slot, node in zip(derived.slots, derived.kept, strict=True):
            name(node, slot)
        for slot, node in zip(derived.slots, derived.late_slots, strict=True):
            name(node, f"dz_{slot}")
        for vector, node in zip(self._cell.vectors, derived.dvectors, strict=True):
            name(node, f"d{vector}")
        for slot in self._slots:
            for function in FUNCTIONS.values():
                node = self._graph.known(function, self._symbol(SLOT, slot))
                if node is not None:
                    name(node, slot)
        for node in ancestors(derived.states):
            if isinstance(node.operation, Function) and len(node.operands) == 1:
                inner = found.get(node.operands[0], "")
                name(node, f"{node.operation.name}_{inner}" if inner else "")
        for node, gradient in derived.gradients.items():
            if node in found:
                name(
                    gradient,
                    f"d{found[node]}" if f"d{found[node]}" not in found.values() else f"d_{found[node]}",
                )
        return {node: text for node, text in found.items() if text}

    # -- the functions -------------------------------------------------------------------------------

    def forward(self) -> str:
        """``forward(self, slots, previous, peephole)``"""
        d = self._derived
        given = [*self._given("slots", SLOT), *self._given("previous", PREVIOUS), *self._vectors()]
        return self._function("forward(self, slots, previous, peephole)", given, d.kept, d.states)

    def backward(self) -> str:
        """``backward(self, slots, previous, states, peephole, gradient)``"""
        d = self._derived
        given = [
            *((node, f"slots[{n}]") for n, node in enumerate(d.kept)),
            *self._given("previous", PREVIOUS),
            *((node, f"states[{n}]") for n, node in enumerate(d.states)),
            *self._vectors(),
            *self._given("gradient", GRADIENT),
        ]
        header = "backward(self, slots, previous, states, peephole, gradient)"
        return self._function(header, given, d.dslots, d.dprevious, d.dvectors)

    def operand(self) -> str:
        """``operand(self, slots, previous)``"""
        assert self._derived.operand is not None
        given = [*self._given("slots", SLOT), *self._given("previous", PREVIOUS)]
        return self._function("operand(self, slots, previous)", given, self._derived.operand)

    def operand_backward(self) -> str:
        """``operand_backward(self, slots, previous, gradient)``"""
        d = self._derived
        given = [
            *((node, f"slots[{n}]") for n, node in enumerate(d.dslots)),
            *self._given("previous", PREVIOUS),
            (self._symbol(GRADIENT, OPERAND), "gradient"),
        ]
        header = "operand_backward(self, slots, previous, gradient)"
        return self._function(header, given, d.late_slots, d.late_previous)

    def _given(self, argument: str, kind: str) -> list[tuple[Expression, str]]:
        names = self._derived.slots if kind == SLOT else self._cell.states
        return [(self._symbol(kind, name), f"{argument}[{n}]") for n, name in enumerate(names)]

    def _vectors(self) -> list[tuple[Expression, str]]:
        return [(self._symbol(VECTOR, name), f"peephole[{n}]") for n, name in enumerate(self._cell.vectors)]

    def _function(
        self, header: str, given: list[tuple[Expression, str]], *results: Expression | tuple[Expression, ...]
    ) -> str:
        """A function of what is given, each by the text that it is read by."""
        flat = [node for result in results for node in (result if isinstance(result, tuple) else (result,))]
        known: dict[Expression, str] = {}
        for node, text in given:
            if node.number is None:
                known.setdefault(node, text)
        used = set(ancestors(flat, known))
        names = {n: name for n, name in self._writer._preferred.items()}
        reads = []
        for n, (node, text) in enumerate(known.items()):
            if node in used:
                names.setdefault(node, f"k{n}")
                reads.append(f"{names[node]} = {text}")
        lines, texts = Writer(names).lines([n for n in known if n in used], flat)
        texts = [
            repr(float(n.number)) if n.number is not None else text
            for n, text in zip(flat, texts, strict=True)
        ]
        texts.reverse()
        returned = [
            _tuple([texts.pop() for _ in result]) if isinstance(result, tuple) else texts.pop()
            for result in results
        ]
        body = "".join(f"    {line}\n" for line in (*reads, *lines))
        return f"def {header}:\n{body}    return {', '.join(returned)}\n"


def _tuple(texts: list[str]) -> str:
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def _globals() -> dict[str, Any]:
    """What the functions call: that of which the engines have implementations."""
    found = {_CALLS.get(name, name): function.of_numbers for name, function in FUNCTIONS.items()}
    return {**found, "__builtins__": {}}


def compiled(name: str, text: str, file: str, module: str) -> FunctionType:
    """The function of a text, with its lines where tracebacks and debuggers look for them.

    Parameters
    ----------
    name, text : str
    file : str
        What its file is called.
    module : str
        An importable module that it is said to be of: Numba's disk cache imports it.
    """
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace = _globals()
    exec(compile(text, file, "exec"), namespace)
    function = namespace[name]
    function.__module__ = module
    return function
