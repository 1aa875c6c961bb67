"""The CUDA engine's kernels with the types that they are called with, for `compile_ptx.py`.

One line a kernel: `compile_ptx.py` reports kernels that are not listed here.
"""

from __future__ import annotations

from typing import Any

import own_cells
import user_kernels as user
from engine_problems import with_everything
from recurrent_problems import DISTINCT

from lstm_numba.cells import CELLS, find_cell
from lstm_numba.cells.parameters import second_weight
from lstm_numba.engines.cuda import (
    backward,
    clipping,
    dropout,
    elementwise,
    embedding,
    forward,
    gemm,
    losses,
    memory,
    microkernel,
    multi_tensor,
    number_losses,
    outputs,
    persistent,
    persistent_product,
    reductions,
    steps,
    updates,
)
from lstm_numba.engines.cuda.driver import types
from lstm_numba.engines.cuda.layout import (
    Arrays,
    BlockOfModel,
    CooperativeGrid,
    Gradients,
    SingleBlock,
    Sizes,
)
from lstm_numba.engines.cuda.model_arrays import Models
from lstm_numba.engines.cuda.specialize import FourRows, OneRow
from lstm_numba.examples import cuda_pipeline
from lstm_numba.kernels.cuda import weights
from lstm_numba.kernels.cuda.step import ParameterGradients, Weights

Listed = tuple[str, Any, Any]

#: Cells with means over a row's units.
LAYER_NORM = ("layer-norm-lstm", "layer-norm-gru")

#: A cell whose equations call functions that another function made.
VARIANT = "lstm,clip=3.0,f=HardSigmoid_0.2_0.5,h=Softsign"


_I, _D, _U = types.int64, types.float64, types.uint64


def array(number: Any) -> Any:
    """Type of a flat array."""
    return types.Array(number, 1, "C")


def instance(value: Any) -> Any:
    """Type of an empty named tuple, which stands for its class."""
    return types.NamedTuple((), type(value))


def group(cls: Any, *kinds: Any) -> Any:
    """Type of a named tuple."""
    same = len(set(kinds)) == 1
    return types.NamedUniTuple(kinds[0], len(kinds), cls) if same else types.NamedTuple(kinds, cls)


def repeated(kind: Any, count: int) -> Any:
    """Type of a tuple of so many."""
    return types.Tuple([kind] * count)


def table_of(number: Any) -> Any:
    """Type of a table of arrays."""
    return group(multi_tensor.Table, array(_I), _I, array(number))


#: Type of the counters of blocks.
_COUNTERS = array(types.int32)


def sequence_kernels(dtype: Any) -> list[Listed]:
    """Kernels of sequences: every cell, all launch modes, tiles of one row and of four.

    Parameters
    ----------
    dtype : types.float32 or types.float64

    Returns
    -------
    list of (name, kernel, signature)
    """
    a = array(dtype)
    sizes = group(Sizes, *[_I] * len(Sizes._fields))
    places = group(outputs.OutputSizes, *[_I] * len(outputs.OutputSizes._fields))
    output = types.void(a, places, array(_I), a, dtype, _I)
    listed: list[Listed] = [("write_output", outputs._write_output, output)]
    names = (*DISTINCT, "peephole-full", "lstm-projected", *LAYER_NORM, own_cells.NAMES[-1], VARIANT)
    cells = {name: find_cell(name) for name in names}
    for name in ("lstm", "lstm-projected", "gru-reset-before"):
        cells[f"wrapped {name}"] = with_everything(name)
    for name, cell in cells.items():
        stacks = types.UniTuple(a, len(cell.states))
        matrices = repeated(a, 2 if second_weight(cell) else 1)
        extras = repeated(a, len(cell.extras)), repeated(types.UniTuple(_I, 3), len(cell.extras))
        known = (*[a] * 4, matrices, a, array(_I), a, a, stacks, stacks, _COUNTERS)
        means = bool(cell.mean_levels)
        arrays = group(Arrays, *known, repeated(a, cell.prepared), *extras, repeated(a, 3 * means))
        gradients = group(Gradients, *[a] * 3, matrices, stacks, stacks, repeated(a, 2 * means))
        if not (cell.extras or second_weight(cell) or means):
            biases = types.void(instance(cell), a, a, a, _I)
            listed.append((f"fill_biases ({name})", weights._fill_biases, biases))
        for mode in (SingleBlock(), CooperativeGrid(), BlockOfModel()):
            one, both = _models(mode, arrays, gradients)
            for tile in (OneRow(), FourRows()):
                kinds = (instance(cell), instance(mode), instance(tile), sizes, arrays)
                label = f"{name}, {type(mode).__name__}, {type(tile).__name__}"
                ahead, back = types.void(*kinds, *one), types.void(*kinds, gradients, *both)
                listed.append((f"forward ({label})", forward.FORWARD[type(mode)], ahead))
                listed.append((f"backward ({label})", backward.BACKWARD[type(mode)], back))
        if not means:
            listed += _persistent_kernels(name, cell, dtype, sizes, arrays, gradients)
    return listed


def _models(mode: Any, arrays: Any, gradients: Any) -> tuple[list[Any], list[Any]]:
    """Type of the models as the last argument of a forward and of a backward kernel; none of other modes."""
    if not isinstance(mode, BlockOfModel):
        return [], []
    counts = [sum(map(_arrays_in, kinds)) for kinds in (arrays, gradients)]
    strides = [repeated(_I, count) for count in counts]
    return [group(Models, _I, strides[0], repeated(_I, 0))], [group(Models, _I, *strides)]


def _arrays_in(kind: Any) -> int:
    """Arrays of a field."""
    if isinstance(kind, types.BaseTuple):
        return sum(map(_arrays_in, kind))
    return int(isinstance(kind, types.Array))


#: Rows and units of the persistent kernels that are compiled, forward and backward, by a cell's stages and
#: the width of a number: tiles with the most sums that a layout with four gates has.
TALL = {
    (1, 32): ((20, 1), (14, 4)),
    (1, 64): ((10, 1), (7, 4)),
    (2, 32): ((14, 1), (10, 4)),
    (2, 64): ((7, 1), (5, 4)),
}


def _persistent_kernels(
    name: str, cell: Any, dtype: Any, sizes: Any, arrays: Any, gradients: Any
) -> list[Listed]:
    a, stages = array(dtype), len(cell.stages)
    kept = types.UniTuple(group(persistent_product.Kept, *[_I] * 4), stages)
    own = group(persistent_product.Persistent, a, *[_I] * 5, kept)
    listed: list[Listed] = []
    for which, rows in zip(("forward", "backward"), TALL[stages, dtype.bitwidth], strict=True):
        kernel = getattr(persistent, f"persistent_{which}")
        for mode in (SingleBlock(), CooperativeGrid()):
            tile = persistent_product.TILES[rows]
            kinds = (instance(cell), instance(mode), instance(tile), sizes, arrays)
            more = (own,) if which == "forward" else (gradients, own)
            label = f"persistent {which} ({name}, {type(mode).__name__}, {type(tile).__name__})"
            listed.append((label, kernel, types.void(*kinds, *more)))
    return listed


def step_kernels(dtype: Any) -> list[Listed]:
    """Kernels of users that call a cell's step, by one thread and by a block.

    Parameters
    ----------
    dtype : types.float32 or types.float64

    Returns
    -------
    list of (name, kernel, signature)
    """
    lines, matrices, cubes = (types.Array(dtype, n, "C") for n in (1, 2, 3))
    gradients = group(ParameterGradients, *[matrices] * 2, *[lines] * 3)
    listed: list[Listed] = []
    # The other cells add nothing to what these have.
    for name in ("lstm", "peephole", "gru-reset-before", own_cells.NAMES[-1]):
        cell = CELLS[name]
        weights = group(Weights, instance(cell), _I, _I, *[lines] * 6)
        states = types.UniTuple(matrices, len(cell.states))
        streams = (weights, cubes, states)
        training = (weights, gradients, cubes, states, cubes, cubes, states, cubes)
        listed += [
            (
                f"step of a thread ({name})",
                user.thread_streams,
                types.void(*streams, matrices, cubes),
            ),
            (f"step of a block ({name})", user.block_streams, types.void(*streams, cubes)),
            (f"training by a thread ({name})", user.thread_training, types.void(*training)),
            (f"training by a block ({name})", user.block_training, types.void(*training)),
        ]
        if len(cell.states) == 1:
            single = types.void(weights, lines, lines, array(_I))
            listed.append((f"step of one state ({name})", user.single_state, single))
    return listed


def example_kernels() -> list[Listed]:
    """Kernels of `lstm_numba.examples.cuda_pipeline`, which are float32."""
    lines, matrices, cubes = (types.Array(types.float32, n, "C") for n in (1, 2, 3))
    weights = group(Weights, instance(CELLS["lstm"]), _I, _I, *[lines] * 6)
    stream = (weights, matrices, _I, matrices, matrices, lines)
    return [
        ("example, frames", cuda_pipeline.frames, types.void(matrices, cubes)),
        ("example, blocks", cuda_pipeline.stream_by_blocks, types.void(*stream)),
        ("example, threads", cuda_pipeline.stream_by_threads, types.void(*stream, matrices)),
    ]


def _product_kernels(f: Any) -> list[Listed]:
    a, extents = array(f), group(gemm.Extents, *[_I] * len(gemm.Extents._fields))
    operands = (a, a, a, extents, a, _COUNTERS)
    models = group(gemm.OfModels, types.UniTuple(_I, 3), _I, _I)
    listed: list[Listed] = []
    for size, kind in (("small", microkernel.SmallTile()), ("large", microkernel.LargeTile())):
        one = types.void(instance(kind), *operands)
        listed.append((f"product ({size})", gemm.product_kernel, one))
        listed.append((f"products ({size})", gemm.products_kernel, types.void(*one.args, models)))
    return listed


def _update_kernels(f: Any) -> list[Listed]:
    a, arrays, factor, d = array(f), table_of(f), (array(_D), _I), array(_D)
    rows = (a, array(_I), a, _I)
    listed: list[Listed] = []
    for where, hyper in (("", lambda count: types.UniTuple(_D, count)), (" (of a graph)", lambda count: d)):
        listed += [
            ("sgd" + where, updates.sgd_kernel, types.void(arrays, *factor, hyper(1))),
            ("sgd_rows" + where, updates.sgd_rows_kernel, types.void(*rows, *factor, hyper(1))),
            ("momentum" + where, updates.momentum_kernel, types.void(arrays, *factor, hyper(3), _I, _I)),
            ("adam" + where, updates.adam_kernel, types.void(arrays, *factor, hyper(9))),
            ("rmsprop" + where, updates.rmsprop_kernel, types.void(arrays, *factor, hyper(6))),
        ]
    return listed


def _loss_kernels(f: Any) -> list[Listed]:
    a, d = array(f), array(_D)
    options = group(losses.LossOptions, _I, _D, _I, _I, _I, _I)
    operands = (a, a, array(_I), d, options, d, d, _COUNTERS, d)
    numbers = (a, a, d, d, d, group(number_losses.NumberLossOptions, _I, _I, _I, _D, _I), d)
    return [
        ("cross_entropy", losses.cross_entropy_kernel, types.void(*operands)),
        ("number_loss", number_losses.number_loss_kernel, types.void(*numbers)),
    ]


def _reduction_kernels(f: Any) -> list[Listed]:
    a, d = array(f), array(_D)
    gates, places = [types.UniTuple(_I, 4)] * 2, group(clipping.TotalsIndices, _I, _I, _I)
    sums, biases = (
        (a, group(reductions.Columns, *[_I] * 7, types.UniTuple(_I, count)), d, _COUNTERS) for count in (1, 2)
    )
    norm = (table_of(types.float32), table_of(_D), a, d, _COUNTERS, d, places, _D)
    return [
        ("column_sums", reductions.column_sums_kernel, types.void(*sums, a)),
        ("bias_gradients", reductions.bias_gradients_kernel, types.void(*biases, *gates, a, a)),
        ("norm", clipping.norm_kernel, types.void(*norm)),
        ("clip_by_value", clipping.clip_kernel, types.void(table_of(f), f)),
    ]


def kernels(dtype: Any) -> list[Listed]:
    """All kernels but those of sequences.

    Parameters
    ----------
    dtype : types.float32 or types.float64

    Returns
    -------
    list of (name, kernel, signature)
    """
    a, i = array(dtype), array(_I)
    strided = group(steps.Strided, a, _I, _I, _I)
    counter, key = types.UniTuple(_U, 4), types.UniTuple(_U, 2)
    return [
        *_product_kernels(dtype),
        *_update_kernels(dtype),
        *_loss_kernels(dtype),
        *_reduction_kernels(dtype),
        ("gather", embedding.gather_kernel, types.void(a, i, _I, a)),
        ("add_rows", embedding.add_rows_kernel, types.void(a, i, a, _I)),
        ("set_rows", embedding.set_rows_kernel, types.void(a, i, a, _I)),
        ("clear_rows", embedding.clear_rows_kernel, types.void(a, i, _I)),
        ("add_occurrences", embedding.add_occurrences_kernel, types.void(a, _I, i, _I, a)),
        ("dropout", dropout.dropout_kernel, types.void(counter, key, array(_I), _I, dtype, a, a, a)),
        ("mask", dropout.mask_kernel, types.void(counter, key, array(_I), _I, dtype, a)),
        ("multiply", elementwise.multiply_kernel, types.void(a, a, a)),
        ("add_row", elementwise.add_row_kernel, types.void(a, _I, a)),
        ("transpose", elementwise.transpose_kernel, types.void(a, _I, _I, _I, a)),
        ("transpose_first", elementwise.transpose_first_kernel, types.void(a, _I, _I, _I, a)),
        ("zero_padding", elementwise.zero_padding_kernel, types.void(a, *[_I] * 4, i, _I, _I)),
        ("copy_block", elementwise.copy_block_kernel, types.void(a, _I, _I, a, *[_I] * 4)),
        ("copy_steps", steps.copy_steps_kernel, types.void(strided, _I, strided, _I, i, *[_I] * 4)),
        ("add_steps", steps.add_steps_kernel, types.void(strided, _I, strided, _I, i, *[_I] * 4)),
        ("copy_strided", memory._copy_strided, types.void(*[types.Array(dtype, 4, "A")] * 2, _I)),
        ("fill", memory._fill, types.void(a, dtype)),
    ]
