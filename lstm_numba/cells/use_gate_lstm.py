"""LSTM with learn, forget, remember and use gates, the last of which sees what was remembered.

    i = σ(W_i x + R_i h₋ + b_i)        learn gate
    f = σ(W_f x + R_f h₋ + b_f)        forget gate
    g = tanh(W_g x + R_g h₋ + b_g)     candidate
    c = f ⊙ c₋ + i ⊙ g                 remember
    u = tanh(W_u (f ⊙ c₋) + b_u)
    v = σ(W_v x + R_v h₋ + b_v)
    h = u ⊙ v                          use

The names are those under which the gates of an LSTM are often taught: learn, forget, remember, use.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.definition import Phase, Product
from lstm_numba.cells.functions import sigmoid, tanh


class UseGateLSTMCell:
    """LSTM whose output is made of what was not forgotten.

    ``weight_hh`` is (5*H, H): R_i, R_f, R_g, R_v, W_u.
    """

    states = ("h", "c")
    candidate = "g"

    def remember(self, z: Any, v: Any) -> dict[str, Any]:
        """The new cell state, and what is left of the old one."""
        kept = sigmoid(z.f) * v.c
        return {"c": kept + sigmoid(z.i) * tanh(z.g), "kept": kept, "v": sigmoid(z.v)}

    def use(self, z: Any, v: Any) -> dict[str, Any]:
        """The output."""
        return {"h": tanh(z.u) * v.v}

    gates = ("i", "f", "g", "v")
    phases = (
        Phase((Product("weight_ih", "x", gates), Product("weight_hh", "h", gates)), remember),
        Phase((Product("weight_hh", "kept", ("u",)),), use),
    )
    del gates
