"""A Numba type for one floating-point number that keeps its own precision.

Numba promotes ``1 - f`` with a float32 ``f`` to float64, which is many times slower on a GPU. A cell's
equations compiled with `Scalar` arguments keep the precision of the arrays: a Python number beside a `Scalar`
takes its type. It is to the CUDA engine what `lstm_numba.engines.cpu.vector.Vector` is to the CPU's.

Each function here has a plain Python body too: it defines what is computed, and CUDA's simulator runs it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from lstm_numba.engines.cuda.driver import (
    AbstractTemplate,
    Conversion,
    PrimitiveModel,
    infer_global,
    insert_function,
    intrinsic,
    lower_builtin,
    lower_cast,
    make_signature,
    overload,
    register_model,
    types,
    unpack_tuple,
)

_I64 = ir.IntType(64)


class Scalar(types.Type):
    """Numba type: a float32 or float64 number; a Python number beside it takes its precision."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"scalar({dtype.name})")

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """Python numbers beside a `Scalar` become one."""
        return Conversion.safe if isinstance(other, types.Number) else None


@register_model(Scalar)
class _ScalarModel(PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _float_type(fe_type))


def _float_type(scalar: Any) -> Any:
    return ir.FloatType() if scalar.dtype == types.float32 else ir.DoubleType()


def _cast(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    return context.cast(builder, value, fromty, toty.dtype)


for _kind in (types.Integer, types.Float, types.IntegerLiteral):
    lower_cast(_kind, Scalar)(_cast)


def register(function: Any, arity: int, emit: Callable[..., Any]) -> None:
    """Register a function of `arity` scalars with Numba: its typing, and the code that `emit` builds."""

    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            scalars = [arg for arg in args if isinstance(arg, Scalar)]
            if len(args) == arity and scalars and all(isinstance(a, (Scalar, types.Number)) for a in args):
                return make_signature(scalars[0], *([scalars[0]] * arity))
            return None

    Template.key = function
    infer_global(function)(Template)

    @lower_builtin(function, *([Scalar] * arity))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)


for _add, _sub, _mul, _div in (
    (operator.add, operator.sub, operator.mul, operator.truediv),
    (operator.iadd, operator.isub, operator.imul, operator.itruediv),
):
    register(_add, 2, lambda b, x, y: b.fadd(x, y))
    register(_sub, 2, lambda b, x, y: b.fsub(x, y))
    register(_mul, 2, lambda b, x, y: b.fmul(x, y))
    register(_div, 2, lambda b, x, y: b.fdiv(x, y))
register(operator.pos, 1, lambda b, x: x)
register(max, 2, lambda b, x, y: b.select(b.fcmp_ordered(">", y, x), y, x))
register(min, 2, lambda b, x, y: b.select(b.fcmp_ordered("<", y, x), y, x))


def multiply_add(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """``x * y + z``, rounded once."""
    name = "llvm.fma.f32" if isinstance(x.type, ir.FloatType) else "llvm.fma.f64"
    function = insert_function(builder.module, ir.FunctionType(x.type, [x.type] * 3), name)
    return builder.call(function, [x, y, z])


def assembly(builder: Any, kind: Any, text: str, constraints: str, *args: Any) -> Any:
    """Emit PTX instructions whose result has an LLVM type; they are neither moved nor left out."""
    function = ir.FunctionType(kind, [arg.type for arg in args])
    return builder.call(ir.InlineAsm(function, text, constraints, side_effect=True), args)


def scalar_loader(count_of: Callable[..., int]) -> Any:
    """Make ``load(like, array, offset, stride)``: a tuple of ``count_of(like's class)`` scalars of an array.

    Scalar n is at ``offset + n * stride``. Bounds are not checked, and negative indices do not count from the
    end.
    """

    def load(like: Any, array: Any, offset: Any, stride: Any) -> Any:
        return tuple(array[offset + n * stride] for n in range(count_of(type(like))))

    @intrinsic
    def emit(typingctx: Any, like: Any, array: Any, offset: Any, stride: Any) -> Any:
        count = count_of(like.instance_class)
        scalar = Scalar(array.dtype)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = indexer(context, builder, sig.args[1], args[1])
            values = [builder.load(pointer(args[2], times(builder, args[3], n))) for n in range(count)]
            return context.make_tuple(builder, sig.return_type, values)

        return make_signature(types.UniTuple(scalar, count), like, array, types.int64, types.int64), codegen

    @overload(load)
    def _(like, array, offset, stride):
        return lambda like, array, offset, stride: emit(like, array, offset, stride)

    return load


def scalar_zeros(count_of: Callable[..., int]) -> Any:
    """Make ``zeros(like, array)``: ``count_of(like's class)`` zeros in the array's precision."""

    def zeros(like: Any, array: Any) -> Any:
        return (array.dtype.type(0),) * count_of(type(like))

    @intrinsic
    def emit(typingctx: Any, like: Any, array: Any) -> Any:
        count = count_of(like.instance_class)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            zero = context.get_constant(array.dtype, 0.0)
            return context.make_tuple(builder, sig.return_type, [zero] * count)

        return make_signature(types.UniTuple(Scalar(array.dtype), count), like, array), codegen

    @overload(zeros)
    def _(like, array):
        return lambda like, array: emit(like, array)

    return zeros


def data_pointer(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Pointer to an array's first element."""
    return context.make_array(kind)(context, builder, array).data


def element_pointer(builder: Any, data: Any, offset: Any, stride: Any, n: int) -> Any:
    """Pointer to element ``offset + n * stride``."""
    return builder.gep(data, [builder.add(offset, builder.mul(stride, ir.Constant(_I64, n)))])


def times(builder: Any, value: Any, factor: int) -> Any:
    """An index times a constant."""
    return builder.mul(value, ir.Constant(_I64, factor))


def indexer(context: Any, builder: Any, kind: Any, array: Any) -> Callable[..., Any]:
    """Make ``pointer(*terms)``: the pointer to an array's element whose index is the sum of the terms.

    The array has one dimension and may be a strided view; for a contiguous one no stride is read.
    """
    made = context.make_array(kind)(context, builder, array)
    step = None
    if kind.layout != "C":
        stride = builder.extract_value(made.strides, 0)
        step = builder.sdiv(stride, ir.Constant(_I64, kind.dtype.bitwidth // 8), flags=("exact",))

    def pointer(*terms: Any) -> Any:
        index = functools.reduce(builder.add, terms)
        return builder.gep(made.data, [index if step is None else builder.mul(index, step)])

    return pointer


def store_scalars(array: Any, offset: Any, stride: Any, values: Any) -> None:
    """Store a tuple of scalars, the inverse of what `scalar_loader` makes."""
    for n, value in enumerate(values):
        array[offset + n * stride] = value


def accumulate_scalars(array: Any, offset: Any, stride: Any, values: Any) -> None:
    """Add a tuple of scalars to those in memory."""
    for n, value in enumerate(values):
        array[offset + n * stride] += value


def _register_store(function: Any, add: bool) -> None:
    @intrinsic
    def emit(typingctx: Any, array: Any, offset: Any, stride: Any, values: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind, tuple_type = sig.args[0], sig.args[3]
            pointer = indexer(context, builder, kind, args[0])
            items = unpack_tuple(builder, args[3], len(tuple_type))
            for n, (item, item_type) in enumerate(zip(items, tuple_type, strict=True)):
                value = context.cast(builder, item, item_type, Scalar(kind.dtype))
                target = pointer(args[1], times(builder, args[2], n))
                if add:
                    value = builder.fadd(builder.load(target), value)
                builder.store(value, target)
            return context.get_dummy_value()

        return make_signature(types.void, array, types.int64, types.int64, values), codegen

    @overload(function)
    def _(array, offset, stride, values):
        return lambda array, offset, stride, values: emit(array, offset, stride, values)


_register_store(store_scalars, add=False)
_register_store(accumulate_scalars, add=True)


def add_tuples(left: Any, right: Any) -> Any:
    """Elementwise sum of two tuples of scalars."""
    return tuple(a + b for a, b in zip(left, right, strict=True))


@intrinsic
def _emit_add_tuples(typingctx: Any, left: Any, right: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pairs = zip(*(unpack_tuple(builder, arg, len(left)) for arg in args), strict=True)
        return context.make_tuple(builder, sig.return_type, [builder.fadd(a, b) for a, b in pairs])

    return make_signature(left, left, right), codegen


@overload(add_tuples)
def _(left, right):
    return lambda left, right: _emit_add_tuples(left, right)


def load_each(arrays: Any, offset: Any) -> Any:
    """Element `offset` of each array of a tuple."""
    return tuple(array[offset] for array in arrays)


def store_each(arrays: Any, offset: Any, values: Any) -> None:
    """Store a tuple of scalars, one in each array of a tuple."""
    for array, value in zip(arrays, values, strict=True):
        array[offset] = value


def accumulate_each(arrays: Any, offset: Any, values: Any) -> None:
    """Add a tuple of scalars, one to each array of a tuple."""
    for array, value in zip(arrays, values, strict=True):
        array[offset] += value


@intrinsic
def _emit_load_each(typingctx: Any, arrays: Any, offset: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        items = unpack_tuple(builder, args[0], len(arrays))
        pointers = [indexer(context, builder, *pair) for pair in zip(arrays, items, strict=True)]
        values = [builder.load(pointer(args[1])) for pointer in pointers]
        return context.make_tuple(builder, sig.return_type, values)

    kinds = types.Tuple([Scalar(array.dtype) for array in arrays])
    return make_signature(kinds, arrays, types.int64), codegen


def _register_store_each(function: Any, add: bool) -> None:
    @intrinsic
    def emit(typingctx: Any, arrays: Any, offset: Any, values: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            targets = unpack_tuple(builder, args[0], len(arrays))
            items = unpack_tuple(builder, args[2], len(values))
            for kind, target, item_type, item in zip(arrays, targets, values, items, strict=True):
                value = context.cast(builder, item, item_type, Scalar(kind.dtype))
                pointer = indexer(context, builder, kind, target)(args[1])
                if add:
                    value = builder.fadd(builder.load(pointer), value)
                builder.store(value, pointer)
            return context.get_dummy_value()

        return make_signature(types.void, arrays, types.int64, values), codegen

    @overload(function)
    def _(arrays, offset, values):
        return lambda arrays, offset, values: emit(arrays, offset, values)


_register_store_each(store_each, add=False)
_register_store_each(accumulate_each, add=True)


@overload(load_each)
def _(arrays, offset):
    return lambda arrays, offset: _emit_load_each(arrays, offset)
