"""LSTM, GRU and RNN with other activations, clipping and coupled gates, as ONNX's operators allow.

A gate is f(clip(a)) of its pre-activation a, the candidate g(clip(a)), an LSTM's output uses h(c), with

    clip(a) = max(−clip, min(a, clip))          (`clip`)
    forget gate = 1 − input gate                (`input_forget`)

in the equations of the library's cells. A variant's name is the cell's, followed by the differences, as in
``lstm,clip=3.0,f=HardSigmoid_0.2_0.5``.

Operators and activations: github.com/onnx/onnx, docs/Operators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from lstm_numba.cells.activations import positive, relu, sigmoid, tanh
from lstm_numba.cells.protocol import Stage
from lstm_numba.cells.registration import make_cell

#: Cells that have variants -> their default f, g and h; an RNN has f only.
VARIED: dict[str, dict[str, str]] = {
    "lstm": {"f": "Sigmoid", "g": "Tanh", "h": "Tanh"},
    "peephole": {"f": "Sigmoid", "g": "Tanh", "h": "Tanh"},
    "gru": {"f": "Sigmoid", "g": "Tanh"},
    "gru-reset-before": {"f": "Sigmoid", "g": "Tanh"},
    "rnn": {"f": "Tanh"},
}
#: Activation -> defaults of its parameters alpha and beta; None where there is no default.
ACTIVATIONS: dict[str, tuple[float | None, ...]] = {
    "Affine": (None, None),
    "Elu": (1.0,),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01,),
    "Relu": (),
    "ScaledTanh": (None, None),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": (1.0,),
}


class Activation(NamedTuple):
    """An activation of ONNX with its parameters alpha and beta, as many as it has."""

    name: str
    numbers: tuple[float, ...] = ()

    def __str__(self) -> str:
        return "_".join((self.name, *map(repr, self.numbers)))


class Variant(NamedTuple):
    """A cell of `VARIED` with its differences.

    Attributes
    ----------
    base : str
        Name of the cell.
    functions : tuple of (str, Activation)
        All activations of the cell: f, g and h as in `VARIED`.
    clip : float or None
        Bound on the absolute value of pre-activations.
    input_forget : bool
        Whether the forget gate is 1 - input gate.
    """

    base: str
    functions: tuple[tuple[str, Activation], ...]
    clip: float | None = None
    input_forget: bool = False

    @property
    def name(self) -> str:
        """The name that `read` accepts; the cell's own if nothing differs."""
        default = VARIED[self.base]
        words = [] if self.clip is None else [f"clip={self.clip!r}"]
        words += ["input_forget"] if self.input_forget else []
        words += [f"{key}={function}" for key, function in self.functions if str(function) != default[key]]
        return "rnn-relu" if (self.base, words) == ("rnn", ["f=Relu"]) else ",".join((self.base, *words))


def read(name: str) -> Variant:
    """Parse the name of a variant.

    Raises
    ------
    ValueError
        It is not the name of a variant; the message says why.
    """
    base, *words = name.split(",")
    if base not in VARIED:
        raise ValueError(f"expected one of {', '.join(VARIED)} before the comma")
    functions = {letter: Activation(default) for letter, default in VARIED[base].items()}
    clip, coupled = None, False
    for word in words:
        key, _, value = word.partition("=")
        if key in functions:
            functions[key] = _activation(value)
        elif key == "clip":
            clip = _number(value)
            if clip <= 0:
                raise ValueError(f"clip: expected more than 0, got {value}")
        elif word == "input_forget" and base in ("lstm", "peephole"):
            coupled = True
        else:
            known = [f"{letter}=FUNCTION" for letter in functions] + ["clip=NUMBER"]
            known += ["input_forget"] if base in ("lstm", "peephole") else []
            raise ValueError(f"expected {', '.join(known)}, got {word!r}")
    return Variant(base, tuple(functions.items()), clip, coupled)


def _activation(text: str) -> Activation:
    word, *numbers = text.split("_")
    if word not in ACTIVATIONS:
        raise ValueError(f"expected one of {', '.join(ACTIVATIONS)}, got {word!r}")
    defaults = ACTIVATIONS[word]
    if len(numbers) not in (0, len(defaults)) or (not numbers and None in defaults):
        raise ValueError(f"{word} takes {len(defaults)} numbers, got {len(numbers)}")
    values = tuple(_number(number) for number in numbers)
    return Activation(word, values or tuple(number for number in defaults if number is not None))


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number, got {text!r}")
    return number


def variant_cell(variant: Variant) -> Any:
    """The cell of a variant."""
    cell = make_cell(_plain_cell(variant))
    type(cell).display_name = type(cell).key = variant.name
    return cell


def _plain_cell(variant: Variant) -> type:
    """The class of a variant, for `make_cell`."""
    functions = {letter: _with_slope(function) for letter, function in variant.functions}
    f, f_slope = _clipped(*functions["f"], variant.clip)
    if variant.base == "rnn":
        return _rnn(f, f_slope)
    g, g_slope = _clipped(*functions["g"], variant.clip)
    if variant.base == "gru":
        return _gru(f, f_slope, g, g_slope)
    if variant.base == "gru-reset-before":
        return _gru_reset_before(f, f_slope, g, g_slope)
    h, h_slope = map(_compiled, functions["h"])
    forget, forget_backward = _forget(f, f_slope, variant.input_forget)
    make = _peephole if variant.base == "peephole" else _lstm
    return make(f, f_slope, g, g_slope, h, h_slope, forget, forget_backward)


_Function = Callable[[Any], Any]


def _compiled(function: Callable[..., Any]) -> Any:
    """Make a function callable from compiled equations; on Python numbers it still runs as Python."""
    from numba.extending import register_jitable

    return register_jitable(forceinline=True, error_model="numpy")(function)


def _clipped(function: _Function, slope: _Function, clip: float | None) -> tuple[Any, Any]:
    """A function of the clipped argument and its derivative, which is zero where clipping acts."""
    function, slope = _compiled(function), _compiled(slope)
    if clip is None:
        return function, slope

    def value(x: Any) -> Any:
        return function(max(min(x, clip), -clip))

    def slope_inside(x: Any) -> Any:
        return slope(max(min(x, clip), -clip)) * positive(clip - abs(x))

    return _compiled(value), _compiled(slope_inside)


def _with_slope(activation: Activation) -> tuple[_Function, _Function]:
    """An activation and its derivative; at a kink the left-sided one."""
    alpha, beta = (*activation.numbers, 0.0, 0.0)[:2]
    found: dict[str, tuple[_Function, _Function]] = {
        "Affine": (lambda x: alpha * x + beta, lambda x: x * 0.0 + alpha),
        "Elu": (
            lambda x: relu(x) + alpha * (math.exp(min(x, 0.0)) - 1.0),
            lambda x: positive(x) + (1.0 - positive(x)) * alpha * math.exp(min(x, 0.0)),
        ),
        "HardSigmoid": (
            lambda x: max(min(alpha * x + beta, 1.0), 0.0),
            lambda x: alpha * positive(alpha * x + beta) * positive(1.0 - beta - alpha * x),
        ),
        "LeakyRelu": (
            lambda x: alpha * x + (1.0 - alpha) * relu(x),
            lambda x: alpha + (1.0 - alpha) * positive(x),
        ),
        "Relu": (lambda x: relu(x), lambda x: positive(x)),
        "ScaledTanh": (
            lambda x: alpha * tanh(beta * x),
            lambda x: alpha * beta * (1.0 - tanh(beta * x) * tanh(beta * x)),
        ),
        "Sigmoid": (lambda x: sigmoid(x), lambda x: sigmoid(x) * (1.0 - sigmoid(x))),
        "Softplus": (lambda x: relu(x) + math.log1p(math.exp(-abs(x))), lambda x: sigmoid(x)),
        "Softsign": (lambda x: x / (1.0 + abs(x)), lambda x: 1.0 / ((1.0 + abs(x)) * (1.0 + abs(x)))),
        "Tanh": (lambda x: tanh(x), lambda x: 1.0 - tanh(x) * tanh(x)),
        "ThresholdedRelu": (
            lambda x: x * (1.0 - positive(alpha - x)),
            lambda x: 1.0 - positive(alpha - x),
        ),
    }
    return found[activation.name]


def _forget(f: _Function, f_slope: _Function, coupled: bool) -> tuple[Any, Any]:
    """The forget gate as a function of input gate and pre-activation, and its backward function."""
    if coupled:
        return _compiled(lambda i, a: 1.0 - i), _compiled(lambda df, a: (-df, a * 0.0))
    return _compiled(lambda i, a: f(a)), _compiled(lambda df, a: (df * 0.0, df * f_slope(a)))


# The cells. Their slots keep pre-activations, since a derivative does not always follow from the value.


def _rnn(f: _Function, f_slope: _Function) -> type:
    class RNNVariant:
        """h = f(W x + R h₋ + b)."""

        gates = ("h",)
        states = ("h",)

        def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
            return slots, (f(slots[0]),)

        def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
            return (gradient[0] * f_slope(slots[0]),), (0.0,), ()

    return RNNVariant


def _lstm(
    f: _Function, f_slope: _Function, g: _Function, g_slope: _Function, h: _Function, h_slope: _Function,
    forget: Any, forget_backward: Any,
) -> type:  # fmt: skip
    class LSTMVariant:
        """c = forget ⊙ c₋ + f(i) ⊙ g(z), output f(o) ⊙ h(c)."""

        gates = ("i", "f", "g", "o")
        states = ("h", "c")

        def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
            i = f(slots[0])
            c = forget(i, slots[1]) * previous[1] + i * g(slots[2])
            return slots, (f(slots[3]) * h(c), c)

        def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
            i, o, c, dh = f(slots[0]), f(slots[3]), states[1], gradient[0]
            dc = gradient[1] + dh * o * h_slope(c)
            more, df = forget_backward(dc * previous[1], slots[1])
            di = (dc * g(slots[2]) + more) * f_slope(slots[0])
            dg = dc * i * g_slope(slots[2])
            do = dh * h(c) * f_slope(slots[3])
            return (di, df, dg, do), (0.0, dc * forget(i, slots[1])), ()

    return LSTMVariant


def _peephole(
    f: _Function, f_slope: _Function, g: _Function, g_slope: _Function, h: _Function, h_slope: _Function,
    forget: Any, forget_backward: Any,
) -> type:  # fmt: skip
    class PeepholeLSTMVariant:
        """The same with diagonal peepholes from the cell state to the gates."""

        gates = ("i", "f", "g", "o")
        states = ("h", "c")
        peepholes = ("i", "f", "o")

        def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
            at_i, at_f = slots[0] + peephole[0] * previous[1], slots[1] + peephole[1] * previous[1]
            i = f(at_i)
            c = forget(i, at_f) * previous[1] + i * g(slots[2])
            at_o = slots[3] + peephole[2] * c
            return (at_i, at_f, slots[2], at_o), (f(at_o) * h(c), c)

        def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
            i, o, c_prev, c, dh = f(slots[0]), f(slots[3]), previous[1], states[1], gradient[0]
            do = dh * h(c) * f_slope(slots[3])
            dc = gradient[1] + dh * o * h_slope(c) + do * peephole[2]
            more, df = forget_backward(dc * c_prev, slots[1])
            di = (dc * g(slots[2]) + more) * f_slope(slots[0])
            dg = dc * i * g_slope(slots[2])
            dc_prev = dc * forget(i, slots[1]) + di * peephole[0] + df * peephole[1]
            return (di, df, dg, do), (0.0, dc_prev), (di * c_prev, df * c_prev, do * c)

    return PeepholeLSTMVariant


def _gru(f: _Function, f_slope: _Function, g: _Function, g_slope: _Function) -> type:
    class GRUVariant:
        """h = (1 − f(z)) ⊙ g(n + f(r) ⊙ q) + f(z) ⊙ h₋; q is the recurrent product of n."""

        gates = ("r", "z", "n")
        states = ("h",)
        slots = ("n", "r", "z", "q")
        input_gates = (2, 0, 1)
        stages = (Stage(1, (0, 1, 2)),)

        def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
            at_n, z = slots[0] + f(slots[1]) * slots[3], f(slots[2])
            return (at_n, slots[1], slots[2], slots[3]), ((1 - z) * g(at_n) + z * previous[0],)

        def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
            z, dh = f(slots[2]), gradient[0]
            dn = dh * (1 - z) * g_slope(slots[0])
            dz = dh * (previous[0] - g(slots[0])) * f_slope(slots[2])
            dr = dn * slots[3] * f_slope(slots[1])
            return (dn, dr, dz, dn * f(slots[1])), (dh * z,), ()

    return GRUVariant


def _gru_reset_before(f: _Function, f_slope: _Function, g: _Function, g_slope: _Function) -> type:
    class GRUResetBeforeVariant:
        """h = (1 − f(z)) ⊙ g(n) + f(z) ⊙ h₋; the recurrent product of n has the operand f(r) ⊙ h₋."""

        gates = ("r", "z", "n")
        states = ("h",)
        stages = (Stage(0, (0, 1)), Stage(2, (2,)))

        def operand(self, slots: Any, previous: Any) -> Any:
            return f(slots[0]) * previous[0]

        def forward(self, slots: Any, previous: Any, peephole: Any) -> Any:
            z = f(slots[1])
            return slots, ((1 - z) * g(slots[2]) + z * previous[0],)

        def backward(self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
            z, dh = f(slots[1]), gradient[0]
            dn = dh * (1 - z) * g_slope(slots[2])
            dz = dh * (previous[0] - g(slots[2])) * f_slope(slots[1])
            return (slots[0], dz, dn), (dh * z,), ()

        def operand_backward(self, slots: Any, previous: Any, gradient: Any) -> Any:
            dr = gradient * previous[0] * f_slope(slots[0])
            return (dr, slots[1], slots[2]), (gradient * f(slots[0]),)

    return GRUResetBeforeVariant
