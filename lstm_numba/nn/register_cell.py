"""Cells of a user's own: a layer class out of a plain class with equations, and finding one by its name."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from types import ModuleType
from typing import Any

from lstm_numba.cells import CELLS
from lstm_numba.cells.registration import make_cell
from lstm_numba.errors import CellError
from lstm_numba.nn.recurrent import Recurrent


class CellLayer(Recurrent):
    """Base of the layers that `register_cell` makes.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.

    Attributes
    ----------
    cell : Cell
        The equations; of the class, too.
    """

    cell: Any

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> None:
        super().__init__(type(self).cell, input_size, hidden_size, num_layers, **options)


def register_cell(cls: type) -> type[CellLayer]:
    """Make a layer class of a plain class that states gates, states and the equations of one hidden unit.

    To be used as a decorator; ``lstm_numba/cells/README.md`` walks through an example. The cell is also known
    as ``module:Class`` from now on, to `make_layer`, `load_weights` and the models. A class of the same name
    that was registered before, in a module that is loaded again, is replaced.

    Parameters
    ----------
    cls : type
        With the attributes and methods of `lstm_numba.cells.protocol.Cell`:

        * ``gates``, ``states`` : tuples of names; the first state is the output.
        * ``forward(self, slots, previous, peephole)`` : pre-activations, one a slot, and previous states to
          (slots to keep, new states).
        * ``backward(self, slots, previous, states, peephole, gradient)`` : gradients of the new states to
          those of (pre-activations, previous states, peephole weights), without what flows through the
          recurrent products.
        * ``peepholes`` : gates with a diagonal peephole weight; none by default.
        * ``slots``, ``input_gates``, ``stages`` : where one slot for each gate, fed by both products, is not
          enough. With two stages also ``message`` and ``message_backward``.

    Returns
    -------
    type
        A subclass of `Recurrent`, used as ``ln.LSTM`` is, with the class's name, module and docstring, and
        ``cell``.

    Raises
    ------
    TypeError, ValueError
        Something is missing, misnamed or does not fit; the message names the class and it.
    """
    if isinstance(cls, type) and issubclass(cls, Recurrent):
        raise TypeError(f"register_cell: {cls.__name__} is a layer already")
    cell = make_cell(cls)
    CELLS[f"{cls.__module__}:{cls.__qualname__}"] = cell
    names = {
        "cell": cell,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
    }
    return type(cls.__name__, (CellLayer,), names)


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
            cells = [key for key, value in vars(found).items() if _is_layer(value)]
            there = f"; its cells are {', '.join(sorted(cells))}" if cells else ""
            raise CellError(f"{name}: {module_name} has no {part}{there}")
        found = getattr(found, part)
    if not _is_layer(found):
        if not isinstance(found, type) or not all(hasattr(found, n) for n in ("gates", "states", "forward")):
            raise CellError(
                f"{name}: is no cell: expected a class with gates, states, forward, backward, got {found!r}"
            )
        try:
            found = register_cell(found)
        except (TypeError, ValueError) as error:
            raise CellError(f"{name}: {error}") from None
    CELLS[name] = found.cell
    return found.cell


def _is_layer(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, CellLayer) and value is not CellLayer


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
    ours = os.path.dirname(__file__) + os.sep
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<frozen", ours)) or f"{os.sep}examples{os.sep}" in frame.filename:
            return f"{frame.filename}, line {frame.lineno}: "
    return ""
