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
    help="Recurrent cell; may be repeated.",
)
@option("Experiment", "--hidden", type=POSITIVE, default=16, show_default=True, help="Hidden size.")
@option(
    "Experiment",
    "--updates",
    type=POSITIVE,
    default=1500,
    show_default=True,
    help="Parameter updates.",
)
@option("Experiment", "--seeds", type=POSITIVE, default=3, show_default=True, help="Trainings per network.")
@option(
    "Experiment",
    "--threshold",
    type=Number(Range(0.0001, 1.0)),
    default=0.01,
    show_default=True,
    help="Lowest probability of a sentence that a network considers likely.",
)
@option(
    "Experiment",
    "--length",
    type=POSITIVE,
    default=8,
    show_default=True,
    help="Longest such sentence in tokens, with its full stop.",
)
@common_options("toy-grammar")
def toy_grammar(
    device: str, threads: int | None, out: str, as_json: bool, cells: tuple[str, ...], **settings: Any
) -> None:
    """Which sentences models with one step of memory, and with many, consider likely.

    The text has three sentences in random order: "Dog scares Cat. Cat scares Mouse. Mouse scares Dog." A
    network that sees the last word only, and recurrent ones, are trained on it by the same updates. The table
    has the exact probability that each gives to possible and impossible sentences, and the loss with its
    lower bound for the memory of the network.
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
