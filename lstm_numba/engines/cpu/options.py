"""The one place that spells Numba's compile options."""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cpu.callee_compiler import CalleeCompiler
from lstm_numba.engines.numba_cache import make_cache_safe

make_cache_safe()

# Without "nnan" and "ninf": a NaN or an infinity must stay visible, so that divergence is noticed.
FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}

#: Options of a kernel that runs on the calling thread and that Python may call.
SERIAL: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "fastmath": FASTMATH,
    # Division by zero gives inf or NaN as in NumPy; the check that Python semantics ask for
    # would keep LLVM from vectorising every loop with a division in it.
    "error_model": "numpy",
}

#: Options of a function that compiled functions alone call: it has no machine code of its own, so that Python
#: gets a TypeError where it calls one. Not it is kept on disk, but what calls it: a cell's equations may have
#: been typed into an interpreter, and then there is no file whose change Numba could notice.
CALLEE: dict[str, Any] = {
    **SERIAL,
    "cache": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": CalleeCompiler,
}

#: Options of a part of a kernel that must melt into its caller: passing a group of arrays to a function
#: that stays one costs more than the equations of a vector of units.
INLINE: dict[str, Any] = {**CALLEE, "forceinline": True}

#: Flags of the single instructions that a vector equation becomes. Fewer than `FASTMATH`: the
#: exponential rounds by adding and subtracting a large number, which reassociation would undo.
VECTOR_FLAGS = ("contract", "nsz")

#: Options of kernels whose results must be the same bits whatever code LLVM makes of them: every operation
#: rounds as written. LLVM still vectorises, but for sums, which then want explicit lanes.
EXACT: dict[str, Any] = {**SERIAL, "fastmath": False}
EXACT_INLINE: dict[str, Any] = {**INLINE, "fastmath": False}
