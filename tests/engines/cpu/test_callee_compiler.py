"""Functions that compiled functions alone call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.registry import cpu_target

from lstm_numba.engines.cpu.options import CALLEE, INLINE, SERIAL


@njit(**CALLEE)
def _doubled(values):
    return values * 2


@njit(**INLINE)
def _shifted(values, by):
    return _doubled(values) + by


@njit(**{**SERIAL, "cache": False})
def _both(values, by):
    return _shifted(values, by) - _doubled(by)


def _machine_code(dispatcher: Any) -> list[bool]:
    """Whether there is any, of each types of arguments that there were calls with."""
    engine = cpu_target.target_context.codegen()._engine
    return [engine.is_symbol_defined(one.fndesc.llvm_func_name) for one in dispatcher.overloads.values()]


def test_callers_compute_with_them_and_they_are_no_machine_code() -> None:
    np.testing.assert_array_equal(_both(np.arange(3.0), 1.0), [-1, 1, 3])
    assert [_machine_code(one) for one in (_doubled, _shifted, _both)] == [[False, False], [False], [True]]


def test_python_cannot_call_them() -> None:
    with pytest.raises(TypeError, match="not callable"):
        _doubled(1.0)
