"""``train series`` and what can be done with its runs, as a user does it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import Answer, invoke
from series_tools import groups, waves, write_table

SMALL = "--hidden 6 --batch-size 16 --epochs 2 --json"
FORECAST = f"train series --target load --window 5 --horizon 3 {SMALL}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables, and a run of a forecast and one of a classification."""
    folder = tmp_path_factory.mktemp("series")
    waves(folder / "waves.csv")
    groups(folder / "groups.csv")
    for words, table, run in (
        (FORECAST, "waves", "forecast"),
        (f"train series --target kind --group id {SMALL}", "groups", "classes"),
    ):
        answer = invoke(words, folder / f"{table}.csv", "--out", folder / run)
        assert answer.status == 0, answer.err
        (folder / f"{run}.out").write_text(answer.out)
        (folder / f"{run}.err").write_text(answer.err)
    return folder


def table_of(text: str) -> list[dict[str, str]]:
    """Rows of CSV."""
    return list(csv.DictReader(io.StringIO(text)))


def refused(answer: Answer, status: int, *fragments: str) -> None:
    """One line of error, and nothing on standard output."""
    assert answer.status == status, answer
    assert answer.out == ""
    line = answer.err.splitlines()[-1]
    assert line.startswith("error: "), answer.err
    for fragment in fragments:
        assert fragment in line, line


@pytest.mark.smoke
def test_result_stands_beside_baselines(folder: Path) -> None:
    result = json.loads((folder / "forecast.out").read_text())
    assert {"mae", "rmse", "mase", "nse", "loss", "baselines"} <= result.keys()
    assert {"last value", "linear (ridge)"} <= result["baselines"].keys()
    told = (folder / "forecast.err").read_text()
    for text in ("task: forecast", "time: the column date", "split: time"):
        assert text in told
    classes = json.loads((folder / "classes.out").read_text())
    assert {"accuracy", "macro_f1", "roc_auc"} <= classes.keys()
    assert {"most frequent class", "linear (logistic)"} <= classes["baselines"].keys()
    text = invoke("train series --resume", folder / "forecast").out
    lines = text.splitlines()
    assert lines[0].startswith("test: loss")
    assert lines[1].split() == ["MAE", "RMSE", "MASE", "NSE"]
    titles = ["this network", "last value", "linear (ridge)"]
    for title in titles:
        (line,) = [line for line in lines if line.startswith(title)]
        assert len(line.removeprefix(title).split()) == 4
    assert f"{result['mae']:.4g}" in next(line for line in lines if line.startswith("this network"))


def test_run_folder_and_evaluation(folder: Path) -> None:
    names = {path.name for path in (folder / "forecast").iterdir()} - {"plots"}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "checkpoint.safetensors",
        "best.safetensors",
        "series.json",
    }
    result = json.loads((folder / "forecast.out").read_text())
    again = invoke("evaluate", folder / "forecast", "--json").json()
    assert {name: again[name] for name in ("loss", "mae", "rmse", "mase", "nse")} == {
        name: result[name] for name in ("loss", "mae", "rmse", "mase", "nse")
    }
    assert invoke("evaluate", folder / "forecast", "--split", "valid").out.startswith("valid: loss")


def test_predict_writes_a_table(folder: Path, tmp_path: Path) -> None:
    answer = invoke("predict", folder / "forecast", folder / "waves.csv")
    rows = table_of(answer.out)
    assert list(rows[0]) == ["sequence", "step", "date", "load"]
    assert [row["date"] for row in rows] == [f"2024-01-09 {hour:02}:00" for hour in (8, 9, 10)]
    words = ("predict", folder / "forecast", folder / "waves.csv", "--out", tmp_path / "f.csv")
    assert invoke(words[0], *words[1:]).status == 0
    assert table_of((tmp_path / "f.csv").read_text()) == rows
    refused(invoke(words[0], *words[1:]), 1, "f.csv", "already exists")
    made = invoke("predict", folder / "forecast", folder / "waves.csv", "--json").json()["predictions"]
    assert [row["load"] for row in made] == [float(row["load"]) for row in rows]
    classes = table_of(invoke("predict", folder / "classes", folder / "groups.csv").out)
    assert list(classes[0]) == ["id", "kind", "p(down)", "p(up)"]
    assert len(classes) == 24
    for row in classes:
        assert float(row["p(down)"]) + float(row["p(up)"]) == pytest.approx(1, abs=1e-6)
        assert row["kind"] == ("up" if float(row["p(up)"]) > 0.5 else "down")


def test_predict_goes_on_past_what_is_no_table(folder: Path, tmp_path: Path) -> None:
    good, out = folder / "waves.csv", tmp_path / "f.csv"
    lines = good.read_text().splitlines(keepends=True)
    short, broken, other = tmp_path / "short.csv", tmp_path / "broken.csv", tmp_path / "other.csv"
    short.write_text("".join(lines[:4]))
    broken.write_text("".join(lines[:20]) + '"\n')
    other.write_text("a,b\n1,2\n3,4\n")
    answer = invoke("predict", folder / "forecast", short, good, broken, other)
    assert answer.status == 1
    assert answer.out == invoke("predict", folder / "forecast", good).out
    told = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in told] == [str(path) for path in (short, broken, other)]
    assert "has 3 rows, the model reads windows of 5" in told[0]
    answer = invoke("predict", folder / "forecast", short, good, "--json", "--out", out)
    assert answer.status == 1
    *rows, entry = json.loads(answer.out)["predictions"]
    assert entry == {"file": str(short), "error": told[0].removeprefix("error: ")}
    assert len(rows) == len(table_of(out.read_text())) == 3
    out.unlink()
    alone = invoke("predict", folder / "forecast", short, "--out", out)
    assert (alone.status, alone.out, out.exists()) == (1, "", False)


def test_stream_answers_each_row_when_it_comes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (folder / "waves.csv").read_text().splitlines()[:8]
    written: list[str] = []
    seen: list[int] = []

    class Input:
        """Notes how much was answered when the next row is asked for."""

        def __init__(self) -> None:
            self.left = [line + "\n" for line in lines]

        def readline(self) -> str:
            import sys

            seen.append(sys.stdout.getvalue().count("\n"))  # type: ignore[attr-defined]
            return self.left.pop(0) if self.left else ""

    monkeypatch.setattr("sys.stdin", Input())
    answer = invoke("stream", folder / "forecast")
    assert answer.status == 0, answer.err
    written = answer.out.splitlines()
    assert written[0] == "row,step,date,load"
    assert seen == [0, 1, 1, 1, 1, 1, 4, 7, 10]
    assert [line.split(",")[0] for line in written[1:]] == ["6"] * 3 + ["7"] * 3 + ["8"] * 3


def test_stream_refuses_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, fragments in {
        "": ["standard input", "header"],
        "a,b\n1,2\n": ["no column load", "a, b"],
        "date,load,heat\n2024-01-01,x,1\n": ["row 2", "column load", "'x'"],
        "date,load,heat\n2024-01-01,1e400,1\n": ["row 2", "column load", "'1e400'"],
        "date,load,heat\n2024-01-01,1\n": ["row 2", "expected 3 values, got 2"],
        'date,load,heat\n2024-01-01,"1': ["row 2"],
    }.items():
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        answer = invoke("stream", folder / "forecast")
        assert answer.status == 1
        line = answer.err.splitlines()[-1]
        assert line.startswith("error: ")
        for fragment in fragments:
            assert fragment in line, line


def test_plots(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    for run, names in {
        "forecast": {"learning-curves", "forecast", "residuals"},
        "classes": {"learning-curves", "confusion-matrix"},
    }.items():
        files = invoke("plot", folder / run, "--out", tmp_path / run, "--json").json()["files"]
        assert {Path(file).stem for file in files} == names
        assert all(Path(file).stat().st_size > 1000 for file in files)


def test_runs_beside_each_other(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    words = f"{FORECAST.removesuffix(' --json')} --cell rnn --log csv"
    assert invoke(words, folder / "waves.csv", "--out", tmp_path / "rnn").status == 0
    header = (tmp_path / "rnn" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"mae", "rmse", "mase", "nse"} <= {*header}
    files = invoke("plot", folder / "forecast", tmp_path / "rnn", "--out", tmp_path, "--json").json()["files"]
    assert {Path(file).name for file in files} == {"comparison.png", "comparison.svg"}
    refused(invoke("plot", folder / "forecast", folder / "classes"), 1, "mae", "accuracy", "do not compare")


def test_quantiles(folder: Path, tmp_path: Path) -> None:
    answer = invoke(f"{FORECAST} --loss quantile", folder / "waves.csv", "--out", tmp_path / "run")
    assert answer.status == 0, answer.err
    rows = table_of(invoke("predict", tmp_path / "run", folder / "waves.csv").out)
    assert [name for name in rows[0] if "%" in name] == ["load 10 %", "load 50 %", "load 90 %"]
    for row in rows:
        assert float(row["load 10 %"]) <= float(row["load 50 %"]) <= float(row["load 90 %"])


def test_names_with_commas_and_several_targets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.standard_normal((90, 2)), axis=0)
    table = write_table(
        tmp_path / "a.csv", {"t": range(90), "x": steps[:, 0].tolist(), '"a, b"': steps[:, 1].tolist()}
    )
    words = ("train", "series", table, "--target", "x", "--target", '"a, b"', "--window", 4, *SMALL.split())
    result = invoke(words[0], *words[1:], "--out", tmp_path / "run").json()
    assert result["count"] == 2 * (18 - 4)
    rows = table_of(invoke("predict", tmp_path / "run", table).out)
    assert list(rows[0])[-2:] == ["x", "a, b"]


def test_several_files_and_a_move(tmp_path: Path) -> None:
    files = []
    for k in range(9):
        steps = np.arange(6) * (1.0 if k % 2 else -1.0)
        columns: dict[str, Any] = {"a": steps.tolist(), "kind": ["up" if k % 2 else "down"] * 6}
        files.append(write_table(tmp_path / f"{k}.csv", columns))
    run = tmp_path / "run"
    answer = invoke(f"train series --target kind {SMALL}", *files, "--out", run)
    assert answer.status == 0, answer.err
    moved = tmp_path / "moved"
    moved.mkdir()
    before = invoke("evaluate", run).out
    again = [file.rename(moved / file.name) for file in files]
    refused(invoke("train series", "--resume", run), 1, "0.csv", "no such file")
    assert invoke("evaluate", run, "--data-dir", moved).out == before
    assert invoke("train series", "--resume", run, "--epochs", 3, *again).status == 0
    assert invoke("evaluate", run).status == 0
    refused(invoke("train series", "--resume", run, again[0]), 2, "9 files", "1 file")


@pytest.mark.parametrize(
    ("words", "status", "fragments"),
    [
        ("train series", 2, ["FILE", "--example"]),
        ("train series missing.csv", 1, ["missing.csv", "no such file"]),
        ("train series waves.csv --target lod", 1, ["--target", "no column lod", "did you mean load"]),
        ("train series waves.csv --target load --window 150", 1, ["train", "140 rows", "window of 150"]),
        ("train series groups.csv --target kind --group id --loss mae", 1, ["loss", "classify"]),
        ("train series waves.csv --target load --test 0.95", 2, ["--validation", "0.95"]),
        ("train series waves.csv --target ,", 2, ["--target", "names"]),
        ("train series waves.csv --target load --horizon 0", 2, ["--horizon"]),
        ("train series waves.csv --target load --split random", 1, ["--split random", "got 1"]),
        ("train series waves.csv --example pendulum", 2, ["--example"]),
        ("train series --example pendulum --target angel", 1, ["pendulum", "did you mean angle"]),
        ("train mnist --window 3", 2, ["--window is an option of series"]),
        ("predict forecast waves.csv --index 1", 2, ["--index", "images"]),
        ("sample forecast", 1, ["a language model", "series"]),
    ],
)
def test_refused_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: str, status: int, fragments: list[str]
) -> None:
    monkeypatch.chdir(folder)
    refused(invoke(words), status, *fragments)
    assert not (folder / "runs").exists()


def test_export_and_import(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    assert invoke("export", folder / "forecast", "--format", "torch", "--out", out).status == 0
    run = tmp_path / "again"
    assert invoke("import", out, "--run", folder / "forecast", "--out", run).status == 0
    first, second = (invoke("evaluate", r, "--json").json() for r in (folder / "forecast", run))
    assert first == second
