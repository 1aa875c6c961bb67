"""Shared by the examples with their own loss: all parameters in one vector, and its optimisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from lstm_numba.engines.cpu.clipping import clip_factor, global_norm
from lstm_numba.kernels import Packed, Parameters, Plain, pack, parameter_count, plain, unflatten
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.optim.optimizers import Adam
from lstm_numba.optim.schedules import Cosine

Array = np.ndarray[Any, Any]


class Model(NamedTuple):
    """A recurrent layer and a linear readout ``readout[:H] @ h + readout[H]``.

    Attributes
    ----------
    weights : Packed
        For the kernels. After a change of the vector call ``repack(weights, parameters_of(plain))``.
    plain : Plain
        Its parameters are views of the vector.
    readout : ndarray, shape (H + 1,)
        A view of the vector.
    """

    weights: Packed
    plain: Plain
    readout: Array


@njit(cache=True)
def parameters_of(plain):
    """The arrays of plain weights as `Parameters`; for calls from compiled code."""
    return Parameters(plain.weight_ih, plain.weight_hh, plain.bias_ih, plain.bias_hh, plain.weight_ph)


def flat_model(rnn: Recurrent) -> tuple[Array, Model]:
    """Put a layer's parameters and a readout of zeros into one vector.

    Parameters
    ----------
    rnn : Recurrent
        One layer, one direction.

    Returns
    -------
    theta : ndarray, shape (parameter_count + H + 1,)
    model : Model
        Made of views of `theta`.
    """
    own = plain(rnn).parameters
    theta = np.concatenate([*(p.ravel() for p in own), np.zeros(rnn.hidden_size + 1, rnn.dtype)])
    count = parameter_count(own)
    views = plain(rnn.cell, unflatten(own, theta[:count]))
    return theta, Model(pack(views), views, theta[count:])


def descend(
    theta: Array, loss_and_gradient: Callable[[Array], float], steps: int, lr: float, log: bool = False
) -> list[float]:
    """Minimise with Adam, the gradient clipped to norm 1, the learning rate decaying to zero.

    Parameters
    ----------
    theta : ndarray, 1-D
        Updated in place.
    loss_and_gradient : callable
        Overwrites its argument with the gradient and returns the loss.
    steps : int
    lr : float
    log : bool
        Print the loss ten times.

    Returns
    -------
    list of float
        The loss before every step.
    """
    optimizer, schedule = Adam({"theta": theta}, lr), Cosine(lr, steps)
    gradient, losses = np.empty_like(theta), []
    for step in range(steps):
        losses.append(loss_and_gradient(gradient))
        optimizer.lr = schedule.rate(step)
        grads = {"theta": gradient}
        optimizer.step(grads, scale=clip_factor(global_norm(grads), 1.0))
        if log and (step + 1) % max(1, steps // 10) == 0:
            print(f"  step {step + 1:4d}  loss {losses[-1]:.5f}")
    return losses
