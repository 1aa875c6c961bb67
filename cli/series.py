"""What `predict` and `plot` do with runs of a user's own series."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstm_numba.cli.console import Skipped, Terminal, print_json, warn
from lstm_numba.cli.custom_cells import use_run_cell
from lstm_numba.cli.resources import set_threads
from lstm_numba.cli.run_folder import claimed, run_name

if TYPE_CHECKING:
    from lstm_numba.training.run import Run
    from lstm_numba.training.series import SeriesTask


def predict_series(opened: Run, files: tuple[str, ...], out: str | None, options: Mapping[str, Any]) -> None:
    """Write predictions for tables as CSV, or as one JSON object.

    Parameters
    ----------
    opened : Run
    files : tuple of str
        Tables.
    out : str, optional
        File to write; by default standard output.
    options : mapping
        The command's: checkpoint, cell, threads, as_json.
    """
    from lstm_numba.training.series_prediction import heading, predictions, read_inputs

    task = _open(opened, options["cell"], options["threads"], load_data=False, which=options["checkpoint"])
    skipped = Skipped("file")
    pieces, remarks = read_inputs(task.description, files, skipped)
    for remark in remarks:
        warn(remark)
    rows = [*predictions(task, pieces)] if pieces else []
    write_predictions(heading(task), rows, out, options["as_json"], skipped)


def write_predictions(
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    out: str | None,
    as_json: bool,
    skipped: Skipped,
) -> None:
    """Write a table of predictions as CSV, to a file or standard output, or print it as one JSON object.

    If all files were skipped, nothing is written but JSON. If any was, the exit status is 1.

    Parameters
    ----------
    names : sequence of str
        The columns.
    rows : sequence of sequence
    out : str, optional
        File to write; by default standard output.
    as_json : bool
    skipped : Skipped
        Files that could not be used.
    """
    if as_json:
        entries = [dict(zip(names, row, strict=True)) for row in rows]
        print_json({"predictions": [*entries, *skipped.entries]})
    if rows or not skipped.entries:
        _write_table([names, *rows], out, as_json)
    skipped.leave()


def _write_table(lines: Sequence[Sequence[Any]], out: str | None, as_json: bool) -> None:
    """Write heading and rows to a file, or to standard output unless JSON is there."""
    memory = io.StringIO()
    csv.writer(memory, lineterminator="\n").writerows(lines)
    if out is not None:
        with claimed(out) as path:
            path.write_text(memory.getvalue(), encoding="utf-8")
        if not as_json:
            click.echo(f"{out}: {len(lines) - 1} rows")
    elif not as_json:
        click.echo(memory.getvalue(), nl=False)


def _open(opened: Run, cell: str | None, threads: int | None, **more: Any) -> SeriesTask:
    set_threads(threads)
    use_run_cell(opened.config, cell, opened.folder)
    from lstm_numba.training.series import SeriesTask
    from lstm_numba.training.tasks import open_task

    task = open_task(opened, **more)
    assert isinstance(task, SeriesTask)
    return task


def series_figures(
    opened: Run, cell: str | None, data_dir: str | None, threads: int | None
) -> dict[str, Any]:
    """Predict the test part and draw it: a confusion matrix, or forecasts and their errors."""
    from lstm_numba.cli import run_plots, series_plots
    from lstm_numba.training.compile_watch import CompileWatch

    task, run = _open(opened, cell, threads, data_dir=data_dir), run_name(opened.folder)
    with CompileWatch(Terminal()):
        if task.classes:
            matrix = task.confusion_matrix("test")
            return {"confusion-matrix": run_plots.confusion_matrix(matrix, task.classes, run)}
        shown = series_plots.test_predictions(task)
    name = "forecast" if task.description.task == "forecast" else "predictions"
    return {name: series_plots.predictions(shown, name, run), "residuals": series_plots.residuals(shown, run)}


def image_only(folder: Path, **given: object) -> None:
    """Refuse options of `predict` that are for images."""
    for name, value in given.items():
        if value not in (None, ()):
            raise click.UsageError(f"--{name} is for images, {folder} is a run of series")
