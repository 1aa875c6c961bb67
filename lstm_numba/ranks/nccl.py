"""Sums between GPUs by NVIDIA's NCCL, through CuPy: gradients stay on their devices.

**Not run on hardware yet**: tested with stand-ins for CuPy and CUDA's streams. Each rank needs its own GPU;
ranks that share one, and those without CuPy, sum in the host's memory instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.ranks.base import Ranks, Sum

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def one_gpu_each(
    ranks: Ranks, environment: MutableMapping[str, str] = os.environ, devices: Path = Path("/dev")
) -> bool:
    """Let each rank of a machine see one GPU, before CUDA is used; ranks beyond the last share them.

    Parameters
    ----------
    ranks : Ranks
    environment : mapping
        Whose ``CUDA_VISIBLE_DEVICES`` is read and set.
    devices : Path
        Where the system shows its GPUs, if that variable does not name them.

    Returns
    -------
    bool
        Whether no other rank has this one's.
    """
    listed = environment.get(_VISIBLE)
    if listed is None:
        names = [str(k) for k in range(len([*devices.glob("nvidia[0-9]*")]))]
    else:
        names = [name for name in listed.split(",") if name]
    if names:
        environment[_VISIBLE] = names[ranks.local_rank % len(names)]
    # A launcher may have given each rank its own already.
    seen = ranks.gather_here(environment.get(_VISIBLE, ""))
    return "" not in seen and len({*seen}) == len(seen)


def device_sums(ranks: Ranks, own_gpu: bool) -> DeviceSums | None:
    """What makes sums on the devices, or None where one rank cannot: all ranks find the same."""
    try:
        from cupy.cuda import nccl

        usable = bool(nccl.available) and own_gpu
    except Exception:  # a CuPy without its libraries raises all kinds
        usable = False
    if ranks.sum(np.array([float(usable)]))[0] < ranks.size:
        return None
    return DeviceSums(ranks, nccl)


class DeviceSums:
    """Makes sums of arrays on the devices of all ranks; their work is on a stream of its own.

    Parameters
    ----------
    ranks : Ranks
    nccl : module
        ``cupy.cuda.nccl``.
    """

    def __init__(self, ranks: Ranks, nccl: Any) -> None:
        from lstm_numba.engines.cuda.driver import cuda
        from lstm_numba.engines.cuda.launch import current_stream

        self.nccl, self.cuda, self.current_stream = nccl, cuda, current_stream
        self.communicator = nccl.NcclCommunicator(ranks.size, ranks.once(nccl.get_unique_id), ranks.rank)
        self.stream = cuda.stream()

    def new_sum(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Sum:
        """A sum, taken in place."""
        return _DeviceSum(self, np.dtype(dtype))


class _DeviceSum(Sum):
    """A sum on the devices; what is put on the current stream after its end can read it."""

    on_device = True

    def __init__(self, sums: DeviceSums, dtype: np.dtype[Any]) -> None:
        self._sums = sums
        self._kind = {4: sums.nccl.NCCL_FLOAT32, 8: sums.nccl.NCCL_FLOAT64}[dtype.itemsize]
        self._given, self._done = sums.cuda.event(timing=False), sums.cuda.event(timing=False)

    def begin(self, array: Any) -> Callable[[], bool]:
        """See `Sum.begin`: in the order of the devices' streams, and nobody waits but they."""
        sums = self._sums
        self.result = array
        self._given.record(_stream(sums.current_stream()))
        self._given.wait(sums.stream)
        address = int(array.__cuda_array_interface__["data"][0])
        handle = int(sums.stream.handle)
        sums.communicator.allReduce(address, address, int(array.size), self._kind, sums.nccl.NCCL_SUM, handle)
        self._done.record(sums.stream)

        def push() -> bool:
            self._done.wait(_stream(sums.current_stream()))
            return True

        return push


def _stream(stream: Any) -> Any:
    """As Numba's events take it, to which the default stream is 0."""
    return stream or 0
