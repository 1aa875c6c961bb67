"""Options that commands share, as decorators, and the types that check their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from lstm_numba.training.config import (
    CELLS,
    CLASSIFIERS,
    DTYPES,
    OPTIMIZERS,
    SCHEDULES,
    default_config,
)
from lstm_numba.training.presets import PRESETS

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

#: Larger counts are typing errors, and would overflow somewhere deep inside.
_LARGEST = 2**31 - 1


class Count(click.ParamType):
    """A whole number from `minimum` to 2**31 - 1."""

    name = "integer"

    def __init__(self, minimum: int = 1) -> None:
        self.minimum = minimum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number or fail with what was expected."""
        try:
            number = int(value)
        except (TypeError, ValueError):
            number = self.minimum - 1
        if not self.minimum <= number <= _LARGEST:
            self.fail(f"{value!r} is not a whole number from {self.minimum} to {_LARGEST}", param, ctx)
        return number


class Real(click.ParamType):
    """A finite number inside bounds.

    Parameters
    ----------
    minimum, maximum : float
        Bounds.
    above, below : bool
        The bound itself is excluded.
    """

    name = "number"

    def __init__(
        self,
        minimum: float = -math.inf,
        maximum: float = math.inf,
        *,
        above: bool = False,
        below: bool = False,
    ) -> None:
        self.minimum, self.maximum, self.above, self.below = minimum, maximum, above, below

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the number or fail with what was expected."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        inside = self.minimum <= number <= self.maximum
        if (self.above and number == self.minimum) or (self.below and number == self.maximum):
            inside = False
        if not inside or not math.isfinite(number):
            self.fail(f"{value!r} is not {self._expected()}", param, ctx)
        return number

    def _expected(self) -> str:
        parts = []
        if self.minimum > -math.inf:
            parts.append(f"{'above' if self.above else 'at least'} {self.minimum:g}")
        if self.maximum < math.inf:
            parts.append(f"{'below' if self.below else 'at most'} {self.maximum:g}")
        return " ".join(["a finite number", " and ".join(parts)]).strip()


POSITIVE = Count(1)
NATURAL = Count(0)


class SectionedOption(click.Option):
    """An option that knows the heading under which help lists it."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list for each heading, in the order of first appearance."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, "section", "Other options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


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


#: Options that become entries of the config's ``schedule_options``: option -> entry, by schedule.
SCHEDULE_OPTIONS: dict[str, dict[str, str]] = {
    "constant": {},
    "ptb": {"hold": "hold", "decay": "decay"},
    "cosine": {"warmup": "warmup"},
    "plateau": {"decay": "factor", "patience": "patience"},
}


def _setting(section: str, dataset: str) -> Callable[..., Callable[[F], F]]:
    """Make options of one section that show the data set's own defaults."""
    defaults = default_config(dataset)

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
        option("--cell", "Recurrent cell.", type=click.Choice(CELLS)),
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
            "Draw initial weights from U(-R, R); 0: U(-1/sqrt(H), 1/sqrt(H)).",
            type=Real(0),
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
            option("--schedule", schedule, type=click.Choice(SCHEDULES)),
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
        "Go on with this run and its own settings; beside it only --epochs, --threads, --data-dir and --json."
    )
    checkpoint = "Steps between checkpoints.  [default: every minute and after each epoch]"
    return _chain(
        [
            device_option,
            threads_option,
            option("--seed", seed, type=NATURAL),
            option("--checkpoint-every", checkpoint, type=POSITIVE, metavar="STEPS"),
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
