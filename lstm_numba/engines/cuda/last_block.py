"""One launch in the place of two: blocks leave their parts of a result, and the last of them adds them up.

Which block is the last is a matter of timing, but the order in which it adds is not: the bits are the same
each time. As "threadFenceReduction" among NVIDIA's CUDA samples.
"""

from __future__ import annotations

from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.options import DEVICE


@cuda.jit(**DEVICE)
def last_of(counters, at, count):
    """Whether this block is the last of `count` blocks that come here, for all its threads.

    The last one sees what the others wrote before: what a block's threads wrote comes before its barrier, and
    the fences on both sides of the addition carry that over to whoever adds later.

    Parameters
    ----------
    counters : int32 device array, from `lstm_numba.engines.cuda.memory.counters`
    at : int
        The counter of these blocks; zero before and after.
    count : int
    """
    last = 0
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and cuda.threadIdx.y == 0:
        cuda.threadfence()
        if cuda.atomic.add(counters, at, 1) == count - 1:
            counters[at] = 0
            last = 1
        cuda.threadfence()
    return cuda.syncthreads_or(last) != 0
