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

from lstm_numba.cells import definition
from lstm_numba.cells.definition import Phase
from lstm_numba.cells.functions import exp, log1p, maximum, minimum, positive, relu, sigmoid, tanh
from lstm_numba.cells.gru import GRUCell, GRUResetBeforeCell
from lstm_numba.cells.lstm import LSTMCell
from lstm_numba.cells.peephole_lstm import PeepholeLSTMCell
from lstm_numba.cells.registration import defined_cell
from lstm_numba.cells.rnn import RNNCell

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
#: Activation -> its value for x and its parameters, written so that no part of its derivative overflows.
VALUES: dict[str, Callable[..., Any]] = {
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "Elu": lambda x, alpha: relu(x) + alpha * (exp(minimum(x, 0)) - 1),
    "HardSigmoid": lambda x, alpha, beta: relu(minimum(alpha * x + beta, 1)),
    "LeakyRelu": lambda x, alpha: alpha * x + (1 - alpha) * relu(x),
    "Relu": relu,
    "ScaledTanh": lambda x, alpha, beta: alpha * tanh(beta * x),
    "Sigmoid": sigmoid,
    "Softplus": lambda x: relu(x) + log1p(exp(-abs(x))),
    "Softsign": lambda x: x / (1 + abs(x)),
    "Tanh": tanh,
    "ThresholdedRelu": lambda x, alpha: x * positive(x - alpha),
}
#: What a trace of them shows beside the states: results of the equations below.
_TRACED: dict[str, tuple[str, ...]] = {
    "lstm": ("i", "f", "g", "o"),
    "peephole": ("i", "f", "g", "o"),
    "gru": ("r", "z", "n"),
    "gru-reset-before": ("r", "z", "n"),
    "rnn": (),
}
#: The cells that the variants have their products, states and vectors of.
_CLASSES: dict[str, type] = {
    "lstm": LSTMCell,
    "peephole": PeepholeLSTMCell,
    "gru": GRUCell,
    "gru-reset-before": GRUResetBeforeCell,
    "rnn": RNNCell,
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


def canonical_word(word: str) -> str:
    """A difference in a variant's name as `read` wants it, whatever its case: ``F=tanh`` -> ``f=Tanh``."""
    key, equals, value = word.partition("=")
    function, *numbers = value.split("_")
    known = {activation.lower(): activation for activation in ACTIVATIONS}
    return "_".join([f"{key.lower()}{equals}{known.get(function.lower(), function)}", *numbers])


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
    base = definition.read(_CLASSES[variant.base])
    phases = tuple(
        Phase(phase.products, equations)
        for phase, equations in zip(base.phases, _equations(variant), strict=True)
    )
    traced = _TRACED[variant.base]
    return defined_cell(base._replace(name=variant.name, phases=phases, traced=traced), variant.name)


def _equations(variant: Variant) -> tuple[Callable[..., dict[str, Any]], ...]:
    """The equations of a variant's phases: those of the base with f, g and h."""
    functions = dict(variant.functions)

    def clipped(x: Any) -> Any:
        return x if variant.clip is None else maximum(minimum(x, variant.clip), -variant.clip)

    def value(letter: str, x: Any) -> Any:
        return VALUES[functions[letter].name](x, *functions[letter].numbers)

    def f(x: Any) -> Any:
        return value("f", clipped(x))

    def g(x: Any) -> Any:
        return value("g", clipped(x))

    def h(x: Any) -> Any:
        return value("h", x)

    def forget(x: Any, i: Any) -> Any:
        return 1 - i if variant.input_forget else f(x)

    def lstm(z: Any, v: Any) -> dict[str, Any]:
        i, candidate, o = f(z.i), g(z.g), f(z.o)
        kept = forget(z.f, i)
        c = kept * v.c + i * candidate
        return {"h": o * h(c), "c": c, "i": i, "f": kept, "g": candidate, "o": o}

    def peephole(z: Any, v: Any) -> dict[str, Any]:
        i, candidate = f(z.i + v.p_i * v.c), g(z.g)
        kept = forget(z.f + v.p_f * v.c, i)
        c = kept * v.c + i * candidate
        o = f(z.o + v.p_o * c)
        return {"h": o * h(c), "c": c, "i": i, "f": kept, "g": candidate, "o": o}

    def gru(z: Any, v: Any) -> dict[str, Any]:
        r, u = f(z.r), f(z.z)
        n = g(z.n + r * z.q)
        return {"h": (1 - u) * n + u * v.h, "r": r, "z": u, "n": n}

    def reset(z: Any, v: Any) -> dict[str, Any]:
        r = f(z.r)
        return {"seen": r * v.h, "r": r}

    def update(z: Any, v: Any) -> dict[str, Any]:
        u, n = f(z.z), g(z.n)
        return {"h": (1 - u) * n + u * v.h, "z": u, "n": n}

    def rnn(z: Any, v: Any) -> dict[str, Any]:
        return {"h": f(z.h)}

    return {
        "lstm": (lstm,),
        "peephole": (peephole,),
        "gru": (gru,),
        "gru-reset-before": (reset, update),
        "rnn": (rnn,),
    }[variant.base]
