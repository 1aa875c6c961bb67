"""``lstm-numba experiment``: claims about recurrent networks, tried on data that the program makes."""

from __future__ import annotations

import click

from lstm_numba.cli.types import LazyGroup

#: Experiment -> (module, one line); see `LazyGroup`.
EXPERIMENTS: dict[str, tuple[str, str]] = {
    "toy-grammar": (
        "lstm_numba.cli.experiments.toy_grammar",
        "Which sentences models with short and long memory consider likely.",
    ),
    "long-gap": ("lstm_numba.cli.experiments.long_gap", "Whether RNNs and gated cells bridge a growing gap."),
    "gradient-flow": (
        "lstm_numba.cli.experiments.gradient_flow",
        "How far gradients flow back through time, for every cell.",
    ),
    "odyssey": ("lstm_numba.cli.experiments.odyssey", "Which part of an LSTM matters."),
}


@click.group(
    cls=LazyGroup,
    homes=EXPERIMENTS,
    epilog="""\b
Examples:
  lstm-numba experiment toy-grammar
  lstm-numba experiment long-gap --out figures --json
""",
)
def experiment() -> None:
    """Test published claims about recurrent networks, on generated data.

    Each experiment trains small networks, prints a table, writes figures (PNG and SVG; extra "plot"), and
    reports in its last line, from its own numbers, whether the claim held. The same --seed gives the same
    numbers on the same kind of processor.
    """
