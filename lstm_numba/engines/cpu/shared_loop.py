"""Loops whose rounds threads share, each taking the next one until there are none left."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from lstm_numba.engines.cpu.helpers import call_with_helpers, helpers
from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.threads import thread_count

_I64 = ir.IntType(64)


@intrinsic
def _described(typingctx: Any, function: Any, count: Any, arguments: Any) -> Any:
    """A loop as an entry and its argument for `call_with_helpers`, valid until the caller returns."""
    called = function.get_call_type(typingctx, (types.int64, *arguments.types), {})

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        compiled = function.dispatcher.overloads[tuple(called.args)]
        context.add_linking_libs(context.get_function(function, called).libs)
        job = ir.LiteralStructType([_I64, _I64, args[2].type])
        kind = ir.FunctionType(ir.VoidType(), [job.as_pointer(), _I64])
        name = f"lstm_numba_loop_{compiled.fndesc.mangled_name}"
        entry = ir.Function(builder.module, kind, name)
        entry.linkage = "internal"
        _emit_entry(context, ir.IRBuilder(entry.append_basic_block("entry")), compiled.fndesc, called)
        memory = cgutils.alloca_once(builder, job)
        for n, value in enumerate((ir.Constant(_I64, 0), args[1], args[2])):
            builder.store(value, cgutils.gep_inbounds(builder, memory, 0, n))
        addresses = [builder.ptrtoint(pointer, _I64) for pointer in (entry, memory)]
        return context.make_tuple(builder, sig.return_type, addresses)

    return types.UniTuple(types.int64, 2)(function, types.int64, arguments), codegen


def _emit_entry(context: Any, builder: Any, fndesc: Any, called: Any) -> None:
    job, _ = builder.function.args
    taken, count, given = (cgutils.gep_inbounds(builder, job, 0, n) for n in range(3))
    values = cgutils.unpack_tuple(builder, builder.load(given), len(called.args) - 1)
    last = builder.load(count)
    again, body, done = (builder.append_basic_block(name) for name in ("next", "body", "done"))
    builder.branch(again)
    builder.position_at_end(again)
    index = builder.atomic_rmw("add", taken, ir.Constant(_I64, 1), "acq_rel")
    builder.cbranch(builder.icmp_signed("<", index, last), body, done)
    builder.position_at_end(body)
    context.call_internal_no_propagate(builder, fndesc, called, [index, *values])
    builder.branch(again)
    builder.position_at_end(done)
    builder.ret_void()


def shared_loop(where: Any, threads: Any, function: Any, count: Any, arguments: Any) -> Any:
    """``for n in range(count): function(n, *arguments)`` by so many threads, in any order; see `share`.

    The function is compiled, raises nothing and returns nothing.
    """
    raise NotImplementedError


@overload(shared_loop, INLINE)
def _(where, threads, function, count, arguments):
    def run(where, threads, function, count, arguments):
        entry, job = _described(function, count, arguments)
        call_with_helpers(where, entry, job, threads)

    return run


def share(kernel: Any, *arguments: Any) -> None:
    """Call a kernel of (where, threads, *arguments), which passes the first two on to `shared_loop`."""
    threads = thread_count()
    kernel(helpers(threads - 1), threads, *arguments)
