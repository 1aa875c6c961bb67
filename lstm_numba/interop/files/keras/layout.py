"""Keras' layout of one recurrent layer and direction, which RTNeural has too, and PyTorch's.

Kernel (I, G*H), recurrent_kernel (H, G*H) and optionally bias (G*H,); with ``GRU(reset_after=True)`` bias is
(2, 3*H), input and recurrent. The order of gates is i f c o (LSTM) or z r h (GRU). Source of layouts and
equations: keras/src/layers/rnn/{lstm,gru,simple_rnn}.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array
from lstm_numba.interop.files.gates import reorder_gates

#: Cell -> for each gate of Keras the index of ours: z r h of r z n; i f c o are i f g o. An order is its
#: own inverse.
ORDER: dict[str, tuple[int, ...]] = {
    "lstm": (0, 1, 2, 3),
    "gru": (1, 0, 2),
    "gru-reset-before": (1, 0, 2),
    "rnn": (0,),
    "rnn-relu": (0,),
}
PARTS = ("kernel", "recurrent_kernel", "bias")


def base_cell(cell: str) -> str:
    """The cell of `ORDER` of which a cell is a variant (`lstm_numba.cells.onnx_variants`), or itself."""
    return cell.partition(",")[0]


def find_cell(arrays: Sequence[Array], cell: str | None, label: str, where: str) -> str:
    """The cell from the numbers of gates and biases, checked against `cell`.

    Raises
    ------
    WeightsError
        The arrays have another number of gates.
    """
    for part, array in zip(PARTS, arrays[:2], strict=False):
        if array.ndim != 2 or 0 in array.shape:
            raise WeightsError(f"{where}: {label}{part}: expected a matrix, got shape {array.shape}")
    hidden, columns = arrays[1].shape
    gates, rest = divmod(columns, hidden)
    two_biases = len(arrays) == 3 and arrays[2].ndim == 2
    by_gates = {
        1: "rnn",
        3: "gru" if two_biases or len(arrays) == 2 else "gru-reset-before",
        4: "lstm",
    }
    wanted = None if cell is None else len(ORDER[base_cell(cell)])
    if rest or gates not in by_gates or wanted not in (None, gates):
        expected = "1, 3 or 4 gates" if cell is None else f"{wanted} gates ({cell})"
        shape = arrays[1].shape
        raise WeightsError(f"{where}: {label}recurrent_kernel: expected {expected}, got shape {shape}")
    return cell or by_gates[gates]


def renamed(arrays: Sequence[Array], cell: str, label: str, where: str) -> dict[str, Array]:
    """One layer and direction under PyTorch's names, without suffix.

    Where Keras has one bias, it is ``bias_ih``, and ``bias_hh`` is zero.

    Raises
    ------
    WeightsError
        A shape does not fit.
    """
    base, columns = base_cell(cell), arrays[1].shape[1]
    order = ORDER[base]
    if arrays[0].shape[1] != columns:
        raise WeightsError(f"{where}: {label}kernel: expected {columns} columns, got shape {arrays[0].shape}")
    params = {
        key: reorder_gates(array.T, order)
        for key, array in zip(("weight_ih", "weight_hh"), arrays[:2], strict=True)
    }
    if len(arrays) == 3:
        bias, shape = arrays[2], (2, columns) if base == "gru" else (columns,)
        if bias.shape != shape:
            raise WeightsError(f"{where}: {label}bias: expected shape {shape} ({cell}), got {bias.shape}")
        pair = bias if base == "gru" else (bias, np.zeros_like(bias))
        params["bias_ih"], params["bias_hh"] = (reorder_gates(b, order) for b in pair)
    return params
