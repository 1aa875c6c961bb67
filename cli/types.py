"""Click classes that the commands share: types that check values, help with headings, groups that list."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
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


class CellName(click.ParamType):
    """One of the library's cells, with variations or not, or ``module:Class``.

    The module is imported by whoever uses it.
    """

    name = "cell"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What help shows."""
        return "CELL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form of the name."""
        from lstm_numba.training.settings import CELL_TEXT, check_cell

        expected = check_cell(value)
        if expected:
            varied = isinstance(value, str) and "," in value
            why = expected if varied else f"one of {CELL_TEXT}"
            self.fail(f"{value!r} is not {why}", param, ctx)
        return str(value)


class Names(click.ParamType):
    """One or more of some names, with commas between them; see `joined_names` for more than one option."""

    name = "names"

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check each name."""
        for name in str(value).split(","):
            if name not in self.known:
                self.fail(f"{name!r} is not one of {', '.join(self.known)}", param, ctx)
        return str(value)


def joined_names(ctx: click.Context, param: click.Parameter, values: Sequence[str] | None) -> str | None:
    """A callback that joins what repeated options of `Names` give; None if there are none."""
    names = ",".join(values or ()).split(",")
    for name in names:
        if names.count(name) > 1:
            raise click.BadParameter(f"{name} is there twice", ctx, param)
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


class SectionedOption(click.Option):
    """An option that knows the heading under which help lists it."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


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
            ctx.fail(f"{'/'.join([*param.opts, *param.secondary_opts])}: is there {order.count(param)} times")


class SectionedCommand(click.Command):
    """A command whose help lists options under headings, and which takes an option of one value once only."""

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

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list for each heading, in the order of first appearance."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, "section", "Other options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


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
        if args and not args[0].startswith("-") and args[0] not in names:
            ctx.fail(f"no command {args[0]!r}; there are {', '.join(names)}")
        return super().resolve_command(ctx, args)


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
