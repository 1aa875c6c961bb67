"""What a layer did at every step: its gates, candidates and states by name."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from lstm_numba.cells.parameters import suffix
from lstm_numba.cells.registration import defined_cell
from lstm_numba.engines.base import Steps
from lstm_numba.nn.notebook import InNotebooks
from lstm_numba.nn.tape import Array, Tape
from lstm_numba.wording import nearest


class Trace(dict[str, Any], InNotebooks):
    """Arrays (T, B, H) by name and layer, such as ``f_l0``, in the reverse direction ``f_l0_reverse``.

    They are read-only where they are NumPy arrays, and zero beyond a sequence's end.

    Parameters
    ----------
    arrays : dict of str to Array
    names, states, gates : tuple of str
    layers, directions : int
    lengths : ndarray of int, shape (B,), or None
    cell : Cell
    batch_first : bool

    Attributes
    ----------
    names : tuple of str
        What is traced of each layer and direction: gates and candidates, in the order in which the cell has
        them, then states.
    states : tuple of str
        Those that are states, after each step; the first is the output h.
    gates : tuple of str
        Those that are within 0 and 1.
    layers, directions : int
    lengths : ndarray of int, shape (B,), or None
        Steps of each sequence, where they differ.
    cell : Cell
        The one that was traced.
    batch_first : bool
        Whether the arrays are (B, T, H).
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        names: tuple[str, ...],
        states: tuple[str, ...],
        gates: tuple[str, ...],
        layers: int,
        directions: int,
        lengths: Any,
        cell: Any,
        batch_first: bool,
    ) -> None:
        super().__init__(arrays)
        self.names, self.states, self.gates = names, states, gates
        self.layers, self.directions, self.lengths = layers, directions, lengths
        self.cell, self.batch_first = cell, batch_first

    def of(self, layer: int = 0, direction: int = 0) -> dict[str, Array]:
        """The arrays of one layer and direction by the names without suffix."""
        return {name: self[name + suffix(layer, direction)] for name in self.names}

    def __missing__(self, name: object) -> Array:
        hint = nearest(str(name), self) or f"; there are {', '.join(self)}"
        raise KeyError(f"{name}{hint}")

    def __repr__(self) -> str:
        shape, axes = next(iter(self.values())).shape, "B, T, H" if self.batch_first else "T, B, H"
        return (
            f"Trace({', '.join(self.names)}; {self.layers} layers, {self.directions} directions, "
            f"each ({axes}) = {tuple(shape)})"
        )


def traced_cell(cell: Any) -> Any:
    """The cell if it keeps what a trace shows, else one of the same equations that keeps this alone."""
    kind: Any = type(cell)  # by which cells are told apart: they are empty tuples, all of them equal
    return cell if -1 not in cell.traced_slots else _keeping(kind)


@functools.cache
def _keeping(kind: Any) -> Any:
    cell = kind()
    definition = cell.definition._replace(keeps_traced=True, backward=None)
    return defined_cell(definition, f"{cell.key}|traced", doc=cell.__doc__)


def trace_of(rnn: Any, tape: Tape, x: Any, lengths: Any) -> Trace:
    """The trace of a forward pass without a backward pass; uses its tape up.

    Parameters
    ----------
    rnn : Recurrent
    tape : Tape
    x, lengths
        The user's.
    """
    engine, found = rnn.engine, dict[str, Array]()
    for layer, saved in enumerate(tape.saved):
        for direction in range(rnn.directions):
            for name, array in rnn._traced(saved, direction, tape.lengths):
                array = engine.swap_time_batch(array) if rnn.batch_first else array
                array = engine.to_user(array, x)
                if type(array) is np.ndarray:
                    array.flags.writeable = False
                found[name + suffix(layer, direction)] = array
    tape.saved = []
    cell = rnn.plain_cell
    ends = None if lengths is None else np.array(lengths)
    names = (*cell.traced, *cell.states)
    sizes = rnn.num_layers, rnn.directions
    return Trace(found, names, cell.states, cell.traced_gates, *sizes, ends, cell, rnn.batch_first)


def side_by_side(engine: Any, parts: list[Array]) -> Array:
    """Arrays (T, B, units) as one with the units of all."""
    if len(parts) == 1:
        return parts[0]
    steps, batch, width = parts[0].shape
    joined = engine.empty((steps, batch, len(parts) * width), parts[0].dtype)
    for n, part in enumerate(parts):
        engine.copy_steps(engine.contiguous(part), 0, joined, n * width, width, Steps(1, 0, 1))
    return joined
