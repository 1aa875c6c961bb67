"""``lstm-numba cache``: shows and removes compiled kernels, and the data that were downloaded."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click

from lstm_numba.cli.console import print_json
from lstm_numba.cli.options import json_option
from lstm_numba.cli.types import NamingGroup, SectionedCommand, option
from lstm_numba.errors import UserError
from lstm_numba.wording import plural


class _Part(NamedTuple):
    """Files of one kind."""

    what: str
    files: list[Path]

    @property
    def bytes(self) -> int:
        """Their size together."""
        return sum(path.stat().st_size for path in self.files if path.exists())

    @property
    def folders(self) -> list[str]:
        """The folders that hold them or their folders, each once."""
        return sorted({str(_home(path.parent)) for path in self.files})

    def line(self) -> str:
        """How many there are, how large, and where."""
        text = f"{self.what}: {plural(len(self.files), 'file')}, {_size(self.bytes)}"
        return text + (f", in {', '.join(self.folders)}" if self.files else "")

    def values(self) -> dict[str, Any]:
        """The same for ``--json``."""
        return {"files": len(self.files), "bytes": self.bytes, "folders": self.folders}


def _home(folder: Path) -> Path:
    """What a user knows of the folder of a file: where it is configured to be, or the package."""
    import lstm_numba

    package = Path(lstm_numba.__file__).resolve().parent
    if package in folder.resolve().parents:
        return package
    return folder.parent if re.search("_[0-9a-f]{40}$", folder.name) else folder


def _size(count: int) -> str:
    """Bytes as text: ``512 bytes``, ``63.1 MB (63,142,880 bytes)``."""
    if count < 1000:
        return plural(count, "byte")
    value, unit = (count / 1e3, "kB") if count < 1e6 else (count / 1e6, "MB")
    return f"{value:.1f} {unit} ({count:,} bytes)"


def _parts() -> tuple[_Part, _Part]:
    """Kernels and data on this disk."""
    from lstm_numba.data.store import cached_files
    from lstm_numba.engines.numba_cache import kernel_files

    return _Part("compiled kernels", kernel_files()), _Part("downloaded data", cached_files())


@click.group(
    cls=NamingGroup,
    epilog="""\b
Examples:
  lstm-numba cache show
  lstm-numba cache clear
""",
)
def cache() -> None:
    """Show and remove compiled kernels, and the data that were downloaded.

    Kernels are kept in NUMBA_CACHE_DIR, otherwise in the user's cache folder; data in the folder that
    `lstm-numba info` shows. Only files of this library are counted and removed.
    """


@cache.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba cache show
  lstm-numba cache show --json
""",
)
@json_option
def show(as_json: bool) -> None:
    """Show how many files there are, how large, and in which folders."""
    kernels, data = _parts()
    if as_json:
        print_json({"kernels": kernels.values(), "data": data.values()})
        return
    for part in (kernels, data):
        click.echo(part.line())


@cache.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba cache clear
  lstm-numba cache clear --data --yes
""",
)
@option("Options", "--data", "with_data", is_flag=True, help="Remove the downloaded data, too.")
@option("Options", "--yes", is_flag=True, help="Do not ask.")
@json_option
def clear(with_data: bool, yes: bool, as_json: bool) -> None:
    """Remove compiled kernels; the next training compiles them again.

    Says what will be removed, and asks first. Data in --data-dir or LSTM_NUMBA_DATA are never removed.
    """
    kernels, data = _parts()
    chosen = [part for part in (kernels, data if with_data else data._replace(files=[])) if part.files]
    for part in chosen:
        click.echo(part.line(), err=True)
    if chosen and not yes and not _confirmed():
        click.echo("nothing was removed", err=True)
        click.get_current_context().exit(1)
    removed = {"files": sum(len(part.files) for part in chosen), "bytes": sum(part.bytes for part in chosen)}
    _remove(chosen)
    if as_json:
        print_json({"removed": removed})
    else:
        text = f"removed {plural(removed['files'], 'file')}, {_size(removed['bytes'])}"
        click.echo(text if chosen else "nothing to remove")


def _confirmed() -> bool:
    """Ask on the terminal."""
    refused = "no answer on standard input: nothing was removed; --yes does not ask"
    if sys.stdin is None:
        raise UserError(refused)
    try:
        return click.confirm("Remove these files?", err=True)
    except click.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        raise UserError(refused) from None


def _remove(parts: list[_Part]) -> None:
    """Remove the files of some parts."""
    from lstm_numba.data.store import remove_cached
    from lstm_numba.engines.numba_cache import remove_kernels

    for part in parts:
        (remove_kernels if part.what == "compiled kernels" else remove_cached)(part.files)
