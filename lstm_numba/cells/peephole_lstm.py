"""LSTM with peephole connections, diagonal (Gers & Schmidhuber 2000) or full.

    i = σ(W_i x + R_i h₋ + p_i ⊙ c₋ + b_i)
    f = σ(W_f x + R_f h₋ + p_f ⊙ c₋ + b_f)
    g = tanh(W_g x + R_g h₋ + b_g)
    c = f ⊙ c₋ + i ⊙ g
    o = σ(W_o x + R_o h₋ + p_o ⊙ c + b_o)      with the new c
    h = o ⊙ tanh(c)

With full peepholes the previous cell state goes through a matrix to all three sigmoid gates (Graves 2013,
without the restriction to diagonal matrices):

    i = σ(W_i x + R_i h₋ + P_i c₋ + b_i), and likewise f and o

F. A. Gers, J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000.
A. Graves, "Generating sequences with recurrent neural networks", arXiv:1308.0850, 2013.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.definition import Phase, Product
from lstm_numba.cells.functions import sigmoid, tanh


class PeepholeLSTMCell:
    """LSTM with diagonal weights from the cell state to its three sigmoid gates."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    vectors = ("p_i", "p_f", "p_o")
    candidate = "g"

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        i, f = sigmoid(z.i + v.p_i * v.c), sigmoid(z.f + v.p_f * v.c)
        c = f * v.c + i * tanh(z.g)
        o = sigmoid(z.o + v.p_o * c)
        return {"h": o * tanh(c), "c": c}


class FullPeepholeLSTMCell:
    """LSTM with a matrix from the previous cell state to its three sigmoid gates.

    ``weight_hh`` is (7*H, H): R_i, R_f, R_g, R_o, P_i, P_f, P_o.
    """

    states = ("h", "c")
    candidate = "g"

    def memory(self, z: Any, v: Any) -> dict[str, Any]:
        """What the peepholes see."""
        return {"memory": v.c}

    def update(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        c = sigmoid(z.f + z.p_f) * v.c + sigmoid(z.i + z.p_i) * tanh(z.g)
        return {"h": sigmoid(z.o + z.p_o) * tanh(c), "c": c}

    gates = ("i", "f", "g", "o")
    phases = (
        Phase((Product("weight_ih", "x", gates), Product("weight_hh", "h", gates)), memory),
        Phase((Product("weight_hh", "memory", ("p_i", "p_f", "p_o")),), update),
    )
    del gates
