"""Threads, device and memory: applies and checks the options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from lstm_numba.cells import find_cell
from lstm_numba.cli.console import warn
from lstm_numba.errors import UserError


def set_threads(wanted: int | None) -> int:
    """Set the number of threads that Numba uses.

    Parameters
    ----------
    wanted : int or None
        None: as many as the process may use, `lstm_numba.engines.cpu.threads.thread_count`.

    Returns
    -------
    int
        Threads in use.

    Raises
    ------
    click.BadParameter
        If fewer are available.
    """
    import numba

    from lstm_numba.engines.cpu.threads import set_thread_count, thread_count

    available = int(numba.config.NUMBA_NUM_THREADS)
    if wanted is None:
        return thread_count()
    if wanted > available:
        raise click.BadParameter(
            f"{wanted} is more than the {available} threads available on this machine", param_hint="--threads"
        )
    set_thread_count(wanted)
    return wanted


def choose_device(wanted: str) -> str:
    """The device for ``--device``, "auto" resolved.

    Parameters
    ----------
    wanted : {"cpu", "cuda", "auto"}
        "auto": CUDA if a device is available; a message on standard error names the choice.

    Raises
    ------
    UserError
        If the device is not available.
    """
    if wanted == "cpu":
        return "cpu"
    from lstm_numba.engines import find_cuda

    found = find_cuda()
    if wanted == "auto":
        warn(f"device: cuda, {found.text}" if found.available else f"device: cpu ({found.text})")
        return "cuda" if found.available else "cpu"
    if not found.available:
        raise UserError(f"--device cuda: {found.text}; use --device cpu")
    return "cuda"


def check_memory(config: Mapping[str, Any], steps: int) -> None:
    """Refuse a network that cannot fit into memory, before the system kills the program.

    Compares a lower bound with the memory of the machine: recurrent weights, their gradients, the optimizer's
    two moments, and the gates of one window.

    Parameters
    ----------
    config : dict
    steps : int
        Time steps of a window, or 1 while they are not known.

    Raises
    ------
    UserError
        If the bound exceeds the memory of this machine.
    """
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return
    hidden, layers = config["hidden"], config["layers"]
    gates = len(find_cell(config["cell"]).gates)
    directions = 2 if config["bidirectional"] else 1
    units = hidden * gates * layers * directions
    # The data set, whose size is not known yet, may be smaller than a batch.
    numbers = 4 * units * hidden + steps * min(config["batch_size"], 1000) * units
    needed = numbers * (8 if config["dtype"] == "float64" else 4)
    if needed > available:
        raise UserError(
            f"needs at least {needed / 2**30:,.0f} GiB of memory, this machine has "
            f"{available / 2**30:,.0f} GiB; reduce --hidden, --layers or --batch-size"
        )
