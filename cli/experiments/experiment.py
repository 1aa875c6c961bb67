"""``lstm-numba experiment``: claims about recurrent networks, tried on data that the program makes."""

from __future__ import annotations

import click

from lstm_numba.cli.types import LazyGroup

#: Experiment -> (module, one line); see `LazyGroup`.
EXPERIMENTS: dict[str, tuple[str, str]] = {
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
    numbers.
    """
