"""Opening a run folder for a command; claiming the name of a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_numba.errors import UserError
from lstm_numba.training.settings import CLASSIFIERS

if TYPE_CHECKING:
    from lstm_numba.training.run import Run


def open_run(folder: str, kind: str, command: str) -> Run:
    """Open a run folder and refuse a run of the wrong kind.

    Parameters
    ----------
    folder : str
        Run folder.
    kind : str
        ``classification`` or ``language-model``.
    command : str
        Command that asks, for the message.

    Raises
    ------
    UserError
        If there is no sound run, or it is of the other kind.
    """
    from lstm_numba.training.run import Run

    run = Run.open(Path(folder))
    dataset = run.config["dataset"]
    found = "classification" if dataset in CLASSIFIERS else "language-model"
    if found != kind:
        wanted = "an image classifier (mnist, digits)" if kind == "classification" else "a language model"
        raise UserError(f"{folder}: {command} needs a run of {wanted}, this is a run of {dataset}")
    return run


@contextmanager
def claimed(out: str) -> Iterator[Path]:
    """Take a file's name, so that of several processes one writes it; give it back if that fails.

    Raises
    ------
    UserError
        If there is such a file.
    """
    path = Path(out)
    try:
        path.open("xb").close()
    except FileExistsError:
        raise UserError(f"--out {out}: is there already, name another file") from None
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise
