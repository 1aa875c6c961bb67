"""The Clockwork RNN beside the paper's loop over all units, with matrices that have zero blocks."""

from __future__ import annotations

import copy
import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
from recurrent_problems import central_differences
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import kernels
from lstm_numba.nn.clockwork import ClockworkRNN
from lstm_numba.optim.optimizers import SGD

Array = np.ndarray[Any, Any]


class Case(NamedTuple):
    """A layer, and the size of its input."""

    periods: tuple[int, ...]
    steps: int
    lengths: tuple[int, ...] | None = None
    size: int = 2
    layers: int = 1
    options: dict[str, Any] = {}  # noqa: RUF012 (a field of a tuple)
    batch: int = 3
    inputs: int = 4


CASES = {
    "one group": Case((1,), 4),
    "powers": Case((1, 2, 4, 8), 17),
    "no divisors": Case((1, 3, 5), 16, (16, 7, 1), 3),
    "no group at every step": Case((2, 3), 9, (9, 4, 0), 5),
    "short": Case((1, 4, 9), 3, None, 2),
    "one step": Case((1, 2), 1, (1, 0, 1), 3),
    "reverse": Case((1, 3, 5), 11, None, 2, 1, {"bidirectional": True}),
    "reverse, lengths": Case((1, 2, 5), 11, (4, 11, 0), 2, 1, {"bidirectional": True}),
    "stacked": Case((1, 3, 5), 12, (12, 5, 6), 2, 3, {"dropout": 0.3}),
    "all": Case((2, 3, 4, 7), 13, (13, 8, 2), 3, 2, {"bidirectional": True, "dropout": 0.4, "bias": False}),
    "wide": Case((1, 2, 50), 60, (60, 33, 59), 17),
}


class Dense(NamedTuple):
    """Parameters of a layer and direction with zero blocks in the place of what no group reads."""

    w: Array
    r: Array
    bias: Array


def dense(params: dict[str, Array], end: str, inputs: int, groups: int) -> Dense:
    """From the layer's parameters, or their gradients."""
    n = params[f"weight_hh{end}_g0"].shape[0]
    w, r, bias = np.zeros((groups * n, inputs)), np.zeros((groups * n, groups * n)), np.zeros(groups * n)
    for k in range(groups):
        rows = slice(k * n, (k + 1) * n)
        w[rows] = params[f"weight_ih{end}_g{k}"][:, :inputs]
        r[rows, rows] = params[f"weight_hh{end}_g{k}"]
        r[rows, (k + 1) * n :] = params[f"weight_ih{end}_g{k}"][:, inputs:]
        for name in ("bias_ih", "bias_hh"):
            bias[rows] += params.get(f"{name}{end}_g{k}", 0)
    return Dense(w, r, bias)


def moves(t: int, periods: tuple[int, ...], hidden: int) -> Array:
    """Which units move at step t."""
    return np.repeat([t % period == 0 for period in periods], hidden // len(periods))


def run(own: Dense, periods: tuple[int, ...], x: Array, h: Array) -> Array:
    """States (L + 1, H) of one sequence x (L, I), the initial one first."""
    history = [h]
    for t, sample in enumerate(x):
        new = np.tanh(own.w @ sample + own.r @ history[-1] + own.bias)
        history.append(np.where(moves(t, periods, len(h)), new, history[-1]))
    return np.array(history)


def run_backward(
    own: Dense, periods: tuple[int, ...], x: Array, history: Array, dy: Array, dh: Array
) -> tuple[Array, Array, Dense]:
    """Gradients of x, of the initial state and of the parameters, by back-propagation through all units."""
    dx, grads = np.zeros_like(x), Dense(*(np.zeros_like(p) for p in own))
    for t in reversed(range(len(x))):
        dh = dh + dy[t]
        moved = moves(t, periods, len(dh))
        dz = np.where(moved, dh * (1 - history[t + 1] ** 2), 0)
        dx[t] = own.w.T @ dz
        grads.w[...] += np.outer(dz, x[t])
        grads.r[...] += np.outer(dz, history[t])
        grads.bias[...] += dz
        dh = np.where(moved, 0, dh) + own.r.T @ dz
    return dx, dh, grads


class Problem:
    """A layer with random input, states and output gradients in `dtype`; the loop's results in float64."""

    def __init__(self, case: Case, dtype: Any = np.float64) -> None:
        rng = np.random.default_rng(1)
        hidden = len(case.periods) * case.size
        self.case, self.hidden, self.dtype = case, hidden, dtype
        self.layer = ClockworkRNN(
            case.inputs, hidden, case.layers, periods=case.periods, dtype=dtype, seed=2, **case.options
        )

        def draw(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(dtype)

        directions = self.layer.directions
        self.x = draw(case.steps, case.batch, case.inputs)
        self.dy = draw(case.steps, case.batch, directions * hidden)
        self.state, self.dstate = (draw(case.layers * directions, case.batch, hidden) for _ in range(2))
        self.lengths = case.lengths or (case.steps,) * case.batch
        for b, length in enumerate(self.lengths):  # must be ignored
            self.x[length:, b] = self.dy[length:, b] = np.nan

    def loss(self) -> float:
        """A number of which the gradients are those that `backward` computes from dy and dstate."""
        y, final = self.layer(self.x, self.state, self.case.lengths)
        return float(np.sum(np.where(np.isnan(self.dy), 0, y * self.dy)) + np.vdot(final, self.dstate))

    def own(self, layer: int, direction: int, params: dict[str, Array]) -> Dense:
        inputs = self.layer.directions * self.hidden if layer else self.case.inputs
        end = f"_l{layer}" + ("_reverse" if direction else "")
        return dense(params, end, inputs, len(self.case.periods))

    def reference(self, masks: list[Array | None]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Outputs and gradients by the loop: of a sequence and direction after the other.

        `masks` are those of dropout, by which a layer's input is multiplied.
        """
        case, directions, periods = self.case, self.layer.directions, self.case.periods
        x, saved = self.x.astype(np.float64), []
        final, dstate = np.zeros(self.state.shape), np.zeros(self.state.shape)
        for layer in range(case.layers):
            x = x if masks[layer] is None else x * masks[layer]
            y, histories = np.zeros((case.steps, case.batch, directions * self.hidden)), {}
            for d, b in np.ndindex(directions, case.batch):
                n, end, columns = layer * directions + d, self.lengths[b], self.columns(d)
                history = run(
                    self.own(layer, d, self.layer.params), periods, ordered(x[:end, b], d), self.state[n, b]
                )
                final[n, b], histories[d, b] = history[-1], history
                y[:end, b, columns] = ordered(history[1:], d)
            saved.append((x, histories))
            x = y
        dy, gradients = self.dy, {}
        for layer in reversed(range(case.layers)):
            x, histories = saved[layer]
            dx = np.zeros(x.shape)
            for d in range(directions):
                own, total = self.own(layer, d, self.layer.params), None
                for b, end in enumerate(self.lengths):
                    n = layer * directions + d
                    dx_b, dstate[n, b], grads = run_backward(
                        own, periods, ordered(x[:end, b], d), histories[d, b],
                        ordered(dy[:end, b, self.columns(d)], d), self.dstate[n, b],
                    )  # fmt: skip
                    dx[:end, b] += ordered(dx_b, d)
                    total = grads if total is None else Dense(*map(np.add, total, grads))
                for name, value in zip(Dense._fields, total, strict=True):
                    gradients[f"{name} {layer} {d}"] = value
            dy = dx if masks[layer] is None else dx * masks[layer]
        return {"y": y, "state": final}, {"x": dy, "state": dstate, **gradients}

    def columns(self, direction: int) -> slice:
        return slice(direction * self.hidden, (direction + 1) * self.hidden)

    def dense_gradients(self, grads: dict[str, Array]) -> dict[str, Array]:
        """Of all layers and directions, named as those of `reference`."""
        assert grads.keys() == self.layer.params.keys()
        for name, grad in grads.items():
            assert grad.shape == self.layer.params[name].shape, name
            if name.startswith("bias_hh"):
                np.testing.assert_array_equal(grad, grads[name.replace("_hh", "_ih")])
        half = {name: grad / (1 + name.startswith("bias")) for name, grad in grads.items()}
        found = {}
        for layer, d in np.ndindex(self.case.layers, self.layer.directions):
            parts = self.own(layer, d, half)
            found.update({f"{name} {layer} {d}": part for name, part in parts._asdict().items()})
        return found


def ordered(array: Array, direction: int) -> Array:
    """The steps in the order in which a direction reads them, or back."""
    return array[::-1] if direction else array


def forbidden(hidden: int, groups: int) -> Array:
    """Where R would lead from a faster to a slower group."""
    group = np.arange(hidden) // (hidden // groups)
    return group[:, None] > group


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_outputs_states_and_every_gradient_beside_the_loop(name: str, dtype: Any) -> None:
    problem = Problem(CASES[name], dtype)
    layer, case = problem.layer, problem.case
    y, state, tape = layer.forward(problem.x, problem.state, case.lengths)
    masks = [None if mask is None else mask.copy() for mask in tape.masks]
    dx, dstate, grads = layer.backward(tape, problem.dy, problem.dstate)
    outputs, gradients = problem.reference(masks)
    assert_close(y, outputs["y"], "forward", "y")
    assert_close(state, outputs["state"], "forward", "state")
    assert_close(dx, gradients["x"], "backward", "dx")
    assert_close(dstate, gradients["state"], "backward", "dstate")
    for key, value in problem.dense_gradients(grads).items():
        expected = gradients[key]
        if key.startswith("r"):
            assert not np.any(value[forbidden(problem.hidden, len(case.periods))])
            expected = np.where(forbidden(problem.hidden, len(case.periods)), 0, expected)
        if not key.startswith("bias") or layer.bias:
            assert_close(value, expected, "backward", f"d{key}", dtype)
    # Without dropout, and without keeping anything.
    y, state = layer(problem.x, problem.state, case.lengths)
    outputs, _ = problem.reference([None] * case.layers)
    assert_close(y, outputs["y"], "forward", "y of a call")
    assert_close(state, outputs["state"], "forward", "state of a call")


@pytest.mark.parametrize("name", ["no divisors", "reverse, lengths"])
def test_gradients_beside_central_differences(name: str) -> None:
    problem = Problem(CASES[name])
    _, _, tape = problem.layer.forward(problem.x, problem.state, problem.case.lengths)
    dx, dstate, grads = problem.layer.backward(tape, problem.dy, problem.dstate)
    variables = {"state": problem.state, **problem.layer.params}
    for key, array in variables.items():
        expected = central_differences(problem, array)
        assert_close(dstate if key == "state" else grads[key], expected, "central differences", key)
    problem.x = np.nan_to_num(problem.x)  # beyond the ends, too, where the slope is zero
    assert_close(dx, central_differences(problem, problem.x), "central differences", "x")


def test_resting_groups_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is asked for the steps at which a group moves and for the weights that it has."""
    case, calls, needs = Case((1, 2, 5, 9), 20, size=3), [], []
    layer = ClockworkRNN(case.inputs, 12, 2, periods=case.periods, bidirectional=True)
    kind = type(layer.engine)
    forward, backward = kind.forward, kind.backward

    def counted(self: Any, cell: Any, params: Any, x: Array, *args: Any, **options: Any) -> Any:
        calls.append((x.shape, params["weight_ih"].shape, params["weight_hh"].shape))
        output, saved = forward(self, cell, params, x, *args, **options)
        return output, (saved, x.shape, params["weight_ih"].shape, params["weight_hh"].shape)

    def counted_backward(self: Any, saved: Any, dy: Array, *args: Any) -> Any:
        assert dy.shape == (*saved[1][:2], 3)
        calls.append(tuple(saved[1:]))
        needs.append(args[-1])
        return backward(self, saved[0], dy, *args)

    monkeypatch.setattr(kind, "forward", counted)
    monkeypatch.setattr(kind, "backward", counted_backward)
    x = np.ones((case.steps, case.batch, case.inputs), np.float32)
    y, _, tape = layer.forward(x)
    expected = [
        ((steps, case.batch, inputs + slower), (3, inputs + slower), (3, 3))
        for inputs in (case.inputs, 24)
        for _ in range(2)
        for steps, slower in ((3, 0), (4, 3), (10, 6), (20, 9))  # ceil(20 / T_k), the slowest first
    ]
    assert calls == expected
    calls.clear()
    layer.backward(tape, y, input_gradient=False)
    # Backwards the fastest first, and the upper layer.
    upper, lower = expected[8:], expected[:8]
    assert calls == [*upper[3::-1], *upper[:3:-1], *lower[3::-1], *lower[:3:-1]]
    assert (
        needs == [True] * 8 + [True, True, True, False] * 2
    )  # of the input: the slowest reads no other group


def test_one_group_is_an_rnn_and_more_are_its_blocks() -> None:
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    for init in ("uniform", "xavier"):
        plain = ln.RNN(3, 12, 2, bidirectional=True, seed=4, init=init)
        same = ClockworkRNN(3, 12, 2, bidirectional=True, periods=(1,), seed=4, init=init)
        np.testing.assert_array_equal(same(x)[0], plain(x)[0])
        layer = ClockworkRNN(3, 12, 2, bidirectional=True, periods=(1, 2, 3), seed=4, init=init)
        for end, inputs in (("_l0", 3), ("_l0_reverse", 3), ("_l1", 24), ("_l1_reverse", 24)):
            own, whole = dense(layer.params, end, inputs, 3), plain.params
            np.testing.assert_array_equal(own.w, whole["weight_ih" + end])
            expected = np.where(forbidden(12, 3), 0, whole["weight_hh" + end])
            np.testing.assert_array_equal(own.r, expected)
            biases = [whole[name + end].astype(np.float64) for name in ("bias_ih", "bias_hh")]
            np.testing.assert_array_equal(own.bias, sum(biases))
    layer = ClockworkRNN(3, 12, periods=(1, 2, 3), dtype=np.float64, seed=4, init="orthogonal")
    for k in range(3):
        own = layer.params[f"weight_hh_l0_g{k}"]
        np.testing.assert_allclose(own @ own.T, np.eye(4), atol=1e-14)
        assert np.any(own != layer.params[f"weight_hh_l0_g{(k + 1) % 3}"])
        assert not layer.params[f"bias_hh_l0_g{k}"].any()
    # Weights of x, those on and above the diagonal of R, two biases.
    assert sum(p.size for p in layer.params.values()) == 3 * 12 + 4 * 4 * 6 + 2 * 12


def test_batch_first_and_what_may_be_left_out() -> None:
    case = Case((1, 3), 7, (7, 2, 5), 3, 2, {"bidirectional": True})
    problem = Problem(case)
    layer = problem.layer
    expected = layer.forward(problem.x, None, case.lengths)
    swapped = ClockworkRNN(
        case.inputs, 6, 2, periods=case.periods, bidirectional=True, dtype=np.float64, batch_first=True
    )
    swapped.load_state_dict(layer.state_dict())
    x, dy = (array.swapaxes(0, 1) for array in (problem.x, problem.dy))
    y, state, tape = swapped.forward(x, swapped.zero_state(3), case.lengths)
    np.testing.assert_array_equal(y.swapaxes(0, 1), expected[0])
    np.testing.assert_array_equal(state, expected[1])
    zeros = np.zeros(problem.state.shape)
    dx, dstate, grads = layer.backward(expected[2], problem.dy)
    other_dx, other_dstate, other_grads = swapped.backward(tape, dy, zeros)
    np.testing.assert_array_equal(other_dx.swapaxes(0, 1), dx)
    np.testing.assert_array_equal(other_dstate, dstate)
    # Without the gradient of x all others are the same; without that of y it counts as zero.
    nothing, dstate, fewer = layer.backward(
        layer.forward(problem.x, None, case.lengths, copy=False)[2], problem.dy, input_gradient=False
    )
    assert nothing is None
    np.testing.assert_array_equal(dstate, other_dstate)
    for name, value in fewer.items():
        np.testing.assert_array_equal(value, other_grads[name])
        np.testing.assert_array_equal(value, grads[name])
    tapes = [layer.forward(problem.x, problem.state, case.lengths)[2] for _ in range(2)]
    of_state = layer.backward(tapes[0], None, problem.dstate)
    with_zeros = layer.backward(tapes[1], np.zeros_like(problem.dy), problem.dstate)
    np.testing.assert_array_equal(of_state[0], with_zeros[0])
    np.testing.assert_array_equal(of_state[1], with_zeros[1])
    assert np.any(of_state[0])


def test_the_tape_keeps_what_was_read() -> None:
    """Input and parameters may change before `backward`; the state of one call continues in the next."""
    problem = Problem(Case((1, 2), 6, None, 3))
    layer = problem.layer
    expected = layer.backward(layer.forward(problem.x, problem.state)[2], problem.dy)
    x = problem.x.copy()
    y, _, tape = layer.forward(x, problem.state)
    before = y.copy()
    kept = layer.state_dict()
    x[...] = 7
    for value in layer.params.values():
        value *= 2
    dx, dstate, grads = layer.backward(tape, problem.dy)
    np.testing.assert_array_equal(y, before)
    np.testing.assert_array_equal(dx, expected[0])
    np.testing.assert_array_equal(dstate, expected[1])
    for name, value in grads.items():
        np.testing.assert_array_equal(value, expected[2][name])
    layer.load_state_dict(kept)
    # 4 is a step of both groups, so a call that begins there goes on as if it were one.
    first, state = layer(problem.x[:4], problem.state)
    second, _ = layer(problem.x[4:], state)
    np.testing.assert_array_equal(np.concatenate([first, second]), layer(problem.x, problem.state)[0])
    with pytest.raises(ValueError, match="already used"):
        layer.backward(tape, problem.dy)


def test_training_lowers_the_loss() -> None:
    """With momentum and weight decay, which find no weight that should be none."""
    x = np.random.default_rng(0).standard_normal((20, 16, 2)).astype(np.float32)
    target = np.repeat(x[::4].mean(axis=2), 4, axis=0)  # the mean of the last input at a multiple of 4
    rnn = ClockworkRNN(2, 8, periods=(1, 4), seed=0)
    optimizer = SGD(rnn.params, lr=0.1, momentum=0.9, weight_decay=1e-4)
    losses = []
    for _ in range(60):
        y, _, tape = rnn.forward(x)
        error = y[..., 4] - target
        losses.append(float(np.mean(error**2)))
        dy = np.zeros_like(y)
        dy[..., 4] = 2 * error / error.size
        optimizer.step(rnn.backward(tape, dy)[2])
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_has_weights_of_its_own(copied: Any) -> None:
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    layer = ClockworkRNN(3, 4, periods=(1, 2), seed=0)
    y = layer(x)[0]
    twin = copied(layer)
    assert twin.periods == (1, 2)
    np.testing.assert_array_equal(twin(x)[0], y)
    for value in twin.params.values():
        value[...] = 0
    assert not twin(x)[0].any()
    np.testing.assert_array_equal(layer(x)[0], y)
    other = ClockworkRNN(3, 4, periods=(1, 2), seed=1).to("cpu")
    assert np.any(other(x)[0] != y)
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other(x)[0], y)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"periods": ()}, TypeError, r"periods: expected a sequence of integers, got \(\)"),
        ({"periods": 3}, TypeError, "periods: expected a sequence of integers, got 3"),
        ({"periods": "12"}, TypeError, "periods: expected a sequence of integers, got '12'"),
        ({"periods": (1, 2.0)}, TypeError, "periods: expected an integer, got float"),
        ({"periods": (0, 1)}, ValueError, "periods: expected an integer >= 1, got 0"),
        ({"periods": (2, 1)}, ValueError, r"periods: expected ascending integers, got \(2, 1\)"),
        ({"periods": (1, 1)}, ValueError, r"periods: expected ascending integers, got \(1, 1\)"),
        ({"periods": (1, 2, 3, 4, 5)}, ValueError, "hidden_size: expected a multiple of 5, .* got 8"),
        ({"init": "identity"}, ValueError, "init: identity is for the cell rnn-relu"),
        ({"init": "zeros"}, ValueError, "init: expected one of"),
        ({"dropout": 1.0}, ValueError, "dropout: expected a probability"),
        ({"weight_drop": 0.5}, TypeError, "weight_drop"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ClockworkRNN(3, 8, **options)


def test_wrong_calls_are_named() -> None:
    layer = ClockworkRNN(3, 8)
    assert repr(layer) == "ClockworkRNN(3, 8, periods=(1, 2, 4, 8), dtype=float32)"
    x = np.zeros((5, 2, 3), np.float32)
    with pytest.raises(ValueError, match=r"x: expected shape \(T, B, 3\), got \(5, 2, 4\)"):
        layer(np.zeros((5, 2, 4), np.float32))
    with pytest.raises(ValueError, match=r"state: expected shape \(1, 2, 8\), got \(1, 2, 2\)"):
        layer(x, np.zeros((1, 2, 2), np.float32))
    with pytest.raises(ValueError, match="lengths: expected 0 to 5"):
        layer(x, None, (6, 1))
    y, _, tape = layer.forward(x)
    with pytest.raises(ValueError, match=r"dy: expected shape \(5, 2, 8\)"):
        layer.backward(tape, y[:4])
    with pytest.raises(TypeError, match="from this layer's forward"):
        ClockworkRNN(3, 8).backward(tape, y)
    for outside in (kernels.plain, ln.Stream):
        with pytest.raises(TypeError, match="ClockworkRNN: its groups step apart"):
            outside(layer)
    with pytest.raises(ValueError, match="resets: ClockworkRNN has none"):
        layer(x, resets=np.eye(5, 2, dtype=bool))
    with pytest.raises(ValueError, match="extras: expected none"):
        layer(x, extras={"mask": x})
    layer.params["weight_hh_l0_g1"] = np.zeros((3, 3), np.float32)
    with pytest.raises(ValueError, match=r"weight_hh_l0_g1: expected shape \(2, 2\), got \(3, 3\)"):
        layer(x)
    layer.params["weight_hh_l0_g1"] = np.zeros((2, 2))
    with pytest.raises(TypeError, match="weight_hh_l0_g1: expected dtype float32, got float64"):
        layer.forward(x)
