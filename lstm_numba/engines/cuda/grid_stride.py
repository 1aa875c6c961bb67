"""``for i in stride_range(first, end, step)``: `range` for grid-stride loops.

Numba's `range` computes the number of iterations by a division in 64 bits, for which a GPU has no instruction
but a routine of some tens of them; this one only compares. The price: the compiler does not unroll such a
loop, so a loop in which few threads wait for memory is faster with `range` in 32 bits.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import (
    AbstractTemplate,
    RefType,
    StructModel,
    alloca_once,
    cuda,
    infer_global,
    iternext_impl,
    lower_builtin,
    make_signature,
    register_model,
    types,
)
from lstm_numba.engines.cuda.options import DEVICE


def stride_range(first: int, end: int, step: int) -> Any:
    """The integers from `first` up to, but without, `end`, in positive steps of `step`."""
    return range(first, end, step)


class StrideRange(types.SimpleIteratorType):
    """Numba type of what `stride_range` returns."""

    def __init__(self) -> None:
        super().__init__("stride_range", types.int64)


@register_model(StrideRange)
class _StrideRangeModel(StructModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        members = [("next", types.CPointer(types.int64)), ("end", types.int64), ("step", types.int64)]
        super().__init__(dmm, fe_type, members)


@infer_global(stride_range)
class _Template(AbstractTemplate):
    key = stride_range

    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 3 and all(isinstance(arg, types.Integer) for arg in args):
            return make_signature(StrideRange(), *[types.int64] * 3)
        return None


@lower_builtin(stride_range, types.int64, types.int64, types.int64)
def _start(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    loop = context.make_helper(builder, sig.return_type)
    loop.next = alloca_once(builder, args[0].type)
    builder.store(args[0], loop.next)
    loop.end, loop.step = args[1], args[2]
    return loop._getvalue()


@lower_builtin("iternext", StrideRange)
@iternext_impl(RefType.UNTRACKED)
def _next(context: Any, builder: Any, sig: Any, args: Any, result: Any) -> None:
    loop = context.make_helper(builder, sig.args[0], value=args[0])
    value = builder.load(loop.next)
    inside = builder.icmp_signed("<", value, loop.end)
    result.set_valid(inside)
    with builder.if_then(inside):
        result.yield_(value)
        builder.store(builder.add(value, loop.step), loop.next)


@cuda.jit(**DEVICE)
def models_and_depth(bits):
    """Where a thread's loops over models and over a further dimension begin, and their steps.

    Blocks along z of the grid share both: 2 to the power `bits` blocks each model's further dimension. So no
    division tells which is which. See `lstm_numba.engines.cuda.launch.launch_over_models`.

    Returns
    -------
    model, model_step, z, z_step : int
    """
    parts = 1 << bits
    return cuda.blockIdx.z >> bits, cuda.gridDim.z >> bits, cuda.blockIdx.z & (parts - 1), parts
