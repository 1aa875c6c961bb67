"""Pools of device memory: blocks that are no longer used are kept for later arrays.

CUDA's own allocation synchronises with the device. A freed block is therefore used again for the next array
of its size on the same stream, where later work cannot overtake earlier work. The arrays of a stream beside
another (`lstm_numba.engines.cuda.branches`) are read on the other one too: their blocks are used again only
after the stream has waited for it once more.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from lstm_numba.engines.cuda.driver import CudaAPIError, cuda, current_device
from lstm_numba.engines.cuda.launch import on_side, stream_key
from lstm_numba.errors import DeviceError

_SMALL = 1 << 20


class _Lease:
    """Held by an array and all views of it; when the last of them is deleted, the block is free again.

    The block itself is held by the pool: in a reference cycle Python's collector would otherwise have
    numba-cuda free it before `__del__` runs.
    """

    __slots__ = ("address", "free", "pool")

    def __init__(self, pool: Pool, address: int, free: list[int]) -> None:
        self.pool, self.address, self.free = pool, address, free

    def __del__(self) -> None:
        self.free.append(self.address)


class Pool:
    """Blocks of device memory by address, and the free ones by device, stream and size.

    Those of a stream beside another, when they are no longer used, wait for `settled`, by device and stream
    and then by size.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, Any] = {}
        self._free: defaultdict[Any, list[int]] = defaultdict(list)
        self._waiting: defaultdict[Any, defaultdict[int, list[int]]] = defaultdict(_by_size)

    def take(self, size: int) -> tuple[int, _Lease]:
        """Address of at least `size` bytes, and a lease that frees them when it is deleted."""
        step = 512 if size <= _SMALL else 2 * _SMALL
        rounded = -(-size // step) * step
        device, stream = current_device(), stream_key()
        free = self._free[device, stream, rounded]
        try:
            address = free.pop()
        except IndexError:
            address = self._allocate(rounded)
        return address, _Lease(self, address, self._waiting[device, stream][rounded] if on_side() else free)

    @contextlib.contextmanager
    def settled(self, stream: int) -> Iterator[None]:
        """Free the blocks of a stream beside the current one that are no longer used now.

        Parameters
        ----------
        stream : int
            Its key. The ``with`` block lets it wait for the current stream, on which they were used last.
        """
        device = current_device()
        waiting = list(self._waiting[device, stream].items())
        settled = [(size, _drained(blocks)) for size, blocks in waiting]
        yield
        for size, blocks in settled:
            self._free[device, stream, size] += blocks

    def _allocate(self, size: int) -> int:
        """Allocate a new block; returns its address."""
        try:
            block, address = _allocate(size)
        except DeviceError:
            self.clear()
            block, address = _allocate(size)
        self._blocks[address] = block
        return address

    def clear(self) -> None:
        """Return all free blocks to CUDA."""
        waiting = [blocks for sizes in self._waiting.values() for blocks in sizes.values()]
        for free in (*self._free.values(), *waiting):
            while free:
                del self._blocks[free.pop()]
        cuda.current_context().memory_manager.deallocations.clear()


def _by_size() -> defaultdict[int, list[int]]:
    return defaultdict(list)


def _drained(blocks: list[int]) -> list[int]:
    """Move all blocks out of a list."""
    found: list[int] = []
    with contextlib.suppress(IndexError):  # another thread has the last one
        while blocks:
            found.append(blocks.pop())
    return found


def _allocate(size: int) -> tuple[Any, int]:
    try:
        block = cuda.device_array(size, np.uint8)
    except CudaAPIError as error:
        if "OUT_OF_MEMORY" not in str(error):
            raise
        free, total = cuda.current_context().get_memory_info()
        raise DeviceError(
            f"out of device memory: asked for {size / 2**20:,.1f} MiB, "
            f"{free / 2**20:,.1f} of {total / 2**20:,.1f} MiB are free"
        ) from None
    return block, block.__cuda_array_interface__["data"][0]


_default_pool = Pool()
_pool: contextvars.ContextVar[Pool | None] = contextvars.ContextVar("pool", default=None)


@contextlib.contextmanager
def allocate_from(pool: Pool) -> Iterator[None]:
    """Allocate the arrays of a ``with`` block from a pool."""
    token = _pool.set(pool)
    try:
        yield
    finally:
        _pool.reset(token)


def current_pool() -> Pool:
    """The pool that arrays are allocated from."""
    return _pool.get() or _default_pool
