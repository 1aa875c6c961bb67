"""ONNX' messages, written without the package ``onnx``.

ONNX files are protocol buffers: fields, each a number, a kind (whole number, float32 or bytes) and a value.
The field numbers are those of ``onnx.proto3`` (github.com/onnx/onnx).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Attribute = int | float | str | list[int] | list[float] | list[str]

#: The number of an element type, as `onnx.TensorProto.DataType` counts.
ELEMENTS = {"float32": 1, "int32": 6, "int64": 7, "float64": 11}
#: Type of an attribute's value -> the field that holds one, that holds several, and how each is declared.
_ATTRIBUTES: dict[type, tuple[int, int, int, int]] = {
    float: (2, 7, 1, 6),
    int: (3, 8, 2, 7),
    str: (4, 9, 3, 8),
}


def _number(value: int) -> bytes:
    """A whole number in groups of seven bits, the lowest first."""
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """One field of a message."""
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    if isinstance(value, float):
        return _number(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | 2) + _number(len(content)) + content


def fields(number: int, values: Sequence[Any]) -> bytes:
    """A repeated field."""
    return b"".join(field(number, value) for value in values)


def tensor(name: str, array: Array) -> bytes:
    """A constant."""
    raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    element = ELEMENTS[array.dtype.name]
    return fields(1, array.shape) + field(2, element) + field(8, name) + field(9, raw)


def _attribute(name: str, value: Attribute) -> bytes:
    several = isinstance(value, list)
    single, repeated, kind, kinds = _ATTRIBUTES[type(value[0] if several else value)]  # type: ignore[index]
    held = fields(repeated, value) if isinstance(value, list) else field(single, value)
    return field(1, name) + held + field(20, kinds if several else kind)


def node(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, Attribute]
) -> bytes:
    """An operator; an empty name leaves an input out, which are known by position."""
    head = fields(1, inputs) + fields(2, outputs) + field(4, operator)
    return head + fields(5, [_attribute(name, value) for name, value in attributes.items()])


def value(name: str, element: str, dimensions: Sequence[int | str]) -> bytes:
    """Name, type and shape of an input or output; a dimension may be a name."""
    sizes = [field(1, field(1 if isinstance(size, int) else 2, size)) for size in dimensions]
    kind = field(1, ELEMENTS[element]) + field(2, b"".join(sizes))
    return field(1, name) + field(2, field(1, kind))


def model(
    name: str,
    nodes: Sequence[bytes],
    tensors: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    operator_set: int,
    ir_version: int,
) -> bytes:
    """A whole file."""
    graph = fields(1, nodes) + field(2, name) + fields(5, tensors) + fields(11, inputs) + fields(12, outputs)
    operators = field(1, "") + field(2, operator_set)
    return field(1, ir_version) + field(2, "lstm_numba") + field(7, graph) + field(8, operators)
