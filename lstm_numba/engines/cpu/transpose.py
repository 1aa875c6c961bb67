"""What packing a matrix comes down to: copying runs of numbers, and transposing squares of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from lstm_numba.engines.cpu.vector import Vector, load_lanes, store_lanes, vector_type

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


@intrinsic
def transpose_square(
    typingctx: Any, source: Any, source_at: Any, source_row: Any, target: Any, target_at: Any, target_row: Any
) -> Any:
    """Copy one vector's width of rows and columns, transposed; offsets and strides in numbers."""
    index = types.int64
    signature = types.void(source, index, index, target, index, index)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = vector_type(Vector(sig.args[0].dtype))
        source_data = args[0]
        target_data = args[3]

        def pointer(data: Any, at: Any, row: Any, n: int) -> Any:
            return builder.gep(data, [builder.add(at, builder.mul(row, ir.Constant(_I64, n)))])

        rows = [
            load_lanes(builder, pointer(source_data, args[1], args[2], n), vector, None)
            for n in range(vector.count)
        ]
        for n, row in enumerate(_transposed(builder, rows)):
            store_lanes(builder, pointer(target_data, args[4], args[5], n), row, None)
        return context.get_dummy_value()

    return signature, codegen


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Swap the off-diagonal blocks of size 1, 2, 4, ...: after all of them rows are columns."""
    count = len(rows)
    size = 1
    while size < count:
        upper = [lane if not lane & size else count + lane - size for lane in range(count)]
        lower = [lane + size if not lane & size else count + lane for lane in range(count)]
        masks = [
            ir.Constant(ir.VectorType(_I32, count), [ir.Constant(_I32, lane) for lane in lanes])
            for lanes in (upper, lower)
        ]
        for n in range(count):
            if not n & size:
                first, second = rows[n], rows[n + size]
                rows[n] = builder.shuffle_vector(first, second, masks[0])
                rows[n + size] = builder.shuffle_vector(first, second, masks[1])
        size *= 2
    return rows


def run_copier(count_of: Callable[[Any], int]) -> Any:
    """Make ``copy(source, source_at, target, target_at)`` of ``count_of(dtype)`` neighbouring numbers.

    LLVM does not see that source and target are distinct and would copy short runs number by number.
    """

    @intrinsic
    def copy(typingctx: Any, source: Any, source_at: Any, target: Any, target_at: Any) -> Any:
        index = types.int64
        vector = Vector(source.dtype)
        kind = ir.VectorType(vector_type(vector).element, count_of(source.dtype))

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            source_data = args[0]
            target_data = args[2]
            run = load_lanes(builder, builder.gep(source_data, [args[1]]), kind, None)
            store_lanes(builder, builder.gep(target_data, [args[3]]), run, None)
            return context.get_dummy_value()

        return types.void(source, index, target, index), codegen

    return copy
