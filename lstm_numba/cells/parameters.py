"""Names and shapes of a layer's parameters, as in PyTorch."""

from __future__ import annotations

from typing import Any


def suffix(layer: int, direction: int) -> str:
    """End of the names of a layer and direction: ``_l0``, ``_l0_reverse``."""
    return f"_l{layer}" + ("_reverse" if direction else "")


def parameter_names(cell: Any, bias: bool) -> list[str]:
    """Names of the parameters of one layer and direction, without suffix."""
    names = ["weight_ih", "weight_hh"]
    names += ["bias_ih", "bias_hh"] if bias else []
    return names + (["weight_ph"] if cell.peepholes else [])


def parameter_shape(cell: Any, name: str, inputs: int, hidden: int) -> tuple[int, ...]:
    """Shape of a parameter of one layer and direction, by its name without suffix."""
    rows, recurrent = len(cell.gates) * hidden, len(cell.recurrent_gates) * hidden
    shapes: dict[str, tuple[int, ...]] = {
        "weight_ih": (rows, inputs),
        "weight_hh": (recurrent, hidden),
        "bias_ih": (rows,),
        "bias_hh": (recurrent,),
        "weight_ph": (len(cell.peepholes) * hidden,),
    }
    return shapes[name]


def stack_shapes(
    cell: Any, inputs: int, hidden: int, layers: int, directions: int, bias: bool
) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters of stacked layers, by name; those of a layer and direction are neighbours."""
    return {
        name + suffix(layer, direction): parameter_shape(
            cell, name, hidden * directions if layer else inputs, hidden
        )
        for layer in range(layers)
        for direction in range(directions)
        for name in parameter_names(cell, bias)
    }


def check_shapes(cell: Any, params: dict[str, Any], inputs: int, hidden: int) -> None:
    """Raise a ValueError that names the first parameter of a layer and direction with another shape."""
    for name, array in params.items():
        expected = parameter_shape(cell, name, inputs, hidden)
        if array.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")
