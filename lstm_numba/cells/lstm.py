"""Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    i = σ(W_i x + R_i h₋ + b_i)        input gate
    f = σ(W_f x + R_f h₋ + b_f)        forget gate
    g = tanh(W_g x + R_g h₋ + b_g)     candidate
    o = σ(W_o x + R_o h₋ + b_o)        output gate
    c = f ⊙ c₋ + i ⊙ g
    h = o ⊙ tanh(c)

S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
F. A. Gers, J. Schmidhuber, F. Cummins, "Learning to forget", Neural Computation 12 (2000).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_numba.cells.activations import sigmoid, tanh
from lstm_numba.cells.protocol import Stage


class LSTMCell(NamedTuple):
    """LSTM with a forget gate, gates in PyTorch's order."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    slots = ("i", "f", "g", "o")
    input_gates = (0, 1, 2, 3)
    stages = (Stage(0, (0, 1, 2, 3)),)
    peepholes = ()

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.forward`."""
        c_prev = previous[1]
        i = sigmoid(slots[0])
        f = sigmoid(slots[1])
        g = tanh(slots[2])
        o = sigmoid(slots[3])
        c = f * c_prev + i * g
        h = o * tanh(c)
        return (i, f, g, o), (h, c)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.backward`."""
        i, f, g, o = slots
        c_prev = previous[1]
        dh, dc = gradient
        tanh_c = tanh(states[1])
        do = dh * tanh_c * o * (1 - o)
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        di = dc * g * i * (1 - i)
        df = dc * c_prev * f * (1 - f)
        dg = dc * i * (1 - g * g)
        return (di, df, dg, do), (0.0, dc * f), ()
