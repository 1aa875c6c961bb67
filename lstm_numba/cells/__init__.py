"""Recurrent cells: each file holds one cell's equations, forward and backward, with their source.

What equations are written with is here too: `sigmoid`, `tanh`, `relu`, `positive`, `Stage`.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.activations import positive, relu, sigmoid, tanh
from lstm_numba.cells.gru import GRUCell, GRUResetBeforeCell
from lstm_numba.cells.lstm import LSTMCell
from lstm_numba.cells.peephole_lstm import PeepholeLSTMCell
from lstm_numba.cells.protocol import Stage
from lstm_numba.cells.rnn import ReluRNNCell, RNNCell

#: Every cell by the name that the command line and `lstm_numba.nn.recurrent.make_layer` know it by. Those of
#: `lstm_numba.register_cell` come to it as ``module:Class``, variants where they are asked for.
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
        from lstm_numba.cells.onnx_variants import variant_cell

        try:
            CELLS[name] = variant_cell(name)
        except ValueError as error:
            raise ValueError(f"name: {name!r}: {error}") from None
    if name in CELLS:
        return CELLS[name]
    hint = "; a cell of your own must be registered first: import its module" if ":" in name else ""
    raise ValueError(f"name: expected one of {', '.join(CELLS)}, got {name!r}{hint}")


def title(cell: Any) -> str:
    """The name of a cell's class, as its author wrote it."""
    return getattr(cell, "title", type(cell).__name__)


__all__ = [
    "BUILT_IN",
    "CELLS",
    "GRUCell",
    "GRUResetBeforeCell",
    "LSTMCell",
    "PeepholeLSTMCell",
    "RNNCell",
    "ReluRNNCell",
    "Stage",
    "find_cell",
    "positive",
    "relu",
    "sigmoid",
    "tanh",
    "title",
]
