"""Heads: recurrences side by side, each of its own units, which read the same input (Beck et al. 2024).

The engine runs one after the other, on row slices of the parameters: to it they are like further directions.
In stacked arrays (layers*D, B, H) every head has columns; the engine gets all heads' stacks one after the
other, (heads*layers*D, B, H/heads).
"""

from __future__ import annotations

from operator import is_not
from typing import Any

import numpy as np

Array = Any
Params = dict[str, Array]


class HeadParams:
    """The parameters of each head of a layer and direction, as views.

    They are made once for the same arrays, because an engine knows arrays that it has seen before. Copies,
    which travel with copies of the arrays, remember nothing.
    """

    def __init__(self, heads: int, lead: int = 0) -> None:
        self._heads, self._lead = heads, lead
        self._known: tuple[list[Array], list[Params]] = [], []  # replaced as a whole: threads may share it

    def __reduce__(self) -> Any:
        return HeadParams, (self._heads, self._lead)

    def of(self, params: Params) -> list[Params]:
        """One dictionary for each head.

        Parameters
        ----------
        params : dict of Array
            Names without suffix; the shapes have been checked where there is more than one head.
        """
        if self._heads == 1:
            return [params]
        arrays, found = self._known
        if len(arrays) != len(params) or any(map(is_not, arrays, params.values())):
            found = [
                {name: _rows(array, head, self._heads, self._lead) for name, array in params.items()}
                for head in range(self._heads)
            ]
            self._known = list(params.values()), found
        return found


def _rows(array: Array, head: int, heads: int, lead: int) -> Array:
    rows = array.shape[lead] // heads
    return entries(array, head * rows, (head + 1) * rows, lead)


def entries(array: Array, first: int, last: int, axis: int) -> Array:
    """A slice along an axis."""
    return array[(slice(None),) * axis + (slice(first, last),)]


def joined(engine: Any, grads: list[Params], lead: int) -> Params:
    """The gradients of a layer and direction, in the parameters' layout, from those of its heads."""
    if len(grads) == 1:
        return grads[0]
    found = {}
    for name, first in grads[0].items():
        rows = len(grads) * first.shape[lead]
        found[name] = engine.empty((*first.shape[:lead], rows, *first.shape[lead + 1 :]), first.dtype)
        for head, part in enumerate(grads):
            engine.assign(_rows(found[name], head, len(grads), lead), part[name])
    return found


def split_units(engine: Any, array: Array, heads: int) -> Array:
    """(K, B, H), C-contiguous, as (heads*K, B, H/heads), of each model: a copy, but for one head."""
    if heads == 1:
        return array
    *lead, count, batch, hidden = array.shape
    parts = engine.swap_time_batch(array.reshape(*lead, count * batch, heads, hidden // heads))
    return engine.contiguous(parts).reshape(*lead, heads * count, batch, hidden // heads)


def join_units(engine: Any, array: Array, heads: int) -> Array:
    """The inverse of `split_units`."""
    if heads == 1:
        return array
    *lead, count, batch, width = array.shape
    count //= heads
    parts = engine.swap_time_batch(array.reshape(*lead, heads, count * batch, width))
    return engine.contiguous(parts).reshape(*lead, count, batch, heads * width)


def split_extras(engine: Any, extras: dict[str, Array], heads: int) -> list[dict[str, Array]]:
    """For each head its units of the extras (T, B, H); those that all units share, (T, B, 1), as they are."""
    if heads == 1 or not extras:
        return [extras] * heads
    found: list[dict[str, Array]] = [{} for _ in range(heads)]
    for name, array in extras.items():
        *models, count, _, units = array.shape
        parts, lead = None if units == 1 else split_units(engine, array, heads), len(models)
        for head in range(heads):
            found[head][name] = (
                array if parts is None else entries(parts, head * count, (head + 1) * count, lead)
            )
    return found


def dense(params: Params, heads: int) -> Params:
    """Parameters of one head that compute the same: rows by gate alone, zeros between the heads.

    Parameters
    ----------
    params : dict of ndarray
        Of a layer and direction, names without suffix.
    heads : int
    """
    if heads == 1:
        return params
    width = params["weight_hh"].shape[1]
    found = {}
    for name, array in params.items():
        # (G, heads, H/heads, ...)
        blocks = np.swapaxes(array.reshape(heads, -1, width, *array.shape[1:]), 0, 1)
        if name == "weight_hh":
            spread = np.zeros((*blocks.shape[:3], heads, width), array.dtype)
            for head in range(heads):
                spread[:, head, :, head] = blocks[:, head]
            blocks = spread.reshape(*blocks.shape[:3], heads * width)
        found[name] = np.ascontiguousarray(blocks.reshape(-1, *blocks.shape[3:]))
    return found
