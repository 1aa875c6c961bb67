"""Layers as ONNX models: one LSTM, GRU or RNN node per layer, joined by data movement nodes.

Operators of operator set 14 (github.com/onnx/onnx, docs/Operators.md); the package ``onnx`` is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.onnx_variants import VARIED, Activation, read
from lstm_numba.cells.parameters import suffix
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.gates import reorder_gates
from lstm_numba.interop.onnx.writer import Attribute, Graph, value
from lstm_numba.interop.state_dict import cell_name

Array = np.ndarray[Any, Any]


class Node(NamedTuple):
    """A cell as an ONNX operator: for each of its gates and peepholes the index of ours, and attributes.

    `functions` are the activations of one direction, empty for the operator's defaults.
    """

    operator: str
    gates: tuple[int, ...]
    reset_after: int | None = None
    peepholes: tuple[int, ...] = ()
    functions: tuple[Activation, ...] = ()
    clip: float | None = None
    input_forget: bool = False


_LSTM = Node("LSTM", (0, 3, 1, 2))  # i f g o -> i o f c
_GRU = Node("GRU", (1, 0, 2))  # r z n -> z r h
_RNN = Node("RNN", (0,))
#: Cell -> operator.
NODES: Mapping[str, Node] = MappingProxyType(
    {
        "lstm": _LSTM,
        "peephole": _LSTM._replace(peepholes=(0, 2, 1)),  # i f o -> i o f
        "gru": _GRU._replace(reset_after=1),
        "gru-reset-before": _GRU._replace(reset_after=0),
        "rnn": _RNN,
        "rnn-relu": _RNN._replace(functions=(Activation("Relu"),)),
    }
)


def node_of(cell: str) -> Node | None:
    """The operator of a cell; None if ONNX has none."""
    if "," not in cell:
        return NODES.get(cell)
    variant = read(cell)
    default = VARIED[variant.base]
    functions = tuple(function for _, function in variant.functions)
    if all(str(function) == default[letter] for letter, function in variant.functions):
        functions = ()
    return NODES[variant.base]._replace(
        functions=functions, clip=variant.clip, input_forget=variant.input_forget
    )


def needed_node(name: str) -> Node:
    """The operator of a cell.

    Raises
    ------
    WeightsError
        ONNX has none; the message names the cell.
    """
    found = node_of(name)
    if found is None:
        raise WeightsError(f"rnn: ONNX has no operator for the cell {name}")
    return found


def attributes_of_node(node: Node, hidden: int, directions: int) -> dict[str, Attribute]:
    """The attributes of a layer's node."""
    attributes: dict[str, Attribute] = {"hidden_size": hidden}
    if directions == 2:
        attributes["direction"] = "bidirectional"
    if node.reset_after is not None:
        attributes["linear_before_reset"] = node.reset_after
    if node.functions:
        functions = node.functions * directions
        attributes["activations"] = [function.name for function in functions]
        for n, name in enumerate(("activation_alpha", "activation_beta")):
            # One for each function that takes one, in their order.
            numbers = [f.numbers[n] for f in functions if len(f.numbers) > n]
            if numbers:
                attributes[name] = numbers
    if node.clip is not None:
        attributes["clip"] = node.clip
    if node.input_forget:
        attributes["input_forget"] = 1
    return attributes


def packed(node: Node, directions: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The operator's W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) and P (D, 3*H), the last two where there are.

    Parameters
    ----------
    node : Node
    directions : sequence of mapping
        Parameters of each direction, without suffix.
    """

    def both(name: str, order: Sequence[int]) -> Array:
        return np.stack([reorder_gates(params[name], order) for params in directions])

    found = {"W": both("weight_ih", node.gates), "R": both("weight_hh", node.gates)}
    if "bias_ih" in directions[0]:
        found["B"] = np.concatenate([both(b, node.gates) for b in ("bias_ih", "bias_hh")], axis=1)
    if node.peepholes:
        found["P"] = both("weight_ph", node.peepholes)
    return found


def unpacked(node: Node, arrays: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Undo `packed`."""
    gates, peepholes = np.argsort(node.gates), np.argsort(node.peepholes)  # the inverse orders
    found = []
    for d in range(len(arrays["W"])):
        params = {
            "weight_ih": reorder_gates(arrays["W"][d], gates),
            "weight_hh": reorder_gates(arrays["R"][d], gates),
        }
        if "B" in arrays:
            halves = np.split(arrays["B"][d], 2)
            params["bias_ih"], params["bias_hh"] = (reorder_gates(half, gates) for half in halves)
        if "P" in arrays:
            params["weight_ph"] = reorder_gates(arrays["P"][d], peepholes)
        found.append(params)
    return found


def _add_layer(
    graph: Graph, node: Node, directions: Sequence[Mapping[str, Array]], names: Mapping[str, str], prefix: str
) -> None:
    """Add the node of a layer and its constants.

    Parameters
    ----------
    graph : Graph
    node : Node
    directions : sequence of mapping
        Parameters of each direction, without suffix.
    names : mapping
        Names of the tensors x, h, c, lengths (inputs; empty: omitted) and y, h', c' (outputs).
    prefix : str
        Prefix of the constants' names.
    """
    arrays = packed(node, directions)
    constants = {key: graph.constant(prefix + key, array, trained=True) for key, array in arrays.items()}
    states = [s for s in ("h", "c") if s in names]
    weights = [constants.get(key, "") for key in ("W", "R", "B")]
    inputs = [names["x"], *weights, names["lengths"], *(names[s] for s in states)]
    if "P" in constants:
        inputs.append(constants["P"])
    while not inputs[-1]:
        inputs.pop()
    attributes = attributes_of_node(node, directions[0]["weight_hh"].shape[1], len(directions))
    graph.add(node.operator, inputs, [names["y"], *(names[s + "'"] for s in states)], **attributes)


def recurrent_model(cell: str, params: Mapping[str, Array], states: Sequence[str]) -> bytes:
    """Encode one layer and direction as an ONNX model of a single node.

    Parameters
    ----------
    cell : str
        One of `NODES`.
    params : mapping of str to ndarray
        Parameters of one layer under PyTorch's names.
    states : sequence of str
        Names of the cell's states: h, or h and c.

    Returns
    -------
    bytes
        A model with inputs x (T, B, I) and h0, c0 (1, B, H), outputs y (T, 1, B, H) and h, c (1, B, H).
    """
    params = {name.removesuffix("_l0"): array for name, array in params.items()}
    element, hidden = params["weight_hh"].dtype.name, params["weight_hh"].shape[1]
    names = {"x": "x", "y": "y", "lengths": ""}
    for state in states:
        names |= {state: f"{state}0", state + "'": state}
    graph = Graph()
    _add_layer(graph, needed_node(cell), [params], names, "")
    state_size: list[int | str] = [1, "batch", hidden]
    inputs = [value("x", element, ["steps", "batch", params["weight_ih"].shape[1]])]
    inputs += [value(f"{state}0", element, state_size) for state in states]
    outputs = [value("y", element, ["steps", 1, "batch", hidden])]
    outputs += [value(state, element, state_size) for state in states]
    return graph.encode(cell, inputs, outputs)


def encode_layers(rnn: Any, *, initial_state: bool, lengths: bool) -> tuple[bytes, int]:
    """A layer as an ONNX model, and the number of its parameters; see `lstm_numba.save_onnx`."""
    graph = Graph()
    add_layers(graph, rnn, initial_state=initial_state, lengths=lengths)
    given, states = state_values(rnn)
    time: list[int | str] = ["batch", "steps"] if rnn.batch_first else ["steps", "batch"]
    inputs = [value("x", rnn.dtype.name, [*time, rnn.input_size])]
    inputs += given if initial_state else []
    inputs += [lengths_value()] if lengths else []
    outputs = [value("y", rnn.dtype.name, [*time, rnn.directions * rnn.hidden_size]), *states]
    return graph.encode(cell_name(rnn), inputs, outputs), graph.parameters


def state_values(rnn: Any) -> tuple[list[bytes], list[bytes]]:
    """Initial and final states as inputs and outputs of a model."""
    size: list[int | str] = [rnn.num_layers * rnn.directions, "batch", rnn.hidden_size]
    given = [value(f"{s}0", rnn.dtype.name, size) for s in rnn.cell.states]
    return given, [value(s, rnn.dtype.name, size) for s in rnn.cell.states]


def lengths_value() -> bytes:
    """The sequences' lengths as an input of a model."""
    return value("lengths", "int32", ["batch"])


def add_layers(
    graph: Graph,
    rnn: Any,
    *,
    initial_state: bool,
    lengths: bool,
    x: str = "x",
    prefix: str = "",
    sequence: bool = True,
    finals: bool = True,
) -> str:
    """Add all layers: initial states are split, final ones concatenated, directions joined between layers.

    Parameters
    ----------
    graph : Graph
    rnn : Recurrent
    initial_state, lengths : bool
        Whether the layers read ``h0`` (and ``c0``), and ``lengths``.
    x : str
        Tensor that they read.
    prefix : str
        Prefix of the constants' names.
    sequence, finals : bool
        Whether they give ``y``, and ``h`` (and ``c``).

    Returns
    -------
    str
        Name of the last layer's final hidden states (D, B, H).

    Raises
    ------
    WeightsError
        ONNX has no operator for the cell.
    """
    operator = needed_node(cell_name(rnn))
    states, count, params = rnn.cell.states, rnn.num_layers, rnn.state_dict()
    ends = [[suffix(k, direction) for direction in range(rnn.directions)] for k in range(count)]
    if sequence or count > 1:
        # 0 means to Reshape: copy this size from the input.
        graph.constant("joined", np.array([0, 0, rnn.directions * rnn.hidden_size], np.int64))
    if initial_state and count > 1:
        for s in states:
            graph.add("Split", [f"{s}0"], [f"{s}0_{k}" for k in range(count)], axis=0)
    if rnn.batch_first:
        graph.add("Transpose", [x], ["x_time_first"], perm=[1, 0, 2])
        x = "x_time_first"
    for k in range(count):
        last = k == count - 1
        joined = sequence or not last
        names = {"x": x, "y": f"y_{k}" if joined else "", "lengths": "lengths" if lengths else ""}
        for s in states:
            names[s] = (f"{s}0_{k}" if count > 1 else f"{s}0") if initial_state else ""
            names[s + "'"] = f"{s}_{k}" if count > 1 else s
        local = [{n.removesuffix(e): p for n, p in params.items() if n.endswith(e)} for e in ends[k]]
        _add_layer(graph, operator, local, names, f"{prefix}l{k}.")
        if joined:
            # (T, D, B, H) -> (T, B, D, H) -> (T, B, D*H); the last layer with batch_first to (B, T, D*H).
            order = [2, 0, 1, 3] if last and rnn.batch_first else [0, 2, 1, 3]
            graph.add("Transpose", [f"y_{k}"], [f"t_{k}"], perm=order)
            x = "y" if last else f"x_{k + 1}"
            graph.add("Reshape", [f"t_{k}", "joined"], [x])
    if count > 1 and finals:
        for s in states:
            graph.add("Concat", [f"{s}_{k}" for k in range(count)], [s], axis=0)
    return f"h_{count - 1}" if count > 1 else "h"
