"""``lstm-numba import``: converts weights of another library to a weights file or a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lstm_numba.cli.custom_cells import load_own_cells, use_run_cell
from lstm_numba.cli.options import json_option
from lstm_numba.cli.types import CellName, Choice, RunFolder, SectionedCommand, argument
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
  lstm-numba import model.pt --list
  lstm-numba import model.onnx --node 1 --out model.safetensors
  lstm-numba import torch.safetensors --prefix encoder. --out encoder.npz
  lstm-numba import loop.npz --names 'enc_w_*=weight_*' --out encoder.npz
  lstm-numba import trained.safetensors --run runs/digits-1 --out runs/trained
""",
)
@argument("file", "FILE", "File with weights: ONNX, PyTorch, Keras or NumPy.", type=click.Path())
@click.option(
    "--list", "listing", is_flag=True, help="List the contents of FILE, and the calls that load its layers."
)
@click.option("--out", type=click.Path(), metavar="PATH", help="New weights file or run folder.")
@click.option("--run", type=RunFolder(), metavar="RUN", help="Run folder whose settings the new run takes.")
@click.option(
    "--format",
    "kind",
    type=Choice(["onnx", "torch", "keras", "npz"]),
    help="Format of FILE.  [default: from its file name and parameter names]",
)
@click.option(
    "--cell",
    type=CellName(),
    help="Cell of FILE, if names and shapes do not determine it; MODULE:CLASS is a custom cell, "
    "whose module is imported.  [default: as in PyTorch or Keras]",
)
@click.option(
    "--prefix", help="Prefix of the parameter names to read; others are ignored.  [default: the only one]"
)
@click.option(
    "--names",
    multiple=True,
    metavar="NAME=OURS",
    help="Read the tensor NAME as OURS, such as weight_ih_l0 or weight_hh_l0[zrn].T; with OURS empty, ignore "
    "it. A * in NAME matches any characters. May be repeated.",
)
@click.option("--head", help="Prefix of the names of the linear layer after the recurrent layers.")
@click.option("--node", help="LSTM, GRU or RNN node of an ONNX model: its name or number in --list.")
@click.option("--allow-nonfinite", is_flag=True, help="Accept weights that are NaN or infinite.")
@json_option
def import_(
    file: str,
    listing: bool,
    out: str | None,
    run: str | None,
    kind: str | None,
    cell: str | None,
    names: tuple[str, ...],
    node: str | None,
    allow_nonfinite: bool,
    as_json: bool,
    **chosen: str | None,
) -> None:
    """Import the weights in FILE, whoever trained them: a recurrent layer, or all of a model.

    FILE may be NumPy's .npz, .safetensors, PyTorch's .pt, .pth, .bin, .ckpt and TorchScript, a pickle of
    NumPy arrays, Keras' .keras and .h5, GuitarML's and RTNeural's .json, an ONNX
    model (with the extra "onnx"). Nothing in it is executed.

    Without --run: write the recurrent layers to a weights file, .safetensors, .npz or GuitarML's .json, which
    lstm_numba.load_weights reads; with --head the linear layer too, as output.weight and output.bias (in
    .json lin.weight and lin.bias).

    With --run: create a new run folder with the settings of RUN and the parameters of FILE, either all of the
    model or those of its recurrent layers. Its training starts at the first step. RUN is not changed.
    """
    import os

    from lstm_numba.errors import UserError

    if listing:
        given = (out, run, kind, cell, *names, node, *chosen.values(), allow_nonfinite or None)
        if any(value is not None for value in given):
            raise click.UsageError("--list: can only be combined with --json")
        _list(file, as_json)
        return
    if out is None:
        raise click.UsageError("--out: expected a file or folder to write, or --list")
    if os.path.lexists(out):
        raise UserError(f"--out {out}: already exists, name another")
    if run is None and not out.endswith((".npz", ".safetensors", ".json")):
        raise UserError(f"--out {out}: expected a name that ends in .npz, .safetensors or .json, or --run")
    from lstm_numba.interop.any_format import open_source

    if cell is not None:
        load_own_cells(cell)
    source = open_source(file, kind)
    if node is not None and source.kind == "onnx":
        source = source.of_nodes()
    options: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if names:
        options["names"] = _mapping(names)
    _check_options(source, options, cell, node)
    if allow_nonfinite:
        options["allow_nonfinite"] = True
    if node is not None:
        options["node"] = int(node) if node.isdecimal() else node
    if cell is not None:
        options["cell"] = cell
    if run is None:
        _weights_file(source, out, options, as_json)
    else:
        _new_run(source, out, run, options, as_json)


def _mapping(names: tuple[str, ...]) -> dict[str, str | None]:
    """``--names`` as `lstm_numba.load_weights` takes them."""
    found: dict[str, str | None] = {}
    for text in names:
        name, equals, ours = text.rpartition("=")
        if not equals or not name:
            raise click.UsageError(f"--names {text}: expected NAME=OURS")
        if name in found:
            raise click.UsageError(f"--names {text}: {name} is given twice")
        found[name] = ours or None
    return found


def _check_options(source: Source, options: dict[str, Any], cell: str | None, node: str | None) -> None:
    """Refuse options that mean nothing for the format."""
    from lstm_numba.interop.keras import has_keras_names

    if "names" in options and "prefix" in options:
        raise click.UsageError("--names: cannot be combined with --prefix")
    if source.kind == "onnx" and not source.contents.tensors:
        if cell is not None:
            raise click.UsageError("--cell: an ONNX model names its cell itself")
        for name in options:
            raise click.UsageError(f"--{name}: an ONNX model has none; --node takes a node out of it")
    elif node is not None:
        raise click.UsageError("--node: only ONNX models have nodes")
    elif has_keras_names(source.contents.tensors):
        for name in options:
            raise click.UsageError(f"--{name}: Keras' lists have none")


def _list(file: str, as_json: bool) -> None:
    """Show what a file holds."""
    from lstm_numba.cli.console import print_json
    from lstm_numba.interop.inspection import inspect_weights

    found = inspect_weights(file)
    if not as_json:
        click.echo(str(found))
        return
    print_json(
        {
            "file": found.path,
            "format": found.kind,
            "tensors": [tensor._asdict() for tensor in found.tensors],
            "layers": [layer._asdict() for layer in found.layers],
            "notes": found.notes,
        }
    )


def _weights_file(source: Source, out: str, options: dict[str, Any], as_json: bool) -> None:
    """Write the recurrent layers, and the linear layer if one was named, to a weights file."""
    from lstm_numba.cli.console import print_json
    from lstm_numba.cli.run_folder import claimed
    from lstm_numba.interop.any_format import load_source
    from lstm_numba.interop.json_export import save_json
    from lstm_numba.interop.weights_file import save_weights

    loaded = load_source(source, **options)
    headed = "head" in options
    rnn = loaded.network.rnn if headed else loaded.network
    with claimed(out) as path:
        (save_json if out.endswith(".json") else save_weights)(loaded.network, path)
    facts = _facts(source, rnn)
    if headed:
        facts["outputs"] = loaded.network.outputs
        facts["parameters"] = loaded.network.parameter_count
    if as_json:
        result = {"file": out, **facts, "batch_first": rnn.batch_first}
        print_json({**result, "passed_over": loaded.left_out, "notes": loaded.notes})
        return
    click.echo(f"{out}: {_line(facts)}")
    if rnn.batch_first:
        click.echo("the model's input is (batch, time, features): load_weights(..., batch_first=True)")
    if headed:
        name = "lin" if out.endswith(".json") else "output"
        click.echo(f"with the linear layer: load_weights(..., head='{name}')")
    _print_names("ignored", loaded.left_out)
    _print_notes(loaded.notes)


def _new_run(source: Source, out: str, run: str, options: dict[str, Any], as_json: bool) -> None:
    """Create a run with the settings of another run."""
    from lstm_numba.cli.console import print_json
    from lstm_numba.interop.any_format import fit_model
    from lstm_numba.training.run import Run
    from lstm_numba.training.tasks import open_task
    from lstm_numba.training.warm_start import create_successor

    settings = Run.open(run)
    cell = options.get("cell")
    use_run_cell(settings.config, cell if cell is not None and is_own_cell(cell) else None, run)
    task = open_task(settings, load_data=False)
    fitted = fit_model(source, task.model, **options)
    facts = _facts(source, task.model.rnn)
    facts["parameters"] = sum(task.model.params[name].size for name in fitted.taken)
    create_successor(settings, task, out)
    if as_json:
        result = {"run": out, "settings": run, **facts, "taken": fitted.taken, "kept": fitted.kept}
        print_json({**result, "passed_over": fitted.passed_over, "notes": fitted.notes})
        return
    click.echo(f"{out}: run of {settings.config['dataset']} with the settings of {run}: {_line(facts)}")
    _print_names(f"only the recurrent layers are from {source.path}; from {run}", fitted.kept)
    _print_names("ignored", fitted.passed_over)
    _print_notes(fitted.notes)


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


def _print_notes(notes: tuple[str, ...]) -> None:
    """Print what must be known to get the network's numbers."""
    from lstm_numba.errors import printable

    for note in notes:
        click.echo(f"note: {printable(note)}")
