"""Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    i = σ(W_i x + R_i h₋ + b_i)        input gate
    f = σ(W_f x + R_f h₋ + b_f)        forget gate
    g = tanh(W_g x + R_g h₋ + b_g)     candidate
    o = σ(W_o x + R_o h₋ + b_o)        output gate
    c = f ⊙ c₋ + i ⊙ g
    h = o ⊙ tanh(c)

With a projection (Sak et al. 2014; PyTorch's ``proj_size``) h has fewer units than c: h = W_hr (o ⊙ tanh(c)).

In the coupled LSTM (Greff et al. 2017) one gate decides what is forgotten and what is written: i = 1 − f.

S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
F. A. Gers, J. Schmidhuber, F. Cummins, "Learning to forget", Neural Computation 12 (2000).
H. Sak, A. Senior, F. Beaufays, "Long short-term memory based recurrent neural network architectures for large
vocabulary speech recognition", arXiv:1402.1128, 2014.
K. Greff et al., "LSTM: a search space odyssey", IEEE Transactions on Neural Networks and Learning Systems 28
(2017).
"""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.definition import Phase, Product
from lstm_numba.cells.functions import sigmoid, tanh


class LSTMCell:
    """LSTM with a forget gate, gates in PyTorch's order."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    candidate = "g"

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        c = sigmoid(z.f) * v.c + sigmoid(z.i) * tanh(z.g)
        return {"h": sigmoid(z.o) * tanh(c), "c": c}


class ProjectedLSTMCell:
    """LSTM whose output is projected by ``weight_hr`` (P, H)."""

    states = ("h", "c")
    candidate = "g"

    def remember(self, z: Any, v: Any) -> dict[str, Any]:
        """The new cell state, and what is projected."""
        c = sigmoid(z.f) * v.c + sigmoid(z.i) * tanh(z.g)
        return {"c": c, "m": sigmoid(z.o) * tanh(c)}

    def project(self, z: Any, v: Any) -> dict[str, Any]:
        """The output."""
        return {"h": z.r}

    gates = ("i", "f", "g", "o")
    phases = (
        Phase((Product("weight_ih", "x", gates), Product("weight_hh", "h", gates)), remember),
        Phase((Product("weight_hr", "m", ("r",)),), project, projected=True),
    )
    del gates


class CoupledLSTMCell:
    """LSTM whose input gate is 1 − f."""

    gates = ("f", "g", "o")
    states = ("h", "c")
    candidate = "g"

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        f = sigmoid(z.f)
        c = f * v.c + (1 - f) * tanh(z.g)
        return {"h": sigmoid(z.o) * tanh(c), "c": c}
