"""Starts or resumes a training for ``lstm-numba train`` and prints its result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from lstm_numba.cells import find_cell
from lstm_numba.cli.console import Terminal, print_json, result_line, result_object, short_path
from lstm_numba.cli.custom_cells import equations_of, load_own_cells, use_run_cell
from lstm_numba.cli.resources import check_memory, choose_device, set_threads
from lstm_numba.errors import UserError
from lstm_numba.training.config import ConfigError, check_config, make_config
from lstm_numba.training.run import Run
from lstm_numba.training.settings import DATA_OPTIONS
from lstm_numba.wording import plural

if TYPE_CHECKING:
    from lstm_numba.training.trainer import Outcome

#: Options of the data set; --seed is the run's.
_DATA = DATA_OPTIONS.keys() - {"seed"}
#: What may stand beside --resume.
_WITH_RESUME = {"resume", "epochs", "threads", "device", "data_dir", "as_json", "file", "cell"}
#: Options that are no fields of the config.
_NO_FIELDS = {"resume", "out", "as_json", "device", "threads", "preset", *_DATA}


def train_command(dataset: str, values: dict[str, Any]) -> None:
    """Train on `dataset` as the command line says.

    Parameters
    ----------
    dataset : str
        Name of the data set.
    values : dict
        All options of the command by name.
    """
    context = click.get_current_context()
    given = {
        name: value
        for name, value in values.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT and value is not None
    }
    terminal = Terminal()
    run = _reopen(dataset, given) if "resume" in given else None
    if run is not None:
        config = run.config
        device = choose_device(given.get("device", config["device"]))
        threads = _threads_of(config, given)
    else:
        if "out" in given:
            _check_folder(given["out"])
        config = _configure(dataset, values, given)
        device, threads = config["device"], config["threads"]
    check_memory(config)
    from lstm_numba.training.tasks import build_task
    from lstm_numba.training.trainer import Interrupted, Trainer

    task = build_task(config, data_dir=given.get("data_dir"), device=device)
    if run is None:  # only now: unreadable data must not leave an empty run
        out = given.get("out")
        run = Run.create_next(Path("runs", dataset), config) if out is None else Run.create(out, config)
    name = short_path(run.folder)
    terminal.say(f"{_describe(config, device, threads)}; run folder {name}")
    try:
        outcome = Trainer(task, run, reporter=terminal).train()
    except Interrupted as stop:
        terminal.say(f"{stop}; go on with: lstm-numba train {dataset} --resume {name}")
        context.exit(stop.exit_status)
    finally:
        terminal.clear()
    if outcome.already_complete:
        terminal.say("the run is complete; --epochs N with a larger N goes on")
    _print_result(outcome, task.floor, config, name, values["as_json"])


def _describe(config: dict[str, Any], device: str, threads: int) -> str:
    cell = ("bidirectional " if config["bidirectional"] else "") + config["cell"]
    size = f"{config['layers']} x {config['hidden']} units"
    where = plural(threads, "thread") if device == "cpu" else device
    return f"{config['dataset']}: {cell}, {size}, {config['dtype']}, {where}"


# -- a new run ---------------------------------------------------------------------------------------


def _check_folder(out: str) -> None:
    """Refuse a folder that is not empty, before anything is loaded."""
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {out}: is a file, expected a folder that does not exist yet")
    if (folder / "config.json").exists():
        raise UserError(
            f"--out {out}: holds a run already; go on with it by --resume, or name another folder"
        )
    # A process killed at its start may have left a ".tmp".
    if folder.exists() and any(path.suffix != ".tmp" for path in folder.iterdir()):
        raise UserError(f"--out {out}: the folder is not empty")


def _configure(dataset: str, values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Make the run's configuration from the options and the data set's defaults."""
    if dataset == "text" and values["file"] is None:
        raise click.UsageError("Missing argument 'FILE': the text to train on")
    fields = {name: value for name, value in given.items() if name not in _NO_FIELDS}
    fields["device"] = choose_device(values["device"])
    fields["threads"] = set_threads(values["threads"])
    data = {name: given[name] for name in _DATA if name in given}
    for name in ("data_dir", "file"):
        if name in data:  # the run must be usable from any folder
            data[name] = os.path.abspath(data[name])
    try:
        config = make_config(dataset, fields, data=data, preset=given.get("preset"))
    except ConfigError as error:
        _refuse(error.option, str(error).removeprefix(f"{error.option}: "))
    load_own_cells(config["cell"])

    equations = equations_of(config["cell"])
    if equations is not None and config["forget_bias"] and "f" not in find_cell(config["cell"]).gates:
        _refuse("forget_bias", f"the cell {config['cell']} has no gate f")
    return config if equations is None else {**config, "equations": equations}


def _refuse(option: str, why: str) -> NoReturn:
    flag = {"as_json": "--json", "count": "--images"}.get(option, f"--{option.replace('_', '-')}")
    raise click.UsageError(f"{flag}: {why}")


# -- a run that goes on ------------------------------------------------------------------------------


def _reopen(dataset: str, given: dict[str, Any]) -> Run:
    """Open the run of ``--resume`` and check that no other option contradicts it."""
    for name in given:
        if name not in _WITH_RESUME:
            _refuse(name, "cannot stand beside --resume: a run goes on with its own settings")
    folder = Path(given["resume"])
    run = Run.open(folder)
    if run.config["dataset"] != dataset:
        trained = run.config["dataset"]
        raise click.UsageError(
            f"{folder} is a run of {trained}: lstm-numba train {trained} --resume {folder}"
        )
    use_run_cell(run.config, given.get("cell"), folder)
    if "file" in given and Path(given["file"]).resolve() != Path(run.config["data"]["file"]).resolve():
        raise click.UsageError(
            f"{folder} was trained on {run.config['data']['file']}, not on {given['file']}"
        )
    if "epochs" in given:
        _extend(run, given["epochs"])
    return run


def _extend(run: Run, epochs: int) -> None:
    """Give a run more epochs; a schedule that depends on their number, as cosine, is stretched."""
    if epochs < run.config["epochs"]:
        _refuse("epochs", f"{epochs} are fewer than the run's {run.config['epochs']}; a run can only grow")
    run.config["epochs"] = epochs
    check_config(run.config)


def _threads_of(config: dict[str, Any], given: dict[str, Any]) -> int:
    """Use the run's own number of threads, on which the last bits depend, or the one given."""
    wanted = given.get("threads", config["threads"])
    try:
        return set_threads(wanted)
    except click.BadParameter as error:
        if "threads" in given:
            raise
        raise UserError(f"the run used {wanted} threads, {error.message}; give --threads") from None


# -- the result --------------------------------------------------------------------------------------


def _print_result(
    outcome: Outcome, floor: float | None, config: dict[str, Any], folder: str, as_json: bool
) -> None:
    test = outcome.evaluations["test"]
    if not as_json:
        click.echo(f"{result_line(test, floor)}  ({plural(outcome.epochs, 'epoch')}, {folder})")
        if outcome.diverged:
            click.echo(_divergence(outcome, folder))
        return
    result = {
        "run": folder,
        "dataset": config["dataset"],
        "epochs": outcome.epochs,
        "step": outcome.step,
        **result_object(test, floor),
        "evaluations": {split: evaluation.as_dict() for split, evaluation in outcome.evaluations.items()},
        "checkpoint": short_path(outcome.checkpoint),
        "diverged": outcome.diverged,
        "best": outcome.best and outcome.best._asdict(),
    }
    print_json(result)


def _divergence(outcome: Outcome, folder: str) -> str:
    """Message for a training that ended worse than it began."""
    train, start, best = outcome.train, outcome.start, outcome.best
    text = f"training diverged: the loss of its last epoch is {train.loss:.4g}, {start:.4g} at its start"
    if best is None or start is None or best.loss > start:
        return f"{text}; no epoch was better than that"
    return (
        f"{text}; the best was epoch {best.epoch}, {best.split} loss {best.loss:.4g}: "
        f"lstm-numba evaluate {folder} --checkpoint best"
    )
