"""Many arrays for one kernel: a device table of their addresses and sizes."""

from __future__ import annotations

import ctypes
import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines.cuda.device_array import as_view
from lstm_numba.engines.cuda.driver import (
    AbstractTemplate,
    current_device,
    infer_global,
    ir,
    lower_builtin,
    make_signature,
    types,
    unpack_tuple,
)
from lstm_numba.engines.cuda.launch import stream_key
from lstm_numba.engines.cuda.memory import DeviceArray, address, constant, empty, keep
from lstm_numba.engines.cuda.scalar import indexer


class Table(NamedTuple):
    """Rows of flat arrays; the arrays of a row have one size, and all have one dtype.

    Attributes
    ----------
    entries : device array of int64
        The sizes of all rows, then column by column the addresses of the arrays.
    count : int
        Rows.
    like : device array (0,)
        Of the arrays' dtype.
    """

    entries: Any
    count: Any
    like: Any


def array_of(table: Any, column: Any, row: Any) -> Any:
    """The array in a column and row of a table."""
    size, pointer = (int(table.entries[n]) for n in (row, (column + 1) * table.count + row))
    memory = (ctypes.c_char * (size * table.like.dtype.itemsize)).from_address(pointer)
    return np.frombuffer(memory, table.like.dtype)


@infer_global(array_of)
class _Template(AbstractTemplate):
    key = array_of

    def generic(self, args: Any, kws: Any) -> Any:
        table, *array_address = args
        array = types.Array(table[Table._fields.index("like")].dtype, 1, "C")
        return make_signature(array, table, *[types.int64 for _ in array_address])


# Not a device function or an overload: Numba does not allow those to return an array made inside.
@lower_builtin(array_of, types.BaseNamedTuple, types.int64, types.int64)
def _array_of(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    (table, column, row), kinds = args, Table(*sig.args[0])
    parts = Table(*unpack_tuple(builder, table, len(kinds)))
    entry = indexer(context, builder, kinds.entries, parts.entries)
    after = builder.add(column, ir.Constant(column.type, 1))
    size, pointer = builder.load(entry(row)), builder.load(entry(builder.mul(after, parts.count), row))
    made = context.make_array(sig.return_type)(context, builder)

    def of_one(value: Any) -> Any:
        return builder.insert_value(ir.Constant(made.shape.type, ir.Undefined), value, 0)

    # Through the address space of global memory, whose loads and stores are faster than generic ones.
    kind = context.get_data_type(sig.return_type.dtype)
    made.data = builder.addrspacecast(
        builder.inttoptr(pointer, ir.PointerType(kind, 1)), ir.PointerType(kind)
    )
    made.nitems, made.itemsize = size, ir.Constant(size.type, sig.return_type.dtype.bitwidth // 8)
    made.shape, made.strides = of_one(made.nitems), of_one(made.itemsize)
    made.meminfo, made.parent = (ir.Constant(none.type, None) for none in (made.meminfo, made.parent))
    return made._getvalue()


def array_address(array: DeviceArray) -> int:
    """Address of a C-contiguous array.

    Raises
    ------
    ValueError
        The array is not C-contiguous.
    """
    array = as_view(array)
    if not array.is_c_contiguous():
        raise ValueError(f"expected a C-contiguous array, got one of shape {array.shape} with gaps")
    return address(array)


def tables(*columns: Sequence[DeviceArray]) -> list[tuple[Table, int]]:
    """Tables of arrays, one for each dtype; they do not keep the arrays alive.

    Parameters
    ----------
    *columns : lists of device arrays
        Of one length; C-contiguous arrays of any shape, those of a row of one size and dtype. Empty ones are
        left out.

    Returns
    -------
    list of (Table, int)
        A table and the size of its largest array.
    """
    rows: defaultdict[np.dtype[Any], list[Any]] = defaultdict(list)
    for row in zip(*columns, strict=True):
        if row[0].size:
            rows[row[0].dtype].append(row)
    return [_table(dtype, found) for dtype, found in rows.items()]


def _table(dtype: np.dtype[Any], rows: list[Any]) -> tuple[Table, int]:
    sizes = [row[0].size for row in rows]
    entries = (*sizes, *(array_address(array) for column in zip(*rows, strict=True) for array in column))
    uploaded = _uploaded(entries, current_device(), stream_key())
    keep(uploaded)
    return Table(uploaded, len(rows), empty((0,), dtype)), max(sizes, default=0)


def no_table(dtype: Any) -> tuple[Table, int]:
    """A table of no arrays."""
    return _table(np.dtype(dtype), [])


@functools.lru_cache(maxsize=64)
def _uploaded(entries: tuple[int, ...], device: int, stream: Any) -> DeviceArray:
    """Sizes and addresses on the device, cached: from step to step they are the same, as memory is reused.

    They are never written to again, and what depends on the copy is on the same stream.
    """
    return constant(np.array(entries, np.int64))
