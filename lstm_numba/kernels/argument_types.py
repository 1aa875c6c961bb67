"""The types that the functions of this package take, checked where a call is compiled.

Numba reports the innermost function that cannot be typed, and that is not the user's. A function here looks
at the types of its arguments first, therefore, and says in one line which of them does not fit.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numba.core import errors, types
from numba.core.sigutils import normalize_signature
from numba.extending import models, register_model, typeof_impl, unbox

from lstm_numba.engines.cpu.records import Parameters
from lstm_numba.kernels.types import PackedType, PlainType, WeightsType

#: A check: refuses the type of the argument of a name; the dtype of the weights, and whose it is, help it.
Rule = Callable[[str, Any, Any], None]
#: Arguments that a caller has more of than one step needs.
_OF_STEPS = ("x", "y", "dx", "dy", "out")


def _refuse(name: str, expected: str, kind: Any, hint: str = "") -> None:
    raise errors.TypingError(f"{name}: expected {expected}, got {kind}" + (f"; {hint}" if hint else ""))


def _any_array(name: str, kind: Any, dtype: Any) -> None:
    if isinstance(kind, (types.Number, types.Boolean)):
        _refuse(name, "an array", kind, f"{name}[t:t+1] is one" if name in _OF_STEPS else "")
    if not isinstance(kind, types.Array) or kind.ndim == 0:
        _refuse(name, "an array of one dimension or more", kind)


def samples(name: str, kind: Any, dtype: Any) -> None:
    """An array of any layout, of the stream's dtype."""
    _any_array(name, kind, dtype)
    if kind.dtype != dtype:
        _refuse(name, f"an array of the stream's dtype, {dtype}", kind, f"{name}.astype(dtype) makes one")


def read(name: str, kind: Any, dtype: Any) -> None:
    """An array that a kernel reads by its address; of any dtype where `dtype` is None."""
    _any_array(name, kind, dtype)
    if dtype not in (None, kind.dtype) or kind.layout != "C":
        whose = "" if dtype is None else f" of the weights' dtype, {dtype}"
        hint = f"numpy.ascontiguousarray({name}, dtype) makes one"
        _refuse(name, f"a C-contiguous array{whose}", kind, hint)


def written(name: str, kind: Any, dtype: Any) -> None:
    """An array that a kernel writes to by its address: NumPy's flag does not hold it off."""
    read(name, kind, dtype)
    if not kind.mutable:
        _refuse(name, "an array that may be written to", kind)


def _flat(name: str, kind: Any, dtype: Any) -> None:
    written(name, kind, dtype)
    if kind.ndim != 1:
        _refuse(name, "an array of one dimension", kind, f"{name}.reshape(-1) is one")


def _states(name: str, kind: Any, weights: Any) -> None:
    names = weights.kind.states
    arrays = types.UniTuple(kind, 1) if isinstance(kind, types.Array) else kind
    if not isinstance(arrays, types.UniTuple) or len(arrays) != len(names):
        _refuse(name, f"a tuple of {len(names)} arrays of one type ({', '.join(names)})", kind)
    written(name, arrays.dtype, weights.dtype)


def _weights(name: str, kind: Any, dtype: Any) -> None:
    if not isinstance(kind, WeightsType):
        _refuse(name, "what kernels.plain(rnn) or kernels.pack(kernels.plain(rnn)) makes", kind)


def _packed(name: str, kind: Any, dtype: Any) -> None:
    if not isinstance(kind, PackedType):
        _refuse(name, "what kernels.pack(kernels.plain(rnn)) makes", kind)


def _parameters(name: str, kind: Any, dtype: Any, rule: Rule = read) -> None:
    members: dict[str, Any] = {}
    if isinstance(kind, PlainType):
        members = dict(kind.members)
    elif isinstance(kind, types.BaseNamedTuple):
        members = dict(zip(kind.fields, kind.types, strict=True))
    if not members.keys() >= set(Parameters._fields):
        _refuse(name, "Parameters, as kernels.plain(rnn).parameters", kind)
    for field in Parameters._fields:
        rule(f"{name}.{field}", members[field], dtype)
        dimensions = 2 if field in ("weight_ih", "weight_hh") else 1
        if members[field].ndim != dimensions:
            _refuse(f"{name}.{field}", f"an array of dimension {dimensions}", members[field])


def _gradients(name: str, kind: Any, dtype: Any) -> None:
    _parameters(name, kind, dtype, written)


def _count(name: str, kind: Any, dtype: Any) -> None:
    if not isinstance(kind, types.Integer):
        _refuse(name, "an integer", kind)


def _plan(name: str, kind: Any, dtype: Any) -> None:
    if not isinstance(kind, types.Array) or kind.dtype != types.int64:
        _refuse(
            "cell, plan, zero", "a stream's arguments, as in stream_step(*stream.arguments, x, out)", kind
        )


def memory(name: str, kind: Any, dtype: Any) -> None:
    """A C pointer to numbers, or an array of them."""
    if isinstance(kind, types.CPointer):
        if kind.dtype != dtype:
            _refuse(name, f"a pointer to {dtype}", kind)
    elif kind != types.voidptr:
        (read if name == "x" else written)(name, kind, dtype)


def pointer(name: str, kind: Any, dtype: Any) -> None:
    """A C pointer, or its address."""
    if not isinstance(kind, (types.CPointer, types.RawPointer, types.Integer)):
        _refuse(name, "a pointer or its address, CStep.handle.value", kind)


#: What an argument of a name is, where a function says nothing else.
_RULES: dict[str, Rule] = {
    "weights": _weights, "packed": _packed, "like": _parameters, "parameters": _parameters,
    "grads": _gradients, "x": read, "dy": read, "y": written, "dx": written, "out": written,
    "tape": _flat, "scratch": _flat, "steps": _count, "batch": _count, "plan": _plan,
}  # fmt: skip


def check_types(names: Any, kinds: Any, rules: dict[str, Rule]) -> None:
    """Refuse types that do not fit.

    Parameters
    ----------
    names : iterable of str
        The function's parameters.
    kinds : iterable of numba.types.Type
        What they are given.
    rules : dict of str to callable
        Of parameters that are something else than their names say elsewhere.

    Raises
    ------
    numba.TypingError
        One line: the argument, what was expected, what was got.
    """
    given = {name: types.unliteral(kind) for name, kind in zip(names, kinds, strict=True)}
    weights = given.get("weights", given.get("packed"))
    dtype = weights.dtype if isinstance(weights, WeightsType) else given.get("zero")
    for name, kind in given.items():
        if name in ("state", "dstate") and isinstance(weights, WeightsType):
            _states(name, kind, weights)
        elif (name in rules or name in _RULES) and not isinstance(kind, types.Omitted):
            (rules.get(name) or _RULES[name])(name, kind, dtype)


def check_before_compiling(compiled: Any, rules: dict[str, Rule]) -> None:
    """Have a compiled function check types before Numba compiles it for them, or reads it from its cache.

    Parameters
    ----------
    compiled : numba.core.dispatcher.Dispatcher
    rules : dict of str to callable
        As for `check_types`.
    """
    names, compile_for = inspect.signature(compiled.py_func).parameters, compiled.compile

    def check_and_compile(signature: Any) -> Any:
        check_types(names, normalize_signature(signature)[0], rules)
        return compile_for(signature)

    compiled.compile = check_and_compile


class ObjectType(types.Type):
    """Type of a Python object that compiled code cannot use, so that messages can name it."""


@register_model(ObjectType)
class _ObjectModel(models.OpaqueModel):
    pass


@unbox(ObjectType)
def _refuse_object(kind: Any, value: Any, c: Any) -> Any:
    raise errors.TypingError(
        f"{kind}: cannot be an argument of compiled code; kernels.pack(kernels.plain(rnn)) can, "
        "and what is in Stream(rnn).arguments"
    )


def name_in_messages(kind: Any) -> None:
    """Have Numba's messages name objects of a class, as they are printed."""
    typeof_impl.register(kind)(lambda value, _: ObjectType(repr(value)))
