"""Runs the rows of a comparison: builds the implementations, checks their results, times the correct ones."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lstm_numba.benchmarks import correctness, memory
from lstm_numba.benchmarks.cases import DEFAULT_REPEATS, ON_CUDA, OURS, PEERS, Row, flop_count
from lstm_numba.benchmarks.conditions import Conditions, busy, without_switch
from lstm_numba.benchmarks.gemm_peak import measure_peak
from lstm_numba.benchmarks.implementations import Array, Implementation, Problem
from lstm_numba.benchmarks.registry import CLASSES, unavailable
from lstm_numba.timing import measure
from lstm_numba.training.callbacks import Reporter
from lstm_numba.training.compile_watch import CompileWatch


class Settings(NamedTuple):
    """How the rows are run.

    Attributes
    ----------
    implementations : sequence of str
        Names of the implementations; those that cannot run here are skipped.
    dtype : str
    repeats : int
    memory : bool
        Whether the host memory of training steps is measured too, for implementations on the CPU.
    conditions : Conditions
    """

    implementations: Sequence[str]
    dtype: str = "float32"
    repeats: int = DEFAULT_REPEATS
    memory: bool = False
    conditions: Conditions = Conditions()


class Bench:
    """Runs rows one after the other.

    Parameters
    ----------
    settings : Settings
    reporter : Reporter, optional
        Is told of compilation, and gets a message for each row.

    Attributes
    ----------
    peaks : dict of dict
        Number of threads -> what `measure_peak` returned.
    """

    def __init__(self, settings: Settings, reporter: Reporter | None = None) -> None:
        self._settings = settings
        self._reporter = Reporter() if reporter is None else reporter
        self._watch = CompileWatch(self._reporter)
        absent = {**unavailable(settings.implementations), **without_switch(settings.implementations)}
        self._names = [name for name in settings.implementations if name not in absent]
        self.peaks: dict[int, dict[str, Any]] = {}

    @property
    def compile_seconds(self) -> float:
        """Seconds spent compiling so far."""
        return self._watch.seconds

    def run(self, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """Yield the result of each row, as `lstm_numba.benchmarks.results` describes it."""
        with self._watch:
            for number, row in enumerate(rows, 1):
                text = f"{row.cell} {row.shape.name} {row.task}"
                self._reporter.on_message(f"row {number}/{len(rows)}: {text}")
                if row.threads not in self.peaks:
                    self.peaks[row.threads] = measure_peak(self._settings.dtype, row.threads)
                yield self._run_row(row)

    def _run_row(self, row: Row) -> dict[str, Any]:
        dtype = self._settings.dtype
        names = [n for n in self._names if not CLASSES[n].lacks(row.cell, row.task, dtype)]
        shape = row.shape
        if row.task == "streaming":
            shape = shape._replace(steps=correctness.STREAMED_STEPS)
        problem = Problem(row.cell, shape, row.task, dtype)
        checks = _Checks(row.threads, self._watch)
        checks.compare_with_reference(names, problem)
        correct = checks.compare_with_each_other(problem)
        self._watch.flush()
        repeats, conditions = self._settings.repeats, self._settings.conditions
        quiet = measure(correct, repeats, conditions.pause) if conditions.busy else {}
        with busy(conditions.busy):
            times = measure(correct, repeats, conditions.pause)
        entries = {
            name: {
                "seconds": t.seconds,
                "calls": t.calls,
                "median": t.median,
                "quartiles": list(t.quartiles),
                "compile_seconds": checks.compile_seconds[name],
                "first_seconds": checks.first_seconds[name],
                "differences": checks.differences[name],
                **({"quiet_median": quiet[name].median} if quiet else {}),
            }
            for name, t in times.items()
        }
        for name, implementation in correct.items():
            if kernels := implementation.kernels():
                entries[name]["kernels"] = kernels
        if self._settings.memory and row.task == "training":
            for name, entry in entries.items():
                if name not in ON_CUDA:
                    entry["memory_mib"] = memory.growth_in_child(name, row, dtype)
        flops = flop_count(problem.blocks, row.shape, row.task)
        medians = {name: t.median for name, t in times.items()}
        return {
            "cell": row.cell,
            "shape": row.shape._asdict(),
            "task": row.task,
            "dtype": dtype,
            "threads": row.threads,
            "flops": flops,
            "contestants": entries,
            "refused": checks.refused,
            **comparison(medians, flops, self.peaks[row.threads]["best"]),
        }


def comparison(medians: Mapping[str, float], flops: int, peak_gflops: float) -> dict[str, Any]:
    """This library beside the others in a row: ratios of times, GFLOP/s, share of the GEMM peak.

    Parameters
    ----------
    medians : mapping of str to float
        Seconds by implementation.
    flops : int
    peak_gflops : float
        The CPU's GEMM peak.

    Returns
    -------
    dict
        ``ours``, ``ratios`` (peers' times over ours), ``gflops`` and ``share`` of the implementations on the
        CPU; under ``cuda`` the first three of those on the GPU, or None if ours is not among them.
    """
    ours = next((name for name in OURS if name in medians and name not in ON_CUDA), None)
    found: dict[str, Any] = {"ours": ours, "ratios": {}, "gflops": None, "share": None, "cuda": None}
    if ours is not None:
        found.update(_against(medians, ours, [peer for peer in PEERS if peer not in ON_CUDA], flops))
        found["share"] = found["gflops"] / peak_gflops
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


class _Checks:
    """Builds the implementations of a row and refuses those whose results are wrong."""

    def __init__(self, threads: int, watch: CompileWatch) -> None:
        self._threads = threads
        self._watch = watch
        self._passed: list[str] = []
        self.refused: dict[str, str] = {}
        self.differences: dict[str, dict[str, Any]] = {}
        self.compile_seconds: dict[str, float] = {}
        self.first_seconds: dict[str, float] = {}

    def compare_with_reference(self, names: Sequence[str], problem: Problem) -> None:
        """Check all results on a shortened problem."""
        inputs = 1 + len(problem.state) + len(problem.params)
        runs = 1 + (2 * inputs if problem.task == "training" else 0)
        shape = correctness.shortened(problem.shape, problem.blocks, runs)
        short = Problem(problem.cell, shape, problem.task, problem.dtype)
        reference = correctness.Reference(short)
        for name in names:
            self.differences[name] = {}
            computed = self._compute(name, short)
            if computed and self._accept(name, "reference", reference.differences(computed[1])):
                self._passed.append(name)

    def compare_with_each_other(self, problem: Problem) -> dict[str, Implementation]:
        """Check all results on the whole problem; return the correct implementations, ready to be timed."""
        built: dict[str, Implementation] = {}
        results: dict[str, dict[str, Array]] = {}
        for name in self._passed:
            computed = self._compute(name, problem)
            if computed:
                built[name], results[name] = computed
        families = {name: CLASSES[name].family for name in built}
        for name in list(built):
            found = correctness.with_others(name, results, families, problem.dtype)
            if found and not self._accept(name, "others", found):
                del built[name]
        return built

    def _compute(self, name: str, problem: Problem) -> tuple[Implementation, dict[str, Array]] | None:
        """Build an implementation and compute; after an error only this implementation is refused."""
        before, began = self._watch.seconds, time.perf_counter()
        try:
            implementation = CLASSES[name](problem, self._threads)
            return implementation, correctness.compute(implementation, problem)
        except Exception as error:
            self.refused[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return None
        finally:
            spent = self._watch.seconds - before
            self.compile_seconds[name] = self.compile_seconds.get(name, 0.0) + spent
            spent = time.perf_counter() - began
            self.first_seconds[name] = self.first_seconds.get(name, 0.0) + spent

    def _accept(self, name: str, kind: str, found: Sequence[correctness.Difference]) -> bool:
        """Record the differences and return whether all are within their tolerances."""
        self.differences[name][kind] = {
            d.array: d.relative if math.isfinite(d.relative) else None for d in found
        }
        worst = correctness.worst(found)
        if not worst.acceptable:
            self.refused[name] = str(worst)
        return worst.acceptable
