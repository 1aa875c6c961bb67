"""Weights of any format that is read here: as a layer, or as the parameters of a model.

The way back from `lstm_numba.interop.export.save_model`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lstm_numba.errors import WeightsError
from lstm_numba.interop.export import ENDINGS
from lstm_numba.interop.keras import has_keras_names, layer_of_lists
from lstm_numba.interop.onnx_import import load_onnx
from lstm_numba.interop.state_dict import Array, as_float, build, cell_name
from lstm_numba.interop.weights_file import PICKLES, find_prefix, known_cell, read_arrays
from lstm_numba.nn.recurrent import Recurrent

if TYPE_CHECKING:
    from lstm_numba.models.base import Model


class Source(NamedTuple):
    """A file that was opened; its arrays, and the cell that it names, where it is no ONNX model."""

    path: str
    kind: str  # one of ENDINGS
    tensors: Mapping[str, Array]
    cell: str | None


class Fitted(NamedTuple):
    """What a model's parameters came to be."""

    taken: list[str]  # from the file
    kept: list[str]  # the model's own
    passed_over: list[str]  # of the file's tensors


def open_source(path: str | os.PathLike[str], kind: str | None = None) -> Source:
    """Open a weights file.

    Parameters
    ----------
    path : path
    kind : {"onnx", "torch", "keras", "npz"}, optional
        By default what the file's ending and the names in it tell. "torch" and "npz" both mean PyTorch's
        names, in either kind of file.

    Raises
    ------
    WeightsError
        The file is missing, damaged, or something else; one line that names it. An ONNX model is read later.
    """
    path = Path(path)
    if kind is None and path.suffix not in (*ENDINGS.values(), *PICKLES):
        raise WeightsError(f"{path}: expected a name that ends in .onnx, .safetensors or .npz")
    if kind == "onnx" or (kind is None and path.suffix == ENDINGS["onnx"]):
        return Source(str(path), "onnx", {}, None)
    tensors, cell = read_arrays(path)
    if kind is None and has_keras_names(tensors):
        kind = "keras"
    return Source(str(path), kind or ("npz" if path.suffix == ".npz" else "torch"), tensors, cell)


def load_layer(
    source: Source, *, cell: str | None = None, prefix: str | None = None
) -> tuple[Recurrent, list[str]]:
    """Make a layer of a file's recurrent parameters.

    Parameters
    ----------
    source : Source
    cell : str, optional
        Cell, where names and shapes do not tell it; an ONNX model does.
    prefix : str, optional
        See `lstm_numba.interop.weights_file.load_weights`.

    Returns
    -------
    rnn : Recurrent
    passed_over : list of str
        Names of the tensors that are no part of it.

    Raises
    ------
    WeightsError
        The file holds no such layer; one line that names it.
    """
    cell = cell or known_cell(source.path, source.cell)
    if source.kind == "onnx":
        return load_onnx(source.path), []
    if source.kind == "keras":
        return layer_of_lists(source.tensors, source.path, cell), []
    start = find_prefix(source.tensors, source.path) if prefix is None else prefix
    chosen = {n[len(start) :]: array for n, array in source.tensors.items() if n.startswith(start)}
    rnn = build(chosen, source.path, cell)
    return rnn, sorted(name for name in source.tensors if not name.startswith(start))


def fit_model(source: Source, model: Model, *, cell: str | None = None, prefix: str | None = None) -> Fitted:
    """Copy a file's parameters into a model: all of them, or those of its recurrent layers.

    A file has all if anything in it but the recurrent layers has a name that `save_model` gives.

    Parameters
    ----------
    source : Source
    model : Model
    cell : str, optional
        Cell of the file, by default what the file says, or else the model's.
    prefix : str, optional
        What the names of the model begin with, or those of the recurrent layers alone; other tensors are then
        passed over. By default the only one that recurrent parameters in the file have.

    Raises
    ------
    WeightsError
        A parameter is missing, unknown, not finite, or its shape or precision does not fit; one line that
        names it. The model is not changed then.
    """
    own, path = model.config()["cell"], source.path
    said = cell or source.cell
    if source.kind in ("onnx", "keras"):
        rnn, _ = load_layer(source, cell=said or own)
        names = {f"rnn.{name}": name for name in rnn.params}
        tensors, said = rnn.state_dict(), cell_name(rnn)
    else:
        names, tensors = _names_in_file(source, model, prefix), dict(source.tensors)
    if said is not None and said != own:
        raise WeightsError(f"{path}: weights of the cell {said}, expected {own}")
    passed_over = sorted(tensors.keys() - names.values())
    _untie(names, tensors, model, path)
    found = _checked(names, tensors, model, path)
    kept = {name: model.engine.download(array) for name, array in model.params.items() if name not in found}
    model.load_params({**kept, **found})
    return Fitted(list(found), list(kept), passed_over)


def _names_in_file(source: Source, model: Model, prefix: str | None) -> dict[str, str]:
    """The model's name -> the file's name, of all that the file has of the model, and of what is unknown."""
    if prefix is None:
        start = find_prefix(source.tensors, source.path)
        base = start.removesuffix("rnn.") if f".{start}".endswith(".rnn.") else None
    else:
        whole = any(name.startswith(f"{prefix}rnn.weight_hh_l") for name in source.tensors)
        start, base = (f"{prefix}rnn.", prefix) if whole else (prefix, None)
    if base is not None:
        found = {name[len(base) :]: name for name in source.tensors if name.startswith(base)}
        others = {name for name in (*model.params, "output.weight") if not name.startswith("rnn.")}
        if others & found.keys():
            return found
    return {f"rnn.{name[len(start) :]}": name for name in source.tensors if name.startswith(start)}


def _untie(names: dict[str, str], tensors: Mapping[str, Array], model: Model, path: str) -> None:
    """A tied matrix may stand under both names, as PyTorch has it, or under either."""
    if "output.weight" in model.params or "output.weight" not in names:
        return
    second = names.pop("output.weight")
    first = names.setdefault("embedding.weight", second)
    one, other = tensors[first], tensors[second]
    if (one.dtype, one.shape, one.tobytes()) != (other.dtype, other.shape, other.tobytes()):
        raise WeightsError(f"{path}: {second} differs from {first}; they are one matrix here (tied)")


def _checked(
    names: Mapping[str, str], tensors: Mapping[str, Array], model: Model, path: str
) -> dict[str, Array]:
    """The arrays for the model, in its precision."""
    whole = any(not name.startswith("rnn.") for name in names)
    found = {}
    for name, array in model.params.items():
        if name not in names:
            if whole or name.startswith("rnn."):
                raise WeightsError(f"{path}: {name} is missing, expected shape {array.shape}")
            continue
        theirs = names[name]
        new = as_float(theirs, tensors[theirs], path)
        if new.shape != array.shape:
            raise WeightsError(f"{path}: {theirs}: expected shape {array.shape}, got {new.shape}")
        if not np.can_cast(new.dtype, array.dtype):
            raise WeightsError(f"{path}: {theirs}: expected {array.dtype}, got {new.dtype}")
        found[name] = new.astype(array.dtype)
    unknown = sorted(names.keys() - model.params.keys())
    if unknown:
        theirs = names[unknown[0]]
        raise WeightsError(f"{path}: {theirs} {tensors[theirs].shape}: the model has no such parameter")
    return found
