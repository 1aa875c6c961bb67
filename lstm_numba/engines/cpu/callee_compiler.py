"""Compilation of functions that only compiled functions call.

Numba optimises every function that it compiles, and makes machine code of it, before it links it into its
callers, where both happen again. For a function that no one calls from Python the first time is wasted; in a
layer of functions that call each other, most of the time is.
"""

from __future__ import annotations

import ctypes
from typing import Any

from numba import _dynfunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

#: What Python calls instead of machine code: Python's own call of what Numba passes as `self`, which refuses.
_NOT_CALLABLE = ctypes.cast(ctypes.pythonapi.PyObject_Call, ctypes.c_void_p).value


class _LinkedLibrary(JITCodeLibrary):
    """LLVM's representation of a function, to be linked into others; never machine code."""

    def _optimize_final_module(self) -> None:
        """Leave that to the libraries that link this one."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _CalleeLowering(NativeLowering):
    """Numba's pass from typed to LLVM's representation, the last one of a callee."""

    _name = "callee_lowering"

    def run_pass(self, state: Any) -> bool:
        linked = _LinkedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state["library"] = linked
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        function = lowered.fndesc
        # Numba knows by an object of this type what a call leads to.
        entry = _dynfunc.make_function(
            function.lookup_module(), function.qualname, function.doc, _NOT_CALLABLE, lowered.env, (linked,)
        )
        state.targetctx.insert_user_function(entry, function, [linked])
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class CalleeCompiler(CompilerBase):
    """`pipeline_class` of a function that only compiled functions call."""

    def define_pipelines(self) -> list[Any]:
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [
            (_CalleeLowering if kind is NativeLowering else kind, why) for kind, why in manager.passes
        ]
        manager.finalize()
        return [manager]
