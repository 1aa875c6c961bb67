"""Cells around cells, extras and means: derivatives of one unit, keys, and what is refused."""

from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys
from typing import Any

import pytest

from lstm_numba.cells import BUILT_IN, CELLS, Phase, Product, evaluate, find_cell
from lstm_numba.cells.definition import Extra
from lstm_numba.cells.registration import make_cell
from lstm_numba.cells.wrappers import wrap

EVERYTHING = {"recurrent_mask": True, "resets": "initial"}


def slope(function: Any, step: float = 1e-3) -> float:
    """A derivative at 0 by Richardson extrapolation of central differences."""
    wide, narrow = ((function(h) - function(-h)) / (2 * h) for h in (step, step / 2))
    return (4 * narrow - wide) / 3


def check_derivatives(cell: Any, seed: int = 0) -> None:
    """All equations of a unit against central differences: states, operands, and what it adds to means."""
    rng = random.Random(seed)
    point = evaluate.draw(cell, lambda: rng.uniform(0.2, 1.5))
    weights = [rng.gauss(0, 1) for _ in range(len(cell.states) + evaluate.mean_count(cell))]
    first, second = rng.gauss(0, 1), rng.gauss(0, 1)

    def total(point: evaluate.Point) -> float:
        outputs = (*evaluate.forward(cell, point)[1], *evaluate.contributions(cell, point))
        found = sum(w * output for w, output in zip(weights, outputs, strict=True))
        found += first * evaluate.prepare(cell, point) if cell.prepared else 0.0
        return found + (second * evaluate.operand(cell, point) if len(cell.stages) > 1 else 0.0)

    found = evaluate.backward(cell, point, weights)
    if len(cell.stages) > 1:
        found = evaluate.operand_backward(cell, point, found, second)
    if cell.prepared:
        added = evaluate.prepare_backward(cell, point, first)
        found = found._replace(previous=tuple(a + b for a, b in zip(found.previous, added, strict=True)))
    fed = {n for stage in cell.stages for n in range(stage.first, stage.first + len(stage.gates))}
    slots = [g if n in fed or n < len(cell.input_gates) else None for n, g in enumerate(found.slots)]
    for field, gradients in enumerate((slots, found.previous, found.peephole)):
        assert len(gradients) == len(point[field])
        for place, gradient in enumerate(gradients):

            def moved(h: float, field: int = field, place: int = place) -> float:
                fields = [list(numbers) for numbers in point]
                fields[field][place] += h
                return total(evaluate.Point(*map(tuple, fields)))

            extra = field == 2 and 0 <= place - len(cell.peepholes) < len(cell.extras)
            if gradient is not None and not extra:
                assert math.isclose(gradient, slope(moved), rel_tol=1e-6, abs_tol=1e-8), (field, place)


@pytest.mark.parametrize("name", [*BUILT_IN, "lstm-projected"])
def test_derivatives_of_cells_and_of_everything_around_them(name: str) -> None:
    cell = CELLS[name]
    check_derivatives(cell)
    masks = (True,) * len(cell.states)
    check_derivatives(wrap(cell, zoneout=(0.3,) * len(masks), resets="zeros"))
    candidate = bool(cell.definition.candidate)
    everything = {**EVERYTHING, "resets": "zeros" if cell.projected else "initial"}
    check_derivatives(wrap(cell, zoneout_masks=masks, candidate_mask=candidate, **everything))


def test_the_equations_of_a_wrapped_lstm() -> None:
    cell = wrap(CELLS["lstm"], zoneout_masks=(True, False), candidate_mask=True, **EVERYTHING)
    assert cell.extras == ("going", "update_h", "recurrent_mask", "candidate_mask")
    assert cell.extra_units == (False, True, True, True)
    assert cell.states == ("h", "c", "h_initial", "c_initial")
    rng = random.Random(0)
    point = evaluate.draw(cell, lambda: rng.gauss(0, 1))
    (i, f, g, o), (h, c, h0, c0), (going, update, mask, candidate) = point
    h, c = going * h + (1 - going) * h0, going * c + (1 - going) * c0

    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    new = sigmoid(f) * c + sigmoid(i) * candidate * math.tanh(g)
    expected = update * sigmoid(o) * math.tanh(new) + (1 - update) * h, new, h0, c0
    for found, right in zip(evaluate.forward(cell, point)[1], expected, strict=True):
        assert math.isclose(found, right, rel_tol=1e-14)
    assert math.isclose(evaluate.prepare(cell, point), mask * h)


def test_the_expectation_of_zoneout_needs_no_extras() -> None:
    cell = wrap(CELLS["gru"], zoneout=(0.25,))
    assert (cell.extras, cell.prepared) == ((), False)
    point = evaluate.Point((0.3, -0.2, 0.5, 0.1), (0.7,), ())
    plain = evaluate.forward(CELLS["gru"], point)[1][0]
    assert math.isclose(evaluate.forward(cell, point)[1][0], 0.75 * plain + 0.25 * 0.7)


def test_means_are_of_units_and_one_after_the_other() -> None:
    class Normalised:
        states, means = ("h",), ("mean", "spread")

        def first(self, z: Any, v: Any) -> dict[str, Any]:
            return {"mean": z.a}

        def second(self, z: Any, v: Any) -> dict[str, Any]:
            return {"spread": (z.a - v.mean) ** 2}

        def third(self, z: Any, v: Any) -> dict[str, Any]:
            return {"h": (z.a - v.mean) / (v.spread + 0.1) ** 0.5}

        products = (Product("weight_ih", "x", ("a",)), Product("weight_hh", "h", ("a",)))
        phases = (Phase(products, first), Phase((), second), Phase((), third))

    cell = make_cell(Normalised)
    assert cell.mean_levels == (("mean",), ("spread",))
    check_derivatives(cell)
    shown = cell.shown[cell.shown.index("means over the units of") : cell.shown.index("\nforward\n")]
    assert "    mean = z_a\n" in shown


def test_keys_and_other_processes() -> None:
    for parts in ({"zoneout": (0.1, 0.25)}, {"zoneout_masks": (False, True), **EVERYTHING}):
        cell = wrap(CELLS["lstm"], **parts)
        assert type(wrap(CELLS["lstm"], **parts)) is type(cell) is not type(CELLS["lstm"])
        assert type(pickle.loads(pickle.dumps(cell))) is type(cell)
        program = (
            "import pickle, sys\n"
            "cell = pickle.load(sys.stdin.buffer)\n"
            "print(cell.key, cell.digest, cell.forward.__name__)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], input=pickle.dumps(cell), capture_output=True, check=True
        )
        assert done.stdout.decode().split() == [cell.key, cell.digest, "forward"]
    assert type(wrap(CELLS["gru"])) is type(CELLS["gru"])
    kinds = {type(wrap(CELLS[name], resets="zeros")) for name in ("lstm", "gru", "rnn")}
    assert len(kinds) == 3  # cells are empty tuples, all of them equal


@pytest.mark.parametrize(
    ("name", "parts", "text"),
    [
        ("lstm", {"zoneout": (0.1,)}, "zoneout: expected one for each of the states h, c"),
        ("gru", {"zoneout_masks": (True, True)}, "zoneout_masks: expected one for each of the states h"),
        ("gru", {"resets": "ones"}, "resets: expected zeros or initial, got 'ones'"),
        ("rnn", {"candidate_mask": True}, "the cell has no candidate with an activation of its own"),
    ],
)
def test_what_cannot_be_wrapped(name: str, parts: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        wrap(find_cell(name), **parts)


def test_a_wrapped_cell_is_not_wrapped_again() -> None:
    with pytest.raises(ValueError, match="is wrapped already; wrap lstm"):
        wrap(wrap(CELLS["lstm"], resets="zeros"), recurrent_mask=True)


def simple(**attributes: Any) -> type:
    def forward(self: Any, z: Any, v: Any) -> dict[str, Any]:
        return {"h": z.a}

    return type("Simple", (), {"gates": ("a",), "states": ("h",), "forward": forward, **attributes})


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"extras": 3}, "extras: expected a tuple of names or Extra"),
        ({"extras": (3,)}, "extras: expected names or Extra"),
        ({"extras": ("h",)}, "extras: 'h' is the name of something else"),
        ({"extras": ("m", Extra("m", False))}, "extras: a name stands twice"),
        ({"extras": ("z z",)}, "extras: expected names as Python's variables have"),
        ({"means": ("h",)}, "means: 'h' is the name of something else"),
        ({"means": ("m",)}, "means: no phase returns 'm'"),
        (
            {"means": ("m",), "forward": lambda self, z, v: {"h": z.a, "m": z.a}},
            "returns the mean 'm', which no later phase uses",
        ),
        (
            {"extras": ("m",), "forward": lambda self, z, v: {"h": z.a, "m": z.a}},
            "returns 'm', which is an extra",
        ),
        ({"vectors": ("p",), "initial_vectors": (1, 2)}, "initial_vectors: expected 1 numbers, got 2"),
    ],
)
def test_declarations_that_do_not_fit(attributes: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        make_cell(simple(**attributes))


XA, HA = Product("weight_ih", "x", ("a",)), Product("weight_hh", "h", ("a",))
SEEN = Product("weight_hh", "seen", ("a",))
OWN = Product("weight_r", "seen", ("r",))


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        (
            {
                "vectors": ("p",),
                "phases": (
                    Phase((), lambda z, v: {"seen": v.p * v.h}),
                    Phase((XA, SEEN), lambda z, v: {"h": z.a}),
                ),
            },
            "the first product's operand depends on the vector p",
        ),
        (
            {"extras": ("m",), "phases": (Phase((XA, HA), lambda z, v: {"m": z.a}),)},
            "returns 'm', which is an extra",
        ),
        (
            {
                "phases": (
                    Phase((XA, HA), lambda z, v: {"seen": z.a}, True),
                    Phase((OWN,), lambda z, v: {"h": z.r}),
                )
            },
            "phase 0: is projected; expected the last phase",
        ),
        (
            {
                "states": ("h", "c"),
                "phases": (
                    Phase((XA, HA), lambda z, v: {"seen": z.a, "c": z.a}),
                    Phase((OWN._replace(slots=("r", "s")),), lambda z, v: {"h": z.r + z.s}, True),
                ),
            },
            "phase 1: is projected; expected .* feeds one slot",
        ),
        (
            {
                "means": ("m",),
                "phases": (
                    Phase((XA, HA), lambda z, v: {"seen": z.a, "m": z.a}),
                    Phase((OWN,), lambda z, v: {"h": z.r - v.m}),
                ),
            },
            "means: expected a cell of one recurrent product",
        ),
    ],
)
def test_phases_that_do_not_fit(attributes: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        make_cell(type("Phased", (), {"states": ("h",), **attributes}))


def test_a_candidate_that_the_equations_name_is_masked() -> None:
    cell = wrap(find_cell("lstm,g=Affine_0.5_0.1"), candidate_mask=True)
    slots, (h, c) = (0.3, -0.2, 0.7, 0.1), (0.4, -0.6)
    (mask,) = cell.extras
    assert mask == "candidate_mask"
    for kept in (0.0, 2.0):
        _, (_, found) = cell.forward(slots, (h, c), (kept,))
        i, f = (1 / (1 + math.exp(-z)) for z in slots[:2])
        assert math.isclose(found, f * c + i * kept * (0.5 * slots[2] + 0.1), rel_tol=1e-12)
