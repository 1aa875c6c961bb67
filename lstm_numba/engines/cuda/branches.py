"""Work that runs at the same time, on the current stream and on others beside it: branches, and stages.

Of branches the first is on the current stream, the others on one beside it. Of stages, such as stacked
layers, each has a stream of its own, and waits for the one before it each time that it is given work.

Streams beside the current one wait for it where they fork, and it waits for them where they join. Events do
both, so that a graph can record it (`lstm_numba.engines.cuda.graph`).

Memory needs no more than this order, if what is free may be used again as follows:

- Arrays of the current stream that the other one reads may be deleted before they join. Their memory is used
  again by the current stream, whose branch is submitted first: that is, after they have joined.
- Arrays of the stream beside are read on the current one after they have joined. The stream beside uses their
  memory again where it has waited for the current one since they were deleted, at a later fork
  (`lstm_numba.engines.cuda.pool.Pool.settled`); also where several threads share the current stream.
- What stages hand on is kept by the caller until they have joined.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lstm_numba.engines.cuda.driver import SIMULATED, Event, current_device, new_stream
from lstm_numba.engines.cuda.launch import Current, as_current, on_stream, stream_handle, stream_key
from lstm_numba.engines.cuda.pool import current_pool

#: The environment variable that has branches run one after the other, by 0.
VARIABLE = "LSTM_NUMBA_CUDA_BRANCHES"

#: Makes the context in which the work of a branch, by its number, is submitted.
Branch = Callable[[int], contextlib.AbstractContextManager[Any]]

_share: contextvars.ContextVar[int] = contextvars.ContextVar("share", default=1)


def share() -> int:
    """Between how many kernels, whose blocks wait for each other, the device is divided."""
    return _share.get()


def wanted() -> bool:
    """Whether work may run at the same time: not where it was switched off, nor within a branch."""
    return share() == 1 and os.environ.get(VARIABLE) != "0"


class _Side(NamedTuple):
    """A stream beside another, and events of the other one and of its own."""

    stream: Current
    forked: Event
    joined: Event

    def follow(self, main: int) -> None:
        """Let it wait for all work that is on the other stream now."""
        self.forked.record(main)
        self.forked.hold(self.stream.handle)

    def lead(self, main: int) -> None:
        """Let the other stream wait for all work that is on it now."""
        self.joined.record(self.stream.handle)
        self.joined.hold(main)


@functools.cache
def _side(device: int, main: Any, number: int = 0) -> _Side:
    """A stream beside that with the key `main`."""
    return _Side(as_current(new_stream(), side=True), Event(), Event())


#: The stream of this branch, which is not the first one, and that of the first one.
_apart: contextvars.ContextVar[tuple[_Side, int] | None] = contextvars.ContextVar("apart", default=None)


def catch_up() -> None:
    """Let the rest of this branch wait for the first one; nothing where all work is in order."""
    found = _apart.get()
    if found is not None:
        side, main = found
        side.follow(main)


def _in_order(number: int) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def branches(count: int) -> contextlib.AbstractContextManager[Branch]:
    """Context around branches of work; see `lstm_numba.engines.base.Engine.branches`."""
    return _beside(2, _forked) if count > 1 else contextlib.nullcontext(_in_order)


def pipeline(count: int) -> contextlib.AbstractContextManager[Branch]:
    """Context around stages of work; see `lstm_numba.engines.base.Engine.pipeline`."""
    return _beside(count, lambda: _staged(count))


@contextlib.contextmanager
def _beside(
    parts: int, on_streams: Callable[[], contextlib.AbstractContextManager[Branch]]
) -> Iterator[Branch]:
    """Divide the device into so many parts, and use streams, where work may run at the same time."""
    if not wanted():
        yield _in_order
        return
    token = _share.set(parts)
    try:
        # The simulator has no streams.
        with contextlib.nullcontext(_in_order) if SIMULATED else on_streams() as branch:
            yield branch
    finally:
        _share.reset(token)


@contextlib.contextmanager
def _staged(count: int) -> Iterator[Branch]:
    main, key = stream_handle(), stream_key()
    sides = [_side(current_device(), key, number) for number in range(count - 1)]
    handles = [main, *(side.stream.handle for side in sides)]
    for side in sides:
        with current_pool().settled(side.stream.handle):
            side.follow(main)

    @contextlib.contextmanager
    def stage(number: int) -> Iterator[None]:
        if number == 0:
            yield
            return
        side = sides[number - 1]
        side.follow(handles[number - 1])
        with on_stream(side.stream):
            yield

    try:
        yield stage
    finally:
        for side in sides:
            side.lead(main)


@contextlib.contextmanager
def _forked() -> Iterator[Branch]:
    main, side = stream_handle(), _side(current_device(), stream_key())
    latest = 0
    with current_pool().settled(side.stream.handle):
        side.follow(main)

    @contextlib.contextmanager
    def branch(number: int) -> Iterator[None]:
        nonlocal latest
        if number < latest:
            raise RuntimeError(f"branch {number} after branch {latest}: expected them in order")
        latest = number
        if number == 0:
            yield
            return
        token = _apart.set((side, main))
        try:
            with on_stream(side.stream):
                yield
        finally:
            _apart.reset(token)

    try:
        yield branch
    finally:
        side.lead(main)
