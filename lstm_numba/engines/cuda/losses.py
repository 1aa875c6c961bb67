"""Softmax cross-entropy with its gradient, in place, on the device; see `lstm_numba.engines.cpu.losses`.

A block has a row of logits and reads it three times: for the maximum, for the sum of the exponentials, and to
overwrite it with the gradient. Only the first pass reads from global memory; the others hit a cache.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.last_block import last_of
from lstm_numba.engines.cuda.launch import launch, limits
from lstm_numba.engines.cuda.memory import DeviceArray, counters, empty, fill
from lstm_numba.engines.cuda.options import DEVICE, KERNEL
from lstm_numba.engines.cuda.reductions import block_sum


class LossOptions(NamedTuple):
    """Options of the loss.

    Attributes
    ----------
    classes : int
        V.
    scale : float64
    weighted, biased, gradient : int
        1 if there are weights, if there is a bias, if the gradient is wanted.
    start : int
        1 to set the totals to zero first.
    """

    classes: Any
    scale: Any
    weighted: Any
    biased: Any
    gradient: Any
    start: Any


@cuda.jit(**DEVICE)
def _larger(a, b):
    """The larger of two numbers; NaN if either is."""
    return b if b > a or b != b else a


@cuda.jit(**DEVICE)
def _value(logits, bias, options, start, j):
    value = logits[start + j]
    return value + bias[j] if options.biased else value


@cuda.jit(**DEVICE)
def _row_largest(logits, bias, options, start, shared):
    """The row's maximum, for all threads."""
    thread = cuda.threadIdx.x
    # Threads past the row's end start from the first element too.
    largest = _value(logits, bias, options, start, 0)
    for j in range(thread, np.int32(options.classes), cuda.blockDim.x):
        largest = _larger(largest, _value(logits, bias, options, start, j))
    shared[thread] = largest
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if thread < half:
            shared[thread] = _larger(shared[thread], shared[thread + half])
        cuda.syncthreads()
        half //= 2
    return shared[0]


@cuda.jit(**DEVICE)
def _row_loss(logits, bias, target, options, weight, start, largest, sums, losses, hits, row):
    """Store the row's loss and whether its target is the argmax; returns the sum of the exponentials."""
    thread = cuda.threadIdx.x
    total = np.float64(0)
    before = 0
    for j in range(thread, np.int32(options.classes), cuda.blockDim.x):
        value = _value(logits, bias, options, start, j)
        total += math.exp(value - largest)
        if j < target and value >= largest:
            before = 1
    before = cuda.syncthreads_or(before)
    total = block_sum(sums, total)
    if thread == 0:
        value = _value(logits, bias, options, start, target)
        losses[row] = weight * (math.log(total) - np.float64(value - largest))
        hits[row] = 1 if value >= largest and not before else 0
    return total


@cuda.jit(**DEVICE)
def _row_gradient(logits, bias, target, options, factor, start, largest, total):
    """Overwrite the logits with the gradient."""
    share = logits.dtype.type(factor / total)
    one = logits.dtype.type(factor)
    for j in range(cuda.threadIdx.x, np.int32(options.classes), cuda.blockDim.x):
        value = math.exp(_value(logits, bias, options, start, j) - largest) * share
        logits[start + j] = value - one if j == target else value


@cuda.jit(**DEVICE)
def _add_rows(losses, hits, shared, options, totals):
    """Add all rows' losses to ``totals[0]`` and their hits to ``totals[1]``, by one block."""
    loss, count = np.float64(0), np.float64(0)
    for row in stride_range(cuda.threadIdx.x, losses.size, cuda.blockDim.x):
        loss += losses[row]
        count += hits[row]
    loss = block_sum(shared, loss)
    count = block_sum(shared, count)
    if cuda.threadIdx.x == 0:
        if options.start:
            for n in range(totals.size):
                totals[n] = 0
        totals[0] += loss
        totals[1] += count


@cuda.jit(**KERNEL)
def cross_entropy_kernel(logits, bias, targets, weights, options, losses, hits, counters, totals):
    """Losses, hits and gradients of all rows, one block a row; the last block sums losses and hits.

    Parameters
    ----------
    logits : (N * V,)
        Overwritten with the gradient where it is wanted.
    bias : (V,) or anything
    targets : (N,), int64
    weights : (N,), float64, or anything
    options : LossOptions
    losses : (N,), float64
    hits : (N,), float64
    counters : int32 device array
    totals : (n,), float64
    """
    shared = cuda.shared.array(0, logits.dtype)
    sums = cuda.shared.array(0, losses.dtype)  # the same memory: the maximum is read before sums are written
    for row in stride_range(cuda.blockIdx.x, targets.size, cuda.gridDim.x):
        start = row * options.classes
        weight = weights[row] if options.weighted else np.float64(1)
        if weight > 0:
            largest = _row_largest(logits, bias, options, start, shared)
            cuda.syncthreads()
            total = _row_loss(
                logits, bias, targets[row], options, weight, start, largest, sums, losses, hits, row
            )
            cuda.syncthreads()  # the target's logit has been read
            if options.gradient:
                factor = options.scale * weight
                _row_gradient(logits, bias, targets[row], options, factor, start, largest, total)
        else:  # padding: its logits, even NaN, do not count
            if cuda.threadIdx.x == 0:
                losses[row] = 0
                hits[row] = 0
            if options.gradient:
                for j in range(cuda.threadIdx.x, np.int32(options.classes), cuda.blockDim.x):
                    logits[start + j] = 0
    if last_of(counters, 0, cuda.gridDim.x):
        _add_rows(losses, hits, sums, options, totals)


def softmax_cross_entropy(
    logits: DeviceArray,
    targets: DeviceArray,
    totals: DeviceArray,
    *,
    scale: float = 1.0,
    weights: DeviceArray | None = None,
    bias: DeviceArray | None = None,
    gradient: bool = True,
    start: bool = False,
) -> None:
    """Negative log-likelihood of the targets under a softmax; its gradient overwrites the logits.

    Parameters
    ----------
    logits : device array (N, V), float32 or float64, C-contiguous
        Overwritten with ``scale * weight * (softmax - onehot)`` where the gradient is wanted, else kept.
    targets : device array (N,), int64
        Class of each row, 0 to V - 1; the device does not check it.
    totals : device array (n,), float64
        ``totals[0]`` grows by the sum over the rows of ``-weight * log p(target)``, ``totals[1]`` by the
        number of rows of positive weight whose first largest logit is the target's.
    scale : float
        Factor of the gradient alone.
    weights : device array (N,), float64, optional
        Not negative. A row of weight zero is padding: it gives neither loss nor gradient, and its target
        may be anything.
    bias : device array (V,), optional
        Added to every row of `logits`.
    gradient : bool
    start : bool
        Whether all totals are set to zero first.

    Raises
    ------
    ValueError
        There are 2**31 classes or more.
    """
    rows, classes = logits.shape
    if classes >= 1 << 31:  # a thread's index has 32 bits
        raise ValueError(f"logits: expected less than 2**31 classes, got {classes}")
    if rows == 0:
        if start:
            fill(totals, 0)
        return
    losses, hits = empty((rows,), np.float64), empty((rows,), np.float64)
    options = LossOptions(
        classes, np.float64(scale), int(weights is not None), int(bias is not None), int(gradient), int(start)
    )
    threads = limits().threads
    memory = flat(logits)
    launch(
        cross_entropy_kernel, min(rows, limits().blocks), threads,
        memory, memory if bias is None else bias, targets, losses if weights is None else weights, options,
        losses, hits, counters(1), totals, shared=threads * 8,
    )  # fmt: skip
