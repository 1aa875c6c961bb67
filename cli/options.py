"""Options that commands share, as decorators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from lstm_numba.cli.types import CellName, Count, Real, SectionedOption
from lstm_numba.training.config import (
    CLASSIFIERS,
    DTYPES,
    OPTIMIZERS,
    SCHEDULES,
    default_config,
)
from lstm_numba.training.presets import PRESETS

F = TypeVar("F", bound=Callable[..., Any])

POSITIVE = Count(1)
NATURAL = Count(0)


def _chain(decorators: Sequence[Callable[[Any], Any]]) -> Callable[[F], F]:
    """Apply decorators so that help lists them in the given order."""

    def apply(function: F) -> F:
        result: Any = function
        for decorator in reversed(decorators):
            result = decorator(result)
        return result

    return apply


def json_option(function: F) -> F:
    """``--json``."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the result as one JSON object.",
        cls=SectionedOption,
        section="Output",
    )(function)


def data_dir_option(function: F) -> F:
    """``--data-dir``, a folder that exists."""
    return _data_dir("Folder that holds the data files; otherwise LSTM_NUMBA_DATA, then the cache.", True)(
        function
    )


def download_dir_option(function: F) -> F:
    """``--data-dir``, a folder that may have to be made."""
    return _data_dir("Folder to download to; otherwise LSTM_NUMBA_DATA, then the cache.", False)(function)


def _data_dir(help: str, exists: bool) -> Callable[[F], F]:
    return click.option(
        "--data-dir",
        type=click.Path(exists=exists, file_okay=False),
        help=help,
        cls=SectionedOption,
        section="Data",
    )


def run_cell_option(function: F) -> F:
    """``--cell`` of a command that uses a run."""
    return click.option(
        "--cell",
        type=CellName(),
        metavar="MODULE:CLASS",
        help="The run's cell, where it is one of your own: its module is imported.",
        cls=SectionedOption,
        section="Network",
    )(function)


def checkpoint_option(function: F) -> F:
    """``--checkpoint`` of a command that uses a run."""
    return click.option(
        "--checkpoint",
        type=click.Choice(["last", "best"]),
        default="last",
        show_default=True,
        help="best: of the epoch with the lowest loss on valid, or in training where there is no valid.",
        cls=SectionedOption,
        section="Network",
    )(function)


def threads_option(function: F) -> F:
    """``--threads``."""
    return click.option(
        "--threads",
        type=POSITIVE,
        help="Threads to compute with.  [default: all cores]",
        cls=SectionedOption,
        section="Computer",
    )(function)


def device_option(function: F) -> F:
    """``--device``."""
    return click.option(
        "--device",
        type=click.Choice(["cpu", "auto", "cuda"]),
        default="cpu",
        show_default=True,
        help="Where to compute; auto takes the best device there is.",
        cls=SectionedOption,
        section="Computer",
    )(function)


def _setting(section: str, dataset: str) -> Callable[..., Callable[[F], F]]:
    """Make options of one section that show the data set's own defaults."""
    config = default_config(dataset)
    defaults = {**config}
    for options in (*SCHEDULES.values(), config["schedule_options"]):
        defaults.update(options)

    def option(flag: str, help: str, **attributes: Any) -> Callable[[F], F]:
        default = defaults.get(flag.lstrip("-").replace("-", "_"))
        attributes.setdefault("show_default", default is not None)
        return click.option(
            flag, default=default, help=help, cls=SectionedOption, section=section, **attributes
        )

    return option


def network_options(dataset: str) -> Callable[[F], F]:
    """Options that shape the network: ``--cell --hidden --layers ... --dtype``."""
    option = _setting("Network", dataset)
    first = [
        option("--cell", "Recurrent cell; MODULE:CLASS is one of your own.", type=CellName()),
        option("--hidden", "Hidden units in a layer.", type=POSITIVE),
        option("--layers", "Recurrent layers, one on top of the other.", type=POSITIVE),
    ]
    if dataset in CLASSIFIERS:
        own = [option("--bidirectional", "Read the sequence in both directions.", is_flag=True)]
    else:
        own = [
            option("--embedding", "Size of a token's vector.  [default: as --hidden]", type=POSITIVE),
            option("--tie", "Use the embedding as the output layer's weights too.", is_flag=True),
        ]
    last = [
        option("--dropout", "Dropout on the non-recurrent connections.", type=Real(0, 1, below=True)),
        option("--dtype", "Precision of all numbers.", type=click.Choice(DTYPES)),
        option(
            "--init-range",
            "Draw all initial weights from U(-R, R)."
            if dataset == "ptb"
            else "Draw all initial weights from U(-R, R).  [default: as PyTorch, R = 1/sqrt(H)]",
            type=Real(0, above=True),
            metavar="R",
        ),
        option("--forget-bias", "Initial bias of forget gates.", type=Real()),
    ]
    return _chain(first + own + last)


def optimization_options(dataset: str) -> Callable[[F], F]:
    """Options of the optimisation: ``--preset --epochs --batch-size ... --clip-value``."""
    option = _setting("Optimisation", dataset)
    language = dataset not in CLASSIFIERS
    preset = option(
        "--preset",
        "Settings published for PTB (Zaremba et al. 2014); options you give win.",
        type=click.Choice(list(PRESETS)),
    )
    window = option("--bptt", "Time steps through which the gradient goes back.", type=POSITIVE)
    schedule = (
        "Learning rate over the epochs: constant; ptb holds, then decays by a factor each epoch; "
        "cosine falls towards 0; plateau decays when the loss stops falling."
    )
    return _chain(
        [
            *([preset] if language else []),
            option("--epochs", "Passes over the training data.", type=POSITIVE),
            option("--batch-size", "Sequences in a batch.", type=POSITIVE),
            *([window] if language else []),
            option("--optimizer", "Update rule.", type=click.Choice(OPTIMIZERS)),
            option("--lr", "Learning rate.", type=Real(0, above=True)),
            option("--momentum", "Momentum of sgd and rmsprop.", type=Real(0, 1, below=True)),
            option("--nesterov", "Nesterov's momentum, for sgd.", is_flag=True),
            option("--weight-decay", "Weight decay: decoupled for adamw, else L2.", type=Real(0)),
            option("--schedule", schedule, type=click.Choice(list(SCHEDULES))),
            option("--hold", "Epochs before the decay (schedule ptb).", type=NATURAL),
            option("--decay", "Factor of the decay (schedules ptb, plateau).", type=Real(0, 1, above=True)),
            option("--warmup", "Epochs of linear warm-up (schedule cosine).", type=Real(0)),
            option("--patience", "Epochs without progress to wait (schedule plateau).", type=NATURAL),
            option("--clip", "Clip the gradient's global norm at this; 0: not at all.", type=Real(0)),
            option("--clip-value", "Clip each gradient entry at this; 0: not at all.", type=Real(0)),
        ]
    )


def run_options(dataset: str) -> Callable[[F], F]:
    """Options of the run itself: ``--device --threads --seed --out --resume ... --json``."""
    option = _setting("Run", dataset)
    seed = "Seed of weights, order and dropout: same seed and threads, same bits."
    resume = (
        "Go on with this run and its own settings; beside it only --epochs, --threads, --device, --data-dir, "
        "--json, and --cell where the cell is one of your own."
    )
    checkpoint = "Seconds between checkpoints within an epoch; each epoch ends with one anyway."
    return _chain(
        [
            device_option,
            threads_option,
            option("--seed", seed, type=NATURAL),
            option("--checkpoint-every", checkpoint, type=Real(0), metavar="SECONDS"),
            click.option(
                "--out",
                type=click.Path(),
                metavar="RUN",
                help=f"Folder to make for the run.  [default: runs/{dataset}-1, -2, ...]",
                cls=SectionedOption,
                section="Run",
            ),
            click.option(
                "--resume",
                type=click.Path(),
                metavar="RUN",
                help=resume,
                cls=SectionedOption,
                section="Run",
            ),
            json_option,
        ]
    )
