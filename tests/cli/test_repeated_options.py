"""Options that are there twice: refused where they take one value; each cell of `train` gets a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_tools import Answer, invoke, make_run

from lstm_numba.cli.main import cli

SMALL = "train digits --images 60 --hidden 6 --batch-size 20 --epochs 1 --threads 1"


def leaves(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command with its words."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from leaves(inner, (*path, name))
    else:
        yield " ".join(path), command


LEAVES = list(leaves())


def refused(answer: Answer, *fragments: str) -> None:
    """Wrong usage, in one line with these words."""
    assert answer.status == 2
    (line,) = answer.err.splitlines()
    for fragment in fragments:
        assert fragment in line


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_every_option_of_one_value_is_taken_once(name: str, command: click.Command) -> None:
    """Parsed only: nothing is read or trained."""
    once = 0
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        words = [option.opts[-1], *([] if option.is_flag else ["1"] * option.nargs)]
        # With the names of the program: a command remembers its help option.
        parser = command.make_parser(click.Context(command, help_option_names=["-h", "--help"]))
        if option.multiple:
            assert parser.parse_args([*words, *words])[2].count(option) == 2
            continue
        assert parser.parse_args(list(words))[2].count(option) == 1
        with pytest.raises(click.UsageError, match=f"{option.opts[-1]}.*: is given 2 times"):
            parser.parse_args([*words, *words])
        once += 1
    assert once >= 1 or name == "completion"


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("train digits --hidden 64 --hidden 128", "--hidden"),
        ("train digits --hidden=64 --lr 1 --hidden=64", "--hidden"),
        ("train grammar --tie --no-tie", "--tie/--no-tie"),
        ("evaluate run --split valid --split test", "--split"),
        ("predict run x.png --invert --no-invert", "--invert/--no-invert"),
        ("sample run --seed 1 --seed 2", "--seed"),
        ("plot run --out a --out b", "--out"),
        ("bench --repeats 3 --turns 4", "--repeats"),
        ("data fetch mnist --data-dir . --data-dir .", "--data-dir"),
        ("warmup digits --dtype float32 --dtype float64", "--dtype"),
    ],
)
def test_the_last_one_does_not_win(words: str, flag: str) -> None:
    refused(invoke(words), f"{flag}: is given 2 times")


def test_help_may_be_asked_for_twice() -> None:
    assert invoke("train digits -h --help").status == 0


# -- several cells -----------------------------------------------------------------------------------


def test_each_cell_gets_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    answer = invoke(SMALL, "--cell", "lstm", "--cell", "gru")
    assert answer.status == 0, answer.err
    lines = answer.out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["lstm", "gru"]
    for number, cell in enumerate(("lstm", "gru"), 1):
        run = Path("runs", f"digits-{number}")
        assert json.loads((run / "config.json").read_text())["cell"] == cell
        assert lines[number - 1].endswith(f"(1 epoch, {run})")
    assert answer.err.splitlines()[-2] == (
        "a comparison needs matplotlib: pip install 'lstm_numba[plot]'; "
        "then: lstm-numba plot runs/digits-1 runs/digits-2"
    )
    # Each is the run that it would have been alone.
    assert invoke(SMALL, "--cell", "gru", "--out", "alone").status == 0
    name = "checkpoint.safetensors"
    assert Path("alone", name).read_bytes() == Path("runs", "digits-2", name).read_bytes()


def test_in_a_folder_with_their_comparison(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    out = tmp_path / "out"
    found = invoke(SMALL, "--cell", "lstm,clip=3", "--cell", "gru", "--out", out, "--json").json()
    assert [one["cell"] for one in found["runs"]] == ["lstm,clip=3", "gru"]
    assert [one["run"] for one in found["runs"]] == [str(out / "lstm-clip-3"), str(out / "gru")]
    assert found["comparison"] == [str(out / "comparison.png"), str(out / "comparison.svg")]
    assert {path.name for path in out.iterdir()} == {"lstm-clip-3", "gru", "comparison.png", "comparison.svg"}
    for one in found["runs"]:
        assert invoke("evaluate", one["run"], "--json").json()["loss"] == one["loss"]
    assert "runs" not in invoke(SMALL, "--cell", "gru", "--out", tmp_path / "one", "--json").json()


def test_cells_that_do_not_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "run", "digits")
    refused(invoke(SMALL, "--cell", "lstm", "--cell", "lstm"), "--cell: lstm is given twice")
    refused(
        invoke("train digits --resume run --cell lstm --cell gru"),
        "--cell: expected at most one with --resume, which resumes one run, got 2",
    )
    # Before anything is trained.
    refused(invoke(SMALL, "--cell", "lstm", "--cell", "gru", "--forget-bias", "1"), "--forget-bias", "gru")
    answer = invoke(SMALL, "--cell", "lstm", "--cell", "gru", "--out", run)
    assert (answer.status, "already holds a run" in answer.err) == (1, True)
    assert not (tmp_path / "runs").exists()
