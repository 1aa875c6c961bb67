"""``plot RUN RUN...``: what is drawn of several runs, what the legend tells, and what does not compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_tools import Answer, invoke

from lstm_numba.cli.comparison import labels, losses_only, read_run
from lstm_numba.errors import UserError
from lstm_numba.training.config import make_config
from lstm_numba.training.run import MetricsLog, Run


def make(folder: Path, dataset: str, losses: list[float], **options: Any) -> str:
    """A run folder with the lines of so many epochs, and no checkpoint."""
    data = options.pop("data", {})
    run = Run.create(folder, make_config(dataset, options, data=data))
    metric = "accuracy" if dataset in ("mnist", "digits") else "perplexity"
    with MetricsLog(run.metrics_path, 0) as log:
        for epoch, loss in enumerate(losses, 1):
            for split, more in (("train", 0.0), ("valid", 0.5)):
                if split == "train" or run.config["validation"] or metric == "perplexity":
                    line = {"kind": "epoch", "split": split, "step": epoch, "epoch": epoch}
                    log.append({**line, "loss": loss + more, metric: (loss + more) / 10})
    if metric == "perplexity":
        run.keep_vocabulary(run.config["data"].get("level", "word"), ("a", "b"))
    return str(folder)


def refused(answer: Answer, status: int, *fragments: str) -> None:
    """One line with these words."""
    assert answer.status == status
    (line,) = answer.err.splitlines()
    for fragment in fragments:
        assert fragment in line


def test_the_legend_tells_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(tmp_path / "a", "digits", [1.0], hidden=64, threads=1)
    second = make(tmp_path / "b", "digits", [1.0], hidden=64, cell="gru", threads=2, checkpoint_every=3.0)
    third = make(tmp_path / "c", "digits", [1.0], hidden=32, lr=0.01)
    assert labels([read_run(first), read_run(second)]) == ["a: cell lstm", "b: cell gru"]
    assert labels([read_run(run) for run in (first, second, third)]) == [
        "a: cell lstm, hidden 64, lr 0.002",
        "b: cell gru, hidden 64, lr 0.002",
        "c: cell lstm, hidden 32, lr 0.01",
    ]
    make(tmp_path / "elsewhere" / "a", "digits", [1.0], hidden=64)
    monkeypatch.chdir(tmp_path)
    assert labels([read_run("a"), read_run("elsewhere/a")]) == ["a", "elsewhere/a"]
    many = {"layers": 2, "dropout": 0.5, "optimizer": "sgd", "momentum": 0.5, "schedule": "ptb", "seed": 3}
    assert labels([read_run(first), read_run(make(tmp_path / "d", "digits", [1.0], **many))])[1] == (
        "d: hidden 128, layers 2, dropout 0.5, optimizer sgd, momentum 0.5, 4 more"
    )


def test_every_run_has_its_curves_in_its_colour(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from matplotlib.colors import to_hex

    from lstm_numba.cli import run_plots

    make(tmp_path / "a", "digits", [2.0, 1.0])
    make(tmp_path / "b", "digits", [3.0, 2.0, 1.0], validation=0)
    runs = {name: read_run(str(tmp_path / name)).epochs for name in ("a", "b")}
    figure = run_plots.compared_curves(runs, "accuracy", "digits")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss (nats)", "accuracy (%)"]
    for axes, scale in zip(figure.axes, (1, 10), strict=True):
        drawn = [(line.get_linestyle(), [y / scale for y in line.get_ydata()]) for line in axes.lines]
        assert drawn == [("--", [2.0, 1.0]), ("-", [2.5, 1.5]), ("-", [3.0, 2.0, 1.0])]
        colours = [to_hex(line.get_color()) for line in axes.lines]
        assert colours[0] == colours[1] != colours[2]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert [to_hex(line.get_color()) for line in legend.get_lines()] == colours[1:]
    assert len(run_plots.compared_curves(runs, None, "digits").axes) == 1
    several = run_plots.compared_curves({f"${n}": runs["a"] for n in range(12)}, None, "digits")
    assert len({to_hex(line.get_color()) for line in several.legends[0].get_lines()}) == 12


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        make(tmp_path / name, "grammar", [2.0, 1.0], seed=ord(name))
    assert invoke("plot a b").out.splitlines() == ["comparison.png", "comparison.svg"]
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    files = invoke("plot a b --out pictures --json").json()["files"]
    assert files == ["pictures/comparison.png", "pictures/comparison.svg"]
    assert (tmp_path / files[1]).read_bytes() == (tmp_path / "comparison.svg").read_bytes()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "vocabulary.json",
    }


def test_what_compares(tmp_path: Path) -> None:
    texts = {}
    for name, level in (("one", "char"), ("two", "char"), ("three", "word")):
        data = {"file": str(tmp_path / f"{name}.txt"), "level": level}
        texts[name] = read_run(make(tmp_path / name, "text", [1.0], data=data))
    mnist, digits = (read_run(make(tmp_path / name, name, [1.0])) for name in ("mnist", "digits"))
    other = read_run(make(tmp_path / "other", "digits", [1.0], data={"count": 300}))
    grammar, ptb = (read_run(make(tmp_path / name, name, [1.0])) for name in ("grammar", "ptb"))
    assert not losses_only([digits, other])
    assert losses_only([digits, mnist])
    assert losses_only([texts["one"], texts["two"]])
    assert losses_only([grammar, ptb, texts["three"]])
    with pytest.raises(UserError, match=r"of words, .*one by its perplexity of chars: their losses"):
        losses_only([texts["one"], texts["three"]])
    with pytest.raises(UserError, match=r"grammar: is measured by its perplexity of words, .*accuracy"):
        losses_only([digits, mnist, grammar])


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a", "digits", [1.0])
    make(tmp_path / "g", "grammar", [1.0])
    make(tmp_path / "none", "digits", [])
    refused(invoke("plot a g"), 1, "g: is measured by its perplexity", "their losses do not compare")
    refused(invoke("plot a nowhere"), 1, "run folder nowhere does not exist")
    refused(invoke("plot a none"), 1, "none: no epoch is complete")
    refused(invoke("plot a ./a"), 1, "a: is given twice")
    for words in ("--cell m:C", "--data-dir .", "--threads 1"):
        refused(invoke(f"plot a a {words}"), 2, words.split()[0], "only for the plots of one run, got 2 runs")
    refused(invoke("plot"), 2, "RUN")
    assert not list(tmp_path.glob("comparison.*"))
