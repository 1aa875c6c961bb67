"""``lstm-numba import``: weights of another program as a weights file, or as a run."""

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

#: Names that a line shows.
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
    "--out", type=click.Path(), metavar="PATH", required=True, help="Weights file or run folder to make."
)
@click.option("--run", type=click.Path(), help="Run whose settings the new run gets.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "torch", "keras", "npz"]),
    help="Format of FILE.  [default: told by its ending and its names]",
)
@click.option(
    "--cell",
    type=CellName(),
    help="Cell of FILE, where names and shapes do not tell it; MODULE:CLASS is one of your own, "
    "whose module is imported.  [default: PyTorch's or Keras' meaning]",
)
@click.option("--prefix", help="What the names begin with; others are passed over.  [default: the only one]")
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
    """Read the weights in FILE: ONNX, PyTorch's names or Keras' lists, as `export` writes them.

    Without --run: its recurrent layers as a weights file, .safetensors or .npz, for lstm_numba.load_weights.
    ONNX models need the extra "onnx"; one that computes more than recurrent layers is refused.

    With --run: a new run folder with the settings of RUN and the parameters of FILE, all of the model's or
    those of its recurrent layers; training it begins at the first step. RUN stays as it is.

    Nothing in FILE is executed; pickles (.pt) are not read.
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
    """Write the recurrent layers."""
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
    _say_names("passed over", passed_over)


def _new_run(source: Source, out: str, run: str, cell: str | None, prefix: str | None, as_json: bool) -> None:
    """Make a run of another run's settings."""
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
    _say_names(f"only the recurrent layers are from {source.path}; from {run}", fitted.kept)
    _say_names("passed over", fitted.passed_over)


def _facts(source: Source, rnn: Recurrent) -> dict[str, Any]:
    """What was read."""
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
    from lstm_numba.cli.console import plural

    cell = "bidirectional " * (facts["directions"] == 2) + facts["cell"] + ", no bias" * (not facts["bias"])
    layers = f"{facts['input_size']} inputs, {facts['layers']} x {facts['hidden_size']} units"
    count = plural(facts["parameters"], "parameter")
    return f"{facts['format']}, {cell}, {layers}, {facts['dtype']}, {count}"


def _say_names(what: str, names: list[str]) -> None:
    """A line of names, if there are any; those of a file may hold anything."""
    from lstm_numba.errors import printable

    if names:
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        click.echo(f"{what}: {', '.join(printable(name, 80) for name in names[:_SHOWN])}{more}")
