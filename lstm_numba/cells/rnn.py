"""The simple recurrent network (Elman 1990).

    h = tanh(W x + b_ih + R h₋ + b_hh)

With ``relu`` instead of tanh: Le, Jaitly & Hinton 2015.

J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990).
Q. V. Le, N. Jaitly, G. E. Hinton, "A simple way to initialize recurrent networks of rectified linear
units", arXiv:1504.00941.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_numba.cells.activations import positive, relu, tanh
from lstm_numba.cells.protocol import Stage


class RNNCell(NamedTuple):
    """Elman's cell with tanh."""

    gates = ("h",)
    states = ("h",)
    slots = ("h",)
    input_gates = (0,)
    stages = (Stage(0, (0,)),)
    peepholes = ()

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.forward`."""
        h = tanh(slots[0])
        return (h,), (h,)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.backward`."""
        h, dh = slots[0], gradient[0]
        return (dh * (1 - h * h),), (0.0,), ()


class ReluRNNCell(NamedTuple):
    """Elman's cell with relu."""

    gates = ("h",)
    states = ("h",)
    slots = ("h",)
    input_gates = (0,)
    stages = (Stage(0, (0,)),)
    peepholes = ()

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.forward`."""
        h = relu(slots[0])
        return (h,), (h,)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        """See `lstm_numba.cells.protocol.Cell.backward`."""
        h, dh = slots[0], gradient[0]
        return (dh * positive(h),), (0.0,), ()
