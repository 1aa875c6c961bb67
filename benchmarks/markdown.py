"""Tables as Markdown, and pages that have them between marks."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path


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


def write_page(description: str | None, page: str, written: Callable[[str, Path], str]) -> None:
    """The command that writes what a page generates, for a module to be called as a script.

    Parameters
    ----------
    description : str, optional
        The module's docstring.
    page : str
        What page its argument is.
    written : callable
        The page's text, the folder it stands in -> the text with its blocks.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help=page)
    path = parser.parse_args().page
    path.write_text(written(path.read_text(encoding="utf-8"), path.parent), encoding="utf-8")
