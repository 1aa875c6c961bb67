"""``lstm-numba sample``: generates text with a trained language model."""

from __future__ import annotations

import click

from lstm_numba.cli.options import (
    NATURAL,
    NOT_NEGATIVE,
    POSITIVE,
    checkpoint_option,
    json_option,
    run_cell_option,
    threads_option,
)
from lstm_numba.cli.types import RunFolder, SectionedCommand, argument, option


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba sample runs/ptb-1 --prompt "the company said" --length 50
  lstm-numba sample runs/text-1 --temperature 0.7 --top-k 20 --seed 1
""",
)
@argument("run", "RUN", "Run folder of ptb, text or grammar.", type=RunFolder())
@option(
    "Text",
    "--prompt",
    default="",
    help="Text to continue.  [default: none]",
)
@option(
    "Text",
    "--length",
    type=POSITIVE,
    default=200,
    show_default=True,
    help="Number of tokens to generate: words or characters, depending on the run.",
)
@option(
    "Text",
    "--temperature",
    type=NOT_NEGATIVE,
    default=1.0,
    show_default=True,
    help="Sampling temperature: below 1 less random, 0: always the most likely token.",
)
@option(
    "Text",
    "--top-k",
    type=POSITIVE,
    help="Sample from the K most likely tokens only.  [default: all]",
    metavar="K",
)
@option(
    "Text",
    "--seed",
    type=NATURAL,
    help="Random seed: the same seed gives the same text.  [default: a new one per call]",
)
@checkpoint_option
@run_cell_option
@threads_option
@json_option
def sample(
    run: str,
    prompt: str,
    length: int,
    temperature: float,
    top_k: int | None,
    seed: int | None,
    checkpoint: str | None,
    cell: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Generate text with the language model of RUN, a run folder of ptb, text or grammar."""
    from lstm_numba.cli.console import Terminal, print_json
    from lstm_numba.cli.custom_cells import use_run_cell
    from lstm_numba.cli.resources import set_threads
    from lstm_numba.cli.run_folder import open_run

    opened = open_run(run, "language-model", "sample")
    set_threads(threads)
    use_run_cell(opened.config, cell, run)
    from lstm_numba.training.compile_watch import CompileWatch
    from lstm_numba.training.language_modeling import TextTask
    from lstm_numba.training.tasks import open_task

    task = open_task(opened, load_data=False, which=checkpoint)
    assert isinstance(task, TextTask)
    terminal = Terminal()
    with CompileWatch(terminal):
        pieces = task.sample(prompt, length, temperature=temperature, top_k=top_k, seed=seed)
        if as_json:
            print_json({"prompt": prompt, "text": "".join(pieces), "seed": seed})
            return
        click.echo(prompt, nl=False)
        for piece in pieces:
            click.echo(piece, nl=False)
        click.echo()
