"""Tensors of PyTorch and arrays of NumPy as pickles describe them: views of bytes, checked last."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array, unreadable
from lstm_numba.interop.files.numbers import from_bfloat16
from lstm_numba.interop.files.pickled.inert import Inert, kind_of

#: PyTorch's dtypes -> NumPy's codes; bfloat16 is read as its bits.
_CODES = {
    "float16": "f2", "float32": "f4", "float64": "f8", "bfloat16": "u2", "bool": "?", "complex64": "c8",
    "complex128": "c16", "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8", "uint8": "u1",
    "uint16": "u2", "uint32": "u4", "uint64": "u8",
}  # fmt: skip
#: Other dtypes of one byte or more.
_FOREIGN = {
    "qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1, "complex32": 4, "float8_e4m3fn": 1,
    "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1,
}  # fmt: skip
_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Bool": "bool",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128", "Char": "int8", "Short": "int16",
    "Int": "int32", "Long": "int64", "Byte": "uint8", "QInt8": "qint8", "QUInt8": "quint8",
    "QInt32": "qint32", "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4",
}  # fmt: skip
#: All dtypes of PyTorch's that have a name here.
DTYPES = (*_CODES, *_FOREIGN)
#: Class of a storage -> the dtype of its elements; None: its tensors say it.
STORAGE_TYPES: dict[str, str | None] = {
    **{f"torch.{place}{kind}Storage": dtype for kind, dtype in _STORAGES.items() for place in ("", "cuda.")},
    **{f"torch.{place}UntypedStorage": None for place in ("storage.", "")},
}
#: NumPy's types that are read; longer ones depend on the machine, others are no numbers.
_NUMPY_NUMBERS = re.compile(r"f[248]|[iu][1248]|b1|\?|c8|c16")
_DIMENSIONS, _SIZE = 32, 1 << 40


def storage_item_size(kind: str) -> int:
    """Bytes of an element of a storage of a class in `STORAGE_TYPES`."""
    dtype = STORAGE_TYPES[kind]
    return 1 if dtype is None else _item_size(dtype)


def _item_size(dtype: str) -> int:
    return np.dtype(_CODES[dtype]).itemsize if dtype in _CODES else _FOREIGN[dtype]


def whole_numbers(value: Any, what: str) -> tuple[int, ...]:
    """Sizes, or the like, out of a pickle.

    Raises
    ------
    WeightsError
        They are not at most 32 numbers from 0 to 2**40.
    """
    if type(value) not in (tuple, list) or len(value) > _DIMENSIONS:
        raise WeightsError(f"damaged: {what}: expected at most {_DIMENSIONS} numbers, got {kind_of(value)}")
    for number in value:
        whole_number(number, what)
    return tuple(value)


def whole_number(value: Any, what: str) -> int:
    """One of `whole_numbers`."""
    if type(value) is not int:
        raise WeightsError(f"damaged: {what}: expected a whole number, got {kind_of(value)}")
    if not 0 <= value <= _SIZE:
        raise WeightsError(f"damaged: {what}: expected a number from 0 to {_SIZE}")
    return value


class Tensor(Inert):
    """A tensor whose numbers are read last, when it has a name."""

    __slots__ = ()

    def size(self) -> int:
        """Bytes of the array that it becomes; 0 for one that stands for a tensor only.

        Raises
        ------
        WeightsError
            What the pickle says about it is not possible.
        """
        raise NotImplementedError

    def source(self) -> Any:
        """The bytes in the file that it is part of; the same object where they are shared."""
        return b""

    def array(self) -> Array:
        """The array; it shares memory with `source` where it can.

        Raises
        ------
        WeightsError
            The file does not hold its numbers.
        """
        raise NotImplementedError


class Unreadable(Tensor):
    """A tensor of a kind that NumPy lacks: only its shape is known."""

    __slots__ = ("dtype", "shape")

    def __init__(self, dtype: str, shape: Any) -> None:
        self.dtype, self.shape = dtype, shape

    def size(self) -> int:
        whole_numbers(self.shape, "shape")
        return 0

    def array(self) -> Array:
        return unreadable(self.dtype, tuple(self.shape))


class Storage(Inert):
    """A row of numbers that tensors are views of.

    Parameters
    ----------
    kind : str
        Its class, of `STORAGE_TYPES`.
    size : int
        Bytes.
    read : callable
        Gives the bytes that it is in, the same object every time.
    order : {"<", ">"}
        Byte order.
    start : int
        Bytes before it.
    """

    __slots__ = ("kind", "order", "read", "size", "start")

    def __init__(
        self, kind: str, size: int, read: Callable[[], memoryview], order: str = "<", start: int = 0
    ) -> None:
        self.kind, self.size, self.read, self.order, self.start = kind, size, read, order, start


class StoredTensor(Tensor):
    """A view of a storage; offset and strides count elements."""

    __slots__ = ("dtype", "offset", "shape", "storage", "strides")

    def __init__(self, storage: Storage, offset: Any, shape: Any, strides: Any, dtype: str) -> None:
        self.storage, self.dtype = storage, dtype
        self.offset, self.shape, self.strides = offset, shape, strides

    def _elements(self) -> int:
        """Their number; checks the view, too."""
        shape, strides = whole_numbers(self.shape, "shape"), whole_numbers(self.strides, "strides")
        offset = whole_number(self.offset, "offset")
        if len(shape) != len(strides):
            raise WeightsError(f"damaged: {len(shape)} sizes and {len(strides)} strides")
        count, held = math.prod(shape), self.storage.size // _item_size(self.dtype)
        end = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1
        if count and end > held:
            raise WeightsError(f"damaged: ends at element {end} of a storage of {held}")
        return count

    def size(self) -> int:
        count = self._elements()
        return count * (4 if self.dtype == "bfloat16" else _item_size(self.dtype)) * (self.dtype in _CODES)

    def source(self) -> Any:
        return self.storage.read() if self.size() else b""

    def array(self) -> Array:
        if self.dtype not in _CODES:
            return unreadable(self.dtype, tuple(self.shape))
        code = np.dtype(self.storage.order + _CODES[self.dtype])
        if not self._elements():
            return np.zeros(self.shape, np.float32 if self.dtype == "bfloat16" else code)
        data, storage = self.storage.read(), self.storage
        if len(data) < storage.start + storage.size:
            raise WeightsError(f"damaged: a storage of {storage.size} bytes has {len(data) - storage.start}")
        array: Array = np.ndarray(
            tuple(self.shape),
            code,
            data,
            storage.start + self.offset * code.itemsize,
            tuple(step * code.itemsize for step in self.strides),
        )
        if self.dtype == "bfloat16":
            return from_bfloat16(array)
        return array if array.flags.aligned else array.copy()


class ElementType(Inert):
    """A dtype of NumPy: its code, such as "f4", and byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    def build(self, state: Any) -> None:
        """Take what `numpy.dtype.__reduce__` gives: version, byte order, parts, names, fields and sizes."""
        if type(state) is not tuple or len(state) < 5 or state[1] not in ("<", ">", "=", "|"):
            raise WeightsError("damaged pickle: odd description of a dtype")
        self.order = state[1]
        if any(part is not None for part in state[2:5]):
            self.code = "structured"


class NumpyArray(Tensor):
    """An array with its own bytes."""

    __slots__ = ("axes", "data", "dtype", "layout", "shape")

    def __init__(self) -> None:
        self.shape: Any = None  # not yet known
        self.dtype: Any = None
        self.layout: Any = "C"
        self.data: Any = None
        self.axes: Any = None

    def build(self, state: Any) -> None:
        """Take shape, dtype, whether it is column-major, and bytes; before them a version."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise WeightsError("damaged pickle: odd description of an array")
        self.shape, self.dtype, column_major, self.data = state[-4:]
        self.layout = "F" if column_major is True or column_major == 1 else "C"

    def _is_foreign(self) -> bool:
        return self.dtype.code != "bfloat16" and not _NUMPY_NUMBERS.fullmatch(self.dtype.code)

    def size(self) -> int:
        if not isinstance(self.dtype, ElementType):
            raise WeightsError("damaged: an array without a dtype")
        count = math.prod(whole_numbers(self.shape, "shape"))
        if self._is_foreign():
            return 0
        size = count * (2 if self.dtype.code == "bfloat16" else np.dtype(self.dtype.code).itemsize)
        if not isinstance(self.data, (bytes, bytearray, str)) or len(self.data) != size:
            held = kind_of(self.data) if not hasattr(self.data, "__len__") else f"{len(self.data)} bytes"
            raise WeightsError(f"damaged: {held} do not make shape {tuple(self.shape)} of {self.dtype.code}")
        return size * (2 if self.dtype.code == "bfloat16" else 1)

    def source(self) -> Any:
        return b"" if self._is_foreign() else self.data

    def array(self) -> Array:
        if self._is_foreign():
            return unreadable(_FOREIGN_NUMPY.get(self.dtype.code[:1], self.dtype.code), tuple(self.shape))
        wide = self.dtype.code == "bfloat16"
        order = self.dtype.order if self.dtype.order in "<>" else "="
        data = self.data.encode("latin-1") if type(self.data) is str else self.data  # text: of Python 2
        found: Array = np.frombuffer(data, np.dtype(order + ("u2" if wide else self.dtype.code)))
        found = found.reshape(tuple(self.shape), order=self.layout)
        if self.axes is not None:
            found = found.transpose(self.axes)
        return from_bfloat16(found) if wide else found


#: First letter of a dtype's code -> name in messages.
_FOREIGN_NUMPY = {"O": "object", "U": "text", "S": "text", "M": "datetime64", "m": "timedelta64"}
