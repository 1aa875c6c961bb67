"""Every cell by its name: the library's, variants of them, and those of users."""

from __future__ import annotations

import copyreg
import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from lstm_numba.cells import numba_classes, onnx_variants
from lstm_numba.cells.gru import GRUCell, GRUResetBeforeCell
from lstm_numba.cells.lstm import LSTMCell
from lstm_numba.cells.peephole_lstm import PeepholeLSTMCell
from lstm_numba.cells.registration import make_cell
from lstm_numba.cells.rnn import ReluRNNCell, RNNCell
from lstm_numba.errors import CellError

#: Every cell by the name that the command line and `lstm_numba.make_layer` know it by. Those of
#: `lstm_numba.register_cell` come to it as ``module:Class``, variants when they are asked for.
CELLS: dict[str, Any] = {
    "rnn": RNNCell(),
    "rnn-relu": ReluRNNCell(),
    "lstm": LSTMCell(),
    "peephole": PeepholeLSTMCell(),
    "gru": GRUCell(),
    "gru-reset-before": GRUResetBeforeCell(),
}

#: Names of the cells that the library brings.
BUILT_IN: tuple[str, ...] = tuple(CELLS)


def add_cell(name: str, cell: Any) -> Any:
    """Know a cell of `make_cell` by a name from now on, also in other processes that get a pickle of it."""
    copyreg.pickle(type(cell), _reduced)
    CELLS[name] = cell
    return cell


def _reduced(cell: Any) -> Any:
    """With the name by which a process that knows no equations of the class yet finds them."""
    return _restored, (type(cell), cell.key)


def _restored(kind: Any, key: str) -> Any:
    """The cell of a class, which gets its equations where it has none; a ValueError where they are others."""
    if not hasattr(kind, "gates"):
        if ":" in key:
            load_cell(key)
        else:
            find_cell(key)
    if not hasattr(kind, "gates"):
        raise ValueError(f"cell {key}: other equations than those of the cell that was pickled")
    return kind()


def find_cell(name: str) -> Any:
    """The cell of a name in `CELLS`, or of a variant's (`lstm_numba.cells.onnx_variants`), which is then
    there.

    Raises
    ------
    TypeError, ValueError
        It is no text, or there is none.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a cell's name, got {name!r}")
    if "," in name and name not in CELLS:
        try:
            variant = onnx_variants.read(name)
        except ValueError as error:
            raise ValueError(f"name: {name!r}: {error}") from None
        if variant.name in CELLS:
            CELLS[name] = CELLS[variant.name]
        else:
            cell = onnx_variants.variant_cell(variant)
            CELLS[name] = add_cell(variant.name, cell)
    if name in CELLS:
        return CELLS[name]
    hint = "; a cell of your own must be registered first: import its module" if ":" in name else ""
    raise ValueError(f"name: expected one of {', '.join(CELLS)}, got {name!r}{hint}")


def load_cell(name: str) -> Any:
    """Import the module of ``module:Class`` and know its cell by this name from now on.

    Parameters
    ----------
    name : str
        The module is looked for in the current folder and on Python's path; the class is what `register_cell`
        returned, or a plain class that is not registered yet.

    Returns
    -------
    Cell

    Raises
    ------
    CellError
        No such module or class, an error inside the module, or no cell.
    """
    module_name, _, path = name.partition(":")
    found: Any = _import(module_name, name)
    for part in path.split("."):
        if not hasattr(found, part):
            cells = [key for key, value in vars(found).items() if _has_cell(value)]
            there = f"; its cells are {', '.join(sorted(cells))}" if cells else ""
            raise CellError(f"{name}: {module_name} has no {part}{there}")
        found = getattr(found, part)
    if not _has_cell(found):
        if not isinstance(found, type) or not all(hasattr(found, n) for n in ("gates", "states", "forward")):
            raise CellError(
                f"{name}: is no cell: expected a class with gates, states, forward, backward, got {found!r}"
            )
        try:
            return add_cell(name, make_cell(found))
        except (TypeError, ValueError) as error:
            raise CellError(f"{name}: {error}") from None
    return add_cell(name, found.cell)


def _has_cell(value: Any) -> bool:
    """Whether it is a layer class that `lstm_numba.register_cell` made."""
    return isinstance(value, type) and isinstance(getattr(value, "cell", None), numba_classes.Equations)


def _import(module: str, name: str) -> ModuleType:
    """Import a module, from the current folder too; its own errors become one line."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(module)
    except SyntaxError as error:
        where = f"{error.filename}, line {error.lineno}: " if error.filename else ""
        raise CellError(f"{name}: {where}{type(error).__name__}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise CellError(
                f"{name}: there is no module {error.name} in the current folder or on Python's path"
            ) from None
        raise CellError(f"{name}: {_place(error)}{type(error).__name__}: {error}") from None


def _place(error: BaseException) -> str:
    """File and line where a module failed: the last that is neither Python's nor this library's."""
    ours = str(Path(__file__).parents[1]) + os.sep
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<frozen", ours)) or f"{os.sep}examples{os.sep}" in frame.filename:
            return f"{frame.filename}, line {frame.lineno}: "
    return ""
