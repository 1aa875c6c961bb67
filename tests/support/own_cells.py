"""Cells as users write them, for tests: peepholes, two stages, an extra slot, three states, `math`."""

from __future__ import annotations

import math
from typing import Any

import lstm_numba as ln
from lstm_numba.cells import Stage, sigmoid, tanh
from lstm_numba.examples.janet import JANET

SLOW = 0.9
HALF = 0.5


@ln.register_cell
class CoupledPeepholes:
    """Coupled input and forget gate, with peepholes that see the old c and the new one."""

    gates = ("f", "g", "o")
    states = ("h", "c")
    peepholes = ("o", "f")

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        p_o, p_f = peephole
        f = sigmoid(slots[0] + p_f * previous[1])
        g = tanh(slots[1])
        c = f * previous[1] + (1 - f) * g
        o = sigmoid(slots[2] + p_o * c)
        return (f, g, o), (o * tanh(c), c)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        f, g, o = slots
        p_o, p_f = peephole
        tanh_c = tanh(states[1])
        do = gradient[0] * tanh_c * o * (1 - o)
        dc = gradient[1] + gradient[0] * o * (1 - tanh_c**2) + do * p_o
        df = dc * (previous[1] - g) * f * (1 - f)
        dg = dc * (1 - f) * (1 - g * g)
        return (df, dg, do), (0.0, dc * f + df * p_f), (do * states[1], df * previous[1])


@ln.register_cell
class MinimalGatedUnit:
    """Minimal gated unit (Zhou, Wu, Zhang, Zhou 2016): the candidate sees f * h.

    f is needed once more when the operand's gradient is known: it goes through `backward` in its own slot.
    """

    gates = ("f", "g")
    states = ("h",)
    slots = ("f", "g", "extra")
    stages = (Stage(0, (0,)), Stage(1, (1,)))

    def operand(self, slots: Any, previous: Any) -> Any:
        return sigmoid(slots[0]) * previous[0]

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        f, g = sigmoid(slots[0]), tanh(slots[1])
        return (f, g, f), ((1 - f) * previous[0] + f * g,)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        f, g, _ = slots
        dh = gradient[0]
        return (dh * (g - previous[0]) * f * (1 - f), dh * f * (1 - g * g), f), (dh * (1 - f),), ()

    def operand_backward(self, slots: Any, previous: Any, gradient: Any) -> Any:
        df, dg, f = slots
        return (df + gradient * previous[0] * f * (1 - f), dg, 0.0), (gradient * f,)


@ln.register_cell
class ExtraSlot:
    """An LSTM that keeps tanh(c) in a slot that nothing feeds."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    slots = ("i", "f", "g", "o", "extra")

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        i, f, g, o = sigmoid(slots[0]), sigmoid(slots[1]), tanh(slots[2]), sigmoid(slots[3])
        c = f * previous[1] + i * g
        t = tanh(c)
        return (i, f, g, o, t), (o * t, c)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        i, f, g, o, t = slots
        dh, dc = gradient
        dc += dh * o * (1 - t * t)
        di, df = dc * g * i * (1 - i), dc * previous[1] * f * (1 - f)
        return (di, df, dc * i * (1 - g * g), dh * t * o * (1 - o), 0.0), (0.0, dc * f), ()


@ln.register_cell
class ThreeStates:
    """A cell state c, and a slow average m of it."""

    gates = ("f", "g", "o")
    states = ("h", "c", "m")

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        f, g, o = sigmoid(slots[0]), tanh(slots[1]), sigmoid(slots[2])
        c = f * previous[1] + (1 - f) * g
        m = SLOW * previous[2] + (1 - SLOW) * c
        return (f, g, o), (o * tanh(c + m), c, m)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        f, g, o = slots
        dh, dc, dm = gradient
        t = tanh(states[1] + states[2])
        inner = dh * o * (1 - t * t)
        dm = dm + inner
        dc = dc + inner + (1 - SLOW) * dm
        df = dc * (previous[1] - g) * f * (1 - f)
        return (df, dc * (1 - f) * (1 - g * g), dh * t * o * (1 - o)), (0.0, dc * f, SLOW * dm), ()


@ln.register_cell
class Everything:
    """Two stages, two states, a peephole, slots in another order, one extra slot, gates fed apart, math."""

    gates = ("f", "r", "g")
    states = ("h", "c")
    slots = ("g", "r", "f", "q", "extra")
    input_gates = (2, 1, 0)
    stages = (Stage(1, (1, 0)), Stage(3, (2,)))
    peepholes = ("f",)

    def operand(self, slots: Any, previous: Any) -> Any:
        return sigmoid(slots[1]) * (previous[0] + HALF * previous[1])

    def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
        r = sigmoid(slots[1])
        f = sigmoid(slots[2] + peephole[0] * previous[1])
        g = tanh(slots[0] + slots[3])
        c = f * previous[1] + (1 - f) * g
        return (g, r, f, 0.0, math.exp(-c * c)), (c * math.exp(-c * c), c)

    def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        g, r, f, _, extra = slots
        dh, dc = gradient
        c = states[1]
        dc = dc + dh * extra * (1 - 2 * c * c)
        df = dc * (previous[1] - g) * f * (1 - f)
        dg = dc * (1 - f) * (1 - g * g)
        return (dg, r, df, dg, 0.0), (0.0, dc * f + df * peephole[0]), (df * previous[1],)

    def operand_backward(self, slots: Any, previous: Any, gradient: Any) -> Any:
        dg, r, df, dq, extra = slots
        operand = previous[0] + HALF * previous[1]
        return (dg, gradient * operand * r * (1 - r), df, dq, extra), (gradient * r, HALF * gradient * r)


CLASSES = (JANET, CoupledPeepholes, MinimalGatedUnit, ExtraSlot, ThreeStates, Everything)
#: As `make_layer` knows them.
NAMES = tuple(f"{layer.__module__}:{layer.__qualname__}" for layer in CLASSES)
#: Those that have between them all that a cell can have, and the others.
VARIED, SIMILAR = NAMES[-2:], NAMES[:-2]
