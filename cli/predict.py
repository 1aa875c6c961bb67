"""``lstm-numba predict``: classifies images; forecasts, regresses or classifies series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstm_numba.cli.options import NATURAL, checkpoint_option, json_option, run_cell_option, threads_option
from lstm_numba.cli.types import RunFolder, SectionedCommand, argument
from lstm_numba.errors import DataError

if TYPE_CHECKING:
    from lstm_numba.cli.image_argument import Named
    from lstm_numba.training.run import Run


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba predict runs/mnist-1 seven.png
  lstm-numba predict runs/mnist-1 t10k-images-idx3-ubyte.gz:0 --json
  lstm-numba predict runs/series-1 load.csv --out forecast.csv
  lstm-numba predict runs/images-1 rose.jpg
""",
)
@argument(
    "run",
    "RUN",
    "Run folder of mnist, digits, images or series, or set with one model per group.",
    type=RunFolder(),
)
@argument(
    "images",
    "FILE...",
    "Image, image of an IDX file (FILE:INDEX), or table.",
    nargs=-1,
    required=True,
    type=click.Path(),
)
@click.option(
    "--index",
    type=NATURAL,
    multiple=True,
    help="Index of an image in an IDX file, from 0; may be repeated. The same as FILE:INDEX.",
)
@click.option(
    "--invert/--no-invert",
    default=None,
    help="Invert the image: models of digits expect light digits on black.  "
    "[default: if the border is light; never for models of `train images`]",
)
@click.option("--out", type=click.Path(), metavar="FILE", help="CSV file to write (series).")
@checkpoint_option
@run_cell_option
@threads_option
@json_option
def predict(
    run: str,
    images: tuple[str, ...],
    index: tuple[int, ...],
    invert: bool | None,
    out: str | None,
    checkpoint: str | None,
    cell: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Predict from each FILE with the model of RUN, a run folder of mnist, digits, images or series.

    Images are classified, with their probabilities. FILE is an image (PNG, JPEG, BMP, PPM), which is cropped
    and scaled to 28 x 28 pixels as MNIST's digits were, unless it has that size; or an image of an IDX file,
    plain or gzipped: FILE:INDEX, or FILE with --index. For models of `train images` the whole image is scaled
    to the training size.

    For series, FILE is a table with the columns that the model reads. The result is a table in CSV: for a
    forecast the steps after the end of each group, otherwise one row per group, window or step. RUN may be a
    set of `train series --per-group`: each group is predicted by its own model.

    A FILE that cannot be used is named on standard error and skipped; the exit status is then 1.
    """
    from lstm_numba.cli.run_folder import open_run
    from lstm_numba.training.run import Run
    from lstm_numba.training.run_sets import is_set
    from lstm_numba.training.settings import SERIES

    options = {"checkpoint": checkpoint, "cell": cell, "threads": threads, "as_json": as_json}
    if is_set(run):
        from lstm_numba.cli.series import image_only
        from lstm_numba.cli.set_use import predict_set

        image_only(Path(run), index=index, invert=invert)
        predict_set(run, images, out, options)
        return
    opened = Run.open(run)
    if opened.config["dataset"] in SERIES:
        from lstm_numba.cli.series import image_only, predict_series

        image_only(opened.folder, index=index, invert=invert)
        predict_series(opened, images, out, options)
        return
    if out is not None:
        raise click.UsageError(f"--out is for series, {run} is a run of {opened.config['dataset']}")
    _predict_images(open_run(run, "classification", "predict"), run, images, index, invert, options)


def _predict_images(
    opened: Run,
    run: str,
    images: Sequence[str],
    index: Sequence[int],
    invert: bool | None,
    options: Mapping[str, Any],
) -> None:
    """Classify images and print the result; those that cannot be read are named and skipped."""
    from lstm_numba.cli.console import Skipped, print_json
    from lstm_numba.cli.custom_cells import use_run_cell
    from lstm_numba.cli.image_argument import named_images
    from lstm_numba.cli.resources import set_threads

    form = opened.needed_form() if opened.config["dataset"] == "images" else None
    shape = None if form is None else tuple(form["shape"])
    set_threads(options["threads"])
    use_run_cell(opened.config, options["cell"], run)
    named: list[Named] = []
    skipped = Skipped("image")
    for image in images:
        try:
            named += named_images(image, index, invert, shape)
        except DataError as error:
            skipped(image, error)
    found, classes = _classified(opened, options["checkpoint"], named) if named else ([], [])
    if options["as_json"]:
        names = {} if form is None else {"classes": form["classes"]}
        print_json({"predictions": [*found, *skipped.entries], **names})
    else:
        _print_classes(found, classes)
    skipped.leave()


def _classified(
    run: Run, checkpoint: str | None, named: Sequence[Named]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The entry of each image for ``--json``, and the names of the classes."""
    import numpy as np

    from lstm_numba.cli.console import Terminal
    from lstm_numba.training.classification import ImageTask
    from lstm_numba.training.compile_watch import CompileWatch
    from lstm_numba.training.tasks import open_task

    task = open_task(run, load_data=False, which=checkpoint)
    assert isinstance(task, ImageTask)
    with CompileWatch(Terminal()):
        probabilities = task.probabilities(np.stack([pixels for _, pixels in named]))
    found = [
        {"image": name, "class": int(row.argmax()), "probabilities": [float(p) for p in row]}
        for (name, _), row in zip(named, probabilities, strict=True)
    ]
    return found, list(task.classes)


def _print_classes(found: Sequence[dict[str, Any]], classes: Sequence[str]) -> None:
    """A line for each image: its class, and the three most likely."""
    from lstm_numba.data.file_io import one_line

    shown = [one_line(name, 60) for name in classes]
    for entry in found:
        row = entry["probabilities"]
        order = sorted(range(len(row)), key=lambda k: -row[k])
        most = "  ".join(f"{shown[k]} {100 * row[k]:.2f} %" for k in order[:3])
        click.echo(f"{entry['image']}: {shown[order[0]]}  ({most})")
