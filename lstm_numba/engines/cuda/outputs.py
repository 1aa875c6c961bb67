"""Values of all steps, as a sequence's kernel leaves them, to columns of an array."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import models_and_depth, stride_range
from lstm_numba.engines.cuda.launch import launch_over_models
from lstm_numba.engines.cuda.memory import DeviceArray
from lstm_numba.engines.cuda.options import KERNEL


class OutputSizes(NamedTuple):
    """Sizes of what `write_output` copies.

    Attributes
    ----------
    models, steps, batch, hidden : int
    h_offset, h_row, h_model : int
        Offset of the first number, and strides from one row, and from one model, to the next.
    model_lengths : int
        Lengths that each model has of its own; 0 if they are those of all.
    column, width : int
        First column and columns of the output.
    """

    models: Any
    steps: Any
    batch: Any
    hidden: Any
    h_offset: Any
    h_row: Any
    h_model: Any
    model_lengths: Any
    column: Any
    width: Any


@cuda.jit(**KERNEL)
def _write_output(h, size, lengths, out, zero, bits):
    """Copy h of all steps to its columns of the output; zero after a sequence's end."""
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    model, model_step, z, z_step = models_and_depth(bits)
    for m in stride_range(model, size.models, model_step):
        for t in stride_range(z, size.steps, z_step):
            for n in stride_range(y, size.batch, y_step):
                row = t * size.batch + n
                source = m * size.h_model + size.h_offset + row * size.h_row
                target = (m * size.steps * size.batch + row) * size.width + size.column
                inside = t < lengths[m * size.model_lengths + n]
                for unit in stride_range(x, size.hidden, x_step):
                    out[target + unit] = h[source + unit] if inside else zero


def write_output(
    h: DeviceArray,
    offset: int,
    lengths: DeviceArray,
    y: DeviceArray,
    direction: int,
    hidden: int,
    row: int = 0,
) -> None:
    """Copy the outputs of one direction to their columns of y (T, B, D*H); zero after a sequence's end.

    They are from `offset` on, one every `row` numbers; by default without a gap. Of many models y is
    (N, T, B, D*H), h has theirs one after the other, and lengths are (N, B), or (B,) for all.
    """
    *lead, steps, batch, width = y.shape
    models, own = math.prod(lead), batch if lengths.ndim > 1 else 0
    size = OutputSizes(
        models, steps, batch, hidden, offset, row or hidden, h.size // models, own, direction * hidden, width
    )
    shape = models, steps, batch, hidden
    launch_over_models(_write_output, shape, h, size, flat(lengths), flat(y), y.dtype.type(0))
