"""Shows what a weights file holds, what of it is a recurrent layer, and the call that loads it."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lstm_numba.errors import WeightsError, printable
from lstm_numba.interop.files.contents import Contents
from lstm_numba.interop.files.opening import read_contents
from lstm_numba.interop.keras import has_keras_names
from lstm_numba.interop.names import groups
from lstm_numba.interop.onnx.graph import naming, open_model
from lstm_numba.interop.onnx.model_export import LAYERS
from lstm_numba.interop.onnx.model_import import read_onnx_model
from lstm_numba.interop.onnx.nodes import NodeReader
from lstm_numba.interop.onnx.nodes import describe as describe_node
from lstm_numba.interop.selection import Head, find_head, heads, select
from lstm_numba.interop.state_dict import Description, describe
from lstm_numba.wording import plural

#: Linear layers at most, with each of which a layer is tried that cannot be loaded alone.
_TRIED = 20


class FoundTensor(NamedTuple):
    """A tensor in a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class FoundLayer(NamedTuple):
    """A recurrent layer in a file.

    Parameters
    ----------
    label : str
        What its names begin with, or an ONNX node's place and name.
    what : str
        Cell and sizes, or why it cannot be loaded.
    command : str
        The Python call that loads it; empty where it cannot be loaded.
    heads : tuple of str
        Linear layers in the file that fit its output: values of `head`.
    """

    label: str
    what: str
    command: str
    heads: tuple[str, ...] = ()


class Inspection(NamedTuple):
    """What a weights file holds; ``print`` shows it as a table.

    Parameters
    ----------
    path : str
    kind : str
        Format.
    tensors : tuple of FoundTensor
    layers : tuple of FoundLayer
    notes : tuple of str
        What must be known to get the network's numbers.
    """

    path: str
    kind: str
    tensors: tuple[FoundTensor, ...]
    layers: tuple[FoundLayer, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self._lines(), *self._layer_lines(), *(f"note: {note}" for note in self.notes)])

    def _lines(self) -> list[str]:
        count = f", {plural(len(self.tensors), 'tensor')}" if self.tensors else ""
        lines = [f"{self.path}: {self.kind}{count}"]
        names = [printable(tensor.name, 80) for tensor in self.tensors]
        width = max(map(len, names), default=0)
        return lines + [
            f"  {name:{width}}  {tensor.dtype:9} {_shape(tensor.shape)}"
            for name, tensor in zip(names, self.tensors, strict=True)
        ]

    def _layer_lines(self) -> list[str]:
        lines = [plural(len(self.layers), "recurrent layer") if self.layers else "no recurrent layer"]
        for layer in self.layers:
            label = printable(layer.label, 80)
            lines.append(f"  {label}: {layer.what}" if label else f"  {layer.what}")
            lines += [f"    {layer.command}"] if layer.command else []
            fits = ", ".join(f"head={head!r}" for head in layer.heads)
            lines += [f"    linear layers that fit: {printable(fits)}"] if fits else []
        return lines


def inspect_weights(path: str | os.PathLike[str]) -> Inspection:
    """What a weights file holds, what of it looks like a recurrent layer, and the calls that would load it.

    Parameters
    ----------
    path : path
        Of any format that `load_weights` or `load_onnx` takes.

    Returns
    -------
    Inspection
        Its ``print`` is a table.

    Raises
    ------
    WeightsError
        The file is missing, damaged or something else; the message names it.

    Examples
    --------
    >>> import lstm_numba as ln
    >>> print(ln.inspect_weights("checkpoint20.npz"))  # doctest: +SKIP
    """
    if Path(path).suffix == ".onnx":
        return _onnx(path)
    contents = read_contents(path)
    tensors = _tensors(contents)
    if has_keras_names(contents.tensors):
        layer = FoundLayer("", "the lists of Keras' layers", f"ln.load_weights({str(path)!r})")
        return Inspection(str(path), contents.kind, tensors, (layer,), contents.notes)
    found, linear = groups(contents.tensors), _linear_layers(contents, str(path))
    layers = tuple(_layer(contents, prefix, len(found) == 1, linear, str(path)) for prefix in sorted(found))
    notes = contents.notes_beside({name for head in linear.values() for name in head.used})
    return Inspection(str(path), contents.kind, tensors, layers, notes)


def _onnx(path: str | os.PathLike[str]) -> Inspection:
    """The recurrent nodes of an ONNX model; tensors only of one that this library wrote, which names them."""
    model = open_model(path)
    with naming(path):
        own, records = read_onnx_model(model.proto), NodeReader(model).records()
    layers = []
    if own is not None:
        layers.append(
            _layer(own, LAYERS, True, {}, str(path))._replace(command=f"ln.load_onnx({str(path)!r})")
        )
    for record in records:
        choice = "" if len(records) == 1 else f", node={record.number}"
        command = "" if record.error else f"ln.load_onnx({str(path)!r}{choice})"
        what = describe_node(record) if record.error is None else f"{describe_node(record)}: {record.error}"
        layers.append(FoundLayer("", what, command))
    return Inspection(str(path), "onnx", _tensors(own), tuple(layers), ())


def _tensors(contents: Contents | None) -> tuple[FoundTensor, ...]:
    if contents is None:
        return ()
    return tuple(
        FoundTensor(name, array.shape, array.dtype.names[0] if array.dtype.names else array.dtype.name)
        for name, array in contents.tensors.items()
    )


def _linear_layers(contents: Contents, path: str) -> dict[str, Head]:
    """What may be linear layers, by name."""
    found = {}
    for name in heads(contents.tensors):
        with contextlib.suppress(WeightsError):
            found[name] = find_head(contents.tensors, name, path, allow_nonfinite=True)
    return found


def _layer(contents: Contents, prefix: str, alone: bool, linear: Mapping[str, Head], path: str) -> FoundLayer:
    """A layer and the call that loads it, with the linear layer where it cannot be loaded without."""
    arguments, refusal = [repr(path)] + ([] if alone else [f"prefix={prefix!r}"]), ""
    for head in (None, *itertools.islice(linear, _TRIED)):
        try:
            known = () if head is None else linear[head].used
            selected = select(contents, path, prefix=prefix, known=known)
            found = describe(selected.params, path, selected.cell)
        except WeightsError as error:
            refusal = refusal or str(error).removeprefix(f"{path}: ")
            continue
        fitting = tuple(name for name, own in linear.items() if own.weight.shape[1] == found.sizes.outputs)
        if head is None or head in fitting:
            arguments += [] if head is None else [f"head={head!r}"]
            return FoundLayer(prefix, _described(found), f"ln.load_weights({', '.join(arguments)})", fitting)
    return FoundLayer(prefix, refusal, "")


def _described(found: Description) -> str:
    sizes = found.sizes
    parts = [
        "bidirectional " * (sizes.directions == 2) + found.cell,
        plural(sizes.inputs, "input"),
        f"{sizes.layers} x {plural(sizes.hidden, 'unit')}",
        f"projected to {sizes.projected}" * bool(sizes.projected),
        "no bias" * (not found.bias),
        found.dtype.name,
    ]
    return ", ".join(part for part in parts if part)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"
