"""All parameters of an ONNX model that `lstm_numba.interop.onnx.model_export` wrote."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lstm_numba.cells.parameters import suffix
from lstm_numba.errors import WeightsError, printable
from lstm_numba.interop.files.contents import Array, Contents
from lstm_numba.interop.onnx.graph import naming, open_model
from lstm_numba.interop.onnx.layer_export import Node, attributes_of_node, node_of, unpacked
from lstm_numba.interop.onnx.model_export import CELL_KEY, LAYERS, MODEL_KEY
from lstm_numba.interop.onnx.operators import attributes_of, constant

#: Names of the parameters that are not the recurrent layers'; a tied matrix is the first alone.
_OTHERS = ("embedding.weight", "output.weight", "output.bias")
#: Beginnings of the names of a model's constants -> what it computes with them.
_PARTS = {
    "input": "standardises the input",
    "embedding": "Embedding",
    "output": "Linear",
    "target": "gives the data's units",
}
#: Place of each of a node's constants among its inputs.
_PLACES = {"W": 1, "R": 2, "B": 3, "P": 7}


def open_own(path: str | os.PathLike[str]) -> Contents | None:
    """Read the file of a model, as `read_onnx_model` does.

    Raises
    ------
    WeightsError
        It is missing or damaged, or the package ``onnx`` is not installed; the message names it.
    """
    model = open_model(path)
    with naming(path):
        return read_onnx_model(model.proto)


def read_onnx_model(model: Any) -> Contents | None:
    """Read the parameters of a model's file.

    Parameters
    ----------
    model : onnx.ModelProto

    Returns
    -------
    Contents or None
        Under PyTorch's names: ``embedding.weight``, ``rnn.weight_ih_l0``, ..., ``output.weight``,
        ``output.bias``. None for a file of another program, or of a layer.

    Raises
    ------
    WeightsError
        Its layers are not those of the cell that it names.
    """
    facts = {entry.key: entry.value for entry in model.metadata_props}
    if MODEL_KEY not in facts:
        return None
    cell = str(facts.get(CELL_KEY, ""))
    try:
        node = node_of(cell)
    except ValueError as error:
        raise WeightsError(f"damaged: cell {printable(cell, 60)}: {printable(str(error), 80)}") from None
    if node is None:
        raise WeightsError(f"damaged: ONNX has no cell {printable(cell, 60)}")
    return Contents("onnx", _tensors(model.graph, node), {"": cell}, around=_around(model.graph))


def _around(graph: Any) -> dict[str, str]:
    """What a model computes around its recurrent layers, by what the names of its constants begin with."""
    starts = {tensor.name.partition(".")[0] for tensor in graph.initializer}
    return {name: what for name, what in _PARTS.items() if name in starts}


def _tensors(graph: Any, node: Node) -> dict[str, Array]:
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = {name: constant(stored[name], name) for name in _OTHERS if name in stored}
    layers = [own for own in graph.node if own.op_type == node.operator]
    for number, layer in enumerate(layers):
        what, names = f"{node.operator} {number}", list(layer.input)
        arrays = {
            key: constant(stored[names[place]], names[place])
            for key, place in _PLACES.items()
            if place < len(names) and names[place] in stored
        }
        _check(node, arrays, attributes_of(layer), what)
        for direction, params in enumerate(unpacked(node, arrays)):
            end = suffix(number, direction)
            found.update({f"{LAYERS}{name}{end}": array for name, array in params.items()})
    return found


def _check(node: Node, arrays: dict[str, Array], attributes: dict[str, Any], what: str) -> None:
    """Refuse a node that does not compute the cell."""
    if not {"W", "R"} <= arrays.keys() or ("P" in arrays) != bool(node.peepholes):
        raise WeightsError(f"damaged: {what}: its constants are not those of the cell")
    w, r = arrays["W"], arrays["R"]
    hidden = r.shape[-1] if r.ndim else 0
    directions, rows = len(r) if r.ndim else 0, len(node.gates) * hidden
    shapes: dict[str, tuple[int, ...]] = {
        "R": (directions, rows, hidden),
        "W": (directions, rows, w.shape[-1] if w.ndim else 0),
        "B": (directions, 2 * rows),
        "P": (directions, len(node.peepholes) * hidden),
    }
    for key, array in arrays.items():
        if array.shape != shapes[key] or not array.size or array.dtype.kind != "f":
            raise WeightsError(
                f"damaged: {what}: {key}: expected shape {shapes[key]}, got {array.dtype} {array.shape}"
            )
    expected = attributes_of_node(node, hidden, directions)
    if directions not in (1, 2) or attributes != {key: _stored(value) for key, value in expected.items()}:
        raise WeightsError(f"damaged: {what}: its attributes are not those of the cell")


def _stored(value: Any) -> Any:
    """An attribute as it comes out of a file, which holds numbers as float32."""
    if isinstance(value, list):
        return list(map(_stored, value))
    return float(np.float32(value)) if isinstance(value, float) else value
