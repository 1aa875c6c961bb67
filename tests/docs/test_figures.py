"""Tables of figures are those of the result files."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import pytest
from repository import ROOT

from lstm_numba.benchmarks import figures
from lstm_numba.cells import find_cell

FOLDERS = sorted({path.parent for path in (ROOT / "benchmarks/results").glob("*/layers.json")})
PAGES = sorted({*FOLDERS, *(path.parent for path in (ROOT / "benchmarks/results").glob("*/own-data.json"))})


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.name)
def test_a_folders_page_is_of_its_files(folder: Path) -> None:
    assert (folder / "README.md").read_text() == figures.page(folder)


def test_the_readmes_tables_are_of_the_files() -> None:
    text = (ROOT / "README.md").read_text()
    assert "<!-- figures benchmarks/results/" in text
    assert figures.with_tables(text, ROOT) == text


def test_a_table_says_what_the_file_says(tmp_path: Path) -> None:
    document = json.loads((FOLDERS[0] / "layers.json").read_text())
    before = figures.peers_table(document)
    row = next(row for row in document["rows"] if row["cell"] == "lstm" and "pytorch" in row["ratios"])
    changed = copy.deepcopy(document)
    index = document["rows"].index(row)
    changed["rows"][index]["ratios"]["pytorch"] = 0.123
    after = figures.peers_table(changed)
    assert any("**0.12**" in line for line in after)
    assert before != after


def test_the_share_says_what_is_left_to_gain() -> None:
    row = {
        "cell": "lstm", "task": "training", "shape": {"name": "mnist"}, "share": 0.8,
        "ratios": {"pytorch": 1.2, "onnxruntime": 2.0},
        "contestants": {"cpu-parallel": {"median": 0.004}, "pytorch": {"median": 0.0048}},
    }  # fmt: skip
    alone = {**row, "ratios": {}}
    lines = figures.share_table({"rows": [row, alone]})
    assert lines[-2] == "| LSTM | training | mnist |  | 4 | 4.8 |  | 80% | 1.50 |"
    assert lines[-1].endswith("| 80% |  |")


def test_every_section_can_be_measured() -> None:
    """Its program takes the words that it is given."""
    for name, section in figures.SECTIONS.items():
        programs = ("jit_step", "layer_options", "clockwork", "epochs", "own_data")
        assert section.module in ("lstm_numba", *(f"lstm_numba.benchmarks.{program}" for program in programs))
        assert section.title, name
        for option, value in itertools.pairwise(section.words):
            if option in ("--cell", "--other"):
                assert find_cell(value) is not None, name


def test_epochs_are_named_by_their_training() -> None:
    document = {
        "command": "python benchmarks/epochs.py ptb --preset small --epochs 1 --rounds 1 --json x.json",
        "seconds": {"lstm_numba": [100.0, 90.0, 110.0], "pytorch": [200.0]},
    }
    table = figures.epochs_table(document)
    assert (
        table[-1]
        == "| `lstm-numba train ptb --preset small` | 100.00 (90.00 to 110.00) | 200.00 (200.00 to 200.00) |"
    )
