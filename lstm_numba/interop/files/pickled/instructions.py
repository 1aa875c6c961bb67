"""Pickles without executing them.

A pickle is a program for a machine with a stack and a memo; `pickletools` of the standard library describes
its instructions. It calls whatever function of whatever module it names. Here nothing that it names is looked
up: a few names have a meaning of their own, others are refused. Lists, tuples, numbers and texts come out as
themselves, everything else as `Inert`.
"""

from __future__ import annotations

import io
import pickletools
import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.pickled.inert import (
    Budget,
    Dictionary,
    Inert,
    Instance,
    Known,
    Members,
    Name,
    key_text,
    kind_of,
)

#: Most arguments of a call.
_ARGUMENTS = 16
#: What pickletools raises on damaged pickles.
_FAULTS = (ValueError, IndexError, OverflowError, struct.error)
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "__builtins__": "builtins"}


def refusal(name: str) -> WeightsError:
    """What is said about a name without a meaning."""
    shown, last = one_line(name, 200), name.rpartition(".")[2]
    kind = "class" if last[:1].isupper() else "function"
    hint = ""
    if kind == "class" and name.partition(".")[0] not in sys.stdlib_module_names:
        hint = "; save a module's state_dict() instead of the module"
    return WeightsError(f"names the {kind} {shown}, which is not executed{hint}")


def unpickle(
    file: io.BytesIO,
    known: Known,
    budget: Budget,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Read the next pickle of a file.

    Parameters
    ----------
    file : BytesIO
        Afterwards at the end of the pickle.
    known : Known
    budget : Budget
    persistent : callable, optional
        Gives what a pickle refers to that is elsewhere in the file.

    Returns
    -------
    object
        None, a number, str, bytes, bytearray, list, tuple or `Inert`, nested; it may contain itself, and
        parts of it may be shared.

    Raises
    ------
    WeightsError
        The pickle is damaged, has a function called that is not `known`, or is too long.
    """
    machine = _Machine(known, budget, persistent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes in texts
            for instruction, argument, _ in pickletools.genops(file):
                budget.count()
                machine.step(instruction.name, argument)
    except WeightsError:
        raise
    except _FAULTS as error:
        raise WeightsError(f"damaged pickle ({one_line(error, 120)})") from None
    return machine.pop()


class _Machine:
    """Stack and memo; memory grows with the instructions that are there, not with numbers in them."""

    def __init__(self, known: Known, budget: Budget, persistent: Callable[[Any], Any] | None) -> None:
        self.known = known
        self.budget = budget
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []  # lengths of the stack
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Name] = {}

    def step(self, instruction: str, argument: Any) -> None:
        """Do one instruction."""
        if instruction in _PUSHED:
            self.stack.append(argument)
        elif instruction in _CONSTANTS:
            self.stack.append(_CONSTANTS[instruction])
        elif instruction in _OPERATIONS:
            _OPERATIONS[instruction](self, argument)
        elif instruction not in _IGNORED:
            raise WeightsError(f"a pickle with the instruction {instruction}, which is not executed")

    # -- the stack ------------------------------------------------------------------------------------

    def _need(self, count: int) -> None:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise WeightsError("damaged pickle: takes more values than there are")

    def pop(self) -> Any:
        """The last value."""
        self._need(1)
        return self.stack.pop()

    def _top(self, kind: type) -> Any:
        self._need(1)
        if not isinstance(self.stack[-1], kind):
            raise WeightsError(f"damaged pickle: fills {kind_of(self.stack[-1])} like a {kind.__name__}")
        return self.stack[-1]

    def _mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def _to_mark(self) -> list[Any]:
        """The values since the last mark."""
        if not self.marks:
            raise WeightsError("damaged pickle: goes back to a mark that is not there")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _discard(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def _pop_mark(self, _: Any) -> None:
        self._to_mark()

    def _duplicate(self, _: Any) -> None:
        self.stack.append(self._top(object))

    def _put(self, index: int | None) -> None:
        index = len(self.memo) if index is None else index
        if not 0 <= index < 1 << 32:
            raise WeightsError("damaged pickle: a memo's index is not a number of 32 bits")
        self.memo[index] = self._top(object)

    def _get(self, index: int) -> None:
        if index not in self.memo:
            raise WeightsError("damaged pickle: refers to a value that is not there")
        self.stack.append(self.memo[index])

    # -- containers -----------------------------------------------------------------------------------

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._to_mark()))

    def _short_tuple(self, count: int) -> None:
        self._need(count)
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _list(self, _: Any) -> None:
        self.stack.append(self._to_mark())

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _append(self, _: Any) -> None:
        value = self.pop()
        self._top(list).append(value)

    def _extend(self, _: Any) -> None:
        items = self._to_mark()
        self._top(list).extend(items)

    def _members(self, _: Any) -> None:
        self.stack.append(Members())

    def _add_members(self, _: Any) -> None:
        self._to_mark()
        self._top(Members)

    def _frozen_set(self, _: Any) -> None:
        self._to_mark()
        self.stack.append(Members())

    def _dictionary(self, _: Any) -> None:
        self.stack.append(Dictionary())

    def _filled_dictionary(self, _: Any) -> None:
        items = self._to_mark()
        self.stack.append(Dictionary())
        self._fill(items)

    def _set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._fill([key, value])

    def _set_items(self, _: Any) -> None:
        self._fill(self._to_mark())

    def _fill(self, items: list[Any]) -> None:
        entries = self._top(Dictionary).entries
        if len(items) % 2:
            raise WeightsError("damaged pickle: a dictionary's key has no value")
        for place in range(0, len(items), 2):
            key = key_text(items[place])
            if type(key) is tuple:
                self.budget.spend(len(key[1]))
            entries[key] = items[place + 1]

    # -- names and calls ------------------------------------------------------------------------------

    def _name(self, name: str) -> Name:
        if name not in self.names:
            module, _, rest = name.partition(".")
            name = f"{_OLD_MODULES.get(module, module)}.{rest}".replace("numpy._core.", "numpy.core.")
            known = self.known
            if not (name in known.functions or name in known.names or self._is_class(name)):
                raise refusal(name)
            self.names[name] = Name(name)
        return self.names[name]

    def _is_class(self, name: str) -> bool:
        return bool(self.known.classes) and name.startswith(self.known.classes)

    def _global(self, argument: str) -> None:
        self.stack.append(self._name(argument.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not (type(name) is str and type(module) is str):
            raise WeightsError("damaged pickle: a function's name is not text")
        self.budget.spend(len(module) + len(name))
        self.stack.append(self._name(f"{module}.{name}"))

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name) or function.name not in self.known.functions:
            raise WeightsError(f"has {kind_of(function)} called, which is not executed")
        if type(arguments) is not tuple or len(arguments) > _ARGUMENTS:
            raise WeightsError(f"damaged pickle: odd arguments of {kind_of(function)}")
        try:
            return self.known.functions[function.name](*arguments)
        except TypeError:  # their number
            raise WeightsError(f"damaged pickle: odd arguments of {kind_of(function)}") from None

    def _make(self, kind: Any, arguments: Any) -> Any:
        if isinstance(kind, Name) and self._is_class(kind.name) and arguments == ():
            return Instance()
        return self._call(kind, arguments)

    def _reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(self._call(function, arguments))

    def _instantiate(self, argument: str) -> None:
        arguments = tuple(self._to_mark())
        self.stack.append(self._make(self._name(argument.replace(" ", ".", 1)), arguments))

    def _object(self, _: Any) -> None:
        items = self._to_mark()
        if not items:
            raise WeightsError("damaged pickle: an object without a class")
        self.stack.append(self._make(items[0], tuple(items[1:])))

    def _new_object(self, _: Any) -> None:
        arguments, kind = self.pop(), self.pop()
        self.stack.append(self._make(kind, arguments))

    def _new_object_by_names(self, _: Any) -> None:
        names, arguments, kind = self.pop(), self.pop(), self.pop()
        if type(names) is not Dictionary or names.entries:
            raise WeightsError(f"damaged pickle: odd arguments of {kind_of(kind)}")
        self.stack.append(self._make(kind, arguments))

    def _build(self, _: Any) -> None:
        state = self.pop()
        self._top(Inert).build(state)

    def _extension(self, number: int) -> None:
        raise WeightsError(f"names a function by a number ({number}), which is not executed")

    def _persistent(self, identity: Any) -> None:
        if self.persistent is None:
            raise WeightsError("refers to something outside of the file, which is not read")
        self.stack.append(self.persistent(identity))

    def _stack_persistent(self, _: Any) -> None:
        self._persistent(self.pop())


_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
#: Instructions that push what follows them.
_PUSHED = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
))  # fmt: skip
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "POP": _Machine._discard,
    "POP_MARK": _Machine._pop_mark,
    "DUP": _Machine._duplicate,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._get),
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._short_tuple(1),
    "TUPLE2": lambda machine, _: machine._short_tuple(2),
    "TUPLE3": lambda machine, _: machine._short_tuple(3),
    "LIST": _Machine._list,
    "EMPTY_LIST": _Machine._empty_list,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._extend,
    "EMPTY_SET": _Machine._members,
    "ADDITEMS": _Machine._add_members,
    "FROZENSET": _Machine._frozen_set,
    "EMPTY_DICT": _Machine._dictionary,
    "DICT": _Machine._filled_dictionary,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "INST": _Machine._instantiate,
    "OBJ": _Machine._object,
    "NEWOBJ": _Machine._new_object,
    "NEWOBJ_EX": _Machine._new_object_by_names,
    "BUILD": _Machine._build,
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _Machine._extension),
    "PERSID": _Machine._persistent,
    "BINPERSID": _Machine._stack_persistent,
}
