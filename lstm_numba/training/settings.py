"""Every setting of a run, said once: its default, its check, and what the command line says of it.

The options of ``lstm-numba train``, the checks of `lstm_numba.training.config` and the content of
``config.json`` all follow from `Settings`. Neither Numba nor NumPy is imported.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field, fields
from typing import Any

from lstm_numba.cells import BUILT_IN, GROUPED
from lstm_numba.cells.onnx_variants import read
from lstm_numba.training.presets import PRESETS
from lstm_numba.training.series_settings import SeriesOptions
from lstm_numba.training.setting import (
    ABOVE_0,
    CLASSIFIERS,
    DATA,
    DATASETS,
    LANGUAGE_MODELS,
    MEASURES,
    NATURAL,
    NETWORK,
    NOT_NEGATIVE,
    OPTIMISATION,
    POSITIVE,
    PROBABILITY,
    RUN,
    SECTIONS,
    SEED,
    SERIES,
    WHOLE_ABOVE_0,
    Choice,
    Range,
    Setting,
    check_flag,
    check_names,
    check_text,
    is_number,
    setting,
)

__all__ = [
    "CELL_NAMES",
    "CELL_TEXT",
    "CLASSIFIERS",
    "DATA",
    "DATASETS",
    "DATA_OPTIONS",
    "DEFAULT_PERIODS",
    "DEVICES",
    "DTYPES",
    "INITS",
    "LANGUAGE_MODELS",
    "LOG_FORMS",
    "MEASURES",
    "NATURAL",
    "NETWORK",
    "NOT_NEGATIVE",
    "OPTIMISATION",
    "OPTIMIZERS",
    "POSITIVE",
    "RUN",
    "SCHEDULES",
    "SCHEDULE_OPTIONS",
    "SECTIONS",
    "SERIES",
    "SETTINGS",
    "Choice",
    "DataOptions",
    "Range",
    "ScheduleOptions",
    "Setting",
    "Settings",
    "check_cell",
    "check_flag",
    "check_forms",
    "check_names",
    "check_periods",
    "check_size",
    "check_text",
    "data_defaults",
    "described",
    "is_number",
    "is_own_cell",
    "read_forms",
    "read_periods",
    "read_size",
]

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "nt-asgd")
DTYPES = ("float32", "float64")
INITS = ("uniform", "xavier", "orthogonal", "identity")
DEVICES = ("cpu", "cuda")
#: Forms of the metrics beside metrics.jsonl.
LOG_FORMS = ("csv", "tensorboard")
DEFAULT_PERIODS = "1,2,4,8"
#: The library's own cells.
CELL_NAMES = (*BUILT_IN, *GROUPED)
#: What cells there are, for help and messages.
CELL_TEXT = f"{', '.join(CELL_NAMES)}, or MODULE:CLASS, a custom cell"
#: Far beyond what makes sense, and far from where float32 ends.
_LARGEST_WEIGHT = 1e30

_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_PERIODS = re.compile(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*")
#: How a cell of a user's own is named, see `lstm_numba.cells.load_cell`.
_OWN_CELL = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_own_cell(name: Any) -> bool:
    """Whether a text names a cell of a user's own: ``module:Class``."""
    return isinstance(name, str) and _OWN_CELL.fullmatch(name) is not None


def check_cell(value: Any) -> str:
    """Check the name of a cell: one of the library's, a variant of one, or a user's own."""
    if value in CELL_NAMES or is_own_cell(value):
        return ""
    if isinstance(value, str) and "," in value:
        try:
            read(value)
        except ValueError as error:
            return f"a cell: {error}"
        return ""
    return f"one of {', '.join(CELL_NAMES)}, one of them with variations, or module:Class"


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


@dataclass(frozen=True)
class ScheduleOptions:
    """Options of all schedules; a run has those of its own, see `SCHEDULES`."""

    hold: int = setting(4, NATURAL, "Epochs before the decay (schedule ptb).", OPTIMISATION)
    decay: float = setting(0.5, Range(0, 1, above=True), "Decay factor (schedule ptb).", OPTIMISATION)
    warmup: float = setting(0, NOT_NEGATIVE, "Epochs of linear warm-up (schedule cosine).", OPTIMISATION)
    final: float = setting(0.0, Range(0, 1))
    factor: float = setting(0.5, Range(0, 1, above=True, below=True))
    patience: int = setting(
        1, NATURAL, "Epochs without improvement before a decay (schedule plateau).", OPTIMISATION
    )
    threshold: float = setting(1e-4, PROBABILITY)
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
class DataOptions(SeriesOptions):
    """Options of all data sets; a run has those of its own."""

    data_dir: str | None = setting(None, check_text, only=("mnist", "ptb"))
    file: str | None = setting(None, check_text, only=("text", "images"))
    view: str = setting(
        "rows",
        Choice(("rows", "pixels", "permuted")),
        "Time steps: rows of an image, its pixels, or its pixels in a fixed random permutation.",
        DATA,
        CLASSIFIERS,
    )
    size: str | None = setting(
        None,
        check_size,
        "Height and width to which images of other sizes are scaled.",
        DATA,
        ("images",),
        unset="the most frequent size",
        metavar="HxW",
    )
    colour: bool = setting(
        False, check_flag, "Read red, green and blue channels, not gray levels.", DATA, ("images",)
    )
    test: float | None = setting(
        None,
        Range(0, 1, above=True, below=True),
        "Fraction of the data to test on; for images of each class, if there is no test folder.",
        DATA,
        ("images", *SERIES),
        unset="0.1 of images, 0.2 of series",
    )
    split_seed: int = setting(
        0, SEED, "Seed of the test split, independent of --seed.", DATA, ("images", *SERIES)
    )
    level: str = setting(
        "char", Choice(("char", "word")), "Level of the tokens: characters or words.", DATA, ("text",)
    )
    count: int | None = setting(
        None, POSITIVE, "Training images to draw.", DATA, ("digits",), unset="20000", option="--images"
    )
    tokens: int | None = setting(
        None, POSITIVE, "Training tokens to draw.", DATA, ("grammar",), unset="set by the data set"
    )
    seed: int = setting(0, SEED, only=("digits", "grammar"))


@dataclass(frozen=True)
class Settings:
    """The fields of ``config.json`` but for `format`, `version` and `dataset`."""

    preset: str | None = setting(
        None,
        Choice(tuple(PRESETS)),
        "Settings published for PTB: small, medium and large (Zaremba et al. 2014); awd-small, an AWD-LSTM "
        "(Merity et al. 2018) of the size of small. Explicit options override the preset.",
        OPTIMISATION,
        LANGUAGE_MODELS,
    )
    cell: str = setting(
        "lstm", check_cell, f"Recurrent cell: {CELL_TEXT}. May be repeated: one run per cell."
    )
    hidden: int = setting(128, POSITIVE, "Hidden size: units per layer.")
    layers: int = setting(1, POSITIVE, "Number of stacked recurrent layers.")
    bidirectional: bool = setting(
        False, check_flag, "Read the sequence in both directions.", only=(*CLASSIFIERS, *SERIES)
    )
    embedding: int | None = setting(
        None, POSITIVE, "Embedding size.", only=LANGUAGE_MODELS, unset="as --hidden"
    )
    tie: bool = setting(
        False,
        check_flag,
        "Tie the weights of embedding and output layer.",
        only=LANGUAGE_MODELS,
        option="--tie/--no-tie",  # a preset ties
    )
    dropout: float = setting(0.0, PROBABILITY, "Dropout on the non-recurrent connections.")
    dropout_kind: str = setting(
        "element",
        Choice(("element", "sequence")),
        "A new mask for each element and step, or one mask a sequence (or window of text), the same at every "
        "step: variational dropout (Gal & Ghahramani 2016).",
        later=True,
    )
    embedding_dropout: float = setting(
        0.0,
        PROBABILITY,
        "Dropout of whole words, one mask a window (Gal & Ghahramani 2016).",
        only=LANGUAGE_MODELS,
        later=True,
    )
    input_dropout: float | None = setting(
        None,
        PROBABILITY,
        "Dropout between the embedding and the first layer.",
        only=LANGUAGE_MODELS,
        unset="as --dropout",
        later=True,
    )
    output_dropout: float | None = setting(
        None, PROBABILITY, "Dropout before the output layer.", unset="as --dropout", later=True
    )
    weight_drop: float = setting(
        0.0, PROBABILITY, "Dropout of the recurrent weights (Merity et al. 2018).", later=True
    )
    zoneout: float = setting(
        0.0, PROBABILITY, "Probability that a unit keeps its state (Krueger et al. 2017).", later=True
    )
    zoneout_cell: float | None = setting(
        None, PROBABILITY, "The same for cell states, such as the LSTM's c.", unset="as --zoneout", later=True
    )
    recurrent_dropout: float = setting(0.0, PROBABILITY, "Dropout inside the recurrent step.", later=True)
    recurrent_dropout_kind: str = setting(
        "sequence",
        Choice(("sequence", "candidate")),
        "sequence: one mask per sequence on the input of the recurrent weights (Gal & Ghahramani 2016); "
        "candidate: one mask per step on the candidate (Semeniuta et al. 2016).",
        later=True,
    )
    proj_size: int | None = setting(
        None,
        POSITIVE,
        "Size of the LSTM's projected output (Sak et al. 2014).",
        unset="no projection",
        later=True,
    )
    heads: int = setting(1, POSITIVE, "Heads of block-diagonal recurrent weights.", later=True)
    periods: str | None = setting(
        None,
        check_periods,
        "Periods of the groups of units of a clockwork RNN, in time steps (Koutnik et al. 2014).",
        unset=DEFAULT_PERIODS,
        metavar="P,P,...",
        later=True,
    )
    dtype: str = setting("float32", Choice(DTYPES), "Floating-point type of all arrays.")
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
        "Draw the initial weights of all layers from U(-R, R).",
        unset="as --init says, uniform with R = 1/sqrt(H)",
        metavar="R",
    )
    forget_bias: float = setting(
        0.0, Range(-_LARGEST_WEIGHT, _LARGEST_WEIGHT), "Initial bias of forget gates."
    )
    epochs: int = setting(10, POSITIVE, "Training epochs.", OPTIMISATION)
    batch_size: int = setting(128, POSITIVE, "Sequences per batch.", OPTIMISATION)
    accumulate: int = setting(
        1,
        POSITIVE,
        "Gradient accumulation: average the gradients of N batches for one update.",
        OPTIMISATION,
        metavar="N",
        later=True,
    )
    bptt: int | None = setting(
        None,
        POSITIVE,
        "Time steps of truncated back-propagation through time.",
        OPTIMISATION,
        LANGUAGE_MODELS,
    )
    optimizer: str = setting(
        "adam",
        Choice(OPTIMIZERS),
        "Optimizer. nt-asgd is sgd until the loss on valid stops falling, and then averages the parameters "
        "(Merity et al. 2018).",
        OPTIMISATION,
    )
    nonmono: int = setting(
        5,
        NATURAL,
        "nt-asgd averages when the loss on valid is above the lowest but for the last N epochs.",
        OPTIMISATION,
        metavar="N",
        later=True,
    )
    lr: float = setting(0.002, ABOVE_0, "Learning rate.", OPTIMISATION)
    momentum: float = setting(0.0, PROBABILITY, "Momentum, for sgd and rmsprop.", OPTIMISATION)
    nesterov: bool = setting(False, check_flag, "Nesterov momentum, for sgd.", OPTIMISATION)
    weight_decay: float = setting(
        0.0, NOT_NEGATIVE, "Weight decay: decoupled for adamw, else L2.", OPTIMISATION
    )
    clip: float | None = setting(
        1.0,
        ABOVE_0,
        "Gradient clipping by global norm; 0 disables it.",
        OPTIMISATION,
        zero_is_none=True,
    )
    clip_value: float | None = setting(
        None, ABOVE_0, "Gradient clipping by value; 0 disables it.", OPTIMISATION, zero_is_none=True
    )
    early_stopping: int | None = setting(
        None,
        WHOLE_ABOVE_0,
        "Early stopping: stop when the monitored loss (validation, otherwise training) has not improved for "
        "this many epochs; 0 disables it.",
        OPTIMISATION,
        zero_is_none=True,
        unset="never",
        metavar="EPOCHS",
        later=True,
    )
    schedule: str = setting(
        "cosine",
        Choice(tuple(SCHEDULES)),
        "Learning-rate schedule: constant; ptb, held and then decayed by a factor per epoch; cosine, "
        "annealed to 0; plateau, decayed when the loss stops improving.",
        OPTIMISATION,
    )
    schedule_options: dict[str, Any] = field(default_factory=lambda: dict(SCHEDULES["cosine"]))
    data: dict[str, Any] = field(default_factory=dict)
    validation: float = setting(
        0.0,
        NOT_NEGATIVE,
        "Training data held out for validation: number of images, or fraction below 1 (always for series). "
        "0: none, the training loss is monitored.",
        DATA,
        (*CLASSIFIERS, *SERIES),
    )
    device: str = setting("cpu", Choice(DEVICES))
    threads: int | None = setting(None, POSITIVE)
    seed: int = setting(
        0,
        SEED,
        "Random seed of weights, data order and dropout; the same seed and threads give the same bits.",
        RUN,
    )
    keep: str = setting(
        "last",
        Choice(("last", "best")),
        "Checkpoint to test and to use in other commands: of the last epoch, or of the best one, with the "
        "lowest validation loss (training loss if there is no validation split). --checkpoint overrides it.",
        RUN,
        later=True,
    )
    checkpoint_every: float = setting(
        60.0,
        NOT_NEGATIVE,
        "Seconds between checkpoints within an epoch; there is one at the end of each epoch anyway.",
        RUN,
        metavar="SECONDS",
    )
    log: str | None = setting(
        None,
        check_forms,
        "Also write the metrics as metrics.csv (csv), as event files (tensorboard), or both; may be "
        "repeated.",
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
