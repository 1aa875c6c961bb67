"""Single recurrent nodes out of bigger ONNX models, wherever they stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_tools import assert_same, layer
from onnx_models import branches, change, graph_of, in_runtime, onnx, recurrent, set_attribute, write

import lstm_numba as ln
from lstm_numba.interop.onnx_nodes import describe, list_nodes
from lstm_numba.interop.state_dict import cell_name

make = onnx.helper.make_node


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


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", ["lstm", "peephole", "gru", "gru-reset-before", "rnn", "rnn-relu"])
def test_the_only_node_of_a_model(name: str, both: bool, bias: bool, tmp_path: Path) -> None:
    rnn = layer(name, 1, both, bias)
    path = between(rnn, tmp_path)
    onnx.checker.check_model(str(path))
    for choice in ({}, {"node": 0}, {"node": np.int64(0)}, {"node": "node"}, {"node": "y"}, {"node": [0]}):
        assert_same(ln.load_onnx(path, **choice), rnn)
    (record,) = list_nodes(path)
    assert record[:5] == (0, "node", ("y",), "", {"p": "LSTM", "l": "LSTM", "g": "GRU", "r": "RNN"}[name[0]])
    assert record[5:] == (name, 3, 5, 1 + both, name == "peephole", False, None)


def test_variants_and_layout(tmp_path: Path) -> None:
    path = between(layer("lstm", 1, True), tmp_path, clip=3.0, input_forget=1, layout=1)
    rnn = ln.load_onnx(path)
    assert cell_name(rnn) == "lstm,clip=3.0,input_forget"
    assert rnn.batch_first
    assert list_nodes(path)[0].batch_first
    assert describe(list_nodes(path)[0]) == "0: 'node', LSTM I=3 H=5, both directions, batch first"


def test_what_surrounds_a_node_is_not_looked_at(tmp_path: Path) -> None:
    """Constant states that are not zero, lengths of somewhere, and nodes that no one here knows."""
    rnn = layer("lstm")
    path = between(rnn, tmp_path)

    def surround(graph: Any) -> None:
        graph.initializer.append(tensor("ones", np.ones((1, 2, 5), np.float32)))
        graph.initializer.append(tensor("lengths", np.ones(2, np.int32)))
        node = graph.node[1]
        node.input.extend(["lengths", "ones", "ones"])
        graph.node[0].domain, graph.node[0].op_type = "far.away", "Unheard"
        graph.node.insert(0, make("Conv", ["input", "nothing"], ["nowhere"]))

    change(path, surround)
    assert_same(ln.load_onnx(path), rnn)


def test_a_model_that_is_a_layer_is_read_as_a_whole(tmp_path: Path) -> None:
    rnn, path = layer("lstm", 2), tmp_path / "m.onnx"
    ln.save_onnx(rnn, path)
    assert_same(ln.load_onnx(path), rnn)
    assert_same(ln.load_onnx(path, node=[0, 1]), rnn)
    second = ln.load_onnx(path, node=1)
    assert (second.input_size, second.num_layers) == (5, 1)
    for name, array in second.params.items():
        assert array.tobytes() == rnn.params[name.replace("l0", "l1")].tobytes()


def test_branches_and_several_nodes(tmp_path: Path) -> None:
    first, second = layer("lstm", 1, True), layer("gru")
    path = branches(first, second, tmp_path)
    onnx.checker.check_model(str(path))
    records = list_nodes(path)
    # Attributes come in the order of the file.
    assert [r.where for r in records] == ["If_0/else_branch", "If_0/then_branch"]
    assert [(r.number, r.name, r.cell, r.directions) for r in records] == [
        (0, "b.node", "gru", 1),
        (1, "a.node", "lstm", 2),
    ]
    for choice, rnn in ((0, second), ("b.y", second), (1, first), ("a.node", first)):
        assert_same(ln.load_onnx(path, node=choice), rnn)
    refused(
        path,
        r"no layer as a whole \(its main graph holds no LSTM, GRU or RNN\); choose by node=NUMBER or node='NAME' "
        r"of 2: 0: 'b\.node' in If_0/else_branch, GRU I=3 H=5, forward; "
        r"1: 'a\.node' in If_0/then_branch, LSTM I=3 H=5, both directions$",
    )
    refused(path, r"node: expected a number from 0 to 1, got 2; choose by .* of 2: 0: 'b\.node'", node=2)
    refused(path, "node: no recurrent node or output of one is called 'c'; choose", node="c")
    refused(path, "no recurrent node or output of one is called ''", node="")
    refused(path, "layers of different kinds: gru and lstm", node=[0, 1])


def body_of_a_loop(node: Any, weights: dict[str, Any]) -> Any:
    """A `Loop` whose body holds a node, and some of its weights."""
    value = onnx.helper.make_tensor_value_info
    inside = graph_of([make("Identity", ["going"], ["on"]), node], [weights["W"]], (), ["y"])
    inside.input.extend([value("step", 7, []), value("going", 9, [])])
    inside.output.insert(0, value("on", 9, []))
    loop = make("Loop", ["", "always"], ["ys"], body=inside)
    outside = [t for letter, t in weights.items() if letter != "W"]
    return graph_of([loop], [*outside, tensor("always", True)], ["x"], ["ys"])


def body_of_a_scan(node: Any, weights: dict[str, Any]) -> Any:
    """A `Scan` whose body holds a node."""
    scan = make("Scan", ["xs"], ["ys"], "scan", body=graph_of([node], (), ["x"], ["y"]), num_scan_inputs=1)
    return graph_of([scan], weights.values(), ["xs"], ["ys"])


@pytest.mark.parametrize(
    ("body", "where"), [(body_of_a_loop, "Loop_0/body"), (body_of_a_scan, "scan/body")], ids=["Loop", "Scan"]
)
def test_bodies(body: Callable[..., Any], where: str, tmp_path: Path) -> None:
    rnn = layer("gru", 1, True)
    path = write(tmp_path / "m.onnx", body(*recurrent(rnn, tmp_path)))
    onnx.checker.check_model(str(path))
    assert_same(ln.load_onnx(path), rnn)
    assert list_nodes(path)[0].where == where


def test_functions(tmp_path: Path) -> None:
    """A function called twice with other weights each, and one inside that makes the weights what they are."""
    first, second = layer("lstm"), layer("lstm", dtype="float32", bias=False)
    second.params["weight_ih_l0"] += 1
    node, a = recurrent(first, tmp_path, "a.")
    _, b = recurrent(second, tmp_path, "b.")
    node.input[1:4] = ["w", "r", "b"]
    node.ClearField("attribute")
    own = onnx.AttributeProto(name="hidden_size", ref_attr_name="units", type=onnx.AttributeProto.INT)
    missing = onnx.AttributeProto(name="clip", ref_attr_name="bound", type=onnx.AttributeProto.FLOAT)
    node.attribute.extend([own, missing])
    turned = make("Flip", ["wt"], ["w"], domain="own")
    flip = function("Flip", ["in"], ["out"], [make("Transpose", ["in"], ["out"], perm=[0, 2, 1])])
    run = function("Run", ["x", "wt", "r", "b"], ["a.y"], [turned, node], "units", "bound")
    for t in (a["W"], b["W"]):
        t.CopyFrom(tensor(t.name, onnx.numpy_helper.to_array(t).swapaxes(1, 2)))
    calls = [
        make("Run", ["x", "a.W", "a.R", "a.B"], ["y1"], "once", domain="own", units=5),
        make("Run", ["y1", "b.W", "b.R"], ["y2"], domain="own", units=5),
    ]
    path = write(tmp_path / "m.onnx", graph_of(calls, [*a.values(), *b.values()], ["x"], ["y2"]), [flip, run])
    onnx.checker.check_model(str(path))
    assert [(r.where, r.error) for r in list_nodes(path)] == [("once", None), ("Run_1", None)]
    assert_same(ln.load_onnx(path, node=0), first)
    assert_same(ln.load_onnx(path, node=1), second)
    refused(path, r"node: 2 nodes are called 'a\.node'; choose", node="a.node")
    change(path, lambda graph: graph.node[1].attribute[0].__setattr__("i", 6))
    assert "hidden_size is 6, R is of 5" in str(list_nodes(path)[1].error)
    path = write(path, graph_of(calls, [*a.values(), *b.values()], ["x"], ["y2"]), [run])
    refused(path, r"W: comes from own\.Flip '', which does more than move numbers", node=0)


def whole(*numbers: int) -> Any:
    """Sizes, axes or places."""
    return np.array(numbers, np.int64)


#: W (1, 20, 3) -> what is stored in its place, and what makes W of it.
MOVES: dict[str, tuple[Callable[[Any], Any], list[Any], dict[str, Any]]] = {
    "Identity": (lambda w: w, [make("Identity", ["given"], ["W"])], {}),
    "Unsqueeze": (lambda w: w[0], [make("Unsqueeze", ["given", "axis"], ["W"])], {"axis": whole(0)}),
    "Squeeze": (lambda w: w[None], [make("Squeeze", ["given", "axis"], ["W"])], {"axis": whole(1)}),
    "Transpose": (lambda w: w.T, [make("Transpose", ["given"], ["W"])], {}),
    "Reshape": (lambda w: w.ravel(), [make("Reshape", ["given", "s"], ["W"])], {"s": whole(1, -1, 3)}),
    "gates in another order": (
        lambda w: np.concatenate([w[0, 10:15], w[0, :10], w[0, 15:]]),
        [
            make("Slice", ["given", "five", "fifteen", "zero"], ["middle"]),
            make("Slice", ["given", "zero", "five", "zero"], ["first"]),
            make("Slice", ["given", "fifteen", "end", "zero"], ["last"]),
            make("Concat", ["middle", "first", "last"], ["joined"], axis=0),
            make("Unsqueeze", ["joined", "zero"], ["W"]),
        ],
        {"zero": whole(0), "five": whole(5), "fifteen": whole(15), "end": whole(1 << 62)},
    ),
    "Split": (
        lambda w: np.concatenate([w + 1, w], 1),
        [make("Split", ["given"], ["other", "W"], axis=1)],
        {},
    ),
    "Gather": (
        lambda w: w[:, ::-1],
        [make("Gather", ["given", "back"], ["W"], axis=1)],
        {"back": whole(*range(19, -1, -1))},
    ),
    "Expand": (
        lambda w: w[0, :, 0],
        [
            make("Unsqueeze", ["given", "axes"], ["column"]),
            make("Expand", ["column", "sizes"], ["W"]),
        ],
        {"axes": whole(0, 2), "sizes": whole(1, 20, 3)},
    ),
    "Constant": (
        lambda w: w,
        [
            make("Constant", [], ["three"], value_ints=[1, 20, 3]),
            make("Constant", [], ["half"], value_float=0.5),
            make("Expand", ["half", "three"], ["W"]),
        ],
        {},
    ),
    "a chain of 10,000": (
        lambda w: w,
        [
            make("Identity", [f"v{n}" if n else "given"], [f"v{n + 1}" if n < 9999 else "W"])
            for n in range(10_000)
        ],
        {},
    ),
    "Cast": (lambda w: w.astype("f8"), [make("Cast", ["given"], ["W"], to=1)], {}),
    "Cast of float16": (lambda w: w.astype("f2"), [make("Cast", ["given"], ["W"], to=1)], {}),
    "Cast to float16": (lambda w: w, [make("Cast", ["given"], ["W"], to=10)], {}),
}


@pytest.mark.parametrize("move", list(MOVES))
def test_weights_behind_nodes_that_move_numbers(move: str, tmp_path: Path) -> None:
    """In the reverse of their order, which is no model's, but nothing here depends on it."""
    stored, nodes, constants = MOVES[move]
    rnn = layer("lstm")
    weight = rnn.params["weight_ih_l0"]
    if move == "Expand":
        weight[:] = weight[:, :1]
    if move == "Constant":
        weight[:] = 0.5
    if "float16" in move:
        weight[:] = weight.astype(np.float16)
    node, weights = recurrent(rnn, tmp_path)
    given = onnx.numpy_helper.to_array(weights.pop("W"))
    if move == "Cast to float16":
        given = given * np.float32(1 + 2.0**-20)  # rounds to what it was
    tensors = [*weights.values(), tensor("given", stored(given))]
    tensors += [tensor(name, array) for name, array in constants.items()]
    for number, order in enumerate((nodes, nodes[::-1])):
        graph = graph_of([make("Relu", ["input"], ["x"]), *order, node], tensors, ["input"], ["y"])
        path = write(tmp_path / f"m{number}.onnx", graph)
        assert_same(ln.load_onnx(path), rnn)


def test_what_onnx_runtime_makes_of_moved_weights(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    for move, (stored, nodes, constants) in MOVES.items():
        if move == "a chain of 10,000":
            continue
        given = np.random.default_rng(0).standard_normal((1, 20, 3)).astype(np.float32)
        node, weights = recurrent(layer("lstm"), tmp_path)
        del weights["W"]
        tensors = [*weights.values(), tensor("given", stored(given))]
        tensors += [tensor(name, array) for name, array in constants.items()]
        back = [make("Cast", ["W"], ["weights"], to=1)]
        graph = graph_of([*nodes, *back], tensors, (), ["weights"])
        graph.output[0].type.tensor_type.ClearField("shape")
        path = write(tmp_path / "w.onnx", graph)
        (expected,) = in_runtime(path, np.zeros(1, np.float32), [])
        path = write(tmp_path / "m.onnx", graph_of([*nodes, node], tensors, ["x"], ["y"]))
        order = [*range(5), *range(10, 20), *range(5, 10)]  # i o f c -> i f g o
        assert (ln.load_onnx(path, node=0).params["weight_ih_l0"] == expected[0][order]).all(), move


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16"])
def test_halves(kind: str, tmp_path: Path) -> None:
    rnn = layer("gru")
    for array in rnn.params.values():
        bits = array.view(np.uint32) & 0xFFFF0000
        array[...] = array.astype(np.float16) if kind == "FLOAT16" else bits.view(np.float32)
    path = between(rnn, tmp_path)

    def shorten(graph: Any) -> None:
        for t in graph.initializer:
            values = onnx.numpy_helper.to_array(t)
            short = onnx.helper.make_tensor(
                t.name, getattr(onnx.TensorProto, kind), values.shape, values.ravel()
            )
            t.CopyFrom(short)

    change(path, shorten)
    assert_same(ln.load_onnx(path), rnn)


def test_names(tmp_path: Path) -> None:
    rnn, other = layer("gru"), layer("lstm")
    odd = "a/b c:0\n\x1b[31mé\u202e'\"" + "y" * 300
    node, weights = recurrent(rnn, tmp_path, odd)
    nameless, more = recurrent(other, tmp_path)
    nameless.name = ""
    empty, _ = recurrent(other, tmp_path)
    empty.name, empty.output[0] = "", ""
    empty.output.append("final")
    twin, _ = recurrent(other, tmp_path)
    twin.name, twin.output[0] = node.name, "twin"
    tensors = [*weights.values(), *more.values()]
    path = write(tmp_path / "m.onnx", graph_of([node, nameless, empty, twin], tensors, ["x"], ["y"]))
    records = list_nodes(path)
    assert [r.name for r in records] == [f"{odd}node", "", "", f"{odd}node"]
    assert records[2].outputs == ("", "final")
    for record in records:
        assert describe(record).isprintable()
        assert len(describe(record)) < 150
    assert_same(ln.load_onnx(path, node=f"{odd}y"), rnn)
    assert_same(ln.load_onnx(path, node=0), rnn)
    assert_same(ln.load_onnx(path, node="y"), other)
    assert_same(ln.load_onnx(path, node="final"), other)
    assert_same(ln.load_onnx(path, node="twin"), other)
    refused(path, "2 nodes are called '[.][.][.]y", node=f"{odd}node")
    path.write_bytes(path.read_bytes().replace(b"final", b"fin\xffl"))
    with pytest.raises(ValueError, match=r"m\.onnx: damaged: a name in it is no text|'fin") as caught:
        ln.load_onnx(path, node="none")
    assert "\n" not in str(caught.value)


def test_many_nodes_are_not_all_listed(tmp_path: Path) -> None:
    node, weights = recurrent(layer("rnn"), tmp_path)
    nodes = []
    for n in range(30):
        nodes.append(type(node)())
        nodes[-1].CopyFrom(node)
        nodes[-1].output[0] = f"y{n}"
    path = write(tmp_path / "m.onnx", graph_of(nodes, weights.values(), ["x"], ["y0"]))
    refused(path, r"of 30: 0: .*; 7: 'node', RNN I=3 H=5, forward; \.\.\.$")
    assert len(list_nodes(path)) == 30


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


def test_a_stack_of_chosen_nodes(tmp_path: Path) -> None:
    path = chained(["gru", "gru", "gru"], [3, 5, 5], tmp_path)
    rnn = ln.load_onnx(path, node=[0, "1.y", 2])
    assert (rnn.num_layers, rnn.input_size, rnn.hidden_size) == (3, 3, 5)
    for n in range(3):
        part = ln.make_layer("gru", 5 if n else 3, 5, seed=n, bias=n != 1)
        for name, array in part.params.items():
            assert rnn.params[name.replace("l0", f"l{n}")].tobytes() == array.tobytes()
    assert not rnn.params["bias_ih_l1"].any()
    refused(path, r"weight_ih_l1: expected shape \(15, 5\), got \(15, 3\)", node=[2, 0])
    path = chained(["gru", "gru"], [3, 5], tmp_path, layout=1)
    refused(path, "node: of different layouts", node=[0, 1])


def test_wrong_choices(tmp_path: Path) -> None:
    path = between(layer("rnn"), tmp_path)
    for wrong in (1.0, True, b"node", {0}, [None], [[0]], []):
        with pytest.raises(TypeError, match="node: expected a number, a name or a list of them, got"):
            ln.load_onnx(path, node=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="node: expected an integer >= 0, got -1"):
        ln.load_onnx(path, node=-1)


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
        "W is no const",
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


def test_not_finite_where_allowed(tmp_path: Path) -> None:
    rnn = layer("gru")
    rnn.params["bias_hh_l0"][3] = np.nan
    whole_model = tmp_path / "whole.onnx"
    ln.save_onnx(rnn, whole_model)
    for path in (between(rnn, tmp_path), whole_model):
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
