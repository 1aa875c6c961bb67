"""Work that is recorded as a CUDA graph, and repeated by one call of the host.

A graph repeats the same launches with the same arguments. What differs between repetitions is in device
arrays that existed when the work was recorded, and which the host overwrites before. What the work allocates
comes from a pool of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lstm_numba.engines.cuda import dropout, gemm, memory, pool
from lstm_numba.engines.cuda.driver import SIMULATED, binding, cuda, driver
from lstm_numba.engines.cuda.launch import on_stream, stream_handle

#: The environment variable that switches graphs off, by 0.
VARIABLE = "LSTM_NUMBA_CUDA_GRAPH"


def wanted() -> bool:
    """Whether graphs are on and possible: CuPy cannot call cuBLAS while one is recorded."""
    return os.environ.get(VARIABLE) != "0" and not SIMULATED and gemm.backend() == "numba"


class Recorder:
    """Records work on its own stream, with its own memory pool."""

    def __init__(self) -> None:
        self._stream = cuda.stream()
        self._pool = pool.Pool()
        self._graph: Any = None

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Run a ``with`` block on this stream and with this pool; the first run allocates its memory."""
        with on_stream(self._stream), pool.allocate_from(self._pool):
            yield

    def draws(self, rng: np.random.Generator) -> dropout.Draws:
        """Draws of a generator that are to be recorded."""
        return dropout.Draws(rng)

    def record(self, work: Callable[[], Any]) -> Any:
        """Record work without running it.

        Parameters
        ----------
        work : callable
            Without copies from or to the host. It has run before, so that its kernels are compiled.

        Returns
        -------
        object
            What `work` returned; its arrays hold the results after each repetition.
        """
        driver.cuStreamBeginCapture(
            stream_handle(), binding.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        )
        try:
            with memory.recording() as self._constants:
                result = work()
        except BaseException:
            with contextlib.suppress(Exception):  # an incomplete graph cannot be used
                driver.cuGraphDestroy(driver.cuStreamEndCapture(stream_handle()))
            raise
        graph = driver.cuStreamEndCapture(stream_handle())
        self._graph = driver.cuGraphInstantiate(graph, 0)
        driver.cuGraphDestroy(graph)
        return result

    def repeat(self) -> None:
        """Run the recorded work."""
        driver.cuGraphLaunch(self._graph, stream_handle())
