"""Page-locked memory of the host, and copies through it to the device that the host need not wait for."""

from __future__ import annotations

import ctypes
from collections import defaultdict, deque
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.engines.cuda.driver import Event, cuda, current_device, driver
from lstm_numba.engines.cuda.launch import stream_handle


class PageLocked:
    """Host memory that the device reads and writes asynchronously.

    Attributes
    ----------
    bytes : ndarray of uint8
    address : int
    """

    def __init__(self, size: int) -> None:
        self.bytes = cuda.pinned_array(size, np.uint8)
        self.address = self.bytes.__array_interface__["data"][0]


class Staging:
    """Asynchronous copies to the device, staged in page-locked buffers.

    A buffer is used again when an event shows that the device has read it.
    """

    def __init__(self) -> None:
        self._buffers: defaultdict[Any, deque[tuple[PageLocked, Event]]] = defaultdict(deque)

    def copy(self, source: npt.NDArray[Any], target: int) -> None:
        """Copy a C-contiguous array, not empty, to an address."""
        size, stream = source.nbytes, stream_handle()
        rounded = 1 << (size - 1).bit_length()
        buffers = self._buffers[current_device(), rounded]
        host, event = self._take(buffers) or (PageLocked(rounded), Event())
        ctypes.memmove(host.address, source.__array_interface__["data"][0], size)
        driver.cuMemcpyHtoDAsync(target, host.address, size, stream)
        event.record(stream)
        buffers.append((host, event))

    @staticmethod
    def _take(buffers: deque[tuple[PageLocked, Event]]) -> tuple[PageLocked, Event] | None:
        """The buffer that was filled first, if the device has read it."""
        try:  # atomic, where several threads copy
            buffer = buffers.popleft()
        except IndexError:
            return None
        if buffer[1].passed():
            return buffer
        buffers.appendleft(buffer)
        return None


staging = Staging()
