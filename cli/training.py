"""Starts or resumes a training for ``lstm-numba train`` and prints its result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click
from click.core import ParameterSource

from lstm_numba.cells import find_cell
from lstm_numba.cli.console import Terminal, print_json, short_path
from lstm_numba.cli.custom_cells import equations_of, load_own_cells, use_run_cell
from lstm_numba.cli.next_step import command, next_line, resume_line
from lstm_numba.cli.plot import require_matplotlib
from lstm_numba.cli.ranks import end_all, set_rank_threads, threads_of_run, threads_to_keep, together
from lstm_numba.cli.resources import check_memory, choose_device
from lstm_numba.cli.results import Done, print_result, result_values
from lstm_numba.cli.run_sets import begin_set, refuse_combinations, resume_set
from lstm_numba.errors import UserError
from lstm_numba.training.config import ConfigError, check_config, make_config
from lstm_numba.training.logs import check_logs
from lstm_numba.training.run import Run
from lstm_numba.training.run_sets import folder_names, is_set
from lstm_numba.training.settings import DATA_OPTIONS, read_forms
from lstm_numba.wording import plural

if TYPE_CHECKING:
    from lstm_numba.ranks.base import Ranks

#: Options of the data set; --seed is the run's.
_DATA = DATA_OPTIONS.keys() - {"seed"}
#: What may stand beside --resume.
_WITH_RESUME = {
    *("resume", "epochs", "early_stopping", "log", "threads", "device", "data_dir", "as_json", "cell"),
    *("file", "files"),
}
#: Options that make a set of runs; and those that are no fields of the config.
_OF_SETS = {"seeds", "per_group"}
_NO_FIELDS = {"resume", "out", "as_json", "device", "threads", "preset", *_OF_SETS, *_DATA}


class _Plan(NamedTuple):
    """A run to begin, or to go on with.

    Attributes
    ----------
    config : dict
    device : str
    threads : int
        Of each rank.
    ranks : Ranks
    run : Run, optional
        The one to go on with.
    out : Path, optional
        Folder of a new one; otherwise the first free number.
    """

    config: dict[str, Any]
    device: str
    threads: int
    ranks: Ranks
    run: Run | None = None
    out: Path | None = None

    def folder(self) -> Run:
        """The run, whose folder is made if it is a new one."""
        if self.run is not None:
            return self.run
        if self.out is not None:
            return Run.create(self.out, self.config)
        return Run.create_next(Path("runs", self.config["dataset"]), self.config)


def train_command(dataset: str, values: dict[str, Any]) -> None:
    """Train on `dataset` as the command line says, a run for each cell.

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
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT and value not in (None, ())
    }
    with together() as ranks:
        terminal = Terminal(silent=not ranks.first)
        resumed = "resume" in given and is_set(given["resume"])
        if ranks.size > 1 and (resumed or given.keys() & _OF_SETS):
            raise UserError(f"a set of runs: expected one process, got {ranks.size} of mpiexec")
        if resumed:
            _refuse_beside_resume(given)
            cells = given.pop("cell", ())
            resume_set(dataset, given, cells, _reopen, terminal)
            return
        plans = _plans(dataset, values, given, ranks)
        for plan in plans:
            check_memory(plan.config, plan.config["bptt"] or 1)  # before a model is made
        check_logs(read_forms(plans[0].config["log"]))
        if given.keys() & _OF_SETS:
            begin_set([plan.config for plan in plans], plans[0].threads, given, terminal)
            return
        ranks.once(lambda: None)  # nobody makes a folder before all have looked whether it is there
        _train_all(plans, given, values["as_json"], terminal)


def _train_all(plans: list[_Plan], given: dict[str, Any], as_json: bool, terminal: Terminal) -> None:
    """Carry out the plans; the first rank prints the results."""
    several = len(plans) > 1
    done: list[Done] = []
    for number, plan in enumerate(plans, 1):
        left = [other.config["cell"] for other in plans[number:]]
        done.append(_train(plan, given.get("data_dir"), left, terminal))
        if plan.ranks.first and not as_json:
            print_result(done[-1], f"{plan.config['cell']}: " if several else "")
    if not plans[0].ranks.first:
        return
    files = _compare([one.folder for one in done], given.get("out"), terminal) if several else []
    if as_json:
        found = [result_values(one) for one in done]
        print_json({"runs": found, "comparison": files} if several else found[0])
    hint = next_line(done)
    if hint is not None:
        terminal.say(hint)


def _plans(dataset: str, values: dict[str, Any], given: dict[str, Any], ranks: Ranks) -> list[_Plan]:
    """What to train; everything that can be refused before it begins is refused here."""
    cells = given.pop("cell", ())
    twice = next((cell for cell in cells if cells.count(cell) > 1), None)
    if twice is not None:
        _refuse("cell", f"{twice} is given twice")
    refuse_combinations(given, len(cells))
    if "resume" in given:
        if len(cells) > 1:
            _refuse("cell", f"expected at most one with --resume, which resumes one run, got {len(cells)}")
        run = _reopen(dataset, {**given, "cell": cells[0]} if cells else given)
        device = choose_device(given.get("device", run.config["device"]))
        return [_Plan(run.config, device, _threads_of(run.config, given, ranks), ranks, run)]
    if "out" in given:
        _check_folder(given["out"])
    if dataset == "series" and not given.keys() & {"files", "example"}:
        raise click.UsageError("Missing argument 'FILE': a table to train on; or --example")
    if "file" in values and values["file"] is None:
        what = "'PATH': the folder of images" if dataset == "images" else "'FILE': the text"
        raise click.UsageError(f"Missing argument {what} to train on")
    fields = {name: value for name, value in given.items() if name not in _NO_FIELDS}
    fields["device"] = choose_device(values["device"])
    threads = set_rank_threads(ranks, values["threads"])
    fields["threads"] = threads_to_keep(ranks, threads)
    out = Path(given["out"]) if "out" in given else None
    if len(cells) < 2:
        config = _configure(dataset, {**fields, "cell": cells[0]} if cells else fields, given)
        return [_Plan(config, fields["device"], threads, ranks, out=out)]
    return [
        _Plan(
            _configure(dataset, {**fields, "cell": cell}, given),
            fields["device"],
            threads,
            ranks,
            out=None if out is None else out / folder,
        )
        for cell, folder in folder_names(cells).items()
    ]


def _train(plan: _Plan, data_dir: str | None, left: list[str], terminal: Terminal) -> Done:
    """Train; `left` are the cells that come after, for the message of an interruption."""
    from lstm_numba.training.tasks import build_task
    from lstm_numba.training.trainer import Interrupted, Trainer

    config = plan.config
    task = build_task(config, data_dir=data_dir, device=plan.device, ranks=plan.ranks)
    check_memory(config, task.sequence_steps)
    run = plan.ranks.once(plan.folder)  # only now: unreadable data must not leave an empty run
    name = short_path(run.folder)
    terminal.say(f"{_describe(plan)}; run folder {name}")
    for note in task.notes:
        terminal.say(note)
    try:
        outcome = Trainer(task, run, reporter=terminal).train()
    except Interrupted as stop:
        if stop.alone:
            end_all(plan.ranks, stop)
        untried = f"; not started: {', '.join(left)}" if left else ""
        terminal.say(f"{stop}{untried}")
        terminal.say(resume_line(config["dataset"], name, [config["cell"]]))
        click.get_current_context().exit(stop.exit_status)
    finally:
        terminal.clear()
    if outcome.already_complete and outcome.stopped_early:
        assert outcome.best is not None
        waited = outcome.epochs - outcome.best.epoch
        terminal.say(f"the run has stopped early; --early-stopping N with N above {waited}, or 0, resumes it")
    elif outcome.already_complete:
        terminal.say("the run is complete; --epochs N with a larger N resumes it")
    baselines, remarks = task.baselines() if plan.ranks.first else ({}, [])
    for remark in remarks:
        terminal.say(remark)
    return Done(outcome, task.floor, config, name, baselines)


def _describe(plan: _Plan) -> str:
    config = plan.config
    cell = ("bidirectional " if config["bidirectional"] else "") + config["cell"]
    size = f"{config['layers']} x {config['hidden']} units"
    where = plural(plan.threads, "thread") if plan.device == "cpu" else plan.device
    if plan.ranks.size > 1:
        where = f"{plan.ranks.size} ranks, {where}{' each' if plan.device == 'cpu' else ''}"
    return f"{config['dataset']}: {cell}, {size}, {config['dtype']}, {where}"


# -- a new run ---------------------------------------------------------------------------------------


def _check_folder(out: str) -> None:
    """Refuse a folder that is not empty, before anything is loaded."""
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {out}: is a file, expected a new folder")
    if (folder / "config.json").exists():
        raise UserError(
            f"--out {out}: already holds a run; resume it with --resume, or choose another folder"
        )
    if is_set(folder):
        raise UserError(
            f"--out {out}: already holds a set of runs; resume it with --resume, or choose another folder"
        )
    # A process killed at its start may have left a ".tmp".
    if folder.exists() and any(path.suffix != ".tmp" for path in folder.iterdir()):
        raise UserError(f"--out {out}: the folder is not empty")


def _configure(dataset: str, fields: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Make a run's configuration from the options and the data set's defaults."""
    data = {name: given[name] for name in _DATA if name in given}
    for name in ("data_dir", "file"):
        if name in data:  # the run must be usable from any folder
            data[name] = os.path.abspath(data[name])
    if "files" in data:
        data["files"] = [os.path.abspath(path) for path in data["files"]]
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
    option = option.removeprefix("data.")
    flag = {"as_json": "--json", "count": "--images"}.get(option, f"--{option.replace('_', '-')}")
    raise click.UsageError(f"{flag}: {why}")


# -- a run that goes on ------------------------------------------------------------------------------


def _refuse_beside_resume(given: Mapping[str, Any]) -> None:
    """Refuse settings, which a run that goes on has."""
    for name in given:
        if name not in _WITH_RESUME:
            _refuse(name, "cannot be combined with --resume: a run is resumed with its own settings")


def _reopen(dataset: str, given: dict[str, Any]) -> Run:
    """Open the run of ``--resume`` and check that no other option contradicts it."""
    _refuse_beside_resume(given)
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
    if "files" in given:
        _move_files(run, given["files"])
    if "early_stopping" in given:
        run.config["early_stopping"] = given["early_stopping"] or None
    if "log" in given:
        run.config["log"] = given["log"]
    if "epochs" in given:
        _set_epochs(run, given["epochs"])
    return run


def _move_files(run: Run, files: Sequence[str]) -> None:
    """Read a run's tables from where they are now; a checksum tells whether they are those."""
    before = run.config["data"]["files"]
    if before is None or len(before) != len(files):
        trained = run.config["data"]["example"] if before is None else plural(len(before), "file")
        raise click.UsageError(f"{run.folder} was trained on {trained}, not on {plural(len(files), 'file')}")
    run.config["data"]["files"] = [os.path.abspath(path) for path in files]


def _set_epochs(run: Run, epochs: int) -> None:
    """Give a run another number of epochs; a schedule that depends on it, as cosine, is stretched."""
    if epochs < run.config["epochs"]:
        done = max((line["epoch"] for line in run.metrics() if line["kind"] == "epoch"), default=0)
        if epochs <= done:
            _refuse("epochs", f"expected more than the run has done, {plural(done, 'epoch')}, got {epochs}")
    run.config["epochs"] = epochs
    check_config(run.config)


def _threads_of(config: dict[str, Any], given: dict[str, Any], ranks: Ranks) -> int:
    """Use the run's own number of threads, on which the last bits depend, or the one given."""
    wanted = given.get("threads", threads_of_run(ranks, config["threads"]))
    try:
        return set_rank_threads(ranks, wanted)
    except click.BadParameter as error:
        if "threads" in given:
            raise
        raise UserError(f"the run used {wanted} threads, {error.message}; give --threads") from None


# -- the result --------------------------------------------------------------------------------------


def _compare(folders: list[str], out: str | None, terminal: Terminal) -> list[str]:
    """Draw the runs in one figure and return its files; without matplotlib, say how it is done."""
    try:
        require_matplotlib("a comparison")
    except UserError as error:
        terminal.say(f"{error}; then: {command('plot', paths=folders)}")
        return []
    from lstm_numba.cli.comparison import write_comparison

    files = write_comparison(folders, Path(folders[0], "plots") if out is None else Path(out))
    terminal.say(f"comparison: {', '.join(files)}")
    return files
