"""``lstm-numba inspect``: looks into a trained network while it reads an input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lstm_numba.cli.options import (
    checkpoint_option,
    data_dir_option,
    device_option,
    json_option,
    run_cell_option,
    threads_option,
)
from lstm_numba.cli.types import Folder, RunFolder, SectionedCommand, argument

if TYPE_CHECKING:
    from lstm_numba.traces.inspection import Inspection
    from lstm_numba.training.run import Run
    from lstm_numba.training.task import Task


@click.command(
    "inspect",
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba inspect runs/digits-1
  lstm-numba inspect runs/digits-1 seven.png --out seven
  lstm-numba inspect runs/ptb-1 "the company said it expects a loss"
  lstm-numba inspect runs/series-1 load.csv:1200 --json
""",
)
@argument("run", "RUN", "Run folder.", type=RunFolder())
@argument(
    "input_",
    "[INPUT]",
    "Image, text or table to read.  [default: the first item of the test split]",
    required=False,
    type=click.Path(),
)
@click.option(
    "--out",
    type=Folder(),
    metavar="FOLDER",
    help="Folder for page and figures.  [default: RUN/inspect]",
)
@checkpoint_option
@run_cell_option
@data_dir_option
@device_option
@threads_option
@json_option
def inspect_(
    run: str,
    input_: str | None,
    out: str | None,
    checkpoint: str | None,
    cell: str | None,
    data_dir: str | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Show gates and states of the network of RUN while it reads INPUT.

    INPUT is an image, or FILE:INDEX of an IDX file (mnist, digits, images); a text, such as a sentence in
    quotation marks (ptb, text, grammar); or a table, FILE or FILE:ROW (series): ROW is the last row of the
    window, as `predict` counts rows, or a row of the group. Without INPUT the first item of the test split is
    read, and statistics are over more items.

    Writes one HTML page, which works offline, and figures (PNG and SVG): heat maps of gates and states over
    the input; the fraction of steps at which each unit's gates are open or closed; units by memory time
    constant; and the network's output at each step. Needs matplotlib (extra "plot").
    """
    from lstm_numba.cli.console import Terminal, print_json
    from lstm_numba.cli.custom_cells import use_run_cell
    from lstm_numba.cli.plot import require_matplotlib
    from lstm_numba.cli.resources import choose_device, set_threads
    from lstm_numba.training.run import Run

    require_matplotlib("inspect")
    opened = Run.open(run)
    device = choose_device(device)
    set_threads(threads)
    use_run_cell(opened.config, cell, run)
    from lstm_numba.training.compile_watch import CompileWatch
    from lstm_numba.training.tasks import open_task

    task = open_task(opened, data_dir, load_data=input_ is None, device=device, which=checkpoint)
    with CompileWatch(Terminal()):
        found = _observe(opened, task, input_)
    folder = opened.folder / "inspect" if out is None else Path(out)
    files = _write(found, folder)
    if as_json:
        print_json({**found.document(), "files": files})
        return
    from lstm_numba.traces.summary import lines

    click.echo("\n".join([*lines(found), *files]))


def _observe(opened: Run, task: Task, given: str | None) -> Inspection:
    """Let the network read the input, in the form that its kind of run takes."""
    from lstm_numba.cli.console import warn
    from lstm_numba.traces.observing import observe_image, observe_text
    from lstm_numba.traces.observing_series import observe_series
    from lstm_numba.training.classification import ImageTask
    from lstm_numba.training.language_modeling import TextTask
    from lstm_numba.training.series import SeriesTask

    name = opened.folder.name
    if isinstance(task, TextTask):
        return observe_text(task, name, given)
    if isinstance(task, ImageTask):
        if given is None:
            return observe_image(task, name)
        from lstm_numba.cli.image_argument import named_images

        own = opened.config["dataset"] == "images"
        ((read, pixels),) = named_images(given, (), None, task.form.shape if own else None)
        return observe_image(task, name, read, pixels)
    assert isinstance(task, SeriesTask)
    file, row = given, None
    numbered = re.fullmatch(r"(.+):(\d+)", given or "")
    if numbered and not Path(given or "").exists():
        file, row = numbered[1], int(numbered[2])
    found, remarks = observe_series(task, name, file, row)
    for remark in remarks:
        warn(remark)
    return found


def _write(found: Inspection, folder: Path) -> list[str]:
    """Write the page and the pictures, and return their paths, the page's first."""
    from lstm_numba.data.file_io import atomic_write
    from lstm_numba.plots.style import save
    from lstm_numba.traces.page import page
    from lstm_numba.traces.pictures import pictures

    folder.mkdir(parents=True, exist_ok=True)
    figures, path = pictures(found), folder / "index.html"
    atomic_write(path, page(found, figures).encode())
    return [str(path), *(str(file) for name, draw in figures.items() for file in save(draw(), folder / name))]
