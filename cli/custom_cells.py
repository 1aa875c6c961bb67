"""Custom cells on the command line: ``--cell module:Class``.

A run folder contains only the name of such a cell. Its module is imported only if the user asks for it:
opening a folder must not execute code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstm_numba.cli.console import warn
from lstm_numba.errors import UserError
from lstm_numba.training.settings import is_own_cell


def load_own_cells(*names: str) -> None:
    """Import the modules of those names that are ``module:Class``.

    Raises
    ------
    CellError
        There is no such cell; one line.
    """
    for name in names:
        if is_own_cell(name):
            from lstm_numba.cells import load_cell

            load_cell(name)


def equations_of(name: str) -> str | None:
    """A digest of a custom cell's equations for the run's configuration; None for the library's cells."""
    if not is_own_cell(name):
        return None
    from lstm_numba.cells import find_cell

    return str(find_cell(name).digest)


def use_run_cell(config: Mapping[str, Any], given: str | None, folder: Any) -> None:
    """Load the cell of a run, and warn if its equations have changed since the training.

    Parameters
    ----------
    config : mapping
        Configuration of the run.
    given : str, optional
        ``--cell``.
    folder : path
        Folder of the run, for messages.

    Raises
    ------
    UserError
        It is a custom cell and `given` is missing or another one, or the cell does not exist.
    """
    trained = config["cell"]
    if given is not None and given != trained:
        raise UserError(f"--cell {given}: {folder} is a run of the cell {trained}")
    if not is_own_cell(trained):
        return
    if given is None:
        raise UserError(
            f"{folder} is a run of the cell {trained}, a custom cell whose module must be imported: "
            f"give --cell {trained}"
        )
    load_own_cells(trained)
    before, now = config.get("equations"), equations_of(trained)
    if before and before != now:
        warn(f"the equations of {trained} have changed since {folder} was trained")
