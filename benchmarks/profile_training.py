"""Time of a step of `lstm-numba train` by stage: layers, output layer, loss, dropout, update.

    python benchmarks/profile_training.py [--task mnist --task small --task medium] [--json out.json]

Steps are those of the command line's defaults (``mnist``) and of the presets for Penn Treebank (the others),
on random numbers. A stage's time excludes that of the stages within it; the rest is Python between them.
Stages with matrix products are also given as a share of the GEMM peak, and the whole step is compared with
the time that the products alone would take at the peak.
"""

from __future__ import annotations

import argparse
import functools
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.benchmarks.cases import Blocks, Shape, flop_count
from lstm_numba.benchmarks.gemm_peak import measure_peak
from lstm_numba.benchmarks.results import machine
from lstm_numba.engines.cpu.engine import CpuEngine
from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.models.base import SequenceBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.optim.optimizers import Optimizer, make_optimizer
from lstm_numba.training.config import make_config
from lstm_numba.training.warmup import _Noise

LAYERS, OUTPUT = "recurrent layers", "output layer"
#: Methods and their stages.
STAGES: list[tuple[Any, str, str]] = [
    (Recurrent, "forward", LAYERS),
    (Recurrent, "backward", LAYERS),
    (CpuEngine, "matmul", OUTPUT),
    (CpuEngine, "column_sums", OUTPUT),
    (CpuEngine, "cross_entropy", "softmax and loss"),
    (CpuEngine, "dropout", "dropout"),
    (CpuEngine, "multiply", "dropout"),
    (CpuEngine, "take_rows", "embedding"),
    (CpuEngine, "row_gradient", "embedding"),
    (CpuEngine, "clip_by_norm", "norm of the gradient"),
    (Optimizer, "step", "update"),
]


class Clock:
    """Adds up the time spent in each stage, without stages within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._within = [0.0]
        for owner, name, stage in STAGES:
            setattr(owner, name, self._timed(stage, getattr(owner, name)))

    def _timed(self, stage: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def run(*args: Any, **options: Any) -> Any:
            self._within.append(0.0)
            began = time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                spent = time.perf_counter() - began
                own = spent - self._within.pop()
                self._within[-1] += spent
                self.seconds[stage] = self.seconds.get(stage, 0.0) + own

        return run


def _model(name: str) -> tuple[dict[str, Any], Any, Any, dict[str, int]]:
    """Configuration, model, a batch, and the floating-point operations of a step's products by stage."""
    if name == "mnist":
        config = make_config("mnist")
        rng, hidden, batch = np.random.default_rng(0), config["hidden"], config["batch_size"]
        model = SequenceClassifier(28, hidden, 10, cell=config["cell"], layers=config["layers"], seed=0)
        x = rng.random((28, batch, 28), dtype=np.float32)
        flops = flop_count(Blocks(4, 4), Shape("", batch, 28, 28, hidden), "training")
        flops -= 28 * batch * 4 * hidden * 28 * 2  # the images have no gradient
        found = {LAYERS: flops, OUTPUT: batch * hidden * 10 * 6}
        return config, model, SequenceBatch(x, rng.integers(10, size=batch)), found
    config = make_config("ptb", preset=name)
    task, hidden = _Noise(config), config["hidden"]
    batch, steps, words = config["batch_size"], config["bptt"], len(task.corpus.vocabulary)
    layers = config["layers"] * flop_count(Blocks(4, 4), Shape("", batch, steps, hidden, hidden), "training")
    found = {LAYERS: layers, OUTPUT: batch * steps * hidden * words * 6}
    return config, task.model, task.batch(0, 0), found


def breakdown(clock: Clock, name: str, seconds: float, peak: float) -> dict[str, Any]:
    """Measure and print the medians of a step and of its stages; `peak` is the GEMM peak in FLOP/s."""
    config, model, batch, flops = _model(name)
    options = {key: config[key] for key in ("momentum", "nesterov", "weight_decay")}
    optimizer = make_optimizer(config["optimizer"], model.params, config["lr"], **options)
    steps: list[float] = []
    stages: list[dict[str, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(steps) < 12:
        clock.seconds = {}
        began = time.perf_counter()
        result = model.loss_and_gradients(batch)
        model.engine.clip_by_norm(result.grads, result.totals, config["clip"])
        optimizer.step(result.grads, totals=result.totals)
        steps.append(time.perf_counter() - began)
        stages.append(clock.seconds)
    steps, stages = steps[3:], stages[3:]  # the first ones compile
    total = float(np.median(steps))
    found = {stage: float(np.median([one[stage] for one in stages])) for stage in stages[0]}
    found["Python"] = total - sum(found.values())
    products = sum(flops.values()) / peak
    print(f"\n{name}: {total * 1e3:.2f} ms per step; the products at the GEMM peak {products * 1e3:.2f} ms")
    for stage, spent in sorted(found.items(), key=lambda entry: -entry[1]):
        reached = f"{flops[stage] / spent / peak:6.0%} of the GEMM peak" if stage in flops else ""
        print(f"  {stage:22}{spent * 1e3:9.2f} ms {spent / total:5.0%}{reached}")
    return {"task": name, "seconds": total, "stages": found, "flops": flops}


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("mnist", "small", "medium", "large")
    parser.add_argument(
        "--task", action="append", choices=names, help="may be repeated  [default: mnist, small, medium]"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds per task  [default: 5]")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    peak = measure_peak("float32", thread_count())
    print(f"GEMM peak on {thread_count()} threads: {peak['best']:.0f} GFLOP/s")
    clock = Clock()
    rows = [breakdown(clock, name, options.seconds, peak["best"] * 1e9) for name in options.task or names[:3]]
    if options.json:
        found = {"command": shlex.join(["python", *sys.argv]), "product": peak, "rows": rows}
        options.json.write_text(json.dumps({**found, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
