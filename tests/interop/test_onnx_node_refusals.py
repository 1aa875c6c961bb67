"""What is not read of bigger ONNX models, in one line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_tools import assert_same, layer
from onnx_graphs import (
    between,
    chained,
    function,
    graph_of,
    make,
    recurrent,
    refused,
    tensor,
    whole,
    write,
)
from onnx_models import change, onnx, set_attribute

import lstm_numba as ln
from lstm_numba.interop.onnx.nodes import list_nodes

# What a model computes besides is not what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::lstm_numba.errors.WeightsWarning")


def named(graph: Any, name: str) -> Any:
    """A constant."""
    (found,) = [t for t in graph.initializer if t.name == name]
    return found


def moved(graph: Any, *nodes: Any, **constants: Any) -> None:
    """W comes from other nodes: the tensor is called "given" instead."""
    named(graph, "W").name = "given"
    graph.initializer.extend([tensor(name, array) for name, array in constants.items()])
    for node in reversed(nodes):
        graph.node.insert(0, node)


def operator(graph: Any, kind: str, domain: str) -> None:
    """The recurrent node is something else."""
    graph.node[1].op_type, graph.node[1].domain = kind, domain


def sparse(graph: Any) -> None:
    """W is a sparse tensor."""
    values, places = tensor("W", np.ones(1, np.float32)), tensor("places", whole(0))
    graph.initializer.remove(named(graph, "W"))
    graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, [1, 20, 3]))


#: What is done to a model of an LSTM between others -> what the message says.
FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "an input": (
        lambda g: g.node[1].input.__setitem__(1, "input"),
        "LSTM node: W: 'input' is an input, which",
    ),
    "moved input": (
        lambda g: moved(g, make("Transpose", ["input"], ["between"]), make("Squeeze", ["between"], ["W"])),
        "LSTM node: W: 'input' is an input, which has no value in the file",
    ),
    "size of an input": (
        lambda g: moved(g, make("Shape", ["input"], ["s"]), make("Reshape", ["given", "s"], ["W"])),
        "W: 'input' is an input",
    ),
    "computed": (lambda g: g.node[1].input.__setitem__(2, "x"), "R: comes from Relu '', which does more"),
    "sum": (lambda g: moved(g, make("Add", ["given", "given"], ["W"])), "W: Add: only"),
    "dequantized": (
        lambda g: moved(g, make("DequantizeLinear", ["given", "given"], ["W"])),
        "W: comes from DequantizeLinear '', which .*; quantized weights are not read",
    ),
    "itself": (lambda g: moved(g, make("Identity", ["W"], ["W"])), "W: 'W' depends on itself"),
    "in a circle": (
        lambda g: moved(
            g, make("Identity", ["b"], ["W"]), make("Identity", ["c"], ["b"]), make("Identity", ["b"], ["c"])
        ),
        "depends on itself",
    ),
    "nothing": (lambda g: g.node[1].input.__setitem__(2, "none"), "R: 'none': nothing gives it"),
    "missing": (lambda g: g.node[1].input.__setitem__(2, ""), "R is missing"),
    "no inputs": (lambda g: g.node[1].ClearField("input"), "W is missing"),
    "no input of a node": (lambda g: moved(g, make("Identity", [""], ["W"])), "W is missing"),
    "no inputs of a node": (lambda g: moved(g, make("Identity", [], ["W"])), "W: Identity"),
    "twice": (lambda g: g.node.insert(0, make("Identity", ["R"], ["W"])), "W: 'W' is given twice"),
    "sparse": (sparse, "W: 'W' is sparse"),
    "whole numbers": (
        lambda g: named(g, "W").CopyFrom(tensor("W", np.ones((1, 20, 3), "i4"))),
        "W is not a const",
    ),
    "shape": (lambda g: named(g, "W").CopyFrom(tensor("W", np.ones((1, 9, 3), "f4"))), "W: expected shape"),
    "huge tensor": (lambda g: named(g, "W").dims.__setitem__(0, 1 << 60), "tensors of more than 33554432"),
    "negative": (lambda g: named(g, "W").dims.__setitem__(0, -1), "W: a tensor of shape"),
    "huge": (
        lambda g: moved(g, make("Expand", ["given", "s"], ["W"]), s=whole(1 << 40, 20, 3)),
        "W: Expand: tensors of more than 33554432 numbers",
    ),
    "huge together": (
        lambda g: moved(
            g,
            make("Expand", ["given", "s"], ["v0"]),
            *[make("Concat", [f"v{n}"] * 4, [f"v{n + 1}"], axis=0) for n in range(20)],
            make("Identity", ["v20"], ["W"]),
            s=whole(1000, 20, 3),
        ),
        "W: Concat: tensors of more than",
    ),
    "huge fill": (
        lambda g: moved(g, make("ConstantOfShape", ["s"], ["W"]), s=whole(1 << 62, 1 << 62)),
        "W: ConstantOfShape: tensors of more than",
    ),
    "words": (
        lambda g: moved(g, make("Constant", [], ["W"], value_strings=[b"a"])),
        "W: Constant: holds no numbers",
    ),
    "a function's attribute": (
        lambda g: g.node[1].attribute.append(
            onnx.AttributeProto(name="clip", ref_attr_name="clip", type=onnx.AttributeProto.FLOAT)
        ),
        "LSTM: attribute clip is of a kind that is not read",
    ),
    "not finite": (
        lambda g: named(g, "R").CopyFrom(tensor("R", np.full((1, 20, 5), np.inf, "f4"))),
        "R: .* not fin",
    ),
    "backwards": (
        lambda g: set_attribute(g, "direction", "reverse"),
        "direction=reverse: no layer here runs backwards alone; make it forward in the file, and turn round",
    ),
    "layout": (lambda g: set_attribute(g, "layout", 2), "layout: expected 0 or 1, got 2"),
    "direction": (lambda g: set_attribute(g, "direction", "up"), "direction=up: expected forward or bidir"),
    "other domain": (
        lambda g: operator(g, "LSTM", "com.example"),
        r"holds no LSTM, GRU or RNN node; com\.example\.LSTM: no operator of ONNX' own",
    ),
    "quantized": (
        lambda g: operator(g, "DynamicQuantizeLSTM", "com.microsoft"),
        r"node; com\.microsoft\.DynamicQuantizeLSTM: quantized networks are not read",
    ),
    "quantized another way": (lambda g: operator(g, "QLinearGRU", ""), "QLinearGRU: quantized networks"),
    "none": (lambda g: g.node.pop(1), "holds no LSTM, GRU or RNN node$"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_refusals(fault: str, tmp_path: Path) -> None:
    how, message = FAULTS[fault]
    path = between(layer("lstm"), tmp_path)
    change(path, how)
    refused(path, message)
    refused(path, message, node=0)
    errors = [record.error for record in list_nodes(path)]
    assert all(error and "\n" not in error for error in errors)
    assert len(errors) == (fault != "none")


@pytest.mark.parametrize("layers", [1, 2])
def test_not_finite_where_allowed(layers: int, tmp_path: Path) -> None:
    """One node of a model, and a model that is two layers."""
    rnn, path = layer("gru", layers), tmp_path / "whole.onnx"
    rnn.params["bias_hh_l0"][3] = np.nan
    ln.save_onnx(rnn, path)
    path = path if layers > 1 else between(rnn, tmp_path)
    refused(path, "B: holds numbers that are not finite")
    assert_same(ln.load_onnx(path, allow_nonfinite=True), rnn)


def test_one_that_is_not_read_among_others(tmp_path: Path) -> None:
    path = chained(["gru", "gru"], [3, 5], tmp_path)
    change(path, lambda g: operator(g, "DynamicQuantizeGRU", "com.microsoft"))
    refused(path, r"1: '1\.node', com\.microsoft\.DynamicQuantizeGRU, not read$")
    refused(path, r"com\.microsoft\.DynamicQuantizeGRU 1\.node: quantized networks are not read", node=1)
    assert ln.load_onnx(path, node=0).input_size == 3
    records = list_nodes(path)
    assert records[1].operator == "com.microsoft.DynamicQuantizeGRU"
    assert (records[1].cell, records[1].inputs) == (None, None)


def field(number: int, size: int) -> bytes:
    """The head of a part of a protobuf message."""
    head = bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size])


def test_graphs_inside_graphs(tmp_path: Path) -> None:
    """What protobuf reads is read; deeper, it is refused before anything of it is looked at."""
    rnn, path = layer("lstm"), tmp_path / "m.onnx"
    node, weights = recurrent(rnn, tmp_path)
    inner = graph_of([node])
    for number in range(20):
        inner = graph_of([make("If", ["c"], [f"z{number}"], f"n{number}", then_branch=inner)])
    inner.initializer.extend(weights.values())
    write(path, inner)
    assert_same(ln.load_onnx(path), rnn)
    assert list_nodes(path)[0].where == "/".join(f"n{number}/then_branch" for number in range(19, -1, -1))
    parts: list[bytes] = []
    size = 0
    for _ in range(10_000):
        for number in (6, 5, 1):  # an attribute's graph, a node's attribute, a graph's node
            parts.append(field(number, size))
            size += len(parts[-1])
    path.write_bytes(field(7, size) + b"".join(reversed(parts)))
    for read in (ln.load_onnx, list_nodes):
        with pytest.raises(ValueError, match=r"m\.onnx: damaged, or not an ONNX model"):
            read(path)


def test_functions_that_never_end(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"

    def call(name: str, count: int = 1) -> list[Any]:
        return [make(name, ["x"], [f"y{n}"], domain="own") for n in range(count)]

    itself = function("F", ["x"], ["y0"], call("F"))
    write(path, graph_of(call("F"), (), ["x"], ["y0"]), [itself])
    refused(path, "graphs and functions more than 100 deep inside each other", node=0)
    chain = [function(f"F{n}", ["x"], ["y0"], call(f"F{n + 1}", 16)) for n in range(16)]
    write(path, graph_of(call("F0"), (), ["x"], ["y0"]), chain)
    refused(path, r"more than 131072 nodes of functions, counted at each call", node=0)
    endless = [function("G", ["x"], ["x"], [])]
    node, weights = recurrent(layer("gru"), tmp_path)
    node.input[1] = "loop"
    nodes = [make("G", ["loop"], ["loop"], domain="own"), node]
    write(path, graph_of(nodes, weights.values(), ["x"], ["y"]), endless)
    refused(path, "GRU node: W: 'loop': nothing gives it", node=0)
    own = function("LSTM", ["x"], ["y0"], [])
    own.domain = ""
    write(path, graph_of(nodes, weights.values(), ["x"], ["y"]), [own])
    refused(path, "LSTM: a function of the model by a standard operator's name", node=0)
    ln.save_onnx(layer("lstm"), path)
    model = onnx.load_model_from_string(path.read_bytes())
    write(path, model.graph, [own])
    refused(path, "LSTM: a function of the model by a standard operator's name")
