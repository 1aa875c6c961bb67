"""Bad input: one line on standard error that says what is wrong, the right exit status, no traceback."""

from __future__ import annotations

import gzip
import json
import os
import struct
from pathlib import Path

import pytest
from cli_tools import Answer, invoke, make_run


def assert_one_line(answer: Answer, status: int, *fragments: str) -> None:
    """The last line of standard error is the error, and all of it."""
    assert answer.status == status, answer.err
    assert answer.out == ""
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, answer.err
    assert answer.err.splitlines()[-1] == errors[0]
    assert "Traceback" not in answer.err
    for fragment in fragments:
        assert fragment in errors[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, no data anywhere, no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LSTM_NUMBA_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for scheme in ("http", "https", "all"):  # a port on this machine that refuses
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", "http://127.0.0.1:9")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        ("trane", ["'trane'", "Did you mean 'train'?"]),
        ("qqq", ["'qqq'", "train, sweep, evaluate"]),
        ("train cifar", ["'cifar'", "mnist"]),
        ("--nonsense", ["--nonsense"]),
        ("train digits --nonsense", ["--nonsense", "lstm-numba train digits -h"]),
        ("train digits --tie", ["--tie", "ptb"]),
        ("train ptb --bidirectional", ["--bidirectional", "mnist"]),
        ("train digits surplus", ["surplus"]),
        ("train digits --hidden", ["--hidden"]),
        ("train digits --hidden many", ["--hidden", "'many'", "whole number"]),
        pytest.param("train digits --hidden 0", ["--hidden", "'0'"], marks=pytest.mark.smoke),
        ("train digits --hidden -5", ["--hidden", "'-5'"]),
        ("train digits --hidden 1.5", ["--hidden", "'1.5'"]),
        ("train digits --layers 99999999999999999999", ["--layers"]),
        ("train digits --epochs 0", ["--epochs"]),
        ("train digits --batch-size 0", ["--batch-size"]),
        ("train digits --lr 0", ["--lr", "above 0"]),
        ("train digits --lr nan", ["--lr", "finite"]),
        ("train digits --lr inf", ["--lr", "finite"]),
        ("train digits --lr -1", ["--lr"]),
        ("train digits --dropout 1", ["--dropout", "below 1"]),
        ("train digits --weight-drop 1", ["--weight-drop", "below 1"]),
        ("train digits --init he", ["--init", "orthogonal"]),
        ("train digits --init identity", ["--init", "rnn-relu", "lstm"]),
        ("train digits --init xavier --init-range 0.1", ["--init-range", "xavier"]),
        ("train digits --clip -1", ["--clip"]),
        ("train digits --seed -1", ["--seed"]),
        ("train digits --cell transformer", ["--cell", "peephole"]),
        ("train digits --dtype float16", ["--dtype", "float64"]),
        ("train digits --device tpu", ["--device"]),
        ("train digits --threads 0", ["--threads"]),
        ("train digits --threads 100000", ["--threads", "100000"]),
        ("train digits --hold 3 --schedule cosine", ["--hold", "cosine"]),
        ("train digits --momentum 0.9", ["--momentum", "adam"]),
        ("train digits --forget-bias 1 --cell gru", ["--forget-bias", "gru"]),
        ("train digits --resume", ["--resume"]),
        ("train mnist --data-dir nowhere", ["--data-dir", "nowhere"]),
        ("train mnist --view diagonal", ["--view"]),
        ("train ptb --preset huge", ["--preset", "medium"]),
        ("train ptb --tie --embedding 10", ["--embedding"]),
        ("train text", ["FILE"]),
        ("evaluate", ["RUN"]),
        ("predict", ["RUN"]),
        ("predict runs/digits-1", ["FILE"]),
        ("sample runs/ptb-1 --length 0", ["--length"]),
        ("sample runs/ptb-1 --temperature -1", ["--temperature"]),
        ("sample runs/ptb-1 --temperature nan", ["--temperature"]),
        ("sample runs/ptb-1 --top-k 0", ["--top-k"]),
        ("data fetch cifar", ["cifar", "mnist"]),
        ("data verify", ["NAME"]),
    ],
)
def test_usage_errors(here: Path, words: str, fragments: list[str]) -> None:
    assert_one_line(invoke(words), 2, *fragments)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    ["evaluate {}", "predict {} x.png", "sample {}", "plot {}", "inspect {}", "train digits --resume {}"],
)
def test_run_folders_that_are_none(here: Path, command: str) -> None:
    (here / "empty").mkdir()
    (here / "file").write_text("x")
    (here / "damaged").mkdir()
    (here / "damaged" / "config.json").write_text("{")
    (here / "other").mkdir()
    (here / "other" / "config.json").write_text('{"format": 1}')
    for folder in ("nowhere", "empty", "file", "damaged", "other"):
        assert_one_line(invoke(command.format(folder)), 1, folder)


def test_damaged_checkpoint(here: Path) -> None:
    run = make_run(here / "run", "digits")
    for content in (b"", b"garbage", struct.pack("<Q", 2**62) + b"{}"):
        (run / "checkpoint.safetensors").write_bytes(content)
        assert_one_line(invoke("evaluate", run), 1, "checkpoint.safetensors")
        assert_one_line(invoke("train", "digits", "--resume", run), 1, "checkpoint.safetensors")


def test_run_without_a_checkpoint(here: Path) -> None:
    run = make_run(here / "run", "digits")
    assert_one_line(invoke("evaluate", run), 1, "run")
    assert_one_line(invoke("plot", run), 1, "run")


def test_runs_of_the_wrong_kind(here: Path) -> None:
    digits, grammar = make_run(here / "d", "digits"), make_run(here / "g", "grammar")
    assert_one_line(invoke("sample", digits), 1, "language model", "digits")
    assert_one_line(invoke("predict", grammar, "x.png"), 1, "image classifier", "grammar")
    assert_one_line(invoke("train", "mnist", "--resume", digits), 2, "digits", "--resume")


def test_resume_refuses_other_settings(here: Path) -> None:
    run = make_run(here / "run", "digits")
    for words in (["--hidden", "5"], ["--out", "x"], ["--seed", "1"], ["--lr", "0.1"], ["--images", "100"]):
        assert_one_line(invoke("train", "digits", "--resume", run, *words), 2, words[0], "--resume")


def test_out_folders_that_cannot_be(here: Path) -> None:
    (here / "file").write_text("x")
    (here / "full").mkdir()
    (here / "full" / "thesis.txt").write_text("years of work")
    run = make_run(here / "run", "digits")
    before = (run / "config.json").read_bytes()
    small = "train digits --images 20 --hidden 2"
    assert_one_line(invoke(small, "--out", "file"), 1, "file")
    assert_one_line(invoke(small, "--out", "file/run"), 1, "file")
    assert_one_line(invoke(small, "--out", "full"), 1, "full", "not empty")
    assert_one_line(invoke(small, "--out", run), 1, "holds a run", "--resume")
    assert (run / "config.json").read_bytes() == before
    assert [path.name for path in (here / "full").iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_out_folder_that_may_not_be_written(here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    assert_one_line(invoke("train", "digits", "--images", "20", "--out", "locked/run"), 1, "locked")


def test_sizes_that_no_memory_holds(here: Path) -> None:
    assert_one_line(invoke("train", "digits", "--images", "20", "--hidden", "2000000000"), 1, "memory")
    assert_one_line(invoke("train", "digits", "--images", "20", "--layers", "2000000000"), 1, "memory")


def test_divergence_keeps_the_last_good_checkpoint(here: Path) -> None:
    words = "train digits --images 200 --hidden 4 --optimizer sgd --lr 3e38 --clip 0"
    answer = invoke(words, "--schedule", "constant", "--out", "run")
    assert_one_line(
        answer, 1, "diverged at step", "learning rate 3e+38", "gradient norm", "checkpoint.safetensors"
    )
    kept = invoke("evaluate run --json").json()  # its numbers are finite, or they would be null
    assert kept["loss"] > 0
    assert 0 <= kept["accuracy"] <= 1


def test_cuda_is_refused(here: Path) -> None:
    assert_one_line(invoke("train", "digits", "--device", "cuda"), 1, "cuda", "cpu")


def test_data_that_are_nowhere(here: Path) -> None:
    for dataset, file in (("mnist", "train-images-idx3-ubyte"), ("ptb", "ptb.train.txt")):
        answer = invoke("train", dataset)
        assert_one_line(answer, 1, file, "digits", "grammar")
        assert not (here / "runs").exists()


def test_damaged_data_files(here: Path) -> None:
    (here / "mnist").mkdir()
    images = here / "mnist" / "train-images-idx3-ubyte"
    for content in (
        b"",
        b"\x00\x00\x09\x03" + bytes(12),
        struct.pack(">IIII", 0x803, 2**31, 2**31, 2**31),
        b"\x1f\x8bx",
    ):
        images.write_bytes(content)
        assert_one_line(invoke("train", "mnist", "--data-dir", here), 1, "train-images-idx3-ubyte")
    answer = invoke("data", "verify", "mnist", "--data-dir", here, "--json")
    assert answer.status == 1
    states = {entry["file"]: entry["state"] for entry in json.loads(answer.out)["files"]}
    assert states["train-images-idx3-ubyte.gz"] == "damaged"
    assert states["t10k-images-idx3-ubyte.gz"] == "missing"


def test_texts_that_cannot_be_trained_on(here: Path) -> None:
    (here / "empty.txt").write_bytes(b"")
    (here / "latin.txt").write_bytes(b"caf\xe9 " * 1000)
    (here / "tiny.txt").write_text("ab")
    for name in ("missing.txt", "empty.txt", "latin.txt", "tiny.txt"):
        assert_one_line(invoke("train", "text", name), 1, name)
    assert_one_line(invoke("train", "text", "."), 1, "folder")


def test_pictures_that_are_none(here: Path) -> None:
    pytest.importorskip("PIL", reason="needs Pillow")
    run = make_run(here / "run", "digits")
    (here / "text.png").write_text("not a picture")
    (here / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (here / "wrong.idx").write_bytes(struct.pack(">IIII", 0x803, 2, 5, 5) + bytes(50))
    with gzip.open(here / "good.gz", "wb") as file:
        file.write(struct.pack(">IIII", 0x803, 2, 28, 28) + bytes(2 * 784))
    for name, fragment in [
        ("missing.png", "missing.png"),
        ("text.png", "text.png"),
        ("cut.png", "cut.png"),
        (".", "folder"),
        ("missing:3", "missing"),
        ("wrong.idx:0", "5 x 5"),
        ("good.gz", "choose one"),
        ("good.gz:2", "0 to 1"),
    ]:
        assert_one_line(invoke("predict", run, name), 1, fragment)


def test_unforeseen_errors_are_one_line_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("lstm_numba.training.run.Run.open", broken)
    assert_one_line(invoke("evaluate", "x"), 1, "RuntimeError: two lines", "LSTM_NUMBA_DEBUG=1")
    monkeypatch.setenv("LSTM_NUMBA_DEBUG", "1")
    answer = invoke("evaluate", "x")
    assert "Traceback" in answer.err
    assert answer.status == 1
