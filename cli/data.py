"""``lstm-numba data``: lists, downloads and verifies data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lstm_numba.cli.console import Terminal, print_json
from lstm_numba.cli.options import data_dir_option, download_dir_option, json_option
from lstm_numba.cli.types import Choice, NamingGroup, SectionedCommand, argument

if TYPE_CHECKING:
    from pathlib import Path

    from lstm_numba.data.download import Progress
    from lstm_numba.data.store import FileCheck

#: Data sets with files to download, as in `lstm_numba.data.catalog` (too slow to import for help).
_PUBLISHED = ("mnist", "ptb")

_names_argument = argument(
    "names",
    "NAME...",
    f"Data set: {', '.join(_PUBLISHED)}.",
    nargs=-1,
    required=True,
    type=Choice(_PUBLISHED),
)


@click.group(
    cls=NamingGroup,
    epilog="""\b
Examples:
  lstm-numba data list
  lstm-numba data fetch mnist --data-dir ~/mnist
  lstm-numba data verify ptb
""",
)
def data() -> None:
    """List, download and verify data sets.

    Files are searched in --data-dir, then in the folder in the environment variable LSTM_NUMBA_DATA, then in
    the cache folder, which `lstm-numba info` shows.
    """


@data.command(
    "list",
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba data list
  lstm-numba data list --data-dir ~/data --json
""",
)
@data_dir_option
@json_option
def list_(data_dir: str | None, as_json: bool) -> None:
    """List the data sets and their folders."""
    from lstm_numba.data import store

    found = []
    for name, dataset in store.DATASETS.items():
        state, folders = state_and_folders(name, data_dir)
        about = {"name": name, "kind": dataset.kind, "description": dataset.description}
        found.append({**about, "state": state, "folders": folders})
    if as_json:
        print_json({"datasets": found})
        return
    for entry in found:
        click.echo(f"{entry['name']:<8} {entry['state']:<11} {entry['description']}")
        for folder in entry["folders"]:
            click.echo(f"{'':<8} {'':<11} in {folder}")


def state_and_folders(name: str, data_dir: str | None) -> tuple[str, list[str]]:
    """The state of a data set, and the folders with its files."""
    from lstm_numba.data import store

    checks = store.verify(name, data_dir)
    return _state(name, checks), sorted(
        {str(check.path.parent) for check in checks if check.path is not None}
    )


def _state(name: str, checks: list[FileCheck]) -> str:
    """The state of a data set: ready, missing, incomplete, damaged, built in, your file, your folder."""
    if not checks:
        return {"text": "your file", "images": "your folder"}.get(name, "built in")
    states = {check.state for check in checks}
    if "damaged" in states:
        return "damaged"
    if states == {"ok"}:
        return "ready"
    return "missing" if states == {"missing"} else "incomplete"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


@data.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba data fetch mnist
  lstm-numba data fetch mnist ptb --data-dir ~/data
""",
)
@_names_argument
@download_dir_option
@json_option
def fetch(names: tuple[str, ...], data_dir: str | None, as_json: bool) -> None:
    """Download and verify data sets (mnist, ptb).

    Only missing or damaged files are downloaded. Several mirrors are tried. A file is accepted only if its
    content has the published SHA-256 checksum. An interrupted download is resumed the next time.
    """
    from lstm_numba.data import store

    terminal = Terminal()

    def show(progress: Progress) -> None:
        if progress.state == "download":
            amount = f"{progress.received / 1e6:.1f} of {progress.total / 1e6:.1f} MB"
            terminal.update(f"{progress.file}  {amount}  {progress.source}")
        elif progress.state == "failed":
            terminal.say(f"{progress.file}: {progress.source}: {progress.detail}")
        else:
            terminal.say(f"{progress.file}: {'already exists' if progress.state == 'present' else 'fetched'}")

    paths = [path for name in names for path in store.fetch(name, data_dir, progress=show)]
    terminal.clear()
    if as_json:
        print_json({"files": [str(path) for path in paths]})
    else:
        click.echo("\n".join(map(str, paths)))


@data.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba data verify mnist
  lstm-numba data verify mnist ptb --data-dir ~/data --json
""",
)
@_names_argument
@data_dir_option
@json_option
def verify(names: tuple[str, ...], data_dir: str | None, as_json: bool) -> None:
    """Verify the files of data sets (mnist, ptb).

    Their contents must have the published SHA-256 checksums. The exit status is 1 if a file is missing or
    damaged.
    """
    from lstm_numba.data import store

    checks = [check for name in names for check in store.verify(name, data_dir)]
    if as_json:
        print_json({"files": [{**vars(check), "path": _text(check.path)} for check in checks]})
    else:
        for check in checks:
            click.echo(f"{check.file}: {check.state}, {check.detail or check.path}")
    if any(check.state != "ok" for check in checks):
        click.get_current_context().exit(1)
