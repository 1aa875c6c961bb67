"""``lstm-numba plot``: plots of a run or of several, as PNG and SVG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstm_numba.cli.console import Terminal, print_json, warn
from lstm_numba.cli.custom_cells import use_run_cell
from lstm_numba.cli.options import data_dir_option, json_option, run_cell_option, threads_option
from lstm_numba.cli.run_folder import run_name
from lstm_numba.cli.types import RunFolder, SectionedCommand, argument
from lstm_numba.errors import UserError
from lstm_numba.training.run_sets import is_set
from lstm_numba.training.settings import CLASSIFIERS, SERIES

if TYPE_CHECKING:
    from lstm_numba.training.run import Run

Line = dict[str, Any]


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba plot runs/digits-1
  lstm-numba plot runs/ptb-1 --out plots
  lstm-numba plot runs/digits-1 runs/digits-2
""",
)
@argument(
    "runs",
    "RUN...",
    "Run folder; one set of runs, or several runs to compare.",
    nargs=-1,
    required=True,
    type=RunFolder(),
)
@click.option(
    "--out",
    type=click.Path(),
    metavar="FOLDER",
    help="Folder for the plots.  [default: RUN/plots; for several runs the current folder; of a set its own]",
)
@run_cell_option
@data_dir_option
@threads_option
@json_option
def plot(
    runs: tuple[str, ...],
    out: str | None,
    cell: str | None,
    data_dir: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Plot learning curves of RUN, and confusion matrix, perplexity or forecasts of its test split.

    For several runs: their learning curves in one figure, "comparison", one color per run, with the settings
    that differ; for runs on different data sets the losses only. For a set of runs (`train --seeds`): thin
    curves of its runs, and their mean, in the set's folder.

    Each plot is written as PNG and as SVG; the command prints the paths. Needs matplotlib, which the extra
    "plot" installs: pip install 'lstm_numba[plot]'.
    """
    require_matplotlib("plot")
    if len(runs) == 1 and is_set(runs[0]):
        _single_only(cell, data_dir, threads, "a set of runs")
        from lstm_numba.cli.set_use import plot_set

        written = plot_set(runs[0], out)
    elif len(runs) == 1:
        written = _plots_of(runs[0], out, cell, data_dir, threads)
    else:
        _single_only(cell, data_dir, threads, f"{len(runs)} runs")
        from lstm_numba.cli.comparison import write_comparison

        written = write_comparison(runs, Path(out or "."))
    if as_json:
        print_json({"files": written})
    else:
        click.echo("\n".join(written))


def _single_only(cell: str | None, data_dir: str | None, threads: int | None, got: str) -> None:
    """Refuse options for which there is nothing to compute."""
    for flag, value in {"--cell": cell, "--data-dir": data_dir, "--threads": threads}.items():
        if value is not None:
            raise click.UsageError(f"{flag}: only for the plots of one run, got {got}")


def _plots_of(
    run: str, out: str | None, cell: str | None, data_dir: str | None, threads: int | None
) -> list[str]:
    """Write the plots of one run and return their paths."""
    from lstm_numba.cli import run_plots
    from lstm_numba.plots.style import save
    from lstm_numba.training.run import Run

    opened = Run.open(Path(run))
    use_run_cell(opened.config, cell, run)
    lines = opened.metrics()
    epochs = [line for line in lines if line["kind"] == "epoch"]
    series = opened.config["dataset"] in SERIES
    classifier = opened.config["dataset"] in CLASSIFIERS
    if not epochs and not ((classifier or series) and opened.checkpoint_path.exists()):
        raise UserError(f"{run}: no epoch is complete: nothing to plot")
    folder = Path(out) if out is not None else opened.folder / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    figures, name = {}, run_name(opened.folder)
    if epochs:
        figures["learning-curves"] = run_plots.learning_curves(lines, name)
    else:  # a run of imported weights
        warn(f"{run}: no epoch is complete: no learning curves")
    if series:
        from lstm_numba.cli.series import series_figures

        figures.update(series_figures(opened, cell, data_dir, threads))
    elif classifier:
        figures["confusion-matrix"] = _confusion(opened, data_dir, threads)
    else:
        figures["perplexity"] = run_plots.perplexity(epochs, name, _floor(opened))
    return [str(path) for name, figure in figures.items() for path in save(figure, folder / name)]


def require_matplotlib(what: str) -> None:
    """Refuse to draw without matplotlib.

    Raises
    ------
    UserError
        It is not installed; the text says what needs it and how to install it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError(f"{what} needs matplotlib: pip install 'lstm_numba[plot]'") from None


def _floor(run: Run) -> float | None:
    """Lowest reachable perplexity, which is known for grammar only."""
    if run.config["dataset"] != "grammar":
        return None
    from lstm_numba.training.tasks import open_task

    return open_task(run).floor


def _confusion(run: Run, data_dir: str | None, threads: int | None) -> Any:
    """Evaluate the test images and draw the confusion matrix."""
    from lstm_numba.cli import run_plots
    from lstm_numba.cli.resources import set_threads

    set_threads(threads)
    from lstm_numba.training.classification import ImageTask
    from lstm_numba.training.compile_watch import CompileWatch
    from lstm_numba.training.tasks import open_task

    terminal = Terminal()
    task = open_task(run, data_dir=data_dir)
    assert isinstance(task, ImageTask)
    with CompileWatch(terminal):
        matrix = task.confusion_matrix(
            "test", progress=lambda done, total: terminal.on_evaluation("test", done, total)
        )
    terminal.clear()
    return run_plots.confusion_matrix(matrix, task.classes, run_name(run.folder))
