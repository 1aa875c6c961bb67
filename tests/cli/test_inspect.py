"""``lstm-numba inspect`` as a user calls it: every kind of run, files and numbers, what is refused."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import Answer, invoke, make_run
from series_tools import groups, waves

SMALL = "--hidden 6 --batch-size 16 --epochs 1 --json"
#: A run of each kind, as it is trained.
RUNS = {
    "digits": "train digits --images 300 --hidden 6 --batch-size 30 --epochs 1 --cell gru --layers 2 "
    "--bidirectional --seed 3",
    "grammar": "train grammar --tokens 3000 --hidden 6 --batch-size 10 --bptt 12 --epochs 1 --cell gru "
    "--seed 3",
    "forecast": f"train series {{}}/waves.csv --target load --window 5 --horizon 3 {SMALL}",
    "classes": f"train series {{}}/groups.csv --target kind --group id --cell rnn {SMALL}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables, and a small run of each kind."""
    folder = tmp_path_factory.mktemp("inspect")
    waves(folder / "waves.csv")
    groups(folder / "groups.csv")
    for name, words in RUNS.items():
        answer = invoke(words.format(folder), "--out", folder / name)
        assert answer.status == 0, answer.err
    return folder


def refused(answer: Answer, status: int, *fragments: str) -> None:
    """One line of error, and nothing on standard output."""
    assert answer.status == status, answer
    assert answer.out == ""
    line = answer.err.splitlines()[-1]
    assert line.startswith("error: "), answer.err
    for fragment in fragments:
        assert fragment in line, line


def files_of(answer: Answer) -> dict[str, Path]:
    """The files that are said to be written, by name; they are there."""
    found = [Path(file) for file in answer.json()["files"]]
    assert all(path.stat().st_size > 500 for path in found)
    return {path.name: path for path in found}


def pictures(*names: str) -> set[str]:
    """The files of pictures, and the page."""
    return {"index.html", *(f"{name}.{form}" for name in names for form in ("png", "svg"))}


def test_images(folder: Path) -> None:
    answer = invoke("inspect", folder / "digits", "--json")
    found, files = answer.json(), files_of(answer)
    keys = ("l0", "l0_reverse", "l1", "l1_reverse")
    values = [f"values-{key}" for key in keys]
    assert set(files) == pictures(*values, "saturation", "memory", "probabilities")
    assert files["index.html"].parent == folder / "digits" / "inspect"
    assert [layer["name"] for layer in found["layers"]] == list(keys)
    assert found["statistics_of"] == {"sequences": 100, "steps": 2800}
    np.testing.assert_allclose(np.sum(found["probabilities"], axis=1), 1)
    memory = found["layers"][2]["memory"]
    assert memory["kept"] == "z"
    ranked = [memory["time_constants"][unit] for unit in memory["longest_first"]]
    assert ranked == sorted(ranked, reverse=True)


def test_a_picture_is_read_as_by_predict(folder: Path) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:15] = 255
    file = folder / "one.idx"
    file.write_bytes(struct.pack(">IIII", 0x803, 1, 28, 28) + image.tobytes())
    given = f"{file}:0"
    found = invoke("inspect", folder / "digits", given, "--out", folder / "one", "--json").json()
    (known,) = invoke("predict", folder / "digits", given, "--json").json()["predictions"]
    np.testing.assert_allclose(found["probabilities"][-1], known["probabilities"], atol=1e-6)
    assert found["true_class"] is None
    assert found["statistics_of"] == {"sequences": 1, "steps": 28}
    assert found["input"] == given


def test_a_text(folder: Path) -> None:
    answer = invoke("inspect", folder / "grammar", "the farmer sees the lawyer", "--json")
    found = answer.json()
    assert set(files_of(answer)) == pictures("values-l0", "saturation", "memory", "surprise")
    assert found["steps"] == ["the", "farmer", "sees", "the", "lawyer"]
    assert found["surprise_bits"][0] is None
    for step, listed in enumerate(found["likeliest_next"][:-1]):
        assert len(listed) == 5
        known = {entry["token"]: entry["probability"] for entry in listed}
        following = found["steps"][step + 1]
        if following in known:
            bits = found["surprise_bits"][step + 1]
            assert bits == pytest.approx(-math.log2(known[following]))
    page = files_of(answer)["index.html"].read_text(encoding="utf-8")
    assert "<li>lawyer</li>" in page


def test_what_the_terminal_says(folder: Path) -> None:
    answer = invoke("inspect", folder / "grammar", "--out", folder / "said")
    lines = answer.out.splitlines()
    assert lines[0].startswith("gru, 1 layer of 6 units; the beginning of the test text, ")
    assert any(line.startswith("layer 1: z keeps ") for line in lines)
    assert any(line.startswith("surprise: ") for line in lines)
    assert Path(lines[-1]).exists()


def test_a_forecast(folder: Path) -> None:
    table = folder / "waves.csv"
    answer = invoke("inspect", folder / "forecast", f"{table}:100", "--out", folder / "w", "--json")
    found = answer.json()
    assert set(files_of(answer)) == pictures("values-l0", "saturation", "memory", "forecast")
    assert found["steps"] == [f"row {n}" for n in range(96, 101)]
    assert found["forecast"] is True
    last = invoke("inspect", folder / "forecast", table, "--out", folder / "w2", "--json").json()
    rows = invoke("predict", folder / "forecast", table, "--json").json()["predictions"]
    np.testing.assert_allclose(last["values"], [[float(row["load"])] for row in rows], rtol=1e-6)


def test_a_cell_without_gates(folder: Path) -> None:
    answer = invoke("inspect", folder / "classes", "--json")
    found = answer.json()
    assert set(files_of(answer)) == pictures("values-l0", "probabilities")
    assert found["layers"] == [{"name": "l0", "gates": {}, "memory": None}]
    assert found["true_class"] in ("up", "down")


def test_the_same_call_writes_the_same(folder: Path) -> None:
    for out in ("a", "b"):
        assert invoke("inspect", folder / "grammar", "the farmer", "--out", folder / out).status == 0
    for path in sorted((folder / "a").iterdir()):
        assert path.read_bytes() == (folder / "b" / path.name).read_bytes(), path.name


def test_names_are_text_on_the_page(folder: Path) -> None:
    """A run's name, and the name of a table, are what a user makes them."""
    odd = folder / "<img src=x onerror=alert(1)>"
    odd.mkdir()
    for path in (folder / "forecast").iterdir():
        if path.is_file():
            (odd / path.name).write_bytes(path.read_bytes())
    table = waves(folder / "<script>.csv")
    answer = invoke("inspect", odd, table, "--out", folder / "odd", "--json")
    page = files_of(answer)["index.html"].read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<img src=x" not in page
    assert page.count("<script") == 2


@pytest.mark.parametrize(
    ("run", "given", "status", "fragments"),
    [
        ("grammar", "the qwertz", 1, ["word 'qwertz'", "vocabulary"]),
        ("grammar", "", 1, ["text is empty"]),
        ("digits", "nowhere.png", 1, ["nowhere.png"]),
        ("forecast", "nowhere.csv", 1, ["nowhere.csv"]),
        ("forecast", "{}/waves.csv:9999", 1, ["no row 9999", "2 to 201"]),
        ("forecast", "{}/waves.csv:3", 1, ["2 rows up to row 3", "windows of 5"]),
        ("forecast", "{}/groups.csv", 1, ["groups.csv", "load"]),
        ("nowhere", "x", 1, ["nowhere"]),
    ],
)
def test_inputs_that_are_none(
    folder: Path, run: str, given: str, status: int, fragments: list[str], tmp_path: Path
) -> None:
    answer = invoke("inspect", folder / run, given.format(folder), "--out", tmp_path / "out")
    refused(answer, status, *fragments)
    assert not (tmp_path / "out").exists()


def test_other_refusals(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(invoke("inspect"), 2, "RUN")
    refused(invoke("inspect", folder / "digits", "a", "b"), 2, "b")
    refused(invoke("inspect", folder / "grammar", "--cell", "lstm"), 1, "run of the cell gru")
    refused(invoke("inspect", make_run(tmp_path / "new", "digits")), 1, "checkpoint.safetensors")
    (tmp_path / "file").write_text("x")
    refused(invoke("inspect", folder / "grammar", "--out", tmp_path / "file"), 2, "file")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    refused(invoke("inspect", folder / "grammar"), 1, "inspect needs matplotlib", "lstm_numba[plot]")


def test_json_is_one_line_that_any_reader_takes(folder: Path) -> None:
    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    answer = invoke("inspect", folder / "classes", "--out", folder / "j", "--json")
    (line,) = answer.out.splitlines()
    json.loads(line, parse_constant=refuse)
