"""Results of trainings out of their run folders, finished or not: one small document for each row of a table.

A row has ``format``, ``name``, ``command``, ``dataset``, ``preset``, ``cell``, ``options`` (of the command
beside data set, preset, cell and seeds), ``measure`` ("accuracy" or "perplexity"), ``epochs`` (planned),
``planned_runs``, ``parameters`` (None before the first checkpoint), ``threads``, ``runs``, ``machine`` and
``started_with`` (the program's version). A run has ``seed``, ``epochs`` (done), ``stopped_early``, ``test``
(None if unfinished), ``valid`` (after each epoch; empty without a validation split) and ``seconds`` of all
its epochs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lstm_numba.errors import DataError
from lstm_numba.training.config import default_config, with_later_settings
from lstm_numba.training.run_sets import FILE as SET_FILE
from lstm_numba.training.run_sets import RunSet
from lstm_numba.training.setting import CLASSIFIERS, LANGUAGE_MODELS
from lstm_numba.training.settings import DATA_OPTIONS, SCHEDULES, SETTINGS

FORMAT = "lstm-numba accuracy 1"
#: Settings that say where and how a run runs, not what is trained.
_OF_THE_RUN = (
    "format", "version", "seed", "threads", "device", "checkpoint_every", "log", "equations",
)  # fmt: skip
#: Settings that a command shows by themselves, and those of the data's place.
_NAMED, _PLACES = ("dataset", "preset", "cell", "data", "schedule_options", "schedule"), ("data_dir",)


def options_of(config: Mapping[str, Any]) -> list[str]:
    """The options that make a configuration out of the defaults of its data set and preset.

    Parameters
    ----------
    config : mapping
        As in ``config.json``.

    Returns
    -------
    list of str
        Without data set, preset, cell, seed and what is said of the machine.

    Raises
    ------
    lstm_numba.errors.DataError
        A setting is None where the default is not, and no option says so.
    """
    config = with_later_settings(config)
    usual = default_config(config["dataset"], config["preset"])
    words = []
    for name, default in usual.items():
        if name not in (*_OF_THE_RUN, *_NAMED) and config[name] != default:
            words += _option(name, config[name])
    for name, default in usual["data"].items():
        if name not in _PLACES and config["data"].get(name, default) != default:
            words += _option(name, config["data"][name])
    return words + _schedule(config, usual)


def _schedule(config: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """The options of the learning rate's schedule."""
    name = config["schedule"]
    words = [] if name == usual["schedule"] else ["--schedule", name]
    options = usual["schedule_options"] if name == usual["schedule"] else SCHEDULES[name]
    for option, value in config["schedule_options"].items():
        if value != options[option]:
            words += _option(option, value)
    return words


def _option(name: str, value: Any) -> list[str]:
    known = SETTINGS.get(name) or DATA_OPTIONS.get(name)
    flag = ((known and known.option) or name.replace("_", "-")).split("/")[0].removeprefix("--")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if value is None:
        if name in SETTINGS and SETTINGS[name].zero_is_none:
            return [f"--{flag}", "0"]
        raise DataError(f"{name}: expected a value that an option can give, got null")
    return [f"--{flag}", f"{value:g}" if isinstance(value, float) else str(value)]


def _command(config: Mapping[str, Any], options: Sequence[str], seeds: Sequence[int], is_set: bool) -> str:
    """The command that trains one row."""
    words = ["lstm-numba train", config["dataset"]]
    if config["preset"] is not None:
        words += ["--preset", config["preset"]]
    words += options
    if config["cell"] != default_config(config["dataset"], config["preset"])["cell"]:
        words += ["--cell", config["cell"]]
    if is_set:
        words += ["--seeds", str(len(seeds))]
    elif seeds != [0]:
        words += ["--seed", str(seeds[0])]
    return " ".join(words)


# -- one run -------------------------------------------------------------------------------------------


def _metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of metrics; a last one that is being written is left out."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break
        try:
            found.append(json.loads(line))
        except ValueError:
            raise DataError(f"{path}: line {number}: invalid JSON") from None
    return found


def read_run(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run has reached; see the module for its keys."""
    measure, path = measure_of(config), folder / "metrics.jsonl"
    lines = _metrics(path) if path.is_file() else []
    epochs = [line for line in lines if line["kind"] == "epoch" and line["split"] == "train"]
    valid = [line[measure] for line in lines if line["kind"] == "epoch" and line["split"] == "valid"]
    test = [line[measure] for line in lines if line["kind"] == "final" and line["split"] == "test"]
    done = max((line["epoch"] for line in epochs), default=0)
    return {
        "seed": config["seed"],
        "epochs": done,
        "stopped_early": bool(test) and done < config["epochs"],
        "test": _finite(test[-1]) if test else None,
        "valid": [_finite(value) for value in valid],
        "seconds": round(math.fsum(line["seconds"] for line in epochs), 1),
    }


def _finite(value: Any) -> float | None:
    """A number; None for what JSON has no number for."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def measure_of(config: Mapping[str, Any]) -> str:
    """What is told of a data set's results."""
    if config["dataset"] in LANGUAGE_MODELS:
        return "perplexity"
    if config["dataset"] in CLASSIFIERS:
        return "accuracy"
    raise DataError(f"dataset: expected one of {', '.join((*CLASSIFIERS, *LANGUAGE_MODELS))}, "
                    f"got {config['dataset']}")  # fmt: skip


def parameters_of(folder: Path) -> int | None:
    """How many parameters a run's checkpoint has; None before there is one."""
    from safetensors import safe_open

    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return None
    with safe_open(path, "numpy") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys() if name.startswith("model.")]  # noqa: SIM118
    return sum(math.prod(shape) for shape in shapes)


# -- rows ----------------------------------------------------------------------------------------------


def _read_config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{path}: invalid JSON") from None
    if not isinstance(found, dict) or "dataset" not in found or "seed" not in found:
        raise DataError(f"{path}: expected the configuration of a run")
    return found


def _planned(folder: Path) -> dict[str, int]:
    """Runs that a set has of each cell."""
    if not (folder / SET_FILE).is_file():
        return {}
    found: dict[str, int] = {}
    for member in RunSet.open(folder).members:
        found[member.cell] = found.get(member.cell, 0) + 1
    return found


def _alike(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the runs of one row have in common."""
    data = {name: value for name, value in config["data"].items() if name not in _PLACES}
    rest = {name: value for name, value in config.items() if name not in _OF_THE_RUN}
    return {**rest, "data": data, "threads": config["threads"]}


def rows(folder: Path, machine: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a folder: of a run, of a set of seeds, or of a run for each of several cells.

    Parameters
    ----------
    folder : Path
        As `--out` named it.
    machine : mapping
        What the runs ran on; kept as it is.

    Raises
    ------
    lstm_numba.errors.DataError
        There is no run, a file is damaged, or runs of one cell differ in more than their seeds.
    """
    paths = sorted(
        [*folder.glob("config.json"), *folder.glob("*/config.json"), *folder.glob("*/*/config.json")]
    )
    if not paths:
        raise DataError(f"{folder}: expected a run folder or a folder of runs, found none")
    by_cell: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for path in paths:
        config = _read_config(path)
        by_cell.setdefault(config["cell"], []).append((path.parent, config))
    planned, alone = _planned(folder), paths[0].parent == folder
    return [
        _row(folder.name if alone else f"{folder.name}-{cell}", found, planned.get(cell), machine)
        for cell, found in by_cell.items()
    ]


def _row(
    name: str, found: list[tuple[Path, dict[str, Any]]], planned: int | None, machine: Mapping[str, Any]
) -> dict[str, Any]:
    found.sort(key=lambda one: one[1]["seed"])
    config = found[0][1]
    for folder, other in found:
        if _alike(other) != _alike(config):
            raise DataError(f"{folder}: expected the settings of {found[0][0].name} but for the seed")
    options = options_of(config)
    seeds = [other["seed"] for _, other in found]
    if planned is not None:
        seeds = list(range(planned))
    counts = [parameters_of(folder) for folder, _ in found]
    return {
        "format": FORMAT,
        "name": name,
        "command": _command(config, options, seeds, planned is not None),
        "dataset": config["dataset"],
        "preset": config["preset"],
        "cell": config["cell"],
        "options": options,
        "measure": measure_of(config),
        "epochs": config["epochs"],
        "planned_runs": planned or len(found),
        "parameters": next((count for count in counts if count is not None), None),
        "threads": config["threads"],
        "runs": [read_run(folder, other) for folder, other in found],
        "machine": dict(machine),
        "started_with": config["version"],
    }
