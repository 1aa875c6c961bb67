"""The command that a training ends with: it fits the run, and a shell takes it as it is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from cli_tools import DIGITS, GRAMMAR, invoke, one_epoch

from lstm_numba.cli.next_step import next_line, next_line_of_set, resume_line
from lstm_numba.cli.results import Done
from lstm_numba.training.callbacks import Best, Evaluation, Outcome
from lstm_numba.training.config import make_config

#: Folders that a shell would take apart or read as something else.
ODD = ("runs/my first run", "it's", "$HOME", "a;b", "*", 'say "x"', "-run", "ein Ü")


def done(dataset: str, folder: str, loss: float = 0.5, start: float = 9.0, **more: Any) -> Done:
    """A run that reached a loss."""
    data = more.pop("data", {})
    found = Evaluation("valid", loss, None, None, 5)
    outcome = Outcome(2, 9, found, {"test": found}, Path(folder), False, Best(1, "valid", loss), start)
    return Done(outcome, None, make_config(dataset, more, data=data), folder, {})


def test_it_fits_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    table = {"files": [str(tmp_path / "my load.csv")], "horizon": 3}
    for made, wanted in (
        (done("digits", "r"), "evaluate r"),
        (done("mnist", "r", cell="cells:Mine"), "evaluate r --cell cells:Mine"),
        (done("text", "r", data={"file": "/x"}), "sample r"),
        (done("grammar", "r", cell="cells:Mine"), "sample r --cell cells:Mine"),
        (done("ptb", "runs/ptb-1"), "sample runs/ptb-1"),
        (done("series", "r", data=table), "predict r 'my load.csv'"),
    ):
        assert next_line([made]) == f"next: lstm-numba {wanted}"
    example = [done("series", "r", data={"example": "pendulum"})]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert next_line(example) == "next: lstm-numba plot r"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert next_line(example) == "next: lstm-numba evaluate r"


def test_of_several_the_best(tmp_path: Path) -> None:
    runs = [done("digits", "a", 0.7), done("digits", "b", 0.2), done("digits", "c", 0.1, start=0.05)]
    assert next_line(runs) == "next: lstm-numba evaluate b"  # c diverged
    assert next_line(runs[2:]) is None


def test_a_shell_reads_the_folder(tmp_path: Path) -> None:
    for folder in ODD:
        named = f"./{folder}" if folder.startswith("-") else folder
        hint = next_line([done("digits", folder)])
        assert hint is not None
        assert shlex.split(hint) == ["next:", "lstm-numba", "evaluate", named]
        words = shlex.split(resume_line("digits", folder, ["lstm", "m:C"]))
        assert words == [
            "resume",
            "with:",
            "lstm-numba",
            "train",
            "digits",
            "--resume",
            named,
            "--cell",
            "m:C",
        ]


def test_a_set() -> None:
    config = make_config("digits", {})
    assert next_line_of_set(config, "s", ["lstm", "gru"], False) == "next: lstm-numba evaluate s"
    assert next_line_of_set(config, "s", ["m:C"], False) == "next: lstm-numba evaluate s --cell m:C"
    assert next_line_of_set(config, "s", ["lstm", "m:C"], False) == "next: lstm-numba plot s"
    table = make_config("series", {}, data={"files": ["/x/a.csv"], "horizon": 3})
    assert next_line_of_set(table, "s", ["lstm"], True) == "next: lstm-numba predict s /x/a.csv"


def test_what_it_says_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words, made in ((DIGITS, "digits"), (GRAMMAR, "grammar")):
        answer = invoke(f"{one_epoch(words)} --json", "--out", f"my {made}")
        assert isinstance(answer.json(), dict)  # the hint is not on standard output
        head, program, *line = shlex.split(answer.err.splitlines()[-1])
        assert (head, program, line[1:]) == ("next:", "lstm-numba", [f"my {made}"])
        assert invoke("", *line).status == 0
