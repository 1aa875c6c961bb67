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
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lstm_numba.cells.definition import Definition, Names, call, check_name
from lstm_numba.cells.expressions import Expression, Graph, ancestors, depends
from lstm_numba.cells.functions import FUNCTIONS, Function, absolute, maximum, minimum, positive, relu
from lstm_numba.cells.plan import Plan
from lstm_numba.cells.smallest_cut import smallest_cut

#: Kinds of symbols.
SLOT, PREVIOUS, VECTOR, EXTRA = "slot", "previous", "vector", "extra"
MEAN, GRADIENT = "mean", "gradient"
#: The names of the gradients of the products' operands, which no state can have.
PREPARED, OPERAND = "the prepared operand", "the operand"

#: Means of means of means, and so on.
_MOST_LEVELS = 3

Expressions = tuple[Expression, ...]


class Forward(NamedTuple):
    """The forward equations.

    Attributes
    ----------
    graph : Graph
    results : dict
        New states and results of all phases, by name.
    operands : tuple of Expression
        Of the recurrent products.
    means : dict
        What a unit contributes to each mean, by its name; a mean depends on those before it only.
    """

    graph: Graph
    results: dict[str, Expression]
    operands: Expressions
    means: dict[str, Expression]


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
    prepared : Expression or None
        Operand of the first recurrent product, where it is not the first state.
    operand : Expression or None
        Of the second product.
    dslots, dprevious, dvectors : tuple of Expression
        Gradients of pre-activations, previous states and vectors from those of the new states. A slot whose
        gradient depends on the operand's holds what is kept for it.
    late_slots, late_previous : tuple of Expression
        With the operand's gradient: gradients of all pre-activations, and what is added to those of the
        previous states. An expression of `dslots` is known to them.
    prepared_previous : tuple of Expression
        What the prepared operand's gradient adds to those of the previous states.
    means, dmeans : dict
        By the name of each mean, what a unit contributes to it, and to its gradient.
    levels : tuple of tuple of str
        The means in groups, each of which depends on those before it.
    reused, dreused : tuple of tuple of Expression
        For each group, what is computed with its means, or with their gradients, and what the equations that
        follow in the step need again; these are few numbers, without which much would be computed twice.
    results, gradients : dict
        Named intermediate results, and the gradients of all expressions, for their names.
    """

    slots: tuple[str, ...]
    kept: Expressions
    states: Expressions
    prepared: Expression | None
    operand: Expression | None
    dslots: Expressions
    dprevious: Expressions
    dvectors: Expressions
    late_slots: Expressions
    late_previous: Expressions
    prepared_previous: Expressions
    means: dict[str, Expression]
    dmeans: dict[str, Expression]
    levels: tuple[tuple[str, ...], ...]
    reused: tuple[Expressions, ...]
    dreused: tuple[Expressions, ...]
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
    latest |= {name: graph.symbol(EXTRA, name) for name, _ in cell.extras}
    slots: dict[str, Expression] = {}
    operands: list[Expression] = []
    contributions: dict[str, Expression] = {}
    computed: dict[str, None] = {}  # not a set, whose order changes from process to process
    for n, phase in enumerate(cell.phases):
        what = "forward" if len(cell.phases) == 1 else f"phase {n}"
        for product in phase.products:
            if product.weight != "weight_ih":
                if product.operand not in latest:
                    raise ValueError(
                        f"phase {max(0, n - 1)}: returns no {product.operand!r}, the operand of a product of "
                        f"phase {n}"
                    )
                operands.append(latest[product.operand])
        slots |= {slot: graph.symbol(SLOT, slot) for product in phase.products for slot in product.slots}
        last = n == len(cell.phases) - 1
        given = Names("pre-activations", slots), Names("values", dict(latest))
        found = call(phase.equations, what, "new states" if last else "results", *given)
        for name, value in found.items():
            check_name(what, name)
            if name in cell.vectors:
                raise ValueError(f"{what}: returns {name!r}, which is a vector")
            if any(name == extra.name for extra in cell.extras):
                raise ValueError(f"{what}: returns {name!r}, which is an extra")
            if last and name not in (*cell.states, *cell.traced):
                if name in cell.means:
                    raise ValueError(f"{what}: returns the mean {name!r}, which no later phase uses")
                raise ValueError(f"{what}: returns {name!r}; the states are {', '.join(cell.states)}")
            latest[name] = _wrapped(graph, f"{what}: {name}", value)
            if name in cell.means:
                contributions[name], latest[name] = latest[name], graph.symbol(MEAN, name)
        computed |= dict.fromkeys(name for name in found if name not in cell.means)
    for name in cell.states:
        if name not in computed:
            raise ValueError(f"forward: the new state {name!r} is missing")
    for name in cell.means:
        if name not in contributions:
            raise ValueError(f"means: no phase returns {name!r}")
    for name in cell.traced:
        if name not in computed:
            raise ValueError(f"traced: no phase returns {name!r}")
    results = {name: latest[name] for name in (*cell.states, *computed)}
    forward = Forward(graph, results, tuple(operands), contributions)
    return _with_candidate_mask(cell, forward) if cell.candidate_mask else forward


def _with_candidate_mask(cell: Definition, forward: Forward) -> Forward:
    """The same equations with the candidate's activation times the mask.

    Raises
    ------
    ValueError
        There is no activation of the candidate's slot alone that could be masked.
    """
    graph = forward.graph
    outputs = [*forward.results.values(), *forward.operands, *forward.means.values()]
    everything = dict.fromkeys(outputs)
    node, found = graph.symbol(SLOT, str(cell.candidate)), None
    users: dict[Expression, list[Expression]] = {}
    for user in ancestors(everything):
        for operand in dict.fromkeys(user.operands):
            users.setdefault(operand, []).append(user)
    if cell.candidate in forward.results:
        node = found = forward.results[cell.candidate]
    while cell.candidate not in forward.results and node.operation not in ("*", "/"):
        found = node if isinstance(node.operation, Function) else found
        above = users.get(node, [])
        if len(above) != 1 or node in everything:
            break
        node = above[0]
    if not cell.candidate or found is None:
        raise ValueError("the cell has no candidate with an activation of its own, which could be masked")
    masked = graph.symbol(EXTRA, cell.candidate_mask) * found
    changed = graph.replaced(outputs, {found: masked})
    first, second = len(forward.results), len(forward.results) + len(forward.operands)
    results = dict(zip(forward.results, changed[:first], strict=True))
    means = dict(zip(forward.means, changed[second:], strict=True))
    return Forward(graph, results, tuple(changed[first:second]), means)


def _wrapped(graph: Graph, what: str, value: Any) -> Expression:
    try:
        return graph.wrap(value)
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None


def derive(cell: Definition, plan: Plan, forward: Forward, traced: Expressions = ()) -> Derived:
    """Derive the backward equations, and what is kept for them.

    Parameters
    ----------
    cell : Definition
    plan : Plan
    forward : Forward
    traced : tuple of Expression
        What is kept where the cell `keeps_traced`; all gradients are zero then.

    Raises
    ------
    ValueError
        The second product's operand is missing, or depends on a vector.
    """
    graph = forward.graph
    states = tuple(forward.results[name] for name in cell.states)
    operand, prepared = _operand(plan, forward), _prepared(cell, forward)
    if cell.keeps_traced:
        return _with_reused(graph, cell, _forward_only(cell, plan, forward, traced))
    leaves = _Leaves(graph, plan.slots, cell.states, cell.vectors)
    outputs = (*states, *forward.means.values())
    seeds: dict[Expression, Expression] = {}
    for name, output in zip((*cell.states, *forward.means), outputs, strict=True):
        gradient = graph.symbol(GRADIENT, name)
        seeds[output] = _plus(seeds[output], gradient) if output in seeds else gradient
    outputs += () if operand is None else (operand,)
    gradients = adjoint(outputs, seeds)
    first = own_backward(cell, plan, forward) if cell.backward else leaves.gradients(gradients)
    late_seeds = {} if operand is None else {operand: graph.symbol(GRADIENT, OPERAND)}
    late = leaves.gradients(adjoint(outputs, late_seeds))
    levels = _levels(forward)
    zero = graph.wrap(0.0)
    dmeans = {name: gradients.get(graph.symbol(MEAN, name), zero) for name in forward.means}
    found = _Keeping(graph, cell, plan, leaves, states, operand, first, late, forward, dmeans).derived()
    before: Expressions = ()
    if prepared is not None:
        before = leaves.gradients(adjoint([prepared], {prepared: graph.symbol(GRADIENT, PREPARED)})).previous
    found = found._replace(
        gradients=gradients, prepared=prepared, prepared_previous=before, dmeans=dmeans, levels=levels
    )
    return _with_reused(graph, cell, found)


def _with_reused(graph: Graph, cell: Definition, found: Derived) -> Derived:
    """What the equations of a step hand on from one group of means to the next."""
    means = [tuple(graph.symbol(MEAN, name) for name in names) for names in found.levels]
    dmeans = [tuple(graph.symbol(GRADIENT, name) for name in names) for names in found.levels]
    steps = [tuple(found.means[name] for name in names) for names in found.levels]
    dsteps = [tuple(found.dmeans[name] for name in names) for names in found.levels]
    last = (*found.kept, *found.states)
    dlast = (*found.dslots, *found.dprevious, *found.dvectors)
    units = {graph.symbol(kind, name) for kind in (PREVIOUS, GRADIENT) for name in cell.states}
    units |= {graph.symbol(SLOT, name) for name in found.slots}
    units |= {graph.symbol(VECTOR, name) for name in cell.vectors}
    units |= {graph.symbol(EXTRA, name) for name, of_units in cell.extras if of_units}
    reused = _reused([*steps, last], means, set(), units)
    known = {*found.kept, *found.states}
    dreused = _reused([*dsteps[::-1], dlast], dmeans[::-1], known, units | known)
    return found._replace(reused=reused, dreused=dreused[::-1])


def _reused(
    steps: list[Expressions], unknown: list[Expressions], known: set[Expression], units: set[Expression]
) -> tuple[Expressions, ...]:
    """What each of the steps but the last hands on to those after it.

    Parameters
    ----------
    steps : list of tuple of Expression
        What is computed, one after the other.
    unknown : list of tuple of Expression
        For each step but the last what is known only after it.
    known, units : set of Expression
        What is in memory; and what has another value in each of a row's units.
    """
    found: list[Expressions] = []
    for n, outputs in enumerate(steps[:-1]):
        behind = {node for step in found for node in step} | known
        later = {symbol for symbols in unknown[n:] for symbol in symbols}
        costly = [
            node
            for node in ancestors(outputs, behind)
            if node not in behind and _costly(node) and not units.isdisjoint(ancestors([node]))
        ]
        needed = [node for step in steps[n + 1 :] for node in step]
        may_keep = {node: later.isdisjoint(ancestors([node])) for node in ancestors(needed)}
        found.append(tuple(smallest_cut(needed, behind, may_keep.__getitem__, costly)))
    return tuple(found)


def _costly(node: Expression) -> bool:
    """Whether an expression takes much longer than to read a number from the nearest cache."""
    if isinstance(node.operation, Function):
        return node.operation not in (relu, positive, absolute, maximum, minimum)
    return node.operation == "/" and node.operands[1].number is None


def _levels(forward: Forward) -> tuple[tuple[str, ...], ...]:
    """The means in groups that can be computed together, one after the other."""
    graph, level = forward.graph, dict[str, int]()
    for name, node in forward.means.items():
        below = [level[other] for other in level if depends(node, graph.symbol(MEAN, other))]
        level[name] = 1 + max(below, default=-1)
    if len(forward.operands) > 1 and level:
        raise ValueError("means: expected a cell of one recurrent product")
    if max(level.values(), default=0) >= _MOST_LEVELS:
        raise ValueError(f"means: expected at most {_MOST_LEVELS} that depend on one another")
    for operand in forward.operands:
        for name in level:
            if depends(operand, graph.symbol(MEAN, name)):
                raise ValueError(f"means: the operand of a product depends on {name!r}")
    return tuple(
        tuple(name for name in level if level[name] == n) for n in range(1 + max(level.values(), default=-1))
    )


def _operand(plan: Plan, forward: Forward) -> Expression | None:
    """The operand of the second product."""
    if len(forward.operands) < 2:
        return None
    found = forward.operands[1]
    for node in ancestors([found]):
        if node.operation == "symbol" and node.arguments[0] == VECTOR:
            raise ValueError(
                f"phase 0: {plan.operand} depends on the vector {node.arguments[1]}; expected an operand of "
                "pre-activations and previous states only"
            )
    return found


def _prepared(cell: Definition, forward: Forward) -> Expression | None:
    """The operand of the first product, if it is not the first state."""
    found = forward.operands[0]
    if found is forward.graph.symbol(PREVIOUS, cell.states[0]):
        return None
    for node in ancestors([found]):
        if node.operation == "symbol" and node.arguments[0] == VECTOR:
            raise ValueError(
                f"phases: the first product's operand depends on the vector {node.arguments[1]}; expected an "
                "operand of previous states and extras only"
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
        return (d * 2 * a, 0.0) if a is b else (d * b, d * a)
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
    values |= {name: graph.symbol(EXTRA, name) for name, _ in cell.extras}
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


def _slots(plan: Plan, count: int) -> tuple[str, ...]:
    """Names of so many slots: those that products feed, and others behind them."""
    more = (f"kept{n}" for n in itertools.count() if f"kept{n}" not in plan.slots)
    return (*plan.slots, *itertools.islice(more, count - len(plan.slots)))


def _forward_only(cell: Definition, plan: Plan, forward: Forward, traced: Expressions) -> Derived:
    """The equations without a backward pass, of which these values are kept."""
    zero = forward.graph.wrap(0.0)
    states, count = len(cell.states), max(len(plan.slots), len(traced))
    prepared = _prepared(cell, forward)
    zeros = (zero,) * count
    return Derived(
        _slots(plan, count), (*traced, *zeros[len(traced) :]),
        tuple(forward.results[name] for name in cell.states), prepared, _operand(plan, forward), zeros,
        (zero,) * states, (zero,) * len(cell.vectors), zeros, (zero,) * states,
        () if prepared is None else (zero,) * states, forward.means, dict.fromkeys(forward.means, zero),
        _levels(forward), (), (), forward.results, {},
    )  # fmt: skip


class _Keeping:
    """Decides what the slots hold between the passes.

    Parameters
    ----------
    first, late : Gradients
        From the new states' gradients, and from the operand's.
    """

    def __init__(
        self, graph: Graph, cell: Definition, plan: Plan, leaves: _Leaves, states: Expressions,
        operand: Expression | None, first: Gradients, late: Gradients, forward: Forward,
        dmeans: dict[str, Expression],
    ) -> None:  # fmt: skip
        self._given = {graph.symbol(EXTRA, name) for name, _ in cell.extras}
        for name in forward.means:
            self._given |= {graph.symbol(MEAN, name), graph.symbol(GRADIENT, name)}
        self._dmeans = dmeans
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
        needed = [*dslots, *self._first.previous, *self._first.vectors, *self._dmeans.values()]
        operand = () if self._operand is None else (self._operand,)
        forward = set(ancestors([*self._states, *operand, *self._forward.means.values()]))
        keep = smallest_cut(needed, self._known(), lambda node: node in forward)
        slots = [self._graph.symbol(SLOT, name) for name in self._plan.slots]
        kept = self._place(keep, slots, list(range(len(slots))))
        count = max(len(kept), len(dslots))
        late = [sums[n] if n in open_slots else dslots[n] for n in range(len(sums))]

        def padded(values: list[Expression]) -> Expressions:
            return (*values, *[zero] * (count - len(values)))

        return Derived(
            _slots(self._plan, count), padded(kept), self._states, None, self._operand, padded(dslots),
            self._first.previous, self._first.vectors, padded(late), self._late.previous, (),
            self._forward.means, self._dmeans, (), (), (), self._forward.results, {},
        )  # fmt: skip

    def _known(self) -> set[Expression]:
        """What the backward pass finds in memory."""
        leaves, symbol = self._leaves, self._graph.symbol
        return {
            *self._states,
            *self._given,
            *(symbol(PREVIOUS, name) for name in leaves.states),
            *(symbol(GRADIENT, name) for name in leaves.states),
            *(symbol(VECTOR, name) for name in leaves.vectors),
        }

    def _known_late(self) -> set[Expression]:
        """What it finds when the operand's gradient is known."""
        previous = {self._graph.symbol(PREVIOUS, name) for name in self._leaves.states}
        return previous | self._given | {self._graph.symbol(GRADIENT, OPERAND)}

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
