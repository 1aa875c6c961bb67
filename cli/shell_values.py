"""Values that a shell completes on the command line, where Click by itself knows none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

#: Files that tell a run folder, or the folder of a set of runs, from others.
_MARKS = ("config.json", "set.json")


def items(values: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Those values that begin as the word does, whatever its case."""
    from click.shell_completion import CompletionItem

    begun = incomplete.lower()
    return [CompletionItem(value) for value in values if value.lower().startswith(begun)]


def one_of(*values: str) -> Complete:
    """A function for Click's `shell_complete`."""
    return lambda ctx, param, incomplete: items(values, incomplete)


def last_of(values: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Completions of the last of several values with commas between them."""
    head, comma, last = incomplete.rpartition(",")
    taken = head.split(",")
    free = [value for value in values if value not in taken]
    return [*items([f"{head}{comma}{value}" for value in free if value.startswith(last)], "")]


def run_items(incomplete: str) -> list[CompletionItem]:
    """Run folders: those in the folder that the word names, and in ``runs``; else folders, for the shell."""
    from click.shell_completion import CompletionItem

    parent = os.path.dirname(incomplete)
    places = dict.fromkeys([parent, "runs"] if parent in ("", "runs") else [parent])
    found = [name for place in places for name in _runs_in(place) if name.startswith(incomplete)]
    return items(found, incomplete) if found else [CompletionItem(incomplete, type="dir")]


def _runs_in(folder: str) -> list[str]:
    """Paths of the run folders in a folder, as the user writes them."""
    try:
        names = sorted(os.listdir(folder or "."))
    except (OSError, ValueError):
        return []
    paths = [os.path.join(folder, name) for name in names]
    return [path for path in paths if any((Path(path) / mark).is_file() for mark in _MARKS)]
