"""A reduction in one launch: each block stores its part of a result, and the last block adds the parts.

Which block is the last depends on timing, but the order in which it adds does not: the bits are the same
every time. As in "threadFenceReduction" of NVIDIA's CUDA samples.
"""

from __future__ import annotations

from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.options import DEVICE


@cuda.jit(**DEVICE)
def last_of(counters, index, count):
    """Whether this block is the last of `count` blocks to call this; the same for all its threads.

    The last block sees what the others wrote before: a block's writes come before its barrier, and the fences
    before and after the atomic addition make them visible to the blocks that add later.

    Parameters
    ----------
    counters : int32 device array, from `lstm_numba.engines.cuda.memory.counters`
    index : int
        Of these blocks' counter, which is zero before and after.
    count : int
    """
    last = 0
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and cuda.threadIdx.y == 0:
        cuda.threadfence()
        if cuda.atomic.add(counters, index, 1) == count - 1:
            counters[index] = 0
            last = 1
        cuda.threadfence()
    return cuda.syncthreads_or(last) != 0
