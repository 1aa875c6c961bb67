"""``lstm-numba import``: converts weights of another library to a weights file or a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lstm_numba.cli.custom_cells import load_own_cells, use_run_cell
from lstm_numba.cli.options import json_option
from lstm_numba.cli.types import CellName, SectionedCommand
from lstm_numba.training.settings import is_own_cell

if TYPE_CHECKING:
    from lstm_numba.interop.any_format import Source
    from lstm_numba.nn.recurrent import Recurrent

#: Most names shown in a line.
_SHOWN = 8


@click.command(
    "import",
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba import model.onnx --out model.safetensors
  lstm-numba import torch.safetensors --prefix encoder. --cell rnn-relu --out rnn.npz
  lstm-numba import trained.safetensors --run runs/digits-1 --out runs/trained
""",
)
@click.argument("file", type=click.Path())
@click.option(
    "--out",
    type=click.Path(),
    metavar="PATH",
    required=True,
    help="Weights file or run folder to write; must not exist.",
)
@click.option("--run", type=click.Path(), help="Run folder whose settings the new run gets.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "torch", "keras", "npz"]),
    help="Format of FILE.  [default: from its file name and parameter names]",
)
@click.option(
    "--cell",
    type=CellName(),
    help="Cell of FILE, if names and shapes do not determine it; MODULE:CLASS is one of your own, "
    "whose module is imported.  [default: as in PyTorch or Keras]",
)
@click.option(
    "--prefix", help="Prefix of the parameter names to read; others are ignored.  [default: the only one]"
)
@json_option
def import_(
    file: str,
    out: str,
    run: str | None,
    kind: str | None,
    cell: str | None,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Import the weights in FILE: an ONNX model, or PyTorch's or Keras' parameters, as `export` writes them.

    Without --run: write the recurrent layers to a weights file, .safetensors or .npz, which
    lstm_numba.load_weights reads. ONNX models need the extra "onnx" and must not contain other layers.

    With --run: create a new run folder with the settings of RUN and the parameters of FILE, either all of the
    model or those of its recurrent layers. Its training starts at the first step. RUN is not changed.

    Nothing in FILE is executed; pickle files (.pt) are not read.
    """
    import os

    from lstm_numba.errors import UserError

    if os.path.lexists(out):
        raise UserError(f"--out {out}: is there already, name another")
    if run is None and not out.endswith((".npz", ".safetensors")):
        raise UserError(f"--out {out}: expected a name that ends in .npz or .safetensors, or --run")
    from lstm_numba.interop.any_format import open_source

    if cell is not None:
        load_own_cells(cell)
    source = open_source(file, kind)
    if source.kind == "onnx" and cell is not None:
        raise click.UsageError("--cell: an ONNX model names its cell itself")
    if source.kind in ("onnx", "keras") and prefix is not None:
        raise click.UsageError(f"--prefix: {source.kind} files have none")
    if run is None:
        _weights_file(source, out, cell, prefix, as_json)
    else:
        _new_run(source, out, run, cell, prefix, as_json)


def _weights_file(source: Source, out: str, cell: str | None, prefix: str | None, as_json: bool) -> None:
    """Write the recurrent layers to a weights file."""
    from lstm_numba.cli.console import print_json
    from lstm_numba.cli.run_folder import claimed
    from lstm_numba.interop.any_format import load_layer
    from lstm_numba.interop.weights_file import save_weights

    rnn, passed_over = load_layer(source, cell=cell, prefix=prefix)
    with claimed(out) as path:
        save_weights(rnn, path)
    if as_json:
        result = {"file": out, **_facts(source, rnn), "batch_first": rnn.batch_first}
        print_json({**result, "passed_over": passed_over})
        return
    click.echo(f"{out}: {_line(_facts(source, rnn))}")
    if rnn.batch_first:
        click.echo("the model's input is (batch, time, features): load_weights(..., batch_first=True)")
    _print_names("passed over", passed_over)


def _new_run(source: Source, out: str, run: str, cell: str | None, prefix: str | None, as_json: bool) -> None:
    """Create a run with the settings of another run."""
    from lstm_numba.cli.console import print_json
    from lstm_numba.interop.any_format import fit_model
    from lstm_numba.training.run import Run
    from lstm_numba.training.tasks import open_task
    from lstm_numba.training.warm_start import create_successor

    settings = Run.open(run)
    use_run_cell(settings.config, cell if cell is not None and is_own_cell(cell) else None, run)
    task = open_task(settings, load_data=False)
    fitted = fit_model(source, task.model, cell=cell, prefix=prefix)
    facts = _facts(source, task.model.rnn)
    facts["parameters"] = sum(task.model.params[name].size for name in fitted.taken)
    create_successor(settings, task, out)
    if as_json:
        result = {"run": out, "settings": run, **facts, "taken": fitted.taken, "kept": fitted.kept}
        print_json({**result, "passed_over": fitted.passed_over})
        return
    click.echo(f"{out}: run of {settings.config['dataset']} with the settings of {run}: {_line(facts)}")
    _print_names(f"only the recurrent layers are from {source.path}; from {run}", fitted.kept)
    _print_names("passed over", fitted.passed_over)


def _facts(source: Source, rnn: Recurrent) -> dict[str, Any]:
    """Format and size of what was read."""
    from lstm_numba.interop.state_dict import cell_name

    return {
        "from": source.path,
        "format": source.kind,
        "cell": cell_name(rnn),
        "input_size": rnn.input_size,
        "hidden_size": rnn.hidden_size,
        "layers": rnn.num_layers,
        "directions": rnn.directions,
        "bias": rnn.bias,
        "dtype": rnn.dtype.name,
        "parameters": sum(array.size for array in rnn.params.values()),
    }


def _line(facts: dict[str, Any]) -> str:
    from lstm_numba.wording import plural

    cell = "bidirectional " * (facts["directions"] == 2) + facts["cell"] + ", no bias" * (not facts["bias"])
    layers = f"{facts['input_size']} inputs, {facts['layers']} x {facts['hidden_size']} units"
    count = plural(facts["parameters"], "parameter")
    return f"{facts['format']}, {cell}, {layers}, {facts['dtype']}, {count}"


def _print_names(what: str, names: list[str]) -> None:
    """Print a line of names, if there are any; names from a file may contain any characters."""
    from lstm_numba.errors import printable

    if names:
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        click.echo(f"{what}: {', '.join(printable(name, 80) for name in names[:_SHOWN])}{more}")
