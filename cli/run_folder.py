"""Opens run folders for commands, and reserves the names of output files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_numba.errors import UserError, printable
from lstm_numba.training.settings import CLASSIFIERS, SERIES

if TYPE_CHECKING:
    from lstm_numba.training.run import Run


_WANTED = {
    "classification": "an image classifier (mnist, digits, images)",
    "series": "series",
    "language-model": "a language model",
}


def open_run(folder: str, kind: str, command: str) -> Run:
    """Open a run folder and refuse a run of the wrong kind.

    Parameters
    ----------
    folder : str
        Run folder.
    kind : str
        ``classification``, ``series`` or ``language-model``.
    command : str
        Name of the command, for the message.

    Raises
    ------
    UserError
        If there is no valid run, or it is of another kind.
    """
    from lstm_numba.training.run import Run

    run = Run.open(Path(folder))
    dataset = run.config["dataset"]
    found = (
        "classification" if dataset in CLASSIFIERS else "series" if dataset in SERIES else "language-model"
    )
    if found != kind:
        wanted = _WANTED[kind]
        raise UserError(f"{folder}: {command} needs a run of {wanted}, this is a run of {dataset}")
    return run


def run_name(folder: Path) -> str:
    """The name of a run in the titles of its pictures: that of its folder."""
    return printable(folder.resolve().name, 60)


@contextmanager
def claimed(out: str) -> Iterator[Path]:
    """Create a file, so that only one of several processes writes it; remove it if writing fails.

    Raises
    ------
    UserError
        If the file exists.
    """
    path = Path(out)
    try:
        path.open("xb").close()
    except FileExistsError:
        raise UserError(f"--out {out}: already exists, name another file") from None
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise
