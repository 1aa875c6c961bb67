"""Code that is compiled once, separately from its callers, and called by its address as a C function.

Numba optimises a function anew within every compiled function that calls it. What is much machine code and
the same for all its callers would be most of their compile time.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import cfunc
from numba.core import event, types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from lstm_numba.engines.compile_notice import COMPILE_EVENT
from lstm_numba.engines.cpu.options import SERIAL


def once(function: Any) -> Any:
    """`functools.cache` for what compiles: threads that ask at the same time get the first one's result.

    The cache alone lets each of them compute, and keeps the last result: what was at the address that another
    got is freed. The lock is Numba's own, so that no two threads wait for each other; behind it the inner
    cache knows what was compiled meanwhile, and what is known waits for no lock.
    """
    return functools.cache(global_compiler_lock(functools.cache(function)))


def compile_apart(function: Any, *arguments: Any, returns: Any = types.void) -> Any:
    """A function as a C function, kept on disk like the kernels; it has an `address`.

    Parameters
    ----------
    function : callable
        Uncompiled.
    *arguments : numba.types.Type
        Of its arguments.
    returns : numba.types.Type
    """
    # Numba tells its listeners of what compiles within, but not of a C function itself.
    heard = {"name": function.__name__, "compiled": False}
    with event.trigger_event(COMPILE_EVENT, data=heard):
        compiled = cfunc(returns(*arguments), cache=True, nogil=SERIAL["nogil"])(function)
        heard["compiled"] = compiled.cache_hits == 0
    return compiled


@intrinsic
def call_pointer(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Call the C function at an address, which returns nothing, with a tuple of numbers and pointers."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [builder.extract_value(args[1], n) for n in range(len(sig.args[1]))]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen
