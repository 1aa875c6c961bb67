"""Cells as users write them, for tests: vectors, two phases, three states, an own derivative, `exp`."""

from __future__ import annotations

from typing import Any

import lstm_numba as ln
from lstm_numba.cells import Phase, Product, exp, sigmoid, tanh
from lstm_numba.examples.janet import JANET

SLOW = 0.9
HALF = 0.5


@ln.register_cell
class CoupledPeepholes:
    """Coupled input and forget gate, with peepholes that see the old c and the new one."""

    gates = ("f", "g", "o")
    states = ("h", "c")
    vectors = ("p_o", "p_f")

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        f = sigmoid(z.f + v.p_f * v.c)
        c = f * v.c + (1 - f) * tanh(z.g)
        return {"h": sigmoid(z.o + v.p_o * c) * tanh(c), "c": c}


@ln.register_cell
class MinimalGatedUnit:
    """Minimal gated unit (Zhou, Wu, Zhang, Zhou 2016): the candidate sees f * h.

    f is needed once more when the operand's gradient is known: it goes through the backward equations in a
    slot that no product feeds.
    """

    states = ("h",)

    def forget(self, z: Any, v: Any) -> dict[str, Any]:
        f = sigmoid(z.f)
        return {"f": f, "seen": f * v.h}

    def update(self, z: Any, v: Any) -> dict[str, Any]:
        return {"h": (1 - v.f) * v.h + v.f * tanh(z.g)}

    phases = (
        Phase((Product("weight_ih", "x", ("f",)), Product("weight_hh", "h", ("f",))), forget),
        Phase((Product("weight_ih", "x", ("g",)), Product("weight_hh", "seen", ("g",))), update),
    )


def softsign(x: Any) -> Any:
    """A helper that equations call."""
    return x / (1 + abs(x))


@ln.register_cell
class OwnDerivative:
    """An LSTM with another candidate, a constant of the class, and its author's backward equations."""

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    scale = 0.5

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        c = sigmoid(z.f) * v.c + sigmoid(z.i) * softsign(z.g)
        return {"h": sigmoid(z.o) * tanh(self.scale * c), "c": c}

    def backward(self, z: Any, v: Any, d: Any) -> dict[str, Any]:
        i, f, o, scaled = sigmoid(z.i), sigmoid(z.f), sigmoid(z.o), 1 / (1 + abs(z.g))
        t = tanh(self.scale * (f * v.c + i * softsign(z.g)))
        dc = d.c + self.scale * d.h * o * (1 - t * t)
        return {
            "i": dc * softsign(z.g) * i * (1 - i),
            "f": dc * v.c * f * (1 - f),
            "g": dc * i * scaled * scaled,
            "o": d.h * t * o * (1 - o),
            "c": dc * f,
        }


@ln.register_cell
class ThreeStates:
    """A cell state c, and a slow average m of it."""

    gates = ("f", "g", "o")
    states = ("h", "c", "m")

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        f = sigmoid(z.f)
        c = f * v.c + (1 - f) * tanh(z.g)
        m = SLOW * v.m + (1 - SLOW) * c
        return {"h": sigmoid(z.o) * tanh(c + m), "c": c, "m": m}


@ln.register_cell
class Everything:
    """Two phases, two states, a vector, slots in another order, one that nothing feeds, gate f fed apart."""

    states = ("h", "c")
    vectors = ("p_f",)

    def look(self, z: Any, v: Any) -> dict[str, Any]:
        r = sigmoid(z.r)
        return {"r": r, "seen": r * (v.h + HALF * v.c)}

    def write(self, z: Any, v: Any) -> dict[str, Any]:
        f = sigmoid(z.f + v.r * z.q + v.p_f * v.c)
        c = f * v.c + (1 - f) * tanh(z.g)
        return {"h": c * exp(-c * c), "c": c}

    phases = (
        Phase((Product("weight_ih", "x", ("f", "r")), Product("weight_hh", "h", ("q", "r"))), look),
        Phase((Product("weight_ih", "x", ("g",)), Product("weight_hh", "seen", ("g",))), write),
    )


class HAndCTogether:
    """A projected cell in which units of h and of c, which has more, meet."""

    states = ("h", "c")

    def first(self, z: Any, v: Any) -> dict[str, Any]:
        """The new cell state, and what is projected."""
        c = sigmoid(z.f) * v.c + tanh(z.g) + 0.5 * v.h
        return {"c": c, "m": tanh(c)}

    def second(self, z: Any, v: Any) -> dict[str, Any]:
        """The output."""
        return {"h": sigmoid(z.r) * v.c}

    phases = (
        Phase((Product("weight_ih", "x", ("f", "g")), Product("weight_hh", "h", ("f", "g"))), first),
        Phase((Product("weight_mr", "m", ("r",)),), second, projected=True),
    )


CLASSES = (JANET, CoupledPeepholes, MinimalGatedUnit, OwnDerivative, ThreeStates, Everything)
#: As `make_layer` knows them.
NAMES = tuple(f"{layer.__module__}:{layer.__qualname__}" for layer in CLASSES)
#: Those that have between them all that a cell can have, and the others.
VARIED, SIMILAR = NAMES[-2:], NAMES[:-2]
