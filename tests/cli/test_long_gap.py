"""``lstm-numba experiment long-gap``: its output, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_tools import invoke

from lstm_numba.cli.experiments import long_gap as command
from lstm_numba.data import gap_tasks
from lstm_numba.experiments import long_gap

TASKS = "--task reber --task copy --gap 5 --gap 8"
SMALL = f"experiment long-gap --cell rnn {TASKS} --seeds 2 --updates 50 --hidden 8"


@pytest.mark.smoke
def test_the_command_knows_what_there_is() -> None:
    assert command.CELLS == long_gap.CELLS
    assert command.GAPS == long_gap.GAPS
    assert tuple(gap_tasks.TASKS) == command.TASKS
    assert (command.LEAST, command.MOST) == (gap_tasks.LEAST, gap_tasks.MOST)


def test_table_json_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shown = invoke(f"{SMALL} --out {tmp_path}")
    document = invoke(f"{SMALL} --out {tmp_path} --json").json()
    lines = shown.out.splitlines()
    assert lines[0].split() == ["cell", "task", "bridged", "gap", "5", "gap", "8", "updates"]
    for line, row in zip(lines[1:4], document["rows"], strict=True):
        words: list[Any] = line.split()
        assert words[:3] == [row["cell"], row["task"], str(row["bridged"])]
        share = row["gap 5"]
        assert float(words[3]) == pytest.approx(share, abs=1e-4)
    assert lines[-1].startswith("the claim did not hold: RNNs cannot bridge a growing gap")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"long-gap{name}.{form}" for name in ("", "-curves", "-updates") for form in ("png", "svg")
    )
    assert document["settings"]["gaps"] == [5, 8]


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--gap 4", "'4' is not a whole number"),
        ("--gap ten", "'ten'"),
        ("--task sums", "'sums' is not one of adding, order, reber, copy"),
        ("--cell elman", "'elman' is not one of rnn, rnn-relu, lstm"),
        ("--hidden 15", "15 is not a multiple of 4"),
        ("--seeds 0", "'0'"),
    ],
)
def test_refusals(words: str, text: str) -> None:
    answer = invoke(f"experiment long-gap {words}")
    assert answer.status == 2
    assert answer.out == ""
    assert text in answer.err.splitlines()[-1]
