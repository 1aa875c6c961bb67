"""What a layer's kernels call by address: compiled apart, listed in one `FunctionTable`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_numba.engines.cpu.checksum import checksum_address
from lstm_numba.engines.cpu.function_pointers import once
from lstm_numba.engines.cpu.gemm import product_task
from lstm_numba.engines.cpu.microkernel import tile_address
from lstm_numba.engines.cpu.panel_packing import BACK_VECTORS, gates_address, transposed_address
from lstm_numba.engines.cpu.records import FunctionTable

Array = np.ndarray[Any, Any]


def compiled_functions(cell: Any, dtype: Any, training: bool = True) -> Array:
    """Addresses of the functions that kernels of a cell and dtype call, compiled at the first call.

    Parameters
    ----------
    cell : Cell
    dtype : numpy.dtype
    training : bool
        With those that only the backward pass needs; else zeros in their fields.

    Returns
    -------
    ndarray of int64, 1-D
        The `FunctionTable`; is kept for as long as the process lives.
    """
    kind: Any = type(cell)  # cells are empty tuples, all of them equal
    functions: Array = _functions(kind, dtype, training)
    return functions


@once
def _functions(cell: Any, dtype: Any, training: bool) -> Array:
    widths = [len(cell.input_gates), *(len(stage.gates) for stage in cell.stages)]
    if len(cell.stages) == 1:
        widths.append(1)  # of the second stage that there is not
    widths += [max(1, len(cell.slots) - len(cell.input_gates)), BACK_VECTORS, 1]
    addresses = [tile_address(width, dtype) for width in widths]
    back = (product_task(dtype), transposed_address(dtype)) if training else (0, 0)
    table = FunctionTable._make([*addresses, gates_address(dtype), checksum_address(), *back])
    return np.array(table, np.int64)
