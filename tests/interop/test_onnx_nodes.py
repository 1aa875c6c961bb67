"""Single recurrent nodes out of bigger ONNX models, wherever they stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_tools import assert_same, layer
from onnx_graphs import (
    between,
    branches,
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
from onnx_models import change, in_runtime, onnx

import lstm_numba as ln
from lstm_numba.errors import WeightsWarning
from lstm_numba.interop.onnx.layer_import import read_onnx
from lstm_numba.interop.onnx.nodes import describe, list_nodes
from lstm_numba.interop.state_dict import cell_name

# What a model computes besides is not what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::lstm_numba.errors.WeightsWarning")


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


def test_initializers_listed_as_inputs(tmp_path: Path) -> None:
    """As files before IR version 4 have it; the file gives them a value all the same."""
    rnn = layer("lstm")
    path = between(rnn, tmp_path)

    def list_them(graph: Any) -> None:
        value = onnx.helper.make_tensor_value_info
        graph.input.extend([value(t.name, t.data_type, list(t.dims)) for t in graph.initializer])

    change(path, list_them)
    assert_same(ln.load_onnx(path), rnn)


def test_a_model_that_is_a_layer_is_read_as_a_whole(tmp_path: Path) -> None:
    rnn, path = layer("lstm", 2), tmp_path / "m.onnx"
    ln.save_onnx(rnn, path)
    assert_same(ln.load_onnx(path), rnn)
    assert_same(ln.load_onnx(path, node=[0, 1]), rnn)
    assert read_onnx(path).notes == ()
    assert read_onnx(path, node=1).notes == ()
    only = layer("gru")
    found, (note,) = read_onnx(between(only, tmp_path))
    assert_same(found, only)
    assert "computes more (Relu: only LSTM, GRU, RNN and nodes that move numbers are read)" in note
    with pytest.warns(WeightsWarning, match="computes more"):
        assert_same(ln.load_onnx(between(only, tmp_path)), only)
    assert ln.load_onnx(between(only, tmp_path), node=0, batch_first=True).batch_first
    ln.save_onnx(rnn, path)
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
        r"computes more than stacked layers \(its main graph holds no LSTM, GRU or RNN\); "
        r"load its recurrent nodes one by one, or stacked ones together by a list of them; "
        r"choose by node=NUMBER or node='NAME' of 2: 0: 'b\.node' in If_0/else_branch, GRU I=3 H=5, forward; "
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
    node, weights = recurrent(rnn, tmp_path)
    node.input[2] = "x" if body is body_of_a_scan else "going"
    write(path, body(node, weights))
    refused(path, f"GRU node: R: '{node.input[2]}' is an input, which has no value in the file")


def test_functions(tmp_path: Path) -> None:
    """A function called twice with other weights each, and one inside that turns the weights round."""
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
    run = function("OwnLSTM", ["x", "wt", "r", "b"], ["a.y"], [turned, node], "units", "bound")
    for t in (a["W"], b["W"]):
        t.CopyFrom(tensor(t.name, onnx.numpy_helper.to_array(t).swapaxes(1, 2)))
    calls = [
        make("OwnLSTM", ["x", "a.W", "a.R", "a.B"], ["y1"], "once", domain="own", units=5),
        make("OwnLSTM", ["y1", "b.W", "b.R"], ["y2"], domain="own", units=5),
    ]
    path = write(tmp_path / "m.onnx", graph_of(calls, [*a.values(), *b.values()], ["x"], ["y2"]), [flip, run])
    onnx.checker.check_model(str(path))
    assert [(r.where, r.error) for r in list_nodes(path)] == [("once", None), ("OwnLSTM_1", None)]
    assert_same(ln.load_onnx(path, node=0), first)
    assert_same(ln.load_onnx(path, node=1), second)
    refused(path, r"node: 2 nodes are called 'a\.node'; choose", node="a.node")
    change(path, lambda graph: graph.node[1].attribute[0].__setattr__("i", 6))
    assert "hidden_size is 6, R is of 5" in str(list_nodes(path)[1].error)
    path.write_bytes(path.read_bytes().replace(b"hidden_size", b"hidden_siz\xff"))
    refused(path, "damaged: a name in it is not text", node=0)
    path = write(path, graph_of(calls, [*a.values(), *b.values()], ["x"], ["y2"]), [run])
    refused(path, r"W: comes from own\.Flip '', which does more than move numbers", node=0)
    run.node[1].input[1] = "a.W"  # of the caller, which a function does not see
    path = write(path, graph_of(calls, [*a.values(), *b.values()], ["x"], ["y2"]), [flip, run])
    refused(path, r"W: 'a\.W': nothing gives it", node=0)


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
    refused(path, "no recurrent node or output of one is called ''", node="")
    path.write_bytes(path.read_bytes().replace(b"final", b"fin\xffl"))
    with pytest.raises(ValueError, match=r"m\.onnx: damaged: a name in it is not text|'fin") as caught:
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
