"""ONNX models of layers and layers of ONNX models: the same bits, and ONNX Runtime's numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_tools import FORMS, assert_same, call, compare, layer, random_input
from onnx_models import change, dynamic, in_runtime, onnx, set_attribute

import lstm_numba as ln
from lstm_numba.nn.layers import CELL_NAMES
from lstm_numba.nn.recurrent import Recurrent


@FORMS
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_runtime_gives_the_same(
    name: str, batch_first: bool, layers: int, both: bool, bias: bool, tmp_path: Path
) -> None:
    rnn, path = layer(name, layers, both, bias, batch_first=batch_first), tmp_path / "m.onnx"
    ln.save_onnx(rnn, path)
    onnx.checker.check_model(str(path), full_check=True)
    for steps, batch in ((6, 4), (1, 1)):
        x, states = random_input(rnn, steps, batch)
        compare(in_runtime(path, x, states), call(rnn, x, states))
    back = ln.load_onnx(path)
    assert_same(back, rnn)
    assert back.batch_first == batch_first
    x, states = random_input(rnn)
    ln.save_onnx(rnn, path, initial_state=False, lengths=True)
    onnx.checker.check_model(str(path), full_check=True)
    lengths = [6, 2, 1, 5]
    zeros = [np.zeros_like(s) for s in states]
    compare(in_runtime(path, x, [], lengths), call(rnn, x, zeros, lengths))
    assert_same(ln.load_onnx(path), rnn)


@pytest.mark.parametrize("name", CELL_NAMES)
@pytest.mark.smoke
def test_float64_comes_back(name: str, tmp_path: Path) -> None:
    rnn = layer(name, 2, True, dtype="float64")
    ln.save_onnx(rnn, tmp_path / "m.onnx")
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    assert_same(ln.load_onnx(tmp_path / "m.onnx"), rnn)


def with_batch_layout(graph: Any) -> None:
    """Let a stack of one node work on (B, T, I) by itself."""
    set_attribute(graph, "layout", 1)
    (node,) = [n for n in graph.node if n.op_type == "LSTM"]
    (reshape,) = [n for n in graph.node if n.op_type == "Reshape"]
    node.input[0] = "x"
    reshape.input[0] = node.output[0]
    turn = onnx.helper.make_node
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([turn("Transpose", [f"{s}0"], [f"{s}_in"], perm=[1, 0, 2]) for s in "hc"])
    node.input[5], node.input[6] = "h_in", "c_in"
    node.output[1], node.output[2] = "h_out", "c_out"
    graph.node.extend([n for n in own if n.op_type != "Transpose"])
    graph.node.extend([turn("Transpose", [f"{s}_out"], [s], perm=[1, 0, 2]) for s in "hc"])


def test_layout_one(tmp_path: Path) -> None:
    # ONNX Runtime does not compute layout 1 on the CPU: the bits and the axes are what is checked.
    rnn, path = layer("lstm", 1, True, batch_first=True), tmp_path / "m.onnx"
    ln.save_onnx(rnn, path)
    change(path, with_batch_layout)
    onnx.checker.check_model(str(path), full_check=True)
    back = ln.load_onnx(path)
    assert_same(back, rnn)
    assert back.batch_first


def test_defaults_spelt_out_are_read(tmp_path: Path) -> None:
    for name, words in (
        ("lstm", ["Sigmoid", "Tanh", "Tanh"]),
        ("gru", ["Sigmoid", "Tanh"]),
        ("rnn", ["Tanh"]),
        ("rnn-relu", ["Relu"]),
    ):
        rnn, path = layer(name, 2, True), tmp_path / "m.onnx"
        ln.save_onnx(rnn, path)
        change(path, lambda graph, w=words: set_attribute(graph, "activations", w * 2))
        if name == "lstm":
            change(path, lambda graph: set_attribute(graph, "input_forget", 0))
        assert_same(ln.load_onnx(path), rnn)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn", "rnn-relu"])
def test_models_that_pytorch_writes(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for batch_first in (False, True):
        rnn, path = layer(name, 2, True, batch_first=batch_first), tmp_path / "m.onnx"
        module = ln.to_torch(rnn)
        x, states = random_input(rnn)
        given = tuple(map(torch.from_numpy, states))
        free = {"x": {1 - batch_first: "batch", int(batch_first): "steps"}}
        free |= {f"{s}0": {1: "batch"} for s in "hc"[: len(states)]}
        torch.onnx.export(
            module.eval(),
            (torch.from_numpy(x), given if len(given) > 1 else given[0]),
            path,
            input_names=list(free),
            dynamic_axes=free,
            dynamo=False,
        )
        compare(in_runtime(path, x, states), call(rnn, x, states))
        back = ln.load_onnx(path)
        assert_same(back, rnn)
        assert back.batch_first == batch_first


@pytest.mark.parametrize("tile", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_shapes_computed_from_free_sizes(name: str, tile: bool, tmp_path: Path) -> None:
    for batch_first in (False, True):
        rnn, path = layer(name, 2, True, batch_first=batch_first), tmp_path / "m.onnx"
        ln.save_onnx(rnn, path)
        change(path, lambda graph: dynamic(graph, tile))
        x, states = random_input(rnn)
        compare(in_runtime(path, x, []), call(rnn, x, [np.zeros_like(s) for s in states]))
        back = ln.load_onnx(path)
        assert_same(back, rnn)
        assert back.batch_first == batch_first


@pytest.mark.filterwarnings("ignore")
def test_free_sizes_by_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    for batch_first in (False, True):
        rnn, path = layer("lstm", 2, True, batch_first=batch_first), tmp_path / "m.onnx"
        x, _ = random_input(rnn)
        free = ({1 - batch_first: "batch"},)
        module = ln.to_torch(rnn).eval()
        torch.onnx.export(module, (torch.from_numpy(x),), dynamic_shapes=free, dynamo=True).save(path)
        assert_same(ln.load_onnx(path), rnn)


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("kind", [10, 16])
def test_halves_become_float32(kind: int, lists: bool, tmp_path: Path) -> None:
    """float16 and bfloat16, as raw bytes and as the lists of numbers that hold their bits."""
    rnn, path = layer("lstm", 2, True), tmp_path / "m.onnx"
    short = {name: np.asarray(array.view(np.uint32) >> 16, np.uint16) for name, array in rnn.params.items()}
    if kind == 10:
        short = {name: array.astype(np.float16).view(np.uint16) for name, array in rnn.params.items()}
    for name, bits in short.items():
        exact = bits.view(np.float16) if kind == 10 else (bits.astype(np.uint32) << 16).view(np.float32)
        rnn.params[name][...] = exact
    ln.save_onnx(rnn, path)

    def shorten(graph: Any) -> None:
        for tensor in graph.initializer:
            if tensor.data_type != 1:
                continue
            values = np.frombuffer(tensor.raw_data, np.float32)
            bits = values.astype(np.float16).view(np.uint16) if kind == 10 else values.view(np.uint32) >> 16
            tensor.data_type = kind
            tensor.ClearField("raw_data")
            if lists:
                tensor.int32_data.extend(int(n) for n in bits)
            else:
                tensor.raw_data = bits.astype("<u2").tobytes()

    change(path, shorten)
    assert_same(ln.load_onnx(path), rnn)


def separate_states(graph: Any) -> None:
    """Each layer's initial state is an input of its own, without the nodes that split and join."""
    kept = [n for n in graph.node if n.op_type not in ("Split", "Concat")]
    del graph.node[:], graph.input[1:], graph.output[1:]
    graph.node.extend(kept)
    for k in range(2):
        for s in "hc":
            value = onnx.helper.make_tensor_value_info
            graph.input.append(value(f"{s}0_{k}", 1, [2, "batch", 5]))
            graph.output.append(value(f"{s}_{k}", 1, [2, "batch", 5]))


def test_states_layer_by_layer(tmp_path: Path) -> None:
    rnn, path = layer("lstm", 2, True), tmp_path / "m.onnx"
    ln.save_onnx(rnn, path)
    change(path, separate_states)
    onnx.checker.check_model(str(path), full_check=True)
    assert_same(ln.load_onnx(path), rnn)


def test_lengths_of_one_layer_only_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    ln.save_onnx(layer("gru", 2), path, lengths=True)
    change(path, lambda graph: nodes(graph, "GRU")[1].input.__setitem__(4, ""))
    with pytest.raises(ValueError, match="sequence_lens differ from layer to layer"):
        ln.load_onnx(path)


def test_bias_of_one_layer_only(tmp_path: Path) -> None:
    rnn, path = layer("gru", 2), tmp_path / "m.onnx"
    ln.save_onnx(rnn, path)
    change(path, lambda graph: nodes(graph, "GRU")[1].input.__setitem__(3, ""))
    for name in ("bias_ih_l1", "bias_hh_l1"):
        rnn.params[name][:] = 0
    back = ln.load_onnx(path)
    assert_same(back, rnn)
    x, states = random_input(rnn)
    compare(in_runtime(path, x, states), call(back, x, states))


def rename(graph: Any, operator: str, new: str) -> None:
    """Make other operators of some."""
    for node in graph.node:
        if node.op_type == operator:
            node.op_type = new


def named(graph: Any, name: str) -> Any:
    """A constant."""
    (found,) = [t for t in graph.initializer if t.name == name]
    return found


def replace(graph: Any, name: str, array: Any) -> None:
    """Another constant."""
    named(graph, name).CopyFrom(onnx.numpy_helper.from_array(array, name))


def nodes(graph: Any, operator: str) -> list[Any]:
    """Nodes of an operator."""
    return [node for node in graph.node if node.op_type == operator]


def constant_state(graph: Any) -> None:
    """An initial state that is fixed, and not zero."""
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 1, 5), np.float32), "ones"))
    nodes(graph, "LSTM")[0].input[5] = "ones"


def swap_states(graph: Any) -> None:
    """Layers get each other's initial states."""
    first, second = nodes(graph, "LSTM")
    first.input[5], second.input[5] = second.input[5], first.input[5]


def only_first_steps(graph: Any, end: str) -> None:
    """Cut y to the first steps; how many is computed so that it is all at one size, or not at all."""
    make = onnx.helper.make_node
    for name, value in (("none", [0]), ("one", [1]), ("three", [3])):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), name))
    graph.node.extend(
        [
            make("Shape", ["x"], ["batch"], start=1, end=2),
            *{
                "three": [],
                "sum": [make("Add", ["batch", "one"], ["cut"])],
                "ratio": [make("Div", ["batch", "none"], ["cut"])],
                "weights": [make("Add", ["l0.W", "l0.W"], ["cut"])],
                "input": [make("Add", ["x", "x"], ["cut"])],
                "cast": [make("Cast", ["l0.W"], ["cut"], to=7)],
            }[end],
            make("Slice", ["y", "none", "three" if end == "three" else "cut", "none"], ["cut_y"]),
        ]
    )
    graph.output[0].name = "cut_y"


#: What is done to a bidirectional LSTM of two layers -> what the message says.
FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "reverse": (lambda g: set_attribute(g, "direction", "reverse"), "direction=reverse"),
    "forward": (lambda g: set_attribute(g, "direction", "forward"), "expected shape"),
    "clip as a word": (lambda g: set_attribute(g, "clip", "three"), "clip: expected float, got three"),
    "direction as a number": (lambda g: set_attribute(g, "direction", 1), "direction: expected str"),
    "activations as numbers": (lambda g: set_attribute(g, "activations", [1, 2]), "activations: expected"),
    "layout as a word": (lambda g: set_attribute(g, "layout", "batch"), "layout: expected int"),
    "wrong layout": (lambda g: set_attribute(g, "layout", 1), "layer below|initial_h"),
    "name": (lambda g: setattr(nodes(g, "Split")[0], "op_type", "Sp\nlit"), r"Sp\?lit: only"),
    "no output axis": (
        lambda g: nodes(g, "Reshape")[0].input.__setitem__(1, "l0.W"),
        "Reshape: expected constant whole numbers",
    ),
    "lengths": (
        lambda g: [n.input.__setitem__(4, "joined") for n in nodes(g, "LSTM")],
        "sequence_lens is not an input",
    ),
    "unknown attribute": (lambda g: set_attribute(g, "zoneout", 1), "unknown attribute zoneout"),
    "hidden_size": (lambda g: set_attribute(g, "hidden_size", 6), "hidden_size is 6"),
    "other operator": (lambda g: rename(g, "Reshape", "Softmax"), "Softmax: only LSTM"),
    "other cell": (lambda g: rename(g, "LSTM", "GRU"), "expected shape"),
    "no cell": (lambda g: rename(g, "LSTM", "QLSTM"), "holds no LSTM"),
    "extra gate": (lambda g: replace(g, "l0.R", np.zeros((2, 25, 5), "f4")), "R: expected shape"),
    "extra direction": (lambda g: replace(g, "l0.W", np.zeros((3, 20, 3), "f4")), "W: expected shape"),
    "bias": (lambda g: replace(g, "l1.B", np.zeros((2, 20), "f4")), "B: expected shape"),
    "features": (lambda g: replace(g, "l1.W", np.zeros((2, 20, 9), "f4")), "W is of 9 features"),
    "no weights": (lambda g: replace(g, "l1.W", np.zeros((2, 20, 0), "f4")), "W: expected shape"),
    "scalar": (lambda g: replace(g, "l1.R", np.zeros((), "f4")), "R: expected shape"),
    "integers": (lambda g: replace(g, "l0.W", np.zeros((2, 20, 3), "i8")), "is not a constant of float32"),
    "no state of the first layer": (
        lambda g: nodes(g, "LSTM")[0].input.__setitem__(5, ""),
        "initial_h: some layers have one",
    ),
    "one state for two": (
        lambda g: nodes(g, "Split")[1].input.__setitem__(0, "h0"),
        "initial_c of layer 0 is not just an input",
    ),
    "eighths": (lambda g: setattr(named(g, "l0.W"), "data_type", 17), "l0.W: .* FLOAT8E4M3FN are not read"),
    "no such type": (lambda g: setattr(named(g, "l0.W"), "data_type", 99), "type 99 are not read"),
    "NaN": (lambda g: replace(g, "l1.R", np.full((2, 20, 5), np.nan, "f4")), "R: .* not finite"),
    "one size": (lambda g: only_first_steps(g, "three"), "Slice|y|X is not"),
    "arithmetic right at one size": (lambda g: only_first_steps(g, "sum"), "is not the last|X is not"),
    "division by zero": (lambda g: only_first_steps(g, "ratio"), "Div: "),
    "weights in arithmetic": (lambda g: only_first_steps(g, "weights"), "Add: only LSTM, GRU, RNN and"),
    "input in arithmetic": (lambda g: only_first_steps(g, "input"), "Add: only LSTM, GRU, RNN and"),
    "cast": (lambda g: only_first_steps(g, "cast"), "Cast: from float32: only whole"),
    "huge": (lambda g: named(g, "l0.W").dims.__setitem__(0, 1 << 60), "does not fit its"),
    "negative": (lambda g: named(g, "l0.W").dims.__setitem__(0, -2), "does not fit its"),
    "short": (lambda g: setattr(named(g, "l0.W"), "raw_data", b"123"), "not a whole number"),
    "elsewhere": (lambda g: setattr(named(g, "l0.W"), "data_location", 1), "in another file"),
    "missing": (lambda g: g.initializer.remove(named(g, "l1.R")), "reads 'l1.R', which nothing"),
    "missing input": (lambda g: nodes(g, "LSTM")[0].input.__delitem__(slice(1, None)), "W is missing"),
    "order": (lambda g: nodes(g, "Transpose")[0].attribute[0].ints.reverse(), "Reshape|X is not"),
    "transposed": (
        lambda g: nodes(g, "Transpose")[0].attribute[0].ints.__setitem__(slice(4), [0, 2, 3, 1]),
        "X is not just the output",
    ),
    "axis": (lambda g: nodes(g, "Split")[0].attribute[0].__setattr__("i", 7), "Split"),
    "states": (swap_states, "initial_h of layer 0"),
    "constant state": (constant_state, "initial_h is a constant"),
    "output": (lambda g: setattr(g.output[0], "name", "y_0"), "'y_0' is not the last"),
    "no output": (lambda g: setattr(g.output[0], "name", "z"), "'z': nothing gives it"),
    "final states": (lambda g: nodes(g, "Concat")[0].input.reverse(), "'h' is not the last"),
    "huge input": (
        lambda g: setattr(g.input[0].type.tensor_type.shape.dim[0], "dim_value", 1 << 50),
        "tensors of more than",
    ),
    "negative input": (
        lambda g: setattr(g.input[0].type.tensor_type.shape.dim[0], "dim_value", -4),
        "a size of -4",
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_refusals_in_one_line(fault: str, tmp_path: Path) -> None:
    how, message = FAULTS[fault]
    path = tmp_path / "m.onnx"
    ln.save_onnx(layer("lstm", 2, True), path)
    change(path, how)
    with pytest.raises(ValueError, match=message) as caught:
        ln.load_onnx(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    ln.save_onnx(layer("gru", 2, True), path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [content[: int(n)] for n in rng.integers(0, len(content) - 1, 40)]
    for _ in range(100):
        changed = bytearray(content)
        changed[int(rng.integers(len(content)))] ^= int(rng.integers(1, 256))
        damaged.append(bytes(changed))
    for wrong in damaged:
        path.write_bytes(wrong)
        message = ""
        try:
            rnn = ln.load_onnx(path)
        except ValueError as error:
            message = str(error)
        if message:
            assert message.startswith(str(path))
            assert "\n" not in message
        else:  # a name, or a weight
            assert isinstance(rnn, Recurrent)
    path.write_bytes(content.replace(b"l0.W", b"l\xff.W"))
    with pytest.raises(ValueError, match=r"m\.onnx: damaged: a name in it is not text"):
        ln.load_onnx(path)
    with pytest.raises(ValueError, match="no such file"):
        ln.load_onnx(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match=r"ends in \.onnx"):
        ln.save_onnx(rnn, tmp_path / "m.txt")


def test_without_the_package_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    ln.save_onnx(layer("lstm"), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"lstm_numba\[onnx\]"):
        ln.load_onnx(tmp_path / "m.onnx")
