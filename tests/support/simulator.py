"""CUDA's simulator with fibers instead of threads: many times faster, and with cooperative grids.

The simulator runs every CUDA thread as a Python thread, polls whether all of them wait at a barrier, and runs
one block after the other, so that blocks cannot wait for each other. Here all threads of a grid are
greenlets, of which one runs until its next barrier. Their order is random, so that a kernel that lacks a
barrier gives wrong results here too.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet

#: Blocks of a cooperative grid, at most.
COOPERATIVE_BLOCKS = 6

#: Switches in a row to threads that only poll a counter; more than that is a deadlock.
PATIENCE = 10_000

_order = random.Random(0)
_blocks: list[tuple[Any, Any]] = []  # of the grid that is being launched
_running: list[Any] = [None]


class _Fiber(greenlet):
    """A thread of a block; it runs at its own random `pace`."""

    def __init__(self, block: int, thread: Any, shared: Any, run: Any) -> None:
        super().__init__(run)
        self.block, self.thread, self.pace = block, thread, _order.uniform(0.1, 1)
        self.waits = self.polls = False
        thread.shared = shared
        scheduler = getcurrent()

        def wait() -> None:
            self.waits = True
            scheduler.switch()

        def poll() -> None:
            self.polls = True
            scheduler.switch()

        thread.syncthreads = wait
        thread.poll = poll


def _run_block(manager: Any, grid_point: Any, *args: Any) -> None:
    """Replaces the simulator's ``BlockManager.run``: all blocks start with the last one."""
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
                _running[0], fiber.polls = fiber.thread, False
                fiber.switch()
                idle = idle + 1 if fiber.polls else 0
        if idle > PATIENCE:
            raise RuntimeError("deadlock: blocks wait at different barriers")
        live = [fiber for fiber in live if not fiber.dead]
        _release_barriers(live)


def _release_barriers(live: list[_Fiber]) -> None:
    """Resume some of the blocks whose threads all wait."""
    busy = {fiber.block for fiber in live if not fiber.waits}
    ready = sorted({fiber.block for fiber in live} - busy)
    # Not all of them: blocks that do not wait for each other must not run in lockstep.
    released = set(_order.sample(ready, _order.randint(bool(ready), len(ready))))
    for fiber in live:
        if fiber.block in released:
            fiber.waits = False


def install() -> None:
    """Make the simulator run grids in fibers from now on."""
    from numba.cuda.simulator import kernel, kernelapi
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    FakeCUDAArray.__deepcopy__ = None  # NumPy's would not return a device array
    kernel.BlockManager.run = _run_block
    kernel.FakeOverload.max_cooperative_grid_blocks = lambda self, block, shared=0: COOPERATIVE_BLOCKS
    kernelapi.threading = SimpleNamespace(current_thread=lambda: _running[0])
    kernelapi.FakeCUDAModule.nanosleep = lambda self, duration: _running[0].poll()
    kernelapi.FakeCUDAModule.shared = property(lambda self: _running[0].shared)
