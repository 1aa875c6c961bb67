"""The parts of a run folder belong together, hold numbers and are what they should be, or are named."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import Answer, invoke
from training_tools import few_digits, small_config, train

import lstm_numba as ln
from lstm_numba.data import digits
from lstm_numba.errors import CheckpointError, WeightsError
from lstm_numba.training import checkpoint
from lstm_numba.training.run import Run
from lstm_numba.training.run_consistency import check_belongs, check_described
from lstm_numba.training.settings import SETTINGS
from lstm_numba.training.tasks import open_task

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of both kinds, trained for an epoch."""
    folder = tmp_path_factory.mktemp("belongs")
    for kind in ("images", "text"):
        train(folder / kind, small_config(kind, folder, epochs=1, threads=1))
    return {kind: folder / kind for kind in ("images", "text")}


@pytest.fixture
def run(made: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Copies of them to spoil."""
    return {kind: Path(shutil.copytree(folder, tmp_path / kind)) for kind, folder in made.items()}


def edit(path: Path, change: Change) -> None:
    """Change a file of JSON."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def forge(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Change a checkpoint, with the right checksum."""
    for path in folder.glob("*.safetensors"):
        tensors, meta = checkpoint.load(path)
        tensors = {name: array.copy() for name, array in tensors.items()}
        change(tensors, meta)
        checkpoint.save(path, tensors, meta)


def commands(folder: Path, kind: str) -> Iterator[Answer]:
    """What every command that uses the run answers."""
    dataset = {"images": "digits"}.get(kind, kind)
    yield invoke("evaluate", folder)
    yield invoke("evaluate", folder, "--checkpoint", "best")
    yield invoke("train", dataset, "--resume", folder)
    yield invoke("export", folder, "--format", "npz", "--out", folder / "out.npz")
    if kind == "text":
        yield invoke("sample", folder, "--length", "5")
    else:
        (folder / "image").write_bytes(b"\0\0\x08\x03\0\0\0\x01\0\0\0\x1c\0\0\0\x1c" + bytes(784))
        yield invoke("predict", folder, f"{folder / 'image'}:0")


def refused_everywhere(folder: Path, kind: str, *fragments: str) -> None:
    """All of them refuse in one line that has these texts, and write nothing."""
    before = (folder / "metrics.jsonl").read_bytes()
    for answer in commands(folder, kind):
        assert answer.status == 1, answer
        assert answer.out == ""
        line = answer.err.splitlines()[-1]
        assert line.startswith("error: ")
        for fragment in fragments:
            assert fragment in line, line
    assert not (folder / "out.npz").exists()
    assert (folder / "metrics.jsonl").read_bytes() == before


# -- parts of different runs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change", "name"),
    [
        ("images", lambda c: c.update(cell="lstm,f=HardSigmoid"), "cell"),
        ("images", lambda c: c.update(cell="peephole"), "cell"),
        ("images", lambda c: c.update(seed=5), "seed"),
        ("images", lambda c: c.update(lr=0.5), "lr"),
        ("images", lambda c: c["data"].pop("view"), "data.view"),
        ("images", lambda c: c["data"].update(count=150), "data.count"),
        ("text", lambda c: c.update(tie=False), "tie"),
        ("text", lambda c: c.update(bptt=10), "bptt"),
    ],
)
def test_settings_of_another_run(run: dict[str, Path], kind: str, change: Change, name: str) -> None:
    edit(run[kind] / "config.json", change)
    refused_everywhere(run[kind], kind, "safetensors: does not fit config.json", f"with {name} ")


@pytest.mark.parametrize(
    ("cell", "other"), [("rnn", "rnn-relu"), ("gru", "gru-reset-before"), ("lstm", "lstm,f=HardSigmoid")]
)
@pytest.mark.parametrize("described", ["settings", "model"])
def test_cells_of_the_same_shapes(made: dict[str, Path], cell: str, other: str, described: str) -> None:
    """The issue's three pairs; nothing is computed. Runs of before have the model's description only."""
    folder = made["images"]
    _, meta = checkpoint.load(folder / "checkpoint.safetensors")
    meta = {**meta, "settings": {**meta["settings"], "cell": cell}, "model": {**meta["model"], "cell": cell}}
    if described == "model":
        del meta["settings"]
    opened = Run.open(folder)

    def check(name: str) -> None:
        opened.config["cell"] = name
        check_belongs(opened, opened.checkpoint_path, meta)
        check_described(opened, opened.checkpoint_path, meta, {**meta["model"], "cell": name})

    check(cell)
    with pytest.raises(CheckpointError, match=f'trained with cell "{cell}", not with "{other}"'):
        check(other)


def test_what_may_change(run: dict[str, Path]) -> None:
    """Where, how long, how often: none of it makes another run."""
    config = run["text"] / "config.json"
    before = invoke("evaluate", run["text"], "--json").json()
    text = Path(json.loads(config.read_text())["data"]["file"])
    moved = Path(shutil.copy(text, run["text"].parent / "moved.txt"))

    def change(c: dict[str, Any]) -> None:
        c.update(epochs=2, threads=1, checkpoint_every=5.0, version="0.0.1", preset=None)
        c["data"]["file"] = str(moved)

    edit(config, change)
    assert invoke("evaluate", run["text"], "--json").json() == before
    assert invoke("train text --resume", run["text"]).status == 0


def test_another_vocabulary(run: dict[str, Path]) -> None:
    edit(run["text"] / "vocabulary.json", lambda v: v["tokens"].reverse())
    refused_everywhere(run["text"], "text", "safetensors: does not fit vocabulary.json")


def test_another_checkpoint(run: dict[str, Path], tmp_path: Path) -> None:
    train(tmp_path / "other", small_config("images", tmp_path, epochs=1, seed=7, threads=1))
    for name in ("checkpoint", "best"):
        shutil.copy(tmp_path / "other" / f"{name}.safetensors", run["images"])
    refused_everywhere(run["images"], "images", "does not fit config.json", "with seed 7, not with 0")


def test_runs_of_before(run: dict[str, Path], tmp_path: Path) -> None:
    """Their checkpoints hold neither settings nor digest nor best epoch: used, checked as far as can be."""

    def old(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        for name in ("settings", "vocabulary", "best", "start"):
            del meta[name]

    for kind, folder in run.items():
        forge(folder, old)
        (folder / "best.safetensors").unlink()
        assert [a.status for a in commands(folder, kind)] == [0, 1, 0, 0, 0]  # there is no best one
        refused = invoke("evaluate", folder, "--checkpoint", "best").err.strip()
        assert refused.endswith("the checkpoint does not exist")
        dataset = {"images": "digits"}.get(kind, kind)
        result = invoke("train", dataset, "--resume", folder, "--epochs", "2", "--json").json()
        assert result["best"]["epoch"] == 2
        assert not result["diverged"]
    forge(run["images"], old)
    (run["images"] / "out.npz").unlink()
    edit(run["images"] / "config.json", lambda c: c.update(dropout=0.1))
    refused_everywhere(run["images"], "images", "does not fit config.json", "dropout 0.3, not with 0.1")


def test_a_run_of_a_version_without_a_setting(run: dict[str, Path]) -> None:
    """It was trained with the setting's default."""
    folder, later = run["images"], [name for name, setting in SETTINGS.items() if setting.later]

    def old(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        for name in later:  # not all are the model's, or bind the run
            meta["settings"].pop(name, None)
            meta["model"].pop(name, None)

    forge(folder, old)
    edit(folder / "config.json", lambda c: c.update(weight_drop=0.5))
    refused_everywhere(folder, "images", "does not fit config.json", "weight_drop 0.0, not with 0.5")
    edit(folder / "config.json", lambda c: [c.pop(name) for name in later])
    assert [answer.status for answer in commands(folder, "images")] == [0] * 5
    assert invoke("train", "digits", "--resume", folder, "--epochs", "2").status == 0
    config = json.loads((folder / "config.json").read_text())
    assert (config["epochs"], config["weight_drop"], config["init"]) == (2, 0.0, "uniform")


# -- numbers that are none ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["model.output.bias", "optimizer.momentum.rnn.weight_hh_l1"])
def test_checkpoints_that_are_not_finite(run: dict[str, Path], value: float, name: str) -> None:
    forge(run["text"], lambda tensors, _: tensors[name].reshape(-1).__setitem__(-1, value))
    refused_everywhere(run["text"], "text", "safetensors", f"{name}: holds numbers that are not finite")


def test_weights_that_are_not_finite(run: dict[str, Path], tmp_path: Path) -> None:
    layer = ln.LSTM(28, 6, num_layers=2, seed=0)
    layer.params["bias_hh_l1"][3] = np.nan
    for path in (tmp_path / "w.npz", tmp_path / "w.safetensors"):
        ln.save_weights(layer, path)
        with pytest.raises(WeightsError, match=r"w\.\w+: bias_hh_l1: holds numbers that are not finite"):
            ln.load_weights(path)
        for more in ([], ["--run", run["images"]]):
            answer = invoke("import", path, "--out", tmp_path / "new.npz", *more)
            assert answer.status == 1
            assert "bias_hh_l1: holds numbers that are not finite" in answer.err
            assert not (tmp_path / "new.npz").exists()
    ln.save_keras(layer, tmp_path / "k.npz")
    with pytest.raises(WeightsError, match="finite"):
        ln.load_keras(tmp_path / "k.npz")
    pytest.importorskip("onnx", reason="needs onnx")
    ln.save_onnx(layer, tmp_path / "w.onnx")
    with pytest.raises(WeightsError, match="finite"):
        ln.load_onnx(tmp_path / "w.onnx")


def test_weights_whose_results_are_no_numbers(run: dict[str, Path]) -> None:
    """Finite, but their sums are not: no class, no loss and no text."""

    def huge(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        for name in tensors:
            if (name.startswith("model.") and "output" in name) or "embedding" in name:
                tensors[name][...] = 3e38 * np.sign(tensors[name])

    for kind, words in (("images", ("evaluate", "predict")), ("text", ("evaluate", "sample"))):
        forge(run[kind], huge)
        answers = [a for a in commands(run[kind], kind) if "too large" in a.err]
        assert len(answers) == 3, words  # evaluate twice
        assert all(answer.status == 1 for answer in answers)


# -- files that are something else -------------------------------------------------------------------

BRACKETS = "[" * 200_000 + "]" * 200_000
LINE = {"kind": "epoch", "split": "train", "step": 1, "epoch": 1, "loss": 1.0, "accuracy": 0.5, "lr": 0.1}


@pytest.mark.parametrize(
    ("file", "content", "fragments"),
    [
        ("config.json", BRACKETS, ["damaged"]),
        ("config.json", "[1]", ["expected an object, got [1]"]),
        ("config.json", {"lr": 10**400}, ["lr: expected a number above 0, got 1000"]),
        ("config.json", {"lr": -(10**400)}, ["lr: expected a number above 0"]),
        ("config.json", {"hidden": 10**400}, ["hidden: expected a whole number from 1 to"]),
        (
            "config.json",
            {"init_range": 1e308},
            ["init_range: expected a number above 0 to 1e+30, got 1e+308"],
        ),
        ("config.json", {"seed": 2**64}, ["seed: expected"]),
        ("config.json", {"cell": ["lstm"]}, ["cell: expected"]),
        ("config.json", {"data": {"view": ["rows"]}}, ["data.view: expected one of rows, pixels, permuted"]),
        ("config.json", {"data": {"count": "200"}}, ["data.count: expected a whole number"]),
        ("config.json", {"data": {"seed": None}}, ["data.seed: expected"]),
        ("config.json", {"data": []}, ["data: expected an object, got []"]),
        ("metrics.jsonl", "[1]\n", ["line 1: expected an object, got [1]"]),
        ("metrics.jsonl", f"{json.dumps(LINE)}\n{BRACKETS}\n", ["line 2: "]),
        ("metrics.jsonl", {"epoch": "1"}, ['line 1: epoch: expected a whole number from 0, got "1"']),
        ("metrics.jsonl", {"loss": 10**400}, ["line 1: loss: expected a number, got 1000"]),
        ("metrics.jsonl", {"loss": []}, ["line 1: loss: expected a number, got []"]),
        ("metrics.jsonl", {"split": {}}, ["line 1: split: expected"]),
        ("metrics.jsonl", {"kind": 3}, ["line 1: kind: expected step, epoch, averaging or final, got 3"]),
        ("vocabulary.json", {"tokens": [["a"], "b"]}, ['tokens: expected texts, got ["a"]']),
        ("vocabulary.json", {"tokens": ["a", "a"]}, ["tokens: one appears twice"]),
        ("vocabulary.json", {"tokens": []}, ["expected level and tokens"]),
        ("vocabulary.json", {"level": ["char"]}, ["expected level and tokens"]),
        ("vocabulary.json", BRACKETS, ["damaged"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else str(value)[:40],
)
def test_file_and_field_are_named(
    run: dict[str, Path], file: str, content: Any, fragments: list[str]
) -> None:
    folder = run["text"] if file == "vocabulary.json" else run["images"]
    path = folder / file
    if isinstance(content, dict):
        before = LINE if file == "metrics.jsonl" else json.loads(path.read_text(encoding="utf-8"))
        data = (
            {"data": {**before["data"], **content["data"]}} if isinstance(content.get("data"), dict) else {}
        )
        content = json.dumps({**before, **content, **data}) + "\n"
    path.write_text(content, encoding="utf-8")
    command = {"metrics.jsonl": "plot", "vocabulary.json": "sample"}.get(file, "evaluate")
    if command == "plot":
        pytest.importorskip("matplotlib", reason="needs matplotlib")
    answer = invoke(command, folder)
    assert answer.status == 1
    (line,) = answer.err.splitlines()
    assert line.startswith(f"error: {path}: ")
    assert "LSTM_NUMBA_DEBUG" not in line
    assert len(line) < 400 + len(str(path))
    for fragment in fragments:
        assert fragment in line


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(epoch=-1),
        lambda m: m.update(step="x"),
        lambda m: m.update(lines=1e400),
        lambda m: m.update(sums=[1]),
        lambda m: m.update(rng=[]),
        lambda m: m.update(train=None),
        lambda m: m.update(evaluations=[1]),
        lambda m: m["train"].update(loss="x"),
        lambda m: m.update(best=[1]),
        lambda m: m.pop("schedule"),
    ],
)
def test_forged_positions(run: dict[str, Path], monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    path = run["text"] / "checkpoint.safetensors"
    dumps = json.dumps
    monkeypatch.setattr(json, "dumps", lambda *a, **k: dumps(*a, **{**k, "allow_nan": True}))
    forge(run["text"], lambda _, meta: change(meta))
    answer = invoke("train text --resume", run["text"])
    assert answer.status == 1
    line = answer.err.splitlines()[-1]
    assert line.startswith(f"error: {path}: does not fit this run's configuration: ")


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices as POSIX has them")
@pytest.mark.parametrize(
    "name", ["config.json", "checkpoint.safetensors", "vocabulary.json", "metrics.jsonl"]
)
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "folder", "socket"])
def test_what_is_no_file(run: dict[str, Path], name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is waited for, or read without end."""
    folder = run["text"]
    path = folder / name
    path.unlink()
    monkeypatch.chdir(folder)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
    else:
        path.symlink_to(kind)
    what = "is a folder" if kind == "folder" else "not a regular file"
    for command in ("train text --resume", "plot", "evaluate", "sample"):
        if name == "metrics.jsonl" and command in ("evaluate", "sample"):
            continue
        if command == "plot" and name in ("checkpoint.safetensors", "vocabulary.json"):
            continue  # reads neither
        answer = invoke(command, folder, *(["--epochs", "2"] if "train" in command else []))
        assert answer.status == 1, (command, answer)
        assert answer.err.splitlines()[-1] == f"error: {path}: {what}"


def test_a_checkpoint_that_is_longer_than_it_says(run: dict[str, Path]) -> None:
    path = run["images"] / "checkpoint.safetensors"
    length = path.stat().st_size
    os.truncate(path, 1 << 40)  # a terabyte that takes no room
    with pytest.raises(CheckpointError, match=f"{1 << 40} bytes, expected {length}"):
        open_task(run["images"])
