"""The register-tiled product that every matrix product on the CPU is made of.

A tile of C, a few rows high and a few vector registers wide, stays in registers while the inner
dimension runs: per step one packed row of B is loaded and each row's number of A is broadcast and
multiplied in. A tile that the registers do not hold is computed some columns at a time
(`lstm_numba.engines.cpu.cpu_features.column_groups`). Written as LLVM vectors and ``llvm.fmuladd``,
because a loop nest that LLVM has to discover the tile in does not get there: small products are where
general BLAS libraries lose half their speed.

Compiled once per width and type, apart from the kernels: the tiles are most of the machine code.
"""

from __future__ import annotations

import itertools
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from lstm_numba.engines.cpu.cpu_features import column_groups, lanes, packed_groups, tile_rows
from lstm_numba.engines.cpu.function_pointers import compile_apart, once
from lstm_numba.engines.cpu.vector import prefetch, splat

_I64 = ir.IntType(64)


@once
def tile_address(vectors: int, dtype: Any) -> int:
    """Address of the tile product of a width in vector registers, compiled at the first call.

    Parameters
    ----------
    vectors : int
    dtype : numpy.dtype
        float32 or float64.
    """
    return int(_compiled(vectors, dtype).ctypes(0.0))


@once
def _compiled(vectors: int, dtype: Any) -> Any:
    def tile(zero):
        return _tile(vectors, zero)

    return compile_apart(tile, from_dtype(dtype), returns=types.int64)


@intrinsic
def tile_product(
    typingctx: Any,
    tile: Any,
    rows: Any,
    a: Any,
    a_offset: Any,
    a_row: Any,
    a_column: Any,
    b: Any,
    b_offset: Any,
    depth: Any,
    c: Any,
    c_offset: Any,
    c_row: Any,
    c_vector: Any,
    add: Any,
) -> Any:
    """``C (+)= A @ B`` for one tile of C; all offsets and strides count numbers, not bytes.

    Parameters
    ----------
    tile : int
        `tile_address` of a width.
    rows : int
        Height of the tile, 1 to ``tile_rows(vectors)``.
    a : pointer
        Number (m, k) is at ``a_offset + m * a_row + k * a_column``.
    b : pointer
        Packed from `b_offset` on: for each of `packed_groups` row after row, row k holding the group's vector
        registers.
    depth : int
        Inner dimension.
    c : pointer
        Register v of row m is at ``c_offset + m * c_row + v * c_vector``.
    add : bool
        Add to C, else overwrite it.
    """
    index = types.int64
    signature = types.void(
        index, index, a, index, index, index, b, index, index, c, index, index, index, types.boolean
    )

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointers = [builder.gep(args[n], [args[n + 1]]) for n in (2, 6, 9)]
        numbers = [
            args[1], pointers[0], args[4], args[5], pointers[1], args[8], pointers[2], args[11], args[12],
            builder.zext(args[13], _I64),
        ]  # fmt: skip
        kind = ir.FunctionType(ir.VoidType(), [number.type for number in numbers])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), numbers)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def _tile(typingctx: Any, vectors: Any, zero: Any) -> Any:
    """Address of the tile of a width that is known when it is compiled, for numbers like `zero`.

    Of the function itself: with so many arguments the one that Numba would put before it copies some of them
    by whole vectors just after they were written one by one, which waits until all earlier writes are done.
    """
    if not isinstance(vectors, types.IntegerLiteral):
        return None
    width, count = vectors.literal_value, lanes(zero.name)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = _tile_function(builder.module, context.get_data_type(zero), width, count)
        return builder.ptrtoint(function, _I64)

    return types.int64(vectors, zero), codegen


def _tile_function(module: Any, element: Any, width: int, count: int) -> Any:
    """The LLVM function that switches over the tile's height."""
    pointer = element.as_pointer()
    arguments = [_I64, pointer, _I64, _I64, pointer, _I64, pointer, _I64, _I64, _I64]
    kind = ir.FunctionType(ir.VoidType(), arguments)
    function = ir.Function(module, kind, f"lstm_numba_tile_{element}_{count}x{width}")
    function.linkage = "linkonce_odr"
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    rows = function.args[0]
    done = function.append_basic_block("done")
    switch = builder.switch(rows, done)
    for height in range(1, tile_rows(width) + 1):
        block = function.append_basic_block(f"rows{height}")
        switch.add_case(ir.Constant(_I64, height), block)
        builder.position_at_end(block)
        _emit_tile(builder, function, element, width, count, height)
        builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()
    return function


def _emit_tile(builder: Any, function: Any, element: Any, width: int, count: int, height: int) -> None:
    ends = list(itertools.accumulate(column_groups(width, height), initial=0))
    for first, last in itertools.pairwise(ends):
        _emit_columns(builder, function, ir.VectorType(element, count), width, range(first, last), height)


def _emit_columns(builder: Any, function: Any, vector: Any, width: int, columns: range, height: int) -> None:
    """Some of the tile's columns of vectors."""
    _, a, a_row, a_column, b, depth, c, c_row, c_vector, add = function.args
    element, count = vector.element, vector.count
    groups = packed_groups(width)
    align = 4 if isinstance(element, ir.FloatType) else 8
    zero = ir.Constant(vector, [ir.Constant(element, 0.0)] * count)
    multiply_add = cgutils.get_or_insert_function(
        function.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{count}{_suffix(element)}"
    )

    def at(pointer: Any, stride: Any, index: Any) -> Any:
        return builder.gep(pointer, [builder.mul(stride, index)])

    def c_pointer(m: int, v: int) -> Any:
        row = at(c, c_row, ir.Constant(_I64, m))
        return builder.bitcast(at(row, c_vector, ir.Constant(_I64, v)), vector.as_pointer())

    accumulators = {}
    for place in itertools.product(range(height), columns):
        accumulators[place] = cgutils.alloca_once_value(builder, zero)
        prefetch(builder, c_pointer(*place), write=True)  # worth 3 % of large products
    with cgutils.for_range(builder, depth, intp=_I64) as loop:
        a_k = at(a, a_column, loop.index)
        b_k = {
            begin: builder.gep(
                at(b, ir.Constant(_I64, begin * count), depth),
                [builder.mul(loop.index, ir.Constant(_I64, (end - begin) * count))],
            )
            for begin, end in groups
        }

        def spread(m: int) -> Any:
            return splat(builder, builder.load(at(a_k, a_row, ir.Constant(_I64, m))), vector)

        def packed(v: int) -> Any:
            begin = max(begin for begin, _ in groups if begin <= v)
            place = builder.gep(b_k[begin], [ir.Constant(_I64, (v - begin) * count)])
            return builder.load(builder.bitcast(place, vector.as_pointer()), align=align)

        def update(m: int, v: int, number: Any, row: Any) -> None:
            accumulator = accumulators[m, v]
            builder.store(builder.call(multiply_add, [number, row, builder.load(accumulator)]), accumulator)

        # The shorter side stays in registers while the other one passes.
        if height < len(columns):
            numbers = [spread(m) for m in range(height)]
            for v in columns:
                row = packed(v)
                for m in range(height):
                    update(m, v, numbers[m], row)
        else:
            rows = {v: packed(v) for v in columns}
            for m in range(height):
                number = spread(m)
                for v in columns:
                    update(m, v, number, rows[v])
    with builder.if_else(builder.icmp_signed("!=", add, ir.Constant(_I64, 0))) as (then, otherwise):
        with then:
            for place, accumulator in accumulators.items():
                pointer = c_pointer(*place)
                total = builder.fadd(builder.load(pointer, align=align), builder.load(accumulator))
                builder.store(total, pointer, align=align)
        with otherwise:
            for place, accumulator in accumulators.items():
                builder.store(builder.load(accumulator), c_pointer(*place), align=align)


def _suffix(element: Any) -> str:
    return "f32" if isinstance(element, ir.FloatType) else "f64"
