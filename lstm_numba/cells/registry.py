"""All cells by name: the library's, their variants, and those of users."""

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
from lstm_numba.cells.layer_norm import LayerNormGRUCell, LayerNormLSTMCell
from lstm_numba.cells.lstm import CoupledLSTMCell, LSTMCell, ProjectedLSTMCell
from lstm_numba.cells.peephole_lstm import FullPeepholeLSTMCell, PeepholeLSTMCell
from lstm_numba.cells.registration import make_cell
from lstm_numba.cells.rnn import ReluRNNCell, RNNCell
from lstm_numba.cells.slstm import SLSTMCell
from lstm_numba.cells.use_gate_lstm import UseGateLSTMCell
from lstm_numba.errors import CellError
from lstm_numba.wording import nearest

_CLASSES: dict[str, type] = {
    "rnn": RNNCell,
    "rnn-relu": ReluRNNCell,
    "lstm": LSTMCell,
    "coupled": CoupledLSTMCell,
    "peephole": PeepholeLSTMCell,
    "peephole-full": FullPeepholeLSTMCell,
    "use-gate": UseGateLSTMCell,
    "slstm": SLSTMCell,
    "gru": GRUCell,
    "gru-reset-before": GRUResetBeforeCell,
    "layer-norm-lstm": LayerNormLSTMCell,
    "layer-norm-gru": LayerNormGRUCell,
}

#: Cells that options of layers stand for, by their names.
_OPTIONS: dict[str, type] = {"lstm-projected": ProjectedLSTMCell}

#: Layers of groups of cells -> the cell of a group.
GROUPED: dict[str, str] = {"clockwork": "rnn"}

#: Names of the library's own cells that other libraries or formats have, too.
STANDARD = ("rnn", "rnn-relu", "lstm", "peephole", "gru", "gru-reset-before")

#: Names of all of the library's own cells.
BUILT_IN: tuple[str, ...] = tuple(_CLASSES)

#: Cells by the name that the command line and `lstm_numba.make_layer` take. `lstm_numba.register_cell` adds
#: cells as ``module:Class``; variants are added when first asked for.
CELLS: dict[str, Any] = {}


def add_cell(cell: Any, *names: str) -> Any:
    """Register a cell of `make_cell` under its key and other names, make it picklable, and return it.

    Parameters
    ----------
    cell : Cell
    *names : str
        Beside its key; a cell that had one of them is replaced.

    Returns
    -------
    Cell
    """
    copyreg.pickle(type(cell), _reduced)
    CELLS.update(dict.fromkeys((cell.key, *names), cell))
    return cell


def _add_built_in() -> None:
    for name, plain in {**_CLASSES, **_OPTIONS}.items():
        add_cell(make_cell(plain, name))
    CELLS.update({name: CELLS[cell] for name, cell in GROUPED.items()})


def _reduced(cell: Any) -> Any:
    """Pickle a cell with its key, by which another process finds its equations."""
    return _restored, (type(cell), cell.key)


def _restored(kind: Any, key: str) -> Any:
    """Unpickle a cell, loading its equations if necessary; a ValueError if they have changed."""
    if not hasattr(kind, "gates"):
        if ":" in key:
            load_cell(key)
        else:
            find_cell(key)
    if not hasattr(kind, "gates"):
        raise ValueError(f"cell {key}: other equations than those of the cell that was pickled")
    return kind()


def canonical_name(name: str) -> str:
    """A cell's name as it is registered: of the library's own, and of their variants, the case is ignored.

    ``LSTM`` gives ``lstm``, and ``GRU,F=hardsigmoid`` gives ``gru,f=HardSigmoid``; other names are returned
    as they are.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
    """
    base, *words = name.split(",")
    if base.lower() not in (*BUILT_IN, *GROUPED):
        return name
    return ",".join([base.lower(), *map(onnx_variants.canonical_word, words)])


def find_cell(name: str) -> Any:
    """The cell of a name: one in `CELLS`, or a variant (`lstm_numba.cells.onnx_variants`), which is added.

    The case is ignored, see `canonical_name`.

    Parameters
    ----------
    name : str

    Returns
    -------
    Cell

    Raises
    ------
    TypeError, ValueError
        The name is no string, or there is no such cell.
    """
    given: Any = name
    if not isinstance(given, str):
        is_class = isinstance(given, type)
        named = f"the class {given.__module__}.{given.__qualname__}" if is_class else repr(given)
        raise TypeError(f"cell: expected a name, such as lstm or module:Class of a custom cell, got {named}")
    name = name if name in CELLS else canonical_name(name)
    if "," in name and name not in CELLS:
        try:
            variant = onnx_variants.read(name)
        except ValueError as error:
            raise ValueError(f"cell: {name!r}: {error}") from None
        if variant.name in CELLS:
            CELLS[name] = CELLS[variant.name]
        else:
            add_cell(onnx_variants.variant_cell(variant), name)
    if name in CELLS:
        return CELLS[name]
    hint = "; a cell of your own must be registered first: import its module"
    hint = hint if ":" in name else nearest(name, BUILT_IN)
    raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {name!r}{hint}")


def load_cell(name: str) -> Any:
    """Import the module of ``module:Class`` and register its cell under this name.

    Parameters
    ----------
    name : str
        The module is searched in the current folder and on Python's path; the class is a result of
        `register_cell` or a plain class that is not registered yet.

    Returns
    -------
    Cell

    Raises
    ------
    CellError
        No such module or class, an error while importing the module, or the class is no cell.
    """
    module_name, _, path = name.partition(":")
    found: Any = _import(module_name, name)
    for part in path.split("."):
        if not hasattr(found, part):
            cells = [key for key, value in vars(found).items() if _has_cell(value)]
            hint = f"; its cells are {', '.join(sorted(cells))}" if cells else ""
            raise CellError(f"{name}: {module_name} has no {part}{hint}")
        found = getattr(found, part)
    if not _has_cell(found):
        if not isinstance(found, type) or not hasattr(found, "states"):
            raise CellError(
                f"{name}: is not a cell: expected a class with gates, states, forward, got {found!r}"
            )
        try:
            return add_cell(make_cell(found), name)
        except (TypeError, ValueError) as error:
            raise CellError(f"{name}: {error}") from None
    return add_cell(found.cell, name)


def _has_cell(value: Any) -> bool:
    """Whether a value is a layer class made by `lstm_numba.register_cell`."""
    return isinstance(value, type) and isinstance(getattr(value, "cell", None), numba_classes.Equations)


def _import(module: str, name: str) -> ModuleType:
    """Import a module, also from the current folder; errors in it become a one-line CellError."""
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
    """File and line of an error: the innermost frame that is neither Python's nor this library's."""
    package = str(Path(__file__).parents[1]) + os.sep
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if (
            not frame.filename.startswith(("<frozen", package))
            or f"{os.sep}examples{os.sep}" in frame.filename
        ):
            return f"{frame.filename}, line {frame.lineno}: "
    return ""


_add_built_in()
