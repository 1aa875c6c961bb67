"""How gradients flow back through the states of a layer, step by step, and what theory says of it.

The gradients of the states between the steps are the layer's own: it runs a step a call, hands on its state,
and goes back through the tapes, of which each gives the gradient with respect to the state before its step.

What theory says, as the factor of a gradient's norm from a step to the one before:

* of a plain RNN, h_t = φ(W x_t + R h_{t-1} + b): the gradient is multiplied by R^T diag(φ'), so the factor
  is at most the largest singular value of R times the largest slope |φ'|, or, where all slopes are about
  their mean, times this; in the long run it is about the spectral radius of diag(φ') R (Y. Bengio, P. Simard,
  P. Frasconi, "Learning long-term dependencies with gradient descent is difficult", 1994; R. Pascanu,
  T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", 2013);
* of a clockwork RNN the same of each group, which is multiplied once in a period; the slowest decay counts;
* of a gated cell, c_t = f c_{t-1} + ... (a GRU: h_t = z h_{t-1} + ...): a unit's gate f, as long as what
  comes back through the gates and candidates is small beside it (S. Hochreiter, J. Schmidhuber, "Long
  short-term memory", 1997, where f is 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.nn.clockwork import ClockworkRNN
from lstm_numba.nn.recurrent import Recurrent

Array = npt.NDArray[np.float64]

#: Gates that carry a state from step to step, and the state; without one of them it is a plain RNN.
CARRIERS = {"f": "c", "z": "h"}
#: Derivatives of the activations of plain RNNs as functions of their value.
_SLOPES: dict[str, Callable[[Array], Array]] = {
    "rnn": lambda h: 1.0 - h * h,
    "rnn-relu": lambda h: (h > 0).astype(np.float64),
}


class Theory(NamedTuple):
    """Factors of the gradient's norm in a step, as theory has them.

    Attributes
    ----------
    simple : float
        Of a plain RNN the largest singular value of R times the mean of |φ'|; of a gated cell the geometric
        mean of its gate.
    refined : float or None
        Of a plain RNN the spectral radius of diag(mean of φ' of each unit) R; of a gated cell the decay of
        the measured gradient if it went through the gates alone.
    """

    simple: float
    refined: float | None


def stride_of(rnn: Recurrent) -> int:
    """Steps of a call: one; of a `ClockworkRNN`, which counts time from 0 in each call, all periods'."""
    return int(np.lcm.reduce(rnn.periods)) if isinstance(rnn, ClockworkRNN) else 1


def run_in_steps(rnn: Recurrent, x: Array, state: Any = None) -> tuple[Any, list[Any]]:
    """Run a layer in calls of `stride_of` steps.

    Parameters
    ----------
    rnn : Recurrent
        One layer and direction.
    x : ndarray (T, B, I)
        T a multiple of the stride.
    state : ndarray or tuple of ndarray, optional

    Returns
    -------
    state : ndarray or tuple of ndarray
        The final one.
    tapes : list of Tape
    """
    tapes, stride = [], stride_of(rnn)
    for start in range(0, len(x), stride):
        _, state, tape = rnn.forward(np.ascontiguousarray(x[start : start + stride]), state, training=False)
        tapes.append(tape)
    return state, tapes


def state_gradients(rnn: Recurrent, tapes: Sequence[Any], dh: Array) -> dict[str, Array]:
    """Gradients of a loss at the last step with respect to the states after every call before it.

    Parameters
    ----------
    rnn : Recurrent
    tapes : sequence of Tape
        From `run_in_steps`; used up.
    dh : ndarray (B, H)
        Gradient with respect to the last h; the other states have no part in the loss itself.

    Returns
    -------
    dict of str to ndarray (N + 1, B, H)
        For each state, by its name: the gradient 0, 1, ... N calls before the end, the last one with respect
        to the initial state.
    """
    names = rnn.plain_cell.states
    dstate = [dh[None], *(np.zeros((1, len(dh), rnn.hidden_size)) for _ in names[1:])]
    rows = [[array[0] for array in dstate]]
    for tape in reversed(tapes):
        packed = tuple(dstate) if len(dstate) > 1 else dstate[0]
        _, before, _ = rnn.backward(tape, None, packed, input_gradient=False)
        dstate = [np.array(array) for array in (before if isinstance(before, tuple) else (before,))]
        rows.append([array[0] for array in dstate])
    return {name: np.array([row[n] for row in rows]) for n, name in enumerate(names)}


def norms(gradients: Array) -> Array:
    """Norm over units, as the root mean square over sequences, (N, B, H) -> (N,)."""
    found: Array = np.sqrt((gradients**2).sum(axis=2).mean(axis=1))
    return found


def rate(distances: npt.NDArray[Any], values: Array) -> float | None:
    """Factor a step: the slope of the logarithm of a norm against distance, by least squares.

    Norms that are 0 have no part in it; None where fewer than two are left.
    """
    kept = values > 0
    if kept.sum() < 2:
        return None
    return float(np.exp(np.polyfit(distances[kept], np.log(values[kept]), 1)[0]))


def theory(rnn: Recurrent, x: Array, gradients: Mapping[str, Array], ends: int) -> Theory | None:
    """What theory says of the steps between the first and the last `ends` ones.

    Parameters
    ----------
    rnn : Recurrent
        One layer and direction.
    x : ndarray (T, B, I)
    gradients : mapping
        From `state_gradients`.
    ends : int
        At least 1.

    Returns
    -------
    Theory or None
        None of a cell of which it says nothing.
    """
    trace = rnn.trace(x).of()
    between = slice(ends, len(x) - ends)
    carrier = carrier_of(rnn)
    if carrier is not None:
        gate = np.array(trace[carrier])[between]
        last = gradients[CARRIERS[carrier]][ends]
        path = np.concatenate([last[None], last * np.cumprod(gate[::-1], axis=0)])
        return Theory(float(np.exp(np.log(gate).mean())), rate(np.arange(len(path)), norms(path)))
    if rnn.plain_cell.key not in _SLOPES:
        return None
    slopes = _SLOPES[rnn.plain_cell.key](np.array(trace["h"])[between])
    found = [_plain(weight, slopes[:, :, units], period) for weight, units, period in _groups(rnn)]
    return Theory(*map(max, zip(*found, strict=True)))


def carrier_of(rnn: Recurrent) -> str | None:
    """The gate that carries a state of a cell on; None of a plain RNN."""
    cell = rnn.plain_cell
    return next((g for g, state in CARRIERS.items() if g in cell.traced_gates and state in cell.states), None)


def memory_of(rnn: Recurrent) -> str:
    """The state that is carried: c, or h where no gate carries one."""
    gate = carrier_of(rnn)
    return "h" if gate is None else CARRIERS[gate]


def _groups(rnn: Recurrent) -> list[tuple[Array, slice, int]]:
    """Recurrent weights of a plain RNN, or of each group of a clockwork RNN; its units, and its period."""
    params, size = rnn.state_dict(), rnn.hidden_size
    if not isinstance(rnn, ClockworkRNN):
        return [(params["weight_hh_l0"], slice(size), 1)]
    size = rnn.group_size
    return [
        (params[f"weight_hh_l0_g{k}"], slice(k * size, (k + 1) * size), period)
        for k, period in enumerate(rnn.periods)
    ]


def _plain(weight: Array, slopes: Array, period: int) -> tuple[float, float]:
    """Simple and refined theory of a plain RNN that moves once in a period."""
    bound = np.linalg.norm(weight, 2) * slopes.mean()
    radius = np.abs(np.linalg.eigvals(slopes.mean(axis=(0, 1))[:, None] * weight)).max()
    return float(bound ** (1 / period)), float(radius ** (1 / period))
