"""How a sequence's kernel is launched: which kernel, tile, grid and shared memory, and why."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells import display_name
from lstm_numba.engines.cuda import persistent_layout
from lstm_numba.engines.cuda.backward import BACKWARD
from lstm_numba.engines.cuda.branches import share
from lstm_numba.engines.cuda.driver import current_device, device_limits
from lstm_numba.engines.cuda.forward import FORWARD
from lstm_numba.engines.cuda.launch import MAX_GRID_Y, cooperative_blocks, launch, limits
from lstm_numba.engines.cuda.layout import CooperativeGrid, SingleBlock, Sizes
from lstm_numba.engines.cuda.means import shared_sums
from lstm_numba.engines.cuda.memory import empty
from lstm_numba.engines.cuda.persistent import persistent_backward, persistent_forward
from lstm_numba.engines.cuda.persistent_product import Persistent
from lstm_numba.engines.cuda.specialize import FourRows, OneRow
from lstm_numba.errors import DeviceError

#: The environment variable that names the kernel of all sequences: "general" or "persistent".
VARIABLE = "LSTM_NUMBA_CUDA_KERNEL"

#: For tests and benchmarks: `SingleBlock` or `CooperativeGrid`, of general kernels; `BlockOfModel` for many
#: models; None for the faster one.
FORCED_MODE: type | None = None


class Plan(NamedTuple):
    """How a sequence's kernel is launched.

    Attributes
    ----------
    kernel, mode, tile
    grid, block : tuple of int
    shared : int
        Bytes of shared memory.
    sizes : dict
        What it changes of `Sizes`.
    own : Persistent or None
        Of a persistent kernel, without its buffer; and the elements of the buffer.
    exchange : int
    reason : str
        Why this kernel, in a line.
    """

    kernel: Any
    mode: Any
    tile: Any
    grid: tuple[int, int]
    block: tuple[int, int]
    shared: int
    sizes: dict[str, int]
    own: Persistent | None = None
    exchange: int = 0
    reason: str = ""

    @property
    def cooperative(self) -> bool:
        """Whether its blocks wait for each other."""
        return isinstance(self.mode, CooperativeGrid)

    def arguments(self, cell: Any, sizes: Sizes, *groups: Any) -> tuple[Any, ...]:
        """The kernel's arguments."""
        args = (cell, self.mode, self.tile, sizes._replace(**self.sizes), *groups)
        if self.own is None:
            return args
        return (*args, self.own._replace(exchange=empty((self.exchange,), groups[0].h.dtype)))


_plans: dict[Any, Plan] = {}
#: Lists of `reasons` that are being filled.
_listening: list[list[str]] = []


@contextlib.contextmanager
def reasons() -> Iterator[list[str]]:
    """The plans that sequences use in a ``with`` block, in any thread: a list that fills meanwhile.

    Its lines are pass and reason, such as ``forward: persistent: 41 x 3 blocks of ...``, each once. What a
    graph repeats is not seen: it was planned when it was recorded.
    """
    found: list[str] = []
    _listening.append(found)
    try:
        yield found
    finally:
        _listening[:] = [other for other in _listening if other is not found]


def plan(backward: bool, cell: Any, sizes: Sizes, groups: tuple[Any, ...]) -> Plan:
    """The plan for one pass of a sequence; `groups` are the kernel's arrays.

    Raises
    ------
    DeviceError
        No kernel fits on a multiprocessor.
    """
    dtype = groups[0].h.dtype
    wanted = kernel_wanted()
    few = sizes.steps < LEAST_STEPS
    shape = sizes.batch, sizes.hidden, sizes.output, few
    key = (backward, type(cell), dtype, shape, limits(), FORCED_MODE, wanted, current_device(), share())
    if key not in _plans:
        reason = "it was asked for" if FORCED_MODE or wanted == "general" else unsuited(cell)
        if few and not reason:
            reason = f"no weights are worth keeping for fewer than {LEAST_STEPS} steps"
        found = None
        if not reason:
            found = persistent_plan(backward, cell, sizes, groups)
            reason = "no persistent kernel fits on the device"
        _plans[key] = found or general_plan(backward, cell, sizes, groups, reason)
    tell(backward, _plans[key].reason)
    return _plans[key]


def tell(backward: bool, reason: str) -> None:
    """Let `reasons` know why a pass runs as it does."""
    line = f"{'backward' if backward else 'forward'}: {reason}"
    for found in _listening:
        if line not in found:
            found.append(line)


def run(backward: bool, cell: Any, sizes: Sizes, *groups: Any) -> None:
    """Launch one of a sequence's kernels; `groups` are its arrays."""
    chosen = plan(backward, cell, sizes, groups)
    launch(
        chosen.kernel, chosen.grid, chosen.block, *chosen.arguments(cell, sizes, *groups),
        shared=chosen.shared, cooperative=chosen.cooperative,
    )  # fmt: skip


def kernel_wanted() -> str:
    """The kernel that is asked for; empty for either.

    Raises
    ------
    ValueError
        The environment variable names no kernel.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "general", "persistent"):
        raise ValueError(f"{VARIABLE}: expected general or persistent, got {wanted!r}")
    return wanted


def unsuited(cell: Any) -> str:
    """Why a cell's sequences cannot run in a persistent kernel; empty where they can."""
    if cell.mean_levels:
        return "the cell has means over a row's units"
    for stage in cell.stages:
        if stage.gates != tuple(range(stage.gates[0], stage.gates[0] + len(stage.gates))):
            return "the weights of a product are apart"
    if device_limits().capability < (8, 0):
        return "the device has no asynchronous copies"
    return ""


def _part(count: int) -> int:
    """What a kernel may have of multiprocessors or resident blocks, of which another one has as many.

    A single one is not divided: only blocks that wait for each other have to be resident together.
    """
    return count if count == 0 else max(1, count // share())


# -- persistent kernels --------------------------------------------------------------------------------

#: Layouts that are tried, the fastest by the estimate first.
_TRIED = 8

#: Steps that a sequence has at least.
LEAST_STEPS = 3


def persistent_plan(backward: bool, cell: Any, sizes: Sizes, groups: tuple[Any, ...]) -> Plan | None:
    """The plan of a persistent kernel, by `lstm_numba.engines.cuda.persistent_layout`; None if none fits."""
    dtype = groups[0].h.dtype
    kernel = persistent_backward if backward else persistent_forward
    problem = persistent_layout.Problem(
        cell.stages, cell.projected, dtype.itemsize, backward, sizes.batch, sizes.hidden, sizes.output
    )
    device = device_limits()
    device = device._replace(multiprocessors=_part(device.multiprocessors))
    found = persistent_layout.layouts(problem, device, limits().lanes * limits().parts)
    for layout in found[:_TRIED]:
        mode = CooperativeGrid() if layout.grid[0] > 1 else SingleBlock()
        made = Plan(
            kernel, mode, layout.tile, layout.grid, layout.block, layout.shared_bytes, layout.sizes,
            layout.own, layout.exchange, f"persistent: {layout.describe()}",
        )  # fmt: skip
        blocks = cooperative_blocks(
            kernel, made.arguments(cell, sizes, *groups), layout.block, layout.shared_bytes
        )
        if _part(blocks) >= layout.grid[0] * layout.grid[1]:
            return made
    return None


# -- general kernels -----------------------------------------------------------------------------------


def candidate_tiles(batch: int) -> list[Any]:
    """Tiles of general kernels that suit a batch, the smallest first."""
    return [OneRow()] if batch < FourRows.rows else [OneRow(), FourRows()]


def general_plan(backward: bool, cell: Any, sizes: Sizes, groups: tuple[Any, ...], reason: str = "") -> Plan:
    """Choose tile and launch mode of a general kernel.

    Blocks that share the hidden units wait for each other at every step, which takes as long as a small tile;
    a block that has all units computes its tiles one after the other. (LSTM, 128 units, 128 rows, on an H100:
    203 µs with a cooperative grid, 494 with single blocks.) So the mode with fewer tiles a block is chosen.
    The smallest tile of which each block has one is the fastest (LSTM, 200 units, 20 rows: 107 and 124 µs
    forward and backward with one row, 142 and 163 with four); where there are more, a tall tile loads weights
    less often (128 units, 128 rows: 187 µs forward with one row, 151 with four).
    """
    kernels, dtype = BACKWARD if backward else FORWARD, np.dtype(groups[0].h.dtype)
    found, block = None, (limits().lanes, limits().parts)
    lanes, parts = block
    sums = 1 if backward else max(len(stage.gates) for stage in cell.stages)
    size = shared_sums(cell, sums, parts) * dtype.itemsize  # for a thread and a row of its tile
    allowed, unit_tiles = device_limits().shared, -(-sizes.hidden // lanes)
    for tile in candidate_tiles(sizes.batch):
        shared, row_tiles = lanes * parts * tile.rows * size, -(-sizes.batch // tile.rows)
        if shared > allowed:
            continue
        args = (cell, CooperativeGrid(), tile, sizes, *groups)
        resident = _part(cooperative_blocks(kernels[CooperativeGrid], args, block, shared))
        if resident == 0:
            continue
        x = min(unit_tiles, resident)
        grid = (x, min(row_tiles, resident // x))
        single = unit_tiles * -(-row_tiles // resident)
        cooperative = -(-unit_tiles // grid[0]) * -(-row_tiles // grid[1])
        together = FORCED_MODE is CooperativeGrid or (FORCED_MODE is None and cooperative < single)
        mode = CooperativeGrid() if together else SingleBlock()
        grid = grid if together else (1, min(row_tiles, MAX_GRID_Y))
        found = Plan(
            kernels[type(mode)], mode, tile, grid, block, shared, {"row_tiles": row_tiles},
            reason=f"general: {grid[0]} x {grid[1]} blocks of {lanes} units and {tile.rows} rows; {reason}",
        )  # fmt: skip
        if (cooperative if together else single) == 1:
            break
    if found is None:
        raise DeviceError(
            f"{display_name(cell)}: no block of {lanes * parts} threads fits on a multiprocessor; it takes "
            f"{lanes * parts * size:,} bytes of shared memory of {allowed:,}"
        )
    return found
