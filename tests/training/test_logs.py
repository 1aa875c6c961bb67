"""``--log``: CSV and event files hold what ``metrics.jsonl`` holds, however they came about."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from cli_tools import invoke
from training_tools import Crash, CrashAt, few_digits, small_config, train

from lstm_numba.data import digits
from lstm_numba.errors import CheckpointError, UserError
from lstm_numba.training.config import ConfigError, make_config
from lstm_numba.training.logs import COLUMNS, Logs
from lstm_numba.training.run import Run

LINE = {"kind": "epoch", "split": "valid", "step": 3, "epoch": 1, "loss": 0.1 + 0.2}


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Few images, and one thread: on a busy machine waking others costs more than these models compute."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield
    numba.set_num_threads(threads)


def rows(run: Run) -> list[dict[str, Any]]:
    """The lines of ``metrics.csv`` with their values, as ``metrics.jsonl`` has them."""
    with (run.folder / "metrics.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        found = [{name: text for name, text in row.items() if text} for row in reader]
    return [{n: t if n in ("kind", "split") else json.loads(t) for n, t in row.items()} for row in found]


def test_csv_has_what_the_record_has(tmp_path: Path) -> None:
    for kind in ("images", "text"):
        config = small_config(kind, tmp_path, log="csv")
        for steps in (4, 20):  # the second one within the second epoch of the images
            with pytest.raises(Crash):
                train(tmp_path / kind, config, CrashAt(steps))
            run = Run.open(tmp_path / kind)
            assert rows(run) == run.metrics()
        train(tmp_path / kind, config)
        assert rows(run) == run.metrics()
        assert {"loss", "lr", "norm"} <= rows(run)[0].keys()


def test_csv_of_a_run_that_began_without(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = "train digits --images 60 --hidden 6 --batch-size 20 --threads 1"
    assert invoke(words, "--epochs", 1, "--out", run).status == 0
    assert not (run / "metrics.csv").exists()
    assert invoke("train digits --resume", run, "--epochs", 2, "--log", "csv").status == 0
    assert rows(Run.open(run)) == Run.open(run).metrics()
    assert json.loads((run / "config.json").read_text())["log"] == "csv"
    text = (run / "metrics.csv").read_bytes()
    (run / "metrics.csv").write_bytes(text[:100])
    assert invoke("train digits --resume", run).status == 0  # complete as it is
    assert (run / "metrics.csv").read_bytes() == text


def test_numbers_that_json_lacks(tmp_path: Path) -> None:
    run = Run(tmp_path, {"log": "csv"})
    with Logs(run, 0) as logs:
        logs.append({**LINE, "perplexity": math.inf})
        once = (tmp_path / "metrics.csv").read_text()
    with Logs(run, 1):
        assert (tmp_path / "metrics.csv").read_text() == once
    assert once.splitlines()[1] == "epoch,valid,3,1,0.30000000000000004,,inf,,,,,,,,,,"
    (tmp_path / "metrics.csv").unlink()
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(CheckpointError, match=r"metrics\.csv: is a folder"), Logs(run, 1):
        pass


def test_forms_that_there_are_not() -> None:
    assert make_config("digits", {"log": "tensorboard,csv"})["log"] == "tensorboard,csv"
    for text in ("xml", "csv,", "csv,csv", ""):
        with pytest.raises(ConfigError, match="log: expected different ones of csv, tensorboard"):
            make_config("digits", {"log": text})
    for words, fragment in (
        ("--log xml", "'xml' is not one of csv, tensorboard"),
        ("--log csv,csv", "csv is given twice"),
        ("--log csv --log csv", "csv is given twice"),
    ):
        answer = invoke("train digits --images 20", *words.split())
        assert answer.status == 2
        assert fragment in answer.err
        assert len(answer.err.splitlines()) == 1


def test_without_tensorboard_one_line_and_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    answer = invoke("train digits --images 20 --log csv --log tensorboard --out", tmp_path / "run")
    assert answer.status == 1
    (line,) = answer.err.splitlines()
    assert line == "error: event files need tensorboard: pip install 'lstm_numba[tensorboard]'"
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="event files need tensorboard"):
        train(tmp_path / "run", small_config("images", tmp_path, log="tensorboard"))


def events(run: Run) -> list[dict[str, Any]]:
    """What TensorBoard's own reader finds: a line for each summary."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    (path,) = (run.folder / "tensorboard").iterdir()
    found = []
    for event in loader.LegacyEventFileLoader(str(path)).Load():
        if event.HasField("summary"):
            values = {value.tag.rpartition("/")[2]: value.simple_value for value in event.summary.value}
            kind, split, _ = event.summary.value[0].tag.split("/")
            found.append({"kind": kind, "split": split, "step": event.step, **values})
    return found


def test_events_have_what_the_record_has(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    config = small_config("images", tmp_path, log="csv,tensorboard")
    for steps in (4, 20):
        with pytest.raises(Crash):
            train(tmp_path / "run", config, CrashAt(steps))
    train(tmp_path / "run", config)
    run = Run.open(tmp_path / "run")
    expected = [{n: v for n, v in line.items() if n != "epoch"} for line in run.metrics()]
    found = events(run)
    assert len(found) == len(expected)
    for event, line in zip(found, expected, strict=True):
        assert event == {
            name: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
            for name, value in line.items()
        }
    assert rows(run) == run.metrics()
