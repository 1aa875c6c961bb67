"""What an experiment found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

#: Told how many of how many parts of an experiment are done, and what it is at.
Progress = Callable[[int, int, str], None]


class Claim(NamedTuple):
    """A claim, and whether it held.

    Attributes
    ----------
    text : str
        What is claimed, as a sentence without a full stop.
    held : bool
    because : str
        The numbers of this run that say so.
    """

    text: str
    held: bool
    because: str

    def line(self) -> str:
        """The claim as one line: ``the claim held: ...``."""
        return f"the claim {'held' if self.held else 'did not hold'}: {self.text} ({self.because})"


class Outcome(NamedTuple):
    """A table, what pictures are drawn from, and claims.

    Attributes
    ----------
    name : str
        Of the experiment.
    settings : dict
        What it was run with, the seed too.
    columns : tuple of str
        Columns of the table that are shown; rows may have more.
    rows : list of dict
        Strings, numbers, booleans, None, and lists of these.
    series : dict
        What pictures need besides, of the same.
    claims : sequence of Claim
        The last one is the experiment's main claim.
    """

    name: str
    settings: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    series: dict[str, Any]
    claims: Sequence[Claim]

    def document(self) -> dict[str, Any]:
        """All of it as an object for JSON."""
        claims = [claim._asdict() for claim in self.claims]
        return {
            "experiment": self.name,
            "settings": self.settings,
            "columns": list(self.columns),
            "rows": self.rows,
            "series": self.series,
            "claims": claims,
        }
