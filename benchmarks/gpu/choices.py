"""How the engine shares a sequence's work, chosen by hand: the one place that knows how it chooses itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

#: Who computes a row of the batch: a block by itself, or blocks that share the units and meet at every step.
TEAMS = ("alone", "together")
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


def team(name: str) -> contextlib.AbstractContextManager[None]:
    """Have the work shared in one of the `TEAMS`."""
    from lstm_numba.engines.cuda import sequence

    return _instead(sequence, FORCED=name)


def tile(name: str) -> contextlib.AbstractContextManager[None]:
    """Have a thread compute one of the `TILES`."""
    from lstm_numba.engines.cuda import sequence, specialize

    chosen = _part(specialize, name)()
    return _instead(sequence, tiles=lambda batch: [chosen], _plans={})


def registers(most: int) -> contextlib.AbstractContextManager[None]:
    """Have the sequences' kernels compiled for at most so many registers."""
    from lstm_numba.engines.cuda import sequence
    from lstm_numba.engines.cuda.driver import cuda

    limited = {
        name: {team: cuda.jit(max_registers=most)(kernel.py_func) for team, kernel in kernels.items()}
        for name in ("FORWARD", "BACKWARD")
        for kernels in (_part(sequence, name),)
    }
    return _instead(sequence, _plans={}, **limited)


def candidates() -> dict[str, Callable[[], contextlib.AbstractContextManager[None]]]:
    """Every choice by its name."""
    return {
        **{f"team {name}": partial(team, name) for name in TEAMS},
        **{f"tile {name}": partial(tile, name) for name in TILES},
        **{f"{most} registers": partial(registers, most) for most in REGISTERS},
    }
