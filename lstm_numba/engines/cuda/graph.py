"""Work that is recorded as a graph of CUDA, and repeated by one call of the host.

A graph repeats the same launches with the same arguments. What differs from one repetition to the next lies
on the device, where the host puts it before: in arrays that were there when the work was recorded. The
memory that the work takes for itself belongs to the graph alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lstm_numba.engines.cuda import dropout, gemm, memory
from lstm_numba.engines.cuda.driver import SIMULATED, binding, cuda, driver
from lstm_numba.engines.cuda.launch import on_stream, stream_handle

#: The environment variable that asks for graphs.
VARIABLE = "LSTM_NUMBA_CUDA_GRAPH"


def wanted() -> bool:
    """Whether graphs are asked for and can be had: CuPy calls no cuBLAS while one is recorded."""
    asked = os.environ.get(VARIABLE, "0") not in ("", "0")
    return asked and not SIMULATED and gemm.backend() == "numba"


class Recorder:
    """Records work on a stream of its own, with memory of its own."""

    def __init__(self) -> None:
        self._stream = cuda.stream()
        self._pool = memory.Pool()
        self._graph: Any = None

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Compute on this stream and in this memory; the first time, it is then taken from CUDA."""
        with on_stream(self._stream), memory.taken_from(self._pool):
            yield

    def draws(self, rng: np.random.Generator) -> dropout.Draws:
        """Draws of a generator that are to be recorded."""
        return dropout.Draws(rng)

    def record(self, work: Callable[[], Any]) -> Any:
        """Note what work would be done, and do none of it.

        Parameters
        ----------
        work : callable
            Without a copy from or to the host. It has been done before, so that its kernels are compiled.

        Returns
        -------
        object
            What `work` returned: arrays in it hold the results after each repetition.
        """
        driver.cuStreamBeginCapture(
            stream_handle(), binding.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        )
        try:
            with memory.recording():
                result = work()
        except BaseException:
            with contextlib.suppress(Exception):  # an incomplete graph is of no use
                driver.cuGraphDestroy(driver.cuStreamEndCapture(stream_handle()))
            raise
        graph = driver.cuStreamEndCapture(stream_handle())
        self._graph = driver.cuGraphInstantiate(graph, 0)
        driver.cuGraphDestroy(graph)
        return result

    def repeat(self) -> None:
        """Do the work that was recorded."""
        driver.cuGraphLaunch(self._graph, stream_handle())
