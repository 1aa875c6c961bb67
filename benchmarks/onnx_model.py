"""An ONNX model of one recurrent layer, written without the package ``onnx``.

ONNX files are protocol buffers: fields, each a number, a kind (whole number or bytes) and a value. The field
numbers are those of ``onnx.proto3`` (github.com/onnx/onnx), the operators those of operator set 14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

_OPERATOR_SET = 14
_IR_VERSION = 8
_FLOAT, _INT_ATTRIBUTE, _STRINGS_ATTRIBUTE = 1, 2, 8


class Node(NamedTuple):
    """A cell as an ONNX operator: which of our gates and peepholes stand where, and attributes."""

    operator: str
    gates: tuple[int, ...]
    attributes: Mapping[str, int | list[str]] = MappingProxyType({})
    peepholes: tuple[int, ...] = ()


_LSTM = Node("LSTM", (0, 3, 1, 2))  # i f g o -> i o f c
_GRU = Node("GRU", (1, 0, 2))  # r z n -> z r h
_RNN = Node("RNN", (0,))
#: Cell -> operator.
NODES = {
    "lstm": _LSTM,
    "peephole": _LSTM._replace(peepholes=(0, 2, 1)),  # i f o -> i o f
    "gru": _GRU._replace(attributes={"linear_before_reset": 1}),
    "gru-reset-before": _GRU,
    "rnn": _RNN,
    "rnn-relu": _RNN._replace(attributes={"activations": ["Relu"]}),
}


def _number(value: int) -> bytes:
    """A whole number in groups of seven bits, the lowest first."""
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a message."""
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    content = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | 2) + _number(len(content)) + content


def _fields(number: int, values: Sequence[int | str | bytes]) -> bytes:
    return b"".join(_field(number, value) for value in values)


def _tensor(name: str, array: Array) -> bytes:
    raw = np.ascontiguousarray(array, "<f4").tobytes()
    return _fields(1, array.shape) + _field(2, _FLOAT) + _field(8, name) + _field(9, raw)


def _attribute(name: str, value: int | list[str]) -> bytes:
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, _INT_ATTRIBUTE)
    return _field(1, name) + _fields(9, value) + _field(20, _STRINGS_ATTRIBUTE)


def _value(name: str, dimensions: Sequence[int | str]) -> bytes:
    """Name, type and shape of an input or output; a dimension may be a name."""
    sizes = [_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in dimensions]
    tensor = _field(1, _FLOAT) + _field(2, b"".join(sizes))
    return _field(1, name) + _field(2, _field(1, tensor))


def recurrent_model(cell: str, params: Mapping[str, Array], states: Sequence[str]) -> bytes:
    """Write a layer as an ONNX model.

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
    node = NODES[cell]
    hidden, inputs = params["weight_hh_l0"].shape[1], params["weight_ih_l0"].shape[1]

    def reordered(name: str, order: Sequence[int]) -> Array:
        parts = np.split(params[name], len(order))
        return np.concatenate([parts[number] for number in order])

    w, r, b_ih, b_hh = (
        reordered(name + "_l0", node.gates) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    tensors = {"W": w, "R": r, "B": np.concatenate([b_ih, b_hh])}
    initial = [f"{name}0" for name in states]
    # Operators know their inputs by position; an empty name leaves one out, here the sequences' lengths.
    names = ["x", "W", "R", "B", "", *initial]
    if node.peepholes:
        tensors["P"] = reordered("weight_ph_l0", node.peepholes)
        names.append("P")
    attributes = {"hidden_size": hidden, **node.attributes}
    layer = _fields(1, names) + _fields(2, ["y", *states]) + _field(4, node.operator)
    layer += _fields(5, [_attribute(name, value) for name, value in attributes.items()])
    state_size: list[int | str] = [1, "batch", hidden]
    graph = _field(1, layer) + _field(2, cell)
    graph += _fields(5, [_tensor(name, array[None]) for name, array in tensors.items()])
    graph += _field(11, _value("x", ["steps", "batch", inputs]))
    graph += _fields(11, [_value(name, state_size) for name in initial])
    graph += _field(12, _value("y", ["steps", 1, "batch", hidden]))
    graph += _fields(12, [_value(name, state_size) for name in states])
    operators = _field(1, "") + _field(2, _OPERATOR_SET)
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, operators)
