"""How a thread waits for another one: it looks for a while, then sleeps until it is woken.

A thread that only looks keeps its core from the one that it waits for, as soon as there are more threads than
cores, and each wait then lasts a scheduler's slice of milliseconds. Linux has the futex for this; elsewhere
the thread hands its core over and looks again.
"""

from __future__ import annotations

import platform
import sys
from typing import Any

from llvmlite import binding, ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from lstm_numba.engines.cpu.options import SERIAL

_I64, _I32 = ir.IntType(64), ir.IntType(32)
_MACHINE = platform.machine().lower()
#: Number of the system call, where there is one.
_FUTEX = {"x86_64": 202, "amd64": 202, "aarch64": 98}.get(_MACHINE) if sys.platform == "linux" else None
_WAIT, _WAKE = 128, 129  # for threads of one process
_YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
_ALL = 1 << 30

if sys.platform == "win32":
    import ctypes

    for _name in (_YIELD, "GetTickCount64"):
        binding.add_symbol(_name, ctypes.cast(getattr(ctypes.windll.kernel32, _name), ctypes.c_void_p).value)


@intrinsic
def atomic_add(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Add to a number in memory that others may change; return the sum."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        old = builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "seq_cst")
        return builder.add(old, args[2])

    return types.int64(pointer, types.int64, types.int64), codegen


@intrinsic
def atomic_load(typingctx: Any, pointer: Any, index: Any) -> Any:
    """A number in memory that others may change, and all that they wrote before it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "seq_cst", 8)

    return types.int64(pointer, types.int64), codegen


@intrinsic
def atomic_store(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Store a number for others to `atomic_load`, after all that was written before."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64), codegen


@intrinsic
def compare_and_swap(typingctx: Any, pointer: Any, index: Any, old: Any, new: Any) -> Any:
    """Store `new` if the number is `old`; whether it was."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where = builder.gep(args[0], [args[1]])
        outcome = builder.cmpxchg(where, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(outcome, 1)

    return types.boolean(pointer, types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx: Any) -> Any:
    """Tell the processor that this thread only looks."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _MACHINE in ("x86_64", "amd64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


def _futex(builder: Any, word: Any, *numbers: int | Any) -> None:
    kind = ir.FunctionType(_I64, [_I64] * 7)
    function = cgutils.get_or_insert_function(builder.module, kind, "syscall")
    operation, value = numbers
    zero = ir.Constant(_I64, 0)
    arguments = [ir.Constant(_I64, _FUTEX), word, ir.Constant(_I64, operation), value, zero, zero, zero]
    builder.call(function, arguments)


def _half(builder: Any, args: Any) -> Any:
    """Address of one of a number's two halves of 32 bits, as an integer; the processors are little-endian."""
    base = builder.ptrtoint(builder.gep(args[0], [args[1]]), _I64)
    return builder.add(base, builder.mul(args[2], ir.Constant(_I64, 4)))


@intrinsic
def sleep_while(typingctx: Any, pointer: Any, index: Any, half: Any, value: Any) -> Any:
    """Sleep until woken if half of a number (0: the lower) is `value`; may return early."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _FUTEX:
            value = builder.zext(builder.trunc(args[3], _I32), _I64)
            _futex(builder, _half(builder, args), _WAIT, value)
        else:
            kind = ir.FunctionType(_I32, [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, _YIELD), [])
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, types.int64), codegen


@intrinsic
def wake_all(typingctx: Any, pointer: Any, index: Any, half: Any) -> Any:
    """Wake all that sleep at half of a number."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _FUTEX:
            _futex(builder, _half(builder, args), _WAKE, ir.Constant(_I64, _ALL))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64), codegen


@intrinsic
def current_core(typingctx: Any) -> Any:
    """Number of the core that this thread is on; -1 where the system does not tell."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sys.platform != "linux":
            return ir.Constant(_I64, -1)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, []), "sched_getcpu")
        return builder.sext(builder.call(function, []), _I64)

    return types.int64(), codegen


@intrinsic
def set_affinity(typingctx: Any, thread: Any, mask: Any, words: Any) -> Any:
    """Let one of the system's threads run on those cores whose bits are set in so many words of a mask."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sys.platform == "linux":
            kind = ir.FunctionType(_I32, [_I32, _I64, args[1].type])
            function = cgutils.get_or_insert_function(builder.module, kind, "sched_setaffinity")
            size = builder.mul(args[2], ir.Constant(_I64, 8))
            builder.call(function, [builder.trunc(args[0], _I32), size, args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, mask, types.int64), codegen


@intrinsic
def _clock(typingctx: Any) -> Any:
    """Nanoseconds since some time."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sys.platform == "win32":
            kind = ir.FunctionType(_I64, [])
            ticks = builder.call(cgutils.get_or_insert_function(builder.module, kind, "GetTickCount64"), [])
            return builder.mul(ticks, ir.Constant(_I64, 1_000_000))
        time = cgutils.alloca_once(builder, ir.ArrayType(_I64, 2))
        kind = ir.FunctionType(_I32, [_I32, time.type])
        monotonic = ir.Constant(_I32, 6 if sys.platform == "darwin" else 1)
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "clock_gettime"), [monotonic, time])
        seconds, rest = (builder.extract_value(builder.load(time), n) for n in range(2))
        return builder.add(builder.mul(seconds, ir.Constant(_I64, 1_000_000_000)), rest)

    return types.int64(), codegen


@njit(**SERIAL)
def nanoseconds():
    """Time since some moment in the past."""
    return _clock()
