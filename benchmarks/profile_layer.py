"""Time of a layer's training step by stage: packing, forward, backward, weight gradients, Python.

    python benchmarks/profile_layer.py --cell lstm --cell gru

Stages with matrix products are also given as a share of the GEMM peak on the same threads, measured in the
same run. What is missing to 100 % are the gate equations, register tiles that the batch does not fill,
loading the weights from memory, and waiting threads.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.benchmarks.cases import SHAPES, Shape, flop_count
from lstm_numba.benchmarks.gemm_peak import measure_peak
from lstm_numba.benchmarks.implementations import Problem
from lstm_numba.benchmarks.results import machine
from lstm_numba.engines.cpu import task as engine_task
from lstm_numba.engines.cpu.thread_team import Phases, run_task
from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.nn.layers import make_layer

STAGES = ("packing", "forward", "backward", "weight gradients")


class Clock:
    """Adds up the time spent in each stage, by replacing the engine's `run_task`."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        engine_task.run_task = self._run

    def _run(self, task: int, job: int, phases: Phases, together: bool = False, stale: int = 0) -> None:
        """`lstm_numba.engines.cpu.thread_team.run_task` of a training step, which packs without a check."""
        assert not phases.check
        assert not stale
        stages = {
            "packing": Phases(prepare=phases.prepare),
            "backward" if phases.after else "forward": phases._replace(prepare=0, after=0),
            "weight gradients": Phases(after=phases.after),
        }
        for stage, part in stages.items():
            if any(part):
                self._timed(stage, run_task, task, job, part, together and part.work > 0)

    def _timed(self, stage: str, function: Callable[..., Any], *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args)
        finally:
            self.seconds[stage] += time.perf_counter() - began


def measure(clock: Clock, call: Callable[[], Any], seconds: float = 1.5) -> tuple[float, dict[str, float]]:
    """Median seconds of a call, and of each stage in it."""
    for _ in range(5):
        call()
    totals: list[float] = []
    stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(totals) < 9:
        clock.seconds = dict.fromkeys(STAGES, 0.0)
        began = time.perf_counter()
        call()
        totals.append(time.perf_counter() - began)
        for stage, spent in clock.seconds.items():
            stages[stage].append(spent)
    return float(np.median(totals)), {stage: float(np.median(spent)) for stage, spent in stages.items()}


def breakdown(clock: Clock, cell: str, shape: Shape, peak: float) -> dict[str, Any]:
    """Measure and print one row: training at a shape."""
    problem = Problem(cell, shape, "training", "float32")
    layer = make_layer(cell, shape.inputs, shape.hidden)
    layer.load_state_dict(problem.params)
    states = tuple(problem.state.values())
    state = states if len(states) > 1 else states[0]

    def train() -> None:
        _, _, saved = layer.forward(problem.x, state)
        layer.backward(saved, problem.dy)

    total, stages = measure(clock, train)
    flops = flop_count(problem.blocks, shape, "training") / 3  # forward, dx and dh, dW: each a third
    python = total - sum(stages.values())
    rate = 3 * flops / total
    share = f"{rate / 1e9:.0f} GFLOP/s, {rate / peak:.0%} of GEMM throughput"
    print(f"\n{cell} {shape.name}: {total * 1e3:.3f} ms, {share}")
    for stage, spent in {**stages, "Python": python}.items():
        if spent > 0:
            products = stage not in ("packing", "Python")
            reached = f"{flops / spent / peak:8.0%} of GEMM throughput" if products else ""
            print(f"  {stage:18}{spent * 1e3:9.3f} ms  {spent / total:5.0%} of the time{reached}")
    return {"cell": cell, "shape": shape._asdict(), "seconds": total, "stages": stages, "python": python}


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", action="append", help="may be repeated  [default: lstm, gru]")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    threads = thread_count()
    peak = measure_peak("float32", threads)
    print(f"GEMM peak on {threads} threads: {peak['best']:.0f} GFLOP/s")
    clock, rows = Clock(), []
    for cell in options.cell or ("lstm", "gru"):
        for shape in SHAPES.values():
            if shape.steps > 1:
                rows.append(breakdown(clock, cell, shape, peak["best"] * 1e9))
    if options.json:
        found = {"command": shlex.join(["python", *sys.argv]), "product": peak, "rows": rows}
        options.json.write_text(json.dumps({**found, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
