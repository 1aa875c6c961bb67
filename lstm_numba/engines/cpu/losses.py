"""Softmax cross-entropy with its gradient, fused and in place.

A language model spends much of its time here: 400 rows of 10,000 logits a step are 16 MB. The kernel
reads a row three times while it is in the first-level cache, adds the output bias meanwhile, and
leaves the gradient where the logits were, so that no second copy exists.

The exponential is a polynomial without branches, after W. J. Cody and W. Waite, "Software Manual for the
Elementary Functions" (1980): ``exp(x) = 2**n * exp(r)``, ``n = round(x / ln 2)``, ``|r| <= ln(2) / 2``.
Numba's own ``exp`` is a library call, which would keep LLVM from vectorising the loop around it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types
from numba.extending import overload

from lstm_numba.arguments import float_array
from lstm_numba.engines.cpu.options import EXACT
from lstm_numba.engines.cpu.shared_loop import share, shared_loop
from lstm_numba.engines.targets import check_targets

Array = npt.NDArray[Any]

#: Partial sums side by side. The order of the additions is written out, because a sum that the compiler may
#: reorder (fastmath) differs between a process that compiled the kernel and one that found it in the cache.
_LANES = 128

#: Up to so many logits, waking other threads takes longer than the work.
_SERIAL = 1 << 13

# Typed constants: a Python number beside a float32 would turn Numba's arithmetic into float64.
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # few bits: n * _LN2_HIGH is exact
_LN2_LOW = np.float32(-0.00021219444005469057)
_ROUND = np.float32(1.5 * 2.0**23)  # numbers of this size are spaced by one
_LOWEST = np.float32(-87.0)  # exp of less would be subnormal
_T2, _T3, _T4, _T5, _T6, _T7 = (np.float32(1.0 / math.factorial(k)) for k in range(2, 8))
_MANTISSA = np.int32(23)
_BIAS = np.int32(127 << 23)


def _exp_nonpositive(x):
    """``exp(x)`` of a float32 ``x <= 0`` to one unit in the last place; NaN stays NaN."""
    y = _LOWEST if x < _LOWEST else x
    shifted = y * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (y - n * _LN2_HIGH) - n * _LN2_LOW
    p = _T7 * r + _T6
    p = p * r + _T5
    p = p * r + _T4
    p = p * r + _T3
    p = p * r + _T2
    rest = p * r * r + r
    exponent = np.int32(np.int32(np.float32(shifted).view(np.int32) << _MANTISSA) + _BIAS)
    power = np.int32(exponent).view(np.float32)
    return power * rest + power


def _exp(x: Any) -> Any:
    """Exponential of a number that is not positive, in the number's own precision (for kernels)."""
    return math.exp(x)


_JIT = {name: value for name, value in EXACT.items() if name in ("fastmath", "error_model", "nogil")}


@overload(_exp, jit_options=_JIT)
def _overload_exp(x):
    if x == types.float32:
        return _exp_nonpositive
    return lambda x: math.exp(x)


def _ordered(x: Any) -> Any:
    """An integer that sorts as the number does (for kernels).

    LLVM vectorises a maximum of integers, but one of floating-point numbers only where it may forget NaN.
    """
    return x


@overload(_ordered, jit_options=_JIT)
def _overload_ordered(x):
    if x == types.float32:

        def single(x):
            bits = np.float32(x).view(np.int32)
            return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))

        return single

    def double(x):
        bits = np.float64(x).view(np.int64)
        return bits ^ ((bits >> np.int64(63)) & np.int64(0x7FFFFFFFFFFFFFFF))

    return double


def _unordered(bits: Any) -> Any:
    """Undo `_ordered`."""
    return bits


@overload(_unordered, jit_options=_JIT)
def _overload_unordered(bits):
    if bits == types.int32:
        return lambda bits: np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)
    return lambda bits: np.int64(bits ^ ((bits >> np.int64(63)) & np.int64(0x7FFFFFFFFFFFFFFF))).view(
        np.float64
    )


@njit(**EXACT)
def _add_bias_and_find_largest(row, bias, out):
    """Write ``row + bias`` to `out` and return its largest number; NaN wins over every number."""
    largest = _ordered(row[0] + bias[0])
    for j in range(row.shape[0]):
        value = row[j] + bias[j]
        out[j] = value
        key = _ordered(value)
        largest = key if key > largest else largest
    return _unordered(largest)


@njit(**EXACT)
def _exponentials(row, largest):
    """Put ``exp(row - largest)`` in place of the row and return the sum."""
    size = row.shape[0]
    for j in range(size):
        row[j] = _exp(row[j] - largest)
    lanes = np.zeros(_LANES)
    whole = size - size % _LANES
    for start in range(0, whole, _LANES):
        part = row[start : start + _LANES]
        for k in range(_LANES):
            lanes[k] += part[k]
    for j in range(whole, size):
        lanes[j - whole] += row[j]
    total = 0.0
    for k in range(_LANES):
        total += lanes[k]
    return total


@njit(**EXACT)
def _is_argmax(row, target, largest):
    """Whether `target` is the first index of the largest number."""
    first = row[target] >= largest  # False for NaN
    if first:
        for j in range(target):
            first &= row[j] < largest
    return first


@njit(**EXACT)
def _cross_entropy_row(logits, bias, target, factor, gradient, want_gradient):
    """Return -log p of the target and whether it is the argmax; `gradient` gets ``factor * (p - onehot)``."""
    largest = _add_bias_and_find_largest(logits, bias, gradient)
    distance = gradient[target] - largest
    hit = _is_argmax(gradient, target, largest)
    total = _exponentials(gradient, largest)
    if want_gradient:
        share = gradient.dtype.type(factor / total)
        for j in range(gradient.shape[0]):
            gradient[j] *= share
        gradient[target] -= gradient.dtype.type(factor)
    return math.log(total) - distance, hit


@njit(**EXACT)
def _cross_entropy_rows(
    logits, bias, targets, weights, scale, gradient, want_gradient, losses, hits, first, last
):
    for i in range(first, last):
        if weights[i] > 0:
            loss, hit = _cross_entropy_row(
                logits[i], bias, targets[i], scale * weights[i], gradient[i], want_gradient
            )
            losses[i] = weights[i] * loss
            hits[i] = hit
        else:  # a padded position; whatever its logits, even NaN, does not count
            losses[i] = 0.0
            hits[i] = False
            if want_gradient:
                gradient[i] = 0


@njit(**EXACT)
def _row(i, logits, bias, targets, weights, scale, gradient, want_gradient, losses, hits):
    _cross_entropy_rows(
        logits, bias, targets, weights, scale, gradient, want_gradient, losses, hits, i, i + 1
    )


@njit(**EXACT)
def _shared(where, threads, logits, bias, targets, weights, scale, gradient, want_gradient, losses, hits):
    work = (logits, bias, targets, weights, scale, gradient, want_gradient, losses, hits)
    shared_loop(where, threads, _row, logits.shape[0], work)


def softmax_cross_entropy(
    logits: Array,
    targets: Array,
    *,
    scale: float = 1.0,
    weights: Array | None = None,
    bias: Array | None = None,
    overwrite: bool = False,
    gradient: bool = True,
) -> tuple[float, Array | None, int]:
    """Negative log-likelihood of the targets under a softmax, with its gradient.

    Parameters
    ----------
    logits : ndarray (N, V), float32 or float64
        C-contiguous.
    targets : ndarray (N,), int
        Class of each row, 0 to V - 1.
    scale : float
        Factor of the gradient alone, e.g. 1 / batch size for a loss averaged over the batch.
    weights : ndarray (N,), optional
        Not negative. A row of weight zero is padding: it gives neither loss nor gradient, and its target
        may be anything.
    bias : ndarray (V,), optional
        Added to every row of `logits`, which saves a pass over them.
    overwrite : bool
        Work in the memory of `logits`, whose content is lost.
    gradient : bool
        Compute the gradient. If False, it is ``None``.

    Returns
    -------
    loss : float
        Sum over the rows of ``-weight * log p(target)``, in nats, not scaled. Each row's sum is taken in
        float64 over blocks.
    dlogits : ndarray (N, V) or None
        ``scale * weight * (softmax - onehot)``; `logits` itself with ``overwrite=True``.
    correct : int
        Rows of positive weight whose first largest logit is the target's.

    Raises
    ------
    ValueError, TypeError
        A shape or dtype does not fit, or a target is out of range.
    """
    _check_logits(logits)
    rows, classes = logits.shape
    targets, row_weights = check_targets(targets, weights, rows, classes)
    if bias is None:
        bias = np.zeros(classes, logits.dtype)
    elif float_array("bias", bias, logits.dtype).shape != (classes,):
        raise ValueError(f"bias: expected shape ({classes},), got {bias.shape}")
    result = logits if overwrite else np.empty_like(logits)
    losses = np.empty(rows)
    hits = np.empty(rows, np.bool_)
    work = (logits, bias, targets, row_weights, float(scale), result, gradient, losses, hits)
    if logits.size <= _SERIAL:
        _cross_entropy_rows(*work, 0, rows)
    else:
        share(_shared, *work)
    return float(losses.sum()), result if gradient else None, int(hits.sum())


def _check_logits(logits: Array) -> None:
    float_array("logits", logits)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits: expected shape (N, V) with V > 0, got {logits.shape}")
    if not logits.flags.c_contiguous:
        raise ValueError("logits: expected a C-contiguous array")
