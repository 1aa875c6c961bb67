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

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
DTYPES = ("float32", "float64")
INITS = ("uniform", "xavier", "orthogonal", "identity")
DEVICES = ("cpu", "cuda")
#: Forms of the metrics beside metrics.jsonl.
LOG_FORMS = ("csv", "tensorboard")
DEFAULT_PERIODS = "1,2,4,8"
#: The library's own cells.
CELL_NAMES = (*BUILT_IN, *GROUPED)
#: What cells there are, for help and messages.
CELL_TEXT = f"{', '.join(CELL_NAMES)}, or MODULE:CLASS, one of your own"
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
    decay: float = setting(0.5, Range(0, 1, above=True), "Factor of the decay (schedule ptb).", OPTIMISATION)
    warmup: float = setting(0, NOT_NEGATIVE, "Epochs of linear warm-up (schedule cosine).", OPTIMISATION)
    final: float = setting(0.0, Range(0, 1))
    factor: float = setting(0.5, Range(0, 1, above=True, below=True))
    patience: int = setting(1, NATURAL, "Epochs without progress to wait (schedule plateau).", OPTIMISATION)
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
        "Share of the data to test on; of pictures that of each class, where there is no test part.",
        DATA,
        ("images", *SERIES),
        unset="0.1 of pictures, 0.2 of series",
    )
    split_seed: int = setting(
        0, SEED, "Seed of the choice of what to test on, whatever --seed.", DATA, ("images", *SERIES)
    )
    level: str = setting("char", Choice(("char", "word")), "What a token is.", DATA, ("text",))
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
        "Settings published for PTB (Zaremba et al. 2014); options you give win.",
        OPTIMISATION,
        LANGUAGE_MODELS,
    )
    cell: str = setting("lstm", check_cell, f"Recurrent cell: {CELL_TEXT}. May be repeated: a run for each.")
    hidden: int = setting(128, POSITIVE, "Hidden units in a layer.")
    layers: int = setting(1, POSITIVE, "Recurrent layers, one on top of the other.")
    bidirectional: bool = setting(
        False, check_flag, "Read the sequence in both directions.", only=(*CLASSIFIERS, *SERIES)
    )
    embedding: int | None = setting(
        None, POSITIVE, "Size of a token's vector.", only=LANGUAGE_MODELS, unset="as --hidden"
    )
    tie: bool = setting(
        False, check_flag, "Use the embedding as the output layer's weights too.", only=LANGUAGE_MODELS
    )
    dropout: float = setting(0.0, PROBABILITY, "Dropout on the non-recurrent connections.")
    weight_drop: float = setting(
        0.0, PROBABILITY, "Dropout of the recurrent weights (Merity et al. 2018).", later=True
    )
    zoneout: float = setting(
        0.0, PROBABILITY, "Probability that a unit keeps its state (Krueger et al. 2017).", later=True
    )
    zoneout_cell: float | None = setting(
        None, PROBABILITY, "The same of the states beside the output.", unset="as --zoneout", later=True
    )
    recurrent_dropout: float = setting(0.0, PROBABILITY, "Dropout inside the recurrent step.", later=True)
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
    lr: float = setting(0.002, ABOVE_0, "Learning rate.", OPTIMISATION)
    momentum: float = setting(0.0, PROBABILITY, "Momentum of sgd and rmsprop.", OPTIMISATION)
    nesterov: bool = setting(False, check_flag, "Nesterov's momentum, for sgd.", OPTIMISATION)
    weight_decay: float = setting(
        0.0, NOT_NEGATIVE, "Weight decay: decoupled for adamw, else L2.", OPTIMISATION
    )
    clip: float | None = setting(
        1.0,
        ABOVE_0,
        "Clip the gradient's global norm at this; 0: not at all.",
        OPTIMISATION,
        zero_is_none=True,
    )
    clip_value: float | None = setting(
        None, ABOVE_0, "Clip each gradient entry at this; 0: not at all.", OPTIMISATION, zero_is_none=True
    )
    early_stopping: int | None = setting(
        None,
        WHOLE_ABOVE_0,
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
        "Training images to hold out and evaluate after every epoch: a number, or a fraction below 1, as of "
        "series; 0: none, the training loss is watched.",
        DATA,
        (*CLASSIFIERS, *SERIES),
    )
    device: str = setting("cpu", Choice(DEVICES))
    threads: int | None = setting(None, POSITIVE)
    seed: int = setting(0, SEED, "Seed of weights, order and dropout: same seed and threads, same bits.", RUN)
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
