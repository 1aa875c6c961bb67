"""The configuration of a run: its fields, their defaults for every data set, and their checks.

A configuration is a flat dict that JSON can hold, with every field written out, so that a run folder alone
says how the run was made. This module imports nothing heavy.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from lstm_numba._version import __version__
from lstm_numba.cells.onnx_variants import read
from lstm_numba.errors import UserError, printable
from lstm_numba.training.presets import PRESETS

FORMAT = 1
CLASSIFIERS = ("mnist", "digits")
LANGUAGE_MODELS = ("ptb", "text", "grammar")
DATASETS = ("mnist", "ptb", "text", "digits", "grammar")
#: As `lstm_numba.nn.recurrent.CELL_NAMES`, which cannot be imported without importing Numba.
CELLS = ("rnn", "rnn-relu", "lstm", "peephole", "gru", "gru-reset-before")
#: Far beyond what makes sense, and far from where float32 ends.
_LARGEST_WEIGHT = 1e30
_LARGEST_SEED = 2**64 - 1
#: How a cell of a user's own is named, see `lstm_numba.nn.register_cell.load_cell`.
_OWN_CELL = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
DTYPES = ("float32", "float64")
DEVICES = ("cpu", "cuda")

#: Schedule -> its options and their defaults.
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {},
    "ptb": {"hold": 4, "decay": 0.5},
    "cosine": {"warmup": 0, "final": 0.0},
    "plateau": {"factor": 0.5, "patience": 1, "threshold": 1e-4, "minimum": 0.0},
}


class ConfigError(UserError):
    """A setting is out of range or does not go with another.

    Parameters
    ----------
    option : str
        The configuration field at fault.
    text : str
        One line without the field's name.
    """

    def __init__(self, option: str, text: str) -> None:
        super().__init__(f"{printable(option, 80)}: {text}")
        self.option = option


_COMMON: dict[str, Any] = {
    "preset": None,
    "cell": "lstm",
    "hidden": 128,
    "layers": 1,
    "bidirectional": False,
    "embedding": None,
    "tie": False,
    "dropout": 0.0,
    "init_range": None,
    "forget_bias": 0.0,
    "epochs": 10,
    "batch_size": 128,
    "bptt": None,
    "optimizer": "adam",
    "momentum": 0.0,
    "nesterov": False,
    "weight_decay": 0.0,
    "lr": 0.002,
    "schedule": "cosine",
    "schedule_options": {"warmup": 0, "final": 0.0},
    "clip": 1.0,
    "clip_value": None,
    "validation": 0.0,
    "checkpoint_every": 60.0,
    "dtype": "float32",
    "device": "cpu",
    "threads": None,
    "seed": 0,
}
_IMAGES: dict[str, Any] = {**_COMMON, "data": {"data_dir": None, "view": "rows"}}
_TEXT: dict[str, Any] = {**_COMMON, "hidden": 256, "batch_size": 32, "bptt": 64, "clip": 5.0}

#: Data set -> all fields but `format`, `version` and `dataset`.
DEFAULTS: dict[str, dict[str, Any]] = {
    "mnist": _IMAGES,
    "digits": {**_IMAGES, "epochs": 5, "data": {"view": "rows", "count": None, "seed": 0}},
    "ptb": {**_COMMON, **PRESETS["small"], "preset": "small", "data": {"data_dir": None}},
    "text": {**_TEXT, "data": {"file": None, "level": "char"}},
    "grammar": {**_TEXT, "hidden": 128, "epochs": 5, "bptt": 35, "data": {"tokens": None, "seed": 0}},
}


def default_config(dataset: str, preset: str | None = None) -> dict[str, Any]:
    """All fields of a configuration with their defaults.

    Parameters
    ----------
    dataset : str
        One of `DATASETS`.
    preset : {"small", "medium", "large"}, optional
        Published settings, for ``ptb``.

    Raises
    ------
    ConfigError
        There is no such data set or preset.
    """
    if dataset not in DEFAULTS:
        raise ConfigError("dataset", f"expected one of {', '.join(DATASETS)}, got {dataset!r}")
    config: dict[str, Any] = {"format": FORMAT, "version": __version__, "dataset": dataset}
    config.update(DEFAULTS[dataset])
    if preset is not None:
        if preset not in PRESETS or dataset not in LANGUAGE_MODELS:
            expected = f"one of {', '.join(PRESETS)}" if dataset in LANGUAGE_MODELS else "none"
            raise ConfigError("preset", f"expected {expected} for {dataset}, got {preset!r}")
        config.update(PRESETS[preset], preset=preset)
    config["data"] = dict(config["data"])
    config["schedule_options"] = dict(config["schedule_options"])
    return config


def make_config(
    dataset: str,
    options: Mapping[str, Any] | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    preset: str | None = None,
) -> dict[str, Any]:
    """Settle and check a configuration: defaults, then the preset, then what the user gave.

    Parameters
    ----------
    dataset : str
        One of `DATASETS`.
    options : mapping, optional
        Fields that the user gave; ``None`` counts as not given. Options of the schedule may stand among them
        (``hold``, ``decay``, ``warmup``, ...). A `clip` or `clip_value` of 0 means no clipping.
    data : mapping, optional
        Options of the data set that the user gave.
    preset : str, optional
        See `default_config`.

    Returns
    -------
    dict
        Ready for `lstm_numba.training.run.Run.create`.

    Raises
    ------
    ConfigError
        A setting is unknown, out of range, or does not go with another.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    config = default_config(dataset, preset)
    schedule = given.pop("schedule", config["schedule"])
    if schedule not in SCHEDULES:
        raise ConfigError("schedule", f"expected one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if schedule != config["schedule"]:
        config["schedule_options"] = dict(SCHEDULES[schedule])
    config["schedule"] = schedule
    given.update(given.pop("schedule_options", {}))
    for name in [name for name in given if any(name in known for known in SCHEDULES.values())]:
        config["schedule_options"][name] = given.pop(name)
    for name, value in given.items():
        if name not in config or name in ("format", "version", "dataset", "data", "preset"):
            raise ConfigError(name, "there is no such setting")
        config[name] = value
    if given.get("optimizer") == "adamw" and "weight_decay" not in given:
        config["weight_decay"] = 0.01
    for name in ("clip", "clip_value"):
        config[name] = config[name] or None
    config["data"].update({name: value for name, value in (data or {}).items() if value is not None})
    check_config(config)
    return config


def is_number(value: Any) -> bool:
    """Whether a value out of JSON is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max  # no conversion: of 10**400 it fails


def _number(
    low: float, high: float = math.inf, *, above: bool = False, below: bool = False
) -> Callable[[Any], str]:
    """A check: an empty text for a number in the range, else what was expected."""

    def check(value: Any) -> str:
        good = (
            is_number(value)
            and low <= value <= high
            and not (above and value == low)
            and not (below and value == high)
        )
        text = f"a number {'above' if above else 'from'} {low:g}"
        return "" if good else text + (f" {'below' if below else 'to'} {high:g}" if high < math.inf else "")

    return check


def _count(low: int, high: int = 2**31 - 1) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if whole and low <= value <= high:
            return ""
        return f"a whole number from {low}" + (f" to {high}" if whole and value > high else "")

    return check


def _choice(*allowed: Any) -> Callable[[Any], str]:
    return lambda value: "" if value in allowed else f"one of {', '.join(str(a) for a in allowed)}"


def is_own_cell(name: Any) -> bool:
    """Whether a text names a cell of a user's own: ``module:Class``."""
    return isinstance(name, str) and _OWN_CELL.fullmatch(name) is not None


def refuse_cell(value: Any) -> str:
    """What is expected of a cell's name, if this is none of the library's, no variant's and not a user's."""
    if value in CELLS or is_own_cell(value):
        return ""
    if isinstance(value, str) and "," in value:
        try:
            read(value)
        except ValueError as error:
            return f"a cell: {error}"
        return ""
    return f"one of {', '.join(CELLS)}, one of them with variations, or module:Class"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "true or false"


def _text(value: Any) -> str:
    return "" if isinstance(value, str) and "\0" not in value else "a text"


def _optional(check: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "" if value is None else check(value)


_CHECKS: dict[str, Callable[[Any], str]] = {
    "format": _choice(FORMAT),
    "dataset": _choice(*DATASETS),
    "cell": refuse_cell,
    "hidden": _count(1),
    "layers": _count(1),
    "bidirectional": _flag,
    "embedding": _optional(_count(1)),
    "tie": _flag,
    "dropout": _number(0, 1, below=True),
    "init_range": _optional(_number(0, _LARGEST_WEIGHT, above=True)),
    "forget_bias": _number(-_LARGEST_WEIGHT, _LARGEST_WEIGHT),
    "epochs": _count(1),
    "batch_size": _count(1),
    "optimizer": _choice(*OPTIMIZERS),
    "momentum": _number(0, 1, below=True),
    "nesterov": _flag,
    "weight_decay": _number(0),
    "lr": _number(0, above=True),
    "schedule": _choice(*SCHEDULES),
    "clip": _optional(_number(0, above=True)),
    "clip_value": _optional(_number(0, above=True)),
    "validation": _number(0),
    "checkpoint_every": _number(0),
    "dtype": _choice(*DTYPES),
    "device": _choice(*DEVICES),
    "threads": _optional(_count(1)),
    "seed": _count(0, _LARGEST_SEED),
    "decay": _number(0, 1, above=True),
    "factor": _number(0, 1, above=True, below=True),
    "hold": _count(0),
    "warmup": _number(0),
    "final": _number(0, 1),
    "patience": _count(0),
    "threshold": _number(0, 1, below=True),
    "minimum": _number(0),
}


_DATA_CHECKS: dict[str, Callable[[Any], str]] = {
    "data_dir": _optional(_text),
    "file": _optional(_text),
    "view": _choice("rows", "pixels", "permuted"),
    "level": _choice("char", "word"),
    "count": _optional(_count(1)),
    "tokens": _optional(_count(1)),
    "seed": _count(0, _LARGEST_SEED),
}


def check_config(config: Mapping[str, Any]) -> None:
    """Check every field of a configuration and how they go together.

    Raises
    ------
    ConfigError
        Names the first field at fault.
    """
    for name in ("data", "schedule_options"):
        if not isinstance(config.get(name), Mapping):
            raise ConfigError(name, f"expected an object, got {shown(config.get(name))}")
    for name in ("format", "dataset"):
        if name not in config:
            raise ConfigError(name, "is missing")
    for name, check in _CHECKS.items():
        if name in config:
            _check_value(name, check, config[name])
        elif name in _COMMON:
            raise ConfigError(name, "is missing")
    for name, value in config["data"].items():
        if name in _DATA_CHECKS:
            _check_value(f"data.{name}", _DATA_CHECKS[name], value)
    for name, value in config["schedule_options"].items():
        if name not in SCHEDULES[config["schedule"]]:
            raise ConfigError(name, f"the {config['schedule']} schedule has no such option")
        _check_value(name, _CHECKS[name], value)
    _check_together(config)


def _check_value(name: str, check: Callable[[Any], str], value: Any) -> None:
    expected = check(value)
    if expected:
        raise ConfigError(name, f"expected {expected}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value for a message."""
    try:
        return printable(repr(value), 80)
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits; lists in lists in lists
        return f"something else ({type(value).__name__})"


def _check_together(config: Mapping[str, Any]) -> None:
    language = config["dataset"] in LANGUAGE_MODELS
    if language:
        _check_value("bptt", _count(1), config.get("bptt"))
        if config["bidirectional"]:
            raise ConfigError("bidirectional", "a language model must not read what it has to predict")
        if config["tie"] and config["embedding"] not in (None, config["hidden"]):
            raise ConfigError(
                "embedding",
                f"tied weights need the hidden size {config['hidden']}, got {config['embedding']}",
            )
        if config["validation"]:
            raise ConfigError("validation", f"{config['dataset']} has its own validation split")
    else:
        for name in ("bptt", "embedding", "tie"):
            if config.get(name):
                raise ConfigError(name, f"{config['dataset']} trains a classifier, which has none")
    own = is_own_cell(config["cell"])  # the model looks for its forget gate
    if config["forget_bias"] and config["cell"].split(",")[0] not in ("lstm", "peephole") and not own:
        raise ConfigError("forget_bias", f"the cell {config['cell']} has no forget gate")
    if config["momentum"] and config["optimizer"] not in ("sgd", "rmsprop"):
        raise ConfigError("momentum", f"{config['optimizer']} has none; sgd and rmsprop do")
    if config["nesterov"] and (config["optimizer"] != "sgd" or not config["momentum"]):
        raise ConfigError("nesterov", "needs sgd with momentum")
    if config["schedule"] == "cosine" and config["schedule_options"].get("warmup", 0) >= config["epochs"]:
        raise ConfigError("warmup", f"expected less than the {config['epochs']} epochs of the training")
