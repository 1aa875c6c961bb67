"""Gated recurrent unit (Cho et al. 2014), with the reset gate before or after the recurrent product.

    r = σ(W_r x + b_ir + R_r h₋ + b_hr)      reset gate
    z = σ(W_z x + b_iz + R_z h₋ + b_hz)      update gate
    h = (1 − z) ⊙ n + z ⊙ h₋

with the candidate

    n = tanh(W_n x + b_in + r ⊙ (R_n h₋ + b_hn))      reset after the product (PyTorch, cuDNN)
    n = tanh(W_n x + b_in + R_n (r ⊙ h₋) + b_hn)      reset before the product (Cho et al., version 1)

K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
translation", EMNLP 2014.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.definition import Phase, Product
from lstm_numba.cells.functions import sigmoid, tanh


class GRUCell:
    """GRU with the reset gate after the recurrent product of the candidate, which feeds slot q."""

    states = ("h",)
    candidate = "n"

    def equations(self, z: Any, v: Any) -> dict[str, Any]:
        """The new state."""
        r, u = sigmoid(z.r), sigmoid(z.z)
        n = tanh(z.n + r * z.q)
        return {"h": (1 - u) * n + u * v.h}

    products = (Product("weight_ih", "x", ("r", "z", "n")), Product("weight_hh", "h", ("r", "z", "q")))
    phases = (Phase(products, equations),)


class GRUResetBeforeCell:
    """GRU with the reset gate before the recurrent product of n, whose operand is r ⊙ h₋."""

    states = ("h",)
    candidate = "n"

    def reset(self, z: Any, v: Any) -> dict[str, Any]:
        """What the candidate sees of the previous state."""
        return {"seen": sigmoid(z.r) * v.h}

    def update(self, z: Any, v: Any) -> dict[str, Any]:
        """The new state."""
        u = sigmoid(z.z)
        return {"h": (1 - u) * tanh(z.n) + u * v.h}

    phases = (
        Phase((Product("weight_ih", "x", ("r", "z")), Product("weight_hh", "h", ("r", "z"))), reset),
        Phase((Product("weight_ih", "x", ("n",)), Product("weight_hh", "seen", ("n",))), update),
    )
