"""Writes what the program says of its commands into a page: usage, description, arguments, options, examples.

    python -m lstm_numba.cli.page cli/README.md

A block ``<!-- command NAME -->`` ... ``<!-- end of command -->`` of the page gets all of ``lstm-numba NAME``
and of the commands below it, the block ``<!-- list of commands -->`` their list. Click's parameters are read,
not its help texts, so that the page does not depend on Click's version.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import click

from lstm_numba.benchmarks.markdown import table, with_blocks, write_page
from lstm_numba.cli.main import COMMANDS, cli

#: Groups whose commands share most options: one table says what all have, and where they differ.
_SHARING = ("train",)
#: What a command's options are listed under where it has no sections of its own.
_REST = "Other options"
#: How an option's help says what holds without it.
_DEFAULT = re.compile(r"\s*\[default: (.*)\]$", re.DOTALL)


@dataclass(frozen=True)
class _Row:
    """One option: its section, names, values, meaning and default."""

    section: str
    names: str
    values: str
    meaning: str
    default: str

    def cells(self) -> tuple[str, str, str, str]:
        """What a table shows beside the section."""
        return self.names, self.values, self.meaning, self.default


def page(text: str) -> str:
    """A page whose blocks are those of the program as it is.

    Parameters
    ----------
    text : str
        The page as it was.

    Returns
    -------
    str
        A command that has no block gets one at the end.

    Raises
    ------
    ValueError
        The page has two blocks of a command, or one of a command that does not exist.
    """
    named = re.findall(r"^<!-- command (\S+) -->$", text, re.MULTILINE)
    if len({*named}) < len(named) or not {*named} <= {*COMMANDS}:
        raise ValueError(f"expected a block for each of {', '.join(COMMANDS)}, got {', '.join(named)}")
    for name in COMMANDS:
        if name not in named:
            text += f"\n### `lstm-numba {name}`\n\n<!-- command {name} -->\n<!-- end of command -->\n"
    text = with_blocks(text, "list", lambda *_: _list_of_commands())
    return with_blocks(text, "command", lambda name: list(command_lines(name)))


def _list_of_commands() -> list[str]:
    rows = [(f"[`{name}`](#lstm-numba-{name})", _escaped(about)) for name, (_, about) in COMMANDS.items()]
    return table(["command", "what it does"], rows)


def command_lines(name: str) -> Iterator[str]:
    """The Markdown lines of ``lstm-numba NAME`` and of the commands below it."""
    command = _child(cli, name)
    path = ("lstm-numba", name)
    yield from _about(path, command)
    if not isinstance(command, click.Group):
        yield from _arguments([command])
        yield from _options(_rows(command))
        yield from _epilog(command)
        return
    yield from _epilog(command)
    children = {child: _child(command, child) for child in command.list_commands(click.Context(command))}
    if name in _SHARING:
        yield from _options(_shared(children))
    for child, below in children.items():
        yield from ("", f"#### `{' '.join((*path, child))}`", "")
        yield from _about((*path, child), below)
        yield from _arguments([below])
        if name not in _SHARING:
            yield from _options(_rows(below))
        yield from _epilog(below)


def _child(group: click.Group, name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command is not None, name
    return command


def _about(path: Sequence[str], command: click.Command) -> Iterator[str]:
    """Usage and description."""
    arguments = [_metavar(one) for one in command.params if isinstance(one, click.Argument)]
    below = ["COMMAND", "[ARGS]..."] if isinstance(command, click.Group) else []
    yield from ("```text", " ".join([*path, "[OPTIONS]", *arguments, *below]), "```")
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "").split("\f")[0]):
        if paragraph.startswith("\b\n"):  # lines that stay as they are
            lines = inspect.cleandoc("\n" + paragraph.removeprefix("\b\n")).splitlines()
            yield from ("", "```text", *lines, "```")
        elif paragraph.strip():
            yield from ("", _escaped(paragraph))


def _epilog(command: click.Command) -> Iterator[str]:
    r"""Examples: paragraphs that begin with ``\b``, whose first line is their heading."""
    for paragraph in re.split(r"\n\s*\n", (command.epilog or "").strip("\n")):
        heading, *lines = paragraph.removeprefix("\b\n").splitlines()
        lines = inspect.cleandoc("\n" + "\n".join(lines)).splitlines()
        if lines:
            shell = all(re.match(r"(\S+ \| |mpiexec .*)?lstm-numba ", line) for line in lines)
            yield from ("", _escaped(heading), "", f"```{'sh' if shell else 'text'}", *lines, "```")


def _metavar(argument: click.Argument) -> str:
    """How usage names an argument."""
    if argument.metavar is not None:
        return argument.metavar
    name = (argument.name or "").upper()
    return (name if argument.required else f"[{name}]") + ("..." if argument.nargs == -1 else "")


def _arguments(commands: Sequence[click.Command]) -> Iterator[str]:
    """The arguments that are described."""
    rows = [
        (f"`{_metavar(one)}`", _values(one), _escaped(getattr(one, "help", None) or ""))
        for command in commands
        for one in command.params
        if isinstance(one, click.Argument)
    ]
    if any(values or meaning for _, values, meaning in rows):
        yield from ("", *table(["argument", "values", "meaning"], rows))


def _rows(command: click.Command) -> list[_Row]:
    """The options of a command, section by section."""
    rows = [_row(one) for one in command.params if isinstance(one, click.Option) and not one.hidden]
    sections = list(dict.fromkeys(row.section for row in rows))
    return sorted(rows, key=lambda row: sections.index(row.section))


def _row(option: click.Option) -> _Row:
    help = option.help or ""
    said = _DEFAULT.search(help)
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    meaning = _escaped(_DEFAULT.sub("", help))
    if option.multiple and not re.search("repeated|once for each|often", help):
        meaning += " May be repeated."
    default = _escaped(said[1]) if said else _shown_default(option)
    return _Row(getattr(option, "section", _REST), names, _values(option), meaning, default)


def _shown_default(option: click.Option) -> str:
    """The default that help shows."""
    if option.required:
        return "required"
    shown, value = option.show_default, option.default
    if isinstance(shown, str):
        return _escaped(shown)
    if not shown or value is None or option.is_flag or callable(value) or type(value).__name__ == "Sentinel":
        return ""
    values = value if isinstance(value, (list, tuple)) else [value]
    return ", ".join(f"`{one}`" for one in values)


def _values(parameter: click.Parameter) -> str:
    """What may stand there: the choices, else a word for it."""
    if isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count):
        return ""
    if isinstance(parameter.type, click.Choice):
        return ", ".join(f"`{one}`" for one in parameter.type.choices)
    if isinstance(parameter, click.Argument):
        return ""
    return f"`{parameter.metavar or parameter.type.name.upper()}`"


def _shared(commands: dict[str, click.Command]) -> list[_Row]:
    """The options of several commands, each once, with the defaults of each where they differ."""
    found: dict[_Row, dict[str, str]] = {}
    for name, command in commands.items():
        for row in _rows(command):
            default = row.default.replace(f"/{name}-", "/NAME-")
            found.setdefault(replace(row, default=""), {})[name] = default
    rows = []
    for row, defaults in found.items():
        meaning = row.meaning
        if len(defaults) < len(commands):
            meaning += f" ({', '.join(f'`{name}`' for name in defaults)})"
        rows.append(replace(row, meaning=meaning, default=_default_of_each(defaults)))
    sections = list(dict.fromkeys(row.section for row in rows))
    return sorted(rows, key=lambda row: sections.index(row.section))


def _default_of_each(defaults: dict[str, str]) -> str:
    """The most frequent default, and those of the other commands."""
    values = list(defaults.values())
    common = max(values, key=values.count)
    others = [
        f"{', '.join(f'`{name}`' for name in defaults if defaults[name] == value)}: {value or 'none'}"
        for value in dict.fromkeys(values)
        if value != common
    ]
    return "; ".join([common or "none", *others]) if others else common


def _options(rows: Sequence[_Row]) -> Iterator[str]:
    """A table, section by section; a section is named where it begins."""
    cells = [
        (row.section if before is None or before.section != row.section else "", *row.cells())
        for before, row in zip([None, *rows], rows, strict=False)
    ]
    if rows:
        yield from ("", *table(["", "option", "value", "meaning", "default"], cells))


def _escaped(text: str) -> str:
    """Text as Markdown that shows it as it is, but for what stands between backticks."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        (piece if piece.startswith("`") else re.sub(r"[*<]", lambda found: "\\" + found[0], piece)).replace(
            "|", "\\|"
        )
        for piece in pieces
    )


if __name__ == "__main__":
    write_page(__doc__, "the README.md of the command line", lambda text, _: page(text))
