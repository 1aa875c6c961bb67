"""An ODE with a GRU as closure model for an unknown force: fitted in compiled code, solved by SciPy.

A driven mass on a hysteretic spring, whose force z depends on the past (Bouc-Wen model: R. Bouc 1967;
Y.-K. Wen, "Method for random vibration of hysteretic systems", 1976):

    ẋ = v,    v̇ = F(t) − c v − k x − z,    ż = a v − b |v| z − g v |z|

Known are c, k, F and recorded motions, but not z; a GRU with hidden state h replaces it. A solver evaluates
the right-hand side repeatedly and in any order, so h is part of the ODE's state, not updated by a call. In
continuous time (E. De Brouwer et al., "GRU-ODE-Bayes", 2019; there τ = 1):

    ḣ = (GRU((x, v), h) − h) / τ,    v̇ = F(t) − c v − k x − (w·h + w₀)

The gradient is that of the classical Runge-Kutta method with fixed steps, written by hand with
`kernels.step_forward` and `kernels.step_backward`; forecasts come from `scipy.integrate.solve_ivp`.

    python -m lstm_numba.examples.closure
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from scipy.integrate import solve_ivp

from lstm_numba.examples.flat import Array, Model, descend, flat_model, parameters_of
from lstm_numba.kernels import (
    parameter_count,
    repack,
    scratch_size,
    step,
    step_backward,
    step_forward,
    tape_size,
    unflatten,
)
from lstm_numba.nn.layers import GRU

DT, DAMPING, STIFFNESS, TAU = 0.1, 0.1, 1.0, 0.3
A, B, G = 2.0, 1.5, 0.5
#: Nodes and weights of the Runge-Kutta method.
NODES, WEIGHTS = (0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)


@njit(cache=True)
def drive(t, waves):
    """The force F(t): a sum of waves of (amplitude, frequency, phase)."""
    total = 0.0
    for k in range(waves.shape[0]):
        total += waves[k, 0] * math.sin(waves[k, 1] * t + waves[k, 2])
    return total


@njit(cache=True)
def true_system(t, y, waves):
    """Right-hand side of the full system, y = (x, v, z)."""
    x, v, z = y
    dz = A * v - B * abs(v) * z - G * v * abs(z)
    return np.array([v, drive(t, waves) - DAMPING * v - STIFFNESS * x - z, dz])


@njit(cache=True)
def linear_system(t, y, waves, gains):
    """Memoryless baseline: the force is a linear function of y = (x, v)."""
    force = gains[0] * y[0] + gains[1] * y[1]
    return np.array([y[1], drive(t, waves) - DAMPING * y[1] - STIFFNESS * y[0] - force])


@njit(cache=True)
def closed_system(t, y, waves, model):
    """Right-hand side with the GRU, y = (x, v, h); a pure function."""
    new, scratch = y[2:].copy(), np.empty(scratch_size(model.weights), y.dtype)
    step(model.weights, y[:2], new, scratch)
    dy = np.empty_like(y)
    force = model.readout[-1]
    for j in range(new.size):
        force += model.readout[j] * y[2 + j]
        dy[2 + j] = (new[j] - y[2 + j]) / TAU
    dy[0], dy[1] = y[1], drive(t, waves) - DAMPING * y[1] - STIFFNESS * y[0] - force
    return dy


class Work(NamedTuple):
    """Work arrays of a block of B trials over T steps; with a leading axis, of all blocks."""

    y: Any  # (T + 1, 4, B, 2 + H), states of the stages
    x: Any  # (T, 4, B, 2), the GRU's inputs
    tape: Any  # (T, 4, a step's tape)
    scratch: Any
    h: Any  # (B, H), in the backward pass its gradient
    dx: Any  # (B, 2)
    k: Any  # (4, B, 2 + H), slopes of the stages, in the backward pass their gradients
    dy: Any  # (B, 2 + H), gradient of the state after a step
    dstage: Any  # (B, 2 + H), gradient of a stage's state
    gradient: Any  # as theta
    loss: Any  # (1,)


def make_work(model: Model, blocks: int, steps: int, batch: int) -> Work:
    """Allocate all work arrays of the training."""
    hidden, count = model.readout.size - 1, parameter_count(parameters_of(model.plain)) + model.readout.size
    tape, scratch = tape_size(model.weights, 1, batch), scratch_size(model.weights, 1, batch, True)
    state = (batch, 2 + hidden)
    shapes = [(steps + 1, 4, *state), (steps, 4, batch, 2), (steps, 4, tape), (scratch,), (batch, hidden)]
    shapes += [(batch, 2), (4, *state), state, state, (count,), (1,)]
    return Work(*(np.zeros((blocks, *shape), model.readout.dtype) for shape in shapes))


@njit(cache=True)
def slope(model, t, waves, y, x, h, tape, scratch, dy):
    """`closed_system` for a batch, saved for backward on a tape."""
    x[:] = y[:, :2]
    h[:] = y[:, 2:]
    step_forward(model.weights, x, h, tape, scratch)
    for n in range(y.shape[0]):
        force = model.readout[-1]
        for j in range(h.shape[1]):
            force += model.readout[j] * y[n, 2 + j]
            dy[n, 2 + j] = (h[n, j] - y[n, 2 + j]) / TAU
        dy[n, 0], dy[n, 1] = y[n, 1], drive(t, waves[n]) - DAMPING * y[n, 1] - STIFFNESS * y[n, 0] - force


@njit(cache=True)
def slope_backward(model, y, x, h, tape, scratch, k, dx, dy, grads, dreadout):
    """From the gradient k of the slopes to the gradient dy of the state; h and dx are work arrays."""
    h[:] = k[:, 2:] / TAU
    step_backward(model.weights, x, tape, h, dx, grads, scratch)
    for n in range(y.shape[0]):
        dy[n, 0] = dx[n, 0] - STIFFNESS * k[n, 1]
        dy[n, 1] = dx[n, 1] + k[n, 0] - DAMPING * k[n, 1]
        dreadout[-1] -= k[n, 1]
        for j in range(h.shape[1]):
            dy[n, 2 + j] = h[n, j] - k[n, 2 + j] / TAU - model.readout[j] * k[n, 1]
            dreadout[j] -= k[n, 1] * y[n, 2 + j]


@njit(cache=True)
def forward(model, waves, truth, own):
    """Integrate a block of trials from rest; own.loss sums the squares of its errors in x and v."""
    own.y[0, 0] = 0
    own.loss[0] = 0
    for t in range(own.x.shape[0]):
        own.y[t + 1, 0] = own.y[t, 0]
        for i in range(4):
            if i > 0:
                own.y[t, i] = own.y[t, 0] + DT * NODES[i] * own.k[i - 1]
            time = (t + NODES[i]) * DT
            slope(model, time, waves, own.y[t, i], own.x[t, i], own.h, own.tape[t, i], own.scratch, own.k[i])
            own.y[t + 1, 0] += DT * WEIGHTS[i] * own.k[i]
        own.loss[0] += np.sum((own.y[t + 1, 0, :, :2] - truth[:, t + 1]) ** 2)


@njit(cache=True)
def backward(model, truth, own):
    """Back-propagate through the integration: own.gradient is that of own.loss."""
    count = parameter_count(parameters_of(model.plain))
    own.gradient[:] = 0
    grads, dreadout = unflatten(parameters_of(model.plain), own.gradient[:count]), own.gradient[count:]
    own.dy[:] = 0
    for t in range(own.x.shape[0] - 1, -1, -1):
        own.dy[:, :2] += 2 * (own.y[t + 1, 0, :, :2] - truth[:, t + 1])
        for i in range(4):
            own.k[i] = DT * WEIGHTS[i] * own.dy
        for i in range(3, -1, -1):
            slope_backward(
                model, own.y[t, i], own.x[t, i], own.h, own.tape[t, i], own.scratch, own.k[i], own.dx,
                own.dstage, grads, dreadout,
            )  # fmt: skip
            own.dy[:] += own.dstage
            if i > 0:
                own.k[i - 1] += DT * NODES[i] * own.dstage


@njit(cache=True, parallel=True)
def loss_and_gradient(model, waves, truth, work, gradient):
    """Mean squared error in x and v over all trials and times; `gradient` is overwritten."""
    repack(model.weights, parameters_of(model.plain))
    blocks, batch = work.dy.shape[:2]
    for b in prange(blocks):
        own = Work(
            work.y[b], work.x[b], work.tape[b], work.scratch[b], work.h[b], work.dx[b], work.k[b], work.dy[b],
            work.dstage[b], work.gradient[b], work.loss[b],
        )  # fmt: skip
        mine = slice(b * batch, (b + 1) * batch)
        forward(model, waves[mine], truth[mine], own)
        backward(model, truth[mine], own)
    total, scale = 0.0, 1 / truth.size
    gradient[:] = 0
    for b in range(blocks):
        total += work.loss[b, 0]
        for j in range(gradient.size):
            gradient[j] += scale * work.gradient[b, j]
    return scale * total


def solve(system: Any, size: int, waves: Array, times: Array, *args: Any, **options: Any) -> Array:
    """A trial from rest by `solve_ivp`, shape (times, size)."""
    options = {"rtol": 1e-6, "atol": 1e-8, **options}
    start, span = np.zeros(size), (times[0], times[-1])
    return solve_ivp(system, span, start, t_eval=times, args=(waves, *args), **options).y.T


def draw_trials(count: int, steps: int, seed: int) -> tuple[Array, Array]:
    """Waves (count, 3, 3) and the true motion (count, steps + 1, 3)."""
    waves = np.random.default_rng(seed).uniform((0.2, 0.3, 0), (1.0, 2.0, 2 * np.pi), (count, 3, 3))
    times = DT * np.arange(steps + 1)
    return waves, np.stack([solve(true_system, 3, w, times) for w in waves])


def train(
    waves: Array, truth: Array, hidden: int = 12, batch: int = 8, updates: int = 200, lr: float = 2e-2,
    seed: int = 0, log: bool = False,
) -> tuple[Model, list[float]]:  # fmt: skip
    """Train a GRU as the force; returns model and losses. `truth` holds x and v, (trials, T + 1, 2)."""
    theta, model = flat_model(GRU(2, hidden, seed=seed, dtype=np.float64))
    work = make_work(model, len(waves) // batch, truth.shape[1] - 1, batch)
    truth = np.ascontiguousarray(truth)
    losses = descend(
        theta, lambda gradient: loss_and_gradient(model, waves, truth, work, gradient), updates, lr, log
    )
    repack(model.weights, parameters_of(model.plain))
    return model, losses


def main() -> None:
    """Fit, then forecast with new drives, over a longer time than in training."""
    waves, truth = draw_trials(32, 200, 0)
    model, _ = train(waves, truth[..., :2], log=True)
    # The linear force is fitted to the true z, which the GRU never sees.
    gains = np.linalg.lstsq(truth[..., :2].reshape(-1, 2), truth[..., 2].ravel(), rcond=None)[0]
    waves, truth = draw_trials(16, 400, 1)
    times, size = DT * np.arange(401), 2 + model.readout.size - 1
    found = {
        "no force at all": [solve(linear_system, 2, w, times, np.zeros(2)) for w in waves],
        "linear in x and v": [solve(linear_system, 2, w, times, gains) for w in waves],
        "GRU": [solve(closed_system, size, w, times, model) for w in waves],
    }
    print(
        f"root mean square error of x over {times[-1]:.0f} s, 16 new drives (x itself: "
        f"{np.sqrt(np.mean(truth[..., 0] ** 2)):.3f}):"
    )
    for name, motions in found.items():
        print(f"  {name:18s} {np.sqrt(np.mean((np.array(motions)[..., 0] - truth[..., 0]) ** 2)):.4f}")


if __name__ == "__main__":
    # Numba's disk cache recognises classes of a module, not those of __main__.
    from lstm_numba.examples import closure

    closure.main()
