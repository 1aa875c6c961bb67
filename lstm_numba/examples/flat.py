"""What the examples with a loss of their own share: all parameters in one vector, and the descent on it."""

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
        For the kernels. Where the vector has changed, ``repack(weights, parameters_of(plain))`` comes first.
    plain : Plain
        Its parameters are views of the vector.
    readout : ndarray, shape (H + 1,)
        A view of the vector too.
    """

    weights: Packed
    plain: Plain
    readout: Array


@njit(cache=True)
def parameters_of(plain):
    """The arrays of plain weights together; for calls from compiled code."""
    return Parameters(plain.weight_ih, plain.weight_hh, plain.bias_ih, plain.bias_hh, plain.weight_ph)


def flat_model(rnn: Recurrent) -> tuple[Array, Model]:
    """A layer's parameters and a readout of zeros in one vector.

    Parameters
    ----------
    rnn : Recurrent
        One layer, one direction.

    Returns
    -------
    theta : ndarray, shape (parameter_count + H + 1,)
    model : Model
        Of views of `theta`.
    """
    own = plain(rnn).parameters
    theta = np.concatenate([*(p.ravel() for p in own), np.zeros(rnn.hidden_size + 1, rnn.dtype)])
    count = parameter_count(own)
    views = plain(rnn.cell, unflatten(own, theta[:count]))
    return theta, Model(pack(views), views, theta[count:])


def descend(
    theta: Array, loss_and_gradient: Callable[[Array], float], steps: int, lr: float, log: bool = False
) -> list[float]:
    """Adam on the vector, with the gradient clipped to norm 1 and a learning rate that falls to zero.

    Parameters
    ----------
    theta : ndarray, 1-D
        Changes in place.
    loss_and_gradient : callable
        Overwrites the array that it gets with the gradient, and returns the loss.
    steps : int
    lr : float
    log : bool
        Print ten lines.

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
