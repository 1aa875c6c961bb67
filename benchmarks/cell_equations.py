"""A cell's forward equations in mathematical notation, written from those that its kernels are made of.

The notation is that of the files in `lstm_numba/cells`: W times the input x, R times the previous output, a
minus below for what was before the step, and ⊙ between elements. Nothing here knows a cell, but for the
names of two of their slots.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from lstm_numba.cells.definition import Definition
from lstm_numba.cells.derivation import MEAN, PREVIOUS, SLOT, VECTOR, trace
from lstm_numba.cells.expressions import Expression, ancestors
from lstm_numba.cells.functions import Function
from lstm_numba.cells.plan import make_plan
from lstm_numba.cells.traced import traced_values

_SUM, _PRODUCT, _NEGATIVE, _TIGHT = 1, 2, 3, 4
_STRENGTH = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "negative": _NEGATIVE}
_FUNCTIONS = {
    "sigmoid": r"\sigma({})",
    "tanh": r"\tanh({})",
    "relu": r"\max(0, {})",
    "exp": r"\exp({})",
    "log1p": r"\log(1 + {})",
    "maximum": r"\max({}, {})",
    "minimum": r"\min({}, {})",
    "positive": "[{} > 0]",
    "abs": r"\lvert {} \rvert",
}
#: Slots whose rows of the weights the literature calls after the gate that they belong to.
_GATES = {"q": "n"}
_WEIGHTS = {"weight_ih": "W", "weight_hh": "R", "weight_hr": "W"}
_PLACE = re.compile(r"<(\w+)>")


class Equations(NamedTuple):
    """What `equations` finds.

    Attributes
    ----------
    lines : list of str
        One equation each, ``c &= f \\odot c_- + i \\odot g``.
    normalised : dict of str to (list of str, str)
        For each normalisation N_x by its index: what its mean and variance are taken over, and ε.
    """

    lines: list[str]
    normalised: dict[str, tuple[list[str], str]]


def equations(cell: Any) -> Equations:
    """The equations of a step of a cell.

    Parameters
    ----------
    cell : Cell
        From `lstm_numba.cells.find_cell`.
    """
    return _Writer(cell.definition).written()


def row_name(cell: Any, slot: str) -> str:
    """What a slot's rows of the weights are called: of xi and hi, whose products are not added, i.

    Parameters
    ----------
    cell : Cell or Definition
    slot : str
    """
    return _GATES.get(slot, slot) if cell.biased else slot[1:]


def expression(node: Expression) -> str:
    """An expression of plain symbols, such as an activation of x."""
    return _Text({}, {})(node)


def subscript(symbol: str, index: str) -> str:
    """``W_i``, ``b_{hn}``"""
    return f"{symbol}_{index}" if len(index) == 1 else f"{symbol}_{{{index}}}"


def number(value: float) -> str:
    """A number; a tiny power of 2 or 10 as such."""
    for base in (2, 10):
        for power in range(3, 200):
            if value == float(base) ** -power and value < 0.001:
                return f"{base}^{{-{power}}}"
    return repr(value)


class _Text:
    """Writes expressions, whose `names` are known, with the text of each slot."""

    def __init__(self, names: dict[Expression, str], slots: dict[str, str]) -> None:
        self.names, self._slots = names, slots
        self.normalised: dict[str, str] = {}

    def __call__(self, node: Expression, top: bool = False) -> str:
        """An expression; `top` writes what its name stands for."""
        return self._text(node, top)[0]

    def _text(self, node: Expression, top: bool = False) -> tuple[str, int]:
        """Also how tightly it binds."""
        if node in self.names and not top:
            return self.names[node], _TIGHT
        if node.operation == "symbol":
            return self._symbol(*node.arguments)
        if node.number is not None:
            return number(node.number), _TIGHT if node.number >= 0 else _NEGATIVE
        for special in (self._as_normalised, _as_log_sigmoid):
            found = special(node)
            if found is not None:
                (before, after), argument = found
                return f"{before}{self(argument)}{after}", _TIGHT
        if isinstance(node.operation, Function):
            form = _FUNCTIONS.get(node.operation.name, rf"\mathrm{{{{{node.operation.name}}}}}({{}})")
            return form.format(*map(self, node.operands)), _TIGHT
        return self._operation(node)

    def _operation(self, node: Expression) -> tuple[str, int]:
        strength = _STRENGTH[node.operation]
        if node.operation == "negative":
            return f"-{self._inside(node.operands[0], strength)}", strength
        left, right = node.operands
        numbers = any(operand.number is not None for operand in node.operands)
        sign = node.operation.replace("*", r"\cdot" if numbers else r"\odot")
        tighter = strength + (node.operation != "+")
        return f"{self._inside(left, strength)} {sign} {self._inside(right, tighter)}", strength

    def _inside(self, node: Expression, strength: int) -> str:
        text, own = self._text(node)
        return text if own >= strength else f"({text})"

    def _symbol(self, kind: str, name: str) -> tuple[str, int]:
        if kind == SLOT:
            text = self._slots[name]
            return text, _SUM if " + " in text else _TIGHT
        if kind == PREVIOUS:
            return f"{name}_-", _TIGHT
        first, *rest = name.split("_")
        return (subscript(first[0], first[1:] + "".join(rest)) if kind == VECTOR else name), _TIGHT

    def _as_normalised(self, node: Expression) -> tuple[tuple[str, str], Expression] | None:
        """``value * scale - mean * scale``, which `lstm_numba.cells.layer_norm` writes for N(value)."""
        if node.operation != "-" or [a.operation for a in node.operands] != ["*", "*"]:
            return None
        (value, scale), (mean, other) = (operand.operands for operand in node.operands)
        if scale is not other or _name(scale) != "rsqrt" or mean.arguments[:1] != (MEAN,):
            return None
        index = mean.arguments[1].removeprefix("mean_")
        _, epsilon = scale.operands[0].operands
        self.normalised[index] = number(epsilon.arguments[0])
        return (f"{subscript('N', index)}(", ")"), value


def _as_log_sigmoid(node: Expression) -> tuple[tuple[str, str], Expression] | None:
    """``min(x, 0) - log1p(exp(-abs(x)))``, which is log σ(x) without overflow."""
    if node.operation != "-" or [_name(a) for a in node.operands] != ["minimum", "log1p"]:
        return None
    least, logarithm = node.operands
    argument, bound = least.operands
    chain = logarithm if bound.number == 0 else least
    for name in ("log1p", "exp", "negative", "abs"):
        if _name(chain) != name:
            return None
        chain = chain.operands[0]
    return ((r"\log(\sigma(", "))"), argument) if chain is argument else None


def _name(node: Expression) -> str:
    return str(getattr(node.operation, "name", node.operation))


def _slots_below(node: Expression) -> list[Expression]:
    """The pre-activations that an expression is computed from directly."""
    return [n for n in ancestors([node]) if n.operation == "symbol" and n.arguments[0] == SLOT]


class _Writer:
    """The equations of a definition, line by line."""

    def __init__(self, definition: Definition) -> None:
        self._definition, self._forward = definition, trace(definition)
        self._traced = traced_values(definition, make_plan(definition), self._forward).values
        self._slots = list(dict.fromkeys(s for p in definition.phases for q in p.products for s in q.slots))

    def written(self) -> Equations:
        """All lines; a pre-activation that stands at two places has a line of its own."""
        places = {slot: f"<{slot}>" for slot in self._slots}
        names = self._names()
        found = _PLACE.findall("\n".join(self._lines(_Text(names, places), names)))
        own = [slot for slot in self._slots if found.count(slot) > 1]
        symbols = {self._forward.graph.symbol(SLOT, slot): subscript("z", slot) for slot in own}
        names = {**symbols, **names}
        text = _Text(names, {})
        text = _Text(names, {slot: self._pre_activation(slot, text) for slot in self._slots})
        lines = list(self._lines(text, names))
        return Equations(lines, {n: (self._seen(n, text), e) for n, e in sorted(text.normalised.items())})

    def _names(self) -> dict[Expression, str]:
        states = {name: self._forward.results[name] for name in self._definition.states}
        return {node: name for name, node in {**self._traced, **states}.items()}

    def _lines(self, text: _Text, names: dict[Expression, str]) -> Iterator[str]:
        """Each name after those that it needs; gates come before states where they can."""
        waiting = dict(names)
        while waiting:
            node = next(node for node in waiting if not self._needs(node, waiting))
            yield f"{waiting.pop(node)} &= {text(node, top=True)}"

    def _needs(self, node: Expression, waiting: Iterable[Expression]) -> bool:
        below = set(ancestors([node])) | self._operands_of(node)
        return any(other is not node and other in below for other in waiting)

    def _operands_of(self, node: Expression) -> set[Expression]:
        """What the recurrent products of the slots below an expression are computed from."""
        slots = {slot.arguments[1] for slot in _slots_below(node)}
        fed = [operand for product, operand in self._recurrent() if slots & set(product.slots)]
        return set(ancestors(fed))

    def _recurrent(self) -> list[tuple[Any, Expression]]:
        """The recurrent products and their operands."""
        products = [q for p in self._definition.phases for q in p.products if q.weight != "weight_ih"]
        return list(zip(products, self._forward.operands, strict=True))

    def _pre_activation(self, slot: str, text: _Text) -> str:
        """The products that feed a slot, and its biases."""
        gate = row_name(self._definition, slot).replace("_", "")
        inputs = any(
            slot in q.slots for p in self._definition.phases for q in p.products if q.weight == "weight_ih"
        )
        parts = [rf"{subscript('W', gate)}\,x"] if inputs else []
        biases = ["i"] if inputs else []
        for product, operand in self._recurrent():
            if slot in product.slots:
                index = gate if product.weight == "weight_hh" else product.weight.removeprefix("weight_")
                inner = text(operand)
                inner = inner if operand.operation == "symbol" or operand in text.names else f"({inner})"
                parts.append(rf"{subscript(_WEIGHTS[product.weight], index)}\,{inner}")
                biases += ["h"] if product.weight == "weight_hh" else []
        if self._definition.biased and biases:
            parts.append(subscript("b", gate if len(biases) > 1 else biases[0] + gate))
        return " + ".join(parts)

    def _seen(self, index: str, text: _Text) -> list[str]:
        """What a mean is taken over."""
        node = self._forward.means[f"mean_{index}"]
        if node in text.names:
            return [text.names[node]]
        return [text(slot) for slot in _slots_below(node)]


def block(lines: Sequence[str]) -> list[str]:
    """Equations as GitHub shows them."""
    return ["```math", r"\begin{aligned}", *(rf"{line} \\" for line in lines), r"\end{aligned}", "```"]
