"""A digest of everything that the meaning of a cell's equations depends on.

Numba's disk cache checks a kernel's own file only, not those of the functions that it calls. A cell's class
name therefore contains a digest of its equations: bytecode, constants, names, and the values of the globals
that they use, also in helper functions and modules. It depends on Python's version, as bytecode does, but not
on line numbers.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import hashlib
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any

from lstm_numba.cells import activations

#: Instructions that read a global, in all versions of Python.
_READS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_BUILTINS = frozenset(dir(builtins))
_HOME = "lstm_numba.cells.numba_classes"


def equations_digest(*parts: Any) -> str:
    """Digest of functions and values: sixteen hexadecimal digits.

    Parameters
    ----------
    *parts
        Functions, numbers, strings, tuples of these.

    Raises
    ------
    TypeError
        A function uses a global of another type (modules and arrays are allowed), or one not defined yet.
    """
    description = "\n".join(_Describer().lines(parts))
    return hashlib.sha256(description.encode()).hexdigest()[:16]


def frozen(function: FunctionType) -> FunctionType:
    """A copy of a function with its globals frozen, so that what is compiled is what was digested."""
    code = function.__code__
    values = {name: function.__globals__[name] for name in global_names(code) if name in function.__globals__}
    closure = tuple(CellType(cell.cell_contents) for cell in function.__closure__ or ())
    copy = FunctionType(code, values, function.__name__, function.__defaults__, closure)
    # A cached kernel imports the modules of its functions when it is loaded; a function from an interactive
    # session or from exec has no module that another process could import.
    copy.__module__, copy.__qualname__, copy.__doc__ = _HOME, function.__qualname__, function.__doc__
    return copy


def global_names(code: CodeType) -> list[str]:
    """Globals and builtins that a function or a nested one reads, sorted."""
    found = {
        i.argval for part in _codes(code) for i in dis.get_instructions(part) if i.opname in _READS_GLOBAL
    }
    return sorted(found)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


class _Describer:
    """Describes values as lines of text."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def lines(self, value: Any, place: str = "equations") -> Iterator[str]:
        """Describe a value; `place` is where it was found, for messages."""
        import numpy as np  # not above: the command line imports the cells to list them

        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            yield f"{type(value).__name__} {value!r}"
        elif isinstance(value, tuple):
            yield f"{type(value).__name__} {len(value)}"
            for item in value:
                yield from self.lines(item, place)
        elif isinstance(value, (np.ndarray, np.generic)):
            yield f"array {value.dtype.str} {value.shape} {value.tobytes().hex()}"
        elif isinstance(value, CodeType):
            yield from self._code(value, place)
        elif isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, ModuleType):
            yield f"module {value.__name__}"
        elif isinstance(getattr(value, "py_func", None), FunctionType):  # compiled by Numba
            yield "compiled"
            yield from _options(value.targetoptions)
            yield from self._function(value.py_func)
        elif isinstance(value, (type, BuiltinFunctionType, np.ufunc)):
            yield f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
        else:
            raise TypeError(
                f"{place}: equations may use numbers, tuples, arrays, modules and functions, got {value!r}"
            )

    def _function(self, function: FunctionType) -> Iterator[str]:
        """A function and all that it uses; activations, which engines replace, by name only."""
        if function.__module__ == activations.__name__:
            yield f"activation {function.__name__}"
            return
        if id(function) in self._seen:
            yield f"again {self._seen[id(function)]}"
            return
        self._seen[id(function)] = len(self._seen)
        code, name = function.__code__, function.__name__
        yield f"function {name}"
        yield from self.lines(function.__defaults__, name)
        yield from _options(function.__kwdefaults__ or {})
        yield from self._code(code, name)
        for free, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            yield from self._named(free, lambda cell=cell: cell.cell_contents, code, name)
        for used in global_names(code):
            if used in function.__globals__:
                yield from self._named(used, lambda used=used: function.__globals__[used], code, name)
            elif used not in _BUILTINS:
                raise TypeError(f"{name}: {used} is not defined yet: define it above the cell")

    def _named(self, name: str, get: Callable[[], Any], code: CodeType, place: str) -> Iterator[str]:
        yield f"named {name}"
        try:
            value = get()
        except ValueError:  # an empty closure cell
            raise TypeError(f"{place}: {name} is not defined yet: define it above the cell") from None
        yield from self.lines(value, f"{place}: {name}")
        if isinstance(value, ModuleType):
            yield from self._attributes(value, code, f"{place}: {name}")

    def _attributes(self, module: ModuleType, code: CodeType, place: str) -> Iterator[str]:
        """Attributes of a module that a function may read: all whose names it mentions."""
        for name in sorted({name for part in _codes(code) for name in part.co_names}):
            value = getattr(module, name, None)
            if name.startswith("__") or value is None or id(value) in self._seen:
                continue
            if isinstance(value, ModuleType):
                self._seen[id(value)] = len(self._seen)
                yield f"attribute {name}"
                yield from self._attributes(value, code, f"{place}.{name}")
            else:
                with contextlib.suppress(TypeError):  # Numba could not compile it either
                    yield from [f"attribute {name}", *self.lines(value, f"{place}.{name}")]

    def _code(self, code: CodeType, place: str) -> Iterator[str]:
        yield f"code {code.co_argcount} {code.co_flags} {code.co_code.hex()}"
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            yield " ".join(names)
        for constant in code.co_consts:
            yield from self.lines(constant, place)


def _options(options: dict[str, Any]) -> Iterator[str]:
    """Options by name; Numba's are flags, strings and sets of strings."""
    for name, value in sorted(options.items()):
        yield f"option {name} {sorted(map(str, value)) if isinstance(value, (set, frozenset)) else value!r}"
