"""`check_gradients`: right cells pass, and every wrong backward is caught with the right quantity named."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import own_cells
import pytest

import lstm_numba as ln
from lstm_numba.cells import CELLS, numba_classes, sqrt
from lstm_numba.cells.generation import compiled
from lstm_numba.cells.lstm import LSTMCell
from lstm_numba.cells.registration import make_cell
from lstm_numba.errors import CellError
from lstm_numba.nn.gradient_check import Entry, _check_unit, _slope
from lstm_numba.nn.layers import CELL_NAMES


@pytest.mark.parametrize(
    "name",
    [
        *CELL_NAMES,
        *own_cells.VARIED,
        *(pytest.param(name, marks=pytest.mark.slow) for name in own_cells.SIMILAR),
    ],
)
def test_right_cells_pass_with_errors_of_rounding(name: str) -> None:
    report = ln.check_gradients(name)
    assert max(entry.relative for entry in report.unit) < 1e-10
    assert max(entry.relative for entry in report.layer) < 1e-9
    cell = CELLS[name]
    named = [entry.quantity for entry in report.unit]
    assert [n for n in named if n.startswith("previous")] == [f"previous state {s}" for s in cell.states]
    assert [n for n in named if n.startswith("vector")] == [f"vector {p}" for p in cell.peepholes]
    gates = {n.removeprefix("gate ") for n in named if n.startswith("gate")}
    assert gates == {*cell.gates, *cell.recurrent_gates}
    for quantity in ("weight_hh_l1_reverse", "input x", f"initial state {cell.states[-1]}"):
        assert any(entry.quantity == quantity and entry.numeric != 0 for entry in report.layer)
    assert report.cell in str(report)
    assert "weight_ih_l0" in str(report)


def test_what_may_be_checked() -> None:
    layer = ln.GRU(2, 3, reset_after=False)
    for given in (layer, layer.cell, "gru-reset-before"):
        assert ln.check_gradients(given).cell == "GRUResetBeforeCell"
    assert ln.check_gradients(ln.LSTM).cell == "LSTMCell"
    for wrong in (3, LSTMCell, own_cells, object()):
        with pytest.raises(TypeError, match="cell: expected a layer class, a layer, a cell or its name"):
            ln.check_gradients(wrong)
    with pytest.raises(ValueError, match="expected one of rnn"):
        ln.check_gradients("lstn")
    with pytest.raises(ValueError, match="tolerance"):
        ln.check_gradients("lstm", tolerance=0)


def mutant(name: str, before: str, after: str, function: str = "backward") -> Any:
    """A cell with one piece of its derived equations replaced."""
    cell: Any = type(CELLS[name])
    text = cell.texts[function]
    assert text.count(before) == 1, (before, text)
    # Under its own name Numba would take it for the cell that it is made of.
    digest = hashlib.sha256(repr((cell.digest, function, before, after)).encode()).hexdigest()[:16]
    kind = numba_classes.cell_class(f"{cell.display_name}_{digest}")
    for attribute, value in vars(cell).items():
        if not attribute.startswith("__"):
            setattr(kind, attribute, value)
    changed = compiled(function, text.replace(before, after), f"<{digest}>", numba_classes.__name__)
    setattr(kind, function, changed)
    return kind()


MINIMAL = next(name for name in own_cells.NAMES if "Minimal" in name)


@pytest.mark.parametrize(
    ("name", "before", "after", "quantity"),
    [
        # one for each gate
        ("lstm", "di * i * (1 - i)", "di * i", "backward: gate i"),
        ("lstm", "df * f * (1 - f)", "df * f", "backward: gate f"),
        ("lstm", "dg * (1 - g * g)", "dg * (1 + g * g)", "backward: gate g"),
        ("lstm", "do * o * (1 - o)", "do * (1 - o)", "backward: gate o"),
        # signs and states
        ("lstm", "(1 - tanh_c * tanh_c)", "1.0", "backward: gate i"),
        ("lstm", "dc + dtanh_c", "dc - dtanh_c", "backward: gate i"),
        ("lstm", "d_c = dc + dtanh_c", "d_c = dtanh_c", "backward: gate i"),
        ("lstm", "dc_prev = d_c * f", "dc_prev = d_c", "backward: previous state c"),
        ("lstm", "(0.0, dc_prev)", "(0.1 * dh, dc_prev)", "backward: previous state h"),
        ("rnn", "(1 - h * h)", "(1 - h)", "backward: gate h"),
        ("rnn-relu", "positive(", "tanh(", "backward: gate h"),
        # vectors
        ("peephole", " + dz_o * p_o", "", "backward: gate i"),
        ("peephole", " + dz_i * p_i", "", "backward: previous state c"),
        ("peephole", "+ dz_f * p_f", "- dz_f * p_f", "backward: previous state c"),
        ("peephole", "dp_o = dz_o * c", "dp_o = dz_o * c_prev", "backward: vector p_o"),
        ("peephole", "(dp_i,", "(0.0,", "backward: vector p_i"),
        ("peephole", "dp_f = dz_f * c_prev", "dp_f = dz_f * c", "backward: vector p_f"),
        # gates fed apart, two phases, a slot that nothing feeds
        ("gru", "dz_q = dz_n * r", "dz_q = dz_n", "backward: gate q"),
        ("gru", "dr = dz_n * z_q", "dr = dz_n", "backward: gate r"),
        ("gru", "(h_prev - n)", "(n - h_prev)", "backward: gate z"),
        ("gru", "dh_prev = dh * z", "dh_prev = dh", "backward: previous state h"),
        ("gru-reset-before", "h_prev * r * (1 - r)", "h_prev * r", "operand_backward: gate r"),
        ("gru-reset-before", "(doperand * r,)", "(doperand,)", "operand_backward: previous state h"),
        ("gru-reset-before", "dn = dh * t1", "dn = dh * z", "backward: gate n"),
        (MINIMAL, "for_kept0 + ", "", "backward: gate f"),
        (
            MINIMAL,
            "return (f, dz_g, for_kept0)",
            "return (dz_g, dz_g, for_kept0)",
            "operand_backward: gate f",
        ),
    ],
)
def test_a_wrong_backward_is_caught_and_named(name: str, before: str, after: str, quantity: str) -> None:
    texts = CELLS[name].texts
    (function,) = (f for f in ("backward", "operand_backward") if f in texts and before in texts[f])
    with pytest.raises(ln.GradientError) as caught:
        ln.check_gradients(mutant(name, before, after, function))
    text = str(caught.value)
    assert text.startswith(f"{CELLS[name].display_name}.{quantity}:"), text
    assert "central differences give" in text
    assert "relative" in text
    assert "\n" not in text


def test_a_mistake_of_one_in_a_hundred_thousand_is_seen() -> None:
    with pytest.raises(ln.GradientError, match="gate f"):
        ln.check_gradients(mutant("lstm", "df * f * (1 - f)", "df * f * (1.00002 - f)"))


def test_the_second_stages_gradients_must_not_change_afterwards() -> None:
    before, after = "(dz_r, dz_z, dz_n), (doperand", "(dz_r, dz_z, 2 * dz_n), (doperand"
    with pytest.raises(ln.GradientError, match="operand_backward: changes the gradient of slot n"):
        ln.check_gradients(mutant("gru-reset-before", before, after, "operand_backward"))


def test_kinks_are_left_out_and_slopes_beside_them_are_exact() -> None:
    assert _slope(abs) is None
    assert _slope(lambda x: abs(x - 3e-5)) is None
    assert _slope(lambda x: max(x, 0.0)) is None
    assert _slope(lambda x: abs(x + 0.5)) == pytest.approx(1.0, rel=1e-11)
    assert _slope(lambda x: math.exp(2 * x)) == pytest.approx(2.0, rel=1e-11)


def test_a_function_with_kinks_everywhere_is_not_passed() -> None:
    rough = mutant("rnn", "h = tanh(z_h)", "h = abs(z_h * 7654321.1 % 2 - 1)", "forward")
    with pytest.raises(ln.GradientError, match="forward has a kink at every point that was tried"):
        _check_unit(rough, np.random.default_rng(0), 1e-6)


def test_numbers_that_are_not_finite_are_told() -> None:
    class Roots:
        gates, states = ("a",), ("h",)

        def forward(self, z: Any, v: Any) -> dict[str, Any]:
            return {"h": sqrt(z.a)}

    with pytest.raises(ln.GradientError, match=r"Roots: (forward|backward) fails at Point"):
        ln.check_gradients(make_cell(Roots))


def test_nan_in_a_gradient_is_wrong() -> None:
    with pytest.raises(ln.GradientError, match=r"gate i: .* is nan"):
        ln.check_gradients(mutant("lstm", "di * i * (1 - i)", "di * (1e999 - 1e999)"))
    assert not Entry("", math.nan, 1.0).relative <= 1.0


def test_what_numba_cannot_compile_is_told_in_one_line() -> None:
    wrong = mutant("rnn", "h = tanh(z_h)", "h = tanh(z_h) + 0 * (z_h // 1.0)", "forward")
    with pytest.raises(CellError, match=r"RNNCell: Numba cannot compile the equations: .*floordiv") as caught:
        ln.check_gradients(wrong)
    assert "\n" not in str(caught.value)


def test_the_kernels_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right equations that a wrong engine runs."""
    original = ln.Recurrent.backward

    def wrong(self: Any, *args: Any) -> Any:
        dx, dstate, grads = original(self, *args)
        grads["weight_hh_l1"][0, 0] += 1e-3
        return dx, dstate, grads

    monkeypatch.setattr(ln.Recurrent, "backward", wrong)
    with pytest.raises(ln.GradientError, match="on cpu: the gradient of weight_hh_l1 along a direction"):
        ln.check_gradients("lstm")
