"""Cells of a user's own on the command line: ``--cell module:Class``.

A run folder only names such a cell. Its module is imported where the user says so, and nowhere else: opening
a folder must not execute code.
"""

from __future__ import annotations

import sys
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
    """What a run's configuration keeps of its own cell's equations; None for the library's cells.

    A digest of bytecode, which is another with another Python.
    """
    if not is_own_cell(name):
        return None
    from lstm_numba.cells import find_cell

    return f"{sys.version_info[0]}.{sys.version_info[1]}:{find_cell(name).digest}"


def use_run_cell(config: Mapping[str, Any], given: str | None, folder: Any) -> None:
    """Make the cell of a run known, and warn if its equations have changed since.

    Parameters
    ----------
    config : mapping
        The run's.
    given : str, optional
        ``--cell``.
    folder : path
        The run's, for messages.

    Raises
    ------
    UserError
        It is a cell of a user's own and `given` does not say so, or `given` is another one, or there is no
        such cell.
    """
    trained = config["cell"]
    if given is not None and given != trained:
        raise UserError(f"--cell {given}: {folder} is a run of the cell {trained}")
    if not is_own_cell(trained):
        return
    if given is None:
        raise UserError(
            f"{folder} is a run of the cell {trained}, which is code that must be imported: "
            f"say so by --cell {trained}"
        )
    load_own_cells(trained)
    before, now = config.get("equations"), equations_of(trained)
    if before and now and before != now and before.split(":")[0] == now.split(":")[0]:
        warn(f"the equations of {trained} are not those that {folder} was trained with")
