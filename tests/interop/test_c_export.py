"""C headers compute what the library's reference does, step by step, for every cell."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_tools import CompiledHeaders
from own_cells import CLASSES, HAndCTogether
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.cells import Phase, Product, sigmoid, sin, tanh
from lstm_numba.cells.registration import make_cell
from lstm_numba.cells.registry import BUILT_IN
from lstm_numba.data.scaling import Scaler
from lstm_numba.interop.c.writer import Dialect, identifier
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.training.series_description import SeriesDescription

INPUTS, HIDDEN, STEPS = 2, 6, 7
VARIANT = "lstm,clip=0.3,input_forget,f=HardSigmoid_0.2_0.5,g=Softsign,h=ScaledTanh_0.5_2.0"


class OddNames:
    """Names that C has not: keywords, other letters, those of the header's own; all functions; means."""

    _slots = ("int", "größe", "u", "fabs")
    states = ("double", "pre")
    vectors = ("inputs", "β")
    means = ("mean",)

    def start(self, z: Any, v: Any) -> dict[str, Any]:
        """What the mean is of."""
        return {"mean": z["int"] * v.pre, "expf": sin(z.u)}

    def finish(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        c = sigmoid(z["int"] - v.mean) * v.pre + tanh(z["größe"] * v.inputs) * v.expf
        low = abs(z.fabs + v["β"]) ** 0.5 / (1 + abs(c) ** 3)
        return {"double": -(-low - (v.double - c)) / -2 - 1e-3, "pre": c}

    phases = (
        Phase((Product("weight_ih", "x", _slots), Product("weight_hh", "double", _slots)), start),
        Phase((), finish),
    )


class MeansOfMeans:
    """A mean of what depends on another, computed with two numbers that are needed again."""

    states = ("h", "c")
    means = ("first", "second")

    def begin(self, z: Any, v: Any) -> dict[str, Any]:
        """What the first mean is of."""
        return {"first": z.a + z.b * v.c}

    def go_on(self, z: Any, v: Any) -> dict[str, Any]:
        """The second."""
        a, b = tanh(z.a - v.first), sigmoid(z.b + v.first)
        return {"a": a, "b": b, "second": a * b}

    def end(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        return {"h": v.b * tanh(v.a - v.second), "c": v.a + 0.5 * v.c}

    phases = (
        Phase((Product("weight_ih", "x", ("a", "b")), Product("weight_hh", "h", ("b", "a"))), begin),
        Phase((), go_on),
        Phase((), end),
    )


class Prepared:
    """A first product of something else than the first state."""

    states = ("h", "c")

    def before(self, z: Any, v: Any) -> dict[str, Any]:
        """The operand."""
        return {"seen": v.h * tanh(v.c)}

    def after(self, z: Any, v: Any) -> dict[str, Any]:
        """The new states."""
        c = 0.5 * v.c + tanh(z.g)
        return {"h": sigmoid(z.o) * c, "c": c}

    phases = (
        Phase((), before),
        Phase((Product("weight_ih", "x", ("g", "o")), Product("weight_hh", "seen", ("o", "g"))), after),
    )


def own(plain: type, **options: Any) -> Recurrent:
    """Two layers of a cell that is not registered."""
    return Recurrent(make_cell(plain), INPUTS, HIDDEN, 2, seed=3, **options)


def made(name: str, count: int = 2, **options: Any) -> Recurrent:
    """Some layers of a cell."""
    return ln.make_layer(name, INPUTS, HIDDEN, count, seed=3, **options)


#: Name of the header -> what makes the layer.
LAYERS: dict[str, Callable[[], Recurrent]] = {
    **{identifier(name): partial(made, name) for name in BUILT_IN},
    **{identifier(f"own-{kind.__name__}"): partial(kind, INPUTS, HIDDEN, 2, seed=3) for kind in CLASSES},
    "variant": partial(made, VARIANT),
    "no_bias": partial(made, "gru-reset-before", bias=False),
    "float64": partial(made, "lstm", dtype="float64"),
    "layer_norm64": partial(made, "layer-norm-gru", dtype="float64"),
    "three": partial(made, "gru", 3, batch_first=True),
    "projected": partial(made, "lstm", proj_size=4),
    "together": partial(own, HAndCTogether, proj_size=3),
    "heads": partial(made, "slstm", heads=3),
    "heads_norm": partial(made, "layer-norm-lstm", heads=2),
    "heads_peephole": partial(made, "peephole", heads=2, bias=False),
    "zoneout": partial(made, "lstm", zoneout=(0.25, 0.5)),
    "odd": partial(own, OddNames),
    "prepared": partial(own, Prepared),
    "means": partial(own, MeansOfMeans),
}


def references(rnn: Recurrent, x: Any) -> Any:
    """The output of a layer for one sequence (T, I), in float64."""
    name = getattr(rnn.cell, "key", "")
    step = reference.STEPS.get(name) or reference.equations_step(rnn.cell)
    sizes = [rnn.output_size, *[rnn.hidden_size] * (len(rnn.cell.states) - 1)]
    y, state = np.asarray(x, np.float64)[:, None], rnn.state_dict()
    for layer in range(rnn.num_layers):
        end, outputs = f"_l{layer}", []
        params = {n.removesuffix(end): np.float64(a) for n, a in state.items() if n.endswith(end)}
        for head in range(rnn.heads):
            rows = {n: np.split(a, rnn.heads)[head] for n, a in params.items()}
            zeros = tuple(np.zeros((1, size // rnn.heads)) for size in sizes)
            found = reference.run_direction(step, y, zeros, rows, np.array([len(x)]), False)
            outputs.append(found.y)
        y = np.concatenate(outputs, axis=2)
    return y[:, 0]


def series(**changes: Any) -> SeriesDescription:
    """What a run of two features and targets would know."""
    inputs = Scaler(np.array([3.0, -1.0]), np.array([2.0, 0.5]))
    outputs = Scaler(np.array([9.0, 4.0]), np.array([5.0, 0.1]))
    found = SeriesDescription(
        "regress", ("a", "b"), ("x", "y"), (), None, None, None, None, "time", True, False, None, inputs,
        outputs, (3.0, -1.0), "",
    )  # fmt: skip
    return found._replace(**changes)


FORECAST = {"task": "forecast", "targets": ("x", "y"), "window": STEPS, "horizon": 3, "per_step": False}
SHAPE: Any = {"layers": 2, "seed": 5}
#: Name of the header -> what makes the model.
MODELS: dict[str, Callable[[], Any]] = {
    "classifier": lambda: ln.SequenceClassifier(INPUTS, HIDDEN, 4, **SHAPE),
    "tokens": lambda: ln.LanguageModel(11, HIDDEN, embedding=3, cell="gru", **SHAPE),
    "tied": lambda: ln.LanguageModel(11, HIDDEN, tie=True, **SHAPE),
    "raw": lambda: ln.SequenceRegressor(INPUTS, HIDDEN, 2, loss="gaussian", per_step=True, **SHAPE),
    "gaussian": lambda: ln.SequenceRegressor(INPUTS, HIDDEN, 2, loss="gaussian", per_step=True, **SHAPE),
    "forecast": lambda: ln.SequenceRegressor(INPUTS, HIDDEN, 6, loss="quantile", **SHAPE),
}
SERIES = {"gaussian": {}, "forecast": FORECAST}


class Compiled(CompiledHeaders):
    """All headers compiled at once, and what they were made of."""

    def __init__(self, folder: Path) -> None:
        kinds, self.folder = {}, folder
        self.layers = {name: make() for name, make in LAYERS.items()}
        self.models = {name: make() for name, make in MODELS.items()}
        for name, rnn in self.layers.items():
            count = ln.save_c(rnn, folder / f"{name}.h")
            assert count == sum(array.size for array in rnn.params.values())
            kinds[name] = f"const {'float' if rnn.dtype == np.float32 else 'double'} *"
        for name, model in self.models.items():
            it = series(**SERIES[name]) if name in SERIES else None
            assert ln.save_c(model, folder / f"{name}.h", series=it) == model.parameter_count
            kinds[name] = "int" if isinstance(model, ln.LanguageModel) else "const float *"
        super().__init__(folder, kinds)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All headers."""
    return Compiled(tmp_path_factory.mktemp("c"))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_step_by_step(name: str, compiled: Compiled) -> None:
    rnn = compiled.layers[name]
    x = np.random.default_rng(1).standard_normal((STEPS, INPUTS)).astype(rnn.dtype)
    if name == "means":
        assert rnn.cell.reused == (0, 2)
    y = compiled.steps(name, x, rnn.output_size, rnn.dtype)
    assert_close(y, references(rnn, x), "forward")
    np.testing.assert_array_equal(compiled.steps(name, x, rnn.output_size, rnn.dtype, in_place=True), y)


def scores(model: Any, x: Any) -> Any:
    """What the output layer gives at every step, in float64."""
    params = {name: np.float64(array) for name, array in model.params.items()}
    weight = params["embedding.weight"] if getattr(model, "tie", False) else params["output.weight"]
    return references(model.rnn, x) @ weight.T + params["output.bias"]


def test_models_of_sequences(compiled: Compiled) -> None:
    x = np.random.default_rng(1).standard_normal((STEPS, INPUTS)).astype(np.float32)
    for name in ("classifier", "raw"):
        expected = scores(compiled.models[name], x)
        assert_close(compiled.steps(name, x, 4), expected, "forward", name)
        assert_close(compiled.last(name, x, 4), expected[-1], "forward", name)


def test_language_models(compiled: Compiled) -> None:
    tokens = np.array([3, 0, 10, 10, 5])
    for name in ("tokens", "tied"):
        model = compiled.models[name]
        expected = scores(model, model.params["embedding.weight"][tokens])
        assert_close(compiled.steps(name, tokens, 11), expected, "forward", name)


def test_series_in_their_units(compiled: Compiled) -> None:
    x = np.random.default_rng(1).standard_normal((STEPS, INPUTS)) * (2.0, 0.5) + (3.0, -1.0)
    x = x.astype(np.float32)
    for name in ("gaussian", "forecast"):
        model, it = compiled.models[name], series(**SERIES[name])
        found = scores(model, it.inputs.transform(x)).reshape(STEPS, -1, 2, model.loss.width)
        if name == "gaussian":
            found[..., 1] = np.sqrt(np.exp(found[..., 1]) + 1e-6)
            expected = found * it.outputs.scale[:, None] + it.outputs.mean[:, None] * np.array([1, 0])
        else:
            expected = found * it.outputs.scale[:, None] + it.outputs.mean[:, None]
        expected = expected.reshape(STEPS, -1)
        assert_close(compiled.steps(name, x, expected.shape[1]), expected, "forward", name)


def test_the_comment_tells_the_memory(compiled: Compiled, tmp_path: Path) -> None:
    for name in ("gru", "float64", "heads_norm"):
        ln.save_c(compiled.layers[name], tmp_path / f"{name}.h")
        assert f"{name}_state: {compiled.size(name):,} bytes" in (tmp_path / f"{name}.h").read_text()


def test_headers_are_cplusplus_too(compiled: Compiled) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    names = "".join(f'#include "{name}.h"\n' for name in (*LAYERS, *MODELS))
    (compiled.folder / "all.cpp").write_text(names)
    command = [
        compiler,
        "-std=c++11",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-fsyntax-only",
        "all.cpp",
    ]
    done = subprocess.run(command, cwd=compiled.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]


def test_numbers_are_exact(tmp_path: Path) -> None:
    """All bits of a compiled number are those of the weight: the least, the largest, both zeros."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 4000, np.uint32).view(np.float32)
    edges = [0.0, -0.0, 1e-45, 1.1754944e-38, 3.4028235e38, 1.0, 1 / 3, 16777216.0]
    for dtype, prefix in ((np.float32, "single"), (np.float64, "double_")):
        values = np.concatenate([bits[np.isfinite(bits)], edges]).astype(dtype)
        if dtype == np.float64:
            values = np.concatenate([values / 3, [5e-324, 1.7976931348623157e308]])
        text = "\n".join(Dialect(np.dtype(dtype), prefix).array(f"{prefix}_values", values, "values"))
        kind = "float" if dtype == np.float32 else "double"
        (tmp_path / f"{prefix}.h").write_text(
            f"{text}\ntypedef struct {{ int unused; }} {prefix}_state;\n"
            f"static void {prefix}_init({prefix}_state *state) {{ state->unused = 0; }}\n"
            f"static void {prefix}_step({prefix}_state *state, const {kind} *x, {kind} *y)\n"
            "{ (void)state; (void)x;\n"
            f"for (int n = 0; n < {len(values)}; ++n) y[n] = {prefix}_values[n]; }}\n"
        )
        found = CompiledHeaders(tmp_path, {prefix: f"const {kind} *"}).steps(
            prefix, np.zeros((1, 1), dtype), len(values), dtype
        )
        assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ln.GRU(2, 3, bidirectional=True), "bidirectional"),
        (lambda: ln.ClockworkRNN(2, 4, periods=(1, 2)), "ClockworkRNN"),
        (lambda: Recurrent(make_cell(Open), 2, 3), "Open takes extras \\(open\\)"),
    ],
)
def test_refused_by_name(make: Callable[[], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        ln.save_c(make(), tmp_path / "net.h")
    assert not list(tmp_path.iterdir())


class Open:
    """A cell with a number from outside."""

    gates = ("g",)
    states = ("h",)
    extras = ("open",)

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """The new state."""
        return {"h": v.open * tanh(z.g)}


def test_refused_besides(tmp_path: Path) -> None:
    model, relative = MODELS["forecast"](), series(**FORECAST, relative=True)
    with pytest.raises(ValueError, match="relative to the window's last step"):
        ln.save_c(model, tmp_path / "net.h", series=relative)
    with pytest.raises(ValueError, match=r"net\.c: expected a name that ends in \.h"):
        ln.save_c(model, tmp_path / "net.c")
    with pytest.raises(TypeError, match="expected a model or a recurrent layer, got Linear"):
        ln.save_c(ln.Linear(2, 3), tmp_path / "net.h")  # type: ignore[arg-type]
    rnn = ln.RNN(2, 3)
    rnn.params["weight_hh_l0"][0, 0] = np.inf
    with pytest.raises(ValueError, match="weight_hh_l0: a number is not finite"):
        ln.save_c(rnn, tmp_path / "net.h")
    assert not list(tmp_path.iterdir())


def test_names_and_comments(tmp_path: Path) -> None:
    """Names come from the file's, and no text of a user leaves the comment."""
    names = {"7-bit größe": "model_7_bit_gr__e", "_net": "net", "__": "model", "a b": "a_b"}
    assert {stem: identifier(stem) for stem in names} == names
    facts = {"lstm_numba.features": '["*/ int x; /*", "a\\\n??/b"]', "lstm_numba.tokens": "x" * 9999}
    ln.save_c(MODELS["classifier"](), tmp_path / "x y.h", facts=facts)
    text = (tmp_path / "x y.h").read_text()
    inside, _, rest = text.partition("*/")
    assert "int x" in inside
    assert "int x" not in rest
    assert "xxx" not in text
    (tmp_path / "x y.h").rename(tmp_path / "x_y.h")
    CompiledHeaders(tmp_path, {"x_y": "const float *"})
