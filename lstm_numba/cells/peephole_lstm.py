"""LSTM with diagonal peephole connections (Gers & Schmidhuber 2000).

    i = σ(W_i x + R_i h₋ + p_i ⊙ c₋ + b_i)
    f = σ(W_f x + R_f h₋ + p_f ⊙ c₋ + b_f)
    g = tanh(W_g x + R_g h₋ + b_g)
    c = f ⊙ c₋ + i ⊙ g
    o = σ(W_o x + R_o h₋ + p_o ⊙ c + b_o)      with the new c
    h = o ⊙ tanh(c)

F. A. Gers, J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.functions import sigmoid, tanh


class PeepholeLSTMCell:
    """LSTM with diagonal weights from the cell state to its three sigmoid gates."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    vectors = ("p_i", "p_f", "p_o")

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        i, f = sigmoid(z.i + v.p_i * v.c), sigmoid(z.f + v.p_f * v.c)
        c = f * v.c + i * tanh(z.g)
        o = sigmoid(z.o + v.p_o * c)
        return {"h": o * tanh(c), "c": c}
