"""Checks that branches on two streams never use memory too early, on a stand-in for the driver.

All that is put on a stream, and every event, is followed by vector clocks: C. J. Fidge, "Timestamps in
message-passing systems that preserve the partial ordering", Australian Computer Science Conference 1988.
Memory that is used again must have been used for the last time before, in this order. Run by
`tests/benchmarks/test_stand_in.py`, with the stand-in first on the library path:

    python tests/support/branch_order.py
"""

from __future__ import annotations

import bisect
import contextvars
from collections import Counter
from typing import Any

import numpy as np

import lstm_numba as ln
from lstm_numba.engines.cuda import branches, driver, launch, memory, plans, pool
from lstm_numba.models.base import SequenceBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.optim.optimizers import make_optimizer
from lstm_numba.training.step import TrainingStep

Clock = Counter[int]  # of each stream: how much of its work has been done


class Block:
    """A block of memory: when its earlier arrays and its present one have been used."""

    def __init__(self, size: int) -> None:
        self.size, self.earlier, self.present, self.taken = size, Clock(), Clock(), 0

    def take(self) -> None:
        self.earlier |= self.present
        self.present, self.taken = Clock(), self.taken + 1


class Watch:
    """Follows streams, events and memory."""

    def __init__(self) -> None:
        self.clocks: dict[int, Clock] = {0: Clock()}
        self.beside: set[int] = set()
        self.events: dict[int, Clock] = {}
        self.blocks: dict[int, Block] = {}
        self.starts: list[int] = []
        self.uses: Counter[bool] = Counter()  # on a stream beside another, or not
        self.early: list[str] = []
        self._follow_streams()
        self._follow_memory()

    def put(self, stream: int, waits_for: Clock) -> Clock:
        """Put something on a stream; returns the stream's clock.

        CUDA's default stream waits for the others but those beside one, and then they for it.
        """
        ordered = [number for number in self.clocks if number not in self.beside]
        clock = self.clocks.get(stream, self.clocks[0]) | waits_for  # a copy
        for other in ordered if stream == 0 else ():
            clock |= self.clocks[other]
        clock[stream] += 1
        for other in (stream, *(ordered if stream == 0 else ())):
            self.clocks[other] = self.clocks[other] | clock if other in self.clocks else clock
        return self.clocks[stream]

    def _follow_streams(self) -> None:
        record, hold, new_stream = driver.Event.record, driver.Event.hold, branches.new_stream

        def followed_record(event: Any, stream: int) -> None:
            self.events[id(event)] = self.put(stream, Clock()).copy()
            record(event, stream)

        def followed_hold(event: Any, stream: int) -> None:
            self.put(stream, self.events[id(event)])
            hold(event, stream)

        def followed_stream() -> Any:
            stream = new_stream()
            self.beside.add(int(stream))
            self.clocks[int(stream)] = Clock()
            return stream

        branches.new_stream = followed_stream

        driver.Event.record = followed_record  # type: ignore[assignment,method-assign]
        driver.Event.hold = followed_hold  # type: ignore[assignment,method-assign]

    def _follow_memory(self) -> None:
        allocate, take, start, real = pool._allocate, pool.Pool.take, launch.core_launch, memory.driver

        def followed_allocate(size: int) -> Any:
            block, address = allocate(size)
            if address not in self.blocks:
                bisect.insort(self.starts, address)
            self.blocks[address] = Block(size)  # CUDA has waited for all work before it freed it
            return block, address

        def followed_take(self_: pool.Pool, size: int) -> Any:
            address, lease = take(self_, size)
            self.blocks[address].take()
            return address, lease

        def followed_start(stream: Any, configuration: Any, kernel: Any, *values: Any) -> None:
            self.use(*(value for value in values if type(value) is int))
            start(stream, configuration, kernel, *values)

        class Driver:
            def __getattr__(_, name: str) -> Any:
                return getattr(real, name)

            def cuMemsetD8Async(_, target: int, *more: Any) -> None:
                self.use(target)
                real.cuMemsetD8Async(target, *more)

            def cuMemcpyDtoDAsync(_, target: int, source: int, *more: Any) -> None:
                self.use(target, source)
                real.cuMemcpyDtoDAsync(target, source, *more)

        pool._allocate = followed_allocate
        pool.Pool.take = followed_take  # type: ignore[assignment,method-assign]
        launch.core_launch, memory.driver = followed_start, Driver()

    def use(self, *addresses: int) -> None:
        """Something on the current stream that is given these addresses, and other numbers."""
        stream = launch.stream_handle()
        clock = self.put(stream, Clock())
        self.uses[launch.on_side()] += 1
        for address in addresses:
            at = bisect.bisect_right(self.starts, address) - 1
            block = self.blocks[self.starts[at]] if at >= 0 else None
            if block is None or address >= self.starts[at] + block.size:
                continue
            if block.earlier - clock:
                self.early.append(f"{self.starts[at]:#x}, taken {block.taken} times, on stream {stream:#x}")
            block.present[stream] = clock[stream]


def run_layer() -> None:
    """A layer, of whose arrays the user keeps some for a while."""
    layer = ln.GRU(3, 5, 2, bidirectional=True, weight_drop=0.2, dropout=0.2, seed=0, device="cuda")
    x, dy = (memory.upload(np.ones((4, 3, width), np.float32)) for width in (3, 10))
    kept: Any = None
    for n in range(6):
        y, _, tape = layer.forward(x)
        _, _, grads = layer.backward(tape, dy)
        layer.engine.multiply(y, y)
        grads = {name: layer.engine.multiply(grad, grad) for name, grad in grads.items()}
        kept = (y, grads) if n % 2 else kept


def run_threads() -> None:
    """A layer in each branch, while another thread runs both directions of its own on the same stream."""
    own, other = (
        ln.GRU(3, 5, bidirectional=both, seed=0, device="cuda") for both in (False, True)
    )  # fmt: skip
    x = memory.upload(np.ones((4, 3, 3), np.float32))
    for _ in range(4):
        with own.engine.branches(2) as branch:
            for number in range(2):
                with branch(number):
                    own(x)
                contextvars.Context().run(other, x)  # as in a thread, but at a known time


def run_wavefront() -> None:
    """Stacked layers, each on a stream of its own."""
    layer = ln.LSTM(3, 5, 3, seed=0, device="cuda")
    x = memory.upload(np.ones((6, 3, 3), np.float32))
    chosen = type(layer.engine).wavefront
    type(layer.engine).wavefront = staticmethod(lambda *args: 3)
    try:
        state = None
        for _ in range(4):
            y, state = layer(x, state)
            layer.engine.multiply(y, y)
    finally:
        type(layer.engine).wavefront = staticmethod(chosen)


def run_steps() -> None:
    """Training steps, most of them recorded."""
    model = SequenceClassifier(3, 5, 4, cell="gru", bidirectional=True, seed=0, device="cuda")
    step = TrainingStep(model, make_optimizer("sgd", model.params, 0.1), clip=1.0)
    batch = SequenceBatch(np.ones((4, 3, 3), np.float32), np.arange(3))
    for _ in range(5):
        step(batch, None, 0.1)


def main() -> None:
    """Run all."""
    watch = Watch()
    for work in (run_layer, run_threads, run_wavefront, run_steps):
        watch.uses.clear()
        work()
        assert not watch.early, "used too early: " + "; ".join(watch.early[:3])
        beside = watch.uses[True] / watch.uses.total()
        assert 0.2 < beside < (0.7 if work is run_wavefront else 0.5), beside
        print(f"{work.__name__}: {watch.uses.total()} launches, fills and copies, {beside:.0%} beside")
    assert {key[-1] for key in plans._plans} == {2, 3}  # parts of the device
    assert branches.share() == 1
    print("memory is used in order")


if __name__ == "__main__":
    main()
