"""``lstm-numba train``: one subcommand a data set; how a run is started or resumed stands in `start`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from lstm_numba.cli import options as shared
from lstm_numba.cli.options import POSITIVE
from lstm_numba.cli.types import NamingGroup, Real, SectionedCommand, SectionedOption


class TrainCommand(SectionedCommand):
    """A training whose answer to an option of another one names where it belongs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            owners = [
                name
                for name, command in train.commands.items()
                if any(error.option_name in parameter.opts for parameter in command.params)
            ]
            if not owners:
                raise
            ctx.fail(f"{error.option_name} is an option of {', '.join(owners)}, not of {self.name}")


@click.group(
    cls=NamingGroup,
    epilog="""\b
Examples:
  lstm-numba train digits
  lstm-numba train mnist --cell gru --epochs 5 --data-dir ~/mnist
  lstm-numba train mnist --resume runs/mnist-1
""",
)
def train() -> None:
    """Train a network on a data set, or go on with a run.

    digits and grammar are made by the program itself and need no download.
    """


def _data_option(flag: str, help: str, **attributes: Any) -> Callable[[Any], Any]:
    return click.option(flag, help=help, cls=SectionedOption, section="Data", **attributes)


_VIEW = _data_option(
    "--view",
    "How an image becomes a sequence: 28 rows of 28 pixels, 784 pixels, or those in a fixed random order.",
    type=click.Choice(["rows", "pixels", "permuted"]),
    default="rows",
    show_default=True,
)
_VALIDATION = _data_option(
    "--validation",
    "Training images to hold out and watch: a number, or a fraction below 1.",
    type=Real(0),
    default=0,
    show_default=True,
)


def _command(dataset: str, examples: str, *own: Callable[[Any], Any]) -> Callable[..., Any]:
    """Make ``train DATASET`` of a function that only documents it: shared options and its own come around."""

    def register(documented: Callable[..., None]) -> click.Command:
        def command(**values: Any) -> None:
            from lstm_numba.cli.training import train_command

            train_command(dataset, values)

        command.__doc__ = documented.__doc__
        result: Any = command
        for decorate in (
            shared.run_options(dataset),
            *reversed(own),
            shared.optimization_options(dataset),
            shared.network_options(dataset),
        ):
            result = decorate(result)
        return train.command(dataset, cls=TrainCommand, epilog=f"\b\nExamples:\n{examples}")(result)

    return register


@_command(
    "mnist",
    """\
  lstm-numba train mnist
  lstm-numba train mnist --cell gru --bidirectional --data-dir ~/mnist
  lstm-numba train mnist --resume runs/mnist-1
""",
    shared.data_dir_option,
    _VIEW,
    _VALIDATION,
)
def mnist() -> None:
    """Train a classifier on MNIST: 60,000 handwritten digits, and 10,000 to test.

    The files are downloaded if they are nowhere to be found.
    """


@_command(
    "digits",
    """\
  lstm-numba train digits
  lstm-numba train digits --cell peephole --hidden 64 --epochs 3 --out runs/try
  lstm-numba train digits --resume runs/try
""",
    _VIEW,
    _data_option("--images", "Training images to draw.  [default: 20000]", type=POSITIVE),
    _VALIDATION,
)
def digits() -> None:
    """Train a classifier on digits that the program draws itself; nothing to download.

    They have MNIST's format and are not MNIST.
    """


@_command(
    "ptb",
    """\
  lstm-numba train ptb --data-dir ~/ptb
  lstm-numba train ptb --preset medium --out runs/medium
  lstm-numba train ptb --resume runs/medium
""",
    shared.data_dir_option,
)
def ptb() -> None:
    """Train a word language model on the Penn Treebank as Mikolov prepared it.

    The defaults are those of the preset "small". The files are downloaded if they are nowhere to be found.
    """


@_command(
    "text",
    """\
  lstm-numba train text book.txt
  lstm-numba train text book.txt --level word --hidden 200 --dropout 0.2
  lstm-numba train text --resume runs/text-1
""",
    click.argument("file", required=False, type=click.Path()),
    _data_option(
        "--level",
        "What a token is.",
        type=click.Choice(["char", "word"]),
        default="char",
        show_default=True,
    ),
)
def text() -> None:
    """Train a language model on FILE, a text of your own in UTF-8.

    The text is split in order: nine tenths to train, the rest to validate and to test.
    """


@_command(
    "grammar",
    """\
  lstm-numba train grammar
  lstm-numba train grammar --cell rnn --hidden 64 --epochs 3 --json
  lstm-numba train grammar --resume runs/grammar-1
""",
    _data_option("--tokens", "Training tokens to draw.  [default: set by the data set]", type=POSITIVE),
)
def grammar() -> None:
    """Train a language model on sentences that the program draws itself; nothing to download.

    They come from a random grammar with long-range agreement whose entropy is known, so that the lowest
    reachable perplexity stands beside the one reached.
    """
