"""Dropout masks drawn on the device, equal to NumPy's.

NumPy's `numpy.random.Philox` is a function of a counter and a key, so that any thread can compute any part of
its sequence: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x64-10).
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import (
    cuda,
    insert_function,
    intrinsic,
    ir,
    make_signature,
    overload,
    types,
)
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.launch import launch_over
from lstm_numba.engines.cuda.memory import DeviceArray, empty, upload, zero, zeros
from lstm_numba.engines.cuda.options import DEVICE, KERNEL
from lstm_numba.engines.dropout_masks import check_probability

_I64 = ir.IntType(64)
_MASK = 2**64 - 1

#: Float32 numbers from one value of the counter: four words of 64 bits make two each.
_PER_COUNTER = 8

_FACTOR_0, _FACTOR_1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_KEY_STEP_0, _KEY_STEP_1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


def low(a: Any, b: Any) -> Any:
    """Lower half of the product of two words of 64 bits."""
    return np.uint64(int(a) * int(b) & _MASK)


def high(a: Any, b: Any) -> Any:
    """Upper half of the product of two words of 64 bits."""
    return np.uint64(int(a) * int(b) >> 64)


def plus(a: Any, b: Any) -> Any:
    """Sum of two words of 64 bits, modulo 2**64."""
    return np.uint64(int(a) + int(b) & _MASK)


def part(word: Any, n: Any, count: Any) -> Any:
    """The upper `count` bits of the lower (n = 0) or upper (n = 1) half of a number, as an int64."""
    return np.int64((int(word) >> 32 * n & 0xFFFFFFFF) >> 32 - count)


def _unsigned(emit: Any) -> Any:
    """Make an intrinsic of two unsigned words of 64 bits."""

    @intrinsic
    def function(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return emit(builder, *args)

        return make_signature(types.uint64, types.uint64, types.uint64), codegen

    return function


def _high(builder: Any, a: Any, b: Any) -> Any:
    function = insert_function(builder.module, ir.FunctionType(_I64, [_I64, _I64]), "__nv_umul64hi")
    return builder.call(function, [a, b])


_emit_low = _unsigned(lambda builder, a, b: builder.mul(a, b))
_emit_high = _unsigned(_high)
_emit_plus = _unsigned(lambda builder, a, b: builder.add(a, b))


@overload(low)
def _(a, b):
    return lambda a, b: _emit_low(a, b)


@overload(high)
def _(a, b):
    return lambda a, b: _emit_high(a, b)


@overload(plus)
def _(a, b):
    return lambda a, b: _emit_plus(a, b)


@intrinsic
def _emit_part(typingctx: Any, word: Any, n: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        width = ir.Constant(_I64, 32)
        half = builder.lshr(args[0], builder.mul(args[1], width))
        half = builder.and_(half, ir.Constant(_I64, 0xFFFFFFFF))
        return builder.lshr(half, builder.sub(width, args[2]))

    return make_signature(types.int64, types.uint64, types.int64, types.int64), codegen


@overload(part)
def _(word, n, count):
    return lambda word, n, count: _emit_part(word, n, count)


@cuda.jit(**DEVICE)
def _carry(a, b):
    """Sum of two words, and the carry."""
    total = plus(a, b)
    return total, np.uint64(1) if total < b else np.uint64(0)


@cuda.jit(**DEVICE)
def _philox(counter, key, block):
    """The four words of the counter plus `block`."""
    x0, carry = _carry(counter[0], block)
    x1, carry = _carry(counter[1], carry)
    x2, carry = _carry(counter[2], carry)
    x3 = plus(counter[3], carry)
    k0, k1 = key
    for _ in range(10):
        x0, x1, x2, x3 = (
            high(_FACTOR_1, x2) ^ x1 ^ k0,
            low(_FACTOR_1, x2),
            high(_FACTOR_0, x0) ^ x3 ^ k1,
            low(_FACTOR_0, x0),
        )
        k0, k1 = plus(k0, _KEY_STEP_0), plus(k1, _KEY_STEP_1)
    return x0, x1, x2, x3


@cuda.jit(**DEVICE)
def _word(words, n):
    """The word that has number `n` of eight; indexing with a variable would put the tuple in local memory."""
    return words[0] if n < 2 else words[1] if n < 4 else words[2] if n < 6 else words[3]


@cuda.jit(**KERNEL)
def mask_kernel(counter, key, drawn, threshold, kept, mask):
    """Draw a mask, as `dropout_kernel` does."""
    for block in stride_range(cuda.grid(1), (mask.size + 7) // 8, cuda.gridsize(1)):
        words = _philox(counter, key, np.uint64(drawn[0] + block + 1))
        for n in range(min(8, mask.size - block * 8)):
            dropped = part(_word(words, n), n % 2, 24) < threshold
            mask[block * 8 + n] = mask.dtype.type(0) if dropped else kept


@cuda.jit(**KERNEL)
def dropout_kernel(counter, key, drawn, threshold, kept, x, mask, out):
    """Draw a mask and multiply with it; a thread draws for one value of the counter at a time.

    Parameters
    ----------
    counter : tuple of four uint64
        The last one used, without those that `drawn` counts.
    key : tuple of two uint64
    drawn : (1,), int64, on the device
        Values of the counter used since.
    threshold : int
        Numbers of 24 bits below it are dropped.
    kept : number
        Factor of the others.
    x, mask, out : flat device arrays
        `out` may be `x`.
    """
    for block in stride_range(cuda.grid(1), (mask.size + 7) // 8, cuda.gridsize(1)):
        words = _philox(counter, key, np.uint64(drawn[0] + block + 1))
        for n in range(min(8, mask.size - block * 8)):
            factor = mask.dtype.type(0) if part(_word(words, n), n % 2, 24) < threshold else kept
            mask[block * 8 + n] = factor
            out[block * 8 + n] = x[block * 8 + n] * factor


_drawn: contextvars.ContextVar[DeviceArray] = contextvars.ContextVar("drawn", default=None)


class Draws:
    """Draws of a generator that are recorded in a graph, and repeated with new random numbers.

    Parameters
    ----------
    rng : numpy.random.Generator
        Of `numpy.random.Philox`.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._bits: Any = rng.bit_generator
        self._drawn = zeros((1,), np.int64)
        self._start = self._counter()
        self._used = 0

    def _counter(self) -> int:
        return sum(int(word) << 64 * n for n, word in enumerate(self._bits.state["state"]["counter"]))

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the draws of a ``with`` block."""
        token = _drawn.set(self._drawn)
        try:
            yield
        finally:
            _drawn.reset(token)
        self._used = self._counter() - self._start

    def repeat(self) -> None:
        """Make the next repetition draw what the generator would draw now, and advance the generator."""
        if self._used:
            upload(np.array([self._counter() - self._start]), self._drawn)
            self._bits.advance(self._used)


def dropout(
    rng: np.random.Generator,
    x: DeviceArray,
    p: float,
    out: DeviceArray | None = None,
    mask: DeviceArray | None = None,
) -> tuple[DeviceArray, DeviceArray]:
    """Multiply with a mask that is drawn on the device, equal to that of
    `lstm_numba.engines.dropout_masks.draw_mask`.

    Parameters
    ----------
    rng : numpy.random.Generator
        Of `numpy.random.Philox`. It is advanced as if it had drawn the mask; its next draw starts with a new
        value of the counter.
    x : device array, float32 or float64, C-contiguous
    p : float
        Probability of dropping, in [0, 1).
    out, mask : device arrays of its shape and dtype, optional
        Get product and mask; `out` may be `x`.

    Returns
    -------
    out, mask : device arrays
        The mask is 0 with probability `p`, else ``1 / (1 - p)``.

    Raises
    ------
    TypeError
        The generator is not a Philox.
    """
    check_probability(p)
    out = empty(x.shape, x.dtype) if out is None else out
    mask = empty(x.shape, x.dtype) if mask is None else mask
    kept = x.dtype.type(1.0 / (1.0 - p))
    _draw(dropout_kernel, rng, x.size, p, kept, flat(x), flat(mask), flat(out))
    return out, mask


def mask(
    rng: np.random.Generator, shape: tuple[int, ...], p: float, dtype: npt.DTypeLike, kept: float
) -> DeviceArray:
    """A mask that is drawn on the device, equal to that of `lstm_numba.engines.dropout_masks.draw_mask`.

    Parameters
    ----------
    rng, p
        As for `dropout`.
    shape : tuple of int
    dtype : float32 or float64
    kept : float
        The value of what is not 0.
    """
    check_probability(p)
    found = empty(shape, dtype)
    _draw(mask_kernel, rng, found.size, p, found.dtype.type(kept), flat(found))
    return found


def _draw(kernel: Any, rng: np.random.Generator, count: int, p: float, kept: Any, *arrays: Any) -> None:
    """Launch a kernel that draws `count` numbers, and advance the generator."""
    bits = rng.bit_generator
    if not isinstance(bits, np.random.Philox):
        raise TypeError(f"rng: expected a generator of numpy.random.Philox, got {type(bits).__name__}")
    drawn = _drawn.get() or zero()
    state = bits.state["state"]
    counter, key = (tuple(np.uint64(n) for n in state[name]) for name in ("counter", "key"))
    blocks = -(-count // _PER_COUNTER)
    # NumPy compares m / 2**24 with p in float32, which is exact: so is m with the threshold.
    threshold = math.ceil(float(np.float32(p)) * 2**24)
    launch_over(kernel, blocks, counter, key, drawn, threshold, kept, *arrays)
    bits.advance(blocks)  # which also clears what NumPy has buffered
