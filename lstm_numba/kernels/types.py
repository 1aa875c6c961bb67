"""Numba's types of plain and packed weights: structures whose type says which cell it is.

No tuples: Numba takes a tuple apart to hand it to the threads of a ``prange``, and does not look for tuples
in it; and it would take global tuples for constants, and keep on disk addresses that mean nothing later.
"""

from __future__ import annotations

from typing import Any, ClassVar

from numba.core import cgutils, errors, types
from numba.core.imputils import lower_constant
from numba.extending import (
    NativeValue,
    intrinsic,
    make_attribute_wrapper,
    models,
    overload,
    register_model,
    unbox,
)

from lstm_numba._version import __version__
from lstm_numba.engines.cpu.options import INLINE

_INT64S = types.Array(types.int64, 1, "C")


class WeightsType(types.Type):
    """Type of the weights of a cell, given by its class.

    Attributes
    ----------
    kind : class of the cell
    dtype : numba.types.Float
    members : tuple of (str, numba.types.Type)
    """

    form: ClassVar[str]

    def __init__(self, kind: Any, dtype: Any, *members: tuple[str, Any]) -> None:
        self.kind, self.dtype, self.members = kind, dtype, members
        # With the version: a user's function that is kept on disk was compiled for this one's arrangement of
        # memory.
        super().__init__(name=f"{self.form}({kind.__module__}.{kind.__qualname__}, {dtype}, {__version__})")


class PlainType(WeightsType):
    """Type of `lstm_numba.kernels.Plain`."""

    form = "Plain"

    def __init__(self, kind: Any, dtype: Any) -> None:
        matrix, vector = types.Array(dtype, 2, "C"), types.Array(dtype, 1, "C")
        super().__init__(
            kind, dtype, ("weight_ih", matrix), ("weight_hh", matrix), ("bias_ih", vector),
            ("bias_hh", vector), ("weight_ph", vector), ("functions", _INT64S),
        )  # fmt: skip


class PackedType(WeightsType):
    """Type of `lstm_numba.kernels.Packed`."""

    form = "Packed"

    def __init__(self, kind: Any, dtype: Any) -> None:
        super().__init__(
            kind, dtype, ("inputs", types.int64), ("hidden", types.int64),
            ("data", types.Array(dtype, 1, "C")), ("descriptor", _INT64S), ("functions", _INT64S),
        )  # fmt: skip


@register_model(PlainType)
@register_model(PackedType)
class _WeightsModel(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, list(kind.members))


for _type in (PlainType, PackedType):
    for _member in _type(type(None), types.float32).members:
        make_attribute_wrapper(_type, _member[0], _member[0])


@unbox(WeightsType)
def _unbox_weights(kind: Any, weights: Any, c: Any) -> Any:
    """The attributes one by one; the caller's object keeps them alive."""
    proxy = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    for name, member in kind.members:
        value = c.pyapi.object_getattr_string(weights, name)
        setattr(proxy, name, c.unbox(member, value).value)
        c.pyapi.decref(value)
    failed = cgutils.is_not_null(c.builder, c.pyapi.err_occurred())
    return NativeValue(proxy._getvalue(), is_error=failed)


@lower_constant(WeightsType)
def _refuse_constant(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    raise errors.TypingError(
        "weights: expected as an argument of the compiled function, not as a global variable"
    )


def cell_of(weights: Any) -> Any:
    """The weights' cell."""
    raise NotImplementedError


@overload(cell_of, INLINE)
def _(weights):
    kind = weights.kind
    return lambda weights: kind()


@intrinsic
def _replace_parameters(typingctx: Any, weights: Any, parameters: Any) -> Any:
    names = [name for name, _ in weights.members if name != "functions"]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        old = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0])
        new = cgutils.create_struct_proxy(sig.return_type)(context, builder)
        for n, name in enumerate(names):
            setattr(new, name, builder.extract_value(args[1], n))
        new.functions = old.functions
        context.nrt.incref(builder, sig.return_type, new._getvalue())
        return new._getvalue()

    return weights(weights, parameters), codegen


def with_parameters(weights: Any, parameters: Any) -> Any:
    """Other arrays as weights of the same cell; for calls from compiled code.

    Parameters
    ----------
    weights : Plain
    parameters : Parameters
        C-contiguous arrays of the same dtype; shapes may be others.

    Returns
    -------
    Plain
    """
    raise NotImplementedError("with_parameters: for calls from compiled code; from Python see plain")


@overload(with_parameters, INLINE)
def _(weights, parameters):
    expected = tuple(kind for name, kind in weights.members if name != "functions")
    if not isinstance(weights, PlainType) or tuple(parameters) != expected:
        raise errors.TypingError(f"parameters: expected Parameters of C-contiguous {weights.dtype} arrays")
    return lambda weights, parameters: _replace_parameters(weights, parameters)
