"""Calls the program as a user does: in this process for speed, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click
import numba

from lstm_numba.cli.main import cli, run
from lstm_numba.training.config import make_config
from lstm_numba.training.run import Run

PROGRAM = [sys.executable, "-m", "lstm_numba"]

#: The smallest trainings that still learn something; seconds altogether.
DIGITS = "train digits --images 600 --hidden 24 --batch-size 30 --epochs 2 --seed 3"
GRAMMAR = "train grammar --tokens 6000 --hidden 24 --batch-size 10 --bptt 12 --epochs 2 --seed 3"


def one_epoch(words: str) -> str:
    """One of the trainings above with one epoch only."""
    return words.replace("--epochs 2", "--epochs 1")


class Answer(NamedTuple):
    """What a call gave back."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """The result, which must be one JSON object on one line."""
        assert self.status == 0, self.err
        (line,) = self.out.splitlines()
        return json.loads(line)


def parsed(command: click.Command, words: list[str]) -> dict[str, Any]:
    """What a command of the program makes of words; they are a usage error if they do not parse.

    With the program's settings: Click keeps a command's help option as the first context names it.
    """
    return command.make_context(command.name, words, **cli.context_settings).params


def invoke(words: str, *more: object) -> Answer:
    """Call the program in this process; only `words` are split at spaces.

    It computes on one thread unless ``--threads`` says otherwise: on a machine that is busy, threads that
    wait for each other at every time step crawl.
    """
    out, err = io.StringIO(), io.StringIO()
    threads = numba.get_num_threads()  # holds for the process: other tests must not feel it
    numba.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run([*words.split(), *map(str, more)])
    finally:
        numba.set_num_threads(threads)
    return Answer(status, out.getvalue(), err.getvalue())


def call(*words: object, cwd: Path, **options: Any) -> Answer:
    """Call the program in a process of its own."""
    done = subprocess.run([*PROGRAM, *map(str, words)], cwd=cwd, capture_output=True, text=True, **options)
    return Answer(done.returncode, done.stdout, done.stderr)


def make_run(folder: Path, dataset: str) -> Path:
    """A run that has not begun."""
    data = {"file": str(folder / "text.txt")} if dataset == "text" else {}
    Run.create(folder, make_config(dataset, {"threads": 1}, data=data))
    return folder
