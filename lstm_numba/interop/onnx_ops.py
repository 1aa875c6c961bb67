"""What stands between the recurrent nodes of an ONNX model, followed number by number.

Nodes such as Transpose and Reshape only move numbers. So each tensor that the model is given, or that a
recurrent node gives, is filled with numbers that occur nowhere else, the nodes are carried out in NumPy, and
what comes out says exactly what went where. Such numbers are ``uint64``; constants have their own types.
Sizes are computed with, as exporters do where a dimension is free.

Operators: github.com/onnx/onnx, docs/Operators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.errors import WeightsError
from lstm_numba.interop.state_dict import from_bfloat16

Array = npt.NDArray[Any]

MARK = np.uint64
#: Numbers that a model may make us write, all tensors together.
_BUDGET = 1 << 25
#: Element types that are read; bfloat16 (16) comes as the upper half of a float32.
_TYPES = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 16: "<u2"}


def constant(tensor: Any, what: str) -> Array:
    """A tensor stored in the file, checked before it is believed.

    Parameters
    ----------
    tensor : onnx.TensorProto
    what : str
        Its name, for messages.

    Raises
    ------
    WeightsError
        Its content lies elsewhere, is of another kind, or is not as large as its shape says.
    """
    if tensor.data_location or len(tensor.external_data):
        raise WeightsError(f"{what}: lies in another file, which is not read")
    if tensor.data_type not in _TYPES:
        known = tensor.data_type in tensor.DataType.values()
        kind = tensor.DataType.Name(tensor.data_type) if known else tensor.data_type
        raise WeightsError(f"{what}: numbers of ONNX' type {kind} are not read")
    dtype, shape = np.dtype(_TYPES[tensor.data_type]), tuple(tensor.dims)
    if tensor.HasField("raw_data"):
        content = tensor.raw_data
        if len(content) % dtype.itemsize:
            raise WeightsError(f"{what}: {len(content)} bytes are no whole number of {dtype}")
        flat = np.frombuffer(content, dtype)
    else:
        lists = {1: tensor.float_data, 7: tensor.int64_data, 11: tensor.double_data}
        bits = np.dtype("<u2") if tensor.data_type == 10 else dtype  # these two stand as bits among integers
        flat = np.array(lists.get(tensor.data_type, tensor.int32_data)).astype(bits).view(dtype)
    if min(shape, default=0) < 0 or math.prod(shape) != flat.size:
        raise WeightsError(f"{what}: shape {shape} does not fit its {flat.size} numbers")
    flat = from_bfloat16(flat) if tensor.data_type == 16 else flat
    # A layer computes in float32 or float64; float32 holds every float16.
    return flat.reshape(shape).astype(np.float32 if dtype.itemsize == 2 else dtype.newbyteorder("="))


class Marks:
    """Gives out numbers that occur once, and counts what a model makes us write."""

    def __init__(self) -> None:
        self._used = 0

    def spend(self, shape: tuple[int, ...]) -> None:
        """Count an array before it is made.

        Raises
        ------
        WeightsError
            The model wants too much.
        """
        if min(shape, default=0) < 0:
            raise WeightsError(f"a tensor of shape {shape}")
        self._used += math.prod(shape)
        if self._used > _BUDGET:
            raise WeightsError(f"tensors of more than {_BUDGET} numbers, the last of shape {shape}")

    def draw(self, *shape: int) -> Array:
        """An array of new numbers."""
        first = self._used
        self.spend(shape)
        return np.arange(first, self._used, dtype=MARK).reshape(shape)


def attributes_of(node: Any) -> dict[str, Any]:
    """A node's attributes as Python's values."""
    kinds = {
        1: lambda a: a.f,
        2: lambda a: a.i,
        3: lambda a: a.s.decode("utf-8", "replace"),
        4: lambda a: constant(a.t, a.name),
        6: lambda a: list(a.floats),
        7: lambda a: list(a.ints),
        8: lambda a: [s.decode("utf-8", "replace") for s in a.strings],
    }
    found = {}
    for attribute in node.attribute:
        if attribute.type not in kinds:
            raise WeightsError(f"{node.op_type}: attribute {attribute.name} is of a kind that is not read")
        found[attribute.name] = kinds[attribute.type](attribute)
    return found


def _numbers(value: Any) -> list[int]:
    """Sizes or axes: an attribute, or a constant of whole numbers."""
    array = np.asarray(value)
    if array.dtype.kind != "i" or array.ndim > 1:
        raise WeightsError("expected constant whole numbers")
    return [int(n) for n in array.reshape(-1)]


def _squeeze(marks: Marks, x: Array, a: dict[str, Any], axes: Any = None) -> list[Array]:
    axes = a.get("axes", axes)
    return [np.squeeze(x, None if axes is None else tuple(_numbers(axes)))]


def _unsqueeze(marks: Marks, x: Array, a: dict[str, Any], axes: Any = None) -> list[Array]:
    return [np.expand_dims(x, tuple(_numbers(a.get("axes", axes))))]


def _reshape(marks: Marks, x: Array, a: dict[str, Any], shape: Any = None) -> list[Array]:
    sizes = _numbers(a.get("shape", shape))
    if not a.get("allowzero"):
        sizes = [x.shape[n] if size == 0 else size for n, size in enumerate(sizes)]
    return [x.reshape(sizes)]


def _transpose(marks: Marks, x: Array, a: dict[str, Any]) -> list[Array]:
    return [x.transpose(a.get("perm"))]


def _concat(marks: Marks, x: Array, a: dict[str, Any], *more: Any) -> list[Array]:
    if any(other.dtype != x.dtype for other in more):
        raise WeightsError("joins tensors with constants")
    marks.spend((x.size + sum(other.size for other in more),))
    return [np.concatenate((x, *more), a["axis"])]


def _split(marks: Marks, x: Array, a: dict[str, Any], sizes: Any = None) -> list[Array]:
    sizes, axis = a.get("split", sizes), a.get("axis", 0)
    if sizes is None:
        return np.split(x, a["outputs"], axis)
    sizes = _numbers(sizes)
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 0:
        raise WeightsError(f"sizes {sizes} of shape {x.shape}")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _slice(marks: Marks, x: Array, a: dict[str, Any], *given: Any) -> list[Array]:
    starts, ends, axes, steps = (*given, None, None, None, None)[:4]
    starts, ends = (_numbers(a.get(name, v)) for name, v in (("starts", starts), ("ends", ends)))
    axes = a.get("axes", axes)
    axes = range(len(starts)) if axes is None else _numbers(axes)
    strides = [1] * len(starts) if steps is None else _numbers(steps)
    index = [slice(None)] * x.ndim
    for axis, start, end, stride in zip(axes, starts, ends, strides, strict=True):
        if stride < 1:
            raise WeightsError("runs backwards")
        index[axis] = slice(start, end, stride)
    return [x[tuple(index)]]


def _gather(marks: Marks, x: Array, a: dict[str, Any], places: Any) -> list[Array]:
    if places.dtype.kind != "i":
        raise WeightsError("expected constant whole numbers")
    marks.spend((x.size * places.size,))
    return [np.take(x, places, a.get("axis", 0))]


def _fill(marks: Marks, x: Array, a: dict[str, Any]) -> list[Array]:
    shape = _numbers(x)
    marks.spend(tuple(shape))
    return [np.full(shape, np.reshape(a.get("value", np.float32(0)), ()))]


def _expand(marks: Marks, x: Array, a: dict[str, Any], shape: Any) -> list[Array]:
    sizes = np.broadcast_shapes(x.shape, tuple(_numbers(shape)))
    marks.spend(sizes)
    return [np.broadcast_to(x, sizes)]


def _cast(marks: Marks, x: Array, a: dict[str, Any]) -> list[Array]:
    wanted = np.dtype(_TYPES.get(a["to"], "V"))
    if x.dtype.kind not in "ib" or wanted.kind not in "ib":
        raise WeightsError(f"from {x.dtype}: only whole numbers may change their type")
    return [x.astype(wanted.newbyteorder("="))]


def _sizes(function: Callable[..., Any]) -> Callable[..., list[Array]]:
    """Arithmetic of sizes: whole numbers that the file or a shape gives, and truth values, but no marks."""

    def carried(marks: Marks, x: Array, a: dict[str, Any], *more: Any) -> list[Array]:
        if any(value.dtype.kind not in "ib" for value in (x, *more)):
            raise WeightsError("only LSTM, GRU, RNN and nodes that move numbers are read")
        marks.spend(np.broadcast_shapes(x.shape, *(value.shape for value in more)))
        with np.errstate(all="raise"):
            return [np.asarray(function(x, *more))]

    return carried


def _quotient(x: Array, y: Array) -> Array:
    return (x - np.fmod(x, y)) // y  # towards zero, as in C


#: Operator -> what it does to arrays: (marks, first input, attributes, further inputs).
_OPERATORS: Mapping[str, Callable[..., list[Array]]] = {
    "Identity": lambda marks, x, a: [x],
    "Shape": lambda marks, x, a: [np.array(x.shape[a.get("start", 0) : a.get("end")], np.int64)],
    "Constant": lambda marks, a: [np.asarray(a.get("value", a.get("value_ints", a.get("value_int"))))],
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "ConstantOfShape": _fill,
    "Expand": _expand,
    "Cast": _cast,
    "Add": _sizes(np.add),
    "Sub": _sizes(np.subtract),
    "Mul": _sizes(np.multiply),
    "Div": _sizes(_quotient),
    "Neg": _sizes(np.negative),
    "Min": _sizes(np.minimum),
    "Max": _sizes(np.maximum),
    "Equal": _sizes(np.equal),
    "Where": _sizes(np.where),
}


def carry_out(node: Any, inputs: list[Array | None], marks: Marks) -> list[Array]:
    """Carry out a node that only moves numbers.

    Parameters
    ----------
    node : onnx.NodeProto
    inputs : list of ndarray or None
        None where an input is left out.
    marks : Marks

    Raises
    ------
    WeightsError
        The operator does more, or its inputs do not fit it.
    """
    if node.domain not in ("", "ai.onnx") or node.op_type not in _OPERATORS:
        kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise WeightsError(f"{kind}: only LSTM, GRU, RNN and nodes that move numbers are read")
    attributes = {**attributes_of(node), "outputs": len(node.output)}
    try:
        if node.op_type == "Constant":
            return _OPERATORS["Constant"](marks, attributes)
        first, *more = inputs
        return _OPERATORS[node.op_type](marks, first, attributes, *more)
    except WeightsError as error:
        raise WeightsError(f"{node.op_type}: {error}") from None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
        raise WeightsError(f"{node.op_type}: {' '.join(str(error).split())[:120]}") from None
