"""Writes the tables of experiments into a page: what `lstm-numba experiment NAME --json` printed.

    lstm-numba experiment long-gap --json > benchmarks/results/experiments/long-gap.json
    python -m lstm_numba.benchmarks.experiments benchmarks/results/experiments/README.md

A block ``<!-- experiment NAME -->`` of the page gets the table and the claims of NAME.json beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lstm_numba.benchmarks.markdown import table, with_blocks, write_page


def text_of(value: Any) -> str:
    """A cell of a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def lines_of_document(found: Mapping[str, Any]) -> list[str]:
    """What an experiment was run with and on, its table and its claims."""
    columns, machine = found["columns"], found["machine"]
    rows = [[text_of(row.get(column)) for column in columns] for row in found["rows"]]
    claims = [
        f"- {'held' if claim['held'] else '**did not hold**'}: {claim['text']} ({claim['because']})"
        for claim in found["claims"]
    ]
    where = f"{machine['cpu']}, {machine['threads']} threads, {machine['vector_unit']}"
    with_what = f"numpy {machine['numpy']}, numba {machine['numba']}, commit {machine['commit']}"
    settings = ", ".join(
        f"{key} {len(value)} of them" if isinstance(value, list) and len(value) > 5 else f"{key} {value}"
        for key, value in found["settings"].items()
    )
    return [f"{where}; {with_what}; {settings}.", "", *table(columns, rows), "", *claims]


def with_tables(text: str, folder: Path) -> str:
    """A page with the present tables."""

    def lines(name: str) -> list[str]:
        return lines_of_document(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))

    return with_blocks(text, "experiment", lines)


if __name__ == "__main__":
    write_page(__doc__, "the README.md beside the JSON files", with_tables)
