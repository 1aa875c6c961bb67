"""What `predict` and `plot` do with runs of a user's own series."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstm_numba.cli.console import Terminal, print_json, warn
from lstm_numba.cli.custom_cells import use_run_cell
from lstm_numba.cli.resources import set_threads
from lstm_numba.cli.run_folder import claimed

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
    pieces, remarks = read_inputs(task.description, files)
    for remark in remarks:
        warn(remark)
    write_predictions(heading(task), [*predictions(task, pieces)], out, options["as_json"])


def write_predictions(
    names: Sequence[str], rows: Sequence[Sequence[Any]], out: str | None, as_json: bool
) -> None:
    """Write a table of predictions as CSV, to a file or standard output, or print it as one JSON object.

    Parameters
    ----------
    names : sequence of str
        The columns.
    rows : sequence of sequence
    out : str, optional
        File to write; by default standard output.
    as_json : bool
    """
    if as_json:
        print_json({"predictions": [dict(zip(names, row, strict=True)) for row in rows]})
        if out is None:
            return
    memory = io.StringIO()
    csv.writer(memory, lineterminator="\n").writerows([names, *rows])
    if out is None:
        click.echo(memory.getvalue(), nl=False)
        return
    with claimed(out) as path:
        path.write_text(memory.getvalue(), encoding="utf-8")
    if not as_json:
        click.echo(f"{out}: {len(rows)} rows")


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

    task = _open(opened, cell, threads, data_dir=data_dir)
    with CompileWatch(Terminal()):
        if task.classes:
            return {
                "confusion-matrix": run_plots.confusion_matrix(task.confusion_matrix("test"), task.classes)
            }
        shown = series_plots.test_predictions(task)
    name = "forecast" if task.description.task == "forecast" else "predictions"
    return {name: series_plots.predictions(shown, name), "residuals": series_plots.residuals(shown)}


def image_only(folder: Path, **given: object) -> None:
    """Refuse options of `predict` that are for images."""
    for name, value in given.items():
        if value not in (None, ()):
            raise click.UsageError(f"--{name} is for images, {folder} is a run of series")
