"""Zoneout, dropout in the recurrent step, and resets, beside plain NumPy and beside sequences cut by hand."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from recurrent_problems import Case, Problem, central_differences, pack, unpack
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.cells import tanh
from lstm_numba.cells.definition import Extra
from lstm_numba.nn.layers import make_layer

Array = np.ndarray[Any, Any]
SEED = 11


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def step(name: str, x: Array, states: list[Array], p: dict[str, Array], factor: Array) -> list[Array]:
    """One step for one sequence; the candidate is multiplied by a factor (Semeniuta et al. 2016)."""
    h = states[0]
    w = np.split(p["weight_ih"] @ x + p["bias_ih"], len(p["bias_ih"]) // h.size)

    def r(operand: Array) -> list[Array]:
        return np.split(p["weight_hh"] @ operand + p["bias_hh"], len(w))

    if name.startswith("gru"):
        reset, z = (sigmoid(w[n] + r(h)[n]) for n in (0, 1))
        seen = reset * r(h)[2] if name == "gru" else r(reset * h)[2]
        return [(1 - z) * factor * np.tanh(w[2] + seen) + z * h]
    c = states[1]
    p_i, p_f, p_o = np.split(p["weight_ph"], 3) if name == "peephole" else (0.0, 0.0, 0.0)
    i, f = sigmoid(w[0] + r(h)[0] + p_i * c), sigmoid(w[1] + r(h)[1] + p_f * c)
    c = f * c + i * factor * np.tanh(w[2] + r(h)[2])
    return [sigmoid(w[3] + r(h)[3] + p_o * c) * np.tanh(c), c]


class Masks(NamedTuple):
    """Of one layer, direction and head: of each state (T, B, H), 1 where it is updated; of the step."""

    updates: list[Array]
    dropout: Array


def draw(layer: Any, steps: int, batch: int, training: bool) -> Iterator[Masks]:
    """The masks, in the order in which the layer says that it draws them; at inference expectations."""
    rng = np.random.default_rng(SEED)
    shape = (steps, batch, layer.hidden_size // layer.heads)
    states, p = len(layer.cell.states), layer.recurrent_dropout
    zoneout = layer.zoneout if isinstance(layer.zoneout, tuple) else (layer.zoneout,) * states

    def kept(shape: tuple[int, ...], p: float) -> Array:
        return (rng.random(shape, dtype=np.float32) >= np.float32(p)) if p else np.ones(shape)

    for _ in range(layer.num_layers * layer.directions * layer.heads):
        if training:
            updates = [kept(shape, q) for q in zoneout]
            each = shape if layer.recurrent_dropout_kind == "candidate" else (1, *shape[1:])
            yield Masks(updates, np.broadcast_to(kept(each, p) / (1 - p), shape))
        else:
            yield Masks([np.full(shape, 1 - q) for q in zoneout], np.ones(shape))


def by_hand(
    problem: Problem, training: bool, resets: Array | None = None, to: str = "zeros"
) -> tuple[Array, list[Array]]:
    """Outputs and final states: Krueger et al.'s equations, Gal and Ghahramani's or Semeniuta et al.'s."""
    case, layer = problem.case, problem.layer
    width = case.hidden // layer.heads
    lengths = case.lengths or (case.steps,) * case.batch
    masks = draw(layer, case.steps, case.batch, training)
    finals, y = [s.copy() for s in problem.states], problem.x
    for n in range(case.layers * layer.directions):
        number, direction = divmod(n, layer.directions)
        if direction == 0:
            out = np.zeros((case.steps, case.batch, layer.directions * case.hidden))
        end = f"_l{number}" + "_reverse" * direction
        for head in range(layer.heads):
            updates, dropout = next(masks)
            units = slice(width * head, width * (head + 1))
            params = {
                key.removesuffix(end): np.split(value, layer.heads)[head]
                for key, value in layer.params.items()
                if key.endswith(end)
            }
            for b in range(case.batch):
                first = [s[n, b, units] for s in problem.states]
                again = first if to == "initial" else [0 * s for s in first]
                times, states = list(range(lengths[b])), first
                for t in reversed(times) if direction else times:
                    boundary = t + direction  # which lies before this step as it is read
                    if resets is not None and boundary < lengths[b] and resets[boundary, b]:
                        states = again
                    local, factor = dict(params), dropout[t, b]
                    if layer.recurrent_dropout_kind == "sequence":
                        local["weight_hh"], factor = params["weight_hh"] * factor, np.ones(width)
                    new = step(problem.name, y[t, b], states, local, factor)
                    states = [
                        u[t, b] * a + (1 - u[t, b]) * s for u, a, s in zip(updates, new, states, strict=True)
                    ]
                    out[t, b, direction * case.hidden :][units] = states[0]
                for final, state in zip(finals, states, strict=True):
                    final[n, b, units] = state
        if direction == layer.directions - 1:
            y = out
    return y, finals


#: Cells, options, and what resets lead to; each is compiled once, for all tests together.
WRAPPED: dict[str, tuple[str, dict[str, Any], str]] = {
    "lstm": ("lstm", {"zoneout": (0.5, 0.2), "recurrent_dropout": 0.3}, "initial"),
    "peephole": (
        "peephole",
        {"zoneout": (0.0, 0.4), "recurrent_dropout": 0.3, "recurrent_dropout_kind": "candidate"},
        "zeros",
    ),
    "gru": ("gru", {"recurrent_dropout": 0.3, "recurrent_dropout_kind": "candidate"}, "zeros"),
    "gru-reset-before": ("gru-reset-before", {"zoneout": 0.4, "recurrent_dropout": 0.3}, "initial"),
}
EVERY = pytest.mark.parametrize("which", list(WRAPPED))
CASES = [Case(6, 3, 4, 9), Case(5, 3, 4, 6, 2, True, (5, 0, 3))]
RESETS = np.zeros((6, 3), bool)
RESETS[[0, 1, 2, 3, 3, 4, 5], [0, 1, 0, 0, 2, 2, 2]] = True  # the last is past the end of five steps


def wrapped(which: str, case: Case, **more: Any) -> tuple[Problem, Array, str]:
    """The problem, resets of its length, and what they lead to."""
    name, options, to = WRAPPED[which]
    return Problem(name, case, np.float64, **options, **more), RESETS[: case.steps, : case.batch], to


def seed(problem: Problem) -> None:
    problem.layer.rng = np.random.default_rng(SEED)


def check(found: tuple[Array, Any], truth: tuple[Array, list[Array]], what: str) -> None:
    assert_close(found[0], truth[0], "forward", f"y, {what}")
    for n, (state, expected) in enumerate(zip(unpack(found[1]), truth[1], strict=True)):
        assert_close(state, expected, "forward", f"state {n}, {what}")


@EVERY
def test_training_beside_the_papers_equations_with_the_masks(which: str) -> None:
    for case in CASES:
        for heads in {1, 2 if case.hidden % 2 == 0 else 1}:
            problem, resets, to = wrapped(which, case, heads=heads)
            seed(problem)
            found = problem.layer.forward(problem.x, pack(problem.states), case.lengths, resets, to)
            truth = by_hand(problem, True, resets, to)
            check(found[:2], truth, f"{case}, {heads} heads")
            without = by_hand(problem, True)
            assert not np.allclose(truth[0], without[0], atol=1e-3)  # resets change something


@pytest.mark.parametrize("which", ["lstm"])
def test_inference_computes_the_expectation_and_drops_nothing(which: str) -> None:
    problem, _, _ = wrapped(which, CASES[1])
    before = problem.layer.rng.bit_generator.state
    truth = by_hand(problem, False)
    y, state = problem.run()
    check((y, pack(state)), truth, "call")
    states = pack(problem.states)
    check(problem.layer.forward(problem.x, states, CASES[1].lengths, training=False)[:2], truth, "forward")
    assert problem.layer.rng.bit_generator.state == before
    one = make_layer(problem.name, 4, 6, dtype=np.float64, **WRAPPED[which][1])
    stream = ln.Stream(one)
    stepped = np.array([stream.step(x).copy() for x in problem.x[:, 0]])
    assert_close(stepped, one(problem.x[:, :1])[0][:, 0], "forward", "stream")


@EVERY
def test_every_gradient_against_central_differences(which: str) -> None:
    """With the same masks in every evaluation, two layers, both directions and lengths."""
    case = Case(4, 2, 2, 3, 2, True, (4, 2))
    problem, resets, to = wrapped(which, case)

    def forward() -> tuple[Array, Any, Any]:
        seed(problem)
        return problem.layer.forward(problem.x, pack(problem.states), case.lengths, resets, to)

    def loss() -> float:
        y, state, _ = forward()
        pairs = [(y, problem.dy), *zip(unpack(state), problem.dstates, strict=True)]
        return float(sum(np.vdot(a, b) for a, b in pairs))

    problem.loss = loss  # type: ignore[method-assign]
    dx, dstate, grads = problem.layer.backward(forward()[2], problem.dy, pack(problem.dstates))
    gradients = {"x": dx, **{f"state {n}": d for n, d in enumerate(unpack(dstate))}, **grads}
    for key, array in problem.variables().items():
        assert_close(gradients[key], central_differences(problem, array), "central differences", f"d{key}")


# -- resets -------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """A part of one sequence between two boundaries."""

    row: int
    begin: int
    end: int
    first: bool
    last: bool


def cut(resets: Array, lengths: tuple[int, ...]) -> Iterator[Piece]:
    for row, length in enumerate(lengths):
        bounds = [0, *(t for t in range(1, length) if resets[t, row]), length]
        for n, (begin, end) in enumerate(itertools.pairwise(bounds)):
            yield Piece(row, begin, end, n == 0, n == len(bounds) - 2)


@pytest.mark.parametrize("to", ["initial"])
@pytest.mark.parametrize("name", ["lstm"])
def test_resets_are_sequences_cut_by_hand(name: str, to: str) -> None:
    """Outputs, final states and every gradient, with the weights' masks, for both directions."""
    case = Case(6, 3, 4, 5, 2, True, (6, 0, 5))
    dropped = Problem(name, case, np.float64, weight_drop=0.3)
    plain = Problem(name, case, np.float64)
    seed(dropped)
    y, state, tape = dropped.layer.forward(dropped.x, pack(dropped.states), case.lengths, RESETS, to)
    masks = dict(
        zip([k for k in plain.layer.params if k.startswith("weight_hh")], tape.weight_masks, strict=True)
    )
    found_dx, found_dstate, found = dropped.layer.backward(tape, dropped.dy, pack(dropped.dstates))
    for key, value in plain.layer.params.items():
        value[...] = dropped.layer.params[key] * masks.get(key, 1)
    out, dx = np.zeros_like(y), np.zeros_like(found_dx)
    finals = [s.copy() for s in dropped.states]
    dinitial = [d.copy() if case.lengths else d for d in dropped.dstates]
    for d in dinitial:
        d[:, [0, 2]] = 0  # where there is no step, the final state is the initial one
    grads = {key: np.zeros_like(value) for key, value in plain.layer.params.items()}
    for piece in cut(RESETS, case.lengths or ()):
        if piece.begin == piece.end:
            continue
        row, times = slice(piece.row, piece.row + 1), slice(piece.begin, piece.end)
        # Where each direction begins with the initial state, and where its end is the final one.
        restart = to == "initial"
        given = [restart or (piece.first and not RESETS[0, piece.row]), restart or piece.last] * 2
        ends = [piece.last, piece.first] * 2
        first = [np.where(np.array(given)[:, None, None], s[:, row], 0) for s in dropped.states]
        part, last, own = plain.layer.forward(dropped.x[times, row].copy(), pack(first))
        out[times, row] = part
        dlast = [np.where(np.array(ends)[:, None, None], d[:, row], 0) for d in dropped.dstates]
        dpart, dfirst, dparams = plain.layer.backward(own, dropped.dy[times, row].copy(), pack(dlast))
        dx[times, row] = dpart
        for key, value in dparams.items():
            grads[key] += value * masks.get(key, 1)
        for n in range(4):
            for final, value, initial, gradient in zip(
                finals, unpack(last), dinitial, unpack(dfirst), strict=True
            ):
                if ends[n]:
                    final[n, row] = value[n]
                if given[n]:
                    initial[n, row] += gradient[n]
    check((y, state), (out, finals), to)
    assert_close(found_dx, dx, "backward", "dx")
    for got, truth in zip(unpack(found_dstate), dinitial, strict=True):
        assert_close(got, truth, "backward", "dstate")
    for key, value in found.items():
        assert_close(value, grads[key], "backward", f"d{key}")


def test_resets_in_other_forms(backend: str) -> None:
    """With the batch first, without an initial state, with none at all, and past a sequence's end."""
    layer = ln.LSTM(3, 5, bidirectional=True, dtype=np.float64, seed=0, device=backend)
    first = ln.LSTM(3, 5, bidirectional=True, dtype=np.float64, seed=0, device=backend, batch_first=True)
    x, resets = np.random.default_rng(1).standard_normal((4, 2, 3)), RESETS[:4, :2]
    y, state = layer(x, resets=resets)
    turned, turned_state = first(x.swapaxes(0, 1), resets=resets.T.tolist())
    np.testing.assert_array_equal(turned.swapaxes(0, 1), y)
    np.testing.assert_array_equal(turned_state, state)
    zeros = layer.zero_state(2)
    zeros = tuple(map(np.array, map(layer.engine.download, zeros)))
    np.testing.assert_array_equal(layer(x, zeros, resets=resets, reset_to="initial")[0], y)
    # The gradient of an initial state that was not given is there all the same.
    dstates = []
    for given in (None, zeros):
        out, _, tape = layer.forward(x, given, resets=resets, reset_to="initial")
        np.testing.assert_array_equal(out, y)
        dstates.append(layer.backward(tape, np.ones_like(out))[1])
    np.testing.assert_array_equal(*dstates)
    plain, _, tape = layer.forward(x, None, (4, 2), ~resets & (np.arange(4)[:, None] >= (4, 2)))
    assert tape.cell is layer.cell
    np.testing.assert_array_equal(plain, layer(x, None, (4, 2))[0])
    assert layer.forward(x, resets=np.zeros((4, 2), bool))[2].cell is layer.cell


def test_the_seed_gives_the_masks_and_copies_have_them() -> None:
    problem, resets, to = wrapped("lstm", CASES[1], weight_drop=0.2, dropout=0.2)
    outputs = []
    for layer in (problem.layer, copy.deepcopy(problem.layer), pickle.loads(pickle.dumps(problem.layer))):
        for number in (SEED, SEED, SEED + 1):
            layer.rng = np.random.default_rng(number)
            outputs.append(layer.forward(problem.x, None, CASES[1].lengths, resets, to)[0])
    for n in range(9):
        same = np.array_equal(outputs[n], outputs[0])
        assert same == (n % 3 != 2), n


# -- extras of a user's cell --------------------------------------------------------------------------


@ln.register_cell
class Forced:
    """An RNN whose state is pulled to a number of every unit, by a part that each row has its own of."""

    gates = ("n",)
    states = ("h",)
    extras = (Extra("target"), Extra("part", units=False))

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        h = tanh(z.n)
        return {"h": h + v.part * (v.target - h)}


@pytest.mark.parametrize("heads", [1, 2])
def test_extras_of_a_cell_of_ones_own(heads: int) -> None:
    rng = np.random.default_rng(0)
    x, target, part = (rng.standard_normal(shape) for shape in ((4, 3, 2), (4, 1, 6), (1, 3, 1)))
    layer = Forced(2, 6, dtype=np.float64, seed=0, bidirectional=True, heads=heads)
    plain = ln.RNN(2, 6, dtype=np.float64, bidirectional=True, heads=heads)
    plain.load_state_dict(layer.params)
    extras = {"target": target, "part": part}
    y, _, tape = layer.forward(x, extras=extras)
    expected = np.zeros_like(y)
    for direction in range(2):
        state = np.zeros((2, 3, 6))
        for t in reversed(range(4)) if direction else range(4):
            _, new = plain(x[t : t + 1], state)
            state[...] = new + part[0] * (target[t] - new)
            expected[t, :, 6 * direction : 6 * direction + 6] = state[direction]
    assert_close(y, expected, "forward")
    kept = {name: value.copy() for name, value in extras.items()}
    dx = layer.backward(tape, np.ones_like(y))[0]
    _, _, tape = layer.forward(x, extras=extras)
    for value in extras.values():
        value[...] = 9  # the tape has copies
    np.testing.assert_array_equal(layer.backward(tape, np.ones_like(y))[0], dx)
    turned = Forced(2, 6, dtype=np.float64, seed=0, bidirectional=True, heads=heads, batch_first=True)
    swapped = {name: value.swapaxes(0, 1) for name, value in kept.items()}
    np.testing.assert_array_equal(turned(x.swapaxes(0, 1), extras=swapped)[0].swapaxes(0, 1), y)
    with pytest.raises(
        ValueError, match=r"extras: expected \['part', 'target'\]; missing \['part'\], unknown \[\]"
    ):
        layer(x, extras={"target": target})
    expected_shape = r"extras: target: expected shape \(4 or 1, 3 or 1, 6\), got \(4, 2, 6\)"
    with pytest.raises(ValueError, match=expected_shape):
        layer(x, extras={**kept, "target": target[:, [0, 0]]})
    with pytest.raises(TypeError, match="extras: part: expected dtype float64, got float32"):
        layer(x, extras={**kept, "part": part.astype(np.float32)})
    with pytest.raises(ValueError, match=r"extras: expected none; missing \[\], unknown \['part'\]"):
        plain(x, extras={"part": part})


# -- arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zoneout": 1.0}, r"zoneout: expected a probability in \[0, 1\), got 1.0"),
        ({"zoneout": (0.1, 0.1, 0.1)}, "zoneout: expected a probability, or one for each of h, c, got 3"),
        ({"recurrent_dropout": -0.1}, "recurrent_dropout: expected a probability"),
        (
            {"recurrent_dropout_kind": "step"},
            "recurrent_dropout_kind: expected sequence or candidate, got 'step'",
        ),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ln.LSTM(3, 4, **options)


def test_other_bad_arguments_are_named() -> None:
    with pytest.raises(
        ValueError, match="recurrent_dropout_kind: RNNCell has no candidate; expected sequence"
    ):
        ln.RNN(3, 4, recurrent_dropout=0.1, recurrent_dropout_kind="candidate")
    layer, x = ln.LSTM(3, 4), np.zeros((5, 2, 3), np.float32)
    with pytest.raises(ValueError, match=r"resets: expected shape \(5, 2\), got \(2, 5\)"):
        layer(x, resets=np.zeros((2, 5), bool))
    with pytest.raises(TypeError, match="resets: expected booleans, got int64"):
        layer(x, resets=np.zeros((5, 2), np.int64))
    with pytest.raises(ValueError, match="reset_to: expected zeros or initial, got 'first'"):
        layer(x, reset_to="first")
    text = repr(ln.GRU(3, 4, zoneout=(0.1,), recurrent_dropout=0.2, recurrent_dropout_kind="candidate"))
    assert text == (
        "GRU(3, 4, zoneout=(0.1,), recurrent_dropout=0.2, recurrent_dropout_kind='candidate', dtype=float32)"
    )
