"""LSTM with diagonal peephole connections (Gers & Schmidhuber 2000).

    i = σ(W_i x + R_i h₋ + p_i ⊙ c₋ + b_i)
    f = σ(W_f x + R_f h₋ + p_f ⊙ c₋ + b_f)
    g = tanh(W_g x + R_g h₋ + b_g)
    c = f ⊙ c₋ + i ⊙ g
    o = σ(W_o x + R_o h₋ + p_o ⊙ c + b_o)      with the new c
    h = o ⊙ tanh(c)

The gradient of c includes p_o ⊙ δ_o of the same step and p_i ⊙ δ_i + p_f ⊙ δ_f of the next.

F. A. Gers, J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_numba.cells.activations import sigmoid, tanh
from lstm_numba.cells.protocol import Stage


class PeepholeLSTMCell(NamedTuple):
    """LSTM with diagonal weights from the cell state to its three sigmoid gates."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    slots = ("i", "f", "g", "o")
    input_gates = (0, 1, 2, 3)
    stages = (Stage(0, (0, 1, 2, 3)),)
    peepholes = ("i", "f", "o")

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.forward`."""
        c_prev = previous[1]
        p_i, p_f, p_o = peephole
        i = sigmoid(slots[0] + p_i * c_prev)
        f = sigmoid(slots[1] + p_f * c_prev)
        g = tanh(slots[2])
        c = f * c_prev + i * g
        o = sigmoid(slots[3] + p_o * c)
        h = o * tanh(c)
        return (i, f, g, o), (h, c)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.backward`."""
        i, f, g, o = slots
        c_prev, c = previous[1], states[1]
        p_i, p_f, p_o = peephole
        dh, dc = gradient
        tanh_c = tanh(c)
        do = dh * tanh_c * o * (1 - o)
        dc = dc + dh * o * (1 - tanh_c * tanh_c) + do * p_o
        di = dc * g * i * (1 - i)
        df = dc * c_prev * f * (1 - f)
        dg = dc * i * (1 - g * g)
        dc_prev = dc * f + di * p_i + df * p_f
        return (di, df, dg, do), (0.0, dc_prev), (di * c_prev, df * c_prev, do * c)
