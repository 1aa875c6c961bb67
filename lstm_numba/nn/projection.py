"""Which cell a layer with a projected output has."""

from __future__ import annotations

from typing import Any

from lstm_numba.arguments import integer
from lstm_numba.cells import CELLS, display_name


def projected_cell(cell: Any, proj_size: Any, hidden_size: Any) -> Any:
    """The cell of a layer with this `proj_size`, 0 for none.

    Raises
    ------
    ValueError, TypeError
        The cell has no projection, or needs one, or `proj_size` is not below the hidden units.
    """
    if type(proj_size) is int and proj_size == 0 and not cell.projected:
        return cell
    if not cell.projected:
        key = f"{cell.key}-projected"
        if key not in CELLS:
            raise ValueError(f"proj_size: expected 0, {display_name(cell)} has no projection")
        cell = CELLS[key]
    if integer("proj_size", proj_size) >= hidden_size:
        raise ValueError(f"proj_size: expected less than the {hidden_size} hidden units, got {proj_size}")
    return cell
