"""Derives the backward equations of a cell, and what its forward pass keeps for them.

The forward equations are called with symbols, which gives an expression graph. Its adjoint, by the chain rule
from the new states' gradients back (A. Griewank, A. Walther, "Evaluating derivatives", SIAM 2008, chapter 3),
is more of the same graph. Previous and new states are in memory anyway; of all else as few numbers as
possible are kept for the backward pass: a smallest set of expressions through which everything goes that it
needs from the pre-activations (Menger's theorem), and of several such sets the one that leaves least to
compute again.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from lstm_numba.cells.definition import Definition, Names, call, check_name
from lstm_numba.cells.expressions import Expression, Graph, ancestors, depends
from lstm_numba.cells.functions import FUNCTIONS, Function
from lstm_numba.cells.plan import Plan

#: Kinds of symbols.
SLOT, PREVIOUS, VECTOR, GRADIENT = "slot", "previous", "vector", "gradient"
#: The name of the gradient of the second product's operand, which no state can have.
OPERAND = "the operand"

Expressions = tuple[Expression, ...]


class Forward(NamedTuple):
    """The forward equations.

    Attributes
    ----------
    graph : Graph
    results : dict
        New states and results of all phases, by name.
    """

    graph: Graph
    results: dict[str, Expression]


class Derived(NamedTuple):
    """Everything that the engines compute for one unit, as expressions.

    Attributes
    ----------
    slots : tuple of str
        Names of the slots; some may be fed by no product, and only carry what is kept.
    kept : tuple of Expression
        For each slot what it holds for the backward pass.
    states : tuple of Expression
        New states.
    operand : Expression or None
        Of the second product.
    dslots, dprevious, dvectors : tuple of Expression
        Gradients of pre-activations, previous states and vectors from those of the new states. A slot whose
        gradient depends on the operand's holds what is kept for it.
    late_slots, late_previous : tuple of Expression
        With the operand's gradient: gradients of all pre-activations, and what is added to those of the
        previous states. An expression of `dslots` is known to them.
    results, gradients : dict
        Named intermediate results, and the gradients of all expressions, for their names.
    """

    slots: tuple[str, ...]
    kept: Expressions
    states: Expressions
    operand: Expression | None
    dslots: Expressions
    dprevious: Expressions
    dvectors: Expressions
    late_slots: Expressions
    late_previous: Expressions
    results: dict[str, Expression]
    gradients: dict[Expression, Expression]


def trace(cell: Definition) -> Forward:
    """Call the forward equations with symbols.

    Raises
    ------
    TypeError, ValueError
        The equations fail or do not return what they should; the message names phase and line.
    """
    graph = Graph(FUNCTIONS)
    latest = {name: graph.symbol(PREVIOUS, name) for name in cell.states}
    latest |= {name: graph.symbol(VECTOR, name) for name in cell.vectors}
    slots: dict[str, Expression] = {}
    computed: dict[str, None] = {}  # not a set, whose order changes from process to process
    for n, phase in enumerate(cell.phases):
        what = "forward" if len(cell.phases) == 1 else f"phase {n}"
        slots |= {slot: graph.symbol(SLOT, slot) for product in phase.products for slot in product.slots}
        last = n == len(cell.phases) - 1
        given = Names("pre-activations", slots), Names("values", dict(latest))
        found = call(phase.equations, what, "new states" if last else "results", *given)
        for name, value in found.items():
            check_name(what, name)
            if name in cell.vectors:
                raise ValueError(f"{what}: returns {name!r}, which is a vector")
            if last and name not in cell.states:
                raise ValueError(f"{what}: returns {name!r}; the states are {', '.join(cell.states)}")
            latest[name] = _wrapped(graph, f"{what}: {name}", value)
        computed |= dict.fromkeys(found)
    for name in cell.states:
        if name not in computed:
            raise ValueError(f"forward: the new state {name!r} is missing")
    return Forward(graph, {name: latest[name] for name in (*cell.states, *computed)})


def _wrapped(graph: Graph, what: str, value: Any) -> Expression:
    try:
        return graph.wrap(value)
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None


def derive(cell: Definition, plan: Plan, forward: Forward) -> Derived:
    """Derive the backward equations, and what is kept for them.

    Raises
    ------
    ValueError
        The second product's operand is missing, or depends on a vector.
    """
    graph = forward.graph
    states = tuple(forward.results[name] for name in cell.states)
    operand = _operand(cell, plan, forward)
    leaves = _Leaves(graph, plan.slots, cell.states, cell.vectors)
    outputs = states if operand is None else (*states, operand)
    seeds: dict[Expression, Expression] = {}
    for name, state in zip(cell.states, states, strict=True):
        gradient = graph.symbol(GRADIENT, name)
        seeds[state] = _plus(seeds[state], gradient) if state in seeds else gradient
    gradients = adjoint(outputs, seeds)
    first = own_backward(cell, plan, forward) if cell.backward else leaves.gradients(gradients)
    late_seeds = {} if operand is None else {operand: graph.symbol(GRADIENT, OPERAND)}
    late = leaves.gradients(adjoint(outputs, late_seeds))
    found = _Keeping(graph, plan, leaves, states, operand, first, late, forward).derived()
    return found._replace(gradients=gradients)


def _operand(cell: Definition, plan: Plan, forward: Forward) -> Expression | None:
    if not plan.operand:
        return None
    if plan.operand not in forward.results:
        raise ValueError(f"phase 0: returns no {plan.operand!r}, the operand of a product of phase 1")
    found = forward.results[plan.operand]
    for node in ancestors([found]):
        if node.operation == "symbol" and node.arguments[0] == VECTOR:
            raise ValueError(
                f"phase 0: {plan.operand} depends on the vector {node.arguments[1]}; expected an operand of "
                "pre-activations and previous states only"
            )
    return found


class Gradients(NamedTuple):
    """Gradients of pre-activations, previous states and vectors."""

    slots: Expressions
    previous: Expressions
    vectors: Expressions


class _Leaves(NamedTuple):
    """What gradients are wanted of."""

    graph: Graph
    slots: tuple[str, ...]
    states: tuple[str, ...]
    vectors: tuple[str, ...]

    def gradients(self, found: Mapping[Expression, Expression]) -> Gradients:
        def of(kind: str, names: Iterable[str]) -> Expressions:
            zero = self.graph.wrap(0.0)
            return tuple(found.get(self.graph.symbol(kind, name), zero) for name in names)

        return Gradients(of(SLOT, self.slots), of(PREVIOUS, self.states), of(VECTOR, self.vectors))


def adjoint(
    outputs: Iterable[Expression], seeds: Mapping[Expression, Expression]
) -> dict[Expression, Expression]:
    """Gradients of all that outputs are computed from, by the chain rule.

    Parameters
    ----------
    outputs : iterable of Expression
    seeds : dict
        Gradients of some of them.
    """
    gradients = dict(seeds)
    for node in reversed(ancestors(outputs)):
        if node not in gradients:
            continue
        for argument, gradient in zip(node.operands, _chain_rule(node, gradients[node]), strict=True):
            if argument.number is None and argument.graph.wrap(gradient).number != 0:
                known = gradients.get(argument)
                gradients[argument] = gradient if known is None else _plus(known, gradient)
    return gradients


def _chain_rule(node: Expression, d: Expression) -> tuple[Any, ...]:
    """Gradients of a node's arguments from its own."""
    if isinstance(node.operation, Function):
        return node.operation.backward(d, node, *node.operands)
    if node.operation == "*":
        a, b = node.operands
        return d * b, d * a
    if node.operation == "/":
        quotient = d / node.operands[1]
        return quotient, -(quotient * node)
    signs: dict[Any, tuple[Any, ...]] = {"+": (d, d), "-": (d, -d), "negative": (-d,)}
    return signs.get(node.operation, ())


def _plus(a: Expression, b: Expression) -> Expression:
    """The sum of two gradients; of two products with the same first factor by one multiplication."""
    inner = b.arguments[0] if b.operation == "negative" else b
    if a.operation == inner.operation == "*" and a.arguments[0] is inner.arguments[0]:
        second = (
            a.arguments[1] - inner.arguments[1] if inner is not b else a.arguments[1] + inner.arguments[1]
        )
        return a.arguments[0] * second
    return a + b


def own_backward(cell: Definition, plan: Plan, forward: Forward) -> Gradients:
    """The author's backward equations, called with symbols.

    Raises
    ------
    TypeError, ValueError
        They fail or do not return what they should.
    """
    graph = forward.graph
    assert cell.backward is not None
    slots = {name: graph.symbol(SLOT, name) for name in plan.slots}
    values = {name: graph.symbol(PREVIOUS, name) for name in cell.states}
    values |= {name: graph.symbol(VECTOR, name) for name in cell.vectors}
    gradients = {name: graph.symbol(GRADIENT, name) for name in cell.states}
    found = call(
        cell.backward,
        "backward",
        "gradients",
        Names("pre-activations", slots),
        Names("values", values),
        Names("gradients of the new states", gradients),
    )
    wanted = {
        **{name: graph.symbol(SLOT, name) for name in plan.slots},
        **{name: graph.symbol(VECTOR, name) for name in cell.vectors},
    }
    for name in cell.states:  # a slot may have a state's name: then the state's is told by "previous_"
        wanted[f"previous_{name}" if name in wanted else name] = graph.symbol(PREVIOUS, name)
    for name in found:
        if name not in wanted:
            raise ValueError(f"backward: returns {name!r}; it returns gradients of {', '.join(wanted)}")
    leaves = _Leaves(graph, plan.slots, cell.states, cell.vectors)
    return leaves.gradients(
        {wanted[name]: _wrapped(graph, f"backward: {name}", value) for name, value in found.items()}
    )


class _Keeping:
    """Decides what the slots hold between the passes.

    Parameters
    ----------
    first, late : Gradients
        From the new states' gradients, and from the operand's.
    """

    def __init__(
        self, graph: Graph, plan: Plan, leaves: _Leaves, states: Expressions, operand: Expression | None,
        first: Gradients, late: Gradients, forward: Forward,
    ) -> None:  # fmt: skip
        self._graph, self._plan, self._leaves, self._forward = graph, plan, leaves, forward
        self._states, self._operand, self._first, self._late = states, operand, first, late

    def derived(self) -> Derived:
        """All expressions, and what the slots hold."""
        zero = self._graph.wrap(0.0)
        sums = [
            _plus(a, b) if a.number != 0 and b.number != 0 else b if a.number == 0 else a
            for a, b in zip(self._first.slots, self._late.slots, strict=True)
        ]
        open_slots = [n for n, gradient in enumerate(self._late.slots) if gradient.number != 0]
        wanted = [sums[n] for n in open_slots] + [g for g in self._late.previous if g.number != 0]
        between = smallest_cut(wanted, self._known_late(), lambda node: not self._is_late(node))
        dslots = self._place(between, list(self._first.slots), open_slots)
        needed = [*dslots, *self._first.previous, *self._first.vectors]
        operand = () if self._operand is None else (self._operand,)
        forward = set(ancestors([*self._states, *operand]))
        keep = smallest_cut(needed, self._known(), lambda node: node in forward)
        slots = [self._graph.symbol(SLOT, name) for name in self._plan.slots]
        kept = self._place(keep, slots, list(range(len(slots))))
        count = max(len(kept), len(dslots))
        late = [sums[n] if n in open_slots else dslots[n] for n in range(len(sums))]

        def padded(values: list[Expression]) -> Expressions:
            return (*values, *[zero] * (count - len(values)))

        more = (f"kept{n}" for n in itertools.count() if f"kept{n}" not in self._plan.slots)
        return Derived(
            (*self._plan.slots, *itertools.islice(more, count - len(slots))),
            padded(kept), self._states, self._operand, padded(dslots), self._first.previous,
            self._first.vectors, padded(late), self._late.previous, self._forward.results, {},
        )  # fmt: skip

    def _known(self) -> set[Expression]:
        """What the backward pass finds in memory."""
        leaves, symbol = self._leaves, self._graph.symbol
        return {
            *self._states,
            *(symbol(PREVIOUS, name) for name in leaves.states),
            *(symbol(GRADIENT, name) for name in leaves.states),
            *(symbol(VECTOR, name) for name in leaves.vectors),
        }

    def _known_late(self) -> set[Expression]:
        """What it finds when the operand's gradient is known."""
        previous = {self._graph.symbol(PREVIOUS, name) for name in self._leaves.states}
        return previous | {self._graph.symbol(GRADIENT, OPERAND)}

    def _is_late(self, node: Expression) -> bool:
        return depends(node, self._graph.symbol(GRADIENT, OPERAND))

    def _place(self, values: list[Expression], slots: list[Expression], free: list[int]) -> list[Expression]:
        """Put values into free slots, each if possible into one whose pre-activation it comes from."""
        result, free, rest = list(slots), list(free), []
        for value in values:
            roots = [
                n for n, name in enumerate(self._plan.slots) if depends(value, self._graph.symbol(SLOT, name))
            ]
            fitting = [n for n in free if n in roots]
            if len(roots) == 1 and fitting:
                result[fitting[0]] = value
                free.remove(fitting[0])
            else:
                rest.append((value, roots))
        for value, roots in rest:
            fitting = [n for n in free if n in roots] or free
            if fitting:
                result[fitting[0]] = value
                free.remove(fitting[0])
            else:
                result.append(value)
        return result


def smallest_cut(
    needed: Iterable[Expression], known: set[Expression], may_keep: Callable[[Expression], bool]
) -> list[Expression]:
    """A smallest set of expressions from which, with known ones, the needed ones can be computed.

    Of several such sets the one nearest to the needed ones.

    Parameters
    ----------
    needed : iterable of Expression
    known : set of Expression
        In addition to numbers.
    may_keep : callable
        Whether an expression may be in the set; for all without arguments that are not known it must be true.
    """
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
        if not node.operands:
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
