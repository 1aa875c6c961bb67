"""Click classes that the commands share: types that check values, help with headings, groups that list."""

from __future__ import annotations

import math
from typing import Any

import click

from lstm_numba.training.config import CELLS, refuse_cell

#: Larger counts are typing errors, and would overflow somewhere deep inside.
_LARGEST = 2**31 - 1


class Count(click.ParamType):
    """A whole number from `minimum` to 2**31 - 1."""

    name = "integer"

    def __init__(self, minimum: int = 1) -> None:
        self.minimum = minimum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number or fail with what was expected."""
        try:
            number = int(value)
        except (TypeError, ValueError):
            number = self.minimum - 1
        if not self.minimum <= number <= _LARGEST:
            self.fail(f"{value!r} is not a whole number from {self.minimum} to {_LARGEST}", param, ctx)
        return number


class Real(click.ParamType):
    """A finite number inside bounds.

    Parameters
    ----------
    minimum, maximum : float
        Bounds.
    above, below : bool
        The bound itself is excluded.
    """

    name = "number"

    def __init__(
        self,
        minimum: float = -math.inf,
        maximum: float = math.inf,
        *,
        above: bool = False,
        below: bool = False,
    ) -> None:
        self.minimum, self.maximum, self.above, self.below = minimum, maximum, above, below

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the number or fail with what was expected."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        inside = self.minimum <= number <= self.maximum
        if (self.above and number == self.minimum) or (self.below and number == self.maximum):
            inside = False
        if not inside or not math.isfinite(number):
            self.fail(f"{value!r} is not {self._expected()}", param, ctx)
        return number

    def _expected(self) -> str:
        parts = []
        if self.minimum > -math.inf:
            parts.append(f"{'above' if self.above else 'at least'} {self.minimum:g}")
        if self.maximum < math.inf:
            parts.append(f"{'below' if self.below else 'at most'} {self.maximum:g}")
        return " ".join(["a finite number", " and ".join(parts)]).strip()


class CellName(click.ParamType):
    """One of the library's cells, with variations or not, or ``module:Class``.

    The module is imported by whoever uses it.
    """

    name = "cell"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What help shows."""
        return f"[{'|'.join(CELLS)}|MODULE:CLASS]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form of the name."""
        expected = refuse_cell(value)
        if expected:
            varied = isinstance(value, str) and "," in value
            why = expected if varied else f"one of {', '.join(CELLS)}, nor MODULE:CLASS"
            self.fail(f"{value!r} is not {why}", param, ctx)
        return str(value)


class SectionedOption(click.Option):
    """An option that knows the heading under which help lists it."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help lists its options under headings."""

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
