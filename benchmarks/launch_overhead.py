"""Host overhead of training steps and inference on a GPU: time, launches, copies, allocations.

    python benchmarks/launch_overhead.py --json out.json
    python benchmarks/launch_overhead.py --source ANOTHER_CHECKOUT --json before.json

Without a GPU, or with --stand-in, a driver is used that computes nothing (see `stand_in`). Steps are those of
`lstm_numba.training.trainer`, at the sizes of MNIST and PTB, on random data. The time is thread time of the
host, without the preparation of the batch; only the stand-in driver counts launches. --source imports the
library from another checkout, so that the same program measures two versions.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Task -> configuration fields that differ from the published settings.
TASKS: dict[str, dict[str, Any]] = {
    "mnist": {"hidden": 128, "batch_size": 128, "optimizer": "adam", "validation": 0},
    "ptb-small": {},
    "ptb-medium": {},
    "ptb-large": {},
}
_WORDS = 10_000
_WARM_STEPS = 5


def make_task(name: str, steps: int) -> Any:
    """A task with enough random data for the steps."""
    import numpy as np

    from lstm_numba.data.corpus import Corpus
    from lstm_numba.data.images import Images
    from lstm_numba.training.classification import ImageTask
    from lstm_numba.training.config import make_config
    from lstm_numba.training.language_modeling import TextTask

    rng = np.random.default_rng(0)

    class RandomImages(ImageTask):
        def _read(self, split: str) -> Images:
            count = self.config["batch_size"] * steps
            images = rng.integers(0, 256, (count, 28, 28), np.uint8)
            return Images("mnist", split, images, rng.integers(0, 10, count, np.uint8))

    class RandomText(TextTask):
        def _read(self) -> Corpus:
            count = self.config["batch_size"] * (self.config["bptt"] * steps + 1)
            splits = {s: rng.integers(0, _WORDS, count, np.int32) for s in ("train", "valid", "test")}
            return Corpus("ptb", "word", tuple(map(str, range(_WORDS))), splits)

    dataset, _, preset = name.partition("-")
    config = make_config(dataset, {**TASKS[name], "dtype": "float32"}, preset=preset or None)
    task = (RandomText if preset else RandomImages)(config, device="cuda")
    task.load_data()
    return task


@contextlib.contextmanager
def stepping(task: Any) -> Iterator[tuple[Callable[[], None], Callable[[], float]]]:
    """A function that takes a training step, and one that returns the seconds spent on making batches."""
    from lstm_numba.training.logs import Logs
    from lstm_numba.training.run import Run
    from lstm_numba.training.trainer import Trainer

    make_batch, spent = task.batch, [0.0]

    def timed_batch(epoch: int, step: int) -> Any:
        began = time.thread_time()
        batch = make_batch(epoch, step)
        spent[0] += time.thread_time() - began
        return batch

    task.batch = timed_batch

    class Lenient(Trainer):
        def _diverge(self, *args: Any) -> None:
            """The stand-in driver computes nothing, so that a loss may be anything."""

    with tempfile.TemporaryDirectory() as folder:
        trainer = Lenient(task, Run.create(Path(folder) / "run", task.config))

        def step() -> None:
            trainer._take_step(task.config["lr"])
            while len(trainer._under_way) > task.model.engine.in_flight:
                trainer._settle()

        with Logs(trainer.run, 0) as trainer._log:
            yield step, lambda: spent[0]


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, minimum and quartiles in µs."""
    first, middle, third = statistics.quantiles(seconds, n=4)
    numbers = {"median": middle, "least": min(seconds), "first quartile": first, "third quartile": third}
    return {name: round(value * 1e6, 1) for name, value in numbers.items()}


def training_step(name: str, steps: int) -> dict[str, Any]:
    """Host time of training steps, and the driver calls of one step."""
    with stepping(make_task(name, steps + _WARM_STEPS + 1)) as (step, batch_seconds):
        began = time.perf_counter()
        for _ in range(_WARM_STEPS):
            step()
        warm, host, wall, batches = time.perf_counter() - began, [], [], []
        for _ in range(steps):
            before, thread, clock = batch_seconds(), time.thread_time(), time.perf_counter()
            step()
            batches.append(batch_seconds() - before)
            host.append(time.thread_time() - thread - batches[-1])
            wall.append(time.perf_counter() - clock)
        calls = counted(step)
    return {
        "host_us": spread(host),
        "batch_us": spread(batches),
        "wall_us": spread(wall),
        "first_steps_s": round(warm, 2),
        **calls,
    }


def counted(function: Callable[[], Any]) -> dict[str, Any]:
    """The driver calls in one call of `function`, counted by the stand-in driver; empty on a device."""
    from lstm_numba.benchmarks import stand_in

    if not stand_in.active():
        return {}
    stand_in.reset()
    function()
    return {"driver": stand_in.counts()}


def timed(function: Callable[[], Any], seconds: float = 0.3) -> dict[str, float]:
    """Host time of a call, over rounds with a wait for the device in between."""
    from lstm_numba.engines.cuda.memory import synchronize

    for _ in range(3):
        function()
    synchronize()
    began = time.perf_counter()
    function()
    calls = max(1, min(200, int(seconds / 20 / (time.perf_counter() - began + 1e-7))))
    rounds = []
    for _ in range(20):
        synchronize()
        began = time.thread_time()
        for _ in range(calls):
            function()
        rounds.append((time.thread_time() - began) / calls)
    return spread(rounds)


def inference(name: str) -> dict[str, Any]:
    """Host time of an LSTM's forward pass on device arrays, and its driver calls."""
    import numpy as np

    import lstm_numba as ln
    from lstm_numba.benchmarks.gpu.shapes import SIX
    from lstm_numba.engines.cuda.memory import upload

    shape = SIX[name]
    layer = ln.LSTM(shape.inputs, shape.hidden, device="cuda", seed=0)
    x = upload(np.zeros((shape.steps, shape.batch, shape.inputs), np.float32))
    return {"host_us": timed(lambda: layer(x)), **counted(lambda: layer(x))}


def operations() -> dict[str, Any]:
    """Host time of single operations."""
    import numpy as np

    from lstm_numba.engines.cuda import gemm, memory
    from lstm_numba.engines.cuda.driver import cuda
    from lstm_numba.engines.cuda.launch import launch_over

    @cuda.jit
    def nothing(a: Any, b: Any, c: Any) -> None:
        pass

    block = np.zeros(4096, np.float32)
    vectors = [memory.empty((4096,), np.float32) for _ in range(3)]
    a, b, c = (memory.empty((64, 64), np.float32) for _ in range(3))
    calls: dict[str, Callable[[], Any]] = {
        "empty": lambda: memory.empty((64, 64), np.float32),
        "launch of three arrays": lambda: launch_over(nothing, 4096, *vectors),
        "slice": lambda: a[16:32],
        "reshape": lambda: a.reshape(-1, 16),
        "upload of 16 KiB": lambda: memory.upload(block),
        "matmul": lambda: gemm.matmul(a, b, out=c),
    }
    return {name: {"host_us": timed(call)} for name, call in calls.items()}


def rows(args: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """All measurements: kind, name and result."""
    from lstm_numba.benchmarks.gpu.shapes import SIX

    for name in args.task or TASKS:
        yield "training step", name, training_step(name, args.steps)
    if not args.task:
        for name in SIX:
            yield "inference", name, inference(name)
        for name, found in operations().items():
            yield "operation", name, found


def line(kind: str, name: str, found: dict[str, Any]) -> str:
    """A result as a line of text."""
    host, driver = found["host_us"], found.get("driver")
    text = f"{kind:13} {name:22} {host['median']:8.1f} us (minimum {host['least']:.1f})"
    if driver:
        copies = driver["to_device"] + driver["to_host"] + driver["on_device"]
        text += (
            f"  {driver['launches']} launches, {driver['cooperative']} of them cooperative, "
            f"{driver['graph_launches']} graphs of {driver['graph_nodes']} nodes, {copies} copies, "
            f"{driver['fills']} fills, {driver['allocations']} allocations"
        )
    return text


def main() -> None:
    """Read the arguments, measure, print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--task",
        action="append",
        choices=list(TASKS),
        help="measure only training steps of this task; may be repeated",
    )
    parser.add_argument("--steps", type=int, default=100, help="training steps  [default: 100]")
    parser.add_argument(
        "--stand-in", action="store_true", help="use the stand-in driver even if there is a GPU"
    )
    parser.add_argument(
        "--products",
        choices=["cublas", "numba"],
        help="what computes products  [default: cuBLAS where it is installed]",
    )
    parser.add_argument("--source", help="checkout to import the library from  [default: this one]")
    parser.add_argument("--kernels", action="store_true", help="print the number of launches of each kernel")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    if args.source:  # of its package `lstm_numba`; benchmarks/, cli/ and data/ stay those of this checkout
        sys.path.insert(0, os.path.abspath(args.source))
    from lstm_numba.benchmarks import stand_in
    from lstm_numba.benchmarks.results import commit, machine
    from lstm_numba.engines import find_cuda

    if args.stand_in or not find_cuda().available:
        stand_in.enter()
    if stand_in.active():
        stand_in.still()
    from lstm_numba.engines.cuda import gemm

    gemm.use(args.products)
    result: dict[str, Any] = {
        "stand_in": stand_in.active(),
        "commit": commit(Path(args.source or __file__)),
        "graph": os.environ.get("LSTM_NUMBA_CUDA_GRAPH", "1"),
        "products": gemm.backend(),
        "machine": {**machine(), "commit": None},  # that of this program, not of the library
        "rows": [],
    }
    for kind, name, found in rows(args):
        print(line(kind, name, found), flush=True)
        if args.kernels and "driver" in found:
            for kernel, count in found["driver"]["kernels"].items():
                print(f"{count:20} {kernel}")
        result["rows"].append({"kind": kind, "name": name, **found})
        if args.json:  # complete after every row
            args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
