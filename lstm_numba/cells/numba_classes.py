"""The classes of cells that users register; Numba's cache on disk refers to them by this module and name.

The index of every cached kernel names the classes of all cells that it was ever compiled for. Reading it must
work in a process that has not imported a user's module, or cannot: so the classes live here, and one that is
unknown is made when it is asked for, empty. A name ends in a digest of the cell's equations
(`lstm_numba.cells.fingerprint`), so that machine code of equations that have changed since is never found.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_NAME = re.compile(r"\w+_[0-9a-f]{16}")


class Equations(NamedTuple):
    """What every registered cell is to Numba: a tuple without fields, whose class says all."""


def cell_class(name: str) -> Any:
    """The class of a name, always the same; `registration` gives it its equations."""
    if name not in globals():
        kind = type(name, (Equations,), {"__module__": __name__, "__slots__": ()})
        globals().setdefault(name, kind)  # of several threads the first one's
    return globals()[name]


def __getattr__(name: str) -> Any:
    if _NAME.fullmatch(name):
        return cell_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
