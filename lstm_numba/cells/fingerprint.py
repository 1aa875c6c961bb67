"""Everything that the meaning of a cell's equations depends on, as one number.

Numba's cache on disk asks for a kernel's own file only, not for those of the functions that it calls. A
cell's class therefore carries in its name a digest of its equations: their bytecode, constants and names, and
the values of the globals that they use, through helper functions and modules too. It depends on Python's
version, as bytecode does, and not on where in a file something stands.
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
    """Sixteen hexadecimal digits.

    Parameters
    ----------
    *parts
        Functions, numbers, texts, tuples of these.

    Raises
    ------
    TypeError
        A function uses a global that is none of these, nor a module or an array, or that is not defined yet.
    """
    description = "\n".join(_Describer().lines(parts))
    return hashlib.sha256(description.encode()).hexdigest()[:16]


def frozen(function: FunctionType) -> FunctionType:
    """The function with the globals as they are now: what its digest describes is what will be compiled."""
    code = function.__code__
    values = {name: function.__globals__[name] for name in global_names(code) if name in function.__globals__}
    closure = tuple(CellType(cell.cell_contents) for cell in function.__closure__ or ())
    copy = FunctionType(code, values, function.__name__, function.__defaults__, closure)
    # A kernel on disk names the modules of the functions in it and imports them when it is loaded. What was
    # typed into an interpreter, or run by exec, is in no module that the next process could import.
    copy.__module__, copy.__qualname__, copy.__doc__ = _HOME, function.__qualname__, function.__doc__
    return copy


def global_names(code: CodeType) -> list[str]:
    """Globals and builtins that a function or one inside it reads, sorted."""
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
    """Writes values down, line by line."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def lines(self, value: Any, place: str = "equations") -> Iterator[str]:
        """Describe a value; `place` says for messages where it was found."""
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
        """A function, and all that it uses; those that the engines replace are known by their names."""
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
        except ValueError:  # of a variable that has no value yet
            raise TypeError(f"{place}: {name} is not defined yet: define it above the cell") from None
        yield from self.lines(value, f"{place}: {name}")
        if isinstance(value, ModuleType):
            yield from self._attributes(value, code, f"{place}: {name}")

    def _attributes(self, module: ModuleType, code: CodeType, place: str) -> Iterator[str]:
        """What a function may read of a module: everything there whose name it mentions."""
        for name in sorted({name for part in _codes(code) for name in part.co_names}):
            value = getattr(module, name, None)
            if name.startswith("__") or value is None or id(value) in self._seen:
                continue
            if isinstance(value, ModuleType):
                self._seen[id(value)] = len(self._seen)
                yield f"attribute {name}"
                yield from self._attributes(value, code, f"{place}.{name}")
            else:
                with contextlib.suppress(TypeError):  # of what Numba does not compile: it is not used
                    yield from [f"attribute {name}", *self.lines(value, f"{place}.{name}")]

    def _code(self, code: CodeType, place: str) -> Iterator[str]:
        yield f"code {code.co_argcount} {code.co_flags} {code.co_code.hex()}"
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            yield " ".join(names)
        for constant in code.co_consts:
            yield from self.lines(constant, place)


def _options(options: dict[str, Any]) -> Iterator[str]:
    """Options by name; Numba's are flags, texts and sets of texts."""
    for name, value in sorted(options.items()):
        yield f"option {name} {sorted(map(str, value)) if isinstance(value, (set, frozenset)) else value!r}"
