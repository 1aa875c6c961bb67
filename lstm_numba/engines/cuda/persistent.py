"""A sequence in one launch that keeps its weights on chip: forward and back, for cells without means.

The equations are those of `lstm_numba.engines.cuda.forward` and `backward`, and so is the order of sums where
these kernels have as many parts of the depth; the product is another one, see
`lstm_numba.engines.cuda.persistent_product`. A block has the same hidden units for a whole sequence, and the
same rows; where there are more rows than blocks for them, it takes the next ones when it is done with these.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda import backward, forward
from lstm_numba.engines.cuda.driver import SHARED_ALIGNMENT, cuda, overload
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.layout import barrier_leave, barrier_wait, stage_depth, stage_units, time_of
from lstm_numba.engines.cuda.options import DEVICE, PERSISTENT
from lstm_numba.engines.cuda.persistent_product import (
    add_to_gates,
    add_to_units,
    copies_done,
    copy_vector,
    gate_values,
    operand_rows,
    row_inverse,
    stage_gate,
    stage_weights,
    tile_columns,
    tile_units,
    vector_length,
)
from lstm_numba.engines.cuda.scalar import add_tuples, store_scalars
from lstm_numba.engines.cuda.specialize import (
    FIRST,
    SECOND,
    barrier_count,
    block_count,
    load_scalar,
    reads_projected,
    stage_constant,
    stage_count,
    stage_width,
    tile_rows,
    zero_scalar,
)
from lstm_numba.engines.cuda.stage_product import inner_zeros, load_sums, outer_zeros

# -- the product -------------------------------------------------------------------------------------


@cuda.jit(**DEVICE)
def _forward_extents(cell, stage, sizes):
    """Depth of a stage's product, depth of a part, and columns; strides of the weights.

    The strides are those from one element of the depth to the next, and from one gate to the next.
    """
    depth, part = stage_depth(cell, stage, sizes)
    columns, _ = stage_units(cell, stage, sizes)
    return depth, part, columns, block_count(cell, stage) * columns, columns


@cuda.jit(**DEVICE)
def _backward_extents(cell, stage, sizes):
    """The same of the product with the transposed weights, whose depth are the units of all gates."""
    depth, part = stage_units(cell, stage, sizes)
    columns, _ = stage_depth(cell, stage, sizes)
    return depth, part, columns, columns, depth * columns


#: Elements of an operand for each of its hidden units.
_one = stage_constant(lambda cell, stage: 1)


@cuda.jit(**DEVICE)
def _stage_operand(own, start, count, shared):
    """Copy `count` numbers of the operand, what this thread's part of the depth needs, to shared memory."""
    vector = vector_length(shared)
    place = own.buffer + cuda.threadIdx.y * own.operand_part
    for i in stride_range(vector * cuda.threadIdx.x, count, vector * cuda.blockDim.x):
        copy_vector(shared, place + i, own.exchange, start + i)
    copies_done()
    cuda.syncthreads()


def _product(extents: Any, inner: Any, zeros: Any, add: Any) -> tuple[Any, Any]:
    """Make the functions of a pass: one keeps a stage's weights, the other multiplies with them."""

    @cuda.jit(**DEVICE)
    def keep(cell, stage, tile, sizes, weights, kept, shared):
        depth, part_depth, last, row, block = extents(cell, stage, sizes)
        lanes, first = cuda.blockDim.x, cuda.threadIdx.y * part_depth
        at, step = kept.at + cuda.threadIdx.y * kept.part + cuda.threadIdx.x, tile_units(tile) * lanes
        for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
            unit = unit_tile * step + cuda.threadIdx.x
            columns = tile_columns(tile, unit, lanes, last - 1)
            for k in range(min(kept.depth, depth - first)):
                values = stage_weights(cell, stage, tile, weights, (first + k) * row, block, columns)
                store_scalars(shared, at + k * stage_width(cell, stage) * step, lanes, values)
            at += kept.tile

    @cuda.jit(**DEVICE)
    def multiply(cell, stage, tile, sums, source, offset, row, block, columns, shared, operand, begin, end):
        """Add elements `begin` to `end` of the depth; four at a time, so that loads precede their use."""
        width = inner(cell, stage) * operand_rows(tile)
        for k in stride_range(begin, end - 3, 4):
            at, line = offset + k * row, operand + k * width
            w0 = stage_weights(cell, stage, tile, source, at, block, columns)
            w1 = stage_weights(cell, stage, tile, source, at + row, block, columns)
            w2 = stage_weights(cell, stage, tile, source, at + 2 * row, block, columns)
            w3 = stage_weights(cell, stage, tile, source, at + 3 * row, block, columns)
            sums = add(cell, stage, tile, sums, w0, shared, line)
            sums = add(cell, stage, tile, sums, w1, shared, line + width)
            sums = add(cell, stage, tile, sums, w2, shared, line + 2 * width)
            sums = add(cell, stage, tile, sums, w3, shared, line + 3 * width)
        for k in stride_range(max(begin, end - (end - begin & 3)), end, 1):
            w0 = stage_weights(cell, stage, tile, source, offset + k * row, block, columns)
            sums = add(cell, stage, tile, sums, w0, shared, operand + k * width)
        return sums

    @cuda.jit(**DEVICE)
    def product(cell, stage, tile, sizes, weights, own, kept, at, start, unit, shared):
        """This thread's part of the product with the operand from `start` on in the exchange buffer."""
        depth, part_depth, last, row, block = extents(cell, stage, sizes)
        lanes, part = cuda.blockDim.x, cuda.threadIdx.y
        first, width = part * part_depth, inner(cell, stage) * operand_rows(tile)
        count, step = min(part_depth, depth - first), tile_units(tile) * lanes
        own_columns = tile_columns(tile, cuda.threadIdx.x, lanes, step)
        columns = tile_columns(tile, unit, lanes, last - 1)
        at += part * kept.part - stage_gate(cell, stage) * step
        sums = zeros(cell, stage, tile, shared)
        for begin in stride_range(0, part_depth, own.chunk):
            if begin > 0:
                cuda.syncthreads()
            end = min(begin + own.chunk, count)
            _stage_operand(own, start + (first + begin) * width, (end - begin) * width, shared)
            operand = own.buffer + part * own.operand_part - begin * width
            middle = max(begin, min(kept.depth, end))
            sums = multiply(
                cell, stage, tile, sums, shared, at, stage_width(cell, stage) * step, step, own_columns,
                shared, operand, begin, middle,
            )  # fmt: skip
            sums = multiply(
                cell, stage, tile, sums, weights, first * row, row, block, columns, shared, operand,
                middle, end,
            )  # fmt: skip
        return sums

    return keep, product


_keep_forward, _forward_product = _product(_forward_extents, _one, outer_zeros, add_to_gates)
_keep_backward, _backward_product = _product(_backward_extents, stage_width, inner_zeros, add_to_units)


# -- a stage -----------------------------------------------------------------------------------------


@cuda.jit(**DEVICE)
def _operand_start(cell, stage_number, own, parity):
    """Offset in the exchange buffer of one of a stage's two operands, for this block's rows."""
    return (2 * (cuda.blockIdx.y * stage_count(cell) + stage_number) + parity) * own.operand


def _following(cell: Any, stage: Any) -> Any:
    """The stage that comes next, in this step or in the next one."""
    return SECOND if stage.number == 0 and len(cell.stages) > 1 else FIRST


@overload(_following)
def _(cell, stage):
    if stage.instance_class.number == 0 and len(cell.instance_class.stages) > 1:
        return lambda cell, stage: SECOND
    return lambda cell, stage: FIRST


@cuda.jit(**DEVICE)
def _unit_and_row(tile, n):
    """Which of a thread's units, and which of the tile's rows, number n is."""
    unit = n * row_inverse(tile) >> 16
    return unit, n - unit * tile_rows(tile)


def _stage_runner(zeros: Any, product: Any, finish: Any) -> Any:
    """Make the function that runs a stage of a step: product, equations, and what others need of them."""

    @cuda.jit(**DEVICE)
    def run(
        cell, stage, tile, sizes, arrays, gradients, weights, own, kept, start, following, step, first, shared
    ):
        lanes, units, at = cuda.blockDim.x, tile_units(tile), kept.at
        for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
            unit = unit_tile * units * lanes + cuda.threadIdx.x
            sums = zeros(cell, stage, tile, shared)
            if start >= 0:
                sums = product(cell, stage, tile, sizes, weights, own, kept, at, start, unit, shared)
            cuda.syncthreads()
            place = own.buffer + cuda.threadIdx.y * own.sums_part + cuda.threadIdx.x
            store_scalars(shared, place, lanes, sums)
            cuda.syncthreads()
            for n in stride_range(cuda.threadIdx.y, units * tile_rows(tile), cuda.blockDim.y):
                v, r = _unit_and_row(tile, n)
                if unit + v * lanes < sizes.hidden and first + r < sizes.batch:
                    finish(
                        cell, stage, tile, sizes, arrays, gradients, own, following, step, first + r, r,
                        unit + v * lanes, n, shared,
                    )  # fmt: skip
            cuda.syncthreads()
            at += kept.tile

    return run


def _for_each_unit(action: Any) -> Any:
    """Make a function that runs an action for all of this thread's units and rows."""

    @cuda.jit(**DEVICE)
    def run(cell, tile, sizes, arrays, gradients, own, first):
        lanes, units = cuda.blockDim.x, tile_units(tile)
        for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
            for n in stride_range(cuda.threadIdx.y, units * tile_rows(tile), cuda.blockDim.y):
                v, r = _unit_and_row(tile, n)
                unit = (unit_tile * units + v) * lanes + cuda.threadIdx.x
                if unit < sizes.hidden and first + r < sizes.batch:
                    action(cell, tile, sizes, arrays, gradients, own, first + r, r, unit)

    return run


# -- forward -----------------------------------------------------------------------------------------


@cuda.jit(**DEVICE)
def _hand_on_operand(tile, own, start, r, unit, operand):
    """Store one unit's operand for the blocks of the same rows."""
    store_scalars(own.exchange, start + unit * operand_rows(tile) + r, 0, operand)


@cuda.jit(**DEVICE)
def _finish_forward(
    cell, stage, tile, sizes, arrays, gradients, own, following, step, row, r, unit, n, shared
):
    lanes = cuda.blockDim.x
    stride, offset = tile_units(tile) * tile_rows(tile) * lanes, own.buffer + n * lanes + cuda.threadIdx.x
    total = load_sums(cell, stage, shared, offset, stride)
    for part in range(1, cuda.blockDim.y):
        total = add_tuples(total, load_sums(cell, stage, shared, offset + part * own.sums_part, stride))
    operand = forward.equations(cell, stage, sizes, arrays, time_of(sizes, step), row, unit, total)
    _hand_on_operand(tile, own, following, r, unit, operand)


@cuda.jit(**DEVICE)
def _begin_forward(cell, tile, sizes, arrays, gradients, own, row, r, unit):
    operand = forward.load_initial_state(cell, sizes, arrays, row, unit)
    _hand_on_operand(tile, own, _operand_start(cell, 0, own, 0), r, unit, operand)


@cuda.jit(**DEVICE)
def _end_forward(cell, tile, sizes, arrays, gradients, own, row, r, unit):
    forward.store_final_state(cell, sizes, arrays, row, unit)


_forward_stage = _stage_runner(outer_zeros, _forward_product, _finish_forward)
_begin_forward_units = _for_each_unit(_begin_forward)
_end_forward_units = _for_each_unit(_end_forward)


# -- backward ----------------------------------------------------------------------------------------


@cuda.jit(**DEVICE)
def _finish_backward(
    cell, stage, tile, sizes, arrays, gradients, own, following, step, row, r, unit, n, shared
):
    offset = own.buffer + n * cuda.blockDim.x + cuda.threadIdx.x
    columns = _backward_extents(cell, stage, sizes)[2]
    total = load_scalar(cell, shared, offset, 0)
    for part in range(1, cuda.blockDim.y):
        total = add_tuples(total, load_scalar(cell, shared, offset + part * own.sums_part, 0))
    if reads_projected(cell, stage) and unit >= columns:
        total = zero_scalar(cell, shared)  # no gradient of what the operand has not
    dslots = backward.equations(cell, stage, sizes, arrays, gradients, step, row, unit, total)
    _hand_on_gradients(cell, _following(cell, stage), tile, own, following, r, unit, dslots)


@cuda.jit(**DEVICE)
def _hand_on_gradients(cell, stage, tile, own, start, r, unit, dslots):
    """Store the gradients of one unit's slots that a stage feeds for the blocks of the same rows."""
    width = operand_rows(tile)
    place = start + unit * stage_width(cell, stage) * width + r
    store_scalars(own.exchange, place, width, gate_values(cell, stage, dslots))


@cuda.jit(**DEVICE)
def _begin_backward(cell, tile, sizes, arrays, gradients, own, row, r, unit):
    backward.load_final_gradient(cell, sizes, gradients, row, unit)


@cuda.jit(**DEVICE)
def _end_backward(cell, tile, sizes, arrays, gradients, own, row, r, unit):
    backward.store_initial_gradient(cell, sizes, gradients, row, unit)


_backward_stage = _stage_runner(inner_zeros, _backward_product, _finish_backward)
_begin_backward_units = _for_each_unit(_begin_backward)
_end_backward_units = _for_each_unit(_end_backward)


# -- a sequence --------------------------------------------------------------------------------------


def _sequence_runner(keep: Any, begin: Any, run_stage: Any, end: Any, more: int) -> Any:
    """Make the function that runs sequences, a block's rows after the other.

    It takes `more` steps than there are, and as many first ones have no operand.
    """

    @cuda.jit(**DEVICE)
    def keep_one(cell, tile, sizes, weights, own, shared):
        keep(cell, FIRST, tile, sizes, weights[0], own.kept[0], shared)

    @cuda.jit(**DEVICE)
    def keep_two(cell, tile, sizes, weights, own, shared):
        keep(cell, FIRST, tile, sizes, weights[0], own.kept[0], shared)
        keep(cell, SECOND, tile, sizes, weights[-1], own.kept[-1], shared)

    @cuda.jit(**DEVICE)
    def first_stage(
        cell, mode, tile, sizes, arrays, gradients, weights, own, passed, step, first, following, shared
    ):
        start = _operand_start(cell, 0, own, step & 1) if step >= more else -1
        barrier_wait(mode, arrays.counters, passed + 1 + step * barrier_count(cell))
        run_stage(
            cell, FIRST, tile, sizes, arrays, gradients, weights[0], own, own.kept[0], start, following, step,
            first, shared,
        )  # fmt: skip

    @cuda.jit(**DEVICE)
    def step_of_one(cell, mode, tile, sizes, arrays, gradients, weights, own, passed, step, first, shared):
        after = _operand_start(cell, 0, own, step + 1 & 1)
        first_stage(
            cell, mode, tile, sizes, arrays, gradients, weights, own, passed, step, first, after, shared
        )

    @cuda.jit(**DEVICE)
    def step_of_two(cell, mode, tile, sizes, arrays, gradients, weights, own, passed, step, first, shared):
        between, after = _operand_start(cell, 1, own, step & 1), _operand_start(cell, 0, own, step + 1 & 1)
        first_stage(
            cell, mode, tile, sizes, arrays, gradients, weights, own, passed, step, first, between, shared
        )
        barrier_wait(mode, arrays.counters, passed + 2 + 2 * step)
        if step < sizes.steps:
            run_stage(
                cell, SECOND, tile, sizes, arrays, gradients, weights[-1], own, own.kept[-1], between, after,
                step, first, shared,
            )  # fmt: skip

    keep_all, run_step = _by_stages(keep_one, keep_two), _by_stages(step_of_one, step_of_two)

    @cuda.jit(**DEVICE)
    def run(cell, mode, tile, sizes, arrays, gradients, weights, own):
        shared = cuda.shared.array(0, arrays.h.dtype, SHARED_ALIGNMENT)
        keep_all(cell, tile, sizes, weights, own, shared)
        passed, steps = 0, sizes.steps + more
        for row_tile in stride_range(cuda.blockIdx.y, sizes.row_tiles, cuda.gridDim.y):
            first = row_tile * tile_rows(tile)
            begin(cell, tile, sizes, arrays, gradients, own, first)
            for step in range(steps):
                run_step(
                    cell, mode, tile, sizes, arrays, gradients, weights, own, passed, step, first, shared
                )
            # The last of the rows may still be read where the next ones begin.
            passed += steps * barrier_count(cell) + 1
            barrier_wait(mode, arrays.counters, passed)
            end(cell, tile, sizes, arrays, gradients, own, first)
        barrier_leave(mode, arrays.counters)

    return run


def _by_stages(one: Any, two: Any) -> Any:
    """Make a function that calls `one` for a cell with one stage, `two` for one with two."""

    def run(cell: Any, *args: Any) -> None:
        (two if len(cell.stages) > 1 else one)(cell, *args)

    @overload(run)
    def _(cell, *args):
        chosen = two if len(cell.instance_class.stages) > 1 else one
        return lambda cell, *args: chosen(cell, *args)

    return run


_run_forward = _sequence_runner(
    _keep_forward, _begin_forward_units, _forward_stage, _end_forward_units, more=0
)
_run_backward = _sequence_runner(
    _keep_backward, _begin_backward_units, _backward_stage, _end_backward_units, more=1
)


@cuda.jit(**PERSISTENT)
def persistent_forward(cell, mode, tile, sizes, arrays, own):
    """Run a whole sequence; see `lstm_numba.engines.cuda.forward.forward_kernel`.

    Parameters
    ----------
    cell, mode, tile : empty named tuples
    sizes : Sizes
        Its parts of the depth and tiles are those of this kernel.
    arrays : Arrays
    own : Persistent
    """
    _run_forward(cell, mode, tile, sizes, arrays, (), arrays.weights, own)


@cuda.jit(**PERSISTENT)
def persistent_backward(cell, mode, tile, sizes, arrays, gradients, own):
    """Back-propagate through a whole sequence; see `lstm_numba.engines.cuda.backward.backward_kernel`.

    Parameters
    ----------
    cell, mode, tile : empty named tuples
    sizes : Sizes
        Its parts of the depth and tiles are those of this kernel.
    arrays : Arrays
    gradients : Gradients
    own : Persistent
    """
    _run_backward(cell, mode, tile, sizes, arrays, gradients, gradients.weights, own)
