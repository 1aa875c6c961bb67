"""``lstm-numba warmup``: compiles the kernels of a training in advance."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from lstm_numba.cli.options import json_option, threads_option
from lstm_numba.cli.types import CellName, Choice, SectionedCommand, argument, option
from lstm_numba.training.settings import DATASETS, DTYPES, OPTIMIZERS


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba warmup digits
  lstm-numba warmup ptb --cell lstm --cell gru --dtype float64
  lstm-numba warmup all --json
""",
)
@argument("dataset", "DATASET", f"{', '.join(DATASETS)}, or all.", type=Choice([*DATASETS, "all"]))
@option(
    "Network",
    "--cell",
    "cells",
    type=CellName(),
    multiple=True,
    help="Recurrent cell, as in `train`; may be repeated.  [default: lstm]",
)
@option(
    "Network",
    "--dtype",
    type=Choice(DTYPES),
    default="float32",
    show_default=True,
    help="Floating-point type of all arrays.",
)
@option(
    "Optimization",
    "--optimizer",
    type=Choice(OPTIMIZERS),
    help="Optimizer.  [default: that of the data set]",
)
@threads_option
@json_option
@click.pass_context
def warmup(
    ctx: click.Context,
    dataset: str,
    cells: tuple[str, ...],
    dtype: str,
    optimizer: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compile the kernels for training on DATASET in advance.

    Otherwise the first training compiles them. Compiled kernels are cached on disk; lstm-numba info shows the
    folder. Nothing is downloaded: the command trains a few steps on generated data.
    """
    from lstm_numba.cli.console import Terminal, print_json
    from lstm_numba.cli.custom_cells import load_own_cells
    from lstm_numba.cli.resources import set_threads
    from lstm_numba.wording import plural

    set_threads(threads)
    load_own_cells(*cells)
    from lstm_numba.training.config import default_config
    from lstm_numba.training.trainer import Interrupted
    from lstm_numba.training.warmup import warm_up

    terminal = Terminal()
    answers: list[dict[str, Any]] = []
    for name in DATASETS if dataset == "all" else (dataset,):
        for cell in cells or ("lstm",):
            rule = optimizer or default_config(name)["optimizer"]
            what = {"dataset": name, "cell": cell, "dtype": dtype, "optimizer": rule}
            try:
                done = warm_up(name, {"cell": cell, "dtype": dtype, "optimizer": rule}, terminal)
            except Interrupted as stop:
                terminal.say("interrupted; the kernels compiled so far are cached")
                ctx.exit(stop.exit_status)
            answers.append({**what, "kernels": list(done.kernels), "seconds": round(done.seconds, 3)})
            if as_json:
                continue
            if not done.kernels:
                click.echo(f"{', '.join(what.values())}: all cached")
                continue
            count = plural(len(done.kernels), "kernel")
            click.echo(f"{', '.join(what.values())}: compiled {count} in {done.seconds:.1f} s")
            names = " ".join(dict.fromkeys(done.kernels))
            click.echo(textwrap.fill(names, 100, initial_indent="  ", subsequent_indent="  "))
    if as_json:
        print_json({"warmed": answers})
