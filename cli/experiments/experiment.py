"""``lstm-numba experiment``: claims about recurrent networks, tried on data that the program makes."""

from __future__ import annotations

import click

from lstm_numba.cli.types import LazyGroup

#: Experiment -> (module, one line); see `LazyGroup`.
EXPERIMENTS: dict[str, tuple[str, str]] = {
    "toy-grammar": (
        "lstm_numba.cli.experiments.toy_grammar",
        "Which sentences networks believe in, with one step of memory and with many.",
    ),
    "long-gap": ("lstm_numba.cli.experiments.long_gap", "RNNs cannot bridge a growing gap, gated cells can."),
    "gradient-flow": (
        "lstm_numba.cli.experiments.gradient_flow",
        "How far gradients go back, in every cell, before and after training.",
    ),
    "odyssey": ("lstm_numba.cli.experiments.odyssey", "Which part of an LSTM matters."),
}


@click.group(
    cls=LazyGroup,
    homes=EXPERIMENTS,
    epilog="""\b
Examples:
  lstm-numba experiment toy-grammar
  lstm-numba experiment long-gap --out pictures --json
""",
)
def experiment() -> None:
    """Try what texts about recurrent networks claim, on data that the program makes itself.

    Each experiment trains small networks, prints a table, writes pictures (PNG and SVG; extra "plot"), and
    says in its last line, from its own numbers, whether the claim held. The same --seed gives the same
    numbers on the same kind of processor.
    """
