"""``lstm-numba export``: writes a run's weights in the format of another library."""

from __future__ import annotations

from typing import Any

import click

from lstm_numba.cli.options import checkpoint_option, json_option, run_cell_option
from lstm_numba.cli.types import Choice, RunFolder, SectionedCommand, argument


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba export runs/digits-1 --format onnx --out digits.onnx
  lstm-numba export runs/digits-1 --format c --out digits.h
  lstm-numba export runs/ptb-1 --format torch --out ptb.safetensors
""",
)
@argument("run", "RUN", "Run folder.", type=RunFolder())
@click.option(
    "--format",
    "kind",
    type=Choice(["onnx", "c", "torch", "keras", "npz", "json"]),
    required=True,
    help="Format of the file.",
)
@click.option("--out", type=click.Path(), metavar="FILE", required=True, help="New file.")
@click.option("--layers-only", is_flag=True, help="Only the recurrent layers (onnx, c; always for keras).")
@click.option(
    "--lengths",
    is_flag=True,
    help="Add an input for the lengths of padded variable-length sequences (onnx).",
)
@checkpoint_option
@run_cell_option
@json_option
def export(
    run: str,
    kind: str,
    out: str,
    layers_only: bool,
    lengths: bool,
    checkpoint: str | None,
    cell: str | None,
    as_json: bool,
) -> None:
    """Export the model of RUN to a file for another program.

    onnx: the whole model as an ONNX graph (.onnx), with the model's inputs: images as normalized sequences,
    texts as token indices with initial and final states, and series in the units of the data, as `predict`
    has them. c: a C99 header (.h) with the weights and a function for one step, for unidirectional layers.
    torch: all parameters with PyTorch's names (.safetensors). keras: the weights of the recurrent layers in
    Keras' layout (.npz). npz: as torch, but for NumPy (.npz). json: the recurrent layers and the linear layer
    as GuitarML's programs read them (.json).

    Prints the number of parameters written, and that of the model if they differ.
    """
    import os

    from lstm_numba.cli.console import print_json
    from lstm_numba.cli.custom_cells import use_run_cell
    from lstm_numba.cli.run_folder import claimed
    from lstm_numba.errors import UserError
    from lstm_numba.training.run import Run
    from lstm_numba.training.settings import LANGUAGE_MODELS
    from lstm_numba.wording import plural

    if layers_only and kind not in ("onnx", "c"):
        raise click.UsageError(f"--layers-only: only for onnx and c, not for {kind}")
    opened = Run.open(run)
    if lengths and (kind != "onnx" or opened.config["dataset"] in LANGUAGE_MODELS):
        raise click.UsageError("--lengths: only for --format onnx of images and series")
    if os.path.lexists(out):
        raise UserError(f"--out {out}: already exists, name another file")
    use_run_cell(opened.config, cell, run)
    from lstm_numba.interop.export import facts_of, save_model
    from lstm_numba.training.series import SeriesTask
    from lstm_numba.training.tasks import open_task

    task = open_task(opened, load_data=False, which=checkpoint)
    series = task.description if isinstance(task, SeriesTask) else None
    options: dict[str, Any] = {
        "layers_only": layers_only,
        "lengths": lengths,
        "series": series,
        "facts": facts_of(task),
    }
    with claimed(out) as path:
        count = save_model(task.model, kind, path, **options)
    every, name = task.model.parameter_count, opened.config["cell"]
    if as_json:
        result = {"file": out, "format": kind, "cell": name, "parameters": count}
        print_json({**result, "model_parameters": every})
    else:
        counted = plural(count, "parameter") if count == every else f"{count:,} of {every:,} parameters"
        click.echo(f"{out}: {kind}, {name}, {counted}")
