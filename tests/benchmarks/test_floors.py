"""The page of the benchmarks: its tables are what the code and the measurements give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from repository import ROOT

from lstm_numba.benchmarks.gpu.shapes import SIX

pytest.importorskip("numba_cuda", reason="could not import numba_cuda")
from lstm_numba.benchmarks.gpu import floors
from lstm_numba.engines.cuda.persistent_layout import layouts

pytestmark = pytest.mark.gpu
FOLDER = ROOT / "benchmarks"
CELLS = ("lstm", "gru", "peephole", "rnn")


def test_the_page_is_what_the_code_says() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"<!-- floors {cell} -->\n| batch" in text for cell in CELLS)
    assert floors.with_tables(text, FOLDER / "results" / "h100") == text


def test_floors_by_hand() -> None:
    """An LSTM of 650 units and 20 rows: 41 x 3 blocks, 7 rows, which are 8 of an operand."""
    work = floors.problem("lstm", SIX["ptb-medium"], False)
    layout = layouts(work, floors.H100, floors.THREADS)[0]._replace(grid=(41, 3))
    layout = layout._replace(sizes={"unit_tiles": 41, "row_tiles": 3}, tile=type("Tile", (), {"rows": 7}))
    found = floors.floors(work, layout, {16: 0.5, 66: 0.9, 132: 1.1})
    weights = 4 * 650 * 650
    assert found.arithmetic == pytest.approx(20 * weights / 29.6e6)
    assert found.weights == pytest.approx(4 * weights / 5.5e6)
    assert found.operand == pytest.approx(4 * 650 * 8 * 123 / 5.5e6)
    assert found.barrier == 0.9
    twice = floors.floors(work, layout._replace(sizes={"unit_tiles": 41, "row_tiles": 6}), {66: 0.9})
    assert twice == (found.arithmetic, found.weights, 2 * found.operand, 1.8)
    wide = floors.floors(work, layout._replace(sizes={"unit_tiles": 82, "row_tiles": 3}), {66: 0.9})
    assert wide == (found.arithmetic, found.weights, 2 * found.operand, 0.9)
    backward = floors.floors(work._replace(backward=True), layout, {66: 0.9})
    assert backward == pytest.approx((*found[:2], 4 * found.operand, 0.9))
    alone = layout._replace(grid=(1, 3), sizes={"unit_tiles": 1, "row_tiles": 3})
    assert floors.floors(work, alone, {66: 0.9}).barrier == 0


def test_measured_times_are_of_the_files(tmp_path: Path) -> None:
    lines = [{"kind": "barrier", "blocks": 4, "us": us} for us in (0.8, 0.7)]
    for shape in SIX:
        facts = {"cell": "lstm", "shape": shape}
        for task, ours, cudnn in (("inference", 100.0, 200.0), ("training", 250.0, 600.0)):
            kernels = {"forward_kernel": [1, 70.0], "backward_kernel": [1, 90.0]}
            waited = {"waited": task == "inference"}
            lines += [
                {**facts, "kind": "by kernel", "task": task, "kernels": kernels},
                {**facts, "kind": "kernels", "task": task, "device_us": ours, "waited": True},
                {**facts, "kind": "cudnn", "task": task, "tf32": False, "device_us": cudnn, **waited},
                {**facts, "kind": "cudnn", "task": task, "tf32": True, "device_us": 1.0, **waited},
                {**facts, "kind": "kernels", "task": task, "cell": "gru", "device_us": 1.0, "waited": True},
            ]
    (tmp_path / "on_gpu_4.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert floors.barriers(tmp_path) == {4: 0.7}
    found, steps = floors.measured("lstm", tmp_path), SIX["mnist"].steps
    assert found["mnist", "forward"] == pytest.approx((70 / steps, 100 / steps, 200 / steps, True))
    assert found["mnist", "backward"] == pytest.approx((90 / steps, 150 / steps, 400 / steps, False))
    assert len(found) == 12
    assert floors.measured("rnn", tmp_path) == {}
