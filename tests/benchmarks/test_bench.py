"""`lstm-numba bench`: what is planned, refused, counted, written and compared; never any speed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import PROGRAM, Answer, invoke
from tolerances import assert_close

from lstm_numba import reference, timing
from lstm_numba.benchmarks import (
    cases,
    correctness,
    gemm_peak,
    implementations,
    memory,
    peers,
    registry,
    results,
)
from lstm_numba.benchmarks.cases import OURS, PEERS, SHAPES, Row, Shape, plan_rows
from lstm_numba.engines import Cuda
from lstm_numba.nn.layers import CELL_NAMES, make_layer

TINY = "--shape 3x4x5x6 --repeats 2"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short repeats, small matrices for the GEMM peak, no GPU: for these see ``cuda/test_bench.py``."""
    monkeypatch.setattr(implementations, "find_cuda", lambda: Cuda(False, "no CUDA here"))
    monkeypatch.setattr(peers.PyTorchCuda, "missing", lambda: "no CUDA here")
    monkeypatch.setattr(timing, "REPEAT_SECONDS", 1e-4)
    monkeypatch.setattr(timing, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(gemm_peak, "SIZE", 48)


@pytest.fixture
def without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A computer without PyTorch and ONNX Runtime."""
    for module in (peers, gemm_peak):
        monkeypatch.setattr(module, "find_spec", lambda name: None)


def bench(words: str, folder: Path) -> tuple[Answer, Any]:
    """Call the program and read what it wrote."""
    path = folder / "out.json"
    answer = invoke(f"bench {words} --json", path)
    return answer, json.loads(path.read_text()) if path.exists() else None


# -- what is planned ---------------------------------------------------------------------------------


def test_names_are_those_that_there_are() -> None:
    assert set(registry.CLASSES) == set(cases.IMPLEMENTATIONS) == {*OURS, *PEERS}
    assert set(OURS) == {n for n, c in registry.CLASSES.items() if c.family == "lstm_numba"}
    assert set(cases.ON_CUDA) == {
        n for n, c in registry.CLASSES.items() if getattr(c, "device", "") == "cuda"
    }
    assert set(cases.DEFAULT_CELLS) <= set(CELL_NAMES)
    assert all(peers.node_of(name) for name in CELL_NAMES)
    assert all(name in SHAPES for names in cases.PRESETS.values() for name in names)


@pytest.mark.smoke
def test_shapes_are_read() -> None:
    assert cases.parse_shape("ptb-small") == ("ptb-small", 20, 20, 200, 200)
    assert cases.parse_shape("32x50x64x128") == ("32x50x64x128", 32, 50, 64, 128)
    for wrong in ("", "mnst", "1x2x3", "1x2x3x4x5", "0x1x1x1", "1x-2x3x4", "1x2x3x4.5", "1X2X3X4"):
        with pytest.raises(ValueError, match="32x50x64x128"):
            cases.parse_shape(wrong)


@pytest.mark.smoke
def test_nothing_is_measured_twice() -> None:
    shapes = [SHAPES["stream"], SHAPES["sequence"], Shape("same", 1, 100, 16, 64)]
    found = [(row.shape.name, row.task) for row in plan_rows(["gru"], shapes, cases.TASKS, 1)]
    # One step is one call; a call of `sequence` is the same as one of `stream`.
    assert found == [("stream", "streaming"), ("sequence", "inference"), ("sequence", "training")]
    assert [row.task for row in plan_rows(["gru"], shapes[:1], ["inference"], 1)] == ["inference"]


def test_sweeps_vary_one_axis() -> None:
    around = [SHAPES["mnist"]]
    found = plan_rows(["gru"], around, ["training"], 3, cases.parse_sweep("threads"))
    assert [(row.threads, row.shape) for row in found] == [(n, SHAPES["mnist"]) for n in (1, 2, 3)]
    found = plan_rows(["gru"], around, ["training"], 3, cases.parse_sweep("hidden=4,8"))
    assert [(row.threads, *row.shape[1:]) for row in found] == [(3, 128, 28, 28, 4), (3, 128, 28, 28, 8)]
    found = plan_rows(["gru"], around, ["training"], 3, cases.parse_sweep("batch"))
    assert [row.shape.batch for row in found] == list(cases.SWEEPS["batch"])
    for wrong in ("steps", "hidden=", "hidden=0", "hidden=4,,8", "threads=x"):
        with pytest.raises(ValueError, match="not"):
            cases.parse_sweep(wrong)


@pytest.mark.smoke
def test_flop_count_by_hand() -> None:
    shape = Shape("", 3, 5, 2, 4)  # a step of an LSTM's sequence: 16 rows of weights, 2 + 4 columns
    assert cases.flop_count(cases.Blocks(4, 4), shape, "inference") == 2 * 16 * 6 * 3 * 5 == 2880
    assert cases.flop_count(cases.Blocks(4, 4), shape, "training") == 3 * 2880
    assert cases.flop_count(cases.Blocks(4, 4), shape, "streaming") == 2880 // 5


# -- what is correct ---------------------------------------------------------------------------------


def all_results(
    cell: str, task: str, dtype: str
) -> tuple[implementations.Problem, dict[str, dict[str, Any]]]:
    """Arrays of all implementations that are available and have the cell."""
    problem = implementations.Problem(cell, Shape("", 3, 5, 4, 6), task, dtype)
    found = {}
    for name in registry.unavailable(cases.IMPLEMENTATIONS).keys() ^ set(cases.IMPLEMENTATIONS):
        if not registry.CLASSES[name].lacks(cell, task, dtype):
            found[name] = correctness.compute(registry.CLASSES[name](problem, 1), problem)
    return problem, found


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("task", ["inference", "streaming"])
def test_all_implementations_agree_with_the_reference(cell: str, task: str) -> None:
    problem, found = all_results(cell, task, "float32")
    states = [np.float64(state) for state in problem.state.values()]
    expected, _ = reference.run(cell, problem.params, problem.x, states)
    assert {"cpu-serial", "cpu-parallel"} <= set(found)
    for name, arrays in found.items():
        assert_close(arrays["y"], expected, "forward", name)


def test_onnx_model_without_the_package_onnx() -> None:
    pytest.importorskip("onnxruntime")
    before = set(sys.modules)  # tests of ONNX files may have imported it
    for cell in (*CELL_NAMES, "rnn,clip=0.5,f=Softsign"):  # both GRUs, both RNNs, a variant
        _, found = all_results(cell, "streaming", "float32")
        assert_close(found["onnxruntime"]["y"], found["cpu-serial"]["y"], "forward", cell)
    assert not any(name == "onnx" or name.startswith("onnx.") for name in set(sys.modules) - before)


def test_gradients_of_pytorch_are_under_our_names() -> None:
    pytest.importorskip("torch")
    _, found = all_results("lstm", "training", "float64")
    assert list(found["pytorch"]) == list(found["cpu-serial"])
    assert {"y", "dx", "dh", "dc", "dweight_hh_l0"} <= set(found["pytorch"])
    for name, expected in found["pytorch"].items():
        assert_close(found["cpu-serial"][name], expected, "backward", name)


def spoilt(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None], batch: int = 0) -> None:
    """Change the results of cpu-parallel, for problems with `batch` sequences or for all."""
    arrays = implementations.Cpu.arrays

    def wrong(self: implementations.CpuParallel, result: Any) -> dict[str, Any]:
        found = {name: array.copy() for name, array in arrays(self, result).items()}
        if batch in (0, found["y"].shape[1]):
            change(found)
        return found

    monkeypatch.setattr(implementations.CpuParallel, "arrays", wrong)


def more(name: str) -> Callable[[dict[str, Any]], None]:
    """Scale an array by 1.001."""

    def change(found: dict[str, Any]) -> None:
        found[name] *= 1.001

    return change


def no_number(found: dict[str, Any]) -> None:
    """Put a NaN into an array."""
    found["dx"].flat[0] = np.nan


@pytest.mark.parametrize(
    ("task", "change", "array"),
    [
        ("inference", more("y"), "y"),
        ("streaming", more("y"), "y"),
        ("training", more("dweight_hh_l0"), "dweight_hh_l0"),
        ("training", more("dh"), "dh"),
        ("training", no_number, "dx"),
    ],
)
def test_wrong_results_are_not_timed(
    task: str,
    change: Callable[[dict[str, Any]], None],
    array: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    spoilt(monkeypatch, change)
    answer, document = bench(f"--cell lstm --cell gru --task {task} {TINY}", tmp_path)
    assert answer.status == 1
    assert len(document["rows"]) == 2  # the next row was run all the same
    for row in document["rows"]:
        assert row["refused"].keys() == {"cpu-parallel"}
        assert row["refused"]["cpu-parallel"].startswith(f"{array} differs from the reference by ")
        assert "cpu-parallel" not in row["contestants"]
        assert row["ours"] == "cpu-serial"
    assert f"cpu-parallel is not timed: {array} differs" in answer.out


def test_wrong_results_at_full_size_only_are_not_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without_peers: None
) -> None:
    spoilt(monkeypatch, more("dx"), batch=7)  # the shortened problem has fewer sequences
    answer, document = bench("--cell lstm --task training --shape 7x4x5x6 --repeats 1", tmp_path)
    assert answer.status == 1
    # There is no third implementation to tell which of the two is right.
    (row,) = document["rows"]
    assert set(row["refused"]) == {"cpu-serial", "cpu-parallel"}
    assert "dx differs from cpu-serial" in row["refused"]["cpu-parallel"]
    assert row["contestants"] == {}


def test_agreement_with_another_family_counts_for_more() -> None:
    families = {"a": "ours", "b": "ours", "c": "peer", "d": "other"}

    def refused(**values: float) -> list[str]:
        found = {name: {"y": np.full(3, value)} for name, value in values.items()}
        return [
            name
            for name in found
            if not correctness.worst(correctness.with_others(name, found, families, "float64")).acceptable
        ]

    assert refused(a=1, b=2, c=1, d=3) == ["b", "d"]
    assert refused(a=2, b=2, c=1, d=1) == ["a", "b"]  # they share the code that is wrong
    assert refused(a=1, b=1) == []
    assert refused(a=1, b=2) == ["a", "b"]


def test_an_error_of_an_implementation_ends_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(self: Any) -> None:
        raise RuntimeError("no\nluck")

    monkeypatch.setattr(implementations.CpuParallel, "infer", broken)
    answer, document = bench(f"--cell lstm --task inference {TINY}", tmp_path)
    assert answer.status == 1
    assert document["rows"][0]["refused"] == {"cpu-parallel": "RuntimeError: no luck"}
    assert "cpu-serial" in document["rows"][0]["contestants"]


def test_shortened_problem_keeps_the_reference_quick() -> None:
    for shape in SHAPES.values():
        small = correctness.shortened(shape, cases.Blocks(4, 4), 17)
        work = 17 * small.batch * small.steps * 4 * shape.hidden * (shape.inputs + shape.hidden)
        assert work < 2e9
        assert (small.inputs, small.hidden) == (shape.inputs, shape.hidden)
        assert small.steps >= min(2, shape.steps)


# -- what comes out ----------------------------------------------------------------------------------


def test_results_and_table(tmp_path: Path) -> None:
    answer, document = bench(f"--cell lstm --cell peephole {TINY} --threads 1", tmp_path)
    assert answer.status == 0, answer.err
    assert document["format"] == results.FORMAT
    assert document[
        "command"
    ] == f"lstm-numba bench --cell lstm --cell peephole {TINY} --threads 1 --json " + str(
        tmp_path / "out.json"
    )
    assert {"cpu", "vector_unit", "cores", "threads", "numpy", "numba", "llvmlite", "torch"} <= set(
        document["machine"]
    )
    assert document["protocol"]["turns"] == 2
    assert document["unavailable"].keys() >= set(cases.ON_CUDA)
    assert "cuda, cuda-transfers, pytorch-cuda: no CUDA here" in answer.out.splitlines()
    assert "crossovers" not in document
    assert [(row["cell"], row["task"]) for row in document["rows"]] == [
        (cell, task) for cell in ("lstm", "peephole") for task in cases.TASKS
    ]
    for row in document["rows"]:
        gates = len(make_layer(row["cell"], 1, 1).cell.gates)
        assert row["flops"] == cases.flop_count(
            cases.Blocks(gates, gates), Shape(**row["shape"]), row["task"]
        )
        for entry in row["contestants"].values():
            assert len(entry["seconds"]) == 2
            assert entry["median"] == pytest.approx(np.mean(entry["seconds"]))
            assert entry["quartiles"][0] <= entry["median"] <= entry["quartiles"][1]
            assert entry["differences"]["reference"]["y"] < 1e-5
            assert entry["first_seconds"] >= entry["compile_seconds"]
        assert row["cuda"] is None
        ours = row["contestants"]["cpu-parallel"]["median"]
        assert row["gflops"] == pytest.approx(row["flops"] / ours / 1e9)
        assert row["share"] == pytest.approx(row["gflops"] / document["yardsticks"]["1"]["best"])
        for peer, ratio in row["ratios"].items():
            assert ratio == pytest.approx(row["contestants"][peer]["median"] / ours)
    table = answer.out.splitlines()
    start = next(number for number, line in enumerate(table) if line.startswith("cell"))
    assert len({len(line) for line in table[start : start + 7]}) == 1  # columns are aligned
    assert len(table[start]) <= 100


def test_absent_peers_have_no_column(tmp_path: Path, without_peers: None) -> None:
    answer, document = bench(f"--cell lstm --task inference {TINY}", tmp_path)
    assert answer.status == 0, answer.err
    assert document["unavailable"].keys() == {*cases.ON_CUDA, "pytorch", "onnxruntime"}
    assert "pytorch, onnxruntime: not installed" in answer.out.splitlines()
    (header,) = [line for line in answer.out.splitlines() if line.startswith("cell")]
    assert header.split()[3:5] == ["cpu-serial", "cpu-parallel"]
    assert "pytorch" not in header
    assert document["rows"][0]["ratios"] == {}
    answer = invoke("bench --implementation cuda")
    assert (answer.status, answer.err) == (1, "error: none of the backends is available\n")


def test_implementations_can_be_chosen(tmp_path: Path) -> None:
    old = "--contestant cpu-serial --shape 3x4x5x6 --turns=2"  # the options' names in earlier versions
    for words in (f"--implementation cpu-serial {TINY}", old):
        _, document = bench(f"--cell rnn --task inference {words}", tmp_path)
        assert document["rows"][0]["contestants"].keys() == {"cpu-serial"}
        assert document["protocol"]["turns"] == 2


def test_float64_is_float64(tmp_path: Path) -> None:
    answer, document = bench(f"--cell lstm --task training --dtype float64 {TINY}", tmp_path)
    assert answer.status == 0, answer.err
    (row,) = document["rows"]
    assert row["dtype"] == "float64"
    assert "onnxruntime" not in row["contestants"]
    assert row["contestants"]["cpu-serial"]["differences"]["reference"]["y"] < 1e-14
    assert document["yardsticks"]["2" if row["threads"] == 2 else str(row["threads"])]["name"] == "dgemm"


def test_memory_counts_what_a_step_allocates() -> None:
    if not memory._STATUS.exists():
        pytest.skip("the system does not tell")
    batch, hidden = 64, 64
    found = {}
    for steps in (40, 160):
        row = Row("lstm", Shape("", batch, steps, 8, hidden), "training", 1)
        growth = memory.growth_in_child("cpu-serial", row, "float32")
        assert growth is not None
        found[steps] = growth
    # Each step keeps its gates and its state at the very least, for the backward pass.
    assert found[160] - found[40] > 120 * batch * hidden * (4 + 1) * 4 / 2**20
    assert found[160] < 500


def test_memory_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"cpu-serial": 2.0, "cpu-parallel": 4.0}
    monkeypatch.setattr(memory, "growth_in_child", lambda name, row, dtype: sizes[name])
    words = f"--cell lstm --implementation cpu-serial --implementation cpu-parallel --memory {TINY}"
    answer, document = bench(words, tmp_path)
    for row in document["rows"]:
        found = {name: entry.get("memory_mib") for name, entry in row["contestants"].items()}
        assert found == (sizes if row["task"] == "training" else dict.fromkeys(sizes))
    assert "lstm  3x4x5x6  cpu-serial    2.0    0.50" in answer.out


@pytest.mark.parametrize("words", ["--sweep hidden=4,6", "--sweep threads=1", "--shape 2x1x3x4"])
def test_plots_appear(words: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    answer = invoke(f"bench --cell gru --task streaming --repeats 1 {words} --plot", tmp_path)
    assert answer.status == 0, answer.err
    name = words.split()[1].split("=")[0] if "sweep" in words else "shapes"
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}-streaming{end}" for end in (".png", ".svg")
    }
    assert all(path.stat().st_size > 2000 for path in tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_interruption_keeps_the_rows(tmp_path: Path) -> None:
    words = (
        "bench --cell lstm --task inference --task streaming --implementation cpu-serial --repeats 2 "
        "--threads 1 --shape 2x2x3x4 --shape 2x3x3x4000 --json"
    )
    path = tmp_path / "out.json"
    process = subprocess.Popen(
        [*PROGRAM, *words.split(), path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("lstm") and "inference" in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted"
    document = json.loads(path.read_text())
    assert document["interrupted"] is True
    assert 1 <= len(document["rows"]) < 3


def test_usage_errors(tmp_path: Path) -> None:
    for words, fragment in (
        ("--shape 1x2x3", "32x50x64x128"),
        ("--shape mnst", "ptb-small"),
        ("--cell transformer", "peephole"),
        ("--task sleeping", "streaming"),
        ("--implementation tensorflow", "onnxruntime"),
        ("--preset everything", "quick"),
        ("--sweep steps", "hidden"),
        ("--sweep batch --preset all", "one shape"),
        ("--sweep threads=100000", "100000"),
        ("--repeats 0", "--repeats"),
        ("--threads 100000", "--threads"),
        ("--dtype float16", "float64"),
        ("--compare one", "--compare"),
    ):
        answer = invoke(f"bench {words}")
        assert (answer.status, answer.out) == (2, ""), words
        (line,) = answer.err.splitlines()
        assert fragment in line
    answer = invoke("bench --json", tmp_path / "none" / "out.json")
    assert answer.status == 1
    assert "none does not exist" in answer.err


def test_compare_reads_what_bench_wrote(tmp_path: Path) -> None:
    bench(f"--cell lstm --task inference {TINY}", tmp_path)
    path = tmp_path / "out.json"
    answer = invoke("bench --compare", path, path)
    assert answer.status == 0
    assert answer.out.splitlines()[-1].split() == ["all", "1.000"]
