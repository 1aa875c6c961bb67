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


class _Equations(NamedTuple):
    """What every registered cell is to Numba: a tuple without fields, whose class says all."""

    def __reduce__(self) -> Any:
        """With the name by which a process that knows no equations of the class yet finds them."""
        return _restored, (type(self), self.key)  # type: ignore[attr-defined]


def _restored(kind: Any, key: str) -> Any:
    """The cell of a class, which gets its equations where it has none; a ValueError where they are others."""
    if not hasattr(kind, "gates"):
        from lstm_numba.cells import find_cell
        from lstm_numba.nn.register_cell import load_cell

        load_cell(key) if ":" in key else find_cell(key)
    if not hasattr(kind, "gates"):
        raise ValueError(f"cell {key}: other equations than those of the cell that was pickled")
    return kind()


def cell_class(name: str) -> Any:
    """The class of a name, always the same; `registration` gives it its equations."""
    if name not in globals():
        kind = type(name, (_Equations,), {"__module__": __name__, "__slots__": ()})
        globals().setdefault(name, kind)  # of several threads the first one's
    return globals()[name]


def __getattr__(name: str) -> Any:
    if _NAME.fullmatch(name):
        return cell_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
