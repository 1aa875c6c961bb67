"""A cell's class as a value without contents, so that it can travel inside a tuple.

Numba takes a tuple apart to hand it to the threads of a ``prange``, but does not look for tuples in it: a
cell, which is one, could not be among the weights.
"""

from __future__ import annotations

import functools
from typing import Any

from numba.core import types
from numba.extending import NativeValue, models, overload, register_model, typeof_impl, unbox

from lstm_numba.cpu.options import INLINE


class CellTag:
    """Stands for a cell; `tag_of` makes it.

    Attributes
    ----------
    cell : Cell
    """

    def __init__(self, cell: Any) -> None:
        self.cell = cell

    def __repr__(self) -> str:
        return type(self.cell).__name__

    def __reduce__(self) -> Any:
        return tag_of, (self.cell,)


@functools.cache
def _tag(kind: Any) -> CellTag:
    return CellTag(kind())


def tag_of(cell: Any) -> CellTag:
    """The tag of a cell's class, always the same object."""
    return _tag(type(cell))


class CellTagType(types.Opaque):
    """Numba's type of a tag: one for every cell."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        super().__init__(name=f"tag({kind.__module__}.{kind.__qualname__})")


register_model(CellTagType)(models.OpaqueModel)


@typeof_impl.register(CellTag)
def _typeof_tag(tag: CellTag, context: Any) -> Any:
    return CellTagType(type(tag.cell))


@unbox(CellTagType)
def _unbox_tag(kind: Any, tag: Any, context: Any) -> Any:
    return NativeValue(context.context.get_dummy_value())


def cell_of(weights: Any) -> Any:
    """The cell whose tag is a tuple's first item."""
    raise NotImplementedError


@overload(cell_of, INLINE)
def _(weights):
    kind = weights.types[0].kind
    return lambda weights: kind()
