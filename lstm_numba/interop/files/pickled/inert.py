"""What comes out of a pickle instead of objects, which names have a meaning in it, and what it may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError

#: Instructions of a file at most; each can take some hundred bytes of memory.
_INSTRUCTIONS = 2_000_000
#: Bytes that may be copied, as a multiple of the file's and at least.
_COPIES, _LEAST_COPIES = 8, 1 << 20
#: Parts of a dictionary's key.
_PARTS = 16


class Inert:
    """What a pickle says about an object; the object itself is never made."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        """Take the object's state.

        Raises
        ------
        WeightsError
            Nothing of this kind has one.
        """
        raise WeightsError(f"damaged pickle: gives a state to {kind_of(self)}")


class Name(Inert):
    """A function or class that is called by its name, such as "torch.FloatStorage"."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Dictionary(Inert):
    """A dictionary; keys that are no text are pairs of type and text. An object's attributes are left out."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: dict[str | tuple[str, str], Any] = {}

    def build(self, state: Any) -> None:
        """Pass over attributes, such as the versions in PyTorch's ``_metadata``."""


class Instance(Dictionary):
    """An object of which only the attributes are known."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        """Take the attributes, a dictionary, or something else, which has no names."""
        self.entries = state.entries if type(state) is Dictionary else {"state": state}


class Members(Inert):
    """The members of a set, which have no names."""

    __slots__ = ()


class Budget:
    """What reading a file may still take; shared by the pickles in it."""

    def __init__(self, size: int) -> None:
        self._instructions = _INSTRUCTIONS
        self._bytes = max(_COPIES * size, _LEAST_COPIES)

    def count(self) -> None:
        """Count an instruction."""
        self._instructions -= 1
        if self._instructions < 0:
            raise WeightsError(f"a pickle of more than {_INSTRUCTIONS} instructions")

    def spend(self, size: int) -> None:
        """Count bytes that are copied: few instructions can have a large value copied often."""
        self._bytes -= size
        if self._bytes < 0:
            raise WeightsError("damaged pickle: copies much more than the file holds")


class Known(NamedTuple):
    """Names that have a meaning.

    Parameters
    ----------
    functions : mapping of str to callable
        What stands for a function; called with the pickle's arguments, which may be anything.
    names : set of str
        What may be an argument, as a `Name`.
    classes : tuple of str
        Starts of the names of classes whose objects are `Instance`.
    """

    functions: Mapping[str, Callable[..., Any]]
    names: frozenset[str] = frozenset()
    classes: tuple[str, ...] = ()


def kind_of(value: Any) -> str:
    """How a message calls a value."""
    return one_line(value.name, 120) if isinstance(value, Name) else f"a value of type {type(value).__name__}"


def key_text(key: Any) -> str | tuple[str, str]:
    """A dictionary's key as text; another type's with the type's name, as 1 and "1" are two.

    Raises
    ------
    WeightsError
        It is neither a text, a number nor a short tuple of these.
    """
    if type(key) is str:
        return key
    if type(key) in (int, float, bool, type(None)) and not (type(key) is int and key.bit_length() > 64):
        return type(key).__name__, str(key)
    if type(key) is bytes:
        return "bytes", key.decode("latin-1")
    if type(key) is tuple and len(key) <= _PARTS and not any(type(part) is tuple for part in key):
        parts = [key_text(part) for part in key]
        return "tuple", ".".join(part if isinstance(part, str) else part[1] for part in parts)
    raise WeightsError(f"a dictionary with the key {kind_of(key)}, which is not read")
