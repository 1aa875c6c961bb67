"""``lstm-numba experiment gradient-flow``."""

from __future__ import annotations

from typing import Any

import click

from lstm_numba.cli.experiments.common import common_options, conduct
from lstm_numba.cli.options import POSITIVE
from lstm_numba.cli.types import CellName, Number, SectionedCommand, option
from lstm_numba.training.settings import Range


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba experiment gradient-flow
  lstm-numba experiment gradient-flow --cell lstm --cell gru --seeds 5
  lstm-numba experiment gradient-flow --gain 1.5 --steps 80 --json
""",
)
@option(
    "Experiment",
    "--cell",
    "cells",
    type=CellName(),
    multiple=True,
    help="Recurrent cell, in addition to the plain RNN; may be repeated.  [default: all]",
)
@option(
    "Experiment",
    "--gain",
    type=Number(Range(0.0, 100.0, above=True)),
    default=4.0,
    show_default=True,
    help="Also include rnn and rnn-relu with initial recurrent weights times this factor, unless it is 1.",
)
@option(
    "Experiment",
    "--hidden",
    type=POSITIVE,
    default=24,
    show_default=True,
    help="Hidden size, a multiple of 4.",
)
@option(
    "Experiment",
    "--steps",
    type=POSITIVE,
    default=40,
    show_default=True,
    help="Time steps per sequence, a multiple of 8, at least 32.",
)
@option(
    "Experiment",
    "--updates",
    type=POSITIVE,
    default=1000,
    show_default=True,
    help="Parameter updates.",
)
@option("Experiment", "--seeds", type=POSITIVE, default=3, show_default=True, help="Trainings per cell.")
@common_options("gradient-flow")
def gradient_flow(
    device: str, threads: int | None, out: str, as_json: bool, cells: tuple[str, ...], **settings: Any
) -> None:
    """How far gradients flow back through time, for every cell, before and after training.

    The first symbol of a sequence is to be told at its end; the norms of the loss's gradients with respect to
    the states are measured against the distance from the end.

    \b
    rate     factor of the norm per step
    theory   plain RNNs: largest singular value of R times the mean slope of the
             activation; gated cells: geometric mean of the forget or update gate
    refined  plain RNNs: spectral radius of R, each row times its unit's mean
             slope; gated cells: decay through the product of the gates alone,
             unit by unit
    """
    from lstm_numba.experiments.gradient_flow import CELLS, run

    conduct(
        run,
        _draw,
        {"cells": cells or CELLS, **settings},
        device=device,
        threads=threads,
        out=out,
        as_json=as_json,
    )


def _draw() -> Any:
    from lstm_numba.plots.gradient_flow import figures

    return figures
