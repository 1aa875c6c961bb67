"""Goes through the rows: builds the contestants, has them checked, times those who are right."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lstm_numba.benchmarks import correctness, memory
from lstm_numba.benchmarks.cases import ON_CUDA, OURS, PEERS, Row, flop_count
from lstm_numba.benchmarks.gemm_peak import big_product
from lstm_numba.benchmarks.implementations import (
    Array,
    Contestant,
    CpuParallel,
    CpuSerial,
    Cuda,
    CudaTransfers,
    Problem,
)
from lstm_numba.benchmarks.peers import OnnxRuntime, PyTorch, PyTorchCuda
from lstm_numba.benchmarks.timing import measure
from lstm_numba.training.callbacks import Reporter
from lstm_numba.training.compile_watch import CompileWatch

#: Everybody by name. Another contestant is another class here, and its name in `plan`.
CLASSES: dict[str, type[Contestant]] = {
    cls.name: cls for cls in (CpuSerial, CpuParallel, Cuda, CudaTransfers, PyTorch, OnnxRuntime, PyTorchCuda)
}


class Settings(NamedTuple):
    """How the rows are run.

    Attributes
    ----------
    contestants : sequence of str
        Names of those who take part where they can.
    dtype : str
    turns : int
    memory : bool
        Whether the memory of training steps is measured too; the host's, of those who compute there.
    """

    contestants: Sequence[str]
    dtype: str = "float32"
    turns: int = 11
    memory: bool = False


def unavailable(names: Sequence[str]) -> dict[str, str]:
    """Those who cannot take part on this computer, and why."""
    reasons = {name: CLASSES[name].missing() for name in names}
    return {name: reason for name, reason in reasons.items() if reason}


class Bench:
    """Runs rows one after the other.

    Parameters
    ----------
    settings : Settings
    reporter : Reporter, optional
        Hears of compilation, and what is being done as messages.

    Attributes
    ----------
    yardsticks : dict of dict
        Number of threads -> what `big_product` measured.
    """

    def __init__(self, settings: Settings, reporter: Reporter | None = None) -> None:
        self._settings = settings
        self._reporter = Reporter() if reporter is None else reporter
        self._watch = CompileWatch(self._reporter)
        absent = unavailable(settings.contestants)
        self._names = [name for name in settings.contestants if name not in absent]
        self.yardsticks: dict[int, dict[str, Any]] = {}

    @property
    def compile_seconds(self) -> float:
        """Seconds spent compiling so far."""
        return self._watch.seconds

    def run(self, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """Yield what came out of each row, as `lstm_numba.benchmarks.results` describes it."""
        with self._watch:
            for number, row in enumerate(rows, 1):
                place = f"{row.cell} {row.shape.name} {row.task}"
                self._reporter.on_message(f"row {number}/{len(rows)}: {place}")
                if row.threads not in self.yardsticks:
                    self.yardsticks[row.threads] = big_product(self._settings.dtype, row.threads)
                yield self._run_row(row)

    def _run_row(self, row: Row) -> dict[str, Any]:
        dtype = self._settings.dtype
        names = [n for n in self._names if not CLASSES[n].lacks(row.cell, row.task, dtype)]
        shape = row.shape
        if row.task == "streaming":
            shape = shape._replace(steps=correctness.STREAMED_STEPS)
        whole = Problem(row.cell, shape, row.task, dtype)
        gate = _Gate(row.threads, self._watch)
        gate.compare_with_reference(names, whole)
        built = gate.compare_with_each_other(whole)
        self._watch.flush()
        times = measure(built, self._settings.turns)
        entries = {
            name: {
                "seconds": t.seconds,
                "calls": t.calls,
                "median": t.median,
                "quartiles": list(t.quartiles),
                "compile_seconds": gate.compile_seconds[name],
                "first_seconds": gate.first_seconds[name],
                "differences": gate.differences[name],
            }
            for name, t in times.items()
        }
        if self._settings.memory and row.task == "training":
            for name, entry in entries.items():
                if name not in ON_CUDA:
                    entry["memory_mib"] = memory.growth_in_child(name, row, dtype)
        flops = flop_count(whole.gates, row.shape, row.task)
        return {
            "cell": row.cell,
            "shape": row.shape._asdict(),
            "task": row.task,
            "dtype": dtype,
            "threads": row.threads,
            "flops": flops,
            "contestants": entries,
            "refused": gate.refused,
            **comparison(
                {name: t.median for name, t in times.items()}, flops, self.yardsticks[row.threads]["best"]
            ),
        }


def comparison(medians: Mapping[str, float], flops: int, best_gflops: float) -> dict[str, Any]:
    """What a row says about us: peers' times over ours, GFLOP/s, share of the big product.

    Parameters
    ----------
    medians : mapping of str to float
        Seconds by contestant.
    flops : int
    best_gflops : float
        Of the big product, on the processor.

    Returns
    -------
    dict
        ``ours``, ``ratios``, ``gflops``, ``share`` of those who compute on the processor; ``cuda`` with
        ``ours``, ``ratios`` and ``gflops`` of those on the graphics processor, None without us among them.
    """
    host = next((name for name in OURS if name in medians and name not in ON_CUDA), None)
    found: dict[str, Any] = {"ours": host, "ratios": {}, "gflops": None, "share": None, "cuda": None}
    if host is not None:
        found.update(_against(medians, host, [peer for peer in PEERS if peer not in ON_CUDA], flops))
        found["share"] = found["gflops"] / best_gflops
    if "cuda" in medians:
        found["cuda"] = _against(medians, "cuda", [peer for peer in PEERS if peer in ON_CUDA], flops)
    return found


def _against(medians: Mapping[str, float], ours: str, peers: Sequence[str], flops: int) -> dict[str, Any]:
    seconds = medians[ours]
    return {
        "ours": ours,
        "ratios": {peer: medians[peer] / seconds for peer in peers if peer in medians},
        "gflops": flops / seconds / 1e9,
    }


class _Gate:
    """Builds the contestants of a row and lets through those whose results are right."""

    def __init__(self, threads: int, watch: CompileWatch) -> None:
        self._threads = threads
        self._watch = watch
        self._passed: list[str] = []
        self.refused: dict[str, str] = {}
        self.differences: dict[str, dict[str, Any]] = {}
        self.compile_seconds: dict[str, float] = {}
        self.first_seconds: dict[str, float] = {}

    def compare_with_reference(self, names: Sequence[str], whole: Problem) -> None:
        """Everybody's results on a shortened problem."""
        leaves = 1 + len(whole.state) + len(whole.params)
        runs = 1 + (2 * leaves if whole.task == "training" else 0)
        problem = Problem(
            whole.cell, correctness.shortened(whole.shape, whole.gates, runs), whole.task, whole.dtype
        )
        truth = correctness.Reference(problem)
        for name in names:
            self.differences[name] = {}
            computed = self._compute(name, problem)
            if computed and self._judge(name, "reference", truth.differences(computed[1])):
                self._passed.append(name)

    def compare_with_each_other(self, whole: Problem) -> dict[str, Contestant]:
        """Everybody's results on the whole problem; return who passed, ready to be timed."""
        built: dict[str, Contestant] = {}
        results: dict[str, dict[str, Array]] = {}
        for name in self._passed:
            computed = self._compute(name, whole)
            if computed:
                built[name], results[name] = computed
        families = {name: CLASSES[name].family for name in built}
        for name in list(built):
            found = correctness.with_others(name, results, families, whole.dtype)
            if found and not self._judge(name, "others", found):
                del built[name]
        return built

    def _compute(self, name: str, problem: Problem) -> tuple[Contestant, dict[str, Array]] | None:
        """Build a contestant and compute; an error refuses it and ends nothing else."""
        before, began = self._watch.seconds, time.perf_counter()
        try:
            contestant = CLASSES[name](problem, self._threads)
            return contestant, correctness.compute(contestant, problem)
        except Exception as error:
            self.refused[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return None
        finally:
            spent = self._watch.seconds - before
            self.compile_seconds[name] = self.compile_seconds.get(name, 0.0) + spent
            spent = time.perf_counter() - began
            self.first_seconds[name] = self.first_seconds.get(name, 0.0) + spent

    def _judge(self, name: str, kind: str, found: Sequence[correctness.Difference]) -> bool:
        """Note the differences and tell whether all are acceptable."""
        self.differences[name][kind] = {
            d.array: d.relative if math.isfinite(d.relative) else None for d in found
        }
        worst = correctness.worst(found)
        if not worst.acceptable:
            self.refused[name] = str(worst)
        return worst.acceptable
