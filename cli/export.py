"""``lstm-numba export``: writes a run's weights in the format of another library."""

from __future__ import annotations

import click

from lstm_numba.cli.options import checkpoint_option, json_option, run_cell_option
from lstm_numba.cli.types import SectionedCommand


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba export runs/digits-1 --format onnx --out digits.onnx
  lstm-numba export runs/ptb-1 --format torch --out ptb.safetensors
""",
)
@click.argument("run", type=click.Path())
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "torch", "keras", "npz"]),
    required=True,
    help="Format of the file.",
)
@click.option(
    "--out", type=click.Path(), metavar="FILE", required=True, help="File to write; must not exist."
)
@checkpoint_option
@run_cell_option
@json_option
def export(run: str, kind: str, out: str, checkpoint: str | None, cell: str | None, as_json: bool) -> None:
    """Write the weights of RUN, a run folder, to a file for another library.

    onnx: the recurrent layers as an ONNX model (.onnx). torch: all parameters with PyTorch's names
    (.safetensors). keras: the weights of the recurrent layers in Keras' layout (.npz). npz: as torch, but for
    NumPy (.npz).
    """
    import os

    from lstm_numba.cli.console import print_json
    from lstm_numba.cli.custom_cells import use_run_cell
    from lstm_numba.cli.run_folder import claimed
    from lstm_numba.errors import UserError
    from lstm_numba.training.run import Run
    from lstm_numba.wording import plural

    opened = Run.open(run)
    if os.path.lexists(out):
        raise UserError(f"--out {out}: is there already, name another file")
    use_run_cell(opened.config, cell, run)
    from lstm_numba.interop.export import save_model
    from lstm_numba.training.tasks import open_task

    model = open_task(opened, load_data=False, which=checkpoint).model
    with claimed(out) as path:
        count = save_model(model, kind, path)
    if as_json:
        print_json({"file": out, "format": kind, "cell": opened.config["cell"], "parameters": count})
    else:
        click.echo(f"{out}: {kind}, {opened.config['cell']}, {plural(count, 'parameter')}")
