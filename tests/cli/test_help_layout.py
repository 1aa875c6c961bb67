"""The help of every command keeps to one layout, whatever version of Click is installed.

CI runs this with one version; the rules are such that all versions from 8.1 on give the same text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import click
import pytest
from cli_tools import invoke

from lstm_numba.cli.main import cli

#: Columns of a terminal.
WIDTH = 80
#: Headings in their order: the arguments, a command's own ones (None), and those that commands share.
SHARED = ("Network", "Optimization", "Data", "Computer", "Run", "Output", "Other options")
#: What no help says: not the field's terms, or not English.
ODD = re.compile(
    r"optimis|\bgrey\b|picture|go(es)? on with|cannot stand|stand beside|(?<!there )(is|are) no "
    r"|lowest reachable|passes over|options you give|\bone of your own\b|\bis there\b",
    re.IGNORECASE,
)


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, by the words that call it."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from walk(child, (*path, name))


EVERY = dict(walk(cli))


@functools.cache
def lines_of(words: str, columns: int = WIDTH) -> list[str]:
    """The help of a command on a terminal so wide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        answer = invoke(f"{words} --help")
    assert (answer.status, answer.err) == (0, "")
    return answer.out.splitlines()


def headings(lines: list[str]) -> list[str]:
    """The headings at the left edge, without the line of usage."""
    return [line[:-1] for line in lines if re.fullmatch(r"[A-Z][^:]*:", line)]


@pytest.mark.parametrize("words", EVERY, ids=[words or "lstm-numba" for words in EVERY])
@pytest.mark.parametrize("columns", [WIDTH, 200])
def test_width_and_order(words: str, columns: int) -> None:
    lines = lines_of(words, columns)
    assert lines[0].startswith(f"Usage: lstm-numba {words}".rstrip())
    assert [line for line in lines if len(line) > WIDTH] == []
    found = headings(lines)
    shared = [heading for heading in found if heading in SHARED]
    assert shared == [heading for heading in SHARED if heading in shared]
    if isinstance(EVERY[words], click.Group):
        assert found == ["Options", "Commands"]
    else:
        own = [heading for heading in found if heading not in (*SHARED, "Arguments")]
        assert found == [*(["Arguments"] if "Arguments" in found else []), *own, *shared]
        assert found[-1] == "Other options"


@pytest.mark.parametrize("words", EVERY, ids=[words or "lstm-numba" for words in EVERY])
def test_examples_come_last(words: str) -> None:
    lines = lines_of(words)
    (start,) = [n for n, line in enumerate(lines) if line.strip() == "Examples:"]
    assert len(lines) > start + 1
    call = re.compile(r"    (mpiexec -n 2 )?lstm-numba ")
    assert [line for line in lines[start + 1 :] if not call.match(f"{line} ")] == []
    assert start > max(n for n, line in enumerate(lines) if re.fullmatch(r"[A-Z][^:]*:", line))


@pytest.mark.parametrize("words", EVERY, ids=[words or "lstm-numba" for words in EVERY])
def test_arguments_and_options_are_described(words: str) -> None:
    command, lines = EVERY[words], lines_of(words)
    context = click.Context(command)
    text = "\n".join(lines)
    for param in command.params:
        record = param.get_help_record(context)
        assert record is not None, f"{param.name} has no description"
        name, about = record
        assert about.strip()[0].isalnum() or about.startswith(("[", "-")), about
        assert re.search(rf"^  {re.escape(name)}( |$)", text, re.MULTILINE), name
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    assert ("Arguments:" in lines) == bool(arguments)
    usage = " ".join(lines[0].split()[2 + len(words.split()) :])
    for param in arguments:
        assert str(param.metavar) in usage


@pytest.mark.parametrize("words", EVERY, ids=[words or "lstm-numba" for words in EVERY])
def test_terms_are_those_of_the_field(words: str) -> None:
    text = " ".join(" ".join(lines_of(words)).split())
    assert [found.group() for found in ODD.finditer(text)] == []


def test_lists_of_commands_are_whole_sentences() -> None:
    for words, command in EVERY.items():
        if isinstance(command, click.Group):
            assert "..." not in "\n".join(lines_of(words)).partition("Commands:")[2].partition("Examples")[0]
