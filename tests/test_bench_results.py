"""What `lstm-numba bench` makes of its numbers: comparison of two files, means, words."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from cli_tools import invoke

from lstm_numba.benchmarks import report, results
from lstm_numba.benchmarks.plan import Shape


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


def test_compare(tmp_path: Path) -> None:
    first = a_document(cpu_serial=0.001, cpu_parallel=0.004, pytorch=0.1)
    second = a_document(cpu_parallel=0.001, cpu_serial=0.00115)
    second["rows"][0]["shape"]["name"] = "other name"  # the size counts
    second["rows"].append({**copy.deepcopy(second["rows"][0]), "task": "inference"})
    serial, parallel = results.compare(first, second)
    assert (serial.contestant, serial.first, serial.second, serial.overlap) == (
        "cpu-serial", 0.001, 0.00115, True,
    )  # fmt: skip
    assert serial.ratio == pytest.approx(1.15)
    assert (parallel.contestant, parallel.ratio, parallel.overlap) == ("cpu-parallel", 0.25, False)
    answer = invoke("bench --compare", write(tmp_path, "a", first), write(tmp_path, "b", second))
    assert (answer.status, answer.err) == (0, "")
    lines = [line.split() for line in answer.out.splitlines()]
    assert ["gru", "mine", "training", "cpu-parallel", "4.00ms", "1.00ms", "0.250", "apart"] in lines
    assert ["gru", "mine", "training", "cpu-serial", "1.00ms", "1.15ms", "1.150", "overlap"] in lines
    assert lines[-1] == ["all", f"{math.sqrt(1.15 * 0.25):.3f}"]


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("{", "no JSON"),
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
    assert "no row and contestant in common" in answer.err
    assert invoke("bench --compare", files[0], tmp_path / "none").err.endswith("No such file or directory\n")


def test_summary_by_hand() -> None:
    def row(name: str, ratio: float) -> dict[str, Any]:
        return {"cell": "gru", "task": "training", "shape": {"name": name}, "ratios": {"pytorch": ratio}}

    (found,) = results.summarise([row("a", 2.0), row("b", 0.5), row("c", 8.0)])
    assert found[:3] == ("gru", "training", "pytorch")
    assert found.mean == pytest.approx(2.0)
    assert (found.worst, found.worst_shape) == (0.5, "b")


def test_times_have_three_digits() -> None:
    given = (12.345, 0.9999, 0.01234, 0.1234, 1.5e-6, 9.999e-6, 3e-9)
    expected = ("12.3s", "1.00s", "12.3ms", "123ms", "1.50µs", "10.0µs", "3.00ns")
    assert tuple(map(report.short_time, given)) == expected
