"""`check_gradients`: right cells pass, and every wrong backward is caught with the right quantity named."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import own_cells
import pytest

import lstm_numba as ln
from lstm_numba import cells
from lstm_numba.cells import (
    CELLS,
    GRUCell,
    GRUResetBeforeCell,
    LSTMCell,
    PeepholeLSTMCell,
    ReluRNNCell,
    RNNCell,
)
from lstm_numba.cells.registration import make_cell
from lstm_numba.errors import CellError
from lstm_numba.nn.gradient_check import Entry, _check_unit, _slope
from lstm_numba.nn.recurrent import CELL_NAMES


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
    assert [n for n in named if n.startswith("peephole")] == [f"peephole p_{p}" for p in cell.peepholes]
    assert all(any(f"gate {gate}" in n for n in named) for gate in cell.gates)
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


def mutant(cell: type, before: str, after: str) -> Any:
    """The cell with one piece of its source replaced."""
    source = inspect.getsource(cell)
    assert source.count(before) == 1, before
    names = {**vars(inspect.getmodule(cell)), **vars(cells), "ln": ln}
    exec(source.replace(before, after).replace("@ln.register_cell", ""), names)
    # Under its own name Numba would take it for the cell that it is made of.
    return make_cell(names[cell.__name__])


@pytest.mark.parametrize(
    ("cell", "before", "after", "quantity"),
    [
        # one for each gate
        (LSTMCell, "g * i * (1 - i)", "g * i", "backward: gate i"),
        (LSTMCell, "c_prev * f * (1 - f)", "c_prev * f", "backward: gate f"),
        (LSTMCell, "dc * i * (1 - g * g)", "dc * i * (1 + g * g)", "backward: gate g"),
        (LSTMCell, "tanh_c * o * (1 - o)", "tanh_c * (1 - o)", "backward: gate o"),
        # signs and states
        (LSTMCell, "(1 - tanh_c * tanh_c)", "1.0", "backward: gate i"),
        (LSTMCell, "dc + dh * o", "dc - dh * o", "backward: gate i"),
        (LSTMCell, "dc = dc + dh", "dc = dh", "backward: gate i"),
        (LSTMCell, "dc * f), ()", "dc), ()", "backward: previous state c"),
        (LSTMCell, "(0.0, dc * f), ()", "(0.1 * dh, dc * f), ()", "backward: previous state h"),
        (RNNCell, "(1 - h * h)", "(1 - h)", "backward: gate"),
        (ReluRNNCell, "positive(", "tanh(", "backward: gate"),
        # peepholes
        (PeepholeLSTMCell, "+ do * p_o", "", "backward: gate i"),
        (PeepholeLSTMCell, "+ di * p_i", "", "backward: previous state c"),
        (PeepholeLSTMCell, "+ df * p_f", "- df * p_f", "backward: previous state c"),
        (PeepholeLSTMCell, "do * c)", "do * c_prev)", "backward: peephole p_o"),
        (PeepholeLSTMCell, "di * c_prev,", "0.0,", "backward: peephole p_i"),
        (PeepholeLSTMCell, "df * c_prev,", "df * c,", "backward: peephole p_f"),
        # gates fed apart, messages
        (GRUCell, "(dn, dr, dz, dn * r)", "(dn, dr, dz, dn)", "backward: gate n (recurrent part, slot q)"),
        (GRUCell, "dn * q * r", "dn * r", "backward: gate r"),
        (GRUCell, "(h_prev - n) * z", "(n - h_prev) * z", "backward: gate z"),
        (GRUCell, "dh * z,)", "dh,)", "backward: previous state h"),
        (GRUResetBeforeCell, "previous[0] * r * (1 - r)", "previous[0] * r", "operand_backward: gate r"),
        (GRUResetBeforeCell, "(gradient * r,)", "(gradient,)", "operand_backward: previous state h"),
        (GRUResetBeforeCell, "dn = dh * (1 - z)", "dn = dh * z", "backward: gate n"),
    ],
)
def test_a_wrong_backward_is_caught_and_named(cell: type, before: str, after: str, quantity: str) -> None:
    with pytest.raises(ln.GradientError) as caught:
        ln.check_gradients(mutant(cell, before, after))
    text = str(caught.value)
    assert text.startswith(f"{cell.__name__}.{quantity}"), text
    assert "central differences give" in text
    assert "relative" in text
    assert "\n" not in text


def test_a_mistake_of_one_in_a_hundred_thousand_is_seen() -> None:
    with pytest.raises(ln.GradientError, match="gate f"):
        ln.check_gradients(mutant(LSTMCell, "c_prev * f * (1 - f)", "c_prev * f * (1.00002 - f)"))


def test_the_second_stages_gradients_must_not_change_afterwards() -> None:
    wrong = mutant(GRUResetBeforeCell, "(dr, dz, dn), (gradient", "(dr, dz, 2 * dn), (gradient")
    with pytest.raises(ln.GradientError, match="operand_backward: changes the gradient of slot n"):
        ln.check_gradients(wrong)


def test_kinks_are_left_out_and_slopes_beside_them_are_exact() -> None:
    assert _slope(abs) is None
    assert _slope(lambda x: abs(x - 3e-5)) is None
    assert _slope(lambda x: max(x, 0.0)) is None
    assert _slope(lambda x: abs(x + 0.5)) == pytest.approx(1.0, rel=1e-11)
    assert _slope(lambda x: math.exp(2 * x)) == pytest.approx(2.0, rel=1e-11)


def test_a_function_with_kinks_everywhere_is_not_passed() -> None:
    rough = mutant(RNNCell, "h = tanh(slots[0])", "h = abs(slots[0] * 7654321.1 % 2 - 1)")
    with pytest.raises(ln.GradientError, match="forward has a kink at every point that was tried"):
        _check_unit(rough, np.random.default_rng(0), 1e-6)


def test_numbers_that_are_not_finite_are_told() -> None:
    class Roots(RNNCell):  # type: ignore[misc]
        def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
            return slots, (math.sqrt(slots[0]),)

        def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
            return (0.5 * gradient[0] / states[0],), (0.0,), ()

    with pytest.raises(ln.GradientError, match=r"Roots: (forward|backward) fails at Point"):
        ln.check_gradients(Roots())


def test_nan_in_a_gradient_is_wrong() -> None:
    with pytest.raises(ln.GradientError, match=r"gate i: .* is nan"):
        ln.check_gradients(mutant(LSTMCell, "g * i * (1 - i)", "g * i * float('nan')"))
    assert not Entry("", math.nan, 1.0).relative <= 1.0


def test_what_numba_cannot_compile_is_told_in_one_line() -> None:
    wrong = mutant(RNNCell, "h = tanh(slots[0])", "h = tanh(slots[0]) + 0 * (slots[0] // 1.0)")
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
