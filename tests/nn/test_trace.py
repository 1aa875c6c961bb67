"""What a layer did inside, by name: every cell against the reference, every option against a call."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import own_cells
import pytest
from recurrent_problems import Case, Problem
from scipy.special import expit
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.cells import BUILT_IN, find_cell, positive, sigmoid, tanh
from lstm_numba.cells.derivation import SLOT
from lstm_numba.cells.expressions import Graph
from lstm_numba.cells.functions import FUNCTIONS, exp, maximum, minimum, relu
from lstm_numba.cells.traced import bounds
from lstm_numba.nn.trace import Trace, traced_cell

#: Cells with a value that the slots do not hold as it is.
VARIANTS = (
    "lstm,clip=0.5,f=HardSigmoid",
    "gru,f=Softplus",
    "peephole,input_forget",
    "gru-reset-before,g=Softsign",
)


def traced(problem: Problem, **given: Any) -> Trace:
    return problem.layer.trace(problem.x, problem.pack(problem.states), problem.case.lengths, **given)


@pytest.mark.parametrize("name", [*BUILT_IN, "lstm-projected"])
def test_every_value_against_the_reference(name: str) -> None:
    options = {"proj_size": 6} if name == "lstm-projected" else {}
    case = Case(5, 4, 3, 17, 2, True, (5, 1, 0, 3))
    problem, expected = Problem(name, case, np.float32, **options), dict[str, np.ndarray]()
    if name == "slstm":  # whose normaliser is a sum of exponentials: near zero c / n would magnify rounding
        problem.states[2] = 1 + abs(problem.states[2])
    reference.run(
        name, problem.layer.params, problem.x, problem.states,
        num_layers=2, bidirectional=True, lengths=case.lengths, trace=expected,
    )  # fmt: skip
    found = traced(problem)
    assert set(found) == set(expected)
    for key, truth in expected.items():
        assert_close(found[key], truth, "forward", key)
    assert found.names == (*find_cell(name).traced, *problem.layer.cell.states)
    assert [*found.of(1, 1)] == [*found.names]
    assert found.of(1, 1)["h"] is found["h_l1_reverse"]


@pytest.mark.parametrize("name", VARIANTS)
def test_values_that_are_computed_from_what_is_kept(name: str) -> None:
    """Of ONNX's variants, by their own equations in NumPy."""
    base, _, changes = name.partition(",")
    rnn = ln.make_layer(name, 3, 5, dtype=np.float64, seed=1)
    assert -1 in rnn.cell.traced_slots, "nothing is computed"
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    found, p = rnn.trace(x), rnn.params
    f, g = expit, np.tanh
    if "HardSigmoid" in changes:
        f = lambda a: np.clip(0.2 * np.clip(a, -0.5, 0.5) + 0.5, 0, 1)  # noqa: E731
        g = lambda a: np.tanh(np.clip(a, -0.5, 0.5))  # noqa: E731
    if "Softplus" in changes:
        f = lambda a: np.logaddexp(0, a)  # noqa: E731
    if "Softsign" in changes:
        g = lambda a: a / (1 + abs(a))  # noqa: E731
    h, c = np.zeros((2, 5)), np.zeros((2, 5))
    for t in range(4):
        w = np.split(
            x[t] @ p["weight_ih_l0"].T + p["bias_ih_l0"], 4 if base in ("lstm", "peephole") else 3, axis=1
        )
        r = np.split(h @ p["weight_hh_l0"].T + p["bias_hh_l0"], len(w), axis=1)
        if len(w) == 4:
            peep = np.split(p["weight_ph_l0"], 3) if base == "peephole" else [0.0] * 3
            values = {"i": f(w[0] + r[0] + peep[0] * c), "g": g(w[2] + r[2])}
            coupled = "input_forget" in changes
            values["f"] = 1 - values["i"] if coupled else f(w[1] + r[1] + peep[1] * c)
        else:
            values = {"r": f(w[0] + r[0]), "z": f(w[1] + r[1])}
            inner = np.split((values["r"] * h) @ p["weight_hh_l0"].T + p["bias_hh_l0"], 3, axis=1)[2]
            values["n"] = g(w[2] + (values["r"] * r[2] if base == "gru" else inner))
        for key, value in values.items():
            assert_close(found[f"{key}_l0"][t], value, "forward", f"{key}, step {t}")
        h = found["h_l0"][t]
        c = found["c_l0"][t] if len(w) == 4 else c


def test_layers_do_in_a_trace_what_they_do_in_a_call() -> None:
    """With every option: the output and the final states, bit for bit, in the trace."""
    options: list[dict[str, Any]] = [
        {},
        {"num_layers": 2, "bidirectional": True},
        {"zoneout": 0.2},
        {"heads": 2, "bidirectional": True},
        {"batch_first": True},
        {"dropout": 0.5, "num_layers": 2},
    ]
    rng = np.random.default_rng(0)
    x, resets = rng.standard_normal((6, 3, 4)).astype(np.float32), rng.random((6, 3)) < 0.3
    for given in options:
        rnn = ln.LSTM(4, 6, seed=0, **given)
        first = rnn.batch_first
        z, starts = (x.transpose(1, 0, 2), resets.T) if first else (x, resets)
        state = tuple(rng.standard_normal(s.shape).astype(np.float32) for s in rnn.zero_state(3))
        for more in ({}, {"resets": starts}, {"resets": starts, "reset_to": "initial"}):
            y, final = rnn(z, state, [6, 2, 4], **more)
            found = rnn.trace(z, state, [6, 2, 4], **more)
            last = rnn.num_layers - 1
            parts = [found.of(last, d)["h"] for d in range(rnn.directions)]
            assert np.array_equal(np.concatenate(parts, axis=2), y), given
            for layer in range(rnn.num_layers):
                values = found.of(layer)
                for n, row in enumerate((6, 2, 4)):
                    at = (n, row - 1) if first else (row - 1, n)
                    assert np.array_equal(values["c"][at], final[1][layer * rnn.directions, n]), given
                    beyond = (n, slice(row, None)) if first else (slice(row, None), n)
                    assert not any(value[beyond].any() for value in values.values())
            assert found.lengths is not None
            assert found.lengths.tolist() == [6, 2, 4]
    with pytest.raises(ValueError, match=r"x: expected shape"):
        rnn.trace(x[:, :, 1:])


def test_a_trace_is_read_only_and_of_the_present_parameters() -> None:
    rnn = ln.GRU(3, 5, seed=0)
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    first = rnn.trace(x)
    kept = {key: value.copy() for key, value in first.items()}
    with pytest.raises(ValueError, match="read-only"):
        first["z_l0"][0, 0, 0] = 2.0
    rnn.params["bias_ih_l0"][5:10] += 3.0  # the update gate's
    second = rnn.trace(x)
    assert (second["z_l0"] > first["z_l0"]).all()
    other = copy.deepcopy(rnn)
    rnn.params["bias_ih_l0"][5:10] -= 3.0
    assert_close(other.trace(x)["z_l0"], second["z_l0"], "forward")
    for key, value in kept.items():
        assert np.array_equal(first[key], value), "changed by a later call"


def test_groups_of_a_clockwork_rnn_rest() -> None:
    rnn = ln.ClockworkRNN(3, 8, 2, bidirectional=True, seed=0)
    x = np.random.default_rng(0).standard_normal((9, 3, 3)).astype(np.float32)
    y, _ = rnn(x, lengths=[9, 4, 0])
    found = rnn.trace(x, lengths=[9, 4, 0])
    assert found.names == ("h",)
    assert np.array_equal(np.concatenate([found["h_l1"], found["h_l1_reverse"]], axis=2), y)
    moved = (np.diff(found["h_l0"][:, 0, 6:], axis=0) != 0).any(axis=1)
    assert moved.tolist() == [False] * 7 + [True], "the group of period 8"


@ln.register_cell
class Threshold:
    """Has a value that no derivative needs, and more of them than slots."""

    gates = ("a", "g")
    states = ("h",)
    traced = ("hard", "sum", "soft")

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        hard, total = positive(z.a), z.a + z.g
        soft = tanh(total)
        return {"h": 0.5 * v.h + hard + soft, "hard": hard, "sum": total, "soft": soft}


def test_what_the_backward_pass_does_not_need_is_kept_for_a_trace() -> None:
    cell = find_cell(Threshold.cell.key)
    assert -1 in cell.traced_slots, "the test needs another cell"
    assert len(cell.traced) > len(cell.slots), "the test needs another cell"
    assert type(traced_cell(cell)) is type(traced_cell(cell)) is not type(cell)
    rnn = Threshold(3, 5, seed=0, dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    found, (y, _) = rnn.trace(x), rnn(x)
    before = np.concatenate([np.zeros((1, 2, 5)), y[:-1]])
    z = x @ rnn.params["weight_ih_l0"].T + rnn.params["bias_ih_l0"] + before @ rnn.params["weight_hh_l0"].T
    z += rnn.params["bias_hh_l0"]
    assert np.array_equal(found["hard_l0"], np.float64(z[..., :5] > 0))
    assert 0 < found["hard_l0"].mean() < 1
    total = z[..., :5] + z[..., 5:]
    assert_close(found["sum_l0"], total, "forward")
    assert_close(found["soft_l0"], np.tanh(total), "forward")
    assert_close(found["h_l0"], y, "forward")
    assert found.gates == ("hard",)


def test_gates_of_cells_of_ones_own() -> None:
    found = {name: find_cell(name).traced for name in own_cells.NAMES}
    assert found["lstm_numba.examples.janet:JANET"] == ("f", "g")
    assert found["own_cells:OwnDerivative"] == ("i", "f", "g", "o")
    rnn = ln.make_layer("own_cells:OwnDerivative", 3, 4, seed=0, dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((1, 2, 3))
    z = x[0] @ rnn.params["weight_ih_l0"].T + rnn.params["bias_ih_l0"] + rnn.params["bias_hh_l0"]
    values = rnn.trace(x)
    assert values.gates == ("i", "f", "o")
    i, f, g, o = np.split(z, 4, axis=1)
    for key, truth in {"i": expit(i), "f": expit(f), "g": g / (1 + abs(g)), "o": expit(o)}.items():
        assert_close(values[f"{key}_l0"][0], truth, "forward", key)


def test_declared_names_are_checked() -> None:
    def forward(self: Any, z: Any, v: Any) -> dict[str, Any]:
        a = sigmoid(z.a)
        return {"h": a * v.h, "gate": a}

    def plain(**attributes: Any) -> type:
        return type("Plain", (), {"gates": ("a",), "states": ("h",), "forward": forward, **attributes})

    for attributes, text in (
        ({}, "returns 'gate'; the states are h"),
        ({"traced": ("gate", "other")}, "traced: no phase returns 'other'"),
        ({"traced": ("h",)}, "traced: 'h' is the name of something else"),
    ):
        with pytest.raises(ValueError, match=text):
            ln.register_cell(plain(**attributes))
    layer = ln.register_cell(plain(traced=("gate",), __module__=__name__))
    assert layer.cell.traced == ("gate",)


def test_bounds_of_expressions() -> None:
    graph = Graph(FUNCTIONS)
    a, b = graph.symbol(SLOT, "a"), graph.symbol(SLOT, "b")
    infinite = (-np.inf, np.inf)
    power = sigmoid(a)
    for _ in range(64):  # each of which has the one before twice
        power = power * power
    for expression, expected in (
        (power, (0.0, 1.0)),
        (a * 2 + 1, infinite),
        (1 - sigmoid(a), (0.0, 1.0)),
        (sigmoid(a) * tanh(b), (-1.0, 1.0)),
        (-sigmoid(a) - 2, (-3.0, -2.0)),
        (relu(minimum(0.2 * a + 0.5, 1)), (0.0, 1.0)),
        (exp(a - maximum(b, a)), (0.0, 1.0)),
        (exp(a - maximum(b, 2 * a)), (0.0, np.inf)),
        (a / (1 + abs(a)), infinite),
    ):
        assert bounds(expression) == expected, expression


def test_states_of_a_stack_of_one_state() -> None:
    problem = Problem("rnn", Case(3, 2, 3, 4), np.float32)
    y, states = problem.run()
    found = traced(problem)
    assert found.names == found.states == ("h",)
    assert np.array_equal(found["h_l0"], y)
    assert np.array_equal(found["h_l0"][-1], states[0][0])
    assert repr(found).startswith("Trace(h; 1 layers")
