"""``lstm-numba experiment toy-grammar``."""

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
  lstm-numba experiment toy-grammar
  lstm-numba experiment toy-grammar --cell lstm --cell clockwork --seeds 5
  lstm-numba experiment toy-grammar --threshold 0.001 --json
""",
)
@option(
    "Experiment",
    "--cell",
    "cells",
    type=CellName(),
    multiple=True,
    default=("rnn", "lstm", "gru"),
    show_default=True,
    help="Cell of a recurrent network; once for each.",
)
@option("Experiment", "--hidden", type=POSITIVE, default=16, show_default=True, help="Hidden units.")
@option(
    "Experiment",
    "--updates",
    type=POSITIVE,
    default=1500,
    show_default=True,
    help="Updates of the parameters.",
)
@option(
    "Experiment", "--seeds", type=POSITIVE, default=3, show_default=True, help="Trainings of each network."
)
@option(
    "Experiment",
    "--threshold",
    type=Number(Range(0.0001, 1.0)),
    default=0.01,
    show_default=True,
    help="Least probability of a sentence that a network believes in.",
)
@option(
    "Experiment",
    "--length",
    type=POSITIVE,
    default=8,
    show_default=True,
    help="Most tokens of such a sentence, with its full stop.",
)
@common_options("toy-grammar")
def toy_grammar(
    device: str, threads: int | None, out: str, as_json: bool, cells: tuple[str, ...], **settings: Any
) -> None:
    """Which sentences networks believe in, with one step of memory and with many.

    The text has three sentences in random order: "Dog scares Cat. Cat scares Mouse. Mouse scares Dog." A
    network that sees the last word only, and recurrent ones, are trained on it by the same updates. The table
    has the exact probability that each gives to sentences, possible and impossible ones, and the loss beside
    the lowest one that its memory allows.
    """
    from lstm_numba.experiments.toy_grammar import run

    conduct(
        run,
        _draw,
        {"cells": cells, **settings},
        device=device,
        threads=threads,
        out=out,
        as_json=as_json,
    )


def _draw() -> Any:
    from lstm_numba.plots.toy_grammar import figures

    return figures
