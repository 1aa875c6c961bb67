"""`lstm-numba bench` on a GPU: which implementations, what is checked, what is timed; never any speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import invoke
from tolerances import assert_close

from lstm_numba import timing
from lstm_numba.benchmarks import (
    cases,
    correctness,
    gemm_peak,
    implementations,
    peers,
    registry,
    runner,
)
from lstm_numba.benchmarks.cases import Shape
from lstm_numba.benchmarks.implementations import Cuda, CudaTransfers, Problem
from lstm_numba.engines.cuda import memory, plans
from lstm_numba.engines.cuda.driver import SIMULATED

TINY = "--shape 2x2x3x4 --repeats 1 --implementation cuda --implementation cuda-transfers"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call per repeat; the simulator counts as a device."""
    monkeypatch.setattr(timing, "REPEAT_SECONDS", 1e-4)
    monkeypatch.setattr(timing, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(timing, "WARM_CALLS", 1)
    monkeypatch.setattr(gemm_peak, "SIZE", 48)
    monkeypatch.setattr(Cuda, "in_simulator", True)


def bench(words: str, folder: Path) -> tuple[Any, Any]:
    """Call the program and read what it wrote."""
    path = folder / "out.json"
    answer = invoke(f"bench {words} --json", path)
    return answer, json.loads(path.read_text()) if path.exists() else None


@pytest.mark.parametrize("cell", ["lstm", "gru-reset-before"])  # two states, and two products
@pytest.mark.parametrize("kind", [Cuda, CudaTransfers])
def test_computes_what_the_processor_does(kind: type[Cuda], cell: str) -> None:
    problem = Problem(cell, Shape("", 2, 3, 3, 5), "training", "float64")
    found = correctness.compute(kind(problem, 1), problem)
    expected = correctness.compute(implementations.CpuSerial(problem, 1), problem)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert_close(found[name], array, "backward", f"{kind.name} {cell} {name}")


@pytest.mark.parametrize("task", ["inference", "training"])
def test_arrays_are_where_the_implementation_says(task: str) -> None:
    problem = Problem("lstm", Shape("", 2, 2, 3, 4), task, "float32")
    for kind, on_host in ((Cuda, False), (CudaTransfers, True)):
        implementation = kind(problem, 1)
        result = implementation.call()
        arrays = (*result[:2], *result[2]) if task == "training" else (result,)
        given = (implementation._x, implementation._dy, *implementation._state)
        assert {isinstance(array, np.ndarray) for array in (*arrays, *given)} == {on_host}


def test_the_clock_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[None] = []
    monkeypatch.setattr(memory, "synchronize", lambda: waited.append(None))
    implementation = Cuda(Problem("rnn", Shape("", 1, 1, 1, 1), "inference", "float32"), 1)
    waited.clear()
    implementation.finish()
    assert len(waited) == 1


def test_results_table_and_machine(tmp_path: Path) -> None:
    words = f"--cell gru --task inference --implementation cpu-parallel --sweep batch=2,1 {TINY}"
    answer, document = bench(words, tmp_path)
    assert answer.status == 0, answer.err
    assert document["machine"]["cuda"]["device"]
    assert document["machine"]["cuda"]["numba-cuda"]
    assert "\ncuda: " in answer.out
    for row in document["rows"]:
        assert set(row["contestants"]) == {"cpu-parallel", "cuda", "cuda-transfers"}
        assert row["ours"] == "cpu-parallel"
        for entry in row["contestants"].values():
            assert entry["differences"]["reference"]["y"] < 1e-5
            assert entry["first_seconds"] > 0
        cuda = row["contestants"]["cuda"]["median"]
        assert row["cuda"]["gflops"] == pytest.approx(row["flops"] / cuda / 1e9)
    for found in document["crossovers"]:
        assert (found["axis"], found["values"]) == ("batch", [1, 2])
        ratios = [
            row["contestants"]["cpu-parallel"]["median"] / row["contestants"][found["contestant"]]["median"]
            for row in reversed(document["rows"])
        ]
        assert found["speedups"] == pytest.approx(ratios)
    assert [found["contestant"] for found in document["crossovers"]] == ["cuda", "cuda-transfers"]
    assert "batch from which on a backend is faster than cpu-parallel" in answer.out
    header = next(line for line in answer.out.splitlines() if line.startswith("cell"))
    assert header.endswith("cuda ratio cuda GFLOP/s")


@pytest.mark.parametrize(("wanted", "kernel"), [("", "persistent"), ("general", "general")])
def test_which_kernels_run_and_why(
    wanted: str, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(plans.VARIABLE, wanted)
    monkeypatch.setattr(plans, "_plans", {})
    words = f"--cell rnn --task inference --task training --implementation cpu-serial {TINY}"
    answer, document = bench(words.replace("2x2x3x4", "5x3x3x4"), tmp_path)
    # The check against the reference has fewer rows, and a plan of its own.
    planned = {key[0]: plan.reason for key, plan in plans._plans.items() if key[3][0] == 5}
    assert len(plans._plans) == 4
    assert {reason.split(":")[0] for reason in planned.values()} == {kernel}
    for row, passes in zip(document["rows"], (["forward"], ["forward", "backward"]), strict=True):
        entries = row["contestants"]
        assert "kernels" not in entries["cpu-serial"]
        for name in ("cuda", "cuda-transfers"):
            found = [f"{each}: {planned[each == 'backward']}" for each in passes]
            assert entries[name]["kernels"] == found
    printed = [line for line in answer.out.splitlines() if line.startswith("  cuda and cuda-transfers, ")]
    forward, backward = (f"  cuda and cuda-transfers, {line}" for line in entries["cuda"]["kernels"])
    assert printed == [forward, forward, backward]


def test_streaming_is_the_processors(tmp_path: Path) -> None:
    words = f"--cell gru --task streaming --implementation cpu-serial {TINY}"
    _, document = bench(words, tmp_path)
    assert document["rows"][0]["contestants"].keys() == {"cpu-serial"}
    assert document["rows"][0]["cuda"] is None
    assert document["rows"][0]["refused"] == {}  # it was not even tried


def test_wrong_results_are_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = Cuda.arrays

    def wrong(self: Cuda, result: Any) -> dict[str, Any]:
        return {name: 1.001 * array for name, array in arrays(self, result).items()}

    monkeypatch.setattr(Cuda, "arrays", wrong)
    answer, document = bench(f"--cell gru --task inference --implementation cpu-serial {TINY}", tmp_path)
    assert answer.status == 1
    (row,) = document["rows"]
    assert set(row["refused"]) == {"cuda", "cuda-transfers"}
    assert row["contestants"].keys() == {"cpu-serial"}


def test_memory_of_the_host_says_nothing_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.memory, "growth_in_child", lambda name, row, dtype: 1.0)
    words = f"--cell rnn --task training --implementation cpu-serial --memory {TINY}"
    _, document = bench(words, tmp_path)
    found = {name: entry.get("memory_mib") for name, entry in document["rows"][0]["contestants"].items()}
    assert found == {"cpu-serial": 1.0, "cuda": None, "cuda-transfers": None}


@pytest.mark.skipif(not SIMULATED, reason="of the simulator")
def test_simulator_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cuda, "in_simulator", False)
    assert set(registry.unavailable(["cuda", "cuda-transfers"]).values()) == {"CUDA's simulator is not timed"}


@pytest.mark.skipif(bool(peers.PyTorchCuda.missing()), reason="no PyTorch with CUDA")
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "rnn-relu"])
def test_cudnn_agrees_and_is_no_tf32(cell: str, tmp_path: Path) -> None:
    words = f"--cell {cell} --shape 8x9x16x33 --repeats 1 --implementation cuda --implementation pytorch-cuda"
    answer, document = bench(words + "".join(f" --task {task}" for task in cases.TASKS[:2]), tmp_path)
    assert answer.status == 0, answer.out
    for row in document["rows"]:
        assert row["ours"] is None
        ratio = row["contestants"]["pytorch-cuda"]["median"] / row["contestants"]["cuda"]["median"]
        assert row["cuda"]["ratios"] == {"pytorch-cuda": pytest.approx(ratio)}
        # TF32 rounds to 1e-3.
        assert row["contestants"]["pytorch-cuda"]["differences"]["reference"]["y"] < 1e-5
