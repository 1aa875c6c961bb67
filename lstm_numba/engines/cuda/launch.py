"""Launching kernels: on the current stream, in blocks and grids within one table of limits."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines.compile_notice import compiling
from lstm_numba.engines.cuda.device_array import DeviceView, as_view
from lstm_numba.engines.cuda.driver import (
    SIMULATED,
    allow_shared_memory,
    core_launch,
    core_stream,
    current_device,
    launch_configuration,
)


class Limits(NamedTuple):
    """Sizes of blocks and grids; powers of two.

    Attributes
    ----------
    threads : int
        Threads of a block in a grid-stride loop over an array.
    blocks : int
        Blocks in such a loop, at most.
    lanes : int
        Threads along x, one for each hidden unit, in a block of a sequence's kernel.
    parts : int
        Threads along y, one for each part of a product's depth, in such a block.
    tile : int
        Rows and columns of threads in a block of a product's kernel.
    """

    threads: int = 256
    blocks: int = 1024
    lanes: int = 32
    parts: int = 8
    tile: int = 16


_limits = Limits()

#: Blocks along y or z of a grid, at most, on every device.
MAX_GRID_Y = MAX_GRID_Z = 65_535


def limits() -> Limits:
    """The limits in use."""
    return _limits


def set_limits(new: Limits) -> None:
    """Use other limits: in the simulator a block should have few threads."""
    global _limits
    _limits = new


#: CUDA's handle of the per-thread default stream.
_PER_THREAD = 2


class Current(NamedTuple):
    """A stream as each library knows it."""

    stream: Any  # numba-cuda's, or 0
    handle: int
    core: Any  # cuda.core's, for launches
    side: bool = False  # of `lstm_numba.engines.cuda.branches`


def as_current(stream: Any, side: bool = False) -> Current:
    """A stream of ``numba.cuda``, or 0, as `on_stream` takes it without further work."""
    handle = int(stream)
    return Current(stream, handle, None if SIMULATED else core_stream(handle), side)


@functools.lru_cache(maxsize=1)
def _default_stream() -> Current:
    return as_current(0)


_stream: contextvars.ContextVar[Current | None] = contextvars.ContextVar("stream", default=None)


def _current() -> Current:
    return _stream.get() or _default_stream()


def current_stream() -> Any:
    """The stream that work is put on; 0 is CUDA's default stream."""
    return _current().stream


def stream_handle() -> int:
    """The driver's number of the current stream."""
    return _current().handle


def on_side() -> bool:
    """Whether the current stream is one beside another, of `lstm_numba.engines.cuda.branches`."""
    return _current().side


def stream_key() -> Any:
    """A key for the stream whose work runs in order; a per-thread default stream differs by thread."""
    handle = _current().handle
    return (handle, threading.get_ident()) if handle == _PER_THREAD else handle


@contextlib.contextmanager
def on_stream(stream: Any) -> Iterator[None]:
    """Run the work of a ``with`` block on a stream: one of ``numba.cuda``, 0, or a `Current`."""
    token = _stream.set(stream if isinstance(stream, Current) else as_current(stream))
    try:
        yield
    finally:
        _stream.reset(token)


class _Compiled:
    """A kernel compiled for one device and one set of types.

    Attributes
    ----------
    kernel : cuda.core.Kernel
    cooperative : bool
        Whether its code contains numba-cuda's barrier for the whole grid.
    """

    #: Bytes of dynamic shared memory that every kernel may use.
    ALWAYS = 48 << 10

    def __init__(self, compiled: Any) -> None:
        compiled.bind()
        self._compiled = compiled
        self.kernel = compiled._codelibrary.get_cufunc().kernel
        self.cooperative = bool(compiled.cooperative)
        self._allowed = self.ALWAYS

    def allow(self, shared: int) -> None:
        """Allow so many bytes of dynamic shared memory."""
        if shared > self._allowed:
            allow_shared_memory(self.kernel, shared)
            self._allowed = shared

    def blocks_at_once(self, block: Any, shared: int) -> int:
        """Blocks that can be resident on the device at the same time."""
        self.allow(shared)
        return int(self._compiled.max_cooperative_grid_blocks(block, shared))


_compiled: dict[Any, _Compiled] = {}


def _flatten(args: Iterable[Any], key: list[Any], values: list[Any]) -> None:
    """Append the arguments' types to `key`, and what is passed to the kernel for them to `values`."""
    for arg in args:
        kind = type(arg)
        if kind is DeviceView:
            name, passed = arg.arguments
            key.append(name)
            values.extend(passed)
        elif isinstance(arg, tuple):
            key.append(kind)
            key.append(len(arg))
            _flatten(arg, key, values)
        elif kind in _SCALARS:
            key.append(kind)
            values.append(arg)
        else:
            _flatten((as_view(arg),), key, values)


_SCALARS = frozenset({bool, int, float, np.float32, np.float64, np.int64, np.uint64})


def _find(kernel: Any, args: tuple[Any, ...]) -> tuple[_Compiled, list[Any]]:
    """The kernel compiled for the arguments and the current device, and the values passed to it."""
    key: list[Any] = [kernel, current_device()]
    values: list[Any] = []
    _flatten(args, key, values)
    names = tuple(key)
    found = _compiled.get(names)
    if found is None:
        with compiling():
            found = _Compiled(kernel.compile(tuple(map(kernel.typeof_pyval, args))))
        _compiled[names] = found
    return found, values


@functools.lru_cache(maxsize=4096)
def _configuration(grid: Any, block: Any, shared: int, cooperative: bool) -> Any:
    return launch_configuration(grid, block, shared, cooperative)


def launch(
    kernel: Any, grid: Any, block: Any, *args: Any, shared: int = 0, cooperative: bool = False
) -> None:
    """Launch a kernel on the current stream.

    Parameters
    ----------
    kernel : kernel
    grid, block : int or tuple of int
        Blocks of the grid, and threads of a block.
    *args
        The kernel's arguments: device arrays, numbers, and tuples of them.
    shared : int
        Bytes of dynamic shared memory.
    cooperative : bool
        Launch cooperatively: its blocks wait for each other, and so must all be resident at the same time.

    Notes
    -----
    numba-cuda's own launch determines the types of all arguments and unpacks each array anew at every call,
    which takes several times as long as the launch itself.
    """
    if SIMULATED:  # its kernels remember the last configuration only
        kernel[grid, block, 0, shared](*args)
        return
    compiled, values = _find(kernel, args)
    compiled.allow(shared)
    configuration = _configuration(grid, block, shared, cooperative or compiled.cooperative)
    core_launch(_current().core, configuration, compiled.kernel, *values)


def launch_over(kernel: Any, size: int, *args: Any) -> None:
    """Launch a kernel that runs a grid-stride loop over `size` elements."""
    if size:
        threads = _limits.threads
        blocks = min(_limits.blocks, -(-size // threads))
        launch(kernel, blocks, threads, *args)


def launch_over_box(kernel: Any, shape: tuple[int, ...], *args: Any) -> None:
    """Launch a kernel that runs grid-stride loops over up to three dimensions.

    The last dimension is along x of the grid, so that a thread needs no division to find its indices.
    """
    if 0 in shape:
        return
    depth, rows, columns = (1,) * (3 - len(shape)) + shape
    (across, down), block = _over_rows(rows, columns)
    launch(kernel, (across, down, min(max(1, _limits.blocks // (across * down)), depth)), block, *args)


def _over_rows(rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Blocks along x and y for columns and rows, and threads of a block."""
    lanes = min(_limits.lanes, 1 << (columns - 1).bit_length())
    block = (lanes, _limits.threads // lanes)
    across = min(_limits.blocks, -(-columns // lanes))
    return (across, min(max(1, _limits.blocks // across), -(-rows // block[1]))), block


def launch_over_models(kernel: Any, shape: tuple[int, ...], *args: Any) -> None:
    """Launch a kernel that runs grid-stride loops over many models, and three dimensions of each.

    The kernel's last argument is for `lstm_numba.engines.cuda.grid_stride.models_and_depth`.

    Parameters
    ----------
    kernel : kernel
    shape : tuple of int
        Models, and the dimensions along z, y and x of the grid; those that come first may be left out.
    *args
        The kernel's other arguments.
    """
    if 0 in shape:
        return
    models, depth, rows, columns = (1,) * (4 - len(shape)) + shape
    (across, down), block = _over_rows(rows, columns)
    left = max(1, _limits.blocks // (across * down))
    models = min(models, left)
    bits = min(left // models, depth).bit_length() - 1
    launch(kernel, (across, down, models << bits), block, *args, bits)


def cooperative_blocks(kernel: Any, args: tuple[Any, ...], block: tuple[int, int], shared: int) -> int:
    """The largest number of blocks of a cooperative launch: all must be resident at the same time."""
    if SIMULATED:  # its kernels are not compiled
        return int(kernel.overloads[()].max_cooperative_grid_blocks(block))
    return _blocks_at_once(_find(kernel, args)[0], block, shared)


@functools.lru_cache(maxsize=1024)
def _blocks_at_once(compiled: _Compiled, block: tuple[int, int], shared: int) -> int:
    return compiled.blocks_at_once(block, shared)
