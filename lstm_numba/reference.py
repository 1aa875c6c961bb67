"""Reference implementation of cells and layers in plain float64 NumPy, against which the engines are tested.

It shares no code with the engines. The equations of a registered cell are run as plain Python, one unit at a
time. Each step function takes x (B, I), the previous states, each (B, H), and the parameters of its layer and
direction, and returns the new states.

Sources of the equations: `lstm_numba.cells`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit

from lstm_numba.cells import find_cell
from lstm_numba.cells.parameters import suffix

Array = np.ndarray[Any, Any]
States = tuple[Array, ...]
Params = dict[str, Array]


def _products(x: Array, h: Array, p: Params) -> tuple[list[Array], list[Array]]:
    """W x + b_ih and R h + b_hh, split into gates."""
    w = x @ p["weight_ih"].T + p.get("bias_ih", 0.0)
    r = h @ p["weight_hh"].T + p.get("bias_hh", 0.0)
    hidden = h.shape[1]
    return tuple(np.split(a, a.shape[1] // hidden, axis=1) for a in (w, r))  # type: ignore[return-value]


def rnn_step(x: Array, states: States, p: Params) -> States:
    """h = tanh(W x + b_ih + R h + b_hh)."""
    (w,), (r,) = _products(x, states[0], p)
    return (np.tanh(w + r),)


def rnn_relu_step(x: Array, states: States, p: Params) -> States:
    """h = max(0, W x + b_ih + R h + b_hh)."""
    (w,), (r,) = _products(x, states[0], p)
    return (np.maximum(w + r, 0.0),)


def lstm_step(x: Array, states: States, p: Params) -> States:
    """Gates i, f, g, o; c = f c + i g; h = o tanh(c)."""
    h, c = states
    w, r = _products(x, h, p)
    i, f, o = (expit(w[n] + r[n]) for n in (0, 1, 3))
    c = f * c + i * np.tanh(w[2] + r[2])
    return o * np.tanh(c), c


def peephole_lstm_step(x: Array, states: States, p: Params) -> States:
    """LSTM with diagonal weights from the old c to i and f, and from the new c to o."""
    h, c = states
    w, r = _products(x, h, p)
    p_i, p_f, p_o = np.split(p["weight_ph"], 3)
    i = expit(w[0] + r[0] + p_i * c)
    f = expit(w[1] + r[1] + p_f * c)
    c = f * c + i * np.tanh(w[2] + r[2])
    o = expit(w[3] + r[3] + p_o * c)
    return o * np.tanh(c), c


def coupled_lstm_step(x: Array, states: States, p: Params) -> States:
    """Gates f, g, o; c = f c + (1 - f) g; h = o tanh(c)."""
    h, c = states
    w, r = _products(x, h, p)
    f = expit(w[0] + r[0])
    c = f * c + (1 - f) * np.tanh(w[1] + r[1])
    return expit(w[2] + r[2]) * np.tanh(c), c


def full_peephole_lstm_step(x: Array, states: States, p: Params) -> States:
    """LSTM with matrices from the old c to i, f and o: the last three blocks of weight_hh."""
    h, c = states
    w, r = _products(x, h, p)
    _, seen = _products(x, c, p)
    i, f, o = (expit(w[n] + r[n] + seen[k]) for n, k in ((0, 4), (1, 5), (3, 6)))
    c = f * c + i * np.tanh(w[2] + r[2])
    return o * np.tanh(c), c


def use_gate_lstm_step(x: Array, states: States, p: Params) -> States:
    """Gates i, f, g, v; c = f c + i g; h = tanh(W_u (f c_old) + b_u) v, W_u the last block of weight_hh."""
    h, c = states
    w, r = _products(x, h, p)
    i, f, v = (expit(w[n] + r[n]) for n in (0, 1, 3))
    kept = f * c
    _, after = _products(x, kept, p)
    return np.tanh(after[4]) * v, kept + i * np.tanh(w[2] + r[2])


def gru_step(x: Array, states: States, p: Params) -> States:
    """Gates r, z; n = tanh(W x + b + r (R h + b)); h = (1 - z) n + z h."""
    (h,) = states
    w, r = _products(x, h, p)
    reset, update = expit(w[0] + r[0]), expit(w[1] + r[1])
    n = np.tanh(w[2] + reset * r[2])
    return ((1 - update) * n + update * h,)


def gru_reset_before_step(x: Array, states: States, p: Params) -> States:
    """GRU with n = tanh(W x + b + R (r h) + b)."""
    (h,) = states
    w, r = _products(x, h, p)
    reset, update = expit(w[0] + r[0]), expit(w[1] + r[1])
    _, after = _products(x, reset * h, p)
    n = np.tanh(w[2] + after[2])
    return ((1 - update) * n + update * h,)


#: Step functions by cell name.
STEPS: dict[str, Callable[[Array, States, Params], States]] = {
    "rnn": rnn_step,
    "rnn-relu": rnn_relu_step,
    "lstm": lstm_step,
    "coupled": coupled_lstm_step,
    "peephole": peephole_lstm_step,
    "peephole-full": full_peephole_lstm_step,
    "use-gate": use_gate_lstm_step,
    "gru": gru_step,
    "gru-reset-before": gru_reset_before_step,
}


def equations_step(cell: Any) -> Callable[[Array, States, Params], States]:
    """Make a step function from a cell's scalar equations and NumPy matrix products."""

    def step(x: Array, states: States, p: Params) -> States:
        w, r = _products(x, states[0], p)
        slots = np.zeros((len(cell.slots), *states[0].shape))
        for slot, gate in enumerate(cell.input_gates):
            slots[slot] += w[gate]
        _add_products(slots, cell.stages[0], r)
        before = np.stack(states)
        units = list(np.ndindex(*states[0].shape))
        if len(cell.stages) > 1:
            operand = np.empty_like(states[0])
            for b, unit in units:
                operand[b, unit] = cell.operand(_at(slots, b, unit), _at(before, b, unit))
            _add_products(slots, cell.stages[1], _products(x, operand, p)[1])
        peephole = np.reshape(p.get("weight_ph", ()), (len(cell.peepholes), 1, states[0].shape[1]))
        after = np.empty_like(before)
        for b, unit in units:
            weights = _at(peephole, 0, unit)
            after[:, b, unit] = cell.forward(_at(slots, b, unit), _at(before, b, unit), weights)[1]
        return tuple(after)

    return step


def _at(arrays: Array, b: int, unit: int) -> tuple[float, ...]:
    return tuple(arrays[:, b, unit].tolist())


def _add_products(slots: Array, stage: Any, products: list[Array]) -> None:
    for slot, gate in enumerate(stage.gates, stage.first):
        slots[slot] += products[gate]


def run_direction(
    step: Callable[[Array, States, Params], States],
    x: Array,
    states: States,
    params: Params,
    lengths: Array,
    reverse: bool,
) -> tuple[Array, States]:
    """Run one layer and direction, each sequence separately over its own steps.

    Returns
    -------
    y : ndarray, shape (T, B, H)
        Zero beyond a sequence's end.
    states : tuple of ndarray, shape (B, H)
    """
    total, batch, _ = x.shape
    y = np.zeros((total, batch, states[0].shape[1]))
    finals = [s.astype(np.float64).copy() for s in states]
    for b in range(batch):
        current = tuple(s[b : b + 1].astype(np.float64) for s in states)
        times = range(int(lengths[b]))
        for t in reversed(times) if reverse else times:
            current = step(x[t, b : b + 1], current, params)
            y[t, b] = current[0][0]
        for final, value in zip(finals, current, strict=True):
            final[b] = value[0]
    return y, tuple(finals)


def run(
    name: str,
    params: dict[str, Any],
    x: Any,
    states: Any,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    lengths: Any = None,
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
    num_layers, bidirectional, lengths
        See `lstm_numba.nn.recurrent.Recurrent`.

    Returns
    -------
    y : ndarray of float64, shape (T, B, D*H)
    states : tuple of ndarray of float64, shape (num_layers*D, B, H)
    """
    y = np.asarray(x, np.float64)
    initial = [np.asarray(s, np.float64) for s in states]
    steps = np.full(y.shape[1], len(y)) if lengths is None else np.asarray(lengths)
    step = STEPS[name] if name in STEPS else equations_step(find_cell(name))
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
            first = tuple(s[len(finals)] for s in initial)
            out, final = run_direction(step, y, first, local, steps, bool(direction))
            outputs.append(out)
            finals.append(final)
        y = np.concatenate(outputs, axis=2)
    return y, tuple(np.stack(arrays) for arrays in zip(*finals, strict=True))
