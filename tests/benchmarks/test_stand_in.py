"""The CUDA engine on a stand-in for the driver: all but the driver is real, and nothing is computed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from backends import simulated
from repository import ROOT
from terminal_tools import run_in_terminal, screen

from lstm_numba.benchmarks import launch_overhead, stand_in

pytestmark = [
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or shutil.which("cc") is None,
        reason="the stand-in driver needs Linux and a C compiler",
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("numba_cuda") is None or importlib.util.find_spec("cuda.core") is None,
        reason="could not import numba_cuda",
    ),
    pytest.mark.skipif(simulated(), reason="the simulator has no driver"),
]


def run(script: str, *words: str, folder: Path, **environment: str) -> str:
    """What a script prints with the stand-in driver, run where no folder hides the installed packages."""
    done = subprocess.run(
        [sys.executable, script, *words],
        cwd=folder,
        env={**os.environ, **stand_in.environment(), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_arrays_copies_and_launches(tmp_path: Path) -> None:
    script = ROOT / "tests" / "support" / "device_views.py"
    assert run(str(script), folder=tmp_path).endswith("are as numba-cuda's\n")


def test_directions_at_the_same_time_use_memory_in_order(tmp_path: Path) -> None:
    script = ROOT / "tests" / "support" / "branch_order.py"
    assert run(str(script), folder=tmp_path).endswith("memory is used in order\n")


_LAYER = """
import numpy as np, lstm_numba as ln
from lstm_numba.engines import compile_notice
compile_notice.DELAY = 0.3
ln.GRU(5, 6, seed=0, device="cuda")(np.ones((1, 1, 5), np.float32))
"""


def test_a_terminal_is_told_that_kernels_compile(tmp_path: Path) -> None:
    variables = {**stand_in.environment(), "NUMBA_CACHE_DIR": str(tmp_path)}
    shown = run_in_terminal(_LAYER, **variables)
    assert shown.status == 0, shown.err
    line, cursor = screen(shown.err)
    assert line.startswith("lstm_numba: compiling kernels")
    assert cursor == ""
    assert run_in_terminal(_LAYER.replace("0.3", "0.0"), **variables, LSTM_NUMBA_PROGRESS="0").err == ""


def test_launches_of_a_step_are_counted(tmp_path: Path) -> None:
    words = ("--task", "mnist", "--steps", "3", "--json", "out.json")
    printed = run(launch_overhead.__file__, *words, folder=tmp_path, LSTM_NUMBA_CUDA_GRAPH="0")
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    counts, kernels = row["driver"], row["driver"]["kernels"]
    assert counts["launches"] == sum(kernels.values())
    assert (kernels["persistent_forward"], kernels["persistent_backward"]) == (1, 1)
    assert counts["allocations"] == 0  # all memory is used again
    assert 0 < row["host_us"]["least"] <= row["host_us"]["median"]
    assert f"{counts['launches']} launches" in printed


def test_a_recorded_step_is_one_launch(tmp_path: Path) -> None:
    words = ("--task", "mnist", "--steps", "3", "--products", "numba", "--json", "out.json")
    run(launch_overhead.__file__, *words, folder=tmp_path)
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    counts = row["driver"]
    assert (counts["launches"], counts["graph_launches"], counts["allocations"]) == (0, 1, 0)
    assert counts["kernels"]["persistent_backward"] == 1


def test_constants_of_recorded_work_are_not_where_it_writes(tmp_path: Path) -> None:
    script = tmp_path / "constants.py"
    script.write_text(
        "import numpy as np\n"
        "from lstm_numba.engines.cuda import graph, memory\n"
        "recorder = graph.Recorder()\n"
        "def work():\n"
        "    temporary = memory.zeros((8,), np.int64)\n"
        "    before = memory.address(temporary)\n"
        "    del temporary\n"
        "    constant = memory.constant(np.arange(8))\n"
        "    again = memory.zeros((8,), np.int64)\n"
        "    return before, memory.address(again), memory.address(constant)\n"
        "with recorder.apart():\n"
        "    before, again, constant = recorder.record(work)\n"
        "print(before == again, before == constant)\n"
    )
    assert run(str(script), folder=tmp_path).splitlines() == ["True False"]


def test_recorded_work_is_counted_when_it_is_launched(tmp_path: Path) -> None:
    script = tmp_path / "graph.py"
    script.write_text(
        "import numpy as np\n"
        "from cuda.bindings import driver as binding\n"
        "from numba import cuda\n"
        "from lstm_numba.benchmarks import stand_in\n"
        "from lstm_numba.engines.cuda import memory\n"
        "from lstm_numba.engines.cuda.driver import driver\n"
        "from lstm_numba.engines.cuda.launch import launch, on_stream, stream_handle\n"
        "@cuda.jit\n"
        "def nothing(a):\n"
        "    pass\n"
        "a = memory.upload(np.arange(8.0))\n"
        "launch(nothing, 1, 32, a)\n"
        "with on_stream(cuda.stream()):\n"
        "    relaxed = binding.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED\n"
        "    b = memory.zeros((8,), np.float64)\n"
        "    stand_in.reset()\n"
        "    driver.cuStreamBeginCapture(stream_handle(), relaxed)\n"
        "    launch(nothing, 1, 32, a)\n"
        "    launch(nothing, 2, 32, a)\n"
        "    memory.copied(a)\n"
        "    graph = driver.cuGraphInstantiate(driver.cuStreamEndCapture(stream_handle()), 0)\n"
        "    before = stand_in.counts()\n"
        "    for _ in range(3):\n"
        "        driver.cuGraphLaunch(graph, stream_handle())\n"
        "after = stand_in.counts()\n"
        "print(before['launches'], before['graph_nodes'], before['on_device'])\n"
        "print(after['launches'], after['graph_launches'], after['graph_nodes'], after['kernels'])\n"
    )
    assert run(str(script), folder=tmp_path).splitlines() == ["0 0 0", "0 3 9 {'nothing': 6}"]


def test_without_a_compiler_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stand_in.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(stand_in.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="needs Linux and a C compiler"):
        stand_in.build()


def test_readable_names() -> None:
    assert stand_in.readable("_ZN3abc14forward_kernelB3v10xE") == "forward_kernel"
    assert stand_in.readable("sgemm_largek") == "sgemm_largek"
