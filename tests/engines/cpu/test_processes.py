"""Threads that begin at the same time, and forked children, in fresh processes on each threading layer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from lstm_numba.cells.numba_classes import cell_class
from lstm_numba.engines.cpu.function_pointers import once

#: What threads and children do: a layer whose rows are shared, one whose units are, a stream, a loss.
_WORK = """
import os, signal, sys, threading
import numba
import numpy as np
import lstm_numba as ln
from lstm_numba.engines.cpu.losses import softmax_cross_entropy

signal.alarm(280)  # whoever waits for ever is ended
sys.setswitchinterval(1e-6)
rng = np.random.default_rng(0)
xs = [rng.standard_normal(shape).astype(np.float32) for shape in ((30, 32, 28), (4, 2, 28), (3, 1, 5))]
sizes = (64, 300, 9)
sample = rng.standard_normal((64, 28)).astype(np.float32)
logits, targets = rng.standard_normal((300, 50)).astype(np.float32), np.arange(300) % 50

def layers():
    return [ln.LSTM(x.shape[2], size, seed=0) for x, size in zip(xs, sizes)]

def compute(layers, tapes=None):
    found = []
    for n, (layer, x) in enumerate(zip(layers, xs)):
        y, _, tape = layer.forward(x) if tapes is None else tapes[n]
        dx, _, grads = layer.backward(tape, np.ones_like(y))
        found += [y, dx, grads["weight_hh_l0"], layer(x)[0]]
    stream = ln.Stream(layers[1], 64)
    found += [stream.step(sample).copy(), softmax_cross_entropy(logits, targets)[1]]
    return found

def same(some, others):
    for a, b in zip(some, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
"""

_THREADS = """
found = [None] * 4

def work(n):
    for _ in range(2):
        found[n] = compute(layers())

threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
alone = compute(layers())
for one in found:
    same(one, alone)
print(numba.threading_layer())
"""

_FORK = """
import multiprocessing, time
from numba.core.compiler_lock import global_compiler_lock
from lstm_numba.engines.cpu import helpers
from lstm_numba.engines.cpu.records import ALONE
from lstm_numba.engines.cpu.threads import thread_count

mine = layers()
expected = compute(mine)
tapes = [layer.forward(x) for layer, x in zip(mine, xs)]
stream = ln.Stream(mine[1], 64)
teams = [ALONE if tape.call else tape.saved[0][0].team for _, _, tape in tapes]
ways = [(team.by_units, team.parts) for team in (*teams, stream._jobs[0][2])]
assert ways == [(0, 2), (1, 2), (0, 1), (1, 2)]

def in_child(_):
    same(compute(mine), expected)
    same(compute(mine, tapes), expected)
    stream.reset()
    same([stream.step(sample)], expected[-2:-1])
    while not helpers._helpers._threads:  # its own
        compute(mine)
    return thread_count()

def busy():
    while not done:
        compute(layers())

done = []
other = threading.Thread(target=busy, daemon=True)
other.start()  # in the middle of a loop when the fork comes
with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
    answers = pool.map_async(in_child, range(3), chunksize=1).get(60)
done.append(True)
other.join()
layer = numba.threading_layer()
assert set(answers) == {2}, answers

begun = threading.Event()

def compiling():
    with global_compiler_lock:
        begun.set()
        time.sleep(0.3)

other = threading.Thread(target=compiling)
other.start()
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    assert numba.njit(lambda: 3)() == 3
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
other.join()
print(layer)
"""


#: Numba's threading layers and the modules that bring them.
_LAYERS = {"workqueue": "workqueue", "omp": "omppool", "tbb": "tbbpool"}
EVERY_LAYER = pytest.mark.parametrize("layer", _LAYERS)


def _run(program: str, layer: str) -> None:
    loads = f"import numba.np.ufunc.{_LAYERS[layer]}"
    if subprocess.run([sys.executable, "-c", loads], capture_output=True).returncode:
        pytest.skip(f"the library of the threading layer {layer} is not installed")
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", _WORK + program], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    # Before it, Numba says at some forks that TBB's threads could not be joined.
    assert done.stdout.splitlines()[-1] == layer


@EVERY_LAYER
def test_threads_that_begin_at_the_same_time(layer: str) -> None:
    _run(_THREADS, layer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@EVERY_LAYER
def test_children_that_were_forked_after_parallel_work(layer: str) -> None:
    _run(_FORK, layer)


def _at_once(function: Callable[[], object], count: int = 8) -> list[object]:
    """What threads get that call at the same time."""
    barrier, found = threading.Barrier(count), []

    def call() -> None:
        barrier.wait()
        found.append(function())

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_threads_share_what_is_compiled_once() -> None:
    calls = []

    @once
    def make(name: str) -> object:
        calls.append(name)
        time.sleep(0.01)  # others come meanwhile
        return object()

    found = _at_once(lambda: make("a"))
    assert calls == ["a"]
    assert len(found) == 8
    assert all(one is found[0] for one in found)
    assert make("a") is found[0]
    assert make("b") is not found[0]


def test_threads_share_a_registered_cells_class() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(200):
            name = f"Shared_{number:016x}"
            found = _at_once(lambda name=name: cell_class(name), 3)  # type: ignore[misc]
            assert all(one is found[0] for one in found)
    finally:
        sys.setswitchinterval(interval)
