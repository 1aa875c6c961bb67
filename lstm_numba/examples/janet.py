"""JANET, "just another network": an LSTM with only a forget gate.

    s = W_f x + U_f h₋ + b_f
    c̃ = tanh(W_c x + U_c h₋ + b_c)
    c = σ(s) ⊙ c₋ + (1 − σ(s − β)) ⊙ c̃
    h = c

β = 1 makes it write a little less than it forgets. Train it:

    lstm-numba train digits --cell lstm_numba.examples.janet:JANET

J. van der Westhuizen, J. Lasenby, "The unreasonable effectiveness of the forget gate", arXiv:1804.04849,
2018.
"""

from __future__ import annotations

from typing import Any

import lstm_numba as ln
from lstm_numba.cells import sigmoid, tanh

BETA = 1.0


@ln.register_cell
class JANET:
    """Forget gate only (van der Westhuizen & Lasenby 2018)."""

    gates = ("f", "g")
    states = ("h",)

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new state."""
        return {"h": sigmoid(z.f) * v.h + (1 - sigmoid(z.f - BETA)) * tanh(z.g)}
