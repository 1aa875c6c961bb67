"""``lstm-numba experiment long-gap``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from lstm_numba.cells import BUILT_IN
from lstm_numba.cli.experiments.common import common_options, conduct
from lstm_numba.cli.options import POSITIVE
from lstm_numba.cli.types import Choice, Number, SectionedCommand, option
from lstm_numba.training.setting import Range

# As in `lstm_numba.experiments.long_gap` and `lstm_numba.data.gap_tasks`, which import NumPy.
CELLS = (*BUILT_IN, "clockwork")
TASKS = ("adding", "order", "reber", "copy")
GAPS = (10, 30, 100, 300, 1000)
LEAST, MOST = 5, 4078


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba experiment long-gap
  lstm-numba experiment long-gap --cell rnn --cell gru --task copy --gap 100
  lstm-numba experiment long-gap --seeds 10 --updates 20000 --hidden 32 --json
""",
)
@option(
    "Experiment",
    "--cell",
    "cells",
    type=Choice(CELLS, case_sensitive=False),
    multiple=True,
    metavar="CELL",
    help="Recurrent cell; may be repeated.  [default: all]",
)
@option(
    "Experiment",
    "--task",
    "tasks",
    type=Choice(TASKS),
    multiple=True,
    default=TASKS,
    show_default=True,
    help="Task; may be repeated.",
)
@option(
    "Experiment",
    "--gap",
    "gaps",
    type=Number(Range(LEAST, MOST, whole=True)),
    multiple=True,
    default=GAPS,
    show_default=True,
    metavar="STEPS",
    help="Gap in time steps; may be repeated.",
)
@option(
    "Experiment",
    "--seeds",
    type=POSITIVE,
    default=3,
    show_default=True,
    help="Networks per cell and task.",
)
@option(
    "Experiment",
    "--updates",
    type=POSITIVE,
    default=2500,
    show_default=True,
    help="Maximum number of updates for a gap of 10; for larger gaps reduced by their power of -3/5.",
)
@option(
    "Experiment",
    "--hidden",
    type=POSITIVE,
    default=16,
    show_default=True,
    help="Hidden size; for clockwork a multiple of 4.",
)
@common_options("long-gap")
def long_gap(
    cells: tuple[str, ...],
    tasks: tuple[str, ...],
    gaps: tuple[int, ...],
    seeds: int,
    updates: int,
    hidden: int,
    seed: int,
    device: str,
    threads: int | None,
    out: str,
    as_json: bool,
) -> None:
    """Can RNNs bridge a growing gap, and can gated cells?

    Four tasks in which something has to be kept for a number of steps: adding two marked numbers (adding),
    which two symbols came in which order (order), a symbol that closes a string as it was opened (reber), and
    saying again what was read (copy). Networks of every cell, with several seeds, begin with the smallest
    gap; those that succeed continue with the next one. A gap counts as bridged if 99 % of the sequences
    held out are answered without a mistake (adding: root mean square error below 0.04), and not if a smaller
    one was not.

    The table has, for each cell and task, the largest gap that most seeds bridged, the share of the seeds
    that bridged each gap ("-": not tried, as no seed got there), and the median of the updates until the last
    of these gaps that any seed bridged. All tasks: the median of the largest gaps, and the share of all runs.
    """
    from lstm_numba.experiments.long_gap import run

    cells = cells or CELLS
    if "clockwork" in cells and hidden % 4:
        raise click.BadParameter(
            f"{hidden} is not a multiple of 4, which the cell clockwork needs", param_hint="--hidden"
        )
    settings = {
        "cells": cells,
        "tasks": tasks,
        "gaps": gaps,
        "seeds": seeds,
        "updates": updates,
        "hidden": hidden,
        "seed": seed,
    }
    conduct(run, _draw, settings, device=device, threads=threads, out=out, as_json=as_json)


def _draw() -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    from lstm_numba.plots.long_gap import figures

    return figures
