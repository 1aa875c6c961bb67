"""Overrides of the engine's choices for a sequence: kernel, layout, launch mode, tile and registers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lstm_numba.benchmarks.cases import Shape

#: Kernels of a sequence.
KERNELS = ("persistent", "general")
#: Layouts of a persistent kernel, by the estimate the next after the first.
NEXT_LAYOUTS = 5
#: Of general kernels. Whether blocks share the hidden units: classes of `lstm_numba.engines.cuda.layout`.
MODES = ("SingleBlock", "CooperativeGrid")
#: Rows of the batch that a thread of theirs computes: classes of `lstm_numba.engines.cuda.specialize`.
TILES = ("OneRow", "FourRows")
#: Registers of a thread that they are compiled for.
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


def _no_general(*args: Any) -> None:
    raise NotSelectable(f"no persistent kernel runs: {args[-1]}")


@contextlib.contextmanager
def kernel(name: str) -> Iterator[None]:
    """Run sequences in one of the `KERNELS`.

    Raises
    ------
    NotSelectable
        From a sequence that would run in a general kernel where a persistent one is asked for.
    """
    from lstm_numba.engines.cuda import plans

    variable, instead = plans.VARIABLE, {"general_plan": _no_general} if name == "persistent" else {}
    before = os.environ.get(variable)
    with _instead(plans, _plans={}, **instead):
        os.environ[variable] = name
        try:
            yield
        finally:
            os.environ.pop(variable)
            if before is not None:
                os.environ[variable] = before


@contextlib.contextmanager
def layout(number: int) -> Iterator[None]:
    """Run sequences in a persistent kernel of another layout, by its place in the order of estimates.

    Raises
    ------
    NotSelectable
        From a sequence that has no such layout, or whose blocks cannot all run at the same time in it.
    """
    from lstm_numba.engines.cuda import persistent_layout

    every = persistent_layout.layouts
    with kernel("persistent"), _instead(persistent_layout, layouts=lambda *args: every(*args)[number:][:1]):
        yield


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


#: What makes a choice, by its name.
Choices = dict[str, Callable[[], contextlib.AbstractContextManager[None]]]


def kernel_candidates(cell: str, shape: Shape) -> Choices:
    """The persistent kernel in the layout that the engine chooses, and the general one."""
    return {name: partial(kernel, name) for name in KERNELS}


def layout_candidates(cell: str, shape: Shape) -> Choices:
    """The layouts of a persistent kernel that are the next by the estimate."""
    names = _layout_names(cell, shape)[: NEXT_LAYOUTS + 1]
    return {name: partial(layout, number) for number, name in enumerate(names) if number}


def _layout_names(cell: str, shape: Shape) -> list[str]:
    """What the layouts of a layer's passes are, in the order of their estimates."""
    from lstm_numba.benchmarks.gpu.floors import problem
    from lstm_numba.engines.cuda.driver import device_limits
    from lstm_numba.engines.cuda.launch import limits
    from lstm_numba.engines.cuda.persistent_layout import layouts

    threads = limits().lanes * limits().parts
    forward, backward = (
        layouts(problem(cell, shape, way), device_limits(), threads) for way in (False, True)
    )
    pairs = enumerate(zip(forward, backward, strict=False))
    return [f"layout {n}: forward {_described(a)}; backward {_described(b)}" for n, (a, b) in pairs]


def _described(layout: Any) -> str:
    """A layout in words: as many units may be those of many threads, or several of each thread."""
    lanes, parts = layout.block
    return f"{layout.describe()}, {lanes} x {parts} threads"


def general_candidates(cell: str, shape: Shape) -> Choices:
    """The choices of general kernels."""
    return {
        **{f"mode {name}": partial(mode, name) for name in MODES},
        **{f"tile {name}": partial(tile, name) for name in TILES},
        **{f"{most} registers": partial(registers, most) for most in REGISTERS},
    }
