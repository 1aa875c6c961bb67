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

from typing import Any, NamedTuple

from lstm_numba.cells.activations import sigmoid, tanh
from lstm_numba.cells.protocol import Stage


class GRUCell(NamedTuple):
    """GRU with the reset gate after the recurrent product.

    Slot n gets ``W_n x + b_in`` and keeps n; slot q gets and keeps ``R_n h₋ + b_hn``. The order of the slots
    lets each product feed adjacent ones.
    """

    gates = ("r", "z", "n")
    states = ("h",)
    slots = ("n", "r", "z", "q")
    input_gates = (2, 0, 1)
    stages = (Stage(1, (0, 1, 2)),)
    peepholes = ()

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.forward`."""
        h_prev = previous[0]
        r = sigmoid(slots[1])
        z = sigmoid(slots[2])
        q = slots[3]
        n = tanh(slots[0] + r * q)
        h = (1 - z) * n + z * h_prev
        return (n, r, z, q), (h,)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.backward`."""
        n, r, z, q = slots
        h_prev, dh = previous[0], gradient[0]
        dn = dh * (1 - z) * (1 - n * n)
        dz = dh * (h_prev - n) * z * (1 - z)
        dr = dn * q * r * (1 - r)
        return (dn, dr, dz, dn * r), (dh * z,), ()


class GRUResetBeforeCell(NamedTuple):
    """GRU with the reset gate before the recurrent product of n, whose operand is r ⊙ h₋."""

    gates = ("r", "z", "n")
    states = ("h",)
    slots = ("r", "z", "n")
    input_gates = (0, 1, 2)
    stages = (Stage(0, (0, 1)), Stage(2, (2,)))
    peepholes = ()

    def operand(self, slots: Any, previous: Any) -> Any:
        """See `lstm_numba.cells.protocol.TwoStageCell.operand`."""
        return sigmoid(slots[0]) * previous[0]

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.forward`."""
        r = sigmoid(slots[0])
        z = sigmoid(slots[1])
        n = tanh(slots[2])
        h = (1 - z) * n + z * previous[0]
        return (r, z, n), (h,)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        """See `Cell.backward`; slot r keeps r until the operand's gradient is known."""
        r, z, n = slots
        h_prev, dh = previous[0], gradient[0]
        dn = dh * (1 - z) * (1 - n * n)
        dz = dh * (h_prev - n) * z * (1 - z)
        return (r, dz, dn), (dh * z,), ()

    def operand_backward(self, slots: Any, previous: Any, gradient: Any) -> Any:
        """See `lstm_numba.cells.protocol.TwoStageCell.operand_backward`."""
        r, dz, dn = slots
        dr = gradient * previous[0] * r * (1 - r)
        return (dr, dz, dn), (gradient * r,)
