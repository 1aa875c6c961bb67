"""Threads and device, as the options ``--threads`` and ``--device`` set them."""

from __future__ import annotations

import click

from lstm_numba.cli.reporting import warn
from lstm_numba.errors import UserError


def set_threads(wanted: int | None) -> int:
    """Set the number of threads that Numba computes with.

    Parameters
    ----------
    wanted : int or None
        None: as many as Numba found.

    Returns
    -------
    int
        Threads in use.

    Raises
    ------
    click.BadParameter
        If there are fewer.
    """
    import numba

    available = int(numba.config.NUMBA_NUM_THREADS)
    if wanted is None:
        return int(numba.get_num_threads())
    if wanted > available:
        raise click.BadParameter(
            f"{wanted} is more than the {available} threads of this machine", param_hint="--threads"
        )
    numba.set_num_threads(wanted)
    return wanted


def choose_device(wanted: str) -> str:
    """Turn ``--device`` into a device that is there.

    Raises
    ------
    UserError
        If the device is not available.
    """
    if wanted == "cuda":
        raise UserError(
            "--device cuda: not available, this version computes on the CPU only; use --device cpu"
        )
    if wanted == "auto":
        warn("device: cpu")
    return "cpu"
