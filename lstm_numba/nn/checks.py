"""Checks of what a recurrent layer is called with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_numba.arguments import integers

if TYPE_CHECKING:
    from lstm_numba.nn.layer_parameters import LayerParameters
    from lstm_numba.nn.recurrent import Recurrent

Array = Any


def check_input(rnn: Recurrent, x: Any) -> Array:
    """The input as an array (T, B, I) of the layer's engine, or (N, T, B, I) for N models."""
    x = rnn.engine.from_user("x", x, rnn.dtype)
    lead, features = x.shape[:-3], x.shape[-1:]
    if x.ndim < 3 or lead not in ((), rnn._lead) or features != (rnn.input_size,) or 0 in x.shape:
        hint = " with T, B of at least 1" if 0 in x.shape else ""
        axes = f"{'B, T' if rnn.batch_first else 'T, B'}, {rnn.input_size}"
        several = f"({rnn.models}, {axes}) or " if rnn.models else ""
        raise ValueError(f"x: expected shape {several}({axes}){hint}, got {x.shape}")
    return rnn.engine.swap_time_batch(x) if rnn.batch_first else x


def check_output_gradient(rnn: Recurrent, dy: Any, steps: int, batch: int) -> Array | None:
    """The gradient of the output as (T, B, D*H), of each model, None for zeros."""
    if dy is None:
        return None
    features = rnn.directions * rnn.output_size
    dy = rnn.engine.from_user("dy", dy, rnn.dtype)
    expected = (*rnn._lead, *((batch, steps) if rnn.batch_first else (steps, batch)), features)
    if dy.shape != expected:
        raise ValueError(f"dy: expected shape {expected}, got {dy.shape}")
    return rnn.engine.contiguous(rnn.engine.swap_time_batch(dy) if rnn.batch_first else dy)


def check_state(rnn: Recurrent, name: str, state: Any, batch: int) -> list[Array] | None:
    """States as a list, one array (layers*D, B, H), of each model, per state of the cell; None for zeros."""
    if state is None:
        return None
    names, count = rnn.cell.states, rnn.num_layers * rnn.directions
    arrays = [state] if len(names) == 1 else state
    if not isinstance(arrays, (tuple, list)) or len(arrays) != len(names):
        kind = "a tuple of arrays (" + ", ".join(names) + ")" if len(names) > 1 else "an array"
        raise TypeError(f"{name}: expected {kind}, got {type(state).__name__}")
    checked = [rnn.engine.from_user(name, array, rnn.dtype) for array in arrays]
    for n, array in enumerate(checked):
        shape = (*rnn._lead, count, batch, rnn.hidden_size if n else rnn.output_size)
        if array.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    return [rnn.engine.contiguous(array) for array in checked]


def check_lengths(lengths: Any, steps: int, batch: int, lead: tuple[int, ...] = ()) -> Array | None:
    """Lengths as int64 in the host's memory, (B,), or with the axis of models."""
    if lengths is None:
        return None
    array = integers("lengths", lengths)
    if array.shape not in ((batch,), (*lead, batch)):
        several = f"{(*lead, batch)} or " if lead else ""
        raise ValueError(f"lengths: expected shape {several}({batch},), got {array.shape}")
    if np.any(array < 0) or np.any(array > steps):
        raise ValueError(f"lengths: expected 0 to {steps}, got {int(array.min())} to {int(array.max())}")
    return array.astype(np.int64, order="C")


def check_extras(
    rnn: Recurrent, extras: Mapping[str, Any] | None, steps: int, batch: int, copy: bool
) -> dict[str, Array]:
    """The extras of the layer's own cell, (T or 1, B or 1, H or 1), or of each model; copies if `copy`."""
    cell, given = rnn.plain_cell, {} if extras is None else extras
    if not isinstance(given, Mapping):
        raise TypeError(f"extras: expected a mapping of names to arrays, got {type(extras).__name__}")
    missing, unknown = set(cell.extras) - given.keys(), given.keys() - set(cell.extras)
    if missing or unknown:
        raise ValueError(
            f"extras: expected {sorted(cell.extras) or 'none'}; "
            f"missing {sorted(missing)}, unknown {sorted(unknown)}"
        )
    engine, found = rnn.engine, {}
    for name, per_unit in zip(cell.extras, cell.extra_units, strict=True):
        array = engine.from_user(f"extras: {name}", given[name], rnn.dtype)
        width = rnn.hidden_size if per_unit else 1
        first, second = (batch, steps) if rnn.batch_first else (steps, batch)
        if array.shape[:-3] not in ((), rnn._lead) or any(
            n not in allowed
            for n, allowed in zip(array.shape[-3:], ((first, 1), (second, 1), (width,)), strict=False)
        ):
            raise ValueError(
                f"extras: {name}: expected shape ({first} or 1, {second} or 1, {width}), got {array.shape}"
            )
        array = engine.swap_time_batch(array) if rnn.batch_first else array
        found[name] = engine.copy_input(array, None) if copy else engine.contiguous(array)
    return found


def check_parameters(rnn: LayerParameters, n: int, params: dict[str, Array]) -> None:
    """Raise an error if a parameter of several heads, which are slices of it, has another shape or dtype."""
    names = rnn._layer_directions[n].names
    for name, array in params.items():
        expected = (*rnn._lead, *rnn._shapes[names[name]])
        if rnn.engine.from_user(names[name], array, rnn.dtype).shape != expected:
            raise ValueError(f"{names[name]}: expected shape {expected}, got {array.shape}")
