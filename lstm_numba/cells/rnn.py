"""The simple recurrent network (Elman 1990).

    h = tanh(W x + b_ih + R h₋ + b_hh)

With ``relu`` instead of tanh: Le, Jaitly & Hinton 2015.

J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990).
Q. V. Le, N. Jaitly, G. E. Hinton, "A simple way to initialize recurrent networks of rectified linear
units", arXiv:1504.00941.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.functions import relu, tanh


class RNNCell:
    """Elman's cell with tanh."""

    gates = ("h",)
    states = ("h",)

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new state."""
        return {"h": tanh(z.h)}


class ReluRNNCell:
    """Elman's cell with relu."""

    gates = ("h",)
    states = ("h",)

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new state."""
        return {"h": relu(z.h)}
