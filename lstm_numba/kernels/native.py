"""Weights as Numba sees them: a struct, not a tuple, for a parallel loop refuses a tuple within a tuple."""

from __future__ import annotations

from typing import Any, ClassVar

from numba.core import cgutils, types
from numba.core.typing.typeof import typeof
from numba.extending import (
    NativeValue,
    box,
    make_attribute_wrapper,
    models,
    register_model,
    typeof_impl,
    unbox,
)

from lstm_numba.kernels.weights import Packed, Plain


class WeightsType(types.Type):
    """Of Plain or Packed; `members` are the types of the fields."""

    instance_class: ClassVar[Any]

    def __init__(self, members: tuple[Any, ...]) -> None:
        self.members = members
        super().__init__(f"{self.instance_class.__name__}({', '.join(map(str, members))})")


class PlainType(WeightsType):
    """Of `Plain`."""

    instance_class = Plain


class PackedType(WeightsType):
    """Of `Packed`."""

    instance_class = Packed


class _Struct(models.StructModel):
    def __init__(self, manager: Any, kind: WeightsType) -> None:
        members = list(zip(kind.instance_class._fields, kind.members, strict=True))
        super().__init__(manager, kind, members)


def _register(kind: type[WeightsType]) -> None:
    """Tell Numba of a type: when an object has it, how it lies in memory, what its fields are called."""
    typeof_impl.register(kind.instance_class)(
        lambda weights, context: kind(tuple(typeof(field, context.purpose) for field in weights))
    )
    register_model(kind)(_Struct)
    for name in kind.instance_class._fields:
        make_attribute_wrapper(kind, name, name)


_register(PlainType)
_register(PackedType)


@unbox(WeightsType)
def _from_python(kind, weights, c):
    struct = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    failed = cgutils.false_bit
    for n, (name, member) in enumerate(zip(kind.instance_class._fields, kind.members, strict=True)):
        native = c.unbox(member, c.pyapi.tuple_getitem(weights, n))
        setattr(struct, name, native.value)
        failed = c.builder.or_(failed, native.is_error)
    return NativeValue(struct._getvalue(), is_error=failed)


@box(WeightsType)
def _to_python(kind, value, c):
    struct = cgutils.create_struct_proxy(kind)(c.context, c.builder, value=value)
    fields = [
        c.box(member, getattr(struct, name))
        for name, member in zip(kind.instance_class._fields, kind.members, strict=True)
    ]
    build = c.pyapi.unserialize(c.pyapi.serialize_object(kind.instance_class))
    weights = c.pyapi.call_function_objargs(build, fields)
    for owned in (build, *fields):
        c.pyapi.decref(owned)
    return weights
