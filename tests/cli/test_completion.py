"""Shell completion: what a shell asks of a process of its own, and what it is answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import PROGRAM, invoke

from lstm_numba.cli.completion import SHELLS, VARIABLE
from lstm_numba.cli.main import cli
from lstm_numba.cli.shell_values import run_items

#: Runs the program as the console script does, and names what it has imported on standard error.
_PROGRAM = """
import sys
from lstm_numba.cli.main import run
status = run()
heavy = ("numba", "numpy", "scipy", "matplotlib", "pooch")
print([name for name in heavy if name in sys.modules], file=sys.stderr)
sys.exit(status)
"""


def completed(shell: str, words: str, folder: Path) -> list[str]:
    """What a shell is answered for the last of these words; nothing heavy may be imported."""
    last = words.split(" ")[-1]
    place = last if shell == "fish" else str(len(words.split(" ")) - 1)
    asked = {VARIABLE: f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": place}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=folder, env={**os.environ, **asked}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "[]\n")
    lines = done.stdout.splitlines()
    if shell == "zsh":  # kind, value and description, a line each
        assert {*lines[::3]} <= {"plain", "dir", "file"}
        return [value.replace("\\:", ":") for value in lines[1::3]]
    if shell == "fish" and "\t" not in done.stdout and "," not in done.stdout:  # from Click 8.4 on
        return [value for kind, value in zip(lines[::2], lines[1::2], strict=False) if kind == "plain"]
    return [line.partition("\t")[0].partition(",")[2] for line in lines]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with two runs, a set of runs, and a folder that is none."""
    for name in ("runs/digits-1", "runs/ptb-1", "mine"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "runs/ten").mkdir()
    (tmp_path / "runs/ten/set.json").write_text("{}")
    (tmp_path / "runs/else").mkdir()
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_is_answered(shell: str, here: Path) -> None:
    assert completed(shell, "lstm-numba tr", here) == ["train"]
    assert completed(shell, "lstm-numba train digits --cell g", here) == ["gru", "gru-reset-before"]
    assert completed(shell, "lstm-numba evaluate runs/", here) == ["runs/digits-1", "runs/ptb-1", "runs/ten"]


def completions(words: str) -> list[str]:
    """The same within this process: the values only."""
    from click.shell_completion import ShellComplete

    *before, last = words.split(" ")
    return [
        item.value for item in ShellComplete(cli, {}, "lstm-numba", VARIABLE).get_completions(before, last)
    ]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("c", ["cache", "completion"]),
        ("--v", ["--version"]),
        ("train ", ["mnist", "digits", "ptb", "text", "series", "images", "grammar"]),
        ("train digits --cell LAYER", ["layer-norm-lstm", "layer-norm-gru"]),
        ("train digits --opt", ["--optimizer"]),
        ("train digits --optimizer a", ["adam", "adamw"]),
        ("train digits --init i", ["identity"]),
        ("train digits --resume ", ["mine", "runs/digits-1", "runs/ptb-1", "runs/ten"]),
        ("train digits --log csv,", ["csv,tensorboard"]),
        ("train ptb --preset m", ["medium"]),
        ("data fetch ", ["mnist", "ptb"]),
        ("warmup g", ["grammar"]),
        ("plot m", ["mine"]),
        ("plot mine runs/p", ["runs/ptb-1"]),
        ("import x.npz --run r", ["runs/digits-1", "runs/ptb-1", "runs/ten"]),
        ("export mine --format o", ["onnx"]),
        ("evaluate mine --split t", ["train", "test"]),
        ("bench --shape ptb", ["ptb-small", "ptb-medium", "ptb-large"]),
        ("bench --implementation cpu", ["cpu-serial", "cpu-parallel"]),
        ("experiment long-gap --cell clo", ["clockwork"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("trian digits --cel", []),
    ],
)
def test_values(words: str, found: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    assert completions(words) == found


def test_other_folders_are_left_to_the_shell(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    assert [(item.value, item.type) for item in run_items("runs/e")] == [("runs/e", "dir")]
    assert [item.value for item in run_items(f"{here}/mi")] == [f"{here}/mine"]
    monkeypatch.chdir(here / "runs/else")
    assert [(item.value, item.type) for item in run_items("")] == [("", "dir")]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_that_of_the_shell(shell: str) -> None:
    answer = invoke("completion", shell)
    assert (answer.status, answer.err) == (0, "")
    assert f"{VARIABLE}={shell}_complete" in answer.out
    assert "lstm-numba" in answer.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=answer.out, text=True, check=True, timeout=60)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script(here: Path) -> None:
    """The script within a bash, with a program of the name that it calls."""
    program = here / "lstm-numba"
    program.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    script = (
        f"{invoke('completion bash').out}\nCOMP_WORDS=(lstm-numba data fetch m); COMP_CWORD=3\n"
        '_lstm_numba_completion lstm-numba; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=here, env={**os.environ, "PATH": f"{here}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("mnist\n", "")
