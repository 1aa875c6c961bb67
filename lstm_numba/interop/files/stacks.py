"""Recurrent layers of other libraries as stacks of layers here, under PyTorch's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lstm_numba.cells.parameters import suffix
from lstm_numba.interop.files.contents import Array


class Single(NamedTuple):
    """A recurrent layer of a file.

    Parameters
    ----------
    name : str
    cell : str
    directions : sequence of dict of str to ndarray
        Parameters of each direction under PyTorch's names, without suffix.
    after : str
        Name of the recurrent layer of which it sees every output and nothing else, and which nothing else
        sees; empty if there is none.
    """

    name: str
    cell: str
    directions: Sequence[dict[str, Array]]
    after: str = ""


class Stacks(NamedTuple):
    """Layers under PyTorch's names, their cells by prefix, and notes."""

    tensors: dict[str, Array]
    cells: dict[str, str]
    notes: list[str]


def stack(layers: Sequence[Single]) -> Stacks:
    """Join layers that follow each other and fit: same cell, units, directions and biases."""
    stacks: dict[str, list[Single]] = {}
    tops: dict[str, str] = {}  # a stack's last layer -> the stack
    for layer in layers:
        below = tops.get(layer.after) if layer.after else None
        if below is not None and _fits(stacks[below][-1], layer):
            stacks[below].append(layer)
            del tops[layer.after]
        else:
            below = layer.name
            stacks[below] = [layer]
        tops[layer.name] = below
    found = Stacks({}, {}, [])
    for name, members in stacks.items():
        found.cells[f"{name}."] = members[0].cell
        for number, member in enumerate(members):
            for direction, params in enumerate(member.directions):
                for key, array in params.items():
                    found.tensors[f"{name}.{key}{suffix(number, direction)}"] = array
        if len(members) > 1:
            names = ", ".join(member.name for member in members)
            found.notes.append(f"{names}: one stack of {len(members)} layers here, under the name {name}")
    return found


def _fits(below: Single, above: Single) -> bool:
    """Whether one layer can be stacked on another."""
    a, b = below.directions[0], above.directions[0]
    hidden = a["weight_hh"].shape[1]
    return (
        below.cell == above.cell
        and len(below.directions) == len(above.directions)
        and a.keys() == b.keys()
        and a["weight_hh"].shape == b["weight_hh"].shape
        and b["weight_ih"].shape[1] == hidden * len(below.directions)
    )
