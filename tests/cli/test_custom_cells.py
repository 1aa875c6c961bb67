"""``--cell module:Class``: train, resume, commands that use such a run; what is refused, in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from cli_tools import DIGITS, GRAMMAR, call, invoke, one_epoch

from lstm_numba.cells import CELLS
from lstm_numba.training import checkpoint

CELL = "lstm_numba.examples.janet:JANET"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    answer = invoke(DIGITS, "--cell", CELL, "--validation", 0, "--out", folder)
    assert answer.status == 0, answer.err
    return folder


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "grammar"
    answer = invoke(one_epoch(GRAMMAR), "--cell", CELL, "--forget-bias", 1, "--out", folder)
    assert answer.status == 0, answer.err
    return folder


def refused(words: str, *more: object, status: int = 1) -> str:
    """The one line that a call answers with."""
    answer = invoke(words, *more)
    assert (answer.status, answer.out) == (status, ""), answer
    (line,) = answer.err.splitlines()
    return line


def test_evaluate_plot_export_predict_and_sample_take_the_cell(
    digits: Path, grammar: Path, tmp_path: Path
) -> None:
    found = invoke("evaluate --json", digits, "--cell", CELL).json()
    assert found["accuracy"] > 0.2  # of ten classes
    weights = tmp_path / "a.npz"
    assert (
        invoke("export --format npz --json", digits, "--out", weights, "--cell", CELL).json()["cell"] == CELL
    )
    answer = invoke("sample --length 5 --seed 1 --json", grammar, "--cell", CELL)
    assert len(answer.json()["text"].split()) >= 4
    pytest.importorskip("matplotlib")
    files = invoke("plot --json", digits, "--cell", CELL, "--out", tmp_path / "plots").json()["files"]
    assert len(files) == 4


@pytest.mark.parametrize("command", ["evaluate", "plot", "predict", "export", "train digits --resume"])
def test_no_module_is_imported_because_a_file_names_it(command: str, digits: Path, tmp_path: Path) -> None:
    if command == "plot":
        pytest.importorskip("matplotlib")
    rest = {"predict": ("seven.png",), "export": ("--format", "npz", "--out", tmp_path / "a.npz")}
    images = tmp_path / "seven.png"
    if command == "predict":
        Image = pytest.importorskip("PIL.Image")
        pixels = np.zeros((28, 28), np.uint8)
        pixels[4:24, 13:16] = 255
        Image.fromarray(pixels).save(images)
        rest["predict"] = (images,)
    # The module is gone from this process too, so that importing it would be seen.
    kept = {name: CELLS.pop(name) for name in (CELL,)}
    module = sys.modules.pop("lstm_numba.examples.janet")
    try:
        line = refused(command, digits, *rest.get(command, ()))
        assert "lstm_numba.examples.janet" not in sys.modules
    finally:
        CELLS.update(kept)
        sys.modules["lstm_numba.examples.janet"] = module
    assert f"a custom cell whose module must be imported: give --cell {CELL}" in line


def test_another_cell_than_the_runs_is_refused(digits: Path) -> None:
    assert f"is a run of the cell {CELL}" in refused("evaluate --cell lstm", digits)
    assert "--cell other:Cell" in refused("train digits --cell other:Cell --resume", digits)


def test_resuming_gives_the_bits_of_a_run_that_never_stopped(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "halves"
    words = DIGITS.replace("--epochs 2", "--epochs 1 --schedule constant")
    whole = tmp_path / "whole"
    longer = DIGITS.replace("--epochs 2", "--epochs 2 --schedule constant")
    assert invoke(longer, "--cell", CELL, "--out", whole).status == 0
    assert invoke(words, "--cell", CELL, "--out", folder).status == 0
    answer = invoke("train digits --epochs 2 --cell", CELL, "--resume", folder)
    assert answer.status == 0, answer.err
    first, second = (checkpoint.load(run / "checkpoint.safetensors")[0] for run in (whole, folder))
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


def test_equations_that_changed_are_told(digits: Path, tmp_path: Path) -> None:
    config = digits / "config.json"
    before = config.read_text()
    assert CELLS[CELL].digest in before
    config.write_text(before.replace(CELLS[CELL].digest, "0" * 16))
    try:
        answer = invoke("evaluate", digits, "--cell", CELL)
    finally:
        config.write_text(before)
    assert answer.status == 0
    assert f"the equations of {CELL} have changed since" in answer.err
    assert "equations" not in invoke("evaluate", digits, "--cell", CELL).err


@pytest.mark.parametrize(
    ("cell", "text", "status"),
    [
        ("no_such_module_xyz:A", "there is no module no_such_module_xyz", 1),
        ("lstm_numba.examples.janet:Janet", "has no Janet; its cells are JANET", 1),
        ("lstm_numba.examples.janet:BETA", "is not a cell", 1),
        ("janet", "or MODULE:CLASS, a custom cell", 2),
        ("a:", "or MODULE:CLASS, a custom cell", 2),
        ("a b:c", "or MODULE:CLASS, a custom cell", 2),
    ],
)
@pytest.mark.parametrize("command", ["train digits", "bench", "warmup digits"])
def test_cells_that_are_none(command: str, cell: str, text: str, status: int) -> None:
    assert text in refused(command, "--cell", cell, status=status)


def test_a_forget_bias_needs_a_forget_gate(tmp_path: Path) -> None:
    (tmp_path / "own_gateless.py").write_text(
        "class Plain:\n gates, states = ('a', 'g'), ('h',)\n"
        " def forward(self, z, v): return {'h': z.a * v.h + z.g}\n"
    )
    words = ("train", "digits", "--images", "100", "--cell", "own_gateless:Plain", "--forget-bias", "1")
    answer = call(*words, cwd=tmp_path)
    assert answer.status == 2
    assert "--forget-bias: the cell own_gateless:Plain has no gate f" in answer.err
    assert not (tmp_path / "runs").exists()


def test_warmup_and_bench_know_the_cell() -> None:
    (found,) = invoke("warmup digits --json --cell", CELL).json()["warmed"]
    assert found["cell"] == CELL
    (again,) = invoke("warmup digits --json --cell", CELL).json()["warmed"]
    assert again["kernels"] == []
    answer = invoke("bench --repeats 1 --shape 3x4x5x6 --cell", CELL)
    assert answer.status == 0, answer.out + answer.err
    lines = [line for line in answer.out.splitlines() if line.startswith(CELL)]
    assert {line.split()[2] for line in lines} == {"inference", "training", "streaming"}
