"""What each process of `benchmarks/ranks.py` runs: steps of a training, sums of many sizes. Prints JSON.

mpiexec -n 2 python -m lstm_numba.benchmarks.rank_worker speed --data-dir PTB --threads 1
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from lstm_numba.engines.cpu.threads import set_thread_count, thread_count
from lstm_numba.optim.optimizers import make_optimizer
from lstm_numba.ranks.base import Ranks
from lstm_numba.ranks.launch import connect
from lstm_numba.training.config import make_config
from lstm_numba.training.presets import PRESETS
from lstm_numba.training.shared_step import SharedStep
from lstm_numba.training.tasks import build_task
from lstm_numba.training.team import Team

#: Steps before anything is timed: kernels are loaded, memory is touched.
WARM = 5
#: Bytes of the messages whose sums are timed.
MESSAGES = tuple(2**n for n in range(3, 24))


class Steps:
    """Steps of a training on PTB, as the trainer takes them, without a run folder.

    Parameters
    ----------
    ranks : Ranks
    data_dir : str
    preset : str
    share : int
        Have one of so many rows of the preset's batch.
    """

    def __init__(self, ranks: Ranks, data_dir: str, preset: str, share: int = 1) -> None:
        rows = PRESETS[preset]["batch_size"] // share
        fields = {"batch_size": rows}
        config = make_config("ptb", fields, data={"data_dir": data_dir}, preset=preset)
        self.task = build_task(config, ranks=ranks)
        model = self.task.model
        self.rate: float = config["lr"]
        optimizer = make_optimizer(config["optimizer"], model.params, self.rate)
        self.step = Team(ranks).training_step(model, optimizer, config["clip_value"], config["clip"], True)
        self.state: Any = None
        self.taken = 0
        self.loss = 0.0

    def __call__(self) -> None:
        """Take the next step."""
        number = self.taken % self.task.steps_per_epoch
        if isinstance(self.step, SharedStep):
            result, _ = self.step.take([self.task.share(0, number)], self.state, self.rate, ())
        else:
            result = self.step(self.task.batch(0, number), self.state, self.rate)
        self.state, self.loss = result.state, result.loss_sum / result.count
        self.taken += 1


def speed(ranks: Ranks, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each step, and the loss of the last one."""
    steps = Steps(ranks, args.data_dir, args.preset, args.share)
    for _ in range(WARM):
        steps()
    seconds = []
    for _ in range(args.steps):
        began = time.perf_counter()
        steps()
        seconds.append(time.perf_counter() - began)
    tokens = steps.task.config["batch_size"] * steps.task.config["bptt"]
    return {"seconds": seconds, "tokens": tokens, "loss": steps.loss}


def trace(ranks: Ranks, args: argparse.Namespace) -> dict[str, Any]:
    """What happened in some steps on each rank, in seconds since the step began."""
    steps = Steps(ranks, args.data_dir, args.preset)
    for _ in range(WARM):
        steps()
    assert isinstance(steps.step, SharedStep)
    taken = []
    for _ in range(args.steps):
        events = steps.step.sum.events = []
        ranks.once(lambda: None)
        began = time.perf_counter()
        steps()
        ended = time.perf_counter() - began
        own = [one._replace(begin=one.begin - began, end=one.end - began)._asdict() for one in events]
        taken.append({"seconds": ended, "events": own})
    texts = ranks.gather(_padded(json.dumps(taken)))
    rows = steps.task.config["batch_size"]
    return {"rows": rows, "ranks": [json.loads(bytes(text).rstrip(b"\0")) for text in texts]}


def messages(ranks: Ranks, args: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a sum over the ranks by its bytes."""
    found = {}
    for size in MESSAGES:
        array = np.ones(size // 8)
        seconds = []
        for _ in range(max(10, min(200, args.steps))):
            ranks.once(lambda: None)
            began = time.perf_counter()
            ranks.sum(array)
            seconds.append(time.perf_counter() - began)
        found[size] = float(np.median(seconds))
    return {"seconds": found}


def _padded(text: str, size: int = 1 << 20) -> np.ndarray[Any, Any]:
    content = text.encode()
    if len(content) > size:
        raise SystemExit("too many steps for a trace")
    found = np.zeros(size, np.uint8)
    found[: len(content)] = np.frombuffer(content, np.uint8)
    return found


def main() -> None:
    """Measure, and print the result of all ranks as one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "trace", "messages"))
    parser.add_argument("--data-dir", help="folder with PTB's files")
    parser.add_argument("--preset", default="small", help="  [default: %(default)s]")
    parser.add_argument("--threads", type=int, help="of each rank")
    parser.add_argument("--share", type=int, default=1, help="have 1/N of the rows  [default: %(default)s]")
    parser.add_argument("--steps", type=int, default=30, help="  [default: %(default)s]")
    args = parser.parse_args()
    ranks = connect()
    if args.threads:
        set_thread_count(args.threads)
    found = {"speed": speed, "trace": trace, "messages": messages}[args.what](ranks, args)
    if ranks.first:
        print(json.dumps({**found, "size": ranks.size, "threads": thread_count()}), flush=True)


if __name__ == "__main__":
    main()
