"""Reference implementation of cells and layers in plain float64 NumPy, against which the engines are tested.

It shares no code with the engines. The equations of a registered cell are run as plain Python, one unit at a
time. Each step function takes x (B, I), the previous states, each (B, H), and the parameters of its layer and
direction, and returns the new states, and the gates and candidates by name.

Sources of the equations: `lstm_numba.cells`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from lstm_numba.cells import display_name, find_cell
from lstm_numba.cells.parameters import suffix

Array = np.ndarray[Any, Any]
States = tuple[Array, ...]
Params = dict[str, Array]
Step = tuple[States, dict[str, Array]]


def _products(x: Array, h: Array, p: Params) -> tuple[list[Array], list[Array]]:
    """W x + b_ih and R h + b_hh, split into gates."""
    w = x @ p["weight_ih"].T + p.get("bias_ih", 0.0)
    r = h @ p["weight_hh"].T + p.get("bias_hh", 0.0)
    hidden = h.shape[1]
    return tuple(np.split(a, a.shape[1] // hidden, axis=1) for a in (w, r))  # type: ignore[return-value]


def rnn_step(x: Array, states: States, p: Params) -> Step:
    """h = tanh(W x + b_ih + R h + b_hh)."""
    (w,), (r,) = _products(x, states[0], p)
    return (np.tanh(w + r),), {}


def rnn_relu_step(x: Array, states: States, p: Params) -> Step:
    """h = max(0, W x + b_ih + R h + b_hh)."""
    (w,), (r,) = _products(x, states[0], p)
    return (np.maximum(w + r, 0.0),), {}


def lstm_step(x: Array, states: States, p: Params) -> Step:
    """Gates i, f, g, o; c = f c + i g; h = o tanh(c)."""
    h, c = states
    w, r = _products(x, h, p)
    (i, f, o), g = (expit(w[n] + r[n]) for n in (0, 1, 3)), np.tanh(w[2] + r[2])
    c = f * c + i * g
    return (o * np.tanh(c), c), {"i": i, "f": f, "g": g, "o": o}


def projected_lstm_step(x: Array, states: States, p: Params) -> Step:
    """LSTM with h = R_r (o tanh(c))."""
    h, c = states
    w, r = x @ p["weight_ih"].T + p.get("bias_ih", 0.0), h @ p["weight_hh"].T + p.get("bias_hh", 0.0)
    values = _gates_of_lstm(w + r)
    c = values["f"] * c + values["i"] * values["g"]
    return ((values["o"] * np.tanh(c)) @ p["weight_hr"].T, c), values


def _gates_of_lstm(z: Array) -> dict[str, Array]:
    """Gates i, f, g, o from their pre-activations (B, 4*H)."""
    i, f, g, o = np.split(z, 4, axis=1)
    return {"i": expit(i), "f": expit(f), "g": np.tanh(g), "o": expit(o)}


def _normalised(a: Array) -> Array:
    """Each row with mean 0 and variance 1."""
    return (a - a.mean(axis=1, keepdims=True)) / np.sqrt(a.var(axis=1, keepdims=True) + 1e-5)


def layer_norm_lstm_step(x: Array, states: States, p: Params) -> Step:
    """LSTM with N(W x) and N(R h), each with gains, and h = o tanh(N(c))."""
    h, c = states
    gain_x, gain_h, shift, last = np.split(p["weight_ph"], np.array([4, 8, 12]) * h.shape[1])
    z = gain_x * _normalised(x @ p["weight_ih"].T) + gain_h * _normalised(h @ p["weight_hh"].T) + shift
    values = _gates_of_lstm(z)
    c = values["f"] * c + values["i"] * values["g"]
    gain, shift = np.split(last, 2)
    return (values["o"] * np.tanh(gain * _normalised(c) + shift), c), values


def layer_norm_gru_step(x: Array, states: States, p: Params) -> Step:
    """GRU with normalised products: r and z together, n alone."""
    (h,) = states
    gates = 2 * h.shape[1]
    v = p["weight_ph"].reshape(10, -1)
    w, r = x @ p["weight_ih"].T, h @ p["weight_hh"].T
    both = v[:2].ravel() * _normalised(w[:, :gates]) + v[3:5].ravel() * _normalised(r[:, :gates])
    reset, update = np.split(expit(both + v[6:8].ravel()), 2, axis=1)
    n = v[5] * _normalised(r[:, gates:]) + v[9]
    n = np.tanh(v[2] * _normalised(w[:, gates:]) + v[8] + reset * n)
    return ((1 - update) * n + update * h,), {"r": reset, "z": update, "n": n}


def peephole_lstm_step(x: Array, states: States, p: Params) -> Step:
    """LSTM with diagonal weights from the old c to i and f, and from the new c to o."""
    h, c = states
    w, r = _products(x, h, p)
    p_i, p_f, p_o = np.split(p["weight_ph"], 3)
    i = expit(w[0] + r[0] + p_i * c)
    f = expit(w[1] + r[1] + p_f * c)
    g = np.tanh(w[2] + r[2])
    c = f * c + i * g
    o = expit(w[3] + r[3] + p_o * c)
    return (o * np.tanh(c), c), {"i": i, "f": f, "g": g, "o": o}


def coupled_lstm_step(x: Array, states: States, p: Params) -> Step:
    """Gates f, g, o; c = f c + (1 - f) g; h = o tanh(c)."""
    h, c = states
    w, r = _products(x, h, p)
    f, g, o = expit(w[0] + r[0]), np.tanh(w[1] + r[1]), expit(w[2] + r[2])
    c = f * c + (1 - f) * g
    return (o * np.tanh(c), c), {"f": f, "g": g, "o": o}


def full_peephole_lstm_step(x: Array, states: States, p: Params) -> Step:
    """LSTM with matrices from the old c to i, f and o: the last three blocks of weight_hh."""
    h, c = states
    w, r = _products(x, h, p)
    _, seen = _products(x, c, p)
    i, f, o = (expit(w[n] + r[n] + seen[k]) for n, k in ((0, 4), (1, 5), (3, 6)))
    g = np.tanh(w[2] + r[2])
    c = f * c + i * g
    return (o * np.tanh(c), c), {"i": i, "f": f, "g": g, "o": o}


def use_gate_lstm_step(x: Array, states: States, p: Params) -> Step:
    """Gates i, f, g, v; c = f c + i g; h = tanh(W_u (f c_old) + b_u) v, W_u the last block of weight_hh."""
    h, c = states
    w, r = _products(x, h, p)
    i, f, v = (expit(w[n] + r[n]) for n in (0, 1, 3))
    kept, g = f * c, np.tanh(w[2] + r[2])
    _, after = _products(x, kept, p)
    u = np.tanh(after[4])
    return (u * v, kept + i * g), {"i": i, "f": f, "g": g, "v": v, "u": u}


def slstm_step(x: Array, states: States, p: Params) -> Step:
    """Gates i, f, g, o; m = max(log f + m, i), the exponential gates divided by exp(m); h = o c / n."""
    h, c, n, m = states
    w, r = _products(x, h, p)
    log_f, log_i = -np.logaddexp(0.0, -w[1] - r[1]) + m, w[0] + r[0]
    m = np.maximum(log_f, log_i)
    f, i, g, o = np.exp(log_f - m), np.exp(log_i - m), np.tanh(w[2] + r[2]), expit(w[3] + r[3])
    c, n = f * c + i * g, f * n + i
    ratio = np.divide(c, np.abs(n), out=np.zeros_like(c), where=n != 0)
    return (o * ratio, c, n, m), {"i": i, "f": f, "g": g, "o": o}


def gru_step(x: Array, states: States, p: Params) -> Step:
    """Gates r, z; n = tanh(W x + b + r (R h + b)); h = (1 - z) n + z h."""
    (h,) = states
    w, r = _products(x, h, p)
    reset, update = expit(w[0] + r[0]), expit(w[1] + r[1])
    n = np.tanh(w[2] + reset * r[2])
    return ((1 - update) * n + update * h,), {"r": reset, "z": update, "n": n}


def gru_reset_before_step(x: Array, states: States, p: Params) -> Step:
    """GRU with n = tanh(W x + b + R (r h) + b)."""
    (h,) = states
    w, r = _products(x, h, p)
    reset, update = expit(w[0] + r[0]), expit(w[1] + r[1])
    _, after = _products(x, reset * h, p)
    n = np.tanh(w[2] + after[2])
    return ((1 - update) * n + update * h,), {"r": reset, "z": update, "n": n}


#: Step functions by cell name.
STEPS: dict[str, Callable[[Array, States, Params], Step]] = {
    "rnn": rnn_step,
    "rnn-relu": rnn_relu_step,
    "lstm": lstm_step,
    "coupled": coupled_lstm_step,
    "peephole": peephole_lstm_step,
    "peephole-full": full_peephole_lstm_step,
    "use-gate": use_gate_lstm_step,
    "slstm": slstm_step,
    "gru": gru_step,
    "gru-reset-before": gru_reset_before_step,
    "lstm-projected": projected_lstm_step,
    "layer-norm-lstm": layer_norm_lstm_step,
    "layer-norm-gru": layer_norm_gru_step,
}


def equations_step(cell: Any) -> Callable[[Array, States, Params], Step]:
    """Make a step function from a cell's scalar equations and NumPy matrix products; it names no gates.

    Raises
    ------
    ValueError
        The cell has extras.
    """
    if cell.extras:
        raise ValueError(f"{display_name(cell)}: the reference takes no extras, such as {cell.extras[0]}")

    def step(x: Array, states: States, p: Params) -> Step:
        batch, hidden = len(x), len(p["weight_hh"]) // len(cell.recurrent_gates)
        # States of fewer units are filled up with zeros.
        before = np.stack([np.pad(s, ((0, 0), (0, hidden - s.shape[1]))) for s in states])
        slots = np.zeros((len(cell.slots), batch, hidden))
        for slot, gate in enumerate(cell.input_gates):
            slots[slot] += _block(x @ p["weight_ih"].T + p.get("bias_ih", 0.0), gate, hidden)
        vectors = [
            np.broadcast_to(v, (batch, hidden)) for v in np.reshape(p.get("weight_ph", ()), (-1, hidden))
        ]
        means = np.full((sum(map(len, cell.mean_levels)), batch, hidden), np.nan)
        reused = np.full((sum(cell.reused), batch, hidden), np.nan)
        every = list(np.ndindex(batch, hidden))

        def each(function: Callable[..., Any]) -> Array:
            """A function of slots, previous states and vectors at every unit; its results come first."""
            given = [np.reshape(a, (-1, batch, hidden)) for a in (slots, before, [*vectors, *means, *reused])]
            results = (function(*(_at(a, b, unit) for a in given)) for b, unit in every)
            found = np.array([tuple(r) if np.iterable(r) else r for r in results])
            return np.moveaxis(found.reshape(batch, hidden, -1), 2, 0)

        def add(stage: Any, operand: Array) -> None:
            biased = stage.weight == "weight_hh"
            product = operand @ p[stage.weight].T + (p.get("bias_hh", 0.0) if biased else 0.0)
            units = hidden if biased or not cell.projected else states[0].shape[1]
            for slot, gate in enumerate(stage.gates, stage.first):
                slots[slot, :, :units] += _block(product, gate, units)

        operand = each(lambda z, previous, v: cell.prepare(previous, v))[0] if cell.prepared else before[0]
        add(cell.stages[0], operand[:, : states[0].shape[1]])
        first, kept = 0, 0
        for level, names in enumerate(cell.mean_levels):
            equations, last = getattr(cell, f"means_{level}"), kept + cell.reused[level]
            found = each(lambda *given, equations=equations: itertools.chain(*equations(*given)))
            means[first : first + len(names)] = found[: len(names)].mean(axis=2, keepdims=True)
            reused[kept:last] = found[len(names) :]
            first, kept = first + len(names), last
        for stage in cell.stages[1:]:
            add(stage, each(cell.operand)[0])
        after = each(lambda z, previous, v: cell.forward(z, previous, v)[1])
        return tuple(new[:, : s.shape[1]] for new, s in zip(after, states, strict=True)), {}

    return step


def _block(product: Array, n: int, width: int) -> Array:
    return product[:, n * width : (n + 1) * width]


def _at(arrays: Array, b: int, unit: int) -> tuple[float, ...]:
    return tuple(arrays[:, b, unit].tolist())


class Direction(NamedTuple):
    """What `run_direction` finds.

    Attributes
    ----------
    y : ndarray, shape (T, B, units of h)
    finals : tuple of ndarray, shape (B, H)
    values : dict of ndarray, shape (T, B, H)
        Gates and candidates by name, then states after each step as "state 0" and so on.
    """

    y: Array
    finals: States
    values: dict[str, Array]


def run_direction(
    step: Callable[[Array, States, Params], Step],
    x: Array,
    states: States,
    params: Params,
    lengths: Array,
    reverse: bool,
) -> Direction:
    """Run one layer and direction, each sequence separately over its own steps.

    What is returned for all steps is zero beyond a sequence's end.
    """
    total, batch, _ = x.shape
    values: dict[str, Array] = {}
    finals = [s.astype(np.float64).copy() for s in states]
    for b in range(batch):
        current = tuple(s[b : b + 1].astype(np.float64) for s in states)
        times = range(int(lengths[b]))
        for t in reversed(times) if reverse else times:
            current, gates = step(x[t, b : b + 1], current, params)
            for name, value in [*gates.items(), *((f"state {n}", s) for n, s in enumerate(current))]:
                whole = values.setdefault(name, np.zeros((total, batch, value.shape[1])))
                whole[t, b] = value[0]
        for final, value in zip(finals, current, strict=True):
            final[b] = value[0]
    y = values.get("state 0", np.zeros((total, batch, states[0].shape[1])))
    return Direction(y, tuple(finals), values)


def run(
    name: str,
    params: dict[str, Any],
    x: Any,
    states: Any,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    lengths: Any = None,
    heads: int = 1,
    trace: dict[str, Array] | None = None,
) -> tuple[Array, States]:
    """Run stacked layers, with the semantics of `lstm_numba.nn.recurrent.Recurrent`.

    Parameters
    ----------
    name : str
        Key of `STEPS`, or ``module:Class`` of a registered cell.
    params : dict
        Parameters under PyTorch's names.
    x : array_like, shape (T, B, I)
    states : sequence of array_like, shape (num_layers*D, B, H)
        One array per state of the cell.
    num_layers, bidirectional, lengths, heads
        See `lstm_numba.nn.recurrent.Recurrent`.
    trace : dict, optional
        Gets what `lstm_numba.nn.recurrent.Recurrent.trace` returns, without the gates of registered cells.

    Returns
    -------
    y : ndarray of float64, shape (T, B, D*H)
    states : tuple of ndarray of float64, shape (num_layers*D, B, H)
    """
    y = np.asarray(x, np.float64)
    initial = [np.asarray(s, np.float64) for s in states]
    steps = np.full(y.shape[1], len(y)) if lengths is None else np.asarray(lengths)
    cell = find_cell(name)
    step = STEPS[name] if name in STEPS else equations_step(cell)
    named = {f"state {n}": state for n, state in enumerate(cell.states)}
    finals: list[States] = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(1 + bidirectional):
            end = suffix(layer, direction)
            local = {
                key.removesuffix(end): np.asarray(value, np.float64)
                for key, value in params.items()
                if key.endswith(end)
            }
            first = [np.split(s[len(finals)], heads, axis=1) for s in initial]
            rows = {key: np.split(value, heads) for key, value in local.items()}
            parts = []
            for k in range(heads):
                own = {key: value[k] for key, value in rows.items()}
                parts.append(run_direction(step, y, tuple(s[k] for s in first), own, steps, bool(direction)))
            outputs += [part.y for part in parts]
            finals.append(
                tuple(np.concatenate(s, axis=1) for s in zip(*(p.finals for p in parts), strict=True))
            )
            if trace is not None:
                for key in parts[0].values:
                    joined = np.concatenate([part.values[key] for part in parts], axis=2)
                    trace[named.get(key, key) + end] = joined
        y = np.concatenate(outputs, axis=2)
    return y, tuple(np.stack(arrays) for arrays in zip(*finals, strict=True))
