"""Read weights of any format, as a layer or into a model: the inverse of `lstm_numba.interop.export`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lstm_numba.data.file_io import read_file
from lstm_numba.errors import WeightsError
from lstm_numba.interop.export import ENDINGS
from lstm_numba.interop.files.contents import LARGEST, Array
from lstm_numba.interop.files.numbers import as_float
from lstm_numba.interop.files.opening import read_contents
from lstm_numba.interop.keras import has_keras_names, layer_from_lists
from lstm_numba.interop.onnx_import import load_onnx
from lstm_numba.interop.onnx_model_import import read_onnx_model
from lstm_numba.interop.state_dict import build, cell_name
from lstm_numba.interop.weights_file import find_prefix, known_cell, select_prefix
from lstm_numba.nn.recurrent import Recurrent

if TYPE_CHECKING:
    from lstm_numba.models.base import Model


class Source(NamedTuple):
    """An opened weights file; `tensors` and `cell` (the cell that it names) are empty for an ONNX model of
    another program, or of a layer.
    """

    path: str
    kind: str  # one of ENDINGS
    tensors: Mapping[str, Array]
    cell: str | None


class Fitted(NamedTuple):
    """Result of `fit_model`."""

    taken: list[str]  # parameters read from the file
    kept: list[str]  # parameters that the model keeps
    passed_over: list[str]  # tensors in the file that were not used


def open_source(path: str | os.PathLike[str], kind: str | None = None) -> Source:
    """Open a weights file.

    Parameters
    ----------
    path : path
    kind : {"onnx", "torch", "keras", "npz"}, optional
        By default inferred from the suffix and the names in the file. "torch" and "npz" both mean PyTorch's
        names, in either kind of file.

    Raises
    ------
    WeightsError
        The file is missing, damaged or something else; the message names it. An ONNX model that `export` has
        not written is read later.
    """
    path = Path(path)
    if kind == "onnx" or (kind is None and path.suffix == ENDINGS["onnx"]):
        return _open_onnx(path)
    contents = read_contents(path)
    if kind is None and has_keras_names(contents.tensors):
        kind = "keras"
    kind = kind or ("npz" if contents.kind == "npz" else "torch")
    return Source(str(path), kind, contents.tensors, contents.cells.get(""))


def _open_onnx(path: Path) -> Source:
    content = read_file(path, LARGEST, WeightsError)
    try:
        contents = read_onnx_model(content)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    if contents is None:
        return Source(str(path), "onnx", {}, None)
    return Source(str(path), "onnx", contents.tensors, contents.cells[""])


def load_layer(
    source: Source, *, cell: str | None = None, prefix: str | None = None
) -> tuple[Recurrent, list[str]]:
    """Make a layer from a file's recurrent parameters.

    Parameters
    ----------
    source : Source
    cell : str, optional
        Cell, if names and shapes do not determine it; ignored for an ONNX model, which does.
    prefix : str, optional
        See `lstm_numba.interop.weights_file.load_weights`.

    Returns
    -------
    rnn : Recurrent
    passed_over : list of str
        Names of the tensors in the file that were not used.

    Raises
    ------
    WeightsError
        The file holds no such layer; the message names it.
    """
    cell = cell or known_cell(source.path, source.cell)
    if source.kind == "onnx" and not source.tensors:
        return load_onnx(source.path), []
    if source.kind == "keras":
        return layer_from_lists(source.tensors, source.path, cell), []
    prefix = find_prefix(source.tensors, source.path) if prefix is None else prefix
    rnn = build(select_prefix(source.tensors, prefix, source.path), source.path, cell)
    return rnn, sorted(name for name in source.tensors if not name.startswith(prefix))


def fit_model(source: Source, model: Model, *, cell: str | None = None, prefix: str | None = None) -> Fitted:
    """Copy a file's parameters into a model: all of them, or those of the recurrent layers only.

    The file must have all if it has any other parameter than those of the recurrent layers.

    Parameters
    ----------
    source : Source
    model : Model
    cell : str, optional
        Cell of the file; by default the one that it names, else the model's.
    prefix : str, optional
        Prefix of the names of the model's or the recurrent layers' parameters; other tensors are skipped. By
        default the only prefix of recurrent parameters in the file.

    Raises
    ------
    WeightsError
        A parameter is missing, unknown or not finite, or its shape or dtype does not fit; the message names
        it. The model is not changed then.
    """
    model_cell, path = model.config()["cell"], source.path
    file_cell = cell or source.cell
    if source.kind == "keras" or (source.kind == "onnx" and not source.tensors):
        rnn, _ = load_layer(source, cell=file_cell or model_cell)
        names = {f"rnn.{name}": name for name in rnn.params}
        tensors, file_cell = rnn.state_dict(), cell_name(rnn)
    else:
        names, tensors = _names_in_file(source, model, prefix), dict(source.tensors)
    if file_cell is not None and file_cell != model_cell:
        raise WeightsError(f"{path}: weights of the cell {file_cell}, expected {model_cell}")
    passed_over = sorted(tensors.keys() - names.values())
    _untie(names, tensors, model, path)
    found = _checked(names, tensors, model, path)
    kept = {name: model.engine.download(array) for name, array in model.params.items() if name not in found}
    model.load_params({**kept, **found})
    return Fitted(list(found), list(kept), passed_over)


def _names_in_file(source: Source, model: Model, prefix: str | None) -> dict[str, str]:
    """Name in the model -> name in the file, for all tensors with the prefix, known to the model or not."""
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
    """Accept a tied matrix under both names, as in PyTorch, or under either."""
    if "output.weight" in model.params or "output.weight" not in names:
        return
    second = names.pop("output.weight")
    first = names.setdefault("embedding.weight", second)
    a, b = tensors[first], tensors[second]
    if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes()):
        raise WeightsError(f"{path}: {second} differs from {first}; they are one matrix here (tied)")


def _checked(
    names: Mapping[str, str], tensors: Mapping[str, Array], model: Model, path: str
) -> dict[str, Array]:
    """The arrays for the model, in its dtype."""
    complete = any(not name.startswith("rnn.") for name in names)
    found = {}
    for name, array in model.params.items():
        if name not in names:
            if complete or name.startswith("rnn."):
                raise WeightsError(f"{path}: {name} is missing, expected shape {array.shape}")
            continue
        file_name = names[name]
        new = as_float(file_name, tensors[file_name], path)
        if new.shape != array.shape:
            raise WeightsError(f"{path}: {file_name}: expected shape {array.shape}, got {new.shape}")
        if not np.can_cast(new.dtype, array.dtype):
            raise WeightsError(f"{path}: {file_name}: expected {array.dtype}, got {new.dtype}")
        found[name] = new.astype(array.dtype)
    unknown = sorted(names.keys() - model.params.keys())
    if unknown:
        file_name = names[unknown[0]]
        raise WeightsError(f"{path}: {file_name} {tensors[file_name].shape}: the model has no such parameter")
    return found
