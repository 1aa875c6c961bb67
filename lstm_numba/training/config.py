"""The configuration of a run: the defaults for every data set, and the checks.

A configuration is a flat dict that JSON can hold, with every field written out, so that a run folder alone
says how the run was made. What fields there are says `lstm_numba.training.settings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from lstm_numba._version import __version__
from lstm_numba.cells import GROUPED, find_cell
from lstm_numba.errors import UserError, printable
from lstm_numba.training.presets import PRESETS
from lstm_numba.training.series_settings import test_share
from lstm_numba.training.settings import (
    DATA_OPTIONS,
    DATASETS,
    DEFAULT_PERIODS,
    LANGUAGE_MODELS,
    SCHEDULE_OPTIONS,
    SCHEDULES,
    SERIES,
    SETTINGS,
    Choice,
    Settings,
    data_defaults,
    is_own_cell,
    read_periods,
)

FORMAT = 1

_TEXT: dict[str, Any] = {"hidden": 256, "batch_size": 32, "bptt": 64, "clip": 5.0}
#: The test images are for the end: a tenth of the training images is held out and watched.
_IMAGES: dict[str, Any] = {"validation": 0.1}
#: Data set -> defaults that are not those of `Settings`.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "mnist": _IMAGES,
    "digits": {**_IMAGES, "epochs": 5},
    "images": {**_IMAGES, "epochs": 20, "batch_size": 32},
    "ptb": {**PRESETS["small"], "preset": "small"},
    "text": _TEXT,
    "series": {"hidden": 64, "batch_size": 16, "epochs": 50, "lr": 0.005, "validation": 0.1},
    "grammar": {**_TEXT, "hidden": 128, "epochs": 5, "bptt": 35},
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


def default_config(dataset: str, preset: str | None = None) -> dict[str, Any]:
    """All fields of a configuration with their defaults.

    Parameters
    ----------
    dataset : str
        One of `DATASETS`.
    preset : str, optional
        One of `lstm_numba.training.presets.PRESETS`, for language models.

    Raises
    ------
    ConfigError
        There is no such data set or preset.
    """
    if dataset not in DATASETS:
        raise ConfigError("dataset", f"expected one of {', '.join(DATASETS)}, got {dataset!r}")
    config: dict[str, Any] = {"format": FORMAT, "version": __version__, "dataset": dataset}
    config.update(asdict(Settings(data=data_defaults(dataset))) | _DEFAULTS[dataset])
    if preset is not None:
        if preset not in PRESETS or dataset not in LANGUAGE_MODELS:
            expected = f"one of {', '.join(PRESETS)}" if dataset in LANGUAGE_MODELS else "none"
            raise ConfigError("preset", f"expected {expected} for {dataset}, got {preset!r}")
        config.update(PRESETS[preset], preset=preset)
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
    for name in [name for name in given if name in SCHEDULE_OPTIONS]:
        config["schedule_options"][name] = given.pop(name)
    for name, value in given.items():
        if name not in config or name in ("format", "version", "dataset", "data", "preset"):
            raise ConfigError(name, "no such setting")
        config[name] = value
    if given.get("init", "uniform") != "uniform" and "init_range" not in given:
        config["init_range"] = None  # a preset's
    if given.get("optimizer") == "adamw" and "weight_decay" not in given:
        config["weight_decay"] = 0.01
    config.update({name: config[name] or None for name, one in SETTINGS.items() if one.zero_is_none})
    config["data"].update({name: value for name, value in (data or {}).items() if value is not None})
    check_config(config)
    return config


def with_later_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the defaults of settings that there were not yet when it was written."""
    missing = (name for name, one in SETTINGS.items() if one.later and name not in config)
    return {**config, **{name: getattr(Settings, name) for name in missing}}


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
    _expect("format", Choice((FORMAT,)), config["format"])
    _expect("dataset", Choice(DATASETS), config["dataset"])
    for name, setting in SETTINGS.items():
        if name not in config:
            raise ConfigError(name, "is missing")
        _expect(name, setting.refuse, config[name])
    for name, value in config["data"].items():
        if name in DATA_OPTIONS:
            _expect(f"data.{name}", DATA_OPTIONS[name].refuse, value)
    for name, value in config["schedule_options"].items():
        if name not in SCHEDULES[config["schedule"]]:
            raise ConfigError(name, f"the {config['schedule']} schedule has no such option")
        _expect(name, SCHEDULE_OPTIONS[name].check, value)
    _check_together(config)


def _expect(name: str, check: Callable[[Any], str], value: Any) -> None:
    expected = check(value)
    if expected:
        raise ConfigError(name, f"expected {expected}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value for a message."""
    try:
        return printable(repr(value), 80)
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits; lists in lists in lists
        return f"something else ({type(value).__name__})"


def _check_recurrent(config: Mapping[str, Any]) -> None:
    """Options of the recurrent layers beside one another."""
    cell, hidden = config["cell"], config["hidden"]
    if cell in GROUPED:
        for name in ("weight_drop", "zoneout", "zoneout_cell", "recurrent_dropout", "proj_size"):
            if config[name]:
                raise ConfigError(name, f"the cell {cell} has none")
        groups = len(read_periods(config["periods"] or DEFAULT_PERIODS))
        if hidden % groups:
            raise ConfigError("hidden", f"expected a multiple of the {groups} periods, got {hidden}")
    elif config["periods"] is not None:
        raise ConfigError("periods", f"are for the cell {', '.join(GROUPED)}, got {cell}")
    if config["proj_size"] and (cell != "lstm" or config["proj_size"] >= hidden):
        raise ConfigError("proj_size", f"is for the cell lstm, and less than its hidden units, {hidden}")
    if config["heads"] > 1 and (cell in GROUPED or config["proj_size"] or hidden % config["heads"]):
        raise ConfigError(
            "heads", f"expected a divisor of the {hidden} hidden units, without groups or projection"
        )
    masked = config["recurrent_dropout"] and config["recurrent_dropout_kind"] == "candidate"
    if masked and not is_own_cell(cell) and not find_cell(cell).definition.candidate:
        raise ConfigError("recurrent_dropout_kind", f"the cell {cell} has no candidate")


def _check_series(config: Mapping[str, Any]) -> None:
    """Options of a user's own series beside one another."""
    data = config["data"]
    missing = next((name for name in data_defaults("series") if name not in data), None)
    if missing is not None:
        raise ConfigError(f"data.{missing}", "is missing")
    if (data["files"] is None) == (data["example"] is None):
        raise ConfigError("example", "expected either files or an example")
    if config["validation"] + test_share(data) >= 1:
        raise ConfigError(
            "validation",
            "expected a share that leaves something to train on beside the test part's "
            f"{test_share(data):g}, got {config['validation']:g}",
        )


def _check_together(config: Mapping[str, Any]) -> None:
    language = config["dataset"] in LANGUAGE_MODELS
    if language:
        _expect("bptt", SETTINGS["bptt"].check, config["bptt"])
        if config["bidirectional"]:
            raise ConfigError("bidirectional", "a language model must not read what it has to predict")
        width, units = config["embedding"] or config["hidden"], config["proj_size"] or config["hidden"]
        if config["tie"] and width != units:
            raise ConfigError("embedding", f"tied weights need the size of the output, {units}, got {width}")
        if config["validation"]:
            raise ConfigError("validation", f"{config['dataset']} has its own validation split")
    else:
        for name in ("bptt", "embedding", "tie", "embedding_dropout", "input_dropout"):
            if config.get(name):
                raise ConfigError(name, f"is for language models, {config['dataset']} trains none")
    if config["dataset"] in SERIES:
        _check_series(config)
    _check_recurrent(config)
    own = is_own_cell(config["cell"])  # the model looks for its forget gate
    if config["forget_bias"] and not own and "f" not in find_cell(config["cell"].split(",")[0]).gates:
        raise ConfigError("forget_bias", f"the cell {config['cell']} has no forget gate")
    if config["init"] == "identity" and (own or find_cell(config["cell"]).key != "rnn-relu"):
        raise ConfigError("init", f"identity is for the cell rnn-relu, got {config['cell']}")
    if config["init"] != "uniform" and config["init_range"] is not None:
        raise ConfigError("init_range", f"draws all weights, which does not go with init {config['init']}")
    if config["optimizer"] == "nt-asgd" and not language and not config["validation"]:
        raise ConfigError("optimizer", "nt-asgd needs a validation split, got --validation 0")
    if config["momentum"] and config["optimizer"] not in ("sgd", "rmsprop"):
        raise ConfigError("momentum", f"{config['optimizer']} has none; sgd and rmsprop do")
    if config["nesterov"] and (config["optimizer"] != "sgd" or not config["momentum"]):
        raise ConfigError("nesterov", "needs sgd with momentum")
    if config["schedule"] == "cosine" and config["schedule_options"].get("warmup", 0) >= config["epochs"]:
        raise ConfigError("warmup", f"expected less than the {config['epochs']} epochs of the training")
