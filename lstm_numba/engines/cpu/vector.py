"""A Numba type for one vector register, so that scalar equations compile straight to SIMD code.

LLVM's loop vectoriser gives up on the gate loops: they touch many arrays that it cannot prove
distinct. And Numba promotes ``1.0 - f`` with a float32 ``f`` to float64. A cell's equations compiled
with `Vector` arguments avoid both: every operation is one vector instruction of the element's own
precision, and a Python number beside a vector takes the vector's precision.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    lower_cast,
    models,
    overload,
    register_model,
)

from lstm_numba.engines.cpu.cpu_features import lanes
from lstm_numba.engines.cpu.options import VECTOR_FLAGS

_I64 = ir.IntType(64)
_I32 = ir.IntType(32)


class Vector(types.Type):
    """Numba type: one vector register of float32 or float64 numbers."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.count = lanes(dtype.name)
        super().__init__(name=f"vector({dtype.name} x {self.count})")

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """Python numbers beside a vector become vectors."""
        return Conversion.safe if isinstance(other, types.Number) else None


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, vector_type(fe_type))


def vector_type(vector: Any) -> Any:
    """The LLVM type of a `Vector`."""
    return ir.VectorType(ir.FloatType() if vector.dtype == types.float32 else ir.DoubleType(), vector.count)


def splat(builder: Any, number: Any, vector: Any) -> Any:
    """Put one number into every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(_I32, 0))
    mask = ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, undefined, mask)


@lower_cast(types.Integer, Vector)
@lower_cast(types.Float, Vector)
@lower_cast(types.IntegerLiteral, Vector)
def _cast_number(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    number = context.cast(builder, value, fromty, toty.dtype)
    return splat(builder, number, vector_type(toty))


def register(function: Any, arity: int, emit: Callable[..., Any]) -> None:
    """Register `function` on vectors: its typing, and the code that ``emit(builder, *args)`` makes."""

    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return _vector_signature(args, arity)

    infer_global(function)(Template)

    @lower_builtin(function, *([Vector] * arity))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)


def register_lane_by_lane(function: Any, arity: int) -> None:
    """Register `function` on vectors by what it does with numbers: right everywhere, and slower."""

    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return _vector_signature(args, arity)

    infer_global(function)(Template)

    @lower_builtin(function, *([Vector] * arity))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = sig.return_type.dtype
        scalar = context.get_function(function, signature(number, *([number] * arity)))
        result = ir.Constant(vector_type(sig.return_type), ir.Undefined)
        for n in range(sig.return_type.count):
            lane = ir.Constant(_I32, n)
            value = scalar(builder, [builder.extract_element(arg, lane) for arg in args])
            result = builder.insert_element(result, value, lane)
        return result


def register_scalar(function: Any) -> None:
    """Register a function of one number by its definition: compiled functions call it on numbers too."""

    @overload(function, strict=False)
    def _(x: Any) -> Any:
        return function if isinstance(x, types.Float) else None


def _vector_signature(args: Any, arity: int) -> Any:
    """The signature on vectors; None if it is not one of them that is called."""
    vectors = [arg for arg in args if isinstance(arg, Vector)]
    if len(args) == arity and vectors and all(isinstance(a, (Vector, types.Number)) for a in args):
        return signature(vectors[0], *([vectors[0]] * arity))
    return None


def _larger(builder: Any, comparison: str, x: Any, y: Any) -> Any:
    """Python's ``max(x, y)`` or ``min(x, y)``: y where ``y > x`` (``y < x``), else x."""
    return builder.select(builder.fcmp_ordered(comparison, y, x), y, x)


for _add, _sub, _mul, _div in (
    (operator.add, operator.sub, operator.mul, operator.truediv),
    (operator.iadd, operator.isub, operator.imul, operator.itruediv),
):
    register(_add, 2, lambda b, x, y: b.fadd(x, y, flags=VECTOR_FLAGS))
    register(_sub, 2, lambda b, x, y: b.fsub(x, y, flags=VECTOR_FLAGS))
    register(_mul, 2, lambda b, x, y: b.fmul(x, y, flags=VECTOR_FLAGS))
    register(_div, 2, lambda b, x, y: b.fdiv(x, y, flags=VECTOR_FLAGS))
register(operator.neg, 1, lambda b, x: b.fneg(x, flags=VECTOR_FLAGS))
register(operator.pos, 1, lambda b, x: x)
register(max, 2, lambda b, x, y: _larger(b, ">", x, y))
register(min, 2, lambda b, x, y: _larger(b, "<", x, y))
register_lane_by_lane(operator.pow, 2)


def load_lanes(builder: Any, pointer: Any, vector: Any, valid: Any) -> Any:
    """Load the first `valid` lanes, zero in the others; ``valid=None`` loads all."""
    full_pointer = builder.bitcast(pointer, vector.as_pointer())
    align = 4 if isinstance(vector.element, ir.FloatType) else 8
    if valid is None:
        return builder.load(full_pointer, align=align)
    result = cgutils.alloca_once(builder, vector)
    whole = builder.icmp_signed(">=", valid, ir.Constant(_I64, vector.count))
    with builder.if_else(whole, likely=True) as (then, otherwise):
        with then:
            builder.store(builder.load(full_pointer, align=align), result)
        with otherwise:
            zero = ir.Constant(vector, [ir.Constant(vector.element, 0.0)] * vector.count)
            masked = _masked(builder, "load", vector)
            mask = _mask(builder, valid, vector)
            builder.store(builder.call(masked, [full_pointer, ir.Constant(_I32, align), mask, zero]), result)
    return builder.load(result)


def store_lanes(builder: Any, pointer: Any, value: Any, valid: Any) -> None:
    """Store the first `valid` lanes; ``valid=None`` stores all."""
    vector = value.type
    full_pointer = builder.bitcast(pointer, vector.as_pointer())
    align = 4 if isinstance(vector.element, ir.FloatType) else 8
    if valid is None:
        builder.store(value, full_pointer, align=align)
        return
    whole = builder.icmp_signed(">=", valid, ir.Constant(_I64, vector.count))
    with builder.if_else(whole, likely=True) as (then, otherwise):
        with then:
            builder.store(value, full_pointer, align=align)
        with otherwise:
            masked = _masked(builder, "store", vector)
            mask = _mask(builder, valid, vector)
            builder.call(masked, [value, full_pointer, ir.Constant(_I32, align), mask])


def _mask(builder: Any, valid: Any, vector: Any) -> Any:
    longs = ir.VectorType(_I64, vector.count)
    lane = ir.Constant(longs, [ir.Constant(_I64, n) for n in range(vector.count)])
    return builder.icmp_signed("<", lane, splat(builder, valid, longs))


def _masked(builder: Any, verb: str, vector: Any) -> Any:
    element = "f32" if isinstance(vector.element, ir.FloatType) else "f64"
    mask = ir.VectorType(ir.IntType(1), vector.count)
    pointer = vector.as_pointer()
    if verb == "load":
        kind = ir.FunctionType(vector, [pointer, _I32, mask, vector])
    else:
        kind = ir.FunctionType(ir.VoidType(), [vector, pointer, _I32, mask])
    name = f"llvm.masked.{verb}.v{vector.count}{element}.p0"
    return cgutils.get_or_insert_function(builder.module, kind, name)


@intrinsic
def pointer_to(typingctx: Any, address: Any, like: Any) -> Any:
    """The address, an integer, as a pointer to numbers of the type of `like`.

    Kernels take addresses: an array costs Numba a dozen values wherever it is passed, which makes kernels
    that are called often slow, and all of them slow to compile. Their callers keep the arrays alive.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return types.CPointer(like)(types.int64, like), codegen


def vector_loader(count_of: Callable[[Any], int]) -> Any:
    """Make ``load(cell, pointer, offset, stride, valid)``, a tuple of ``count_of(cell class)`` vectors.

    Vector n starts at number ``offset + n * stride`` from the pointer; lanes from `valid` on are neither
    read nor anything but zero.
    """

    @intrinsic
    def load(typingctx: Any, cell: Any, pointer: Any, offset: Any, stride: Any, valid: Any) -> Any:
        count = count_of(cell.instance_class)
        vector = Vector(pointer.dtype)
        sig = types.UniTuple(vector, count)(cell, pointer, types.int64, types.int64, types.int64)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = args[1]
            values = []
            for n in range(count):
                index = builder.add(args[2], builder.mul(args[3], ir.Constant(_I64, n)))
                values.append(load_lanes(builder, builder.gep(data, [index]), vector_type(vector), args[4]))
            return context.make_tuple(builder, sig.return_type, values)

        return sig, codegen

    return load


def _tuple_items(context: Any, builder: Any, kind: Any, value: Any, vector: Any) -> list[Any]:
    items = cgutils.unpack_tuple(builder, value, len(kind))
    return [context.cast(builder, item, ty, vector) for item, ty in zip(items, kind, strict=True)]


@intrinsic
def store_vectors(typingctx: Any, pointer: Any, offset: Any, stride: Any, values: Any, valid: Any) -> Any:
    """Store a tuple of vectors (or numbers): the inverse of a `vector_loader`'s function."""
    sig = types.void(pointer, types.int64, types.int64, values, types.int64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = args[0]
        vector = Vector(sig.args[0].dtype)
        for n, value in enumerate(_tuple_items(context, builder, sig.args[3], args[3], vector)):
            index = builder.add(args[1], builder.mul(args[2], ir.Constant(_I64, n)))
            store_lanes(builder, builder.gep(data, [index]), value, args[4])
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def accumulate_vectors(typingctx: Any, pointer: Any, offset: Any, stride: Any, values: Any) -> Any:
    """Add a tuple of vectors to whole vectors in memory."""
    sig = types.void(pointer, types.int64, types.int64, values)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = args[0]
        vector = Vector(sig.args[0].dtype)
        for n, value in enumerate(_tuple_items(context, builder, sig.args[3], args[3], vector)):
            index = builder.add(args[1], builder.mul(args[2], ir.Constant(_I64, n)))
            target = builder.gep(data, [index])
            old = load_lanes(builder, target, value.type, None)
            store_lanes(builder, target, builder.fadd(old, value), None)
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def add_valid(typingctx: Any, sums: Any, values: Any, valid: Any) -> Any:
    """A tuple of vectors, and added to it the first `valid` lanes of others."""
    vector = sums.dtype

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = _mask(builder, args[2], vector_type(vector))
        olds = cgutils.unpack_tuple(builder, args[0], len(sums))
        added = _tuple_items(context, builder, sig.args[1], args[1], vector)
        results = [
            builder.select(mask, builder.fadd(old, value), old)
            for old, value in zip(olds, added, strict=True)
        ]
        return context.make_tuple(builder, sig.return_type, results)

    return sums(sums, values, types.int64), codegen


@intrinsic
def pointer_address(typingctx: Any, pointer: Any) -> Any:
    """A C pointer as an integer."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.int64(pointer), codegen


@intrinsic
def zero_vector(typingctx: Any, zero: Any) -> Any:
    """A vector of zeros like `zero`."""
    vector = Vector(zero)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return splat(builder, context.get_constant(sig.args[0], 0.0), vector_type(vector))

    return vector(zero), codegen


@intrinsic
def lane_sum(typingctx: Any, vector: Any) -> Any:
    """Sum of a vector's lanes, halves added to halves."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, count = args[0], sig.args[0].count
        while count > 1:
            count //= 2
            lanes_of = [
                ir.Constant(ir.VectorType(_I32, count), list(range(first, first + count)))
                for first in (0, count)
            ]
            halves = [builder.shuffle_vector(value, value, half) for half in lanes_of]
            value = builder.fadd(*halves)
        return builder.extract_element(value, ir.Constant(_I32, 0))

    return vector.dtype(vector), codegen


def prefetch(builder: Any, pointer: Any, write: bool) -> None:
    """Ask for the cache line at an address, which need not be valid, before it is needed."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    options = [ir.Constant(_I32, number) for number in (int(write), 3, 1)]
    builder.call(function, [builder.bitcast(pointer, byte), *options])
