"""Cells of a user's own: what is checked when they are registered, the layer class, names, replacing."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import own_cells
import pytest
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.cells import BUILT_IN, CELLS, evaluate, find_cell, load_cell, sigmoid, tanh
from lstm_numba.cells.functions import FUNCTIONS
from lstm_numba.cells.registration import make_cell
from lstm_numba.errors import CellError, WeightsError
from lstm_numba.examples.janet import JANET


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
        expected, _ = reference.STEPS[name](x, tuple(states), params)
        found, _ = reference.equations_step(layer.cell)(x, tuple(states), params)
        for got, truth in zip(found, expected, strict=True):
            assert_close(got, truth, "forward", name)


def test_what_is_no_plain_class_is_refused() -> None:
    with pytest.raises(TypeError, match="register_cell: expected a class, got 3"):
        ln.register_cell(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="JANET is a layer already"):
        ln.register_cell(JANET)
    with pytest.raises(ValueError, match="must be registered first: import its module"):
        find_cell("nowhere:Cell")
    with pytest.raises(TypeError, match=r"cell: expected a name, .* got 3"):
        find_cell(3)  # type: ignore[arg-type]


SCALE = 2.0


def halved(x: Any) -> Any:
    """A helper that the equations call."""
    return x / SCALE


class Scaled:
    """A cell with a helper and a constant of its class."""

    gates, states = ("f", "g"), ("h",)
    slope = 0.5

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        f = sigmoid(z.f)
        return {"h": halved(v.h) * f + self.slope * tanh(z.g)}


def changed(**changes: Any) -> Any:
    """A cell as if the class had other attributes."""
    names = {name: value for name, value in vars(Scaled).items() if not name.startswith("__")}
    return make_cell(type("Scaled", (), {**names, "__module__": __name__, **changes}))


def test_equal_equations_share_a_class() -> None:
    """Names, helpers and docstrings are no part of them."""

    def otherwise(z: Any, v: Any) -> dict[str, Any]:
        """With a docstring, other names, NumPy, and no helper."""
        gate = sigmoid(z["f"])
        left = v["h"] / 2 * gate
        return {"h": left + 0.5 * np.tanh(z["g"])}

    first = make_cell(Scaled)
    assert type(changed()) is type(first)
    assert type(changed(forward=otherwise)) is type(first)
    assert type(first).__name__ == f"Scaled_{first.digest}"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"slope": 0.25}, "a constant"),
        ({"gates": ("g", "f")}, "the order of the gates, and so of the weights"),
        ({"gates": ("f", "g", "o")}, "one more gate"),
        ({"vectors": ("p",)}, "a parameter"),
        ({"states": ("h", "c"), "forward": lambda z, v: {"h": z.f, "c": z.g}}, "states"),
        ({"forward": lambda z, v: {"h": halved(v.h) * sigmoid(z.f) - 0.5 * tanh(z.g)}}, "a sign"),
        ({"__module__": "elsewhere"}, "the key by which a pickle finds it"),
    ],
)
def test_other_cells_have_another_class(changes: dict[str, Any], why: str) -> None:
    first, other = make_cell(Scaled), changed(**changes)
    assert other.digest != first.digest, why
    assert type(other) is not type(first)


def test_a_renamed_gate_is_another_cell() -> None:
    def renamed(z: Any, v: Any) -> dict[str, Any]:
        return {"h": halved(v.h) * sigmoid(z.k) + 0.5 * tanh(z.g)}

    assert changed(gates=("k", "g"), forward=renamed).digest != make_cell(Scaled).digest


def test_helpers_and_constants_belong_to_the_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that changes far away makes another cell, which computes with it."""
    point = evaluate.Point((0.3, 0.0), (0.7,), ())
    before = make_cell(Scaled)
    monkeypatch.setitem(globals(), "SCALE", 4.0)
    after = make_cell(Scaled)
    assert after.digest != before.digest
    (found,), (half,) = (evaluate.forward(cell, point)[1] for cell in (before, after))
    assert found == pytest.approx(2 * half, rel=1e-15)
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert make_cell(Scaled).digest == before.digest
    monkeypatch.setitem(globals(), "halved", lambda x: x / 3)
    assert make_cell(Scaled).digest not in (before.digest, after.digest)


SEVERAL_NAMES = """
from lstm_numba.cells import Phase, Product, sigmoid, tanh
from lstm_numba.cells.functions import FUNCTIONS
from lstm_numba.cells.registration import make_cell

class Cell:
    states = ("h",)
    def look(z, v):
        r = sigmoid(z.r)
        return {"apple": r, "berry": r, "cherry": r, "seen": r * v.h}
    phases = (
        Phase((Product("weight_ih", "x", ("r",)), Product("weight_hh", "h", ("r",))), look),
        Phase((Product("weight_ih", "x", ("n",)), Product("weight_hh", "seen", ("n",))),
              lambda z, v: {"h": tanh(z.n) * v.apple}),
    )

print(make_cell(Cell).digest)
"""


def test_the_digest_is_the_same_in_every_process() -> None:
    """Also when an expression has several names, of which the text uses one."""
    found = set()
    for seed in range(6):  # of Python's hashes, which decide the order of sets
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        words = [sys.executable, "-c", SEVERAL_NAMES]
        found.add(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


MODULE = """
import lstm_numba as ln

{blank}
@ln.register_cell
class Scaled:
    gates, states = ("a",), ("h",)

    def forward(self, z, v):
        return {{"h": {factor} * z.a + v.h}}
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
        ("class A: pass", "{}:A", "is not a cell: expected a class with gates"),
        ("A = 3", "{}:A", "is not a cell.*got 3"),
        (
            "class A:\n gates, states = ('a',), ('h',)\n def forward(self): ...",
            "{}:A",
            "A: forward: expected the parameters",
        ),
        (
            "class A:\n gates, states = ('a',), ('h',)\n def forward(self, z, v):\n  return {'h': z.b}",
            "{}:A",
            "A: forward, line 4: there is no 'b' among the pre-activations: a",
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


@pytest.mark.parametrize("power", [-3, -1, 0, 1, 2, 3.0, 7, 0.5])
def test_powers(power: float) -> None:
    cell = changed(gates=("a",), forward=lambda z, v: {"h": v.h + z.a**power})
    for x in (0.3, 1.7):
        point = evaluate.Point((x,), (0.0,), ())
        assert evaluate.forward(cell, point)[1][0] == pytest.approx(x**power, rel=1e-15)
        slope = evaluate.backward(cell, point, (1.0,)).slots[0]
        assert slope == pytest.approx(power * x ** (power - 1), rel=1e-14)


@pytest.mark.parametrize(
    ("numpys", "ours"),
    [
        *((name, name) for name in FUNCTIONS if hasattr(np, name)),
        *(("absolute", "abs"), ("fabs", "abs"), ("arctan", "atan")),
    ],
)
def test_numpys_functions_are_taken_for_ours(numpys: str, ours: str) -> None:
    def text(function: Any) -> str:
        words = (lambda z, v: z.f, lambda z, v: z.g)[: FUNCTIONS[ours].arity]
        forward = lambda z, v: {"h": 0.5 * function(*(word(z, v) for word in words))}  # noqa: E731
        return str(changed(forward=forward).texts)

    assert text(getattr(np, numpys)) == text(FUNCTIONS[ours])


def test_numpys_operators() -> None:
    def numpys(z: Any, v: Any) -> dict[str, Any]:
        return {"h": np.add(np.multiply(np.float32(2), z.f), np.divide(np.negative(z.g), np.square(v.h)))}

    expected = changed(forward=lambda z, v: {"h": 2 * z.f + (-z.g) / (v.h * v.h)})
    assert changed(forward=numpys).texts == expected.texts


@pytest.mark.parametrize("name", [*BUILT_IN, *own_cells.NAMES])
def test_shown_equations_are_complete(name: str) -> None:
    """Every name in them is given, or has been computed before."""
    cell = find_cell(name)
    given = {f"z_{slot}" for slot in cell.slots} | {f"{s}_prev" for s in cell.states}
    given |= {*cell.states, *cell.peepholes, "doperand", *(f"d{state}" for state in cell.states)}
    given |= {*FUNCTIONS, "max", "min"}
    for mean in itertools.chain.from_iterable(cell.mean_levels):
        given |= {mean, f"d{mean}"}
    kept, computed, ever = set[str](), set[str](), set[str]()
    for line in ln.show_cell(name).splitlines()[1:]:
        if line.startswith("kept for the backward pass: "):
            kept = {*line.partition(": ")[2].removesuffix("all states").split(", ")} - {""}
            assert kept <= ever | given
        elif not line.startswith("    "):
            computed = {n for n in computed if line.startswith("and from the operand")} | kept
        else:
            result, _, text = line.strip().partition(" = ")
            assert {*re.findall(r"(?<![\w.])[A-Za-z_]\w*", text)} <= given | computed, line
            computed.add(result)
            ever.add(result)
    assert {f"dz_{gate}" for gate in cell.gates} <= computed
