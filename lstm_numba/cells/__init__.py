"""Recurrent cells: one file per cell with its forward equations and their source.

Also exports what equations are written with: `Phase`, `Product`, and the functions of
`lstm_numba.cells.functions`.
"""

from lstm_numba.cells.definition import Phase, Product
from lstm_numba.cells.functions import (
    absolute,
    atan,
    cos,
    cosh,
    erf,
    exp,
    expm1,
    log,
    log1p,
    log2,
    maximum,
    minimum,
    positive,
    relu,
    rsqrt,
    sigmoid,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)
from lstm_numba.cells.protocol import display_name
from lstm_numba.cells.registry import (
    BUILT_IN,
    CELLS,
    GROUPED,
    STANDARD,
    add_cell,
    canonical_name,
    find_cell,
    load_cell,
)

__all__ = [
    "BUILT_IN",
    "CELLS",
    "GROUPED",
    "STANDARD",
    "Phase",
    "Product",
    "absolute",
    "add_cell",
    "atan",
    "canonical_name",
    "cos",
    "cosh",
    "display_name",
    "erf",
    "exp",
    "expm1",
    "find_cell",
    "load_cell",
    "log",
    "log1p",
    "log2",
    "maximum",
    "minimum",
    "positive",
    "relu",
    "rsqrt",
    "sigmoid",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
]
