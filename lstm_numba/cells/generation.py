"""Writes a cell's equations, forward and derived backward, as Python functions that the engines compile."""

from __future__ import annotations

import itertools
import linecache
from collections import Counter
from collections.abc import Iterable
from types import FunctionType
from typing import Any

from lstm_numba.cells.definition import Definition
from lstm_numba.cells.derivation import (
    EXTRA,
    GRADIENT,
    MEAN,
    OPERAND,
    PREPARED,
    PREVIOUS,
    SLOT,
    VECTOR,
    Derived,
    Expressions,
)
from lstm_numba.cells.expressions import Expression, ancestors
from lstm_numba.cells.functions import FUNCTIONS, Function
from lstm_numba.cells.plan import Plan

_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "negative": 3}
_TIGHTEST = 4
#: What the functions of equations are called in the text, for the functions that have not their own name.
_CALLS = {"maximum": "max", "minimum": "min"}
#: What a name in the text must not hide.
_TAKEN = frozenset(
    ("self", "slots", "previous", "states", "peephole", "gradient", *FUNCTIONS, *_CALLS.values())
)


def written(
    names: dict[Expression, str], given: Iterable[Expression], outputs: Iterable[Expression]
) -> tuple[list[str], list[str]]:
    """Lines of Python that compute expressions.

    Parameters
    ----------
    names : dict
        What expressions are called.
    given, outputs : iterables of Expression
        What is known, by its name, and what is wanted.

    Returns
    -------
    lines : list of str
        Assignments of all that has a name or is used twice.
    texts : list of str
        The outputs.
    """
    outputs, known = list(outputs), set(given)
    nodes = ancestors(outputs, known)
    uses = Counter(operand for node in nodes if node not in known for operand in node.operands)
    uses.update(outputs)
    texts: dict[Expression, tuple[str, int]] = {}
    lines: list[str] = []
    numbers = (f"t{n}" for n in itertools.count(1) if f"t{n}" not in names.values())
    for node in nodes:
        if node in names and (node in known or not node.operands):
            texts[node] = names[node], _TIGHTEST
            continue
        texts[node] = _text(node, texts)
        if node.number is None and (node in names or uses[node] > 1):
            name = names.get(node) or next(numbers)
            lines.append(f"{name} = {texts[node][0]}")
            texts[node] = name, _TIGHTEST
    return lines, [texts[node][0] if node.number is None else repr(float(node.number)) for node in outputs]


def _text(node: Expression, texts: dict[Expression, tuple[str, int]]) -> tuple[str, int]:
    """An expression of what has a text already, and how tightly it binds."""
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
    plan : Plan
    derived : Derived
    """

    def __init__(self, cell: Definition, plan: Plan, derived: Derived) -> None:
        self._cell, self._plan, self._derived = cell, plan, derived
        self._graph = derived.states[0].graph
        self._names = self._chosen_names()

    def _symbol(self, kind: str, name: str) -> Expression:
        return self._graph.symbol(kind, name)

    def _chosen_names(self) -> dict[Expression, str]:
        """What is called as its author would call it; the first name that an expression gets stays."""
        d, cell, found = self._derived, self._cell, dict[Expression, str]()

        def free(text: str) -> bool:
            return text not in _TAKEN and text not in found.values()

        def maybe(node: Expression | None, text: str) -> None:
            if node is not None and node.number is None and node not in found and free(text):
                found[node] = text

        def name(node: Expression, text: str) -> None:
            others = (f"{text}_{n}" for n in itertools.count(2))
            maybe(node, next(filter(free, itertools.chain((text,), others))))

        for slot in d.slots:
            name(self._symbol(SLOT, slot), f"z_{slot}")
        for state in cell.states:
            name(self._symbol(PREVIOUS, state), f"{state}_prev")
            name(self._symbol(GRADIENT, state), f"d{state}")
        for vector in cell.vectors:
            name(self._symbol(VECTOR, vector), vector)
        for extra, _ in cell.extras:
            name(self._symbol(EXTRA, extra), extra)
        for mean in d.means:
            name(self._symbol(MEAN, mean), mean)
            name(self._symbol(GRADIENT, mean), f"d{mean}")
        name(self._symbol(GRADIENT, OPERAND), "doperand")
        name(self._symbol(GRADIENT, PREPARED), "dprepared")
        for result, node in d.results.items():
            name(node, result)
        for slot, node in zip(d.slots, d.kept, strict=True):
            maybe(node, slot)
            name(node, f"kept_{slot}")
        for slot, node in zip(d.slots, d.late_slots, strict=True):
            name(node, f"dz_{slot}")
        for slot, node in zip(d.slots, d.dslots, strict=True):
            name(node, f"for_{slot}")
        for vector, node in zip(cell.vectors, d.dvectors, strict=True):
            name(node, f"d{vector}")
        for slot in d.slots:  # a function of a pre-activation is called as the gate, if nothing else is
            for function in FUNCTIONS.values():
                maybe(self._graph.known(function, self._symbol(SLOT, slot)), slot)
        for node in ancestors(d.states):
            inner = found.get(node.operands[0]) if node.operands else None
            if inner and isinstance(node.operation, Function) and len(node.operands) == 1:
                maybe(node, f"{node.operation.name}_{inner}")
        for node, gradient in d.gradients.items():
            if node in found:
                maybe(gradient, f"d{found[node]}")
                maybe(gradient, f"d_{found[node]}")
        return found

    # -- the functions -------------------------------------------------------------------------------

    def forward(self) -> str:
        """``forward(self, slots, previous, peephole)``"""
        d = self._derived
        given = [*self._known_forward(), *self._reused(d.reused, range(len(d.levels)))]
        return self._function("forward(self, slots, previous, peephole)", given, d.kept, d.states)

    def means(self, level: int) -> str:
        """``means_0(self, slots, previous, peephole)``, and so on"""
        d = self._derived
        given = [*self._known_forward(), *self._reused(d.reused, range(level))]
        found = tuple(d.means[name] for name in d.levels[level])
        header = f"means_{level}(self, slots, previous, peephole)"
        return self._function(header, given, found, d.reused[level])

    def dmeans(self, level: int) -> str:
        """``dmeans_0(self, slots, previous, states, peephole, gradient)``, and so on"""
        d = self._derived
        given = [*self._known_backward(), *self._reused(d.dreused, range(level + 1, len(d.levels)))]
        found = tuple(d.dmeans[name] for name in d.levels[level])
        header = f"dmeans_{level}(self, slots, previous, states, peephole, gradient)"
        return self._function(header, given, found, d.dreused[level])

    def backward(self) -> str:
        """``backward(self, slots, previous, states, peephole, gradient)``"""
        d = self._derived
        header = "backward(self, slots, previous, states, peephole, gradient)"
        given = [*self._known_backward(), *self._reused(d.dreused, range(len(d.levels)))]
        return self._function(header, given, d.dslots, d.dprevious, d.dvectors)

    def _known_forward(self) -> list[tuple[Expression, str]]:
        """What the forward pass is given."""
        return [*self._given("slots", SLOT), *self._given("previous", PREVIOUS), *self._vectors()]

    def _known_backward(self) -> list[tuple[Expression, str]]:
        """What the backward pass is given; the means' gradients are behind those of the states."""
        d = self._derived
        gradients = [self._symbol(GRADIENT, name) for name in (*self._cell.states, *self._means())]
        return [
            *((node, f"slots[{n}]") for n, node in enumerate(d.kept)),
            *self._given("previous", PREVIOUS),
            *((node, f"states[{n}]") for n, node in enumerate(d.states)),
            *self._vectors(),
            *((node, f"gradient[{n}]") for n, node in enumerate(gradients)),
        ]

    def _means(self) -> tuple[str, ...]:
        """The means in the order in which they are computed."""
        return tuple(itertools.chain.from_iterable(self._derived.levels))

    def operand(self) -> str:
        """``operand(self, slots, previous, peephole)``"""
        assert self._derived.operand is not None
        header = "operand(self, slots, previous, peephole)"
        return self._function(header, self._known_forward(), self._derived.operand)

    def operand_backward(self) -> str:
        """``operand_backward(self, slots, previous, peephole, gradient)``"""
        d = self._derived
        given = [
            *((node, f"slots[{n}]") for n, node in enumerate(d.dslots)),
            *self._given("previous", PREVIOUS),
            *self._vectors(),
            (self._symbol(GRADIENT, OPERAND), "gradient"),
        ]
        header = "operand_backward(self, slots, previous, peephole, gradient)"
        return self._function(header, given, d.late_slots, d.late_previous)

    def prepare(self) -> str:
        """``prepare(self, previous, peephole)``"""
        assert self._derived.prepared is not None
        given = [*self._given("previous", PREVIOUS), *self._vectors()]
        return self._function("prepare(self, previous, peephole)", given, self._derived.prepared)

    def prepare_backward(self) -> str:
        """``prepare_backward(self, previous, peephole, gradient)``"""
        gradient = self._symbol(GRADIENT, PREPARED), "gradient"
        given = [*self._given("previous", PREVIOUS), *self._vectors(), gradient]
        header = "prepare_backward(self, previous, peephole, gradient)"
        return self._function(header, given, self._derived.prepared_previous)

    def _given(self, argument: str, kind: str) -> list[tuple[Expression, str]]:
        names = self._derived.slots if kind == SLOT else self._cell.states
        return [(self._symbol(kind, name), f"{argument}[{n}]") for n, name in enumerate(names)]

    def _vectors(self) -> list[tuple[Expression, str]]:
        """Vectors, behind them the extras, and behind those the means."""
        symbols = [self._symbol(VECTOR, name) for name in self._cell.vectors]
        symbols += [self._symbol(EXTRA, name) for name, _ in self._cell.extras]
        symbols += [self._symbol(MEAN, name) for name in self._means()]
        return [(symbol, f"peephole[{n}]") for n, symbol in enumerate(symbols)]

    def _reused(self, groups: tuple[Expressions, ...], levels: Iterable[int]) -> list[tuple[Expression, str]]:
        """What equations of some levels have handed on: behind the means."""
        first = len(self._vectors())
        places = dict(enumerate(itertools.accumulate(map(len, groups), initial=first)))
        return [(node, f"peephole[{places[n] + k}]") for n in levels for k, node in enumerate(groups[n])]

    def _function(
        self, header: str, given: list[tuple[Expression, str]], *results: Expression | Expressions
    ) -> str:
        """A function of what is given, each by the text that it is read by."""
        flat = [node for result in results for node in (result if isinstance(result, tuple) else (result,))]
        known: dict[Expression, str] = {}
        for node, text in given:
            if node.number is None:
                known.setdefault(node, text)
        used = set(ancestors(flat, known))
        known = {node: text for node, text in known.items() if node in used}
        unnamed = (node for node in known if node not in self._names)
        names = self._names | {node: f"reused{n}" for n, node in enumerate(unnamed)}
        lines, texts = written(names, known, flat)
        reads = [f"{names[node]} = {text}" for node, text in known.items()]
        returned, rest = [], iter(texts)
        for result in results:
            returned.append(_tuple([next(rest) for _ in result]) if isinstance(result, tuple) else next(rest))
        body = "".join(f"    {line}\n" for line in (*reads, *lines))
        return f"def {header}:\n{body}    return {', '.join(returned)}\n"

    # -- to be read ----------------------------------------------------------------------------------

    def shown(self) -> str:
        """Forward and backward equations of one unit, as `lstm_numba.show_cell` prints them."""
        d, cell = self._derived, self._cell
        parts = [self._part("means over the units of", (), d.means)] if d.means else []
        parts.append(self._part("forward", (), dict(zip(cell.states, d.states, strict=True))))
        if d.operand is not None:
            parts[:0] = [self._part("operand of the second product", (), {self._plan.operand: d.operand})]
        if d.prepared is not None:
            parts[:0] = [self._part("operand of the first product", (), {"prepared": d.prepared})]
        known = {*d.kept, *d.states, *(n for n in ancestors(d.kept + d.states) if not n.operands)}
        needed = set(ancestors([*d.dslots, *d.dprevious, *d.dvectors, *d.dmeans.values()], known))
        kept = [self._names[node] for node in d.kept if node in needed and node.number is None]
        parts.append(f"kept for the backward pass: {', '.join([*kept, 'all states'])}")
        late = [n for n, (a, b) in enumerate(zip(d.dslots, d.late_slots, strict=True)) if a is not b]
        wanted = {
            f"dz_{s}": g for n, (s, g) in enumerate(zip(d.slots, d.dslots, strict=True)) if n not in late
        }
        wanted |= {f"d{name}_prev": g for name, g in zip(cell.states, d.dprevious, strict=True)}
        wanted |= {f"d{name}": g for name, g in zip(cell.vectors, d.dvectors, strict=True)}
        wanted |= {self._names.get(g, ""): g for g in (d.dslots[n] for n in late) if g not in known}
        gradients = ", ".join(f"d{name}" for name in cell.states)
        if d.means:
            means = {f"d{name}": d.dmeans[name] for name in reversed(self._means())}
            title = f"gradients of the means, from {gradients}, are the means over the units of"
            parts.append(self._part(title, known, means))
            gradients += " and those of the means"
        parts.append(self._part(f"backward, from {gradients}", known, wanted))
        if d.operand is not None:
            wanted = {f"dz_{d.slots[n]}": d.late_slots[n] for n in late}
            wanted |= {f"d{name}_prev": g for name, g in zip(cell.states, d.late_previous, strict=True)}
            known |= {*d.dslots}
            parts.append(self._part("and from the operand's gradient; dh_prev is added", known, wanted))
        if d.prepared is not None:
            wanted = {f"d{name}_prev": g for name, g in zip(cell.states, d.prepared_previous, strict=True)}
            title = "and from the gradient of the first product's operand; the gradients are added"
            parts.append(self._part(title, (), wanted))
        return "\n".join((cell.name, *parts))

    def _part(self, title: str, known: Iterable[Expression], wanted: dict[str, Expression]) -> str:
        wanted = {name: node for name, node in wanted.items() if node.number != 0}
        lines, texts = written(self._names, known, wanted.values())
        for name, text in zip(wanted, texts, strict=True):
            if text != name:
                lines.append(f"{name} = {text}")
        return "\n".join((title, *(f"    {line}" for line in lines)))


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
