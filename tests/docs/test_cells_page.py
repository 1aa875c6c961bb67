"""The page about the cells: what stands there is computed, and is what the reference computes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from repository import ROOT
from scipy.special import expit

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.benchmarks import cell_pages
from lstm_numba.cells import BUILT_IN, find_cell
from lstm_numba.cells.onnx_variants import ACTIVATIONS, VALUES, VARIED
from lstm_numba.interop.files.keras.layout import ORDER

PATH = ROOT / "lstm_numba" / "cells" / "README.md"
PAGE = PATH.read_text(encoding="utf-8")
NAMES = (*BUILT_IN, "lstm-projected")
#: Mathematics on the page -> Python.
_WORDS = {
    r"\,": " @ ", r"\odot": "*", r"\cdot": "*", r"\sigma": "sigmoid", r"\lvert": "absolute(", r"\rvert": ")",
    "_-": "_prev", r"\log": "log", r"\max": "maximum", r"\min": "minimum", r"\tanh": "tanh", r"\exp": "exp",
    r"\alpha": "alpha", r"\beta": "beta",
}  # fmt: skip
_FUNCTIONS: dict[str, Any] = {
    name: getattr(np, name) for name in ("absolute", "exp", "log", "maximum", "minimum", "tanh")
}


def as_python(latex: str) -> str:
    """An expression as it stands on the page, for `eval`."""
    for word, meaning in _WORDS.items():
        latex = latex.replace(word, meaning)
    latex = re.sub(r"(\d)\^\{(-\d+)\}", r"\1.0**(\2)", latex)
    return re.sub(r"\{(\w+)\}", r"\1", latex)


def block(name: str) -> str:
    """What the page says of a cell."""
    return re.findall(rf"<!-- cell {name} -->\n(.*?)<!-- end of cell -->", PAGE, re.DOTALL)[0]


def equations(text: str) -> list[tuple[str, str]]:
    """Names and expressions."""
    (inside,) = re.findall(r"\\begin\{aligned\}\n(.*?)\\end\{aligned\}", text, re.DOTALL)
    return [
        tuple(part.strip() for part in line.removesuffix(r" \\").split("&=")) for line in inside.splitlines()
    ]


def row_names(text: str) -> dict[str, list[str]]:
    """Row blocks of each parameter by the page."""
    (line,) = re.findall(r"^\| row blocks, in order \| (.*) \|$", text, re.MULTILINE)
    return {name: rows.split(", ") for name, rows in re.findall(r"`(\w+)` ([^;|]+)", line)}


def symbols(text: str, params: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the page calls the parameters of a layer."""
    rows, found = row_names(text), dict[str, Any]()
    blocks = {
        name: dict(
            zip((row.replace("_", "") for row in names), np.split(params[name], len(names)), strict=True)
        )
        for name, names in rows.items()
        if name != "weight_ph"
    }
    for letter, weight in (("W", "weight_ih"), ("R", "weight_hh")):
        found |= {f"{letter}_{gate}": rows for gate, rows in blocks[weight].items()}
    for gate in {**blocks["weight_ih"], **blocks["weight_hh"]} if "bias_ih" in params else ():
        parts = []
        for letter in "ih":
            gates = list(blocks[f"weight_{letter}h"])
            if gate in gates:
                parts.append(np.split(params[f"bias_{letter}h"], len(gates))[gates.index(gate)])
                found[f"b_{letter}{gate}"] = parts[-1]
        found[f"b_{gate}"] = sum(parts)
    vectors = rows.get("weight_ph", [])
    for name, vector in zip(
        vectors, np.split(params["weight_ph"], len(vectors)) if vectors else (), strict=True
    ):
        first, rest = name.split("_")
        found[f"{first[0]}_{first[1:]}{rest}"] = vector
    return found | ({"W_hr": params["weight_hr"]} if "weight_hr" in params else {})


def normaliser(line: tuple[str, str, str], names: dict[str, Any]) -> Callable[[Any], Any]:
    """N of a note: mean and variance are over all that it lists, as it is when N is called."""
    _, epsilon, listed = line

    def normalise(a: Any) -> Any:
        values = [eval(as_python(part), _FUNCTIONS, names) for part in re.findall(r"\$`(.*?)`\$", listed)]
        seen = np.concatenate(values)
        return (a - seen.mean()) / np.sqrt(seen.var() + eval(as_python(epsilon)))

    return normalise


def stepped(name: str, x: np.ndarray, states: list[np.ndarray], params: dict[str, np.ndarray]) -> list[Any]:
    """The states after a step by the page's equations."""
    text, cell = block(name), find_cell(name)
    names = {"x": x, "sigmoid": expit, **symbols(text, params)}
    names |= {f"{state}_prev": value for state, value in zip(cell.states, states, strict=True)}
    notes = re.findall(
        r"^- \$`N_\{?(\w+)\}?\(a\) .*\\mathrm\{var\} \+ (\S+)\}`\$: mean .* of (.*)$", text, re.M
    )
    names |= {f"N_{note[0]}": normaliser(note, names) for note in notes}
    for left, right in equations(text):
        names[as_python(left)] = eval(as_python(right), _FUNCTIONS, names)
    return [names[state] for state in cell.states]


def layer(name: str, inputs: int, hidden: int) -> Any:
    """A layer as the page makes it, in float64."""
    (call,) = re.findall(r"^\| layer \| `(.*?)`", block(name), re.MULTILINE)
    call = call[:-1] + ", dtype=np.float64, seed=0)"
    return eval(call, {"ln": ln, "np": np, "I": inputs, "H": hidden, "P": 2})


@pytest.mark.smoke
def test_the_page_is_up_to_date() -> None:
    assert all(f"<!-- cell {name} -->" in PAGE for name in NAMES)
    assert all(f"<!-- cells {name} -->" in PAGE for name in cell_pages.TABLES)
    assert cell_pages.with_cells(PAGE) == PAGE


@pytest.mark.parametrize("name", NAMES)
def test_equations_on_the_page_are_those_of_the_reference(name: str) -> None:
    rng = np.random.default_rng(0)
    rnn = layer(name, 3, 4)
    params = {key.removesuffix("_l0"): rng.standard_normal(a.shape) for key, a in rnn.params.items()}
    states: list[np.ndarray] = [rng.standard_normal(array.shape[-1]) for array in _states(rnn)]
    if name == "slstm":
        states[2] = np.abs(states[2])  # a sum of positive gates
    x = rng.standard_normal(3)
    expected, _ = reference.STEPS[name](x[None], tuple(s[None] for s in states), params)
    found = stepped(name, x, states, params)
    assert len(found) == len(expected)
    for state, value, wanted in zip(find_cell(name).states, found, expected, strict=True):
        np.testing.assert_allclose(value, wanted[0], rtol=1e-12, atol=1e-12, err_msg=state)


def _states(rnn: Any) -> list[np.ndarray]:
    state = rnn.zero_state(1)
    return list(state) if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("name", NAMES)
def test_sizes_on_the_page_are_the_layers(name: str) -> None:
    (text,) = re.findall(r"^\| parameters per unit \| (.*), and (\d+) biases \|$", block(name), re.MULTILINE)
    sizes = {"I": 3, "H": 4, "P": 2}
    weights = eval(re.sub(r"(\d) ([IHP])", r"\1*\2", text[0]), sizes)
    rnn = layer(name, 3, 4)
    # h of a projected layer has P units, all else H: the P rows of weight_hr have H columns.
    assert sum(a.size for a in rnn.params.values()) == sizes["H"] * (weights + int(text[1]))


def test_sizes_of_a_clockwork_layer() -> None:
    weights, share = cell_pages.clockwork_costs()
    rnn = ln.ClockworkRNN(3, 8)
    count = sum(a.size for name, a in rnn.params.items() if name.startswith("weight"))
    assert eval(weights.replace(" H", " * 8"), {"I": 3}) * 8 == count
    assert f"| I + 5/8 H | {share:.2f} |" in PAGE


def test_the_clockwork_equations_are_the_layers() -> None:
    rng = np.random.default_rng(1)
    rnn = ln.ClockworkRNN(3, 4, periods=(1, 3), seed=0)
    x = rng.standard_normal((7, 1, 3)).astype(np.float32)
    p = {name.replace("_l0", ""): a.astype(np.float64) for name, a in rnn.params.items()}
    groups, outputs = [np.zeros(2), np.zeros(2)], []
    for t, row in enumerate(x[:, 0]):
        before = list(groups)
        for k, period in enumerate(rnn.periods):
            if t % period == 0:
                read = np.concatenate([row, *before[k + 1 :]])
                total = p[f"weight_ih_g{k}"] @ read + p[f"bias_ih_g{k}"] + p[f"bias_hh_g{k}"]
                groups[k] = np.tanh(total + p[f"weight_hh_g{k}"] @ before[k])
        outputs.append(np.concatenate(groups))
    np.testing.assert_allclose(rnn(x)[0][:, 0], outputs, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_on_the_page_are_the_variants(name: str) -> None:
    ((value, _),) = re.findall(rf"^\| `{name}` \| \$`(.*?)`\$ \| (.*) \|$", PAGE, re.MULTILINE)
    text = re.sub(r"\[(.*?) > 0\]", r"* ((\1) > 0)", as_python(value))
    text = re.sub(r"\b(alpha|beta) (?=[\w(])", r"\1 * ", re.sub(r"\) (?=\w)", ") * ", text))
    for x in (-2.3, -0.4, 0.2, 1.7):
        numbers = (0.7, 0.3)[: len(ACTIVATIONS[name])]
        names = {"x": x, "sigmoid": expit, **dict(zip(("alpha", "beta"), numbers, strict=False))}
        assert eval(text, _FUNCTIONS, names) == pytest.approx(float(VALUES[name](x, *numbers)), rel=1e-12)


def results(name: str) -> list[dict[str, Any]]:
    """Rows of a committed result."""
    found: list[dict[str, Any]] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())[
        "rows"
    ]
    return found


def test_figures_in_the_text_are_of_the_results() -> None:
    text = " ".join(PAGE.split())

    def span(values: list[float], form: str = "{:.0f} to {:.0f} %", percent: bool = True) -> str:
        return form.format(
            *((100 * value - 100 if percent else value) for value in (min(values), max(values)))
        )

    ratios = cell_pages.training_ratios()
    layer_norm_gru = [
        r["ratio"] for r in results("zen5-avx512/gru-options") if r["option"] == "layer-norm-gru"
    ]
    flow = {(row["cell"], row["state"]): row["rate"] for row in results("experiments/gradient-flow")}
    for sentence in (
        f"for {span(ratios['slstm'])} more training time than the LSTM",
        f"{span(ratios['layer-norm-lstm'])} more training time than the LSTM",
        f"{span(layer_norm_gru)} more training time than the GRU",
        f"took {span(ratios['lstm-projected'], '{:.2f} to {:.2f}', False)} of the LSTM's time",
        f"{span(ratios['peephole-full'], '{:.1f} to {:.1f}', False)} times the LSTM's training time",
        f"before training {flow['rnn', 'h']:.2f} in the [gradient-flow",
    ):
        assert sentence in text, sentence
    for cell in ("coupled", "gru"):
        assert all(0.73 < ratio < 0.80 for ratio in ratios[cell]), cell  # about three quarters


def test_what_the_text_says_of_the_experiments() -> None:
    gaps = {row["cell"]: row for row in results("experiments/long-gap") if row["task"] == "all"}
    tests = {(row["data"], row["cell"]): row for row in results("experiments/odyssey")}
    share = {cell: row["gap 1000"] or 0 for cell, row in gaps.items()}
    assert {cell for cell in share if share[cell] == 1} == {"slstm", "gru-reset-before", "layer-norm-gru"}
    gated = set(BUILT_IN) - {"rnn", "rnn-relu"}
    assert min(gated, key=share.__getitem__) == "use-gate"
    assert gaps["rnn"]["bridged"] == 30
    assert max(gaps[cell]["bridged"] for cell in ("rnn-relu", "clockwork")) < 30
    assert share["gru"] >= share["lstm"]
    assert all(
        tests[data, "gru"]["test"] < tests[data, "lstm"]["test"] for data in ("digits", "grammar", "reber")
    )
    lstm, full = (tests["grammar", cell]["tests"] for cell in ("lstm", "peephole-full"))
    assert min(full) > max(lstm)
    assert sum(test > 10 for test in tests["reber", "layer-norm-lstm"]["tests"]) == 3
    verdicts = {key: row["beyond"] for key, row in tests.items()}
    for data, better in (
        ("digits", {"coupled", "slstm", "gru", "gru-reset-before", "layer-norm-gru"}),
        ("grammar", {"layer-norm-lstm", "layer-norm-gru"}),
    ):
        assert {cell for cell in BUILT_IN if verdicts.get((data, cell)) == "better"} == better
    assert verdicts["grammar", "use-gate"] == "worse"
    assert min(BUILT_IN, key=lambda cell: tests["digits", cell]["test"]) == "slstm"
    assert min(BUILT_IN, key=lambda cell: tests["grammar", cell]["test"]) == "layer-norm-gru"
    assert tests["digits", "clockwork"]["high"] < tests["digits", "rnn"]["low"]


def test_counterparts_are_those_that_weights_come_from() -> None:
    """The table of other libraries' layers against what the readers know."""
    after = PAGE[PAGE.index("| cell | PyTorch | Keras | ONNX |") :].split("\n\n")[0]
    table: dict[str, list[str]] = {}
    for line in after.splitlines()[2:]:
        first, *cells = line.strip("|").split("|")
        for name in re.findall(r"`([\w-]+)`", first):
            table.setdefault(name, cells)  # lstm comes before lstm with proj_size
    assert {name for name, (_, keras, _) in table.items() if keras.strip()} == set(ORDER)
    onnx = {name for name, (*_, onnx) in table.items() if onnx.strip()} - {"coupled"}  # not the same
    assert onnx == {*VARIED, "rnn-relu"}


def test_python_on_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for source in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        exec(source, names)
    assert names["rnn"].plain_cell.key == "lstm,clip=3.0,input_forget,f=HardSigmoid_0.2_0.5"
    assert capsys.readouterr().out == ln.show_cell("gru") + "\n"


@pytest.mark.smoke
def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", PAGE)
    files = [link.partition("#")[0] for link in links]
    assert [link for link in files if link and not (PATH.parent / link).exists()] == []
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
