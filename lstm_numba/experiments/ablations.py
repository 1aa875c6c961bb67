"""LSTMs with one part taken away (Greff et al. 2017), as cells of `lstm_numba.register_cell`.

The whole LSTM is `lstm_numba.cells.lstm`:

    i = σ(W_i x + R_i h₋ + b_i), f and o likewise, g = tanh(W_g x + R_g h₋ + b_g)
    c = f ⊙ c₋ + i ⊙ g
    h = o ⊙ tanh(c)

Each class here has one of these parts fixed: a gate at 1, or an activation as the identity. The weights of a
gate that is gone are gone too. Of the paper's other variants, coupled gates (CIFG) are the library's cell
"coupled", and peepholes, which the paper's LSTM has and loses as NP, are its cell "peephole". Its variant
with full gate recurrence (FGR) has, beside R h₋, nine matrices for the products with i₋, f₋ and o₋: four
recurrent products, where the equations of a cell may have two. It is left out.

K. Greff, R. K. Srivastava, J. Koutník, B. R. Steunebrink, J. Schmidhuber, "LSTM: a search space odyssey",
IEEE Transactions on Neural Networks and Learning Systems 28 (2017), arXiv:1503.04069.
"""

from __future__ import annotations

from typing import Any

import lstm_numba as ln
from lstm_numba.cells import sigmoid, tanh


@ln.register_cell
class NoInputGate:
    """NIG: i = 1."""

    gates = ("f", "g", "o")
    states = ("h", "c")
    candidate = "g"

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        c = sigmoid(z.f) * v.c + tanh(z.g)
        return {"h": sigmoid(z.o) * tanh(c), "c": c}


@ln.register_cell
class NoForgetGate:
    """NFG: f = 1, the LSTM of 1997."""

    gates = ("i", "g", "o")
    states = ("h", "c")
    candidate = "g"

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        c = v.c + sigmoid(z.i) * tanh(z.g)
        return {"h": sigmoid(z.o) * tanh(c), "c": c}


@ln.register_cell
class NoOutputGate:
    """NOG: o = 1."""

    gates = ("i", "f", "g")
    states = ("h", "c")
    candidate = "g"

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        c = sigmoid(z.f) * v.c + sigmoid(z.i) * tanh(z.g)
        return {"h": tanh(c), "c": c}


@ln.register_cell
class NoInputActivation:
    """NIAF: the candidate is its pre-activation."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c")

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        c = sigmoid(z.f) * v.c + sigmoid(z.i) * z.g
        return {"h": sigmoid(z.o) * tanh(c), "c": c}


@ln.register_cell
class NoOutputActivation:
    """NOAF: the output is the gated cell state itself."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    candidate = "g"

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        c = sigmoid(z.f) * v.c + sigmoid(z.i) * tanh(z.g)
        return {"h": sigmoid(z.o) * c, "c": c}


#: Short names -> the names that `lstm_numba.make_layer` takes.
ABLATIONS: dict[str, str] = {
    "no-input-gate": f"{__name__}:NoInputGate",
    "no-forget-gate": f"{__name__}:NoForgetGate",
    "no-output-gate": f"{__name__}:NoOutputGate",
    "no-input-act": f"{__name__}:NoInputActivation",
    "no-output-act": f"{__name__}:NoOutputActivation",
}
