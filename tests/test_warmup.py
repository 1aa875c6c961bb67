"""`lstm-numba warmup`: afterwards a training compiles nothing."""

from __future__ import annotations

import os
from pathlib import Path

from cli_tools import call, invoke

from lstm_numba.training import warmup
from lstm_numba.training.config import DATASETS


def test_a_training_after_it_compiles_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}

    def program(words: str) -> tuple[str, str]:
        answer = call(*words.split(), cwd=tmp_path, env=environment)
        assert answer.status == 0, answer.err
        return answer.out, answer.err

    def kept() -> set[tuple[str, int]]:
        return {(path.name, path.stat().st_mtime_ns) for path in cache.rglob("*.nb?")}

    out, err = program("warmup digits --cell rnn")
    assert "compiling kernels" in err
    assert out.startswith("digits, rnn, float32, adam: compiled ")
    compiled = kept()
    assert compiled
    # The data set's own sizes; layers that share their work in other ways; a single sequence.
    for words in (
        "--images 300",
        "--images 40 --layers 2 --bidirectional --dropout 0.2 --threads 1",
        "--images 9 --batch-size 4 --hidden 520",
        "--images 2 --batch-size 1 --hidden 3",
    ):
        _, err = program(f"train digits --cell rnn --epochs 1 {words}")
        assert "compil" not in err, words
    assert kept() == compiled
    out, err = program("warmup digits --cell rnn")
    assert (out, err) == ("digits, rnn, float32, adam: all cached\n", "")


def test_every_data_set_and_option(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    asked = []

    def note(dataset, options, reporter):  # type: ignore[no-untyped-def]
        asked.append((dataset, *options.values()))
        return warmup.Warmed((), 0.0)

    monkeypatch.setattr(warmup, "warm_up", note)
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


def test_language_models_go_through_it_too() -> None:
    # Kernels that other tests have compiled; here it counts that the steps, samples and checkpoints come out.
    answer = invoke("warmup text --cell gru --json").json()
    assert answer["warmed"][0]["dataset"] == "text"


def test_nothing_is_downloaded(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from lstm_numba.data import registry

    def refuse(*arguments, **options):  # type: ignore[no-untyped-def]
        raise AssertionError("looked for data")

    monkeypatch.setattr(registry, "content", refuse)
    for config in warmup._configs("mnist", {}):
        images = warmup._FewImages(config).images("train")
        assert len(images) > 0
