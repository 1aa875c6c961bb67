"""Many models' sequences: blocks take whole models, or the models run one after the other.

A block of its own for each model and its rows waits for no other block, and all models run in one launch; but
it has all hidden units of its rows, a tile after the other. One model alone has the whole device. What is the
faster is estimated, from what an H100 was measured at (LSTM of 200 units and 20 rows, of 128 units and 128
rows): a tile takes 2.9 µs, and some cycles for each unit of its products' depth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_numba.engines.cuda import persistent_layout, plans
from lstm_numba.engines.cuda.backward import BACKWARD
from lstm_numba.engines.cuda.branches import share
from lstm_numba.engines.cuda.driver import current_device, device_limits
from lstm_numba.engines.cuda.forward import FORWARD
from lstm_numba.engines.cuda.launch import MAX_GRID_Y, MAX_GRID_Z, launch, limits
from lstm_numba.engines.cuda.layout import BlockOfModel, Sizes
from lstm_numba.engines.cuda.means import shared_sums
from lstm_numba.engines.cuda.model_arrays import Models, of_model
from lstm_numba.engines.cuda.specialize import FourRows, OneRow

#: µs of a tile without its products, and of one barrier of the grid.
_TILE, _BARRIER = 2.9, 1.0
#: Cycles of a µs, and cycles for each unit of a product's depth with four gates: by the rows of a tile,
#: forward and backward.
_CYCLES, _DEPTH = 1700.0, {1: (12.0, 20.0), 4: (27.0, 37.0)}
#: Blocks that are resident on a multiprocessor: their kernels have registers for two.
_RESIDENT = 2
#: µs that one launch more takes the host.
_LAUNCH = 8.0


class Choice(NamedTuple):
    """How many models run.

    Attributes
    ----------
    tile
        None where the models run one after the other.
    row_blocks : int
        Blocks that share a model's rows.
    together, apart : float
        Estimated µs of a step of all models, by blocks and one after the other.
    """

    tile: Any
    row_blocks: int
    together: float
    apart: float


def _tile_us(cell: Any, sizes: Sizes, rows: int, backward: bool) -> float:
    """Estimated µs of a step for one tile of a general kernel."""
    cycles = _DEPTH[rows][backward] / _CYCLES
    products = sum(len(stage.gates) / 4 * sizes.hidden * cycles for stage in cell.stages)
    return products + _TILE * (len(cell.stages) + len(cell.mean_levels))


def _tiles(sizes: Sizes, rows: int) -> tuple[int, int]:
    return -(-sizes.hidden // limits().lanes), -(-sizes.batch // rows)


def _together(cell: Any, sizes: Sizes, models: int, backward: bool, size: int) -> Choice:
    """The fastest tile and blocks of a model's rows, the fewest of the fastest ones."""
    resident, found = _RESIDENT * device_limits().multiprocessors, []
    for tile in plans.candidate_tiles(sizes.batch):
        if shared_bytes(cell, tile, backward, size) > device_limits().shared:
            continue
        (unit_tiles, row_tiles), us = _tiles(sizes, tile.rows), _tile_us(cell, sizes, tile.rows, backward)
        for blocks in {min(1 << n, row_tiles, MAX_GRID_Y) for n in range(row_tiles.bit_length() + 1)}:
            rounds = max(1.0, models * blocks / resident)
            found.append((rounds * unit_tiles * -(-row_tiles // blocks) * us, blocks, -tile.rows, tile))
    if not found:
        return Choice(None, 0, float("inf"), 0.0)
    us, blocks, _, tile = min(found, key=lambda one: one[:3])
    return Choice(tile, blocks, us, 0.0)


def _apart(cell: Any, sizes: Sizes, models: int, backward: bool, size: int) -> float:
    """Estimated µs of a step of all models, one after the other, in the faster of a model's own kernels."""
    device = device_limits()
    rows = FourRows.rows if sizes.batch >= FourRows.rows else OneRow.rows
    unit_tiles, row_tiles = _tiles(sizes, rows)
    tiles = -(-unit_tiles * row_tiles // (_RESIDENT * device.multiprocessors))
    waits = _BARRIER * (len(cell.stages) + len(cell.mean_levels))
    us = tiles * _tile_us(cell, sizes, rows, backward) + waits
    if plans.kernel_wanted() != "general" and sizes.steps >= plans.LEAST_STEPS and not plans.unsuited(cell):
        problem = persistent_layout.Problem(
            cell.stages, cell.projected, size, backward, sizes.batch, sizes.hidden, sizes.output
        )
        found = persistent_layout.layouts(problem, device, limits().lanes * limits().parts)
        us = min(us, found[0].us) if found else us
    return models * (us + _LAUNCH / sizes.steps)


def shared_bytes(cell: Any, tile: Any, backward: bool, size: int) -> int:
    """Bytes of shared memory that a block of a general kernel takes, with numbers of so many bytes."""
    gates = 1 if backward else max(len(stage.gates) for stage in cell.stages)
    parts = limits().parts
    return int(limits().lanes * parts * tile.rows * shared_sums(cell, gates, parts) * size)


def choose(cell: Any, sizes: Sizes, models: int, backward: bool, size: int) -> Choice:
    """How so many models run.

    Parameters
    ----------
    cell : Cell
    sizes : Sizes
        Of a model.
    models : int
    backward : bool
    size : int
        Bytes of a number.
    """
    together = _together(cell, sizes, models, backward, size)
    found = together._replace(apart=_apart(cell, sizes, models, backward, size))
    wanted = plans.FORCED_MODE
    if wanted is not None:
        blocks = wanted is BlockOfModel
    else:
        blocks = found.together <= found.apart and plans.kernel_wanted() != "persistent"
    return found if blocks and found.tile is not None else found._replace(tile=None)


_chosen: dict[Any, Choice] = {}


def _known(cell: Any, sizes: Sizes, models: int, backward: bool, size: int) -> Choice:
    shape = sizes.steps, sizes.batch, sizes.hidden, sizes.output, models, size
    asked = plans.FORCED_MODE, plans.kernel_wanted(), limits(), current_device(), share()
    key = backward, type(cell), shape, asked
    if key not in _chosen:
        _chosen[key] = choose(cell, sizes, models, backward, size)
    return _chosen[key]


def run_models(backward: bool, cell: Any, sizes: Sizes, models: Models, *groups: Any) -> None:
    """Run the sequences of all models; `groups` are the kernel's arrays, of all models."""
    choice = _known(cell, sizes, models.count, backward, groups[0].h.dtype.itemsize)
    if choice.tile is None:
        for n in range(models.count):
            plans.run(backward, cell, sizes, *_from_model(groups, models, n))
        return
    plans.tell(
        backward,
        f"general: 1 x {choice.row_blocks} blocks of {limits().lanes} units and {choice.tile.rows} rows for "
        f"each of {models.count} models; {choice.together:.0f} µs per step, in turn {choice.apart:.0f}",
    )
    for first in range(0, models.count, MAX_GRID_Z):
        count = min(models.count - first, MAX_GRID_Z)
        _launch(backward, cell, choice, count, sizes, *_from_model(groups, models, first), models)


def _from_model(groups: tuple[Any, ...], models: Models, n: int) -> list[Any]:
    """The arrays from those of a model on."""
    strides = (models.arrays, models.gradients)[: len(groups)]
    return [of_model(group, steps, n) for group, steps in zip(groups, strides, strict=True)]


def _launch(backward: bool, cell: Any, choice: Choice, count: int, sizes: Sizes, *args: Any) -> None:
    """Launch the kernel for `count` models; its last arguments are the arrays and the models' strides."""
    _, row_tiles = _tiles(sizes, choice.tile.rows)
    launch(
        (BACKWARD if backward else FORWARD)[BlockOfModel],
        (1, choice.row_blocks, count), (limits().lanes, limits().parts),
        cell, BlockOfModel(), choice.tile, sizes._replace(row_tiles=row_tiles), *args,
        shared=shared_bytes(cell, choice.tile, backward, args[0].h.dtype.itemsize),
    )  # fmt: skip
