"""Misspelt commands, options and values: the error says what may have been meant, in one line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from cli_tools import invoke, make_run

from lstm_numba.cells import canonical_name
from lstm_numba.cli.main import cli
from lstm_numba.cli.suggestions import OTHER_NAMES


def refused(words: str, status: int, text: str) -> None:
    """The whole of standard error is one line with this text."""
    answer = invoke(words)
    assert (answer.status, answer.out) == (status, "")
    (line,) = answer.err.splitlines()
    assert text in line


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("trian", "error: No such command 'trian'. Did you mean 'train'? (try 'lstm-numba -h')"),
        ("Evaluate", "No such command 'Evaluate'. Did you mean 'evaluate'?"),
        ("train mnits", "No such command 'mnits'. Did you mean 'mnist'? (try 'lstm-numba train -h')"),
        ("experiment log-gap", "No such command 'log-gap'. Did you mean 'long-gap'?"),
        ("xyzzy", "No such command 'xyzzy': expected one of train, sweep, evaluate, predict,"),
        ("data fetch mnsit", "'mnsit' is not one of mnist, ptb. Did you mean 'mnist'?"),
        ("warmup mnits", "Did you mean 'mnist'?"),
        (
            "train digits --optimizer adm",
            "'adm' is not one of sgd, adam, adamw, rmsprop, nt-asgd. Did you mean 'adam'?",
        ),
        ("train digits --optimizer ADAM", "Did you mean 'adam'?"),
        ("train digits --log cvs", "'cvs' is not one of csv, tensorboard. Did you mean 'csv'?"),
        ("train digits --cell gur", "MODULE:CLASS, a custom cell. Did you mean 'gru'?"),
        ("train digits --cell peephol", "Did you mean 'peephole'?"),
        ("train digits --gpu", "No such option '--gpu'. Did you mean '--device cuda'?"),
        ("train digits --cuda", "Did you mean '--device cuda'?"),
        ("train digits --learning-rate 1", "No such option '--learning-rate'. Did you mean '--lr'?"),
        ("train digits --learning-rate=1", "Did you mean '--lr'?"),
        ("train digits --batch 3", "Did you mean '--batch-size'?"),
        ("train digits --hidden-size 3", "Did you mean '--hidden'?"),
        ("train digits --num-layers 3", "Did you mean '--layers'?"),
        ("train digits --output x", "Did you mean '--out'?"),
        ("train digits --bidir", "Did you mean '--bidirectional'?"),
        ("train digits --epoch 3", "Did you mean '--epochs'?"),
        ("train digits --tie", "--tie is an option of ptb, text, grammar, not of digits"),
        ("evaluate x --dta-dir y", "Did you mean '--data-dir'?"),
        ("--verson", "No such option '--verson'. Did you mean '--version'?"),
    ],
)
def test_suggestions(words: str, text: str) -> None:
    refused(words, 2, text)


@pytest.mark.parametrize(
    "words", ["info --gpu", "--gpu", "train digits --qqqqqqqq", "train digits --cell zzzz"]
)
def test_nothing_is_suggested_where_nothing_is_near(words: str) -> None:
    assert "Did you mean" not in invoke(words).err


def test_other_names_are_no_options_and_lead_to_some() -> None:
    train = cli.get_command(click.Context(cli), "train")
    assert isinstance(train, click.Group)
    flags = {flag for command in train.commands.values() for param in command.params for flag in param.opts}
    assert not flags & OTHER_NAMES.keys()
    assert {meant.split()[0] for meant in OTHER_NAMES.values()} <= flags


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("LSTM", "lstm"),
        ("Rnn-ReLU", "rnn-relu"),
        ("Clockwork", "clockwork"),
        ("GRU,F=hardsigmoid,CLIP=3.0", "gru,f=HardSigmoid,clip=3.0"),
        ("lstm,g=ELU_0.5,Input_Forget", "lstm,g=Elu_0.5,input_forget"),
        ("Module:Class", "Module:Class"),
        ("LSTMM", "LSTMM"),
    ],
)
def test_the_case_of_cells_is_ignored(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical


def test_a_run_has_the_canonical_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lstm_numba as ln
    from lstm_numba.training.config import make_config

    seen = []

    def enough(config: dict[str, object], **_: object) -> None:
        seen.append(config["cell"])
        raise click.Abort

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lstm_numba.training.tasks.build_task", enough)
    for cell in ("GRU", "Lstm,F=relu", "peepHole"):
        assert invoke("train digits --threads 1 --cell", cell).status == 130
    assert seen == ["gru", "lstm,f=Relu", "peephole"]
    assert make_config("digits", {"cell": seen[1]})["cell"] == "lstm,f=Relu"
    assert ln.make_layer("GRU", 2, 3).cell is ln.make_layer("gru", 2, 3).cell
    assert type(ln.make_layer("Clockwork", 2, 4)) is ln.ClockworkRNN
    with pytest.raises(ValueError, match=r"got 'gur'; did you mean gru\?"):
        ln.make_layer("gur", 2, 3)


def test_missing_folders_and_files_are_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    Path("empty").mkdir()
    make_run(Path("run"), "digits")
    for words in ("train mnist", "data list", "data verify mnist", "evaluate run", "info"):
        refused(f"{words} --data-dir nowhere", 2, "'--data-dir': folder nowhere does not exist")
        refused(f"{words} --data-dir file", 2, "'--data-dir': file is a file, expected a folder")
    refused("inspect run --out file", 2, "'--out': file is a file, expected a folder")
    for words in (
        "evaluate {}",
        "predict {} x",
        "sample {}",
        "plot {}",
        "stream {}",
        "train digits --resume {}",
    ):
        refused(words.format("runs/x"), 1, "error: run folder runs/x does not exist")
        refused(words.format("file"), 1, "error: file: is a file, expected a run folder")
        refused(words.format("empty"), 1, "error: empty: not a run folder, it has no config.json")
    for words in ("train text gone", "sweep gone.toml", "import gone.npz --list", "predict run gone.png"):
        refused(words, 1, "no such file")
    refused("train images gone", 1, "no such folder")
