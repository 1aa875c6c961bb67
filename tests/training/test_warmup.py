"""`lstm-numba warmup`: afterwards a training compiles nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cli_tools import invoke

from lstm_numba.training import warmup
from lstm_numba.training.settings import DATASETS

#: Runs command lines one after the other in one process, where kernels stay compiled anyway.
SEVERAL = (
    "import sys\n"
    "from lstm_numba.cli.main import run\n"
    "sys.exit(max(run(line.split()) for line in sys.argv[1:]))\n"
)


def test_a_training_after_it_compiles_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}

    def program(*lines: str) -> tuple[list[str], str]:
        command = [sys.executable, "-c", SEVERAL, *lines]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), done.stderr

    def kept() -> set[tuple[str, int]]:
        return {(path.name, path.stat().st_mtime_ns) for path in cache.rglob("*.nb?")}

    warm = ("warmup digits --cell rnn", "warmup text --cell rnn")
    out, err = program(*warm)
    assert "compiling kernels" in err
    assert out[0].startswith("digits, rnn, float32, adam: compiled ")
    compiled = kept()
    assert compiled
    images, words = "train digits --cell rnn --epochs 1", "train grammar --cell rnn --epochs 1"
    out, err = program(
        f"{images} --images 300",  # the data set's own sizes
        f"{images} --images 40 --layers 2 --bidirectional --dropout 0.2 --threads 1",
        f"{images} --images 9 --batch-size 4 --hidden 520",  # units are shared out, not sequences
        f"{images} --images 2 --batch-size 1 --hidden 3",
        f"{words} --tokens 9000",
        f"{words} --tokens 4000 --hidden 5 --tie --threads 1",
        "sample runs/grammar-1 --length 3 --seed 1",
        "evaluate runs/digits-1",
        *warm,
    )
    assert "compil" not in err
    assert kept() == compiled
    assert out[-2:] == ["digits, rnn, float32, adam: all cached", "text, rnn, float32, adam: all cached"]


def test_every_data_set_and_option(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    asked = []

    def record(dataset, options, reporter):  # type: ignore[no-untyped-def]
        asked.append((dataset, *options.values()))
        return warmup.Warmed((), 0.0)

    monkeypatch.setattr(warmup, "warm_up", record)
    answer = invoke("warmup all --cell gru --cell lstm --dtype float64 --json").json()
    assert asked == [
        (dataset, cell, "float64", "sgd" if dataset == "ptb" else "adam")
        for dataset in DATASETS
        for cell in ("gru", "lstm")
    ]
    assert len(answer["warmed"]) == len(asked)
    asked.clear()
    assert invoke("warmup text --optimizer rmsprop").out == "text, lstm, float32, rmsprop: all cached\n"
    assert asked == [("text", "lstm", "float32", "rmsprop")]


def test_nothing_is_downloaded(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from lstm_numba.data import store

    def refuse(*arguments, **options):  # type: ignore[no-untyped-def]
        raise AssertionError("looked for data")

    monkeypatch.setattr(store, "content", refuse)
    for dataset in ("mnist", "images"):
        warmup.warm_up(dataset, {"cell": "rnn"})
