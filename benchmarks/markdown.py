"""Tables as Markdown, and pages that have them between marks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence


def row(cells: Sequence[object]) -> str:
    """One line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table."""
    return [row(head), row(["---"] * len(head)), *map(row, rows)]


def with_blocks(text: str, kind: str, lines: Callable[..., Sequence[str]]) -> str:
    """A page whose blocks of a kind hold what a function of their words says.

    Parameters
    ----------
    text : str
    kind : str
        A block begins with ``<!-- KIND WORD WORD -->`` and ends with ``<!-- end of KIND -->``.
    lines : callable
        Words -> lines.
    """
    blocks = re.compile(rf"(<!-- {kind} ([^\n]*?) -->\n).*?(<!-- end of {kind} -->)", re.DOTALL)
    return blocks.sub(lambda found: found[1] + "\n".join(lines(*found[2].split())) + "\n" + found[3], text)
