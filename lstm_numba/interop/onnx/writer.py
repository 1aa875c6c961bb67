"""Encodes ONNX models as protocol buffers, without the package ``onnx``.

Field numbers are those of ``onnx.proto3`` (github.com/onnx/onnx); each function returns an encoded message.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Attribute = int | float | str | list[int] | list[float] | list[str]

#: What models say that they are made by.
PRODUCER = "lstm_numba"
OPERATOR_SET = 14
_IR_VERSION = 8
#: Element type -> its number in `onnx.TensorProto.DataType`.
ELEMENTS = {"float32": 1, "int32": 6, "int64": 7, "float64": 11}
#: Type of an attribute's value -> field of one and of several values, AttributeType of one and of several.
_ATTRIBUTES: dict[type, tuple[int, int, int, int]] = {
    float: (2, 7, 1, 6),
    int: (3, 8, 2, 7),
    str: (4, 9, 3, 8),
}


def _varint(value: int) -> bytes:
    """An integer in groups of seven bits, the lowest first; a negative one as two's complement of 64 bits."""
    groups = bytearray()
    value &= (1 << 64) - 1
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """One field of a message: key, for bytes the length, and value."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def fields(number: int, values: Sequence[Any]) -> bytes:
    """A repeated field."""
    return b"".join(field(number, value) for value in values)


def tensor(name: str, array: Array) -> bytes:
    """A ``TensorProto``: a constant."""
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
    """A ``NodeProto``: an operator; inputs are positional, an empty name omits one."""
    head = fields(1, inputs) + fields(2, outputs) + field(4, operator)
    return head + fields(5, [_attribute(name, value) for name, value in attributes.items()])


def value(name: str, element: str, dimensions: Sequence[int | str]) -> bytes:
    """A ``ValueInfoProto``: name, type and shape of an input or output; a dimension may be a name."""
    sizes = [field(1, field(1 if isinstance(size, int) else 2, size)) for size in dimensions]
    kind = field(1, ELEMENTS[element]) + field(2, b"".join(sizes))
    return field(1, name) + field(2, field(1, kind))


class Graph:
    """A model in the making: nodes and constants, in the order in which they are added.

    Attributes
    ----------
    parameters : int
        Numbers among the constants that are trained.
    """

    def __init__(self) -> None:
        self.parameters = 0
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []

    def add(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Attribute
    ) -> None:
        """Add a node, after those that it reads."""
        self._nodes.append(node(operator, inputs, outputs, attributes))

    def constant(self, name: str, array: Array, *, trained: bool = False) -> str:
        """Add a constant and return its name."""
        self._tensors.append(tensor(name, array))
        self.parameters += array.size if trained else 0
        return name

    def encode(
        self,
        name: str,
        inputs: Sequence[bytes],
        outputs: Sequence[bytes],
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """The content of a file: a ``ModelProto``.

        Parameters
        ----------
        name : str
            Of the graph.
        inputs, outputs : sequence of bytes
            From `value`.
        metadata : mapping of str to str, optional
            What runtimes pass on and do not look at.
        """
        graph = fields(1, self._nodes) + field(2, name) + fields(5, self._tensors)
        graph += fields(11, inputs) + fields(12, outputs)
        operators = field(1, "") + field(2, OPERATOR_SET)
        content = field(1, _IR_VERSION) + field(2, PRODUCER) + field(7, graph) + field(8, operators)
        entries = [field(1, key) + field(2, text) for key, text in (metadata or {}).items()]
        return content + fields(14, entries)
