"""Every command has help and an example that parses; the README's commands parse, too."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from cli_tools import parsed
from repository import ROOT

from lstm_numba.cli.main import COMMANDS, cli

README = (ROOT / "README.md").read_text(encoding="utf-8")


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from walk(child, (*path, name))


EVERY = list(walk(cli, ("lstm-numba",)))
LEAVES = [(path, command) for path, command in EVERY if not isinstance(command, click.Group)]
NAMES = [" ".join(path) for path, _ in EVERY]
LEAF_NAMES = [" ".join(path) for path, _ in LEAVES]


def examples(command: click.Command) -> list[list[str]]:
    """Command lines of a command's examples, without the program's name."""
    lines = re.findall(r"^  (lstm-numba .+)$", command.epilog or "", re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]


def test_all_commands_are_found() -> None:
    found = {path[1:] for path, _ in EVERY}
    datasets = ("mnist", "ptb", "text", "series", "images", "digits", "grammar")
    trainings = {("train", dataset) for dataset in datasets}
    assert trainings | {("data", verb) for verb in ("list", "fetch", "verify")} <= found
    others = ("evaluate", "predict", "stream", "sample", "plot", "inspect", "bench", "warmup", "info")
    assert {(one,) for one in (*others, "sweep")} <= found


@pytest.mark.parametrize(("path", "command"), EVERY, ids=NAMES)
@pytest.mark.smoke
def test_help(path: tuple[str, ...], command: click.Command, capsys: pytest.CaptureFixture[str]) -> None:
    from lstm_numba.cli.main import run

    for flag in ("-h", "--help"):
        assert run([*path[1:], flag]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert (command.help or "").split("\n")[0].strip()[:40] in " ".join(out.split())
        assert "Example" in out
        assert max(map(len, out.splitlines())) <= 110


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=LEAF_NAMES)
def test_every_option_says_what_it_does(path: tuple[str, ...], command: click.Command) -> None:
    context = click.Context(command, info_name=path[-1])
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.opts}: no help"
            default = parameter.get_default(context)
            if isinstance(default, (int, float, str)) and default is not False:
                shown = (parameter.get_help_record(context) or ("", ""))[1]
                assert "default: " in shown, f"{parameter.opts}: hides its default"


@pytest.mark.parametrize(("path", "command"), EVERY, ids=NAMES)
def test_examples_parse_as_this_command(path: tuple[str, ...], command: click.Command) -> None:
    lines = examples(command)
    assert lines, "no example"
    if isinstance(command, click.Group):
        for line in lines:
            assert tuple(line[: len(path) - 1]) == path[1:], "an example of another command"
            assert line[len(path) - 1] in command.list_commands(click.Context(command))
        return
    for line in lines:
        assert tuple(line[: len(path) - 1]) == path[1:], "an example of another command"
        rest = [re.sub(r"^~.*", "/tmp", word) for word in line[len(path) - 1 :]]
        parsed(command, rest)


@pytest.mark.smoke
def test_readme_examples_parse() -> None:
    lines = re.findall(r"^lstm-numba (.+?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert lines
    for line in lines:
        words = [re.sub(r"^~.*", "/tmp", word) for word in shlex.split(line)]
        command: click.Command = cli
        while isinstance(command, click.Group):
            child = command.get_command(click.Context(command), words.pop(0))
            assert child is not None, line
            command = child
        parsed(command, words)


def test_list_of_commands_says_what_the_commands_say() -> None:
    for command, (_, text) in COMMANDS.items():
        found = cli.get_command(click.Context(cli), command)
        assert found is not None
        assert text.endswith(".")
        assert found.name == command


def test_names_in_the_help_are_the_names_that_exist() -> None:
    from lstm_numba.cli.data import _PUBLISHED
    from lstm_numba.data.catalog import DATASETS
    from lstm_numba.data.images import VIEWS
    from lstm_numba.training.settings import DATASETS as TRAINED

    assert set(TRAINED) == set(DATASETS)
    assert set(_PUBLISHED) == {name for name, dataset in DATASETS.items() if dataset.files}
    train = cli.get_command(click.Context(cli), "train")
    assert isinstance(train, click.Group)
    assert set(train.commands) == set(TRAINED)
    for name in ("mnist", "digits", "images"):
        (view,) = [p for p in train.commands[name].params if p.name == "view"]
        assert isinstance(view.type, click.Choice)
        assert tuple(view.type.choices) == VIEWS


def test_help_imports_nothing_heavy() -> None:
    """Which is what makes it fast; the help of a command imports no numba either."""
    code = (
        "import sys\n"
        "from lstm_numba.cli.main import run\n"
        "def imported(*names):\n"
        "    print([name for name in names if name in sys.modules], file=sys.stderr)\n"
        "assert run(['--help']) == 0\n"
        "imported('numba', 'numpy', 'scipy', 'pooch', 'matplotlib', 'safetensors', 'lstm_numba.cli.train')\n"
        "commands = 'train mnist', 'evaluate', 'predict', 'sample', 'plot', 'data list', 'info', 'bench'\n"
        "for words in (*commands, 'inspect', 'warmup', 'export', 'import', 'sweep'):\n"
        "    assert run([*words.split(), '-h']) == 0\n"
        "imported('numba', 'numpy', 'matplotlib')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["[]", "[]"]
