"""Arrays of many models: one model's after the other's in memory, or one that all of them read.

Kernels and the host get at a model's arrays by a stride for each array, from one model to the next in
elements; it is 0 where all models read the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from lstm_numba.engines.cuda.driver import intrinsic, make_signature, overload, types, unpack_tuple
from lstm_numba.engines.cuda.scalar import indexer


class Models(NamedTuple):
    """Many models of a kernel of sequences.

    Attributes
    ----------
    count : int
    arrays, gradients : tuples of int
        Strides of all arrays of `Arrays` and of `Gradients` of `lstm_numba.engines.cuda.layout`, in order.
    """

    count: Any
    arrays: Any
    gradients: Any = ()


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def model_strides(group: Any, models: int, given: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The strides of a named tuple's arrays; by a field's name those that are not the models' equal parts."""
    found: list[int] = []
    for name, value in zip(group._fields, group, strict=True):
        arrays = [one for one in (value if isinstance(value, tuple) else (value,)) if _is_array(one)]
        found += given.get(name, tuple(array.size // models for array in arrays))
    return tuple(found)


def of_model(group: Any, strides: Any, model: Any) -> Any:
    """A model's arrays of a tuple, which may have tuples in it; numbers stay as they are."""
    return _moved(group, iter(strides), model)


def _moved(value: Any, strides: Iterator[int], model: int) -> Any:
    if isinstance(value, tuple):
        parts = [_moved(one, strides, model) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if not _is_array(value):
        return value
    place = next(strides) * model
    return value[place:] if place else value


@intrinsic
def _emit_of_model(typingctx: Any, group: Any, strides: Any, model: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        steps = iter(unpack_tuple(builder, args[1], len(strides)))

        def moved(kind: Any, value: Any) -> Any:
            if isinstance(kind, types.BaseTuple) and len(kind):
                parts = [moved(one, builder.extract_value(value, n)) for n, one in enumerate(kind)]
                return context.make_tuple(builder, kind, parts)
            if not isinstance(kind, types.Array):
                return value
            array = context.make_array(kind)(context, builder, value)
            array.data = indexer(context, builder, kind, value)(builder.mul(next(steps), args[2]))
            return array._getvalue()

        result = moved(group, args[0])
        if context.enable_nrt:  # on a processor: a new reference
            context.nrt.incref(builder, group, result)
        return result

    return make_signature(group, group, strides, types.int64), codegen


@overload(of_model)
def _(group, strides, model):
    return lambda group, strides, model: _emit_of_model(group, strides, model)
