"""``lstm-numba train``: one subcommand per data set; `cli.training` starts or resumes the run."""

from __future__ import annotations

import inspect
from typing import Any

import click

from lstm_numba.cli.options import train_options
from lstm_numba.cli.types import NamingGroup, SectionedCommand


class TrainCommand(SectionedCommand):
    """Names the data sets of an option that belongs to another ``train`` command."""

    def unknown_option(self, ctx: click.Context, name: str) -> str:
        """Say which command has the option, if one has."""
        owners = [
            command_name
            for command_name, command in train.commands.items()
            if any(name in parameter.opts for parameter in command.params)
        ]
        if not owners:
            return super().unknown_option(ctx, name)
        return f"{name} is an option of {', '.join(owners)}, not of {self.name}"


@click.group(
    cls=NamingGroup,
    epilog="""\b
Examples:
  lstm-numba train digits
  lstm-numba train mnist --cell gru --epochs 5 --data-dir ~/mnist
  lstm-numba train mnist --resume runs/mnist-1
  mpiexec -n 2 lstm-numba train ptb --data-dir ~/ptb
""",
)
def train() -> None:
    """Train a network on a data set, or go on with a run.

    digits and grammar are made by the program itself and need no download; text and images are your own.
    With --seeds N each trains N times, and says how much the results vary.

    Processes that mpiexec starts (needs the extra "mpi") train one network: each has its rows of every batch,
    and --threads is for each of them.
    """


def _add(dataset: str, help: str, examples: str) -> None:
    """Add ``train DATASET``."""

    def command(**values: Any) -> None:
        from lstm_numba.cli.training import train_command

        train_command(dataset, values)

    decorated: Any = train_options(dataset)(command)
    epilog = f"\b\nExamples:\n{examples}"
    train.command(dataset, cls=TrainCommand, help=inspect.cleandoc(help), epilog=epilog)(decorated)


_add(
    "mnist",
    """Train a classifier on MNIST: 60,000 handwritten digits, and 10,000 to test.

    The files are downloaded if they are not found.""",
    """\
  lstm-numba train mnist
  lstm-numba train mnist --cell gru --bidirectional --data-dir ~/mnist
  lstm-numba train mnist --resume runs/mnist-1
""",
)
_add(
    "digits",
    """Train a classifier on digits that the program draws itself; nothing to download.

    They have MNIST's format and are not MNIST.""",
    """\
  lstm-numba train digits
  lstm-numba train digits --cell peephole --hidden 64 --epochs 3 --out runs/try
  lstm-numba train digits --cell lstm --cell gru --keep best --early-stopping 3 --out runs/cells
  lstm-numba train digits --seeds 10 --out runs/ten-seeds
  lstm-numba train digits --resume runs/ten-seeds --epochs 8
  lstm-numba train digits --resume runs/try
""",
)
_add(
    "ptb",
    """Train a word language model on the Penn Treebank as Mikolov prepared it.

    The defaults are those of the preset "small". The files are downloaded if they are not found.""",
    """\
  lstm-numba train ptb --data-dir ~/ptb
  lstm-numba train ptb --preset medium --out runs/medium
  lstm-numba train ptb --resume runs/medium
""",
)
_add(
    "text",
    """Train a language model on FILE, a text of your own in UTF-8.

    The text is split in order: nine tenths to train, the rest to validate and to test.""",
    """\
  lstm-numba train text book.txt
  lstm-numba train text book.txt --level word --hidden 200 --dropout 0.2
  lstm-numba train text --resume runs/text-1
""",
)
_add(
    "series",
    """Train a network on tables of your own: forecast, regress or classify sequences.

    Each FILE is a table with named columns: CSV, TSV, Parquet, or NumPy's .npy and .npz. Several files are
    several sequences. What the options leave open is guessed where nothing else makes sense, and said. The
    result stands beside those of simple baselines.""",
    """\
  lstm-numba train series --example pendulum
  lstm-numba train series load.csv --target load --window 48 --horizon 24
  lstm-numba train series recordings/*.csv --target activity
  lstm-numba train series patients.csv --group patient --target outcome --cell gru
  lstm-numba train series shops.csv --group shop --target sales --per-group
  lstm-numba train series --resume runs/series-1
""",
)
_add(
    "images",
    """Train a classifier on pictures of your own: PATH is a folder with one folder for each class.

    The folders hold PNG, JPEG, BMP or PPM files and give the classes their names (needs the extra "images").
    Where PATH holds two such folders, train and test, the second is for the test; otherwise a share of each
    class is, see --test. PATH may also hold IDX files as MNIST's, of any count and size: train-images...,
    train-labels..., and t10k- or test- ones. A row of pixels is a step, unless --view says otherwise.""",
    """\
  lstm-numba train images flowers
  lstm-numba train images flowers --size 32x32 --colour --bidirectional --validation 0.1
  lstm-numba train images emnist --view pixels --cell gru
  lstm-numba train images --resume runs/images-1
""",
)
_add(
    "grammar",
    """Train a language model on sentences that the program draws itself; nothing to download.

    They come from a random grammar with long-range agreement whose entropy is known, so that the lowest
    reachable perplexity stands beside the one reached.""",
    """\
  lstm-numba train grammar
  lstm-numba train grammar --cell rnn --hidden 64 --epochs 3 --json
  lstm-numba train grammar --resume runs/grammar-1
""",
)
