"""Models with recurrent nodes somewhere among others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import onnx

import lstm_numba as ln

make = onnx.helper.make_node


def recurrent(rnn: Any, folder: Path, prefix: str = "", **attributes: Any) -> tuple[Any, dict[str, Any]]:
    """A layer as a node, and its weights by their letters.

    The node reads ``x``; its weights, its output and its own name have the prefix.
    """
    ln.save_onnx(rnn, folder / "part.onnx", initial_state=False)
    graph = onnx.load_model_from_string((folder / "part.onnx").read_bytes()).graph
    (node,) = [n for n in graph.node if n.op_type in ("LSTM", "GRU", "RNN")]
    weights = {t.name.removeprefix("l0."): t for t in graph.initializer if t.name.startswith("l0.")}
    for letter, tensor in weights.items():
        tensor.name = prefix + letter
    inputs = [f"{prefix}{letter}" if letter in weights else "" for letter in "WRB"]
    inputs = ["x", *inputs, *(["", "", "", f"{prefix}P"] if "P" in weights else [])]
    made = onnx.helper.make_node(node.op_type, inputs, [f"{prefix}y"], f"{prefix}node")
    made.attribute.extend([*node.attribute, *(onnx.helper.make_attribute(*a) for a in attributes.items())])
    return made, weights


def graph_of(nodes: list[Any], tensors: Any = (), inputs: Any = (), outputs: Any = ()) -> Any:
    """A graph with float32 inputs of three dimensions and outputs of four."""
    value = onnx.helper.make_tensor_value_info
    ends = [[value(name, 1, [None] * n) for name in names] for n, names in ((3, inputs), (4, outputs))]
    return onnx.helper.make_graph(nodes, "graph", *ends, list(tensors))


def write(path: Path, graph: Any, functions: Any = ()) -> Path:
    """A model of a graph and functions of the domain ``own``."""
    operators = [onnx.helper.make_opsetid(domain, version) for domain, version in (("", 17), ("own", 1))]
    model = onnx.helper.make_model(graph, functions=list(functions), opset_imports=operators, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def branches(first: Any, second: Any, folder: Path) -> Path:
    """A layer in each branch of an `If`: its weights in the graph around it, or constants inside."""
    a, outside = recurrent(first, folder, "a.")
    b, inside = recurrent(second, folder, "b.")
    held = [make("Constant", [], [tensor.name], value=tensor) for tensor in inside.values()]
    branch = make(
        "If",
        ["chosen"],
        ["y"],
        "If_0",
        then_branch=graph_of([a], outputs=[a.output[0]]),
        else_branch=graph_of([*held, b], outputs=[b.output[0]]),
    )
    nodes = [make("Relu", ["input"], ["x"]), branch, make("Sigmoid", ["y"], ["end"])]
    graph = graph_of(nodes, outside.values(), ["input"], ["end"])
    graph.input.append(onnx.helper.make_tensor_value_info("chosen", onnx.TensorProto.BOOL, []))
    return write(folder / "m.onnx", graph)


def tensor(name: str, array: Any) -> Any:
    """A constant of a graph."""
    return onnx.numpy_helper.from_array(np.asarray(array), name)


def function(name: str, inputs: list[str], outputs: list[str], nodes: list[Any], *attributes: str) -> Any:
    """A function of a model's own."""
    operators = [onnx.helper.make_opsetid(domain, version) for domain, version in (("", 17), ("own", 1))]
    return onnx.helper.make_function("own", name, inputs, outputs, nodes, operators, list(attributes))


def between(rnn: Any, folder: Path, **attributes: Any) -> Path:
    """A node between others that do more than move numbers."""
    node, weights = recurrent(rnn, folder, **attributes)
    nodes = [make("Relu", ["input"], ["x"]), node, make("Sigmoid", ["y"], ["end"])]
    return write(folder / "m.onnx", graph_of(nodes, weights.values(), ["input"], ["end"]))


def refused(path: Path, message: str, **options: Any) -> None:
    """Loading raises one line that names the file."""
    with pytest.raises(ValueError, match=message) as caught:
        ln.load_onnx(path, **options)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def chained(kinds: list[str], sizes: list[int], folder: Path, **attributes: Any) -> Path:
    """Nodes of 5 units that read so many features; attributes are the last one's."""
    nodes, tensors = [], []
    for n, (kind, features) in enumerate(zip(kinds, sizes, strict=True)):
        more = attributes if n == len(kinds) - 1 else {}
        part = ln.make_layer(kind, features, 5, seed=n, bias=n != 1)
        node, weights = recurrent(part, folder, f"{n}.", **more)
        nodes.append(node)
        tensors += weights.values()
    return write(folder / "m.onnx", graph_of(nodes, tensors, ["x"], ["0.y"]))


def whole(*numbers: int) -> Any:
    """Sizes, axes or places."""
    return np.array(numbers, np.int64)
