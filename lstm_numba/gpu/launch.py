"""Launching kernels: on the current stream, in blocks of a size that one table holds."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from lstm_numba.gpu.driver import SIMULATED, cuda


class Limits(NamedTuple):
    """How many threads do what; powers of two.

    Attributes
    ----------
    threads : int
        Threads of a block that goes over an array.
    blocks : int
        Blocks that go over an array, at most.
    lanes : int
        Units side by side in a block of a sequence's kernel.
    parts : int
        Parts of a product's depth in such a block.
    tile : int
        Rows and columns of threads in a block of a product's kernel.
    """

    threads: int = 256
    blocks: int = 1024
    lanes: int = 32
    parts: int = 8
    tile: int = 16


_limits = Limits()


def limits() -> Limits:
    """The limits in use."""
    return _limits


def set_limits(new: Limits) -> None:
    """Use other limits: the simulator's threads are Python's, of which a test wants few."""
    global _limits
    _limits = new


_stream: contextvars.ContextVar[Any] = contextvars.ContextVar("stream", default=0)


def current_stream() -> Any:
    """The stream that work is put on; 0 is CUDA's default stream."""
    return _stream.get()


@contextlib.contextmanager
def on_stream(stream: Any) -> Iterator[None]:
    """Put the work of a ``with`` block on a stream: one of ``numba.cuda``, or 0."""
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)


@functools.lru_cache(maxsize=4096)
def _configured(kernel: Any, grid: Any, block: Any, stream: Any, shared: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a small grid cannot fill the device: small work is small
        return kernel[grid, block, stream, shared]


def launch(kernel: Any, grid: Any, block: Any, *args: Any, shared: int = 0) -> None:
    """Launch a kernel on the current stream.

    Parameters
    ----------
    kernel : kernel
    grid, block : int or tuple of int
        Blocks, and threads of a block.
    *args
        The kernel's arguments.
    shared : int
        Bytes of dynamic shared memory.
    """
    if SIMULATED:  # its kernels remember the last configuration only
        kernel[grid, block, 0, shared](*args)
    else:
        _configured(kernel, grid, block, current_stream(), shared)(*args)


def launch_over(kernel: Any, size: int, *args: Any) -> None:
    """Launch a kernel whose threads go over `size` numbers, each in strides of the grid's size."""
    if size:
        threads = _limits.threads
        blocks = min(_limits.blocks, -(-size // threads))
        launch(kernel, blocks, threads, *args)


def cooperative_blocks(kernel: Any, args: tuple[Any, ...], block: tuple[int, int], shared: int) -> int:
    """Blocks of a kernel that fit on the device at the same time, as those who wait for each other must."""
    if SIMULATED:  # its kernels are not compiled
        return int(kernel.overloads[()].max_cooperative_grid_blocks(block))
    signature = tuple(kernel.typeof_pyval(arg) for arg in args)
    return _cooperative_blocks(kernel, signature, block, shared, device_number())


def device_number() -> int:
    """Number of the current device."""
    return 0 if SIMULATED else int(cuda.get_current_device().id)


@functools.lru_cache(maxsize=1024)
def _cooperative_blocks(kernel: Any, signature: Any, block: Any, shared: int, device: int) -> int:
    return int(kernel.compile(signature).max_cooperative_grid_blocks(block, shared))
