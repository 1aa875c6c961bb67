"""`train images`, and what the other commands do with its runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_tools import invoke
from picture_tools import SIZE, draw, draw_classes, save

from lstm_numba.data.idx import write_idx

COUNTS = {"a $ sign": 8, "fox": 8, "hen": 8}
TRAIN = "train images --cell rnn --hidden 8 --epochs 1 --batch-size 8 --lr 0.01"


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images; one of another size and a file that is none."""
    folder = draw_classes(tmp_path_factory.mktemp("animals"), COUNTS)
    save(folder / "hen" / "wide.png", np.full((3, 9), 128, np.uint8))
    (folder / "hen" / "notes.txt").write_text("x")
    return folder


@pytest.fixture(scope="module")
def run(animals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier."""
    folder = tmp_path_factory.mktemp("own") / "run"
    answer = invoke(TRAIN.replace("--epochs 1", "--epochs 12"), animals, "--out", folder)
    assert answer.status == 0, answer.err
    lines = answer.err.splitlines()
    assert "3 classes (a $ sign, fox, hen): 22 training images, 3 test images" in lines
    size = "images of 6x5 pixels (height x width), the most frequent size; 1 of 25 are scaled to it"
    assert size in lines
    assert any(line.startswith("ignored ") and line.endswith(": hen/notes.txt") for line in lines)
    return folder


def test_it_learns(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "epoch" and line["split"] == "train"]
    assert losses[-1] < 0.7 * losses[0]
    config = json.loads((run / "config.json").read_text())
    wanted = {"view": "rows", "size": None, "colour": False, "test": None, "split_seed": 0}
    assert {name: config["data"][name] for name in wanted} == wanted


def test_evaluate_and_resume(run: Path, animals: Path) -> None:
    result = invoke("evaluate", run, "--json").json()
    assert result["count"] == 3
    assert invoke("train images --resume", run, "--json").json()["loss"] == result["loss"]
    assert invoke("train images --json --resume", run, animals).json()["loss"] == result["loss"]
    other = invoke("train images --resume", run, animals / "fox")
    assert other.status == 2
    assert f"was trained on {animals}, not on" in other.err


def test_predict(run: Path, tmp_path: Path) -> None:
    pixels = draw(1, 200)
    plain = save(tmp_path / "plain.png", pixels)
    large = save(tmp_path / "large.png", np.kron(np.full((4, 4), 1, np.uint8), pixels))
    light = save(tmp_path / "negative.png", 255 - pixels)
    write_idx(tmp_path / "some.idx", np.stack([draw(0, 9), pixels]))
    words = [plain, large, f"{tmp_path / 'some.idx'}:1"]
    answer = invoke("predict", run, *words, "--json")
    found = answer.json()
    assert found["classes"] == list(COUNTS)
    first, scaled, third = (entry["probabilities"] for entry in found["predictions"])
    assert len(first) == 3
    assert sum(first) == pytest.approx(1)
    assert third == first != scaled
    assert [line for line in answer.err.splitlines() if "png" in line] == [
        f"{large}: scaled from 24x20 to 6x5 (height x width)"
    ]
    inverted = invoke("predict", run, light, "--invert", "--json").json()["predictions"][0]
    assert inverted["probabilities"] == first
    assert invoke("predict", run, light, "--json").json()["predictions"][0]["probabilities"] != first
    best = found["classes"][found["predictions"][0]["class"]]
    text = invoke("predict", run, plain).out
    assert text.startswith(f"{plain}: {best}  ({best} {100 * max(first):.2f} %")


def test_predict_refuses(run: Path, tmp_path: Path) -> None:
    write_idx(tmp_path / "labels", np.arange(3, dtype=np.uint8))
    answer = invoke("predict", run, f"{tmp_path / 'labels'}:0")
    assert answer.status == 1
    assert answer.err.splitlines() == [
        f"error: {tmp_path / 'labels'}: holds 3 numbers, expected images: N x height x width"
    ]


def test_colours_and_other_views(animals: Path, tmp_path: Path) -> None:
    words = ("--colour", "--size", "4x3", "--view", "permuted", "--validation", "4", "--bidirectional")
    answer = invoke(TRAIN, animals, *words, "--out", tmp_path / "run", "--json")
    assert set(answer.json()["evaluations"]) == {"valid", "test"}
    form = json.loads((tmp_path / "run" / "classes.json").read_text())
    assert form["shape"] == [4, 3, 3]
    write_idx(tmp_path / "grey", np.full((1, *SIZE), 50, np.uint8))
    colour = save(tmp_path / "grey.png", np.full((*SIZE, 3), 50, np.uint8))
    both = invoke("predict", tmp_path / "run", f"{tmp_path / 'grey'}:0", colour, "--json").json()
    first, second = (entry["probabilities"] for entry in both["predictions"])
    assert first == second


def test_plot_export_and_import(run: Path, tmp_path: Path) -> None:
    assert invoke("export", run, "--format", "torch", "--out", tmp_path / "w.safetensors").status == 0
    answer = invoke("import", tmp_path / "w.safetensors", "--run", run, "--out", tmp_path / "again")
    assert answer.status == 0, answer.err
    result = invoke("evaluate", tmp_path / "again", "--json").json()
    assert result == invoke("evaluate", run, "--json").json()
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    files = invoke("plot", run, "--out", tmp_path, "--json").json()["files"]
    assert any(file.endswith("confusion-matrix.svg") for file in files)


@pytest.mark.parametrize("count", [2, 10, 31, 61])
def test_a_confusion_matrix_of_any_number_of_classes(count: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from lstm_numba.cli import run_plots
    from lstm_numba.plots.style import save

    names = [f"${k}$\n" if k % 2 else f"class number {k}" for k in range(count)]
    matrix = np.arange(count * count).reshape(count, count)
    figure = run_plots.confusion_matrix(matrix, names, "animals-1")
    assert figure.get_suptitle().startswith("animals-1: ")
    save(figure, tmp_path / "m")
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    if count <= 60:
        assert labels[:2] == ["class number 0", r"\$1\$\n"]
        assert len(labels) == count
    assert len(axes.texts) == (count * count - 1 if count <= 30 else 0)


# -- faults ------------------------------------------------------------------------------------------


def test_faults_are_one_line(animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "one", {"a": 3})
    draw_classes(tmp_path / "few", {"a": 3, "b": 1})
    draw_classes(tmp_path / "damaged", {"a": 3, "b": 3})
    (tmp_path / "damaged" / "b" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    there = {path.name for path in tmp_path.iterdir()}
    for status, words, fragment in (
        (2, ["train images"], "Missing argument 'PATH': the folder of images to train on"),
        (1, ["train images", "nowhere"], "nowhere: no such folder"),
        (1, ["train images", "one"], "one class only, a"),
        (1, ["train images", "few"], "class b has one image"),
        (1, ["train images", "damaged"], "x.png: "),
        (2, ["train images", animals, "--size", "28"], "--size: expected height x width in pixels"),
        (2, ["train images", animals, "--size", "-1x5"], "--size: expected"),
        (2, ["train images", animals, "--test", "1"], "--test"),
        (2, ["train images", animals, "--tie"], "--tie is an option of ptb"),
        (2, ["train mnist", "--colour"], "--colour is an option of images"),
        (1, ["train images", animals, "--validation", "22"], "validation: expected 1 to 21 of the 22 images"),
        (1, ["train images", animals, "--size", "99999x99999"], "too large: 1 x 99999 x 99999"),
        (1, ["train images", animals, "--hidden", "2000000000"], "GiB of memory"),
        # Only the steps are too many, which the size says.
        (1, ["train images --size 99999x1 --batch-size 1000 --hidden 4000 --cell rnn", animals], "memory"),
    ):
        answer = invoke(str(words[0]), *words[1:])
        errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
        assert (answer.status, len(errors), answer.out) == (status, 1, ""), (words, answer.err)
        assert fragment in errors[0]
    assert {path.name for path in tmp_path.iterdir()} == there
