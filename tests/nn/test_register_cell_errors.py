"""What is no cell is refused at registration; the message names the fault and, in equations, its line."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from lstm_numba.cells import Phase, Product, evaluate, exp, log, maximum, sigmoid, tanh
from lstm_numba.cells.registration import make_cell


def plain(**changed: Any) -> type:
    """A sound class, but for what is changed; None takes something away."""

    def forward(self: Any, z: Any, v: Any) -> dict[str, Any]:
        return {"h": sigmoid(z.f) * v.h + z.g}

    facts = {"gates": ("f", "g"), "states": ("h",), "forward": forward, **changed}
    return type("Cell", (), {name: value for name, value in facts.items() if value is not None})


def line_of(mark: str) -> int:
    """The line of this file that ends in a comment."""
    (found,) = (n for n, line in enumerate(SOURCE, 1) if line.endswith(f"# {mark}"))
    return found


def doubled(x: Any) -> Any:
    """A helper that decides."""
    return 2 * x if x > 0 else x  # in a helper


compiled = njit(lambda x: 2 * x)

#: Equations of the class of `plain` that cannot be, and what is said about the line at which they fail.
BAD_LINES: dict[str, tuple[Any, str]] = {
    "if": (
        lambda z, v: {"h": z.f if z.f > v.h else z.g},
        "an if has no single answer; use relu",
    ),
    "equal": (lambda z, v: {"h": 1.0 if z.f == 0 else z.g}, "comparison or an if"),
    "and": (lambda z, v: {"h": z.f and z.g}, "comparison or an if"),
    "max": (lambda z, v: {"h": max(z.f, z.g)}, "comparison or an if .* use .*maximum"),
    "where": (lambda z, v: {"h": np.where(z.f > 0, z.f, 0)}, "comparison or an if"),
    "math": (lambda z, v: {"h": math.tanh(z.f)}, "math has numbers only; use the function of that name in "),
    "int": (lambda z, v: {"h": int(z.f)}, "numbers only"),
    "njit": (
        lambda z, v: {"h": compiled(z.f)},
        "njit takes numbers only; write it as a plain function",
    ),
    "cbrt": (
        lambda z, v: {"h": np.cbrt(z.f)},
        "cbrt is not a function for equations; expected one of sigmoid, tanh, ",
    ),
    "array": (lambda z, v: {"h": np.ones(2) * z.f}, r"expected a finite number .* got array\(\["),
    "text": (lambda z, v: {"h": "2" * z.f}, "expected a finite number or an expression, got '2'"),
    "infinite": (lambda z, v: {"h": math.inf * z.f}, "expected a finite number or an expression, got inf"),
    "slot": (lambda z, v: {"h": z.q}, "there is no 'q' among the pre-activations: f, g"),
    "value": (lambda z, v: {"h": z.f * v.c}, "there is no 'c' among the values: h"),
    "index": (lambda z, v: {"h": z[0]}, "there is no 0 among the pre-activations: f, g"),
    "name": (lambda z, v: {"h": nowhere(z.f)}, "name 'nowhere' is not defined"),  # type: ignore[name-defined]  # noqa: F821
    "power": (lambda z, v: {"h": z.f**1.5}, r"a power is a whole number or 0.5.* exp\(power \* log\(x\)\)"),
    "exponent": (lambda z, v: {"h": 2**z.f}, "a power is a whole number or 0.5"),
    "both": (lambda z, v: {"h": z.f**z.g}, "a power is a whole number or 0.5"),
    "operator": (lambda z, v: {"h": z.f // 2}, r"equations compute with \+ - \* / \*\* and the functions"),
    "iterate": (lambda z, v: {"h": sum(z.f)}, "not iterable"),
    "arity": (lambda z, v: {"h": maximum(z.f)}, "maximum: expected 2 arguments, got 1"),
    "zero": (lambda z, v: {"h": z.f * (1 / 0)}, "ZeroDivisionError: division by zero"),
    "domain": (lambda z, v: {"h": z.f * log(-2)}, "ValueError: math domain error"),
    "in a helper": (lambda z, v: {"h": doubled(z.f)}, "comparison or an if"),
}
SOURCE = Path(__file__).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("mark", BAD_LINES)
def test_equations_that_cannot_be_are_refused_with_their_line(mark: str) -> None:
    forward, text = BAD_LINES[mark]
    number = line_of(mark) if mark == "in a helper" else forward.__code__.co_firstlineno
    with pytest.raises(TypeError, match=rf"Cell: forward, line {number}: .*{text}") as caught:
        make_cell(plain(forward=forward))
    assert "\n" not in str(caught.value)


def test_a_line_of_another_file_is_told_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "helpers.py"
    names: dict[str, Any] = {}
    exec(compile("\n\ndef helper(x):\n    return x if x > 0 else 0.0\n", path, "exec"), names)
    with pytest.raises(TypeError, match=r"Cell: forward, line 4 of helpers\.py: .* an if"):
        make_cell(plain(forward=lambda z, v: {"h": names["helper"](z.f)}))


def _backward(**changed: Any) -> Any:
    """Right backward equations of the class of `plain`, but for what is changed."""

    def backward(self: Any, z: Any, v: Any, d: Any) -> dict[str, Any]:
        f = sigmoid(z.f)
        found = {"f": d.h * v.h * f * (1 - f), "g": d.h, "h": d.h * f}
        return found | {name: value(z, v, d) for name, value in changed.items()}

    return backward


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"gates": None}, "Cell: gates: missing"),
        ({"gates": ()}, "gates: expected at least one name"),
        ({"gates": "fg"}, "gates: expected a tuple of names, got 'fg'"),
        ({"gates": ("f", "f")}, "gates: a name stands twice"),
        ({"gates": ("f", 2)}, "gates: expected a tuple of names"),
        ({"gates": ("f", "g 2")}, "gates: expected names as Python's variables have, got 'g 2'"),
        ({"gates": ("f", "in")}, "gates: expected names .* got 'in'"),
        ({"gates": ("f", "_g")}, "gates: expected names .* got '_g'"),
        ({"gates": tuple("fgabcdeij")}, "9 slots, expected 8 at most"),
        ({"states": ()}, "states: expected at least one name"),
        ({"states": None}, "states: missing"),
        ({"states": ("x",)}, "states: x is the name of the input"),
        ({"states": ("h", "c")}, "forward: the new state 'c' is missing"),
        ({"vectors": "p"}, "vectors: expected a tuple of names, got 'p'"),
        ({"vectors": ("h",)}, "vectors: 'h' is the name of something else"),
        ({"vectors": ("x",)}, "vectors: 'x' is the name of something else"),
        ({"phases": ()}, "phases: a cell has either phases or gates and forward"),
        ({"forward": None}, r"forward: missing, expected def forward\(self, z, v\)"),
        ({"forward": 3}, r"forward: expected a function of \(z, v\), got 3"),
        (
            {"forward": lambda self, slots, previous, peephole: 0},
            r"forward: expected the parameters \(self, z, v\) or \(z, v\), got \(self, slots, ",
        ),
        ({"forward": lambda self, z: 0}, "forward: expected the parameters"),
        ({"forward": lambda z, *, v: 0}, "forward: expected the parameters"),
        ({"forward": lambda z, v: z.f}, "forward: expected a dictionary of new states by name, got Expr"),
        ({"forward": lambda z, v: {0: z.f}}, "forward: expected a dictionary of new states by name"),
        ({"forward": lambda z, v: {"h": None}}, "forward: h: expected a finite number .* got None"),
        ({"forward": lambda z, v: {"h": z.f, "c": z.g}}, "forward: returns 'c'; the states are h"),
        ({"forward": lambda z, v: {"h": z.f, "a b": z.g}}, "forward: expected names as .* got 'a b'"),
        (
            {"forward": lambda z, v: {"h": log(-1 - sigmoid(z.f))}},
            "equations fail on numbers from 0.1 to 0.9: ValueError: math domain error",
        ),
        ({"__init__": lambda self, size: None}, "__init__: a cell's class is called without arguments"),
        ({"backward": 3}, r"backward: expected a function of \(z, v, d\), got 3"),
        ({"backward": lambda self, z, v: 0}, r"backward: expected the parameters \(self, z, v, d\) or"),
        (
            {"backward": lambda self, z, v, d: 0},
            "backward: expected a dictionary of gradients by name, got int",
        ),
        ({"backward": _backward(q=lambda z, v, d: d.h)}, "returns 'q'; it returns gradients of f, g, h"),
        ({"backward": _backward(g=lambda z, v, d: d.c)}, "backward, line .* no 'c' among the gradients"),
        ({"backward": _backward(g=lambda z, v, d: "a")}, "backward: g: expected a finite number"),
    ],
)
def test_what_cannot_work_is_refused_by_name(changed: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        make_cell(plain(**changed))


X_F, H_F = Product("weight_ih", "x", ("f",)), Product("weight_hh", "h", ("f",))
X_G, SEEN_G = Product("weight_ih", "x", ("g",)), Product("weight_hh", "seen", ("g",))
FIRST = Phase((X_F, H_F), lambda z, v: {"seen": sigmoid(z.f) * v.h})
SECOND = Phase((X_G, SEEN_G), lambda z, v: {"h": tanh(z.g)})


def in_phases(*phases: Any, **more: Any) -> type:
    """A class with phases, `FIRST` and `SECOND` if none are given."""
    return plain(gates=None, forward=None, phases=phases or (FIRST, SECOND), **more)


@pytest.mark.parametrize(
    ("phases", "text"),
    [
        ((3,), r"phases: expected a tuple of Phase\(products, equations\), got \(3,\)"),
        (((X_F, H_F),), "phases: expected a tuple of Phase"),
        (
            (FIRST._replace(products=X_F),),
            r"phase 0: expected a tuple of Product\(weight, operand, slots\), got ",
        ),
        ((FIRST._replace(products=3),), "phase 0: expected a tuple of Product"),
        ((FIRST, SECOND._replace(equations=3)), r"phase 1: expected a function of \(z, v\), got 3"),
        ((FIRST, SECOND._replace(equations=lambda z: 0)), "phase 1: expected the parameters"),
        (
            (FIRST._replace(products=(X_F, H_F._replace(slots="f"))), SECOND),
            "phase 0: slots: expected a tuple",
        ),
        (
            (FIRST, SECOND._replace(products=(X_G, SEEN_G._replace(weight="weight_ph")))),
            "phase 1: a product with 'weight_ph'; expected weight_ih or weight_hh or another name",
        ),
        (
            (FIRST._replace(products=(X_F, H_F._replace(weight="weight_xx"))), SECOND),
            "phase 0: a product with 'weight_xx'; expected weight_ih or weight_hh",
        ),
        ((FIRST._replace(products=(X_F._replace(operand="h"), H_F)), SECOND), "operand 'h': expected x"),
        (
            (FIRST._replace(products=(X_F, H_F._replace(operand="x"))), SECOND),
            "phase 0: weight_hh with the operand 'x': expected the state h, in the first phase",
        ),
        ((FIRST._replace(products=(X_F,)), SECOND), "phase 1: .* 'seen': expected the state h, in the first"),
        (
            (FIRST._replace(products=(X_F, H_F, H_F)), SECOND),
            "expected one product with the state h, for all",
        ),
        ((FIRST, SECOND, SECOND), "phase 2: .* 'seen': expected .* no third product"),
        ((FIRST._replace(products=(X_F, X_F, H_F)), SECOND), "weight_ih feeds a slot twice: f, f"),
        ((FIRST._replace(products=(H_F,)),), "no product with weight_ih"),
        ((FIRST._replace(products=(X_F,)),), "no product with weight_hh"),
        (
            (
                Phase((X_F._replace(slots=tuple("fab")), H_F._replace(slots=("f", "q"))), FIRST.equations),
                SECOND._replace(products=(SEEN_G._replace(slots=("a", "r")),)),
            ),
            "no order of the slots f, a, b, q, r has those of each product side by side",
        ),
        (
            (FIRST._replace(equations=lambda z, v: {"unseen": z.f}), SECOND),
            "phase 0: returns no 'seen', the operand of a product of phase 1",
        ),
        (
            (FIRST._replace(equations=lambda z, v: {"seen": z.f * v.p}), SECOND),
            "phase 0: seen depends on the vector p; expected an operand of pre-act",
        ),
        ((FIRST._replace(equations=lambda z, v: {"p": z.f}), SECOND), "phase 0: returns 'p', which is a vec"),
        ((FIRST._replace(equations=lambda z, v: {"if": z.f}), SECOND), "phase 0: expected names .* got 'if'"),
        ((FIRST._replace(equations=lambda z, v: [z.f]), SECOND), "phase 0: expected a dictionary of results"),
        ((FIRST._replace(equations=lambda z, v: {"seen": z.g}), SECOND), "phase 0, line .* no 'g' among"),
        ((FIRST, SECOND._replace(equations=lambda z, v: {"h": v.q})), "phase 1, line .* values: h, p, seen"),
        (
            (FIRST, SECOND._replace(equations=lambda z, v: {"c": z.g})),
            "phase 1: returns 'c'; the states are h",
        ),
    ],
)
def test_phases_that_cannot_work_are_refused(phases: Any, text: str) -> None:
    make_cell(in_phases(vectors=("p",)))  # is one without what is changed
    with pytest.raises((TypeError, ValueError), match=text):
        make_cell(in_phases(*phases, vectors=("p",)))


def test_a_backward_of_several_phases_is_the_librarys() -> None:
    with pytest.raises(TypeError, match=r"backward: only for a cell of one phase; .* is derived"):
        make_cell(in_phases(backward=_backward()))


@pytest.mark.parametrize(
    ("name", "wrong", "quantity"),
    [
        ("f", lambda z, v, d: d.h * v.h * sigmoid(z.f), "gate f"),
        ("g", lambda z, v, d: 1.00001 * d.h, "gate g"),
        ("h", lambda z, v, d: 0.0, "previous state h"),
        ("p", lambda z, v, d: d.h * v.h, "vector p"),
    ],
)
def test_an_own_backward_is_held_against_the_derived_one(name: str, wrong: Any, quantity: str) -> None:
    def forward(z: Any, v: Any) -> dict[str, Any]:
        return {"h": sigmoid(z.f) * v.h + z.g + v.p}

    facts: dict[str, Any] = {"forward": forward, "vectors": ("p",)}
    right = {"p": lambda z, v, d: d.h}
    make_cell(plain(**facts, backward=_backward(**right)))
    with pytest.raises(ValueError, match=rf"Cell: backward: {quantity}: \S+, but .* is \S+$") as caught:
        make_cell(plain(**facts, backward=_backward(**{**right, name: wrong})))
    found, expected = (float(n) for n in re.findall(r"[-\d][-.e\d]*\d|\b0\b", str(caught.value)))
    assert abs(found - expected) > 1e-6 * abs(expected) or found == 0 != expected


def test_an_own_backward_names_a_state_that_has_a_gates_name() -> None:
    class Cell:
        gates, states = ("h",), ("h",)

        def forward(self, z: Any, v: Any) -> dict[str, Any]:
            return {"h": 2 * z.h + 3 * v.h}

        def backward(self, z: Any, v: Any, d: Any) -> dict[str, Any]:
            return {"h": 2 * d.h, "previous_h": 3 * d.h}

    point = evaluate.Point((0.1,), (0.2,), ())
    assert evaluate.backward(make_cell(Cell), point, (1.0,))[:2] == ((2.0,), (3.0,))


def test_an_own_backward_is_what_runs() -> None:
    """sigmoid' in another form."""
    own = make_cell(plain(backward=_backward(f=lambda z, v, d: d.h * v.h * exp(-z.f) * sigmoid(z.f) ** 2)))
    derived = make_cell(plain())
    assert "exp(" in own.texts["backward"]
    assert "exp(" not in derived.texts["backward"]
    assert own.digest != derived.digest


def test_names_of_the_text_do_not_hide_one_another() -> None:
    """Any names give the same numbers, even those of the generated functions' own variables."""
    own = [
        "slots",
        "states",
        "previous",
        "peephole",
        "gradient",
        "self",
        "t1",
        "t2",
        "kept0",
        "kept1",
        "operand",
    ]
    words = [*own, "sigmoid", "tanh", "exp", "max", "abs", "h_prev", "dh", "doperand", "z_f", "dz_f", "for_f"]
    words += ["kept_f", "d_h", "dc", "f", "h"]
    rng = random.Random(0)
    draws = [["f", "h", "b", "g", "c", "p", "s", "r"], *(rng.sample(words, 8) for _ in range(60))]
    expected = None
    for names in draws:
        cell = make_cell(with_names(*names))
        point = evaluate.Point((0.3, -0.4, 0.7, 0.0), (0.2, 0.9), (-0.6,))
        found = evaluate.backward(cell, point, (0.3, 0.4))
        numbers = evaluate.forward(cell, point), found, evaluate.operand_backward(cell, point, found, 0.5)
        expected = expected or numbers
        assert numbers == expected, (names, cell.texts)


def with_names(f: str, h: str, b: str, g: str, c: str, p: str, seen: str, r: str) -> type:
    """A cell of two phases that has everything, with other names."""

    def look(z: Any, v: Any) -> dict[str, Any]:
        gate = sigmoid(z[f])
        return {r: gate, seen: gate * (v[h] + 0.5 * v[c])}

    def write(z: Any, v: Any) -> dict[str, Any]:
        k = sigmoid(z[b] + v[r] * z[g] + v[p] * v[c])
        new = k * v[c] + (1 - k) * tanh(z[f])
        return {h: new * exp(-new * new) * maximum(new, 0.1 * z[g]), c: new}

    first = Product("weight_ih", "x", (f, b)), Product("weight_hh", h, (f, b))
    second = Product("weight_ih", "x", (g,)), Product("weight_hh", seen, (g,))
    phases = Phase(first, look), Phase(second, write)
    return type("Cell", (), {"states": (h, c), "vectors": (p,), "phases": phases})
