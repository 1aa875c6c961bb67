"""Expressions that equations compute when they are called with symbols instead of numbers.

A `Graph` has each expression once: what is written twice is one node, so that nothing is computed twice.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

#: What equations are refused for, and what to use instead.
_NO_DECISION = (
    "equations compute many units at once, for which a comparison or an if has no single answer; use relu, "
    "positive, maximum, minimum or abs"
)
_NO_NUMBER = "Python's math has numbers only; use the function of that name in lstm_numba.cells"
_NO_POWER = "a power is a whole number or 0.5, as in x ** 2; for others use exp(power * log(x))"
#: Functions that NumPy calls otherwise.
_NAMES_IN_NUMPY = {"absolute": "abs", "fabs": "abs", "arctan": "atan"}


class Expression:
    """A node of a `Graph`; made by its methods and by operators.

    Attributes
    ----------
    graph : Graph
    operation : str or Function
        One of ``+ - * / negative``, "number", "symbol", or a function of `lstm_numba.cells.functions`.
    arguments : tuple
        Expressions; of a number its value, of a symbol its kind and name.
    order : int
        Greater than that of each argument.
    """

    __slots__ = ("arguments", "graph", "operation", "order")
    __hash__ = object.__hash__

    def __init__(self, graph: Graph, operation: Any, arguments: tuple[Any, ...], order: int) -> None:
        self.graph, self.operation, self.arguments, self.order = graph, operation, arguments, order

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The expressions among the arguments."""
        return () if self.operation in ("number", "symbol") else self.arguments

    @property
    def number(self) -> float | None:
        """The value of a number, else None."""
        return self.arguments[0] if self.operation == "number" else None

    def __repr__(self) -> str:
        if self.operation in ("number", "symbol"):
            return f"<{' '.join(map(str, self.arguments))}>"
        return f"<expression with {getattr(self.operation, 'name', self.operation)}>"

    def __add__(self, other: Any) -> Any:
        return self.graph.binary("+", self, other)

    def __radd__(self, other: Any) -> Any:
        return self.graph.binary("+", other, self)

    def __sub__(self, other: Any) -> Any:
        return self.graph.binary("-", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self.graph.binary("-", other, self)

    def __mul__(self, other: Any) -> Any:
        return self.graph.binary("*", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self.graph.binary("*", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self.graph.binary("/", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.graph.binary("/", other, self)

    def __pow__(self, other: Any) -> Any:
        number = math.nan if isinstance(other, Expression) else float(other)
        if number == 0.5:
            return self.graph.function("sqrt", self)
        if not number.is_integer():
            raise TypeError(_NO_POWER)
        if number < 1:
            return 1 / self**-number if number else 1.0
        half = self ** (number // 2) if number > 1 else 1.0
        return half * half if number % 2 == 0 else half * half * self

    def __rpow__(self, other: Any) -> NoReturn:
        raise TypeError(_NO_POWER)

    def __neg__(self) -> Any:
        return self.graph.negative(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.graph.function("abs", self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        name = _NAMES_IN_NUMPY.get(ufunc.__name__, ufunc.__name__)
        operators: dict[str, Callable[..., Any]] = {
            "add": lambda a, b: self.graph.binary("+", a, b),
            "subtract": lambda a, b: self.graph.binary("-", a, b),
            "multiply": lambda a, b: self.graph.binary("*", a, b),
            "divide": lambda a, b: self.graph.binary("/", a, b),
            "power": lambda a, b: a**b,
            "square": lambda a: a * a,
            "negative": lambda a: -a,
        }
        if method == "__call__" and not options:
            if name in operators:
                return operators[name](*inputs)
            if name in self.graph.functions:
                return self.graph.function(name, *inputs)
        raise TypeError(
            f"{ufunc.__name__} is not a function for equations; expected one of "
            f"{', '.join(self.graph.functions)}"
        )

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError(_NO_DECISION)

    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __eq__ = __ne__ = _refuse

    def _no_operator(self, *_: Any) -> NoReturn:
        raise TypeError("equations compute with + - * / ** and the functions of lstm_numba.cells")

    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __matmul__ = __getitem__ = _no_operator
    __iter__ = None  # or Python would try __getitem__

    def __float__(self) -> float:
        raise TypeError(_NO_NUMBER)

    __int__ = __index__ = __float__


class Graph:
    """Expressions of one cell, each of them once.

    Parameters
    ----------
    functions : dict
        The functions by name: `lstm_numba.cells.functions.FUNCTIONS`.
    """

    def __init__(self, functions: dict[str, Any]) -> None:
        self.functions = functions
        self._nodes: dict[Any, Expression] = {}

    def _node(self, operation: Any, *arguments: Any) -> Expression:
        key = (operation, *(id(a) if isinstance(a, Expression) else (type(a), a) for a in arguments))
        if key not in self._nodes:
            self._nodes[key] = Expression(self, operation, arguments, len(self._nodes))
        return self._nodes[key]

    def known(self, operation: Any, *arguments: Expression) -> Expression | None:
        """A node that exists already, or None."""
        return self._nodes.get((operation, *map(id, arguments)))

    def symbol(self, kind: str, name: str) -> Expression:
        """A number that is given when the equations are computed."""
        return self._node("symbol", kind, name)

    def wrap(self, value: Any) -> Expression:
        """An expression, or a number as one.

        Raises
        ------
        TypeError
            It is neither, or not finite.
        """
        if isinstance(value, Expression):
            return value
        try:
            number = math.nan if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise TypeError(f"expected a finite number or an expression, got {value!r}")
        return self._node("number", int(number) if number.is_integer() and abs(number) < 2**31 else number)

    def function(self, name: str, *arguments: Any) -> Expression:
        """A function of expressions."""
        wrapped = tuple(map(self.wrap, arguments))
        function = self.functions[name]
        if all(a.number is not None for a in wrapped):
            return self.wrap(function.of_numbers(*(a.number for a in wrapped)))
        return self._node(function, *wrapped)

    def negative(self, value: Expression) -> Expression:
        """``-value``"""
        if value.number is not None:
            return self.wrap(-value.number)
        return value.arguments[0] if value.operation == "negative" else self._node("negative", value)

    def binary(self, operation: str, left: Any, right: Any) -> Expression:
        """``left operation right``, without what changes nothing: zeros, ones, double signs."""
        a, b = self.wrap(left), self.wrap(right)
        if a.number is not None and b.number is not None:
            return self.wrap(_compute(operation, a.number, b.number))
        simple = getattr(self, _SIMPLER[operation])(a, b)
        return self._node(operation, a, b) if simple is None else simple

    def _sum(self, a: Expression, b: Expression) -> Expression | None:
        if a.number == 0:
            return b
        if b.number == 0:
            return a
        if b.operation == "negative":
            return self.binary("-", a, b.arguments[0])
        return self.binary("-", b, a.arguments[0]) if a.operation == "negative" else None

    def _difference(self, a: Expression, b: Expression) -> Expression | None:
        if b.number == 0:
            return a
        if a.number == 0:
            return self.negative(b)
        return self.binary("+", a, b.arguments[0]) if b.operation == "negative" else None

    def _product(self, a: Expression, b: Expression) -> Expression | None:
        if a.number == 0 or b.number == 1:
            return a
        if b.number == 0 or a.number == 1:
            return b
        for one, other in ((a, b), (b, a)):
            if one.number == -1:
                return self.negative(other)
        if a.operation == "negative":
            return self.negative(self.binary("*", a.arguments[0], b))
        if b.operation == "negative":
            return self.negative(self.binary("*", a, b.arguments[0]))
        return None

    def _quotient(self, a: Expression, b: Expression) -> Expression | None:
        return a if b.number == 1 or a.number == 0 else None

    def replaced(
        self, outputs: Iterable[Expression], replacements: dict[Expression, Expression]
    ) -> list[Expression]:
        """Outputs with expressions replaced by others wherever they are used."""
        outputs, found = list(outputs), dict(replacements)
        for node in ancestors(outputs):
            if node in found:
                continue
            operands = tuple(found[operand] for operand in node.operands)
            if all(map(operator.is_, operands, node.operands)):
                found[node] = node
            elif node.operation == "negative":
                found[node] = self.negative(*operands)
            elif isinstance(node.operation, str):
                found[node] = self.binary(node.operation, *operands)
            else:
                found[node] = self.function(node.operation.name, *operands)
        return [found[node] for node in outputs]


_SIMPLER = {"+": "_sum", "-": "_difference", "*": "_product", "/": "_quotient"}


def _compute(operation: str, a: float, b: float) -> float:
    return a + b if operation == "+" else a - b if operation == "-" else a * b if operation == "*" else a / b


def ancestors(outputs: Iterable[Expression], stop: Iterable[Expression] = ()) -> list[Expression]:
    """All that the outputs are computed from, themselves included, arguments first.

    Parameters
    ----------
    outputs : iterable of Expression
    stop : iterable of Expression
        Known values: they are included, but not what they are computed from.
    """
    known, found, waiting = set(stop), set(), list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += () if node in known else node.operands
    return sorted(found, key=lambda node: node.order)


def depends(node: Expression, on: Expression) -> bool:
    """Whether an expression is, or is computed from, another one."""
    return on in set(ancestors([node]))
