"""C99 source: numbers, arrays, names, and a cell's equations translated from Python.

A cell's functions are straight-line Python (`lstm_numba.cells.generation`): assignments of arithmetic and of
functions, and a return. They are parsed and written again in C; nothing is executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.errors import WeightsError, printable

Array = np.ndarray[Any, Any]

#: Functions of <math.h> by what equations call them.
_MATH = {name: name for name in ("tanh", "exp", "sqrt", "log", "log1p", "log2", "expm1")} | {
    name: name for name in ("sin", "cos", "tan", "atan", "sinh", "cosh", "erf")
}
_MATH["abs"] = "fabs"
#: Other functions: arguments, and the value; the numbers are written in the type of the model.
_HELPERS: dict[str, tuple[str, str]] = {
    "sigmoid": ("x", "{1} / ({1} + {exp}(-x))"),
    "relu": ("x", "x <= {0} ? {0} : x"),
    "positive": ("x", "x > {0} ? {1} : {0}"),
    "rsqrt": ("x", "{1} / {sqrt}(x)"),
    "max": ("ab", "b > a ? b : a"),
    "min": ("ab", "b < a ? b : a"),
}
#: Words of C and C++, and macros.
_WORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
and asm bool catch class compl complex delete explicit export false friend imaginary mutable namespace new not
operator or private protected public template this throw true try typeid typename using virtual xor
errno linux unix math_errhandling fpclassify isfinite isgreater isgreaterequal isinf isless islessequal
islessgreater isnan isnormal isunordered signbit
"""
_KEYWORDS = frozenset(_WORDS.split())
_OPERATORS: dict[type, tuple[str, int]] = {
    ast.Add: ("+", 1),
    ast.Sub: ("-", 1),
    ast.Mult: ("*", 2),
    ast.Div: ("/", 2),
}
_NEGATIVE, _TIGHTEST = 3, 4
#: Numbers in a line.
_PER_LINE = 8


class Dialect(NamedTuple):
    """How numbers are written: `float` or `double`."""

    dtype: np.dtype[Any]
    prefix: str

    @property
    def type(self) -> str:
        """The C type."""
        return "float" if self.dtype == np.float32 else "double"

    def number(self, value: float) -> str:
        """A constant: the fewest digits that give the same bits.

        Raises
        ------
        WeightsError
            It is not finite in this type.
        """
        with np.errstate(over="ignore"):
            typed = self.dtype.type(value)
        if not np.isfinite(typed):
            raise WeightsError(f"{value!r} is not a finite number of {self.dtype}")
        text = str(typed)
        text = text if "." in text or "e" in text else f"{text}.0"
        return text + ("f" if self.type == "float" else "")

    def math(self, name: str) -> str:
        """A function of <math.h> for this type."""
        return f"{name}f" if self.type == "float" else name

    def call(self, function: str) -> str:
        """What a function of equations is called in C."""
        return f"{self.prefix}_{function}" if function in _HELPERS else self.math(_MATH[function])

    def helper(self, function: str) -> list[str]:
        """The definition of a function that <math.h> has not; empty for one that it has."""
        if function not in _HELPERS:
            return []
        arguments, value = _HELPERS[function]
        numbers = [self.number(0), self.number(1)]
        value = value.format(*numbers, exp=self.math("exp"), sqrt=self.math("sqrt"))
        given = ", ".join(f"{self.type} {name}" for name in arguments)
        return [f"static inline {self.type} {self.call(function)}({given})", "{", f"    return {value};", "}"]

    def array(self, name: str, array: Array, what: str) -> list[str]:
        """The definition of a constant array.

        Raises
        ------
        WeightsError
            A number is not finite; the message names the array.
        """
        with np.errstate(over="ignore"):
            flat = np.asarray(array).astype(self.dtype).reshape(-1)
        if not np.isfinite(flat).all():
            raise WeightsError(f"{name.removeprefix(self.prefix + '_')}: a number is not finite")
        numbers = [self.number(value) for value in flat]
        lines = [
            "    " + ", ".join(numbers[n : n + _PER_LINE]) + ","
            for n in range(0, len(numbers), _PER_LINE)
        ]  # fmt: skip
        return [f"/* {what} */", f"static const {self.type} {name}[{flat.size}] = {{", *lines, "};"]


def identifier(stem: str) -> str:
    """A prefix for C names out of a file's name: letters, digits and _, a letter first."""
    found = re.sub(r"[^A-Za-z0-9_]", "_", stem).strip("_")
    return found if found[:1].isalpha() else f"model_{found}".rstrip("_")


def comment(text: str) -> str:
    """Text from a file, safe within a comment."""
    return re.sub(r"[*\\?]", "_", printable(text, 400))


class Translation(NamedTuple):
    """A function of a cell in C.

    Attributes
    ----------
    lines : list of str
        Definitions of local constants.
    results : list of str
        What the function returns.
    calls : set of str
        Functions that they call, by their Python names.
    """

    lines: list[str]
    results: list[str]
    calls: set[str]


class Translator:
    """Translates the functions of a cell.

    Parameters
    ----------
    dialect : Dialect
    place : callable
        ``place("slots", 2)``: the C expression of an element of a function's argument.
    taken : iterable of str
        Names that local constants must not have.
    """

    def __init__(self, dialect: Dialect, place: Callable[[str, int], str], taken: Iterable[str]) -> None:
        self._dialect, self._place = dialect, place
        self._taken = _KEYWORDS.union(taken, map(dialect.call, (*_MATH, *_HELPERS)))

    def translate(self, text: str, part: int | None = None) -> Translation:
        """Translate a function.

        Parameters
        ----------
        text : str
            As in ``cell.texts``.
        part : int, optional
            Of a function that returns several tuples the one that is wanted; by default all, one after the
            other.
        """
        (function,) = ast.parse(text).body
        assert isinstance(function, ast.FunctionDef)
        *assignments, last = function.body
        assert isinstance(last, ast.Return)
        wanted = _flat(last.value if part is None else last.value.elts[part])  # type: ignore[union-attr]
        used = {node.id for result in wanted for node in ast.walk(result) if isinstance(node, ast.Name)}
        kept = []
        for line in reversed(assignments):
            assert isinstance(line, ast.Assign)
            (target,) = line.targets
            assert isinstance(target, ast.Name)
            if target.id in used:
                used |= {node.id for node in ast.walk(line.value) if isinstance(node, ast.Name)}
                kept.append((target.id, line.value))
        names, calls = self._names([name for name, _ in reversed(kept)]), set[str]()
        lines = [
            f"const {self._dialect.type} {names[name]} = {self._written(value, names, calls)[0]};"
            for name, value in reversed(kept)
        ]
        return Translation(lines, [self._written(result, names, calls)[0] for result in wanted], calls)

    def _names(self, names: Sequence[str]) -> dict[str, str]:
        """Local names that C allows, the equations' own where possible."""
        found: dict[str, str] = {}
        for name in names:
            fits = re.fullmatch(r"[a-z][a-z0-9_]*", name) and name not in self._taken
            others = (f"value_{n}" for n in range(len(found), 10**6))
            free = (n for n in others if n not in names and n not in self._taken)
            found[name] = name if fits else next(free)
        return found

    def _written(self, node: ast.expr, names: dict[str, str], calls: set[str]) -> tuple[str, int]:
        """An expression, and how tightly it binds."""
        if isinstance(node, ast.Name):
            return names[node.id], _TIGHTEST
        if isinstance(node, ast.Constant):
            return self._dialect.number(node.value), _TIGHTEST  # type: ignore[arg-type]
        if isinstance(node, ast.Subscript):
            assert isinstance(node.value, ast.Name)
            assert isinstance(node.slice, ast.Constant)
            return self._place(node.value.id, int(node.slice.value)), _TIGHTEST  # type: ignore[arg-type]
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            calls.add(node.func.id)
            given = ", ".join(self._written(argument, names, calls)[0] for argument in node.args)
            return f"{self._dialect.call(node.func.id)}({given})", _TIGHTEST
        if isinstance(node, ast.UnaryOp):
            text, strength = self._written(node.operand, names, calls)
            return f"-{text}" if strength > _NEGATIVE else f"-({text})", _NEGATIVE
        assert isinstance(node, ast.BinOp)
        sign, strength = _OPERATORS[type(node.op)]
        left, right = (self._written(side, names, calls) for side in (node.left, node.right))
        return f"{_inside(left, strength)} {sign} {_inside(right, strength + 1)}", strength


def _flat(value: ast.expr | None) -> list[ast.expr]:
    assert value is not None
    return [item for part in value.elts for item in _flat(part)] if isinstance(value, ast.Tuple) else [value]


def _inside(text: tuple[str, int], strength: int) -> str:
    return text[0] if text[1] >= strength else f"({text[0]})"
