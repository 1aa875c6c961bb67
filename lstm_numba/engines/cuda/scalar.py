"""A Numba type for one floating-point number that stays in its own precision.

Numba promotes ``1 - f`` with a float32 ``f`` to float64, which a graphics processor computes many times more
slowly. A cell's equations compiled with `Number` arguments keep the precision of the arrays: a Python number
beside a `Number` takes its type. It is to the CUDA engine what `lstm_numba.engines.cpu.vector.Vector` is to
the CPU's.

Each function here has a plain Python body too: that is what it means, and what CUDA's simulator runs.
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


class Number(types.Type):
    """Numba type: a float32 or float64 number beside which Python numbers do not count."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"number({dtype.name})")

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """Python numbers beside a `Number` become one."""
        return Conversion.safe if isinstance(other, types.Number) else None


@register_model(Number)
class _NumberModel(PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _float_type(fe_type))


def _float_type(number: Any) -> Any:
    return ir.FloatType() if number.dtype == types.float32 else ir.DoubleType()


def _cast(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    return context.cast(builder, value, fromty, toty.dtype)


for _kind in (types.Integer, types.Float, types.IntegerLiteral):
    lower_cast(_kind, Number)(_cast)


def register(function: Any, arity: int, emit: Callable[..., Any]) -> None:
    """Register `function` on numbers with Numba: its typing, and the code of ``emit(builder, *args)``."""

    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            numbers = [arg for arg in args if isinstance(arg, Number)]
            if len(args) == arity and numbers and all(isinstance(a, (Number, types.Number)) for a in args):
                return make_signature(numbers[0], *([numbers[0]] * arity))
            return None

    Template.key = function
    infer_global(function)(Template)

    @lower_builtin(function, *([Number] * arity))
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


def load_tuple(count_of: Callable[..., int]) -> Any:
    """Make ``load(like, array, at, stride)``: a tuple of ``count_of(like's class)`` numbers of an array.

    Number n lies at ``at + n * stride``. There is no check of bounds, and negative places do not count from
    the end: hot loops are short of instructions.
    """

    def load(like: Any, array: Any, at: Any, stride: Any) -> Any:
        return tuple(array[at + n * stride] for n in range(count_of(type(like))))

    @intrinsic
    def emit(typingctx: Any, like: Any, array: Any, at: Any, stride: Any) -> Any:
        count = count_of(like.instance_class)
        number = Number(array.dtype)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = line_of(context, builder, sig.args[1], args[1])
            values = [builder.load(pointer(args[2], times(builder, args[3], n))) for n in range(count)]
            return context.make_tuple(builder, sig.return_type, values)

        return make_signature(types.UniTuple(number, count), like, array, types.int64, types.int64), codegen

    @overload(load)
    def _(like, array, at, stride):
        return lambda like, array, at, stride: emit(like, array, at, stride)

    return load


def data_of(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Pointer to an array's first number."""
    return context.make_array(kind)(context, builder, array).data


def place(builder: Any, data: Any, at: Any, stride: Any, n: int) -> Any:
    """Pointer to number ``at + n * stride``."""
    return builder.gep(data, [builder.add(at, builder.mul(stride, ir.Constant(_I64, n)))])


def times(builder: Any, value: Any, factor: int) -> Any:
    """An index times a constant."""
    return builder.mul(value, ir.Constant(_I64, factor))


def line_of(context: Any, builder: Any, kind: Any, array: Any) -> Callable[..., Any]:
    """A function from an index, given as terms of a sum, to the pointer to that number.

    The array has one dimension. It may be a view whose numbers lie apart; of one that is contiguous the
    generated code does not ask.
    """
    made = context.make_array(kind)(context, builder, array)
    step = None
    if kind.layout != "C":
        stride = builder.extract_value(made.strides, 0)
        step = builder.sdiv(stride, ir.Constant(_I64, kind.dtype.bitwidth // 8), flags=("exact",))

    def pointer(*terms: Any) -> Any:
        where = functools.reduce(builder.add, terms)
        return builder.gep(made.data, [where if step is None else builder.mul(where, step)])

    return pointer


def store_numbers(array: Any, at: Any, stride: Any, values: Any) -> None:
    """Store a tuple of numbers, the inverse of what `load_tuple` makes."""
    for n, value in enumerate(values):
        array[at + n * stride] = value


def add_numbers(array: Any, at: Any, stride: Any, values: Any) -> None:
    """Add a tuple of numbers to those in memory."""
    for n, value in enumerate(values):
        array[at + n * stride] += value


def _writer(function: Any, add: bool) -> None:
    @intrinsic
    def emit(typingctx: Any, array: Any, at: Any, stride: Any, values: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind, tuple_type = sig.args[0], sig.args[3]
            pointer = line_of(context, builder, kind, args[0])
            items = unpack_tuple(builder, args[3], len(tuple_type))
            for n, (item, item_type) in enumerate(zip(items, tuple_type, strict=True)):
                value = context.cast(builder, item, item_type, Number(kind.dtype))
                target = pointer(args[1], times(builder, args[2], n))
                if add:
                    value = builder.fadd(builder.load(target), value)
                builder.store(value, target)
            return context.get_dummy_value()

        return make_signature(types.void, array, types.int64, types.int64, values), codegen

    @overload(function)
    def _(array, at, stride, values):
        return lambda array, at, stride, values: emit(array, at, stride, values)


_writer(store_numbers, add=False)
_writer(add_numbers, add=True)


def add_tuples(left: Any, right: Any) -> Any:
    """Sum of two tuples of numbers, item by item."""
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


def load_each(arrays: Any, at: Any) -> Any:
    """Number `at` of each array of a tuple."""
    return tuple(array[at] for array in arrays)


def store_each(arrays: Any, at: Any, values: Any) -> None:
    """Store a tuple of numbers, one into each array of a tuple."""
    for array, value in zip(arrays, values, strict=True):
        array[at] = value


def add_each(arrays: Any, at: Any, values: Any) -> None:
    """Add a tuple of numbers, one to each array of a tuple."""
    for array, value in zip(arrays, values, strict=True):
        array[at] += value


@intrinsic
def _emit_load_each(typingctx: Any, arrays: Any, at: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        items = unpack_tuple(builder, args[0], len(arrays))
        pointers = [line_of(context, builder, *pair) for pair in zip(arrays, items, strict=True)]
        values = [builder.load(pointer(args[1])) for pointer in pointers]
        return context.make_tuple(builder, sig.return_type, values)

    kinds = types.Tuple([Number(array.dtype) for array in arrays])
    return make_signature(kinds, arrays, types.int64), codegen


def _each_writer(function: Any, add: bool) -> None:
    @intrinsic
    def emit(typingctx: Any, arrays: Any, at: Any, values: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            targets = unpack_tuple(builder, args[0], len(arrays))
            items = unpack_tuple(builder, args[2], len(values))
            for kind, target, item_type, item in zip(arrays, targets, values, items, strict=True):
                value = context.cast(builder, item, item_type, Number(kind.dtype))
                where = line_of(context, builder, kind, target)(args[1])
                if add:
                    value = builder.fadd(builder.load(where), value)
                builder.store(value, where)
            return context.get_dummy_value()

        return make_signature(types.void, arrays, types.int64, values), codegen

    @overload(function)
    def _(arrays, at, values):
        return lambda arrays, at, values: emit(arrays, at, values)


_each_writer(store_each, add=False)
_each_writer(add_each, add=True)


@overload(load_each)
def _(arrays, at):
    return lambda arrays, at: _emit_load_each(arrays, at)
