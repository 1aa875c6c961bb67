"""LSTM and GRU with layer normalisation of both products, and of the LSTM's cell state (Ba et al. 2016).

    N(z; a) = a ⊙ (z − mean(z)) / √(variance(z) + ε)

over the units of all gates that are computed together, ε = 1e-5. The LSTM:

    (i, f, g, o) = N(W x; a_x) + N(R h₋; a_h) + b
    c = σ(f) ⊙ c₋ + σ(i) ⊙ tanh(g)
    h = σ(o) ⊙ tanh(N(c; a_c) + b_c)

The GRU, the gates r and z together and the candidate by itself:

    (r, z) = N(W x; a_x) + N(R h₋; a_h) + b
    n = tanh(N(W_n x; a_xn) + b_xn + σ(r) ⊙ (N(R_n h₋; a_hn) + b_hn))
    h = (1 − σ(z)) ⊙ n + σ(z) ⊙ h₋

The shifts of two normalised products that are added are one shift, b. There are no other biases, which the
mean would take away again. Gains a and shifts b are the vectors, row blocks of ``weight_ph``.

J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", arXiv:1607.06450, 2016; supplement, eq. 20 to 25.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.definition import Phase, Product
from lstm_numba.cells.functions import absolute, rsqrt, sigmoid, tanh

EPSILON = 1e-5


def moments(name: str, *values: Any) -> dict[str, Any]:
    """What a unit contributes to the mean of values and to that of their squares."""
    share = 1 / len(values)
    return {f"mean_{name}": share * sum(values), f"square_{name}": share * sum(a * a for a in values)}


def normalised(value: Any, v: Any, name: str) -> Any:
    """(value − mean) / √(variance + ε), of values whose `moments` are known.

    Written so that a unit's part of it is one multiplication and one addition. Rounding can make a variance
    that is nearly zero negative.
    """
    mean = v[f"mean_{name}"]
    scale = rsqrt(absolute(v[f"square_{name}"] - mean * mean) + EPSILON)
    return value * scale - mean * scale


class LayerNormLSTMCell:
    """Layer-normalised LSTM."""

    states = ("h", "c")
    candidate = "g"
    traced = ("i", "f", "g", "o")
    biased = False
    vectors = (*(f"{kind}_{gate}" for kind in ("ax", "ah", "b") for gate in "ifgo"), "a_c", "b_c")
    initial_vectors = (1.0,) * 8 + (0.0,) * 4 + (1.0, 0.0)
    means = tuple(f"{moment}_{name}" for name in ("x", "h", "c") for moment in ("mean", "square"))

    def products(self, z: Any, v: Any) -> dict[str, Any]:
        """Moments of both products."""
        return {**moments("x", z.xi, z.xf, z.xg, z.xo), **moments("h", z.hi, z.hf, z.hg, z.ho)}

    def remember(self, z: Any, v: Any) -> dict[str, Any]:
        """The new cell state, and its moments."""

        def gate(name: str) -> Any:
            x, h = normalised(z[f"x{name}"], v, "x"), normalised(z[f"h{name}"], v, "h")
            return v[f"ax_{name}"] * x + v[f"ah_{name}"] * h + v[f"b_{name}"]

        i, f, g = sigmoid(gate("i")), sigmoid(gate("f")), tanh(gate("g"))
        c = f * v.c + i * g
        return {"c": c, "i": i, "f": f, "g": g, "o": sigmoid(gate("o")), **moments("c", c)}

    def output(self, z: Any, v: Any) -> dict[str, Any]:
        """The output."""
        return {"h": v.o * tanh(v.a_c * normalised(v.c, v, "c") + v.b_c)}

    phases = (
        Phase(
            (
                Product("weight_ih", "x", ("xi", "xf", "xg", "xo")),
                Product("weight_hh", "h", ("hi", "hf", "hg", "ho")),
            ),
            products,
        ),
        Phase((), remember),
        Phase((), output),
    )


class LayerNormGRUCell:
    """Layer-normalised GRU, the reset gate after the recurrent product."""

    states = ("h",)
    candidate = "n"
    traced = ("r", "z", "n")
    biased = False
    vectors = (*(f"{kind}_{gate}" for kind in ("ax", "ah") for gate in "rzn"), "b_r", "b_z", "b_xn", "b_hn")
    initial_vectors = (1.0,) * 6 + (0.0,) * 4
    means = tuple(f"{moment}_{name}" for name in ("x", "h", "xn", "hn") for moment in ("mean", "square"))

    def products(self, z: Any, v: Any) -> dict[str, Any]:
        """Moments of both products."""
        gates = {**moments("x", z.xr, z.xz), **moments("h", z.hr, z.hz)}
        return {**gates, **moments("xn", z.xn), **moments("hn", z.hn)}

    def propose(self, z: Any, v: Any) -> dict[str, Any]:
        """The candidate and the update gate."""

        def gained(name: str, moments: str) -> Any:
            return v[f"a{name[0]}_{name[1]}"] * normalised(z[name], v, moments)

        r = sigmoid(gained("xr", "x") + gained("hr", "h") + v.b_r)
        u = sigmoid(gained("xz", "x") + gained("hz", "h") + v.b_z)
        n = tanh(gained("xn", "xn") + v.b_xn + r * (gained("hn", "hn") + v.b_hn))
        return {"r": r, "z": u, "n": n}

    def update(self, z: Any, v: Any) -> dict[str, Any]:
        """The new state."""
        return {"h": (1 - v.z) * v.n + v.z * v.h}

    phases = (
        Phase(
            (
                Product("weight_ih", "x", ("xr", "xz", "xn")),
                Product("weight_hh", "h", ("hr", "hz", "hn")),
            ),
            products,
        ),
        Phase((), propose),
        Phase((), update),
    )
