"""Pools of device memory: blocks that are no longer used are kept for later arrays.

CUDA's own allocation synchronises with the device. A freed block is therefore used again for the next array
of its size on the same stream, where later work cannot overtake earlier work.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from lstm_numba.engines.cuda.driver import CudaAPIError, cuda, current_device
from lstm_numba.engines.cuda.launch import stream_key
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
    """Blocks of device memory by address, and the free ones by device, stream and size."""

    def __init__(self) -> None:
        self._blocks: dict[int, Any] = {}
        self._free: defaultdict[Any, list[int]] = defaultdict(list)

    def take(self, size: int) -> tuple[int, _Lease]:
        """Address of at least `size` bytes, and a lease that frees them when it is deleted."""
        step = 512 if size <= _SMALL else 2 * _SMALL
        rounded = -(-size // step) * step
        free = self._free[current_device(), stream_key(), rounded]
        try:
            address = free.pop()
        except IndexError:
            address = self._allocate(rounded)
        return address, _Lease(self, address, free)

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
        for free in self._free.values():
            while free:
                del self._blocks[free.pop()]
        cuda.current_context().memory_manager.deallocations.clear()


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
