"""CUDA's simulator with fibers in the place of threads: many times sooner, and with blocks that meet.

The simulator gives every CUDA thread a thread of Python's, looks again and again whether all of them wait at
a barrier, and runs one block after the other, so that a grid of several blocks cannot meet. Here all threads
of a grid are greenlets, of which one runs until its next barrier. Which one comes first is drawn anew each
time, so that a kernel that lacks a barrier gives wrong numbers here too.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet

#: Blocks of a grid that may meet.
MEETING_BLOCKS = 6

#: Turns in a row in which threads only look whether others have come; nobody comes any more then.
PATIENCE = 10_000

_order = random.Random(0)
_blocks: list[tuple[Any, Any]] = []  # of the grid that is being launched
_running: list[Any] = [None]


class _Fiber(greenlet):
    """A thread of a block, for which it may wait. Some fall behind, by their `pace`."""

    def __init__(self, block: int, thread: Any, shared: Any, run: Any) -> None:
        super().__init__(run)
        self.block, self.thread, self.pace = block, thread, _order.uniform(0.1, 1)
        self.waits = self.looks = False
        thread.shared = shared
        scheduler = getcurrent()

        def wait() -> None:
            self.waits = True
            scheduler.switch()

        def look_again() -> None:
            self.looks = True
            scheduler.switch()

        thread.syncthreads = wait
        thread.yield_turn = look_again


def _run_block(manager: Any, grid_point: Any, *args: Any) -> None:
    """Stands for the simulator's ``BlockManager.run``: with the last block all of them start."""
    _blocks.append((manager, grid_point))
    if len(_blocks) < np.prod(manager._grid_dim):
        return
    blocks, _blocks[:] = list(_blocks), []
    from numba.cuda.simulator.kernel import BlockThread, _get_kernel_context
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    live = []
    for number, (block, point) in enumerate(blocks):
        shared = FakeCUDAShared(_get_kernel_context()._shared._dynshared_size)
        for thread_point in np.ndindex(*block._block_dim):
            thread = BlockThread(None, block, point, thread_point, block._debug)  # never started
            live.append(_Fiber(number, thread, shared, lambda: manager._f(*args)))
    idle = 0
    while live:
        _order.shuffle(live)
        for fiber in live:
            if not fiber.waits and _order.random() < fiber.pace:
                _running[0], fiber.looks = fiber.thread, False
                fiber.switch()
                idle = idle + 1 if fiber.looks else 0
        if idle > PATIENCE:
            raise RuntimeError("blocks wait for others that do not come: they meet at different barriers")
        live = [fiber for fiber in live if not fiber.dead]
        _open_barriers(live)


def _open_barriers(live: list[_Fiber]) -> None:
    """Let some blocks go on whose threads all wait."""
    busy = {fiber.block for fiber in live if not fiber.waits}
    ready = sorted({fiber.block for fiber in live} - busy)
    # Not all of them: blocks that do not meet must not keep step with each other either.
    going = set(_order.sample(ready, _order.randint(bool(ready), len(ready))))
    for fiber in live:
        if fiber.block in going:
            fiber.waits = False


def install() -> None:
    """Have the simulator run grids in fibers from now on."""
    from numba.cuda.simulator import kernel, kernelapi
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    FakeCUDAArray.__deepcopy__ = None  # it would be NumPy's, and the copy no device array
    kernel.BlockManager.run = _run_block
    kernel.FakeOverload.max_cooperative_grid_blocks = lambda self, block, shared=0: MEETING_BLOCKS
    kernelapi.threading = SimpleNamespace(current_thread=lambda: _running[0])
    kernelapi.FakeCUDAModule.nanosleep = lambda self, duration: _running[0].yield_turn()
    kernelapi.FakeCUDAModule.shared = property(lambda self: _running[0].shared)
