"""Variants of the cells: names, equations, and ONNX Runtime's numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_tools import assert_same, call, compare, random_input
from onnx_models import change, in_runtime, set_attribute

import lstm_numba as ln
from lstm_numba.cells import CELLS, find_cell
from lstm_numba.cells.onnx_variants import ACTIVATIONS, VARIED, read
from lstm_numba.interop.state_dict import cell_name
from lstm_numba.nn.layers import make_layer
from lstm_numba.training.settings import check_cell

#: Numbers for the activations that take some; HardSigmoid's are not the usual ones.
NUMBERS = {
    "Affine": "_0.7_0.1",
    "Elu": "_0.6",
    "HardSigmoid": "_0.25_0.4",
    "LeakyRelu": "_0.3",
    "ScaledTanh": "_0.7_0.6",
    "ThresholdedRelu": "_0.4",
}

# Names


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("lstm,clip=3", "lstm,clip=3.0"),
        ("lstm,f=HardSigmoid", "lstm,f=HardSigmoid_0.2_0.5"),
        ("peephole,h=Elu_0.5,input_forget,clip=1e-3", "peephole,clip=0.001,input_forget,h=Elu_0.5"),
        ("gru,f=Sigmoid,g=Tanh", "gru"),
        ("rnn,f=Relu", "rnn-relu"),
        ("rnn,f=Relu,clip=2", "rnn,clip=2.0,f=Relu"),
    ],
)
def test_names_have_one_form(name: str, canonical: str) -> None:
    variant = read(name)
    assert variant.name == canonical
    if "," in canonical:
        assert read(canonical) == variant
    assert check_cell(name) == ""


@pytest.mark.smoke
def test_a_variant_of_nothing_is_the_cell_itself() -> None:
    assert find_cell("gru,f=Sigmoid") is find_cell("gru")
    assert find_cell("rnn,f=Relu") is find_cell("rnn-relu")
    assert find_cell("rnn,clip=2") is find_cell("rnn,clip=2.0")


def test_names_of_the_same_equations_stay_apart() -> None:
    names = ("rnn,f=Affine_1.0_0.0", "rnn,f=LeakyRelu_1.0")
    cells = [find_cell(name) for name in names]
    assert cells[0].texts == cells[1].texts
    assert tuple(cell.key for cell in cells) == names


def test_a_layer_says_which_variant_it_is() -> None:
    layer = ln.make_layer("gru,g=Softsign,clip=2", 3, 4)
    assert repr(layer) == "Recurrent(gru,clip=2.0,g=Softsign, 3, 4, dtype=float32)"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rnn-relu,clip=1", "expected one of lstm, peephole, gru"),
        ("lstm,clip=0", "clip: expected more than 0, got 0"),
        ("lstm,clip=nan", "expected a number, got 'nan'"),
        ("lstm,clip", "expected a number, got ''"),
        ("gru,input_forget", "expected f=FUNCTION, g=FUNCTION, clip=NUMBER, got 'input_forget'"),
        ("gru,h=Tanh", "got 'h=Tanh'"),
        ("lstm,f=tanhh", "expected one of Affine, Elu"),
        ("lstm,f=Elu_1_2", "Elu takes 1 numbers, got 2"),
        ("lstm,f=Affine", "Affine takes 2 numbers, got 0"),
        ("lstm,", "got ''"),
    ],
)
def test_names_that_mean_nothing(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ln.make_layer(name, 2, 3)
    assert str(caught.value).startswith(f"cell: {name!r}: ")
    assert check_cell(name).startswith("a cell: ")
    assert message in check_cell(name)


# Equations


def _run(cell: Any, gates: Any, previous: Any, peephole: Any, mix: float) -> tuple[Any, Any, Any]:
    """One unit whose second product, if it has one, is `mix` times its operand; slots to keep, states."""
    slots = list(gates)
    if len(cell.stages) == 2:
        slots[2] += mix * cell.operand(slots, previous, peephole)
    kept, states = cell.forward(slots, previous, peephole)
    return slots, kept, states


def _check_equations(name: str, seed: int) -> None:
    """The backward equations of one unit against central differences of the forward ones."""
    cell, rng = find_cell(name), np.random.default_rng(seed)
    sizes = (len(cell.slots), len(cell.states), len(cell.peepholes))
    point, mix = rng.uniform(-4, 4, sum(sizes)), 0.8
    weights = rng.uniform(0.5, 1.5, len(cell.states))

    def parts(values: Any) -> list[tuple[float, ...]]:
        return [tuple(map(float, part)) for part in np.split(values, np.cumsum(sizes)[:-1])]

    def objective(values: Any) -> float:
        return float(np.dot(weights, _run(cell, *parts(values), mix)[2]))

    gates, previous, peephole = parts(point)
    _, kept, states = _run(cell, gates, previous, peephole, mix)
    dslots, dprevious, dpeephole = cell.backward(kept, previous, states, peephole, tuple(map(float, weights)))
    dprevious = list(dprevious)
    if len(cell.stages) == 2:
        dslots, more = cell.operand_backward(dslots, previous, peephole, mix * dslots[2])
        dprevious[0] += more[0]
    for place, got in enumerate([*dslots, *dprevious, *dpeephole]):
        step = np.zeros_like(point)
        step[place] = 1e-6
        expected = (objective(point + step) - objective(point - step)) / 2e-6
        assert got == pytest.approx(expected, rel=1e-7, abs=2e-8), (name, place)


def _names() -> list[str]:
    """Every activation in every place, and all options together."""
    found = []
    for base, letters in VARIED.items():
        found += [
            f"{base},{letter}={name}{NUMBERS.get(name, '')}" for letter in letters for name in ACTIVATIONS
        ]
        found.append(f"{base},clip=0.7")
    found += [f"{base},input_forget" for base in ("lstm", "peephole")]
    found += [f"{base},clip=1.5,input_forget,f=Softsign,g=Elu,h=Softplus" for base in ("lstm", "peephole")]
    return [name for name in found if "," in read(name).name]


@pytest.mark.smoke
def test_equations_and_their_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstm_numba.cells.registry.CELLS", dict(CELLS))
    names = _names()
    assert len(names) > 100
    for seed, name in enumerate(names):
        _check_equations(name, seed)


#: Activation -> its slopes at -1e4 and at 1e4.
FAR = {
    "Affine": (0.7, 0.7),
    "Elu": (0, 1),
    "HardSigmoid": (0, 0),
    "LeakyRelu": (0.3, 1),
    "Relu": (0, 1),
    "ScaledTanh": (0, 0),
    "Sigmoid": (0, 0),
    "Softplus": (0, 1),
    "Softsign": (1 / 10001**2, 1 / 10001**2),
    "Tanh": (0, 0),
    "ThresholdedRelu": (0, 1),
}


def _value_and_slope(name: str, x: float) -> tuple[float, float]:
    """New state of one unit of an RNN, and its derivative by the pre-activation."""
    cell = find_cell(name)
    kept, states = cell.forward((x,), (0.0,), ())
    return states[0], cell.backward(kept, (0.0,), states, (), (1.0,))[0][0]


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_slopes_far_out(function: str) -> None:
    found = [_value_and_slope(f"rnn,f={function}{NUMBERS.get(function, '')}", x)[1] for x in (-1e4, 1e4)]
    assert found == pytest.approx(FAR[function], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("name", "kink", "side"),
    [
        ("rnn,f=Elu_0.6", 0.0, -1),
        ("rnn,f=HardSigmoid_0.25_0.4", -1.6, -1),
        ("rnn,f=HardSigmoid_0.25_0.4", 2.4, -1),
        ("rnn,f=LeakyRelu_0.3", 0.0, -1),
        ("rnn,f=Relu", 0.0, -1),
        ("rnn,f=ThresholdedRelu_0.4", 0.4, -1),
        ("rnn,clip=2.0,f=Affine_0.7_0.1", 2.0, -1),
        ("rnn,clip=2.0,f=Affine_0.7_0.1", -2.0, 1),
    ],
)
def test_slopes_at_kinks_are_the_left_ones_and_at_a_bound_the_inner_one(
    name: str, kink: float, side: int
) -> None:
    step = side * 1e-6
    (here, found), (there, _) = _value_and_slope(name, kink), _value_and_slope(name, kink + step)
    assert found == pytest.approx((there - here) / step, abs=1e-6)
    other = _value_and_slope(name, kink - step)
    assert other[1] != pytest.approx(found, abs=0.05)


# Beside ONNX Runtime: all of a node's attributes, through the compiled engine

MIXED = [
    "lstm,clip=0.8,input_forget,f=HardSigmoid_0.25_0.4,g=Softsign,h=LeakyRelu_0.3",
    "peephole,clip=0.8,input_forget,g=ScaledTanh_0.7_0.6,h=Softplus",
    "gru-reset-before,clip=0.8,f=HardSigmoid_0.2_0.5,g=Elu_0.6",
]


@pytest.mark.parametrize(
    "name",
    [
        MIXED[0],
        *(pytest.param(name, marks=pytest.mark.slow) for name in MIXED[1:]),
        *(
            pytest.param(read(f"rnn,clip=1.5,f={name}{NUMBERS.get(name, '')}").name, marks=pytest.mark.slow)
            for name in ACTIVATIONS
        ),
        pytest.param("gru,clip=0.8,f=Softsign,g=Affine_0.5_0.1", marks=pytest.mark.slow),
    ],
)
def test_runtime_and_files_agree(name: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    rnn, path = make_layer(name, 3, 5, 2, bidirectional=True, seed=4), tmp_path / "m.onnx"
    assert cell_name(rnn) == name
    ln.save_onnx(rnn, path)
    onnx.checker.check_model(str(path), full_check=True)
    x, states = random_input(rnn)
    x *= 3  # so that what is clipped differs
    compare(in_runtime(path, x, states), call(rnn, x, states))
    assert_same(ln.load_onnx(path), rnn)
    for ending in ("npz", "safetensors"):
        ln.save_weights(rnn, tmp_path / f"w.{ending}")
        assert_same(ln.load_weights(tmp_path / f"w.{ending}"), rnn)
    for refuse in (ln.to_keras, lambda layer: ln.save_keras(layer, tmp_path / "k.npz")):
        with pytest.raises(ValueError, match="lstm,clip|" + name.split(",")[0]):
            refuse(rnn)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MIXED, "gru,clip=0.8,f=Softsign,g=Softplus", "rnn,f=Softplus"])
def test_gradients_of_the_engine(name: str) -> None:
    ln.check_gradients(find_cell(name))


def _attributes(**values: Any) -> Callable[[Any], None]:
    def change_graph(graph: Any) -> None:
        for name, value in values.items():
            set_attribute(graph, name, value)

    return change_graph


@pytest.mark.parametrize(
    ("kind", "attributes", "name"),
    [
        ("lstm", {"clip": 3.0}, "lstm,clip=3.0"),
        ("lstm", {"clip": 0.1}, "lstm,clip=0.1"),
        ("lstm", {"input_forget": 1}, "lstm,input_forget"),
        ("gru", {"input_forget": 0, "activations": ["sigmoid", "TANH"] * 2}, "gru"),
        ("lstm", {"activations": ["HardSigmoid", "Tanh", "Tanh"] * 2}, "lstm,f=HardSigmoid_0.2_0.5"),
        (
            "lstm",
            {
                "activations": ["HardSigmoid", "Tanh", "LeakyRelu"] * 2,
                "activation_alpha": [0.25, 0.3, 0.25, 0.3],
                "activation_beta": [0.4, 0.4],
            },
            "lstm,f=HardSigmoid_0.25_0.4,h=LeakyRelu_0.3",
        ),
        ("rnn", {"activations": ["ThresholdedRelu"] * 2}, "rnn,f=ThresholdedRelu_1.0"),
        ("rnn", {"activations": ["Relu"] * 2, "activation_alpha": [0.0, 0.0]}, "rnn-relu"),
    ],
)
def test_attributes_of_a_node(kind: str, attributes: dict[str, Any], name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    path = tmp_path / "m.onnx"
    ln.save_onnx(make_layer(kind, 3, 5, bidirectional=True, seed=0), path)
    change(path, _attributes(**attributes))
    assert cell_name(ln.load_onnx(path)) == name


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"clip": 0.0}, "clip: expected a number above 0, got 0.0"),
        ({"clip": math.inf}, "clip: expected a number above 0, got inf"),
        ({"activations": ["Affine", "Tanh", "Tanh"] * 2}, "Affine needs activation_alpha"),
        ({"activations": ["Gelu", "Tanh", "Tanh"] * 2}, "no function here is Gelu"),
        ({"activations": ["Sigmoid", "Tanh"] * 2}, "expected 6, got Sigmoid, Tanh"),
        ({"activation_alpha": [0.5]}, "activation_alpha: 1 more than the activations take"),
        (
            {"activations": ["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Tanh", "Relu"]},
            "activations differ between the directions",
        ),
    ],
)
def test_attributes_that_are_refused(attributes: dict[str, Any], message: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    path = tmp_path / "m.onnx"
    ln.save_onnx(make_layer("lstm", 3, 5, bidirectional=True, seed=0), path)
    change(path, _attributes(**attributes))
    with pytest.raises(ValueError, match=message) as caught:
        ln.load_onnx(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_names_no_variant(tmp_path: Path) -> None:
    from lstm_numba.interop.weights_file import write_arrays

    rnn, path = ln.LSTM(2, 3, seed=0), tmp_path / "w.safetensors"
    write_arrays(path, rnn.params, "lstm,clip=none")
    with pytest.raises(ValueError, match="expected a number, got 'none'"):
        ln.load_weights(path)
