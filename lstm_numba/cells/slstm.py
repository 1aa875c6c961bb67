"""sLSTM (Beck et al. 2024): an LSTM with exponential gates, a normaliser n and a stabiliser m.

    i = exp(z_i − m)                   input gate, z_i = W_i x + R_i h₋ + b_i
    f = exp(log σ(z_f) + m₋ − m)       forget gate
    g = tanh(W_g x + R_g h₋ + b_g)     candidate (the paper's z)
    o = σ(W_o x + R_o h₋ + b_o)        output gate
    m = max(log σ(z_f) + m₋, z_i)
    c = f ⊙ c₋ + i ⊙ g
    n = f ⊙ n₋ + i
    h = o ⊙ c / n

Without m the gates are i = exp(z_i) and f = σ(z_f), and c and n are exp(m) times as large: that factor
cancels in c / n, so h does not depend on m. All states may therefore begin at 0: c and n are 0 with any
factor, and m is only a choice of it. Where n is 0, as every i has been too small for a number, so is h.

M. Beck et al., "xLSTM: Extended long short-term memory", NeurIPS 2024, equations 8 to 17.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.functions import absolute, exp, log1p, maximum, minimum, sigmoid, tanh

#: The least number that is divided by. Its reciprocal, a factor of gradients, is far from overflow.
_TINY = 2.0**-100


class SLSTMCell:
    """LSTM with exponential gates, in the order of PyTorch's LSTM."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c", "n", "m")
    traced = ("i", "f", "g", "o")

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        log_f = minimum(z.f, 0) - log1p(exp(-absolute(z.f)))
        m = maximum(log_f + v.m, z.i)
        i = exp(z.i - m)
        f = exp(log_f + v.m - m)
        g, o = tanh(z.g), sigmoid(z.o)
        c = f * v.c + i * g
        n = f * v.n + i
        h = o * c / maximum(absolute(n), _TINY)
        return {"h": h, "c": c, "n": n, "m": m, "i": i, "f": f, "g": g, "o": o}
