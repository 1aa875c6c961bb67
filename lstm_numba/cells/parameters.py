"""The shapes of a cell's parameters."""

from __future__ import annotations

from typing import Any


def parameter_shape(cell: Any, name: str, inputs: int, hidden: int) -> tuple[int, ...]:
    """Shape of a parameter of one layer and direction, by its name without suffix (`weight_ih` and so on)."""
    rows = len(cell.gates) * hidden
    shapes = {
        "weight_ih": (rows, inputs),
        "weight_hh": (rows, hidden),
        "weight_ph": (len(cell.peepholes) * hidden,),
    }
    return shapes.get(name, (rows,))


def check_shapes(cell: Any, params: dict[str, Any], inputs: int, hidden: int) -> None:
    """Raise a ValueError that names the first parameter of a layer and direction with another shape."""
    for name, array in params.items():
        expected = parameter_shape(cell, name, inputs, hidden)
        if array.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")
