"""Names and shapes of a layer's parameters, as in PyTorch."""

from __future__ import annotations

from typing import Any


def suffix(layer: int, direction: int) -> str:
    """End of the names of a layer and direction: ``_l0``, ``_l0_reverse``."""
    return f"_l{layer}" + ("_reverse" if direction else "")


def parameter_names(cell: Any, bias: bool) -> list[str]:
    """Names of the parameters of one layer and direction, without suffix."""
    names = ["weight_ih", "weight_hh"]
    names += ["bias_ih", "bias_hh"] if bias and cell.biased else []
    names += ["weight_ph"] if cell.peepholes else []
    return names + ([second_weight(cell)] if second_weight(cell) else [])


def second_weight(cell: Any) -> str:
    """Name of the weights that the second recurrent product alone has; empty where there are none."""
    names = [stage.weight for stage in cell.stages[1:] if stage.weight != "weight_hh"]
    return names[0] if names else ""


def parameter_shape(
    cell: Any, name: str, inputs: int, hidden: int, projected: int | None = None
) -> tuple[int, ...]:
    """Shape of a parameter of one layer and direction, by its name without suffix.

    `projected` is the number of units of the first state, where it is not that of the hidden ones.
    """
    rows, recurrent = len(cell.gates) * hidden, len(cell.recurrent_gates) * hidden
    output = hidden if projected is None else projected
    shapes: dict[str, tuple[int, ...]] = {
        "weight_ih": (rows, inputs),
        "weight_hh": (recurrent, output),
        "bias_ih": (rows,),
        "bias_hh": (recurrent,),
        "weight_ph": (len(cell.peepholes) * hidden,),
    }
    if name == second_weight(cell):
        return (len(cell.stages[1].gates) * (output if cell.projected else hidden), hidden)
    return shapes[name]


def stack_shapes(
    cell: Any,
    inputs: int,
    hidden: int,
    layers: int,
    directions: int,
    bias: bool,
    heads: int = 1,
    projected: int | None = None,
) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters of stacked layers, by name; those of a layer and direction are neighbours.

    With several heads the rows are ordered by head, then by gate.
    """
    found: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for direction in range(directions):
            for name in parameter_names(cell, bias):
                width = (projected or hidden) * directions if layer else inputs
                rows, *rest = parameter_shape(cell, name, width, hidden // heads, projected)
                found[name + suffix(layer, direction)] = (heads * rows, *rest)
    return found


def check_shapes(
    cell: Any,
    params: dict[str, Any],
    inputs: int,
    hidden: int,
    projected: int | None = None,
    lead: tuple[int, ...] = (),
) -> None:
    """Raise a ValueError that names the first parameter of a layer and direction with another shape.

    `lead` is the axis of models, if there is one.
    """
    for name, array in params.items():
        expected = (*lead, *parameter_shape(cell, name, inputs, hidden, projected))
        if array.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")
