"""What `lstm-numba bench` computes from its times: comparison of two files, means, text."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from cli_tools import invoke

from lstm_numba.benchmarks import report, results
from lstm_numba.benchmarks.cases import Row, Shape
from lstm_numba.benchmarks.runner import comparison


def a_document(**medians: float) -> dict[str, Any]:
    """A file's content with one row, and quartiles a tenth off the medians."""
    entries = {
        name.replace("_", "-"): {"median": m, "quartiles": [0.9 * m, 1.1 * m]} for name, m in medians.items()
    }
    shape = Shape("mine", 1, 2, 3, 4)._asdict()
    row = {"cell": "gru", "shape": shape, "task": "training", "dtype": "float32", "threads": 2}
    return {"format": results.FORMAT, "rows": [{**row, "contestants": entries}]}


def write(folder: Path, name: str, document: Any) -> Path:
    """Write a file."""
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.mark.smoke
def test_compare(tmp_path: Path) -> None:
    first = a_document(cpu_serial=0.001, cpu_parallel=0.004, pytorch=0.1)
    second = a_document(cpu_parallel=0.001, cpu_serial=0.00115)
    second["rows"][0]["shape"]["name"] = "other name"  # the size counts
    second["rows"].append({**copy.deepcopy(second["rows"][0]), "task": "inference"})
    serial, parallel = results.compare(first, second)
    assert (serial.implementation, serial.first, serial.second, serial.overlap) == (
        "cpu-serial", 0.001, 0.00115, True,
    )  # fmt: skip
    assert serial.ratio == pytest.approx(1.15)
    assert (parallel.implementation, parallel.ratio, parallel.overlap) == ("cpu-parallel", 0.25, False)
    answer = invoke("bench --compare", write(tmp_path, "a", first), write(tmp_path, "b", second))
    assert (answer.status, answer.err) == (0, "")
    lines = [line.split() for line in answer.out.splitlines()]
    assert ["gru", "mine", "training", "cpu-parallel", "4.00ms", "1.00ms", "0.250", "apart"] in lines
    assert ["gru", "mine", "training", "cpu-serial", "1.00ms", "1.15ms", "1.150", "overlap"] in lines
    assert lines[-1] == ["all", f"{math.sqrt(1.15 * 0.25):.3f}"]


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("{", "invalid JSON"),
        ("[]", "not written by lstm-numba bench"),
        ('{"format": "other", "rows": []}', "not written by lstm-numba bench"),
        ({"format": results.FORMAT}, "damaged"),
        ({"format": results.FORMAT, "rows": [{"cell": "gru"}]}, "damaged"),
        (a_document(cpu_serial=-1.0), "damaged"),
        (a_document(cpu_serial=math.nan), "damaged"),
    ],
)
def test_compare_refuses_other_files(content: Any, fragment: str, tmp_path: Path) -> None:
    good, bad = write(tmp_path, "good", a_document(pytorch=1.0)), write(tmp_path, "bad", content)
    for files in ((good, bad), (bad, good)):
        answer = invoke("bench --compare", *files)
        assert (answer.status, answer.out) == (1, "")
        (line,) = answer.err.splitlines()
        assert line.startswith(f"error: {bad}: ")
        assert fragment in line


def test_compare_refuses_files_without_anything_in_common(tmp_path: Path) -> None:
    files = [write(tmp_path, name, a_document(**{name: 1.0})) for name in ("pytorch", "cuda")]
    answer = invoke("bench --compare", *files)
    assert answer.status == 1
    assert "no row and backend in common" in answer.err
    assert invoke("bench --compare", files[0], tmp_path / "none").err.endswith("no such file\n")


@pytest.mark.smoke
def test_summary_by_hand() -> None:
    def row(name: str, ratio: float) -> dict[str, Any]:
        return {"cell": "gru", "task": "training", "shape": {"name": name}, "ratios": {"pytorch": ratio}}

    (found,) = results.summarise([row("a", 2.0), row("b", 0.5), row("c", 8.0)])
    assert found[:3] == ("gru", "training", "pytorch")
    assert found.mean == pytest.approx(2.0)
    assert (found.worst, found.worst_shape) == (0.5, "b")


def test_cpu_is_compared_with_cpu_and_gpu_with_gpu() -> None:
    medians = {
        "cpu-serial": 8.0,
        "cpu-parallel": 4.0,
        "pytorch": 6.0,
        "cuda": 0.5,
        "cuda-transfers": 2.0,
        "pytorch-cuda": 0.25,
    }
    found = comparison(medians, 10**9, 0.5)
    assert (found["ours"], found["ratios"]) == ("cpu-parallel", {"pytorch": 1.5})
    assert (found["gflops"], found["share"]) == (0.25, 0.5)
    assert found["cuda"] == {"ours": "cuda", "ratios": {"pytorch-cuda": 0.5}, "gflops": 2.0}
    # With arrays on the host it is not compared with a peer that has them on the device.
    alone = comparison({"cuda-transfers": 2.0, "pytorch-cuda": 0.25, "pytorch": 6.0}, 1, 1)
    assert alone == {"ours": None, "ratios": {}, "gflops": None, "share": None, "cuda": None}
    device = comparison({"cuda": 0.5, "pytorch": 6.0}, 1, 1)
    assert (device["ours"], device["ratios"], device["cuda"]["ratios"]) == (None, {}, {})
    row = {"cell": "gru", "task": "training", "shape": {"name": "a"}, **found}
    assert [(s.peer, s.mean) for s in results.summarise([row])] == [
        ("pytorch", pytest.approx(1.5)),
        ("pytorch-cuda", pytest.approx(0.5)),
    ]


def test_table_has_columns_of_the_device_beside() -> None:
    shape = Shape("mine", 1, 2, 3, 4)
    medians = {"cpu-parallel": 4e-3, "pytorch": 6e-3, "cuda": 5e-4, "pytorch-cuda": 25e-5}
    row = {
        **a_document(**medians)["rows"][0],
        "refused": {},
        **comparison(medians, 10**9, 1000.0),
    }
    planned = [Row("gru", shape, "training", 2)]
    with_cuda = report.Table(planned, list(medians))
    assert with_cuda.header.split()[3:] == [
        *medians, "ratio", "GFLOP/s", "GEMM", "cuda", "ratio", "cuda", "GFLOP/s",
    ]  # fmt: skip
    assert with_cuda.row(row).split()[-5:] == ["1.50", "250", "25%", "0.50", "2000"]
    assert len(with_cuda.row(row)) == len(with_cuda.header)
    without = report.Table(planned, ["cpu-parallel", "pytorch"])
    assert without.row(row).split()[-3:] == ["1.50", "250", "25%"]
    assert without.header.endswith("GEMM")


def test_columns_stay_aligned_whatever_a_busy_machine_does() -> None:
    planned = [Row("gru", Shape("mine", 1, 2, 3, 4), "training", 2)]
    for peer, spread, texts in (
        (0.4, 0.0, ["±0%", "100"]),
        (0.49, 60.0, [">999%", "122"]),
        (0.39996, 9.99, ["±999%", "99.99"]),
    ):
        medians = {"cpu-parallel": 4e-3, "pytorch": peer}
        row = {**a_document(**medians)["rows"][0], "refused": {}, **comparison(medians, 10**9, 1000.0)}
        row["contestants"]["cpu-parallel"]["quartiles"] = [4e-3, 4e-3 * (1 + 2 * spread)]
        table = report.Table(planned, list(medians))
        words = table.row(row).split()
        assert [words[4], words[-3]] == texts
        assert len(table.row(row)) == len(table.header)


def test_table_says_which_kernels_ran() -> None:
    shape = Shape("mine", 1, 2, 3, 4)
    medians = {"cuda": 5e-4, "cuda-transfers": 6e-4, "pytorch-cuda": 25e-5}
    row = {**a_document(**medians)["rows"][0], "refused": {"x": "wrong"}, **comparison(medians, 10, 1.0)}
    row["contestants"]["cuda"]["kernels"] = ["forward: why", "backward: because"]
    row["contestants"]["cuda-transfers"]["kernels"] = ["forward: why"]
    lines = report.Table([Row("gru", shape, "training", 2)], list(medians)).row(row).splitlines()
    assert lines[1:] == [
        "  cuda and cuda-transfers, forward: why",
        "  cuda, backward: because",
        "  x is not timed: wrong",
    ]


def a_sweep(axis: str, parallel: list[float], **others: list[float]) -> list[dict[str, Any]]:
    """Rows of a sweep over 1, 2, 4, ...; 0 seconds: not timed."""
    rows = []
    for n, seconds in enumerate(parallel):
        times = {"cpu_parallel": seconds, **{name: values[n] for name, values in others.items()}}
        (row,) = a_document(**{name: value for name, value in times.items() if value})["rows"]
        row["shape"][axis] = 2**n
        rows.append(row)
    return rows


@pytest.mark.parametrize("axis", ["batch", "hidden"])
def test_crossovers(axis: str) -> None:
    def found(cuda: list[float]) -> tuple[Any, str]:
        (one,) = results.crossovers(a_sweep(axis, [1.0, 2.0, 4.0, 8.0], cuda=cuda)[::-1], axis)
        assert (one["cell"], one["task"], one["contestant"]) == ("gru", "training", "cuda")
        return one["from"], report.crossover_text(one)

    assert found([3.0, 3.0, 3.0, 3.0]) == (4, "from 4 on")
    assert found([0.5, 0.5, 0.5, 0.5]) == (1, "from 1 on, the smallest of this sweep")
    assert found([3.0, 3.0, 4.0, 8.0]) == (None, "never in this sweep")  # equal is not faster
    assert found([0.5, 1.0, 5.0, 9.0]) == (None, "only at 1, 2")
    assert found([0.5, 3.0, 3.0, 3.0]) == (4, "from 4 on")  # not from 1: at 2 it is slower
    assert found([3.0, 3.0, 0, 3.0]) == (8, "from 8 on")  # refused at 4: nothing is known there


def test_crossovers_with_and_without_transfers() -> None:
    rows = a_sweep("batch", [1.0, 2.0, 4.0], cuda=[1.5, 1.5, 1.5], cuda_transfers=[3.0, 3.0, 3.0])
    rows += [{**row, "cell": "lstm"} for row in a_sweep("batch", [1.0, 2.0, 4.0], cuda=[9.0, 9.0, 9.0])]
    rows += [{**row, "cell": "rnn"} for row in a_sweep("batch", [1.0, 2.0], pytorch_cuda=[0.1, 0.1])]
    found = results.crossovers(rows, "batch")
    assert [(one["cell"], one["contestant"], one["from"]) for one in found] == [
        ("gru", "cuda", 2),
        ("gru", "cuda-transfers", 4),
        ("lstm", "cuda", None),
    ]
    assert found[0]["values"] == [1, 2, 4]
    assert found[0]["speedups"] == pytest.approx([1 / 1.5, 2 / 1.5, 4 / 1.5])
    text = report.closing(
        {"yardsticks": {}, "compile_seconds": 0.0, "rows": [], "crossovers": found}
    ).splitlines()
    assert "batch from which on a backend is faster than cpu-parallel" in text
    words = [" ".join(line.split()) for line in text]
    assert "gru training cuda-transfers from 4 on times as fast: 1: 0.33, 2: 0.67, 4: 1.33" in words
    assert any(line.startswith("lstm training cuda never in this sweep") for line in words)


def test_times_have_three_digits() -> None:
    given = (12.345, 0.9999, 0.01234, 0.1234, 1.5e-6, 9.999e-6, 3e-9)
    expected = ("12.3s", "1.00s", "12.3ms", "123ms", "1.50µs", "10.0µs", "3.00ns")
    assert tuple(map(report.short_time, given)) == expected
