"""Terminals and files in other encodings than UTF-8: what they lack becomes "?", and nothing ends for it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from cli_tools import call, invoke

#: Characters that the code pages of the West, of China, or both lack.
TEXT = "naïve 中文 ✓ łódź\n" * 120
TRAIN = "train text text.txt --hidden 8 --layers 1 --batch-size 4 --bptt 8 --epochs 1 --threads 1"
#: A folder that cp1252 and GBK lack, and ASCII too.
FOLDER = "ø 中 ✓"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text in it, and a language model of it."""
    folder = tmp_path_factory.mktemp("encodings")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    answer = call(*TRAIN.split(), "--out", FOLDER, cwd=folder, encoding="utf-8")
    assert answer.status == 0, answer.err
    return folder


def expected(home: Path) -> str:
    """What the model writes."""
    result = invoke("sample", home / FOLDER, "--length", "80", "--seed", "3", "--json").json()["text"]
    assert isinstance(result, str)
    assert set(result) & set("中✓ł"), "a text that proves nothing"
    return result


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "ascii", "utf-8"])
def test_a_text_is_written_to_its_end(home: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """In this process, with a stream as Python opens it."""
    text = expected(home)
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, newline="\n")
    from lstm_numba.cli.main import run

    monkeypatch.setattr(sys, "stdout", stream)
    assert run(["sample", str(home / FOLDER), "--length", "80", "--seed", "3"]) == 0
    stream.flush()
    if encoding == "ascii":  # which Click takes for a mistake, and writes UTF-8
        assert written.getvalue().decode("utf-8") == text + "\n"
    else:
        assert written.getvalue() == (text + "\n").encode(encoding, "replace")


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "gbk"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda environment: next(iter(environment.values())),
)
def test_a_training_ends_well(
    home: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    """In a process of its own: the name of the run is in every message and in the result."""
    for name in ("PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = ["train", "text", "--resume", FOLDER]
    answer = call(*words, cwd=home, encoding="utf-8", errors="replace")
    assert answer.status == 0, answer.err
    assert answer.out.startswith("test: loss ")
    assert "Error" not in answer.err
    if environment.get("PYTHONIOENCODING") == "cp1252":
        answer = call(*words, "--json", cwd=home, encoding="utf-8", errors="replace")
        assert answer.out.isascii()  # JSON loses nothing, whatever the encoding
        result = answer.json()
        assert result["perplexity"] > 1
        assert result["run"] == FOLDER


def test_files_do_not_depend_on_the_encoding(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUTF8", raising=False)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    answer = call(*TRAIN.replace("text.txt", str(home / "text.txt")).split(), "--out", "run", cwd=tmp_path)
    assert answer.status == 0, answer.err
    for name in ("vocabulary.json", "checkpoint.safetensors", "best.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (home / FOLDER / name).read_bytes(), name
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="ascii"))
    assert Path(config["data"]["file"]) == home / "text.txt"
