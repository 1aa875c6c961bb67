"""A linear layer behind a step, ``y = h W^T + b``: h has so few rows that reading W is most of the time.

W stays as it is, row by row, and is read once, whatever the batch. Four of its rows together keep the units
that multiply busy where rows are short; the sums over a row are LLVM's to vectorise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit
from numba.core import types

from lstm_numba.engines.cpu.function_pointers import compile_apart, once
from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.records import read_record
from lstm_numba.engines.cpu.vector import pointer_to


class Head(NamedTuple):
    """A linear layer on what a step's last layer gives.

    Attributes
    ----------
    function : int
        Address of the C function that computes it, from `head_address`.
    weight, bias : int
        Addresses of W (O, I) and b (O,), C-contiguous.
    batch, inputs, outputs : int
        B, I and O.
    """

    function: int
    weight: int
    bias: int
    batch: int
    inputs: int
    outputs: int


@njit(**INLINE)
def _four_sums(weight, at, h, h_at, depth, zero):
    """Products of four rows of W with a row of h."""
    first = second = third = fourth = zero
    for k in range(depth):
        number = h[h_at + k]
        first += weight[at + k] * number
        second += weight[at + depth + k] * number
        third += weight[at + 2 * depth + k] * number
        fourth += weight[at + 3 * depth + k] * number
    return first, second, third, fourth


@njit(**INLINE)
def _sum(weight, at, h, h_at, depth, zero):
    """The same of one row of W."""
    total = zero
    for k in range(depth):
        total += weight[at + k] * h[h_at + k]
    return total


@njit(**INLINE)
def _apply(head, h, y, zero):
    """All rows of h."""
    weight, bias = pointer_to(head.weight, zero), pointer_to(head.bias, zero)
    depth, outputs = head.inputs, head.outputs
    whole = outputs // 4 * 4
    for n in range(0, whole, 4):
        for row in range(head.batch):
            sums = _four_sums(weight, n * depth, h, row * depth, depth, zero)
            for k in range(4):
                y[row * outputs + n + k] = sums[k] + bias[n + k]
    for n in range(whole, outputs):
        for row in range(head.batch):
            y[row * outputs + n] = _sum(weight, n * depth, h, row * depth, depth, zero) + bias[n]


@once
def head_address(dtype: Any) -> int:
    """Address of the C function of a dtype: it takes those of a `Head`, of h (B, I) and of y (B, O)."""
    zero = dtype.type(0)

    def apply_head(head, h, y):
        _apply(read_record(Head, head, 0), pointer_to(h, zero), pointer_to(y, zero), zero)

    return int(compile_apart(apply_head, types.int64, types.int64, types.int64).address)
