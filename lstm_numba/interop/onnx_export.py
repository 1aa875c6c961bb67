"""Layers as ONNX models: one LSTM, GRU or RNN node per layer, joined by data movement nodes.

Operators of operator set 14 (github.com/onnx/onnx, docs/Operators.md); the package ``onnx`` is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.onnx_variants import VARIED, Activation, read
from lstm_numba.cells.parameters import suffix
from lstm_numba.data.file_io import atomic_write
from lstm_numba.errors import WeightsError
from lstm_numba.interop import onnx_writer
from lstm_numba.interop.state_dict import cell_name, reorder_gates

Array = np.ndarray[Any, Any]

_OPERATOR_SET = 14
_IR_VERSION = 8


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


def _layer(
    node: Node, directions: Sequence[Mapping[str, Array]], names: Mapping[str, str], prefix: str
) -> tuple[bytes, list[bytes]]:
    """The node of a layer and its constants, encoded.

    Parameters
    ----------
    node : Node
    directions : sequence of mapping
        Parameters of each direction, without suffix.
    names : mapping
        Names of the tensors x, h, c, lengths (inputs; empty: omitted) and y, h', c' (outputs).
    prefix : str
        Prefix of the constants' names.
    """

    def both(name: str, order: Sequence[int]) -> Array:
        return np.stack([reorder_gates(params[name], order) for params in directions])

    constants = {"W": both("weight_ih", node.gates), "R": both("weight_hh", node.gates)}
    if "bias_ih" in directions[0]:
        constants["B"] = np.concatenate([both(b, node.gates) for b in ("bias_ih", "bias_hh")], axis=1)
    if node.peepholes:
        constants["P"] = both("weight_ph", node.peepholes)
    constant_names = {key: prefix + key for key in constants}
    states = [s for s in ("h", "c") if s in names]
    weights = [constant_names.get(key, "") for key in ("W", "R", "B")]
    inputs = [names["x"], *weights, names["lengths"], *(names[s] for s in states)]
    if "P" in constant_names:
        inputs.append(constant_names["P"])
    while not inputs[-1]:
        inputs.pop()
    attributes: dict[str, onnx_writer.Attribute] = {"hidden_size": directions[0]["weight_hh"].shape[1]}
    if len(directions) == 2:
        attributes["direction"] = "bidirectional"
    if node.reset_after is not None:
        attributes["linear_before_reset"] = node.reset_after
    if node.functions:
        functions = node.functions * len(directions)
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
    outputs = [names["y"], *(names[s + "'"] for s in states)]
    encoded = onnx_writer.node(node.operator, inputs, outputs, attributes)
    return encoded, [onnx_writer.tensor(constant_names[key], array) for key, array in constants.items()]


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
    operator = node_of(cell)
    assert operator is not None
    node, constants = _layer(operator, [params], names, "")
    state_size: list[int | str] = [1, "batch", hidden]
    inputs = [onnx_writer.value("x", element, ["steps", "batch", params["weight_ih"].shape[1]])]
    inputs += [onnx_writer.value(f"{state}0", element, state_size) for state in states]
    outputs = [onnx_writer.value("y", element, ["steps", 1, "batch", hidden])]
    outputs += [onnx_writer.value(state, element, state_size) for state in states]
    return onnx_writer.model(cell, [node], constants, inputs, outputs, _OPERATOR_SET, _IR_VERSION)


def save_onnx(
    rnn: Any, path: str | os.PathLike[str], *, initial_state: bool = True, lengths: bool = False
) -> None:
    """Write a layer as an ONNX model that computes the same as a call of the layer.

    Inputs are ``x`` (T, B, I), or (B, T, I) with `batch_first`; with `initial_state` ``h0`` (and ``c0``)
    (num_layers*D, B, H); with `lengths` int32 ``lengths`` (B,). Outputs are ``y`` (T, B, D*H), or
    (B, T, D*H), and the final ``h`` (and ``c``). T and B are dynamic. Dropout is omitted, as in inference.

    Parameters
    ----------
    rnn : Recurrent
        ONNX Runtime (1.31) runs float32 models only.
    path : path
        ``.onnx``; an existing file is replaced atomically.
    initial_state : bool
        Whether the model takes an initial state; else it is zero.
    lengths : bool
        Whether the model takes the sequences' lengths.

    Raises
    ------
    WeightsError
        ONNX has no operator for the cell, or the file has another suffix.
    OSError
        The file cannot be written.
    """
    name, path = cell_name(rnn), Path(path)
    node = node_of(name)
    if node is None:
        raise WeightsError(f"rnn: ONNX has no operator for the cell {name}")
    if path.suffix != ".onnx":
        raise WeightsError(f"{path}: expected a name that ends in .onnx")
    atomic_write(path, _stack(rnn, name, node, initial_state, lengths))


def _stack(rnn: Any, name: str, operator: Node, initial_state: bool, lengths: bool) -> bytes:
    """All layers: initial states are split, final ones concatenated, and directions joined between layers."""
    states, count, directions = rnn.cell.states, rnn.num_layers, rnn.directions
    params = rnn.state_dict()
    nodes: list[bytes] = []
    constants: list[bytes] = []

    def move(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        nodes.append(onnx_writer.node(operator, inputs, outputs, attributes))

    # 0 means to Reshape: copy this size from the input.
    constants.append(onnx_writer.tensor("joined", np.array([0, 0, directions * rnn.hidden_size], np.int64)))
    if initial_state and count > 1:
        for s in states:
            move("Split", [f"{s}0"], [f"{s}0_{k}" for k in range(count)], axis=0)
    x = "x"
    if rnn.batch_first:
        x = "x_time_first"
        move("Transpose", ["x"], [x], perm=[1, 0, 2])
    for k in range(count):
        ends = [suffix(k, direction) for direction in range(directions)]
        layer_params = [{n.removesuffix(e): p for n, p in params.items() if n.endswith(e)} for e in ends]
        names = {"x": x, "y": f"y_{k}", "lengths": "lengths" if lengths else ""}
        for s in states:
            names[s] = (f"{s}0_{k}" if count > 1 else f"{s}0") if initial_state else ""
            names[s + "'"] = f"{s}_{k}" if count > 1 else s
        node, weights = _layer(operator, layer_params, names, f"l{k}.")
        nodes.append(node)
        constants += weights
        # (T, D, B, H) -> (T, B, D, H) -> (T, B, D*H); the last layer with batch_first to (B, T, D*H).
        last = k == count - 1
        batch_first = last and rnn.batch_first
        move("Transpose", [f"y_{k}"], [f"t_{k}"], perm=[2, 0, 1, 3] if batch_first else [0, 2, 1, 3])
        x = "y" if last else f"x_{k + 1}"
        move("Reshape", [f"t_{k}", "joined"], [x])
    if count > 1:
        for s in states:
            move("Concat", [f"{s}_{k}" for k in range(count)], [s], axis=0)
    return _finish(rnn, name, nodes, constants, initial_state, lengths)


def _finish(
    rnn: Any, name: str, nodes: list[bytes], constants: list[bytes], initial_state: bool, lengths: bool
) -> bytes:
    """The whole model, with the types of inputs and outputs."""
    element = rnn.dtype.name
    time: list[int | str] = ["batch", "steps"] if rnn.batch_first else ["steps", "batch"]
    size: list[int | str] = [rnn.num_layers * rnn.directions, "batch", rnn.hidden_size]
    inputs = [onnx_writer.value("x", element, [*time, rnn.input_size])]
    if initial_state:
        inputs += [onnx_writer.value(f"{s}0", element, size) for s in rnn.cell.states]
    if lengths:
        inputs.append(onnx_writer.value("lengths", "int32", ["batch"]))
    outputs = [onnx_writer.value("y", element, [*time, rnn.directions * rnn.hidden_size])]
    outputs += [onnx_writer.value(s, element, size) for s in rnn.cell.states]
    return onnx_writer.model(name, nodes, constants, inputs, outputs, _OPERATOR_SET, _IR_VERSION)
