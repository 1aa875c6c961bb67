"""Cells of a user's own: what is checked when they are registered, the layer class, names, replacing."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import own_cells
import pytest
from numba import njit
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.cells import BUILT_IN, CELLS, Stage, find_cell, load_cell
from lstm_numba.cells.registration import make_cell
from lstm_numba.errors import CellError, WeightsError
from lstm_numba.examples.janet import JANET

ATTRIBUTES: dict[str, Any] = {
    "gates": ("f", "g"),
    "states": ("h",),
    "forward": own_cells.MinimalGatedUnit.cell.forward.__func__,
    "backward": own_cells.MinimalGatedUnit.cell.backward.__func__,
}


def _forward(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    return (slots[0], slots[1]), (previous[0] * slots[0] + slots[1],)


def _backward(self: Any, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
    return (gradient[0] * previous[0], gradient[0]), (gradient[0] * slots[0],), ()


def plain(**changed: Any) -> type:
    """A sound class, but for what is changed; None takes something away."""
    facts = {"gates": ("f", "g"), "states": ("h",), "forward": _forward, "backward": _backward, **changed}
    return type("Cell", (), {name: value for name, value in facts.items() if value is not None})


def test_a_layer_class_is_used_as_the_librarys() -> None:
    assert issubclass(JANET, ln.Recurrent)
    assert (JANET.__name__, JANET.__module__) == ("JANET", "lstm_numba.examples.janet")
    assert JANET.__doc__ == "Forget gate only (van der Westhuizen & Lasenby 2018)."
    layer = JANET(3, 5, 2, bidirectional=True, seed=0)
    assert repr(layer) == "JANET(3, 5, num_layers=2, bidirectional=True, dtype=float32)"
    assert layer.params["weight_hh_l0"].shape == (10, 5)
    same = ln.make_layer("lstm_numba.examples.janet:JANET", 3, 5, 2, bidirectional=True, seed=0)
    x = np.ones((4, 2, 3), np.float32)
    np.testing.assert_array_equal(same(x)[0], layer(x)[0])
    assert repr(same).startswith("Recurrent(JANET, 3, 5")


@pytest.mark.parametrize(
    "name",
    [
        own_cells.SIMILAR[0],  # which other tests compile, too
        *(pytest.param(name, marks=pytest.mark.slow) for name in own_cells.SIMILAR[1:]),
    ],
)
def test_similar_cells_against_the_reference(name: str) -> None:
    layer = ln.make_layer(name, 3, 17, 2, bidirectional=True, seed=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 3)).astype(np.float32)
    states = [rng.standard_normal((4, 3, 17)).astype(np.float32) for _ in layer.cell.states]
    y, final = layer(x, states[0] if len(states) == 1 else tuple(states), [4, 0, 2])
    expected, finals = reference.run(
        name, layer.params, x, states, num_layers=2, bidirectional=True, lengths=[4, 0, 2]
    )
    assert_close(y, expected, "forward", name)
    assert_close(final if len(states) == 1 else final[-1], finals[-1], "forward", name)


def test_the_reference_of_any_cell_is_that_of_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step made of scalar equations against the steps written by hand."""
    rng = np.random.default_rng(0)
    for name in BUILT_IN:
        layer = ln.make_layer(name, 3, 4, dtype=np.float64, seed=0)
        (params,) = layer.layer_params()
        x, states = rng.standard_normal((2, 3)), [rng.standard_normal((2, 4)) for _ in layer.cell.states]
        expected = reference.STEPS[name](x, tuple(states), params)
        found = reference.equations_step(layer.cell)(x, tuple(states), params)
        for got, truth in zip(found, expected, strict=True):
            assert_close(got, truth, "forward", name)


def _keyword(self: Any, slots: Any, previous: Any, peephole: Any, *, more: int = 1) -> Any: ...
def _renamed(self: Any, gates: Any, previous: Any, peephole: Any) -> Any: ...
def _decides(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    return slots, (slots[0] if slots[0] > 0 else slots[1],)


def _asks_self(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    return slots, (self.scale * slots[0],)


def _one_slot(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    return (slots[0],), (slots[1],)


def _no_tuple(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    return slots, slots[1]


def _undefined(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    return slots, (not_there(slots[0]),)  # type: ignore[name-defined]  # noqa: F821


TABLE: dict[str, float] = {}


def _table(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    return slots, (TABLE["a"] * slots[0],)


def _python_helper(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    return slots, (doubled(slots[0]),)


def _numpys(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    return (np.pi * slots[0], slots[1]), (np.tanh(slots[0]),)


def doubled(x: Any) -> Any:
    """A plain function, which Numba does not call."""
    return 2 * x


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"gates": None}, "Cell: gates: missing"),
        ({"gates": ()}, "gates: expected at least one name"),
        ({"gates": "fg"}, "gates: expected a tuple of names, got 'fg'"),
        ({"gates": ("f", "f")}, "gates: a name stands twice"),
        ({"gates": ("f", 2)}, "gates: expected a tuple of names"),
        ({"states": ()}, "states: expected at least one name"),
        ({"states": None}, "states: missing"),
        ({"peepholes": ("o",)}, "peepholes: 'o' is not one of the gates"),
        ({"peephole": ("f",)}, "peephole: a cell has no such attribute"),
        ({"slots": ("f",)}, "input_gates: 2 gates feed 1 slots"),
        ({"input_gates": (0,)}, "input_gates: expected each of the 2 gates once"),
        ({"input_gates": (0, 2)}, r"input_gates: expected each .* 0 to 1, got \(0, 2\)"),
        ({"input_gates": ("f", "g")}, "input_gates: expected a tuple of gates' numbers"),
        ({"stages": ()}, "stages: expected one or two"),
        ({"stages": (Stage(0, (0,)),)}, "stages: expected each of the 2 gates once"),
        ({"stages": (Stage(1, (0, 1)),)}, "feeds slots beyond the 2"),
        ({"stages": (Stage(0, (0,)), Stage(0, (1,)))}, "feeds slots that another stage feeds"),
        ({"stages": (3,)}, r"stages: expected Stage\(first slot, gates\), got 3"),
        ({"stages": (Stage(0, (0,)), Stage(1, (1,)))}, "operand: missing, expected def operand"),
        ({"operand": _forward}, "operand: only a cell of two stages has one"),
        ({"forward": None}, "forward: missing, expected def forward"),
        ({"backward": None}, "backward: missing"),
        ({"forward": 3}, "forward: expected a method"),
        ({"forward": _renamed}, r"forward: expected def .* got the parameters \(self, gates"),
        ({"forward": _keyword}, "forward: expected def forward"),
        ({"forward": _decides}, "forward, line .* comparison or an if has no single answer"),
        ({"forward": _asks_self}, "forward, line .* uses self"),
        ({"forward": _one_slot}, r"forward: slots to keep: expected a tuple of 2 \(f, g\)"),
        ({"forward": _no_tuple}, r"forward: new states: expected a tuple of 1 \(h\)"),
        ({"forward": _undefined}, "not_there is not defined yet"),
        ({"forward": _table}, r"TABLE: equations may use numbers, .* got {}"),
        ({"forward": _python_helper}, "doubled.*numba.njit"),
        ({"forward": _numpys}, "forward, line .*: tanh is NumPy's"),
        (
            {"backward": lambda self, slots, previous, states, peephole, gradient: 1},
            "backward: expected the grad",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(changed: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        make_cell(plain(**changed))


def test_what_is_no_plain_class_is_refused() -> None:
    with pytest.raises(TypeError, match="register_cell: expected a class, got 3"):
        ln.register_cell(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="JANET is a layer already"):
        ln.register_cell(JANET)
    with pytest.raises(ValueError, match="must be registered first: import its module"):
        find_cell("nowhere:Cell")
    with pytest.raises(TypeError, match="name: expected a cell's name, got 3"):
        find_cell(3)  # type: ignore[arg-type]


def test_equal_equations_share_a_class_and_others_do_not() -> None:
    first, same = make_cell(plain()), make_cell(plain())
    assert type(first) is type(same)
    assert type(make_cell(plain(states=("c",)))) is not type(first)
    assert type(first).__name__ == f"Cell_{first.digest}"


SCALE = 2.0


@njit
def halved(x: Any) -> Any:
    """A helper that the equations call."""
    return x / SCALE


def _with_helper(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    return (slots[0], slots[1]), (previous[0] + halved(slots[0]) + 1 / (1 + math.exp(slots[1])),)


def _helper_backward(self: Any, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
    d, power = gradient[0], math.exp(slots[1])
    return (halved(d), -d * power / (1 + power) ** 2), (d,), ()


def test_helpers_and_constants_belong_to_the_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that changes far away makes another cell, which computes with it."""
    changed = {"forward": _with_helper, "backward": _helper_backward}
    before = make_cell(plain(**changed))
    ln.check_gradients(before)
    monkeypatch.setitem(globals(), "SCALE", 4.0)
    assert make_cell(plain(**changed)).digest != before.digest
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert make_cell(plain(**changed)).digest == before.digest
    monkeypatch.setattr(math, "exp", math.log1p)
    assert make_cell(plain(**changed)).digest != before.digest


MODULE = """
import lstm_numba as ln

{blank}
@ln.register_cell
class Scaled:
    gates, states = ("a",), ("h",)

    def forward(self, slots, previous, peephole):
        return slots, ({factor} * slots[0] + previous[0],)

    def backward(self, slots, previous, states, peephole, gradient):
        return ({factor} * gradient[0],), gradient, ()
"""


def test_a_module_loaded_again_replaces_its_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path, name = tmp_path / "scaled_cell.py", "scaled_cell:Scaled"
    x = np.ones((1, 1, 1))

    def output(**values: Any) -> tuple[float, str]:
        path.write_text(MODULE.format(**values))
        importlib.invalidate_caches()
        load_cell(name)
        importlib.reload(sys.modules["scaled_cell"])
        layer = ln.make_layer(name, 1, 1, bias=False, dtype=np.float64, seed=0)
        return float(layer(x)[0][0, 0, 0] / layer.params["weight_ih_l0"][0, 0]), layer.cell.digest

    try:
        factor, digest = output(factor=2.0, blank="")
        assert factor == pytest.approx(2.0)
        assert output(factor=2.0, blank="# a line\n") == (factor, digest)
        factor, other = output(factor=3.0, blank="")
        assert factor == pytest.approx(3.0)
        assert other != digest
    finally:
        sys.modules.pop("scaled_cell", None)
        CELLS.pop(name, None)


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        (None, "no_such_module_xyz:A", "there is no module no_such_module_xyz in the current folder"),
        ("x = 1", "{}:A", "has no A"),
        (
            "import lstm_numba.examples.janet as j\nfrom lstm_numba.examples.janet import JANET",
            "{}:B",
            "its cells are JANET",
        ),
        ("class A: pass", "{}:A", "is no cell: expected a class with gates"),
        ("A = 3", "{}:A", "is no cell.*got 3"),
        (
            "class A:\n gates, states = ('a',), ('h',)\n def forward(self): ...",
            "{}:A",
            "A: forward: expected def",
        ),
        ("\n1 / 0", "{}:A", r"\.py, line 2: ZeroDivisionError: division by zero"),
        ("raise SystemExit('x')", "{}:A", "line 1: SystemExit: x"),
        ("import no_such_module_xyz", "{}:A", "line 1: ModuleNotFoundError"),
        ("def f(:", "{}:A", r"\.py, line 1: SyntaxError"),
    ],
)
def test_names_that_lead_to_no_cell(
    source: str | None, name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = f"own_cell_{abs(hash(tmp_path))}"
    if source is not None:
        (tmp_path / f"{module}.py").write_text(source)
        importlib.invalidate_caches()
    with pytest.raises(CellError, match=text) as caught:
        load_cell(name.format(module))
    assert "\n" not in str(caught.value)
    sys.modules.pop(module, None)


def test_weights_name_their_cell(tmp_path: Path) -> None:
    layer = JANET(3, 5, 2, seed=0)
    for ending in ("npz", "safetensors"):
        path = tmp_path / f"weights.{ending}"
        ln.save_weights(layer, path)
        loaded = ln.load_weights(path)
        assert loaded.cell is layer.cell
        for name, value in layer.params.items():
            np.testing.assert_array_equal(loaded.params[name], value)
    kept = CELLS.pop("lstm_numba.examples.janet:JANET")
    try:
        with pytest.raises(
            WeightsError,
            match=r"JANET', which is unknown.*--cell .*JANET in a command",
        ):
            ln.load_weights(path)
    finally:
        CELLS["lstm_numba.examples.janet:JANET"] = kept
    for refuse in (ln.to_keras, ln.to_torch, lambda rnn: ln.save_onnx(rnn, tmp_path / "a.onnx")):
        with pytest.raises(WeightsError, match=r"lstm_numba\.examples\.janet:JANET"):
            refuse(layer)


def test_a_stream_of_a_registered_cell() -> None:
    layer = own_cells.Everything(3, 5, 2, seed=0)
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    stream = ln.Stream(layer)
    steps = [stream.step(row).copy() for row in x]
    assert_close(np.stack(steps), layer(x[:, None])[0][:, 0], "forward")
