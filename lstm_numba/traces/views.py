"""A trace taken apart: of each layer and direction the values of one sequence, and statistics of all."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.parameters import suffix
from lstm_numba.engines import host_array
from lstm_numba.nn.trace import Trace
from lstm_numba.traces.keeping import Keeping, keeping
from lstm_numba.traces.statistics import Array, Shares, longest_first, shares, time_constants
from lstm_numba.traces.weights import layer_title


class LayerView(NamedTuple):
    """What one layer did in one direction.

    Attributes
    ----------
    key : str
        PyTorch's suffix without its underscore: "l0", "l1_reverse".
    title : str
        "layer 1", "layer 2, reverse".
    values : dict of ndarray (T, H)
        Gates, candidates and states of the first sequence, by name. A projected h has fewer units.
    roles : dict of str
        What each of them is: "gate", which is within 0 and 1, "candidate", "state" or "value".
    shares : dict of Shares
        Of each gate, over all steps of all sequences.
    kept : Keeping or None
        What decides how much is kept.
    constants : ndarray (H,) or None
        Time constants in steps, where there is such a gate.
    """

    key: str
    title: str
    values: dict[str, Array]
    roles: dict[str, str]
    shares: dict[str, Shares]
    kept: Keeping | None
    constants: Array | None

    @property
    def order(self) -> Array:
        """The units, those first that remember longest; as they are numbered where that is not known."""
        if self.constants is None:
            return np.arange(next(iter(self.values.values())).shape[1])
        return longest_first(self.constants)


def layer_views(trace: Trace, zoneout: Any = 0.0, shown: int | None = None) -> list[LayerView]:
    """The layers and directions of a trace, from the first layer on.

    Parameters
    ----------
    trace : Trace
    zoneout : float or tuple of float
        The layer's.
    shown : int, optional
        Most steps of the first sequence that are wanted.
    """
    kept, lengths, candidate = keeping(trace.cell), trace.lengths, trace.cell.definition.candidate
    rest = zoneout_of(trace, zoneout, kept)
    roles = {name: "candidate" if name == candidate else "value" for name in trace.names}
    roles |= dict.fromkeys(trace.states, "state") | dict.fromkeys(trace.gates, "gate")
    views = []
    for layer in range(trace.layers):
        for direction in range(trace.directions):
            arrays = {name: host_array(array) for name, array in trace.of(layer, direction).items()}
            if trace.batch_first:
                arrays = {name: array.swapaxes(0, 1) for name, array in arrays.items()}
            constants = None
            if kept is not None:
                constants = time_constants(arrays[kept.gate], lengths, inverted=kept.inverted, zoneout=rest)
            views.append(
                LayerView(
                    suffix(layer, direction)[1:],
                    layer_title(layer, direction),
                    {name: first_sequence(array, lengths)[:shown] for name, array in arrays.items()},
                    roles,
                    {name: shares(arrays[name], lengths) for name in trace.gates},
                    kept,
                    constants,
                )
            )
    return views


def first_sequence(values: Array, lengths: Array | None) -> Array:
    """The first of some sequences (T, B, ...), without what is beyond its end."""
    return values[: len(values) if lengths is None else int(lengths[0]), 0]


def zoneout_of(trace: Trace, zoneout: Any, kept: Keeping | None) -> float:
    """Probability that a step leaves the state alone whose gate that is."""
    if kept is None or not isinstance(zoneout, (tuple, list)):
        return 0.0 if kept is None else float(zoneout)
    return float(zoneout[trace.states.index(kept.state)])
