"""Evaluates the nodes between the recurrent nodes of an ONNX model.

Nodes such as Transpose and Reshape only move data. Inputs of the model and outputs of recurrent nodes are
filled with unique markers (``uint64``), the nodes are evaluated in NumPy, and the result shows which element
went where. Constants keep their types. Integer arithmetic on sizes, which exporters use for dynamic
dimensions, is evaluated too.

Operators: github.com/onnx/onnx, docs/Operators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.numbers import from_bfloat16

Array = npt.NDArray[Any]

MARKER = np.uint64
#: Domains of the standard operators.
STANDARD = ("", "ai.onnx")
#: Elements that all tensors of a small model may have together.
_BUDGET = 1 << 25
#: Supported element types; bfloat16 (16) is read as bits.
_TYPES = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 16: "<u2"}


def constant(tensor: Any, what: str) -> Array:
    """A tensor stored in the file, with its size checked.

    Parameters
    ----------
    tensor : onnx.TensorProto
    what : str
        Its name, for messages.

    Raises
    ------
    WeightsError
        It is stored in another file, has an unsupported type, or its size does not match its shape.
    """
    if tensor.data_location or len(tensor.external_data):
        raise WeightsError(f"{what}: is stored in another file, which is not read")
    if tensor.data_type not in _TYPES:
        known = tensor.data_type in tensor.DataType.values()
        kind = tensor.DataType.Name(tensor.data_type) if known else tensor.data_type
        raise WeightsError(f"{what}: numbers of ONNX' type {kind} are not read")
    dtype, shape = np.dtype(_TYPES[tensor.data_type]), tuple(tensor.dims)
    if tensor.HasField("raw_data"):
        content = tensor.raw_data
        if len(content) % dtype.itemsize:
            raise WeightsError(f"{what}: {len(content)} bytes are not a whole number of {dtype}")
        flat = np.frombuffer(content, dtype)
    else:
        lists = {1: tensor.float_data, 7: tensor.int64_data, 11: tensor.double_data}
        bits = (
            np.dtype("<u2") if tensor.data_type == 10 else dtype
        )  # 16-bit floats are stored as bits in int32_data
        flat = np.array(lists.get(tensor.data_type, tensor.int32_data)).astype(bits).view(dtype)
    if min(shape, default=0) < 0 or math.prod(shape) != flat.size:
        raise WeightsError(f"{what}: shape {shape} does not fit its {flat.size} numbers")
    flat = from_bfloat16(flat) if tensor.data_type == 16 else flat
    # A layer computes in float32 or float64; float32 holds every float16.
    return flat.reshape(shape).astype(np.float32 if dtype.itemsize == 2 else dtype.newbyteorder("="))


class Markers:
    """Makes arrays of unique markers and limits the memory that a model may use.

    Parameters
    ----------
    size : int
        The file's, in bytes: more numbers than four times that are too many, but some millions never are.
    """

    def __init__(self, size: int = 0) -> None:
        self._used, self._limit = 0, max(_BUDGET, 4 * size)

    def spend(self, shape: tuple[int, ...]) -> None:
        """Count the elements of an array before it is allocated.

        Raises
        ------
        WeightsError
            The limit is exceeded.
        """
        if min(shape, default=0) < 0:
            raise WeightsError(f"a tensor of shape {shape}")
        self._used += math.prod(shape)
        if self._used > self._limit:
            raise WeightsError(f"tensors of more than {self._limit} numbers, the last of shape {shape}")

    def draw(self, *shape: int) -> Array:
        """An array of new markers."""
        first = self._used
        self.spend(shape)
        return np.arange(first, self._used, dtype=MARKER).reshape(shape)


def attributes_of(node: Any) -> dict[str, Any]:
    """A node's attributes as Python values."""
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
        if attribute.type not in kinds or attribute.ref_attr_name:
            raise WeightsError(f"{node.op_type}: attribute {attribute.name} is of a kind that is not read")
        found[attribute.name] = kinds[attribute.type](attribute)
    return found


def _numbers(value: Any) -> list[int]:
    """Sizes or axes: an attribute, or a constant of integers."""
    array = np.asarray(value)
    if array.dtype.kind != "i" or array.ndim > 1:
        raise WeightsError("expected constant whole numbers")
    return [int(n) for n in array.reshape(-1)]


def _squeeze(markers: Markers, x: Array, a: dict[str, Any], axes: Any = None) -> list[Array]:
    axes = a.get("axes", axes)
    return [np.squeeze(x, None if axes is None else tuple(_numbers(axes)))]


def _unsqueeze(markers: Markers, x: Array, a: dict[str, Any], axes: Any = None) -> list[Array]:
    return [np.expand_dims(x, tuple(_numbers(a.get("axes", axes))))]


def _reshape(markers: Markers, x: Array, a: dict[str, Any], shape: Any = None) -> list[Array]:
    sizes = _numbers(a.get("shape", shape))
    if not a.get("allowzero"):
        sizes = [x.shape[n] if size == 0 else size for n, size in enumerate(sizes)]
    shaped = x.reshape(sizes)
    if not np.may_share_memory(shaped, x):  # a transposed tensor is copied
        markers.spend(shaped.shape)
    return [shaped]


def _transpose(markers: Markers, x: Array, a: dict[str, Any]) -> list[Array]:
    return [x.transpose(a.get("perm"))]


def _concat(markers: Markers, x: Array, a: dict[str, Any], *more: Any) -> list[Array]:
    if any(other.dtype != x.dtype for other in more):
        raise WeightsError("joins tensors with constants")
    markers.spend((x.size + sum(other.size for other in more),))
    return [np.concatenate((x, *more), a["axis"])]


def _split(markers: Markers, x: Array, a: dict[str, Any], sizes: Any = None) -> list[Array]:
    sizes, axis = a.get("split", sizes), a.get("axis", 0)
    if sizes is None:
        return np.split(x, a["outputs"], axis)
    sizes = _numbers(sizes)
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 0:
        raise WeightsError(f"sizes {sizes} of shape {x.shape}")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _slice(markers: Markers, x: Array, a: dict[str, Any], *inputs: Any) -> list[Array]:
    starts, ends, axes, steps = (*inputs, None, None, None, None)[:4]
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


def _gather(markers: Markers, x: Array, a: dict[str, Any], indices: Any) -> list[Array]:
    if indices.dtype.kind != "i":
        raise WeightsError("expected constant whole numbers")
    axis = a.get("axis", 0)
    markers.spend((x.size // max(x.shape[axis], 1), indices.size))
    return [np.take(x, indices, axis)]


def _fill(markers: Markers, x: Array, a: dict[str, Any]) -> list[Array]:
    shape = _numbers(x)
    markers.spend(tuple(shape))
    return [np.full(shape, np.reshape(a.get("value", np.float32(0)), ()))]


def _expand(markers: Markers, x: Array, a: dict[str, Any], shape: Any) -> list[Array]:
    sizes = np.broadcast_shapes(x.shape, tuple(_numbers(shape)))
    markers.spend(sizes)
    return [np.broadcast_to(x, sizes)]


def _cast(markers: Markers, x: Array, a: dict[str, Any]) -> list[Array]:
    target = np.dtype(_TYPES.get(a["to"], "V"))
    floats = x.dtype.kind == target.kind == "f"
    if not floats and (x.dtype.kind not in "ib" or target.kind not in "ib"):
        raise WeightsError(f"from {x.dtype}: only whole numbers may change their type, and floats the size")
    markers.spend(x.shape)
    with np.errstate(over="ignore"):  # infinity, as ONNX has it
        cast = x.astype(target.newbyteorder("="))
    # float16 is kept as float32 here, as in `constant`.
    return [cast.astype(np.float32) if target.itemsize == 2 else cast]


def _sizes(function: Callable[..., Any]) -> Callable[..., list[Array]]:
    """Arithmetic on sizes: on integers and bools from constants or shapes, not on markers."""

    def evaluated(markers: Markers, x: Array, a: dict[str, Any], *more: Any) -> list[Array]:
        if any(value.dtype.kind not in "ib" for value in (x, *more)):
            raise WeightsError("only LSTM, GRU, RNN and nodes that move numbers are read")
        markers.spend(np.broadcast_shapes(x.shape, *(value.shape for value in more)))
        with np.errstate(all="raise"):
            return [np.asarray(function(x, *more))]

    return evaluated


def _constant(markers: Markers, a: dict[str, Any]) -> list[Array]:
    held = {"value": None, "value_int": np.int64, "value_ints": np.int64, "value_float": np.float32}
    for name, dtype in {**held, "value_floats": np.float32}.items():
        if name in a:
            return [np.asarray(a[name], dtype)]
    raise WeightsError("holds no numbers")


def _quotient(x: Array, y: Array) -> Array:
    return (x - np.fmod(x, y)) // y  # rounds towards zero, as in C


#: Operator -> its NumPy function of (markers, first input, attributes, further inputs).
_OPERATORS: Mapping[str, Callable[..., list[Array]]] = {
    "Identity": lambda markers, x, a: [x],
    "Shape": lambda markers, x, a: [np.array(x.shape[a.get("start", 0) : a.get("end")], np.int64)],
    "Constant": _constant,
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


def operator_name(node: Any) -> str:
    """A node's operator, with its domain unless that is ONNX' own."""
    return str(node.op_type) if node.domain in STANDARD else f"{node.domain}.{node.op_type}"


def is_evaluated(node: Any) -> bool:
    """Whether `evaluate` knows a node's operator."""
    return node.domain in STANDARD and node.op_type in _OPERATORS


def evaluate(node: Any, inputs: list[Array | None], markers: Markers) -> list[Array]:
    """Evaluate a node that only moves data or computes sizes.

    Parameters
    ----------
    node : onnx.NodeProto
    inputs : list of ndarray or None
        None where an input is omitted.
    markers : Markers

    Raises
    ------
    WeightsError
        The operator is not supported, or its inputs do not fit it.
    """
    if not is_evaluated(node):
        raise WeightsError(f"{operator_name(node)}: only LSTM, GRU, RNN and nodes that move numbers are read")
    attributes = {**attributes_of(node), "outputs": len(node.output)}
    try:
        if node.op_type == "Constant":
            return _OPERATORS["Constant"](markers, attributes)
        first, *more = inputs
        return _OPERATORS[node.op_type](markers, first, attributes, *more)
    except WeightsError as error:
        raise WeightsError(f"{node.op_type}: {error}") from None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
        raise WeightsError(f"{node.op_type}: {' '.join(str(error).split())[:120]}") from None
