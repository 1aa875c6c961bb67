"""Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    i = σ(W_i x + R_i h₋ + b_i)        input gate
    f = σ(W_f x + R_f h₋ + b_f)        forget gate
    g = tanh(W_g x + R_g h₋ + b_g)     candidate
    o = σ(W_o x + R_o h₋ + b_o)        output gate
    c = f ⊙ c₋ + i ⊙ g
    h = o ⊙ tanh(c)

In the coupled LSTM (Greff et al. 2017) one gate decides what is forgotten and what is written: i = 1 − f.

S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
F. A. Gers, J. Schmidhuber, F. Cummins, "Learning to forget", Neural Computation 12 (2000).
K. Greff et al., "LSTM: a search space odyssey", IEEE Transactions on Neural Networks and Learning Systems 28
(2017).
"""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.functions import sigmoid, tanh


class LSTMCell:
    """LSTM with a forget gate, gates in PyTorch's order."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c")

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        c = sigmoid(z.f) * v.c + sigmoid(z.i) * tanh(z.g)
        return {"h": sigmoid(z.o) * tanh(c), "c": c}


class CoupledLSTMCell:
    """LSTM whose input gate is 1 − f."""

    gates = ("f", "g", "o")
    states = ("h", "c")

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        f = sigmoid(z.f)
        c = f * v.c + (1 - f) * tanh(z.g)
        return {"h": sigmoid(z.o) * tanh(c), "c": c}
