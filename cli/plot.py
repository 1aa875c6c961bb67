"""``lstm-numba plot``: pictures of a run, as PNG and SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstm_numba.cli.console import Terminal, print_json, warn
from lstm_numba.cli.custom_cells import use_run_cell
from lstm_numba.cli.options import data_dir_option, json_option, run_cell_option, threads_option
from lstm_numba.cli.types import SectionedCommand
from lstm_numba.errors import UserError
from lstm_numba.training.settings import CLASSIFIERS

if TYPE_CHECKING:
    from lstm_numba.training.run import Run

Line = dict[str, Any]


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba plot runs/digits-1
  lstm-numba plot runs/ptb-1 --out pictures
""",
)
@click.argument("run", type=click.Path())
@click.option("--out", type=click.Path(), help="Folder for the pictures.  [default: RUN/plots]")
@run_cell_option
@data_dir_option
@threads_option
@json_option
def plot(
    run: str, out: str | None, cell: str | None, data_dir: str | None, threads: int | None, as_json: bool
) -> None:
    """Draw the learning curves of RUN, and its confusion matrix (images) or perplexity (text).

    Each picture is written as PNG and as SVG; the paths are the result. Needs matplotlib, which comes with
    the extra "plot": pip install 'lstm_numba[plot]'.
    """
    require_matplotlib("plot")
    from lstm_numba.cli import run_plots
    from lstm_numba.training.run import Run

    opened = Run.open(Path(run))
    use_run_cell(opened.config, cell, run)
    lines = opened.metrics()
    epochs = [line for line in lines if line["kind"] == "epoch"]
    classifier = opened.config["dataset"] in CLASSIFIERS
    if not epochs and not (classifier and opened.checkpoint_path.exists()):
        raise UserError(f"{run}: no epoch is finished, there is nothing to draw")
    folder = Path(out) if out is not None else opened.folder / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    if epochs:
        pictures["learning-curves"] = run_plots.learning_curves(lines)
    else:  # a run of imported weights
        warn(f"{run}: no epoch is finished, there are no learning curves")
    if classifier:
        pictures["confusion-matrix"] = _confusion(opened, data_dir, threads)
    else:
        pictures["perplexity"] = run_plots.perplexity(epochs, _floor(opened))
    written = [
        str(path) for name, picture in pictures.items() for path in run_plots.save(picture, folder / name)
    ]
    if as_json:
        print_json({"files": written})
    else:
        click.echo("\n".join(written))


def require_matplotlib(what: str) -> None:
    """Refuse to draw without matplotlib.

    Raises
    ------
    UserError
        It is not installed; the text says what needs it and how to get it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError(f"{what} needs matplotlib: pip install 'lstm_numba[plot]'") from None


def _floor(run: Run) -> float | None:
    """Lowest reachable perplexity; only the grammar's is known."""
    if run.config["dataset"] != "grammar":
        return None
    from lstm_numba.training.tasks import open_task

    return open_task(run).floor


def _confusion(run: Run, data_dir: str | None, threads: int | None) -> Any:
    """Evaluate the test images and draw which class is taken for which."""
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
    return run_plots.confusion_matrix(matrix, task.classes)
