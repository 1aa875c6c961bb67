"""Read weights of any format, as a layer or into a model: the inverse of `lstm_numba.interop.export`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.export import ENDINGS
from lstm_numba.interop.files.contents import Array, Contents
from lstm_numba.interop.files.numbers import as_float
from lstm_numba.interop.files.opening import read_contents
from lstm_numba.interop.keras import has_keras_names
from lstm_numba.interop.loading import Loaded, load
from lstm_numba.interop.names import groups
from lstm_numba.interop.onnx.layer_import import read_onnx
from lstm_numba.interop.onnx.model_import import open_own
from lstm_numba.interop.selection import choose_prefix, find_head, select
from lstm_numba.interop.state_dict import cell_name

if TYPE_CHECKING:
    from lstm_numba.models.base import Model


class Source(NamedTuple):
    """An opened weights file; `contents` are empty for an ONNX model of another program, or of a layer."""

    path: str
    kind: str  # one of ENDINGS
    contents: Contents

    def of_nodes(self) -> Source:
        """The same ONNX model, as one of another program: its nodes are read, not all of its parameters."""
        return self._replace(contents=Contents("onnx", {}))


class Fitted(NamedTuple):
    """Result of `fit_model`."""

    taken: list[str]  # parameters read from the file
    kept: list[str]  # parameters that the model keeps
    passed_over: list[str]  # tensors in the file that were not used
    notes: tuple[str, ...]


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
    lists = has_keras_names(contents.tensors)
    if kind == "keras" and contents.kind != "keras" and not lists:
        other = one_line(next(iter(contents.tensors), "nothing"), 80)
        raise WeightsError(f"{path}: {other}: unknown name, expected l0.kernel and so on")
    kind = "keras" if kind is None and lists else kind
    kind = kind or ("torch" if contents.kind == "safetensors" else contents.kind)
    return Source(str(path), kind, contents)


def _open_onnx(path: Path) -> Source:
    return Source(str(path), "onnx", open_own(path) or Contents("onnx", {}))


def load_source(source: Source, **options: Any) -> Loaded:
    """Make a layer from a file's recurrent parameters.

    Parameters
    ----------
    source : Source
    **options
        Of `lstm_numba.load_weights`, or of an ONNX model of `lstm_numba.load_onnx`.

    Raises
    ------
    WeightsError
        The file holds no such layer; the message names it.
    """
    if source.kind == "onnx" and not source.contents.tensors:
        rnn, notes = read_onnx(source.path, **options)
        return Loaded(rnn, [], notes)
    return load(source.contents, source.path, **options)


def fit_model(source: Source, model: Model, *, cell: str | None = None, **options: Any) -> Fitted:
    """Copy a file's parameters into a model: all of them, or those of the recurrent layers only.

    The file must have all if it has any other parameter than those of the recurrent layers, under the names
    that `lstm_numba.interop.export.save_model` writes.

    Parameters
    ----------
    source : Source
    model : Model
    cell : str, optional
        Cell of the file; by default the one that it names, else the model's.
    **options
        ``prefix``, ``names``, ``head``, ``allow_nonfinite`` of `lstm_numba.load_weights`, ``node`` of
        `lstm_numba.load_onnx`. A prefix may also be that of all of the model's parameters.

    Raises
    ------
    WeightsError
        A parameter is missing, unknown or not finite, or its shape or dtype does not fit; the message names
        it. The model is not changed then.
    """
    model_cell, path = model.config()["cell"], source.path
    tensors: Mapping[str, Array] = source.contents.tensors
    names = _whole(tensors, model, options, path)
    if names is None:
        part = _recurrent(source, cell or model_cell, options)
        names, tensors, notes = part.names, part.tensors, part.notes
        passed_over, file_cell = part.passed_over, cell or part.cell
    else:
        passed_over, notes = (
            sorted(tensors.keys() - names.values()),
            source.contents.notes_beside(names.values()),
        )
        file_cell = cell or source.contents.cells.get("")
    if file_cell is not None and file_cell != model_cell:
        raise WeightsError(f"{path}: weights of the cell {file_cell}, expected {model_cell}")
    _untie(names, tensors, model, path)
    found = _checked(names, tensors, model, path, not options.get("allow_nonfinite"))
    kept = {name: model.engine.download(array) for name, array in model.params.items() if name not in found}
    model.load_params({**kept, **found})
    return Fitted(list(found), list(kept), passed_over, notes)


def _whole(
    tensors: Mapping[str, Array], model: Model, options: Mapping[str, Any], path: str
) -> dict[str, str] | None:
    """Name in the model -> name in the file, of a file with names like the model's; None of any other."""
    if options.get("names") is not None or options.get("head") is not None:
        return None
    found, prefix = groups(tensors), options.get("prefix")
    if prefix is None:
        start = choose_prefix(found, None, path)
        base = start.removesuffix("rnn.") if f".{start}".endswith(".rnn.") else None
    else:
        base = prefix if f"{prefix}rnn." in found else None
    if base is None:
        return None
    names = {name[len(base) :]: name for name in tensors if name.startswith(base)}
    others = {name for name in (*model.params, "output.weight") if not name.startswith("rnn.")}
    return names if others & names.keys() else None


class _Part(NamedTuple):
    """Parameters of a model's recurrent layers, and of its output layer if a head was named."""

    names: dict[str, str]  # name in the model -> key in `tensors`
    tensors: dict[str, Array]
    cell: str | None
    passed_over: list[str]
    notes: tuple[str, ...] = ()


def _recurrent(source: Source, model_cell: str, options: dict[str, Any]) -> _Part:
    """The recurrent layers of a file whose other names are not the model's."""
    contents, path = source.contents, source.path
    foreign = source.kind == "onnx" and not contents.tensors
    if foreign or has_keras_names(contents.tensors):
        cell = {} if foreign else {"cell": contents.cells.get("") or model_cell}
        rnn, _, notes = load_source(source, **cell, **options)
        names = {f"rnn.{name}": name for name in rnn.params}
        return _Part(names, rnn.state_dict(), cell_name(rnn), [], notes)
    options = {key: value for key, value in options.items() if key != "cell"}
    head, nonfinite = options.pop("head", None), bool(options.get("allow_nonfinite"))
    linear = None if head is None else find_head(contents.tensors, head, path, allow_nonfinite=nonfinite)
    used = set[str]() if linear is None else linear.used
    found = select(contents, path, known=used, **options)
    tensors = {found.prefix + name: array for name, array in found.params.items()}
    names = {f"rnn.{name}": found.prefix + name for name in found.params}
    if linear is not None:
        bias = np.zeros(len(linear.weight), linear.weight.dtype) if linear.bias is None else linear.bias
        tensors |= {"output.weight": linear.weight, "output.bias": bias}
        names |= {name: name for name in ("output.weight", "output.bias")}
    passed_over = sorted(contents.tensors.keys() - found.used - used)
    return _Part(names, tensors, found.cell, passed_over, found.notes)


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
    names: Mapping[str, str], tensors: Mapping[str, Array], model: Model, path: str, finite: bool
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
        new = as_float(file_name, tensors[file_name], path, finite)
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
