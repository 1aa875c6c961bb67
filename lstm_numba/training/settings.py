"""Every setting of a run, said once: its default, its check, and what the command line says of it.

The options of ``lstm-numba train``, the checks of `lstm_numba.training.config` and the content of
``config.json`` all follow from `Settings`. Neither Numba nor NumPy is imported.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from lstm_numba.cells import BUILT_IN, GROUPED
from lstm_numba.cells.onnx_variants import read
from lstm_numba.training.presets import PRESETS

CLASSIFIERS = ("mnist", "digits", "images")
LANGUAGE_MODELS = ("ptb", "text", "grammar")
DATASETS = ("mnist", "ptb", "text", "images", "digits", "grammar")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
DTYPES = ("float32", "float64")
INITS = ("uniform", "xavier", "orthogonal", "identity")
DEVICES = ("cpu", "cuda")
#: Forms of the metrics beside metrics.jsonl.
LOG_FORMS = ("csv", "tensorboard")
DEFAULT_PERIODS = "1,2,4,8"
_NAMES = (*BUILT_IN, *GROUPED)
#: What cells there are, for help and messages.
CELL_TEXT = f"{', '.join(_NAMES)}, or MODULE:CLASS, one of your own"
#: Headings of the command line's help, in their order.
NETWORK, OPTIMISATION, DATA, RUN = SECTIONS = ("Network", "Optimisation", "Data", "Run")

_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_PERIODS = re.compile(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*")
#: How a cell of a user's own is named, see `lstm_numba.cells.load_cell`.
_OWN_CELL = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_number(value: Any) -> bool:
    """Whether a value out of JSON is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max  # no conversion: of 10**400 it fails


@dataclass(frozen=True)
class Range:
    """A check for numbers, as are the functions below: it returns what was expected, "" for a good value.

    Attributes
    ----------
    low, high : float
        Bounds.
    above, below : bool
        The bound itself is excluded.
    whole : bool
        Integers only.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False

    def __call__(self, value: Any) -> str:
        """Check a value."""
        number = is_number(value) if not self.whole else type(value) is int
        inside = number and self.low <= value <= self.high
        if inside and not (self.above and value == self.low) and not (self.below and value == self.high):
            return ""
        text = f"a {'whole ' if self.whole else ''}number {'above' if self.above else 'from'} {self.low:g}"
        if self.whole:
            return f"{text} to {self.high}" if number and value > self.high else text
        return text + (f" {'below' if self.below else 'to'} {self.high:g}" if self.high < math.inf else "")


@dataclass(frozen=True)
class Choice:
    """A check for one of some values."""

    values: tuple[Any, ...]

    def __call__(self, value: Any) -> str:
        """Check a value."""
        return "" if value in self.values else f"one of {', '.join(map(str, self.values))}"


def check_flag(value: Any) -> str:
    """Check a truth value."""
    return "" if isinstance(value, bool) else "true or false"


def check_text(value: Any) -> str:
    """Check a text, which may be a path."""
    return "" if isinstance(value, str) and "\0" not in value else "a text"


def is_own_cell(name: Any) -> bool:
    """Whether a text names a cell of a user's own: ``module:Class``."""
    return isinstance(name, str) and _OWN_CELL.fullmatch(name) is not None


def check_cell(value: Any) -> str:
    """Check the name of a cell: one of the library's, a variant of one, or a user's own."""
    if value in _NAMES or is_own_cell(value):
        return ""
    if isinstance(value, str) and "," in value:
        try:
            read(value)
        except ValueError as error:
            return f"a cell: {error}"
        return ""
    return f"one of {', '.join(_NAMES)}, one of them with variations, or module:Class"


def check_periods(value: Any) -> str:
    """Check a text of ascending whole numbers, such as 1,2,4."""
    numbers = read_periods(value) if isinstance(value, str) and _PERIODS.fullmatch(value) else (0,)
    fits = numbers[0] > 0 and all(a < b for a, b in itertools.pairwise(numbers))
    return "" if fits else "ascending whole numbers from 1, such as 1,2,4"


def read_periods(text: str) -> tuple[int, ...]:
    """The numbers of a text that `check_periods` accepts."""
    return tuple(map(int, text.split(",")))


def check_size(value: Any) -> str:
    """Check a text of height and width, such as 28x28."""
    fits = isinstance(value, str) and _SIZE.fullmatch(value) is not None
    return "" if fits else "height x width in pixels, such as 28x28"


def read_size(text: str) -> tuple[int, int]:
    """Height and width of a text that `check_size` accepts."""
    height, width = text.split("x")
    return int(height), int(width)


def check_forms(value: Any) -> str:
    """Check a text of different forms of the metrics, such as csv,tensorboard."""
    names = value.split(",") if isinstance(value, str) else []
    fits = names and {*names} <= {*LOG_FORMS} and len({*names}) == len(names)
    return "" if fits else f"different ones of {', '.join(LOG_FORMS)}, with commas between them"


def read_forms(text: str | None) -> tuple[str, ...]:
    """The names in a text that `check_forms` accepts; none in None."""
    return tuple(text.split(",")) if text else ()


#: Larger counts are typing errors, and would overflow somewhere deep inside.
NATURAL = Range(0, 2**31 - 1, whole=True)
POSITIVE = Range(1, 2**31 - 1, whole=True)
_SEED = Range(0, 2**64 - 1, whole=True)
NOT_NEGATIVE = Range(0)
_ABOVE_0 = Range(0, above=True)
_WHOLE_ABOVE_0 = Range(0, 2**31 - 1, above=True, whole=True)
_PROBABILITY = Range(0, 1, below=True)
#: Far beyond what makes sense, and far from where float32 ends.
_LARGEST_WEIGHT = 1e30


class Setting(NamedTuple):
    """What is known of a setting beside its name and default.

    Attributes
    ----------
    check : callable
        See `Range`.
    optional : bool
        It may be None too.
    help : str
        Empty: `lstm-numba train` has no option for it, or one that other commands share.
    section : str
        Heading in help.
    only : tuple of str
        Data sets that have it.
    zero_is_none : bool
        A user's 0 is stored as None.
    unset : str
        Shown as the default where that is None.
    option, metavar : str, optional
        The option's name, and what help shows of its value, where they do not follow from name and check.
    later : bool
        The ``config.json`` of an earlier version may lack it: then it has its default.
    """

    check: Callable[[Any], str]
    optional: bool
    help: str = ""
    section: str = NETWORK
    only: tuple[str, ...] = DATASETS
    zero_is_none: bool = False
    unset: str = ""
    option: str | None = None
    metavar: str | None = None
    later: bool = False

    def refuse(self, value: Any) -> str:
        """What was expected, "" for a good value."""
        return "" if self.optional and value is None else self.check(value)


def setting(default: Any, check: Callable[[Any], str], *args: Any, **more: Any) -> Any:
    """A dataclass field with its `Setting`."""
    optional = default is None or more.get("zero_is_none", False)
    return field(default=default, metadata={"setting": Setting(check, optional, *args, **more)})


@dataclass(frozen=True)
class ScheduleOptions:
    """Options of all schedules; a run has those of its own, see `SCHEDULES`."""

    hold: int = setting(4, NATURAL, "Epochs before the decay (schedule ptb).", OPTIMISATION)
    decay: float = setting(0.5, Range(0, 1, above=True), "Factor of the decay (schedule ptb).", OPTIMISATION)
    warmup: float = setting(0, NOT_NEGATIVE, "Epochs of linear warm-up (schedule cosine).", OPTIMISATION)
    final: float = setting(0.0, Range(0, 1))
    factor: float = setting(0.5, Range(0, 1, above=True, below=True))
    patience: int = setting(1, NATURAL, "Epochs without progress to wait (schedule plateau).", OPTIMISATION)
    threshold: float = setting(1e-4, _PROBABILITY)
    minimum: float = setting(0.0, NOT_NEGATIVE)


#: Schedule -> its options and their defaults.
SCHEDULES: dict[str, dict[str, Any]] = {
    name: {option: getattr(ScheduleOptions, option) for option in options}
    for name, options in {
        "constant": (),
        "ptb": ("hold", "decay"),
        "cosine": ("warmup", "final"),
        "plateau": ("factor", "patience", "threshold", "minimum"),
    }.items()
}


@dataclass(frozen=True)
class DataOptions:
    """Options of all data sets; a run has those of its own."""

    data_dir: str | None = setting(None, check_text, only=("mnist", "ptb"))
    file: str | None = setting(None, check_text, only=("text", "images"))
    view: str = setting(
        "rows",
        Choice(("rows", "pixels", "permuted")),
        "A step for each row of an image, for each pixel, or for each pixel in a fixed random order.",
        DATA,
        CLASSIFIERS,
    )
    size: str | None = setting(
        None,
        check_size,
        "Height and width to which pictures of other sizes are scaled.",
        DATA,
        ("images",),
        unset="the most frequent size",
        metavar="HxW",
    )
    colour: bool = setting(
        False, check_flag, "Read red, green and blue of a pixel, not its grey level.", DATA, ("images",)
    )
    test: float | None = setting(
        None,
        Range(0, 1, above=True, below=True),
        "Share of each class to test on, where the data have no test part.",
        DATA,
        ("images",),
        unset="0.1",
    )
    split_seed: int = setting(
        0, _SEED, "Seed of the choice of the pictures to test on, whatever --seed.", DATA, ("images",)
    )
    level: str = setting("char", Choice(("char", "word")), "What a token is.", DATA, ("text",))
    count: int | None = setting(
        None, POSITIVE, "Training images to draw.", DATA, ("digits",), unset="20000", option="--images"
    )
    tokens: int | None = setting(
        None, POSITIVE, "Training tokens to draw.", DATA, ("grammar",), unset="set by the data set"
    )
    seed: int = setting(0, _SEED, only=("digits", "grammar"))


@dataclass(frozen=True)
class Settings:
    """The fields of ``config.json`` but for `format`, `version` and `dataset`."""

    preset: str | None = setting(
        None,
        Choice(tuple(PRESETS)),
        "Settings published for PTB (Zaremba et al. 2014); options you give win.",
        OPTIMISATION,
        LANGUAGE_MODELS,
    )
    cell: str = setting("lstm", check_cell, f"Recurrent cell: {CELL_TEXT}. May be repeated: a run for each.")
    hidden: int = setting(128, POSITIVE, "Hidden units in a layer.")
    layers: int = setting(1, POSITIVE, "Recurrent layers, one on top of the other.")
    bidirectional: bool = setting(
        False, check_flag, "Read the sequence in both directions.", only=CLASSIFIERS
    )
    embedding: int | None = setting(
        None, POSITIVE, "Size of a token's vector.", only=LANGUAGE_MODELS, unset="as --hidden"
    )
    tie: bool = setting(
        False, check_flag, "Use the embedding as the output layer's weights too.", only=LANGUAGE_MODELS
    )
    dropout: float = setting(0.0, _PROBABILITY, "Dropout on the non-recurrent connections.")
    weight_drop: float = setting(
        0.0, _PROBABILITY, "Dropout of the recurrent weights (Merity et al. 2018).", later=True
    )
    zoneout: float = setting(
        0.0, _PROBABILITY, "Probability that a unit keeps its state (Krueger et al. 2017).", later=True
    )
    zoneout_cell: float | None = setting(
        None, _PROBABILITY, "The same of the states beside the output.", unset="as --zoneout", later=True
    )
    recurrent_dropout: float = setting(0.0, _PROBABILITY, "Dropout inside the recurrent step.", later=True)
    recurrent_dropout_kind: str = setting(
        "sequence",
        Choice(("sequence", "candidate")),
        "One mask a sequence on what the recurrent weights multiply (Gal & Ghahramani 2016), or one a step "
        "on the candidate (Semeniuta et al. 2016).",
        later=True,
    )
    proj_size: int | None = setting(
        None,
        POSITIVE,
        "Units that an LSTM's output is projected to (Sak et al. 2014).",
        unset="no projection",
        later=True,
    )
    heads: int = setting(1, POSITIVE, "Heads of block-diagonal recurrent weights.", later=True)
    periods: str | None = setting(
        None,
        check_periods,
        "Steps between the moves of each group of a clockwork network (Koutnik et al. 2014).",
        unset=DEFAULT_PERIODS,
        metavar="P,P,...",
        later=True,
    )
    dtype: str = setting("float32", Choice(DTYPES), "Precision of all numbers.")
    init: str = setting(
        "uniform",
        Choice(INITS),
        "Initial weights of the recurrent layers: uniform, as PyTorch's; xavier (Glorot & Bengio 2010); "
        "orthogonal (Saxe et al. 2014); identity (Le et al. 2015, for rnn-relu).",
        later=True,
    )
    init_range: float | None = setting(
        None,
        Range(0, _LARGEST_WEIGHT, above=True),
        "Draw all initial weights, also the other layers', from U(-R, R).",
        unset="as --init says, uniform with R = 1/sqrt(H)",
        metavar="R",
    )
    forget_bias: float = setting(
        0.0, Range(-_LARGEST_WEIGHT, _LARGEST_WEIGHT), "Initial bias of forget gates."
    )
    epochs: int = setting(10, POSITIVE, "Passes over the training data.", OPTIMISATION)
    batch_size: int = setting(128, POSITIVE, "Sequences in a batch.", OPTIMISATION)
    accumulate: int = setting(
        1,
        POSITIVE,
        "Batches whose gradients are averaged for one update, as of one batch of N times the size.",
        OPTIMISATION,
        metavar="N",
        later=True,
    )
    bptt: int | None = setting(
        None, POSITIVE, "Time steps through which the gradient goes back.", OPTIMISATION, LANGUAGE_MODELS
    )
    optimizer: str = setting("adam", Choice(OPTIMIZERS), "Update rule.", OPTIMISATION)
    lr: float = setting(0.002, _ABOVE_0, "Learning rate.", OPTIMISATION)
    momentum: float = setting(0.0, _PROBABILITY, "Momentum of sgd and rmsprop.", OPTIMISATION)
    nesterov: bool = setting(False, check_flag, "Nesterov's momentum, for sgd.", OPTIMISATION)
    weight_decay: float = setting(
        0.0, NOT_NEGATIVE, "Weight decay: decoupled for adamw, else L2.", OPTIMISATION
    )
    clip: float | None = setting(
        1.0,
        _ABOVE_0,
        "Clip the gradient's global norm at this; 0: not at all.",
        OPTIMISATION,
        zero_is_none=True,
    )
    clip_value: float | None = setting(
        None, _ABOVE_0, "Clip each gradient entry at this; 0: not at all.", OPTIMISATION, zero_is_none=True
    )
    early_stopping: int | None = setting(
        None,
        _WHOLE_ABOVE_0,
        "Stop when the loss that is watched, on valid or else in training, has not been lower for so many "
        "epochs; 0: never.",
        OPTIMISATION,
        zero_is_none=True,
        unset="never",
        metavar="EPOCHS",
        later=True,
    )
    schedule: str = setting(
        "cosine",
        Choice(tuple(SCHEDULES)),
        "Learning rate over the epochs: constant; ptb holds, then decays by a factor each epoch; "
        "cosine falls towards 0; plateau decays when the loss stops falling.",
        OPTIMISATION,
    )
    schedule_options: dict[str, Any] = field(default_factory=lambda: dict(SCHEDULES["cosine"]))
    data: dict[str, Any] = field(default_factory=dict)
    validation: float = setting(
        0.0,
        NOT_NEGATIVE,
        "Training images to hold out and evaluate after every epoch: a number, or a fraction below 1; 0: "
        "none, the training loss is watched.",
        DATA,
        CLASSIFIERS,
    )
    device: str = setting("cpu", Choice(DEVICES))
    threads: int | None = setting(None, POSITIVE)
    seed: int = setting(
        0, _SEED, "Seed of weights, order and dropout: same seed and threads, same bits.", RUN
    )
    keep: str = setting(
        "last",
        Choice(("last", "best")),
        "The epoch that the training ends with: best has the lowest loss on valid, or in training where "
        "there is no valid. It is tested, and used by the other commands unless --checkpoint says otherwise.",
        RUN,
        later=True,
    )
    checkpoint_every: float = setting(
        60.0,
        NOT_NEGATIVE,
        "Seconds between checkpoints within an epoch; each epoch ends with one anyway.",
        RUN,
        metavar="SECONDS",
    )
    log: str | None = setting(
        None,
        check_forms,
        "Write the metrics as metrics.csv, or as event files for TensorBoard, too: csv, tensorboard, or "
        "both; may be repeated.",
        RUN,
        metavar="FORM,...",
        later=True,
    )


def described(kind: Any) -> dict[str, Setting]:
    """The settings of one of the classes above, by name."""
    return {one.name: one.metadata["setting"] for one in fields(kind) if one.metadata}


SETTINGS, SCHEDULE_OPTIONS, DATA_OPTIONS = map(described, (Settings, ScheduleOptions, DataOptions))


def data_defaults(dataset: str) -> dict[str, Any]:
    """The options that a data set has, with their defaults."""
    return {name: getattr(DataOptions, name) for name, one in DATA_OPTIONS.items() if dataset in one.only}
