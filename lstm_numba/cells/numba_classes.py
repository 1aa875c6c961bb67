"""The classes of registered cells, which Numba's disk cache refers to by this module and their names.

The cache index of a kernel names the classes of all cells that it was compiled for. Reading it must work in
processes that have not imported, or cannot import, a user's module: so the classes are made here, and an
unknown name gives an empty class. Names end in a digest of the equations, so that machine code of changed
equations is never found.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_NAME = re.compile(r"\w+_[0-9a-f]{16}")


class Equations(NamedTuple):
    """Base of the classes of registered cells: a named tuple without fields."""


def cell_class(name: str) -> Any:
    """The class of a name, made at the first call; `registration` adds the equations."""
    if name not in globals():
        kind = type(name, (Equations,), {"__module__": __name__, "__slots__": ()})
        globals().setdefault(name, kind)  # the first thread's wins
    return globals()[name]


def __getattr__(name: str) -> Any:
    if _NAME.fullmatch(name):
        return cell_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
