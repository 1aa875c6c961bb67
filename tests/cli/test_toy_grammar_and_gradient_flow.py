"""``experiment toy-grammar`` and ``gradient-flow``: the same numbers again, files, the last line."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_tools import invoke

TOY = "experiment toy-grammar --threads 1 --cells rnn --updates 40 --seeds 1 --seed 2"
FLOW = "experiment gradient-flow --threads 1 --cells rnn --gain 1 --hidden 8 --steps 32 --updates 5 --seeds 2"


@pytest.mark.parametrize(("words", "pictures"), [(TOY, ("beliefs", "losses")), (FLOW, ("norms", "rates"))])
def test_command(words: str, pictures: tuple[str, ...], tmp_path: Path) -> None:
    first = invoke(words, "--json", "--out", tmp_path).json()
    again = invoke(words, "--json", "--out", tmp_path).json()
    assert again == first
    other = invoke(f"{words.replace(' --seed 2', '')} --seed 3", "--json", "--out", tmp_path).json()
    assert other["rows"] != first["rows"]
    if first["files"]:  # with matplotlib
        assert {Path(name).name for name in first["files"]} == {
            f"{name}.{form}" for name in pictures for form in ("png", "svg")
        }
        for name in first["files"]:
            assert Path(name).stat().st_size < (60_000 if name.endswith("svg") else 400_000)
    text = invoke(words, "--out", tmp_path)
    last = text.out.splitlines()[-1]
    claim = first["claims"][-1]
    assert last.startswith(f"the claim {'held' if claim['held'] else 'did not hold'}: {claim['text']} (")
    assert claim["because"] in last


def test_what_is_refused(tmp_path: Path) -> None:
    answer = invoke("experiment gradient-flow --steps 33", "--out", tmp_path)
    assert answer.status != 0
    assert "steps: expected a multiple of 8, at least 32, got 33" in answer.err
    assert invoke("experiment toy-grammar --threshold 0", "--out", tmp_path).status == 2
