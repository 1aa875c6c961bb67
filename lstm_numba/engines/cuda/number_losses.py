"""Losses of predicted numbers with their gradient, in place; see `lstm_numba.engines.number_losses`.

One block computes all of them, a thread the targets of a row: a batch has a few thousand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines import number_losses
from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.launch import launch, limits
from lstm_numba.engines.cuda.memory import DeviceArray
from lstm_numba.engines.cuda.options import DEVICE, KERNEL
from lstm_numba.engines.cuda.reductions import block_sum


class NumberLossOptions(NamedTuple):
    """Options of the loss.

    Attributes
    ----------
    kind : int
        See `lstm_numba.engines.number_losses.NumberLoss`.
    rows, targets : int
        Rows, and targets in a row, M.
    scale : float64
    gradient : int
        1 if the gradient is wanted.
    """

    kind: Any
    rows: Any
    targets: Any
    scale: Any
    gradient: Any


_single = cuda.jit(**DEVICE)(number_losses.single)
_gaussian = cuda.jit(**DEVICE)(number_losses.gaussian)


@cuda.jit(**DEVICE)
def _value(predictions, bias, at, column):
    """A prediction with its bias, added in the predictions' precision, in float64."""
    return np.float64(predictions[at] + bias[column])


@cuda.jit(**DEVICE)
def _loss(predictions, bias, target, weight, levels, options, column, at):
    """Loss of one target, and its gradient; its numbers begin at `column` of a row, which is at `at`."""
    width = np.int32(levels.size)
    factor, number = options.scale * weight, predictions.dtype.type
    if not weight > 0.0:  # nothing is known of it; whatever was predicted, even NaN, does not count
        if options.gradient:
            for k in range(width):
                predictions[at + k] = 0
        return np.float64(0)
    if options.kind == number_losses.GAUSSIAN:
        difference = _value(predictions, bias, at, column) - target
        loss, of_mean, of_variance = _gaussian(difference, _value(predictions, bias, at + 1, column + 1))
        if options.gradient:
            predictions[at] = number(factor * of_mean)
            predictions[at + 1] = number(factor * of_variance)
        return weight * loss
    total = np.float64(0)
    for k in range(width):
        difference = _value(predictions, bias, at + k, column + k) - target
        loss, slope = _single(options.kind, difference, levels[k])
        total += weight * loss / width
        if options.gradient:
            predictions[at + k] = number(factor * slope / width)
    return total


@cuda.jit(**KERNEL)
def number_loss_kernel(predictions, bias, targets, weights, levels, options, totals):
    """Losses and gradients by one block.

    Parameters
    ----------
    predictions : (N * M * P,)
        Overwritten with the gradient where it is wanted.
    bias : (M * P,)
    targets, weights : (N * M,), float64
    levels : (P,), float64
    options : NumberLossOptions
    totals : (n,), float64
        Set to zero, but for the first, the sum of the losses.
    """
    shared = cuda.shared.array(0, totals.dtype)
    total, width, count = np.float64(0), levels.size, options.targets
    for row in stride_range(cuda.threadIdx.x, options.rows, cuda.blockDim.x):
        for m in range(np.int32(count)):
            n = row * count + m
            total += _loss(predictions, bias, targets[n], weights[n], levels, options, m * width, n * width)
    total = block_sum(shared, total)
    if cuda.threadIdx.x == 0:
        for k in range(totals.size):
            totals[k] = 0
        totals[0] = total


def number_loss(
    predictions: DeviceArray,
    bias: DeviceArray,
    targets: tuple[DeviceArray, DeviceArray, DeviceArray],
    kind: int,
    totals: DeviceArray,
    *,
    scale: float = 1.0,
    gradient: bool = True,
) -> None:
    """Loss of predicted numbers; see `lstm_numba.engines.cpu.number_losses.number_loss`.

    Parameters
    ----------
    predictions, bias, targets, kind, scale, gradient
        See there; device arrays.
    totals : device array (n,), float64
        ``totals[0]`` becomes the sum of the losses, the others zero.

    Raises
    ------
    ValueError
        There are 2**31 targets or more.
    """
    numbers, weights, levels = targets
    if numbers.size >= 1 << 31:  # a thread's index has 32 bits
        raise ValueError(f"targets: expected less than 2**31, got {numbers.size}")
    options = NumberLossOptions(kind, *numbers.shape, np.float64(scale), int(gradient))
    threads = limits().threads
    arrays = flat(predictions), bias, flat(numbers), flat(weights), levels
    launch(number_loss_kernel, 1, threads, *arrays, options, totals, shared=threads * 8)
