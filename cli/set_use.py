"""What `evaluate`, `plot` and `predict` do with a set of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstm_numba.cli.console import Skipped, Terminal, print_json, result_object, short_path, warn
from lstm_numba.cli.custom_cells import use_run_cell
from lstm_numba.cli.resources import choose_device, set_threads
from lstm_numba.cli.series import write_predictions
from lstm_numba.cli.set_results import Row, identity, summary, table
from lstm_numba.cli.set_training import title
from lstm_numba.data.file_io import one_line
from lstm_numba.errors import CheckpointError, DataError, UserError
from lstm_numba.training.run import Run
from lstm_numba.training.run_sets import GROUPS, Member, RunSet, not_one_run
from lstm_numba.training.settings import SERIES

if TYPE_CHECKING:
    from lstm_numba.data.series import Sequence as Piece
    from lstm_numba.training.series import SeriesTask

Options = Mapping[str, Any]


def evaluate_set(folder: str, split: str, options: Options) -> None:
    """Evaluate all members that are complete, and print them as the training did.

    Parameters
    ----------
    folder : str
    split : str
    options : mapping
        The command's: checkpoint, cell, data_dir, device, threads, as_json.
    """
    found = RunSet.open(folder)
    device = choose_device(options["device"])
    set_threads(options["threads"])
    terminal = Terminal()
    rows, values = [], []
    for number, member in enumerate(found.members):
        terminal.on_part(number, len(found.members), title(found, member))
        row = _evaluated(found, member, split, {**options, "device": device})
        rows.append(row)
        values.append({**identity(found, member), "cell": member.cell, **_row_values(row)})
    terminal.clear()
    if options["as_json"]:
        print_json(
            {"set": short_path(found.folder), "kind": found.kind, "runs": values, **summary(found, rows)}
        )
    else:
        click.echo(table(found, rows, split))


def _row_values(row: Row) -> dict[str, Any]:
    if row.values is None:
        return {"error": row.note}
    return {"epochs": row.epochs, **row.values, **({"baselines": row.baselines} if row.baselines else {})}


def _evaluated(found: RunSet, member: Member, split: str, options: Options) -> Row:
    """A member's row, without numbers if its training did not end."""
    from lstm_numba.training.tasks import open_task

    try:
        run = Run.open(found.path(member))
    except CheckpointError:
        return Row(member.name, member.cell, None, None, "not begun")
    if not run.checkpoint_path.exists():
        return Row(member.name, member.cell, None, None, "no checkpoint")
    lines = run.metrics()
    epochs = max((line["epoch"] for line in lines if line["kind"] == "epoch"), default=None)
    if not any(line["kind"] == "final" for line in lines):
        return Row(member.name, member.cell, None, epochs, "not complete")
    use_run_cell(run.config, options["cell"], run.folder)
    task = open_task(run, options["data_dir"], device=options["device"], which=options["checkpoint"])
    result = task.evaluate(split)
    if not math.isfinite(result.loss):
        return Row(member.name, member.cell, None, epochs, f"the loss is {result.loss:g}")
    baselines = task.baselines()[0] if split == "test" else {}
    return Row(member.name, member.cell, result_object(result), epochs, "", baselines)


def plot_set(folder: str, out: str | None) -> list[str]:
    """Draw the learning curves of all members in one figure, and return its files.

    Raises
    ------
    UserError
        No member has finished an epoch.
    """
    from lstm_numba.cli.set_plots import write_curves

    found = RunSet.open(folder)
    files = write_curves(found, found.folder if out is None else Path(out))
    if not files:
        raise UserError(f"{folder}: no epoch of any run is complete: nothing to plot")
    return files


# -- predictions -------------------------------------------------------------------------------------


def predict_set(folder: str, files: Sequence[str], out: str | None, options: Options) -> None:
    """Predict for each group of tables with the model of that group, and write one table.

    Parameters
    ----------
    folder : str
    files : sequence of str
    out : str, optional
        File to write; by default standard output.
    options : mapping
        The command's: checkpoint, cell, threads, as_json.

    Raises
    ------
    UserError
        It is no set of groups, or the tables hold a group without a model.
    """
    found = RunSet.open(folder)
    if found.kind != GROUPS or found.dataset not in SERIES:
        raise UserError(f"{folder}: {not_one_run(folder)}")
    from lstm_numba.data.series_groups import Parted, part
    from lstm_numba.data.tables import read_table
    from lstm_numba.training.series_prediction import heading, pieces_of, predictions

    members = {member.name: member for member in found.members}
    needed = None if not found.column else _columns(found)
    text = [] if found.column is None else [found.column]
    tables = []
    skipped = Skipped("file")
    for path in files:
        try:
            tables.append(read_table(path, needed, text))
        except DataError as error:
            skipped(path, error)
    parted: Parted = part(tables, found.column) if tables else {}
    for name in parted:
        if name not in members:
            raise DataError(f"{tables[0].name}: {_no_model(found, name)}")
    for remark in dict.fromkeys(f"{one.name}: {guess}" for one in tables for guess in one.guesses):
        warn(remark)
    set_threads(options["threads"])
    found_rows: list[tuple[list[str], list[Any]]] = []
    for name, own in parted.items():
        task = _open(found, members[name], options)
        pieces: list[Piece] = [piece._replace(name=name) for piece in pieces_of(task.description, own)]
        names = heading(task)
        found_rows += [(names, row) for row in predictions(task, pieces)]
    write_predictions(*_under_one_heading(found_rows), out, options["as_json"], skipped)


def _under_one_heading(rows: Sequence[tuple[list[str], list[Any]]]) -> tuple[list[str], list[list[Any]]]:
    """Rows under headings of their own as rows under one; models may know different classes."""
    headings = [*dict.fromkeys(tuple(names) for names, _ in rows)]
    if len(headings) == 1:
        return [*headings[0]], [row for _, row in rows]
    columns = [*dict.fromkeys(name for names in headings for name in names)]
    named = [dict(zip(names, row, strict=True)) for names, row in rows]
    return columns, [[row.get(name, "") for name in columns] for row in named]


def _columns(found: RunSet) -> list[str]:
    """Columns that any of the models reads."""
    names: dict[str, None] = {}
    for member in found.members:
        it = Run.open(found.path(member)).needed_series()
        names.update(dict.fromkeys(name for name in (*it.features, it.time, it.group) if name is not None))
    return [*names]


def _no_model(found: RunSet, name: str) -> str:
    why = found.skipped.get(name)
    told = f" ({why})" if why is not None else ""
    return f"the set {found.folder} has no model of the group {one_line(name, 60)}{told}"


def _open(found: RunSet, member: Member, options: Options) -> SeriesTask:
    from lstm_numba.training.series import SeriesTask
    from lstm_numba.training.tasks import open_task

    run = Run.open(found.path(member))
    use_run_cell(run.config, options["cell"], run.folder)
    task = open_task(run, load_data=False, which=options["checkpoint"])
    assert isinstance(task, SeriesTask)
    return task
