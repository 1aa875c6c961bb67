"""``lstm-numba experiment odyssey``."""

from __future__ import annotations

from typing import Any

import click

from lstm_numba.cells import BUILT_IN
from lstm_numba.cli.experiments.common import common_options, conduct
from lstm_numba.cli.options import POSITIVE
from lstm_numba.cli.types import Choice, Number, SectionedCommand, option
from lstm_numba.training.settings import Range

# As in `lstm_numba.experiments.odyssey`, which imports NumPy.
PARTS = ("no-input-gate", "no-forget-gate", "no-output-gate", "no-input-act", "no-output-act")
CELLS = (*BUILT_IN, "clockwork", *PARTS)


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba experiment odyssey
  lstm-numba experiment odyssey --cell no-forget-gate --cell coupled --seeds 8
  lstm-numba experiment odyssey --data reber --parameters 2000 --rate 0.01
""",
)
@option(
    "Experiment",
    "--cell",
    "cells",
    type=Choice(CELLS, case_sensitive=False),
    multiple=True,
    metavar="CELL",
    help="Built-in cell, clockwork, or no-input-gate, no-forget-gate, no-output-gate, no-input-act, "
    "no-output-act; may be repeated, lstm is always included.  [default: all]",
)
@option(
    "Experiment",
    "--data",
    type=Choice(["digits", "grammar", "reber"]),
    multiple=True,
    default=("digits", "grammar", "reber"),
    show_default=True,
    help="Data set; may be repeated.",
)
@option(
    "Experiment",
    "--parameters",
    type=POSITIVE,
    default=6000,
    show_default=True,
    help="Parameters per network, as near as whole units allow.",
)
@option(
    "Experiment",
    "--rate",
    "rates",
    type=Number(Range(0.0, 1.0, above=True)),
    multiple=True,
    default=(0.01, 0.03),
    show_default=True,
    help="Candidate learning rate; may be repeated.",
)
@option(
    "Experiment", "--updates", type=POSITIVE, default=350, show_default=True, help="Updates per training."
)
@option(
    "Experiment",
    "--seeds",
    type=Number(Range(2, whole=True)),
    default=4,
    show_default=True,
    help="Trainings at the chosen learning rate.",
)
@common_options("odyssey")
def odyssey(
    device: str,
    threads: int | None,
    out: str,
    as_json: bool,
    cells: tuple[str, ...],
    data: tuple[str, ...],
    rates: tuple[float, ...],
    **settings: Any,
) -> None:
    """Which part of an LSTM matters, after "LSTM: a search space odyssey" (Greff et al. 2017).

    All cells of the library, and the LSTM with one gate or activation taken away, learn to read digits row
    by row, a text of random sentences, and a stream of embedded Reber strings: with as many parameters, by as
    many updates, each at the learning rate that is best on validation data. The table has the errors or the
    perplexity on test data, less being better, with intervals of 95 %, and the difference from the LSTM.
    """
    from lstm_numba.experiments.odyssey import run

    conduct(
        run,
        _draw,
        {"cells": cells, "data": data, "rates": rates, **settings},
        device=device,
        threads=threads,
        out=out,
        as_json=as_json,
    )


def _draw() -> Any:
    from lstm_numba.plots.odyssey import figures

    return figures
