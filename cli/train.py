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
            if any(name in (*one.opts, *one.secondary_opts) for one in command.params)
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
    """Train a network on a data set, or resume a run.

    digits and grammar are generated and need no download; text, series and images are your own data. With
    --seeds N each trains N times and reports the spread of the results.

    Processes started by mpiexec (needs the extra "mpi") train one network in data parallel: each computes
    its rows of every batch, with --threads threads per process.
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
    """Train a classifier on MNIST, 70,000 handwritten digits.

    10,000 of the images are the test split. The files are downloaded if they are not found.""",
    """\
  lstm-numba train mnist
  lstm-numba train mnist --cell gru --bidirectional --data-dir ~/mnist
  lstm-numba train mnist --resume runs/mnist-1
""",
)
_add(
    "digits",
    """Train a classifier on generated digits; needs no download.

    They have MNIST's format and are not MNIST.""",
    """\
  lstm-numba train digits
  lstm-numba train digits --cell peephole --hidden 64 --epochs 3 --out runs/p
  lstm-numba train digits --cell lstm --cell gru --keep best --out runs/cells
  lstm-numba train digits --seeds 10 --out runs/ten-seeds
  lstm-numba train digits --resume runs/ten-seeds --epochs 8
  lstm-numba train digits --resume runs/p
""",
)
_add(
    "ptb",
    """Train a word language model on the Penn Treebank (Mikolov).

    The defaults are those of the preset "small". The files are downloaded if they are not found.""",
    """\
  lstm-numba train ptb --data-dir ~/ptb
  lstm-numba train ptb --preset medium --out runs/medium
  lstm-numba train ptb --resume runs/medium
""",
)
_add(
    "text",
    """Train a language model on your own text.

    The text is split in order: 90 % for training, the rest for validation and test.""",
    """\
  lstm-numba train text book.txt
  lstm-numba train text book.txt --level word --hidden 200 --dropout 0.2
  lstm-numba train text --resume runs/text-1
""",
)
_add(
    "series",
    """Forecast, regress or classify sequences of your own tables.

    Each FILE is a table with named columns: CSV, TSV, Parquet, or NumPy's .npy and .npz. Several files are
    several sequences. What the options leave open is inferred where it is unambiguous, and reported. The
    result is compared with simple baselines.""",
    """\
  lstm-numba train series --example pendulum
  lstm-numba train series load.csv --target load --window 48 --horizon 24
  lstm-numba train series recordings/*.csv --target activity
  lstm-numba train series patients.csv --group patient --target outcome
  lstm-numba train series shops.csv --group shop --target sales --per-group
  lstm-numba train series --resume runs/series-1
""",
)
_add(
    "images",
    """Train a classifier on your own images, one folder per class.

    The folders in PATH hold PNG, JPEG, BMP or PPM files and give the classes their names (needs the extra
    "images"). If PATH has the folders train and test, each with one folder per class, the second is the test
    split; otherwise --test sets the fraction of each class. PATH may also hold IDX files like MNIST's, of any
    count and size: train-images..., train-labels..., and t10k- or test- ones. A row of pixels is a time step,
    unless --view says otherwise.""",
    """\
  lstm-numba train images flowers
  lstm-numba train images flowers --size 32x32 --colour --bidirectional
  lstm-numba train images emnist --view pixels --cell gru
  lstm-numba train images --resume runs/images-1
""",
)
_add(
    "grammar",
    """Train a language model on generated sentences; needs no download.

    They come from a random grammar with long-range agreement whose entropy is known: the lower bound of the
    perplexity (source entropy) is reported with the result.""",
    """\
  lstm-numba train grammar
  lstm-numba train grammar --cell rnn --hidden 64 --epochs 3 --json
  lstm-numba train grammar --resume runs/grammar-1
""",
)
