"""Derived backward equations: against central differences, against equations derived by hand, and how few."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lstm_numba.cells import CELLS, Phase, Product, definition, evaluate
from lstm_numba.cells import functions as f
from lstm_numba.cells.derivation import adjoint, derive, trace
from lstm_numba.cells.expressions import Expression, Graph, ancestors
from lstm_numba.cells.plan import make_plan
from lstm_numba.cells.protocol import Stage
from lstm_numba.cells.registration import make_cell
from lstm_numba.cells.smallest_cut import smallest_cut

SMOOTH = ("sigmoid", "tanh", "exp", "sin", "cos", "atan", "erf")
#: Where functions that are not defined everywhere, or not differentiable, are tried.
RANGES = {
    "sqrt": (0.2, 2),
    "rsqrt": (0.2, 2),
    "log": (0.2, 2),
    "log1p": (-0.5, 2),
    "log2": (0.2, 2),
    "tan": (-1, 1),
}


def slope(function: Callable[[float], float], step: float = 1e-3) -> float:
    """A derivative at 0 by Richardson extrapolation of central differences."""
    wide, narrow = ((function(h) - function(-h)) / (2 * h) for h in (step, step / 2))
    return (4 * narrow - wide) / 3


def value(node: Expression, known: dict[Expression, float]) -> float:
    """An expression's value, from its symbols' values."""
    found = dict(known)
    for n in ancestors([node]):
        if n.number is not None:
            found[n] = n.number
        elif n not in found:
            a = [found[operand] for operand in n.operands]
            if isinstance(n.operation, f.Function):
                found[n] = n.operation.of_numbers(*a)
            else:
                found[n] = {
                    "+": lambda a: a[0] + a[1],
                    "-": lambda a: a[0] - a[1],
                    "*": lambda a: a[0] * a[1],
                    "/": lambda a: a[0] / a[1],
                    "negative": lambda a: -a[0],
                }[n.operation](a)
    return found[node]


@pytest.mark.parametrize("name", f.FUNCTIONS)
def test_derivatives_of_all_functions(name: str) -> None:
    function, rng = f.FUNCTIONS[name], random.Random(0)
    graph = Graph(f.FUNCTIONS)
    x = [graph.symbol("slot", letter) for letter in "ab"[: function.arity]]
    y = function(*x)
    found = adjoint([y], {y: graph.symbol("gradient", "y")})
    for _ in range(20):
        at = [rng.uniform(*RANGES.get(name, (-2, 2))) for _ in x]
        if abs(at[0] - (at[1] if len(at) > 1 else 0)) < 0.01:
            continue  # at a kink
        known = {**dict(zip(x, at, strict=True)), graph.symbol("gradient", "y"): 0.7}
        for n, argument in enumerate(x):
            expected = 0.7 * slope(
                lambda h, n=n, at=at: function.of_numbers(*(a + h * (k == n) for k, a in enumerate(at)))
            )
            gradient = value(found[argument], known) if argument in found else 0.0
            assert math.isclose(gradient, expected, rel_tol=1e-8, abs_tol=1e-8), (n, at)


@pytest.mark.parametrize("name", ["relu", "abs", "maximum", "minimum"])
def test_gradients_at_a_kink_are_finite(name: str) -> None:
    graph = Graph(f.FUNCTIONS)
    x = [graph.symbol("slot", letter) for letter in "ab"[: f.FUNCTIONS[name].arity]]
    y = f.FUNCTIONS[name](*x)
    found = adjoint([y], {y: graph.wrap(1.0)})
    known = dict.fromkeys(x, 0.0)
    assert sum(value(found[a], known) for a in x) == {"relu": 0, "abs": -1}.get(name, 1)


# -- whole cells: random ones --------------------------------------------------------------------------


def expression(rng: random.Random, leaves: list[Any], size: int) -> Any:
    """A random expression, whose values stay moderate."""
    pool = list(leaves)
    for _ in range(size):
        a, b = rng.choice(pool), rng.choice(pool)
        kind = rng.randrange(9)
        if kind == 0:
            pool.append(a + b * 0.5)
        elif kind == 1:
            pool.append(a - b)
        elif kind == 2:
            pool.append(f.tanh(a) * b)
        elif kind == 3:
            pool.append(a / (1.5 + f.sigmoid(b)))
        elif kind == 4:
            pool.append((1 - a) * f.sin(b))
        elif kind == 5:
            pool.append(0.1 * f.tanh(a) ** 3 - f.tanh(b) ** 2)
        elif kind == 6:
            pool.append(-f.tanh(a))
        elif kind == 7:
            pool.append(0 - f.tanh(a) / (2 + b * b))
        else:
            pool.append(f.FUNCTIONS[rng.choice(SMOOTH[:2] + SMOOTH[3:])](a))
    return f.tanh(pool[-1]) + 0.1 * pool[-2]


def random_cell(seed: int, phases: int) -> Any:
    """A cell with random equations: three gates, two states, and in one phase a vector."""
    sizes = random.Random(seed)

    def equations(names: tuple[str, ...], wanted: tuple[str, ...], also: tuple[str, ...] = ()) -> Any:
        number, size = sizes.randrange(10**6), sizes.randrange(2, 12)

        def compute(z: Any, v: Any) -> dict[str, Any]:
            rng = random.Random(number)  # the same equations at every call
            leaves = [*(z[name] for name in names), v.h, v.c, *(v[name] for name in also)]
            return {name: expression(rng, leaves, size) for name in wanted}

        return compute

    if phases == 1:

        class Cell:
            gates, states, vectors = ("a", "b", "d"), ("h", "c"), ("p",)
            forward = equations(gates, states, vectors)

        return make_cell(Cell)

    class TwoPhases:
        states = ("h", "c")
        first = Product("weight_ih", "x", ("a", "b")), Product("weight_hh", "h", ("a", "b"))
        second = Product("weight_ih", "x", ("d",)), Product("weight_hh", "seen", ("d",))
        phases = (
            Phase(first, equations(("a", "b"), ("seen", "more"))),
            Phase(second, equations(("a", "b", "d"), states, ("more",))),
        )

    return make_cell(TwoPhases)


@pytest.mark.parametrize("seed", range(60))
def test_forward_is_what_the_author_wrote(seed: int) -> None:
    """The equations called with numbers, against what is generated from them."""
    rng = random.Random(seed)

    class Cell:
        gates, states, vectors = ("a", "b", "d"), ("h", "c"), ("p",)

        def forward(self, z: Any, v: Any) -> dict[str, Any]:
            same = random.Random(seed)
            return {s: expression(same, [z.a, z.b, z.d, v.h, v.c, v.p, 0.5], 12) for s in self.states}

    cell = make_cell(Cell)
    point = evaluate.draw(cell, lambda: rng.gauss(0, 1))
    z = definition.Names("", dict(zip(cell.gates, point.slots, strict=False)))
    v = definition.Names("", {**dict(zip(cell.states, point.previous, strict=True)), "p": point.peephole[0]})
    expected = Cell().forward(z, v)
    for name, found in zip(cell.states, evaluate.forward(cell, point)[1], strict=True):
        assert math.isclose(found, expected[name], rel_tol=1e-13, abs_tol=1e-14), cell.texts["forward"]


@pytest.mark.parametrize("phases", [1, 2])
@pytest.mark.parametrize("seed", range(60))
def test_random_cells_against_central_differences(seed: int, phases: int) -> None:
    cell, rng = random_cell(seed, phases), random.Random(1000 + seed)
    point = evaluate.draw(cell, lambda: rng.gauss(0, 1))
    weights, last = [rng.gauss(0, 1) for _ in cell.states], rng.gauss(0, 1)
    found = evaluate.backward(cell, point, weights)
    if phases == 2:
        found = evaluate.operand_backward(cell, point, found, last)

    def loss(field: int, place: int, step: float) -> float:
        fields = [list(numbers) for numbers in point]
        fields[field][place] += step
        moved = evaluate.Point(*map(tuple, fields))
        total = sum(w * s for w, s in zip(weights, evaluate.forward(cell, moved)[1], strict=True))
        return total + (last * evaluate.operand(cell, moved) if phases == 2 else 0.0)

    for field, numbers in enumerate(point):
        for place in range(len(numbers) if field else 3):  # slots that nothing feeds only carry values
            expected = slope(lambda h, field=field, place=place: loss(field, place, h))
            got = found[field][place]
            assert math.isclose(got, expected, rel_tol=1e-6, abs_tol=1e-7), (field, place, cell.texts)


def test_states_may_be_the_same_expression_or_unchanged() -> None:
    class Cell:
        gates, states = ("a",), ("h", "c", "d", "e")

        def forward(self, z: Any, v: Any) -> dict[str, Any]:
            h = f.tanh(z.a) * v.c
            return {"h": h, "c": h, "d": v.d, "e": 2.0}

    cell = make_cell(Cell)
    point = evaluate.Point((0.3,), (0.1, 0.7, 0.2, 0.4), ())
    t = math.tanh(0.3)
    assert evaluate.forward(cell, point)[1] == (t * 0.7, t * 0.7, 0.2, 2.0)
    found = evaluate.backward(cell, point, (1.0, 10.0, 100.0, 1000.0))
    assert math.isclose(found.slots[0], 11 * 0.7 * (1 - t * t))
    assert found.previous == (0.0, 11 * t, 100.0, 0.0)


# -- how few -------------------------------------------------------------------------------------------


def separates(kept: tuple[Expression, ...], needed: list[Expression], known: set[Expression]) -> bool:
    """Whether the needed expressions can be computed from the kept and the known ones."""
    stop = {*kept, *known}
    return all(node.operands or node in stop or node.number is not None for node in ancestors(needed, stop))


def cuts(seed: int) -> Iterator[tuple[list[Expression], set[Expression], list[Expression]]]:
    rng, graph = random.Random(seed), Graph(f.FUNCTIONS)
    leaves = [graph.symbol("slot", name) for name in "abcd"]
    for _ in range(4):
        needed = [expression(rng, leaves, rng.randrange(1, 6)) for _ in range(rng.randrange(1, 4))]
        yield needed, {leaves[0]} if rng.random() < 0.3 else set(), ancestors(needed)


@pytest.mark.parametrize("seed", range(15))
def test_no_smaller_set_would_do(seed: int) -> None:
    for needed, known, nodes in cuts(seed):
        kept = smallest_cut(needed, known, lambda node: True)
        assert separates(tuple(kept), needed, known)
        candidates = [n for n in nodes if n.number is None]
        for size in range(len(kept)):
            for others in itertools.combinations(candidates, size):
                assert not separates(others, needed, known)


@pytest.mark.parametrize(
    ("name", "slots", "used"),
    [("lstm", 4, 4), ("coupled", 3, 3), ("peephole", 4, 4), ("gru", 4, 4), ("gru-reset-before", 3, 3)],
)
def test_what_is_kept_fits_into_the_slots(name: str, slots: int, used: int) -> None:
    cell = CELLS[name]
    assert len(cell.slots) == slots
    assert sum(f"slots[{n}]" in cell.texts["backward"] for n in range(slots)) == used
    assert "sigmoid" not in cell.texts["backward"]  # nothing but tanh(c) is computed again


def test_an_lstms_backward_has_as_many_operations_as_by_hand() -> None:
    from lstm_numba.cells.lstm import LSTMCell

    read = definition.read(LSTMCell)
    forward = trace(read)
    found = derive(read, make_plan(read), forward)
    before = set(ancestors(found.states))
    outputs = [*found.dslots, *found.dprevious]
    new = [n for n in ancestors(outputs, found.states) if n not in before and n.operands]
    assert Counter(n.operation for n in new) == {"*": 16, "-": 5, "+": 1}


# -- equations derived by hand -------------------------------------------------------------------------


def lstm_by_hand(slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
    i, f, g, o = slots
    dh, dc = gradient
    tanh_c = math.tanh(states[1])
    do = dh * tanh_c * o * (1 - o)
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    di, df, dg = dc * g * i * (1 - i), dc * previous[1] * f * (1 - f), dc * i * (1 - g * g)
    return (di, df, dg, do), (0.0, dc * f), ()


def peephole_by_hand(slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
    i, f, g, o = slots
    c_prev, c = previous[1], states[1]
    p_i, p_f, p_o = peephole
    dh, dc = gradient
    tanh_c = math.tanh(c)
    do = dh * tanh_c * o * (1 - o)
    dc = dc + dh * o * (1 - tanh_c * tanh_c) + do * p_o
    di, df, dg = dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * (1 - g * g)
    return (di, df, dg, do), (0.0, dc * f + df * p_f + di * p_i), (di * c_prev, df * c_prev, do * c)


def gru_by_hand(slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
    n, r, z, q = slots
    dh = gradient[0]
    dn = dh * (1 - z) * (1 - n * n)
    dz = dh * (previous[0] - n) * z * (1 - z)
    return (dn, dn * q * r * (1 - r), dz, dn * r), (dh * z,), ()


@pytest.mark.parametrize(
    ("name", "by_hand"), [("lstm", lstm_by_hand), ("peephole", peephole_by_hand), ("gru", gru_by_hand)]
)
def test_the_same_bits_as_equations_derived_by_hand(name: str, by_hand: Any) -> None:
    cell, rng = CELLS[name], random.Random(0)
    for _ in range(50):
        point = evaluate.draw(cell, lambda: rng.gauss(0, 1))
        gradient = tuple(rng.gauss(0, 1) for _ in cell.states)
        kept, states = evaluate.forward(cell, point)
        expected = by_hand(kept, point.previous, states, point.peephole, gradient)
        assert evaluate.backward(cell, point, gradient) == expected


def test_wiring_is_what_kernels_were_measured_with() -> None:
    """Another order of slots would be right, too, and give other bits."""
    gru, before = CELLS["gru"], CELLS["gru-reset-before"]
    assert (gru.gates, gru.slots, gru.input_gates) == (("r", "z", "n"), ("n", "r", "z", "q"), (2, 0, 1))
    assert gru.stages == (Stage(1, (0, 1, 2)),)
    assert (before.slots, before.stages) == (("r", "z", "n"), (Stage(0, (0, 1)), Stage(2, (2,))))
    for name in ("lstm", "peephole"):
        assert CELLS[name].slots == CELLS[name].gates == ("i", "f", "g", "o")
        assert CELLS[name].stages == (Stage(0, (0, 1, 2, 3)),)


@pytest.mark.parametrize(("name", "sigmoids", "tanhs"), [("layer-norm-lstm", 3, 2), ("layer-norm-gru", 2, 1)])
def test_no_activation_is_computed_twice_in_a_pass(name: str, sigmoids: int, tanhs: int) -> None:
    """Equations that follow others of a step, when means are known, get what these have computed."""
    texts = CELLS[name].texts
    for functions in (("means_", "forward"), ("dmeans_", "backward")):
        text = "".join(text for key, text in texts.items() if key.startswith(functions))
        assert (text.count("sigmoid("), text.count("tanh(")) == (sigmoids, tanhs), text


def test_the_derivative_of_a_square_is_one_product() -> None:
    graph = Graph(f.FUNCTIONS)
    x, d = graph.symbol("slot", "x"), graph.symbol("gradient", "y")
    y = x * x
    gradient = adjoint([y], {y: d})[x]
    assert value(gradient, {x: 3.0, d: 0.5}) == 3.0
    assert [node.operation for node in ancestors([gradient]) if node.operands] == ["*", "*"]
