"""Overrides of the engine's choices for a sequence: launch mode, tile and registers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

#: Whether blocks share the hidden units: classes of `lstm_numba.engines.cuda.layout`.
MODES = ("SingleBlock", "CooperativeGrid")
#: Rows of the batch that a thread computes: classes of `lstm_numba.engines.cuda.specialize`.
TILES = ("OneRow", "FourRows")
#: Registers of a thread that the sequences' kernels are compiled for.
REGISTERS = (96, 128, 168)


class NotSelectable(Exception):
    """The engine has no such choice."""


def _part(module: Any, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise NotSelectable(str(error)) from None


def _none(*args: Any) -> None:
    """No persistent kernel."""


@contextlib.contextmanager
def _instead(module: Any, **values: Any) -> Iterator[None]:
    """Attributes of a module in a ``with`` block."""
    before = {name: _part(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def mode(name: str) -> contextlib.AbstractContextManager[None]:
    """Launch sequences in one of the `MODES`."""
    from lstm_numba.engines.cuda import layout, plans

    return _instead(plans, FORCED_MODE=_part(layout, name))


def tile(name: str) -> contextlib.AbstractContextManager[None]:
    """Compute with one of the `TILES`."""
    from lstm_numba.engines.cuda import plans, specialize

    chosen = _part(specialize, name)()
    return _instead(plans, candidate_tiles=lambda batch: [chosen], persistent_plan=_none, _plans={})


def registers(most: int) -> contextlib.AbstractContextManager[None]:
    """Compile the sequences' kernels for at most so many registers."""
    from lstm_numba.engines.cuda import plans
    from lstm_numba.engines.cuda.driver import cuda

    limited = {
        name: {mode: cuda.jit(max_registers=most)(kernel.py_func) for mode, kernel in kernels.items()}
        for name in ("FORWARD", "BACKWARD")
        for kernels in (_part(plans, name),)
    }
    return _instead(plans, persistent_plan=_none, _plans={}, **limited)


def candidates() -> dict[str, Callable[[], contextlib.AbstractContextManager[None]]]:
    """Every choice by its name."""
    return {
        **{f"mode {name}": partial(mode, name) for name in MODES},
        **{f"tile {name}": partial(tile, name) for name in TILES},
        **{f"{most} registers": partial(registers, most) for most in REGISTERS},
    }
