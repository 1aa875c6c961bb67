"""What the recurrent weights of each gate say before any input: biases, spectral radii, singular values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.parameters import parameter_names, suffix
from lstm_numba.nn.heads import dense
from lstm_numba.traces.statistics import Array


class GateWeights(NamedTuple):
    """A gate of a layer and direction.

    Attributes
    ----------
    layer : str
        "layer 1", "layer 2, reverse".
    gate : str
        A row block of the weights; q of a GRU is the recurrent part of n.
    bias : float or None
        Mean over the units of the biases, of input and recurrent ones together; None if there are none.
    radius : float or None
        Spectral radius of its block of ``weight_hh``; None if that is no square, or not there.
    largest : float or None
        Largest singular value of that block.
    """

    layer: str
    gate: str
    bias: float | None
    radius: float | None
    largest: float | None


def layer_title(layer: int, direction: int) -> str:
    """A layer and direction in words, layers counted from 1."""
    return f"layer {layer + 1}" + (", reverse" if direction else "")


def gate_weights(rnn: Any) -> list[GateWeights]:
    """Statistics of the gates of all layers and directions of a layer.

    Parameters
    ----------
    rnn : Recurrent
    """
    cell, found = rnn.plain_cell, []
    for n in range(rnn.num_layers * rnn.directions):
        place = divmod(n, rnn.directions)
        title, params = layer_title(*place), _parameters(rnn, suffix(*place))
        for gate in dict.fromkeys((*cell.gates, *cell.recurrent_gates)):
            block = _block(params, "weight_hh", cell.recurrent_gates, gate)
            radius = largest = None
            if block is not None:
                largest = float(np.linalg.norm(block, 2))
                if block.shape[0] == block.shape[1]:
                    radius = float(np.abs(np.linalg.eigvals(block)).max())
            found.append(GateWeights(title, gate, _bias(params, cell, gate), radius, largest))
    return found


def _parameters(rnn: Any, end: str) -> dict[str, Array]:
    """The parameters of a layer and direction in the host's memory; of several heads as of one."""
    names = [name for name in parameter_names(rnn.plain_cell, rnn.bias) if name + end in rnn.params]
    found = {name: np.asarray(rnn.engine.download(rnn.params[name + end])) for name in names}
    params: dict[str, Array] = dense(found, rnn.heads)
    return params


def _block(params: dict[str, Array], name: str, gates: tuple[str, ...], gate: str) -> Array | None:
    """The rows of a parameter that are a gate's, in float64."""
    if gate not in gates or name not in params:
        return None
    block: Array = np.split(np.asarray(params[name], np.float64), len(gates))[gates.index(gate)]
    return block


def _bias(params: dict[str, Array], cell: Any, gate: str) -> float | None:
    parts = [
        _block(params, "bias_ih", cell.gates, gate),
        _block(params, "bias_hh", cell.recurrent_gates, gate),
    ]
    known = [float(part.mean()) for part in parts if part is not None]
    return sum(known) if known else None
