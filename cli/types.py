"""Click classes that the commands share: types of values, help with headings, groups that name commands."""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lstm_numba.cli.shell_values import items, last_of, run_items
from lstm_numba.cli.suggestions import did_you_mean, no_such_command, no_such_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from lstm_numba.training.settings import Range

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.ParamType):
    """A number in a range of `lstm_numba.training.settings`."""

    def __init__(self, allowed: Range) -> None:
        self.allowed = allowed
        self.name = "integer" if allowed.whole else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the number or fail with what was expected."""
        number: float | None
        try:
            number = int(value) if self.allowed.whole else float(value)
        except (TypeError, ValueError):
            number = None
        expected = self.allowed(number)
        if number is None or expected:
            self.fail(f"{value!r} is not {expected.replace('a number', 'a finite number')}", param, ctx)
        return number


class Choice(click.Choice):  # type: ignore[type-arg, unused-ignore]  # generic since Click 8.2
    """One of some words; the message about another one says which it may have meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, or fail."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            known = [str(choice) for choice in self.choices]
            self.fail(
                f"{value!r} is not one of {', '.join(known)}{did_you_mean(str(value), known)}", param, ctx
            )


class Folder(click.Path):
    """A folder, which may have to exist; a missing one is called missing, and a file a file."""

    def __init__(self, exists: bool = False) -> None:
        super().__init__(exists=exists, file_okay=False)
        self.name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check what there is under this name."""
        try:
            mode = os.stat(value).st_mode
        except (FileNotFoundError, NotADirectoryError):
            if self.exists:
                self.fail(f"folder {value} does not exist", param, ctx)
        except (OSError, ValueError) as error:  # no access, a name too long, a NUL byte
            self.fail(f"{value!r} is not a folder: {getattr(error, 'strerror', None) or error}", param, ctx)
        else:
            if not stat.S_ISDIR(mode):
                self.fail(f"{value} is a file, expected a folder", param, ctx)
        return super().convert(value, param, ctx)


class RunFolder(click.Path):
    """A run folder, or the folder of a set of runs. Who opens it checks it; this completes its name."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Run folders that begin with the word."""
        return run_items(incomplete)


class CellName(click.ParamType):
    """One of the library's cells in any case, with variations or not, or ``module:Class``.

    The module is imported by whoever uses it.
    """

    name = "cell"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What help shows."""
        return "CELL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form of the name."""
        from lstm_numba.cells import canonical_name
        from lstm_numba.training.settings import CELL_NAMES, CELL_TEXT, check_cell

        name = canonical_name(str(value))
        expected = check_cell(name)
        if expected:
            why = expected if "," in name else f"one of {CELL_TEXT}{did_you_mean(name, CELL_NAMES)}"
            self.fail(f"{value!r} is not {why}", param, ctx)
        return name

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The library's cells."""
        from lstm_numba.training.settings import CELL_NAMES

        return items(CELL_NAMES, incomplete)


class Names(click.ParamType):
    """One or more of some names, with commas between them; see `joined_names` for more than one option."""

    name = "names"

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check each name."""
        for name in str(value).split(","):
            if name not in self.known:
                near = did_you_mean(name, self.known)
                self.fail(f"{name!r} is not one of {', '.join(self.known)}{near}", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that are not there yet, after those that are."""
        return last_of(self.known, incomplete)


def joined_names(ctx: click.Context, param: click.Parameter, values: Sequence[str] | None) -> str | None:
    """A callback that joins what repeated options of `Names` give; None if there are none."""
    names = ",".join(values or ()).split(",")
    for name in names:
        if names.count(name) > 1:
            raise click.BadParameter(f"{name} is given twice", ctx, param)
    return ",".join(names) or None


class ColumnNames(click.ParamType):
    """Names separated by commas; one that has a comma itself stands in quotation marks."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Part the names."""
        import csv

        if isinstance(value, list):
            return value
        try:
            rows = list(csv.reader([value], strict=True, skipinitialspace=True))
        except csv.Error as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        names = [name.strip() for row in rows for name in row]
        if not names or not all(names):
            self.fail(f"{value!r} is not a list of names, separated by commas", param, ctx)
        return names


def flat_names(
    ctx: click.Context, param: click.Parameter, values: Sequence[list[str]] | None
) -> list[str] | None:
    """A callback that puts together what repeated options of `ColumnNames` give; None if there are none."""
    return [name for names in values or () for name in names] or None


#: Headings that commands share, in their order, after those that are a command's own.
_LAST_SECTIONS = ("Network", "Optimization", "Data", "Computer", "Run", "Output", "Other options")


class SectionedOption(click.Option):
    """An option that knows the heading under which help lists it."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class DescribedArgument(click.Argument):
    """An argument that help describes, with every version of Click."""

    def __init__(self, *args: Any, help: str, metavar: str, **kwargs: Any) -> None:
        super().__init__(*args, metavar=metavar, **kwargs)
        self.help = help
        self.section = "Arguments"

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """What help lists."""
        return str(self.metavar), str(self.help)


def argument(name: str, metavar: str, help: str, **attributes: Any) -> Callable[[F], F]:
    """An argument with its name in usage and its description, as a decorator."""
    return click.argument(name, cls=DescribedArgument, metavar=metavar, help=help, **attributes)


def option(section: str, *names: str, **attributes: Any) -> Callable[[F], F]:
    """An option under a heading, as a decorator."""
    return click.option(*names, cls=SectionedOption, section=section, **attributes)


def refuse_repeated(ctx: click.Context, order: Sequence[click.Parameter]) -> None:
    """Refuse an option that is there more than once and takes one value.

    Parameters
    ----------
    ctx : Context
    order : sequence of Parameter
        What the command line holds, as often as it is there.

    Raises
    ------
    click.UsageError
    """
    for param in order:
        single = isinstance(param, click.Option) and not (param.multiple or param.count or param.is_eager)
        if single and order.count(param) > 1:
            ctx.fail(f"{'/'.join([*param.opts, *param.secondary_opts])}: is given {order.count(param)} times")


class SectionedCommand(click.Command):
    """A command whose help lists arguments and options under headings.

    It takes an option of one value once only, and says what a misspelt one may have meant.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            ctx.fail(self.unknown_option(ctx, error.option_name))

    def unknown_option(self, ctx: click.Context, name: str) -> str:
        """The message about an option that the command does not have."""
        return no_such_option(name, ctx)

    def make_parser(self, ctx: click.Context) -> Any:
        """The parser of Click, which by itself takes the last value of an option without a word."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def once(args: list[str]) -> Any:
            values, rest, order = parse(args)
            if not ctx.resilient_parsing:
                refuse_repeated(ctx, order)
            return values, rest, order

        parser.parse_args = once
        return parser

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write nothing: Click 8.5 calls this, others do not; `format_options` lists the arguments, too."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list for each heading: the arguments, the command's own headings, those of all."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            heading = "Other options" if "--help" in param.opts else getattr(param, "section", "Options")
            if record is not None:
                sections.setdefault(heading, []).append(record)
        ordered = [heading for heading in sections if heading not in _LAST_SECTIONS]
        for heading in (*ordered, *_LAST_SECTIONS):
            if sections.get(heading):
                with formatter.section(heading):
                    formatter.write_dl(sections[heading])


class NamingGroup(click.Group):
    """A group that answers a misspelt command with the names there are, in the order of definition."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which the commands were defined, not in that of the alphabet."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names."""
        names = self.list_commands(ctx)
        known = ctx.resilient_parsing or not args or args[0].startswith("-") or args[0] in names
        if not known:
            ctx.fail(no_such_command(args[0], names))
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            ctx.fail(no_such_option(error.option_name, ctx))


class LazyGroup(NamingGroup):
    """A group whose commands are imported only when they are called.

    Parameters
    ----------
    homes : dict
        Command -> (module, one line for the list of commands), in the order in which a newcomer needs them.
        The module defines a command of the module's name, which for a command's name has "_" for "-".
    """

    def __init__(self, *args: Any, homes: Mapping[str, tuple[str, str]], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._homes = homes

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands."""
        return list(self._homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return the command."""
        if cmd_name not in self._homes:
            return None
        home = self._homes[cmd_name][0]
        command: click.Command = getattr(importlib.import_module(home), home.rpartition(".")[2])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._homes.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands without importing them."""
        from click.shell_completion import CompletionItem

        begun = [(name, text) for name, (_, text) in self._homes.items() if name.startswith(incomplete)]
        found = [CompletionItem(name, help=text) for name, text in begun]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]
