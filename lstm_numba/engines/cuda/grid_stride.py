"""``for i in strides(first, end, step)``: `range` for loops of threads that stride over an array.

Numba's `range` divides to find out how often a loop runs, in 64 bits, for which a graphics processor has no
instruction but a routine of some tens of them. This one compares. What it costs: the compiler does not unroll
such a loop, so that one in which few threads wait for memory is better off with `range`, in 32 bits.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import (
    AbstractTemplate,
    RefType,
    StructModel,
    alloca_once,
    infer_global,
    iternext_impl,
    lower_builtin,
    make_signature,
    register_model,
    types,
)


def strides(first: int, end: int, step: int) -> Any:
    """The integers from `first` up to but without `end`, a positive `step` apart."""
    return range(first, end, step)


class Strides(types.SimpleIteratorType):
    """Numba type of what `strides` returns."""

    def __init__(self) -> None:
        super().__init__("strides", types.int64)


@register_model(Strides)
class _StridesModel(StructModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        members = [("at", types.CPointer(types.int64)), ("end", types.int64), ("step", types.int64)]
        super().__init__(dmm, fe_type, members)


@infer_global(strides)
class _Template(AbstractTemplate):
    key = strides

    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 3 and all(isinstance(arg, types.Integer) for arg in args):
            return make_signature(Strides(), *[types.int64] * 3)
        return None


@lower_builtin(strides, types.int64, types.int64, types.int64)
def _start(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    loop = context.make_helper(builder, sig.return_type)
    loop.at = alloca_once(builder, args[0].type)
    builder.store(args[0], loop.at)
    loop.end, loop.step = args[1], args[2]
    return loop._getvalue()


@lower_builtin("iternext", Strides)
@iternext_impl(RefType.UNTRACKED)
def _next(context: Any, builder: Any, sig: Any, args: Any, result: Any) -> None:
    loop = context.make_helper(builder, sig.args[0], value=args[0])
    at = builder.load(loop.at)
    inside = builder.icmp_signed("<", at, loop.end)
    result.set_valid(inside)
    with builder.if_then(inside):
        result.yield_(at)
        builder.store(builder.add(at, loop.step), loop.at)
