"""``experiment toy-grammar`` and ``gradient-flow``: the same numbers again, files, the last line."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cli_tools import invoke

TOY = "experiment toy-grammar --threads 1 --cell rnn --updates 40 --seeds 1 --seed 2"
FLOW = "experiment gradient-flow --threads 1 --cell rnn --gain 1 --hidden 8 --steps 32 --updates 5 --seeds 2"


@pytest.mark.parametrize(
    ("words", "pictures"), [(TOY, ("beliefs", "losses")), (FLOW, ("norms-plain", "rates"))]
)
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


def test_svg_in_fewer_bytes() -> None:
    """Letters stay where they are and keep their size; coordinates lose what is below 0.01 points."""
    style = pytest.importorskip("lstm_numba.plots.style", reason="needs matplotlib")
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(2, 2))
    figure.subplots().plot([0.123, 1], [0.456, 2], label="ab")
    figure.text(0.5, 0.5, "wide text")
    long, short = io.BytesIO(), style.rendered(figure, "svg")
    with pytest.importorskip("matplotlib").rc_context({"svg.hashsalt": "lstm_numba"}):
        figure.savefig(long, format="svg", metadata={"Date": None})
    assert len(short) < 0.9 * len(long.getvalue())
    before, after = numbers(long.getvalue()), numbers(short)
    assert len(before) == len(after) > 200
    assert [name for name, _ in before] == [name for name, _ in after]
    for (_, a), (_, b) in zip(before, after, strict=True):
        assert a == b if abs(a) < 1 else abs(a - b) <= 0.00501  # factors, and coordinates
    assert ElementTree.fromstring(short).tag.endswith("svg")


def numbers(svg: bytes) -> list[tuple[str, float]]:
    """All coordinates, those of letters within a text included, with the factors of transformations."""
    found = []
    for element in ElementTree.fromstring(svg).iter():
        for name in ("d", "x", "y", "transform"):
            each = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", element.get(name, ""))]
            if each and name == "transform" and element.tag.endswith("use"):
                name = "x"  # of a letter, whose y is 0
                assert each.pop() == 0.0
            found += [(name, number) for number in each]
    return found


def test_what_is_refused(tmp_path: Path) -> None:
    answer = invoke("experiment gradient-flow --steps 33", "--out", tmp_path)
    assert answer.status != 0
    assert "steps: expected a multiple of 8, at least 32, got 33" in answer.err
    assert invoke("experiment toy-grammar --threshold 0", "--out", tmp_path).status == 2
