"""A controller trained through a differentiable simulation, all in one compiled function.

A controller pushes cart 1 (p₁, v₁), which has friction and is attached to a weak spring. A second spring
connects it to cart 2 (p₂, v₂), which is to come to rest at 0:

    v̇₁ = u − [k (p₁ − p₂) + b (v₁ − v₂)] − k₀ p₁ − c tanh(v₁ / v₀),    ṗ₁ = v₁
    v̇₂ = ([k (p₁ − p₂) + b (v₁ − v₂)] + d) / m,                        ṗ₂ = v₂

Only p₂ is observed. The mass m and the force d differ from trial to trial and are not observed, so the
controller needs memory: it is an LSTM, and u a linear readout of its h. The gradient of the summed cost is
propagated back through the plant by `plant_backward`, its adjoint written by hand, and through the LSTM by
`kernels.step_backward`.

    python -m lstm_numba.examples.controller
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from scipy.optimize import minimize

from lstm_numba.examples.flat import Array, Model, descend, flat_model, parameters_of
from lstm_numba.kernels import (
    parameter_count,
    repack,
    scratch_size,
    step_backward,
    step_forward,
    tape_size,
    unflatten,
)
from lstm_numba.nn.layers import LSTM

DT, SPRING, DAMPER, GROUND, RUB, SLOW, EFFORT = 0.05, 4.0, 0.2, 0.5, 0.3, 0.1, 1e-3


@njit(cache=True)
def plant(s, u, trial, new):
    """One step of s = (p₁, v₁, p₂, v₂) by semi-implicit Euler; trial = (p at the start, m, d)."""
    pull = SPRING * (s[0] - s[2]) + DAMPER * (s[1] - s[3])
    new[1] = s[1] + DT * (u - pull - GROUND * s[0] - RUB * math.tanh(s[1] / SLOW))
    new[3] = s[3] + DT * (pull + trial[2]) / trial[1]
    new[0] = s[0] + DT * new[1]
    new[2] = s[2] + DT * new[3]


@njit(cache=True)
def plant_backward(s, trial, ds):
    """Replace the gradient ds of the new state by that of s; returns the gradient of u."""
    dv1, dv2 = ds[1] + DT * ds[0], ds[3] + DT * ds[2]
    du = DT * dv1
    dpull = DT * dv2 / trial[1] - du
    rub = math.tanh(s[1] / SLOW)
    ds[0] += SPRING * dpull - GROUND * du
    ds[1] = dv1 + DAMPER * dpull - du * RUB / SLOW * (1 - rub * rub)
    ds[2] -= SPRING * dpull
    ds[3] = dv2 - DAMPER * dpull
    return du


class Work(NamedTuple):
    """Work arrays of a block of B trials over T steps; with a leading axis, of all blocks."""

    s: Any  # (T + 1, B, 4), the plant
    seen: Any  # (T, B, 1), the LSTM's input
    u: Any  # (T, B)
    out: Any  # (T, B, H), the LSTM's h
    h: Any  # (B, H), in the backward pass its gradient; likewise c
    c: Any
    tape: Any  # (T, a step's tape)
    scratch: Any
    ds: Any  # (B, 4)
    dseen: Any  # (B, 1)
    gradient: Any  # as theta
    loss: Any  # (1,)


def make_work(model: Model, blocks: int, steps: int, batch: int) -> Work:
    """Allocate all work arrays of the training."""
    count, hidden = parameter_count(parameters_of(model.plain)) + model.readout.size, model.readout.size - 1
    tape, scratch = tape_size(model.weights, 1, batch), scratch_size(model.weights, 1, batch, True)
    shapes = [(steps + 1, batch, 4), (steps, batch, 1), (steps, batch), (steps, batch, hidden)]
    shapes += [
        (batch, hidden),
        (batch, hidden),
        (steps, tape),
        (scratch,),
        (batch, 4),
        (batch, 1),
        (count,),
        (1,),
    ]
    return Work(*(np.zeros((blocks, *shape), model.readout.dtype) for shape in shapes))


@njit(cache=True)
def forward(model, trials, own):
    """Simulate a block of trials; own.loss is the sum of its costs."""
    hidden = model.readout.size - 1
    own.s[0] = 0
    own.s[0, :, 0] = trials[:, 0]
    own.s[0, :, 2] = trials[:, 0]
    own.h[:] = 0
    own.c[:] = 0
    own.loss[0] = 0
    for t in range(own.u.shape[0]):
        own.seen[t, :, 0] = own.s[t, :, 2]
        step_forward(model.weights, own.seen[t], (own.h, own.c), own.tape[t], own.scratch)
        own.out[t] = own.h
        for n in range(trials.shape[0]):
            u = model.readout[hidden]
            for j in range(hidden):
                u += model.readout[j] * own.h[n, j]
            own.u[t, n] = u
            plant(own.s[t, n], u, trials[n], own.s[t + 1, n])
            own.loss[0] += own.s[t + 1, n, 2] ** 2 + EFFORT * u * u


@njit(cache=True)
def backward(model, trials, own):
    """Back-propagate through the block's simulation: own.gradient is that of own.loss."""
    hidden, count = model.readout.size - 1, parameter_count(parameters_of(model.plain))
    own.gradient[:] = 0
    grads, dreadout = unflatten(parameters_of(model.plain), own.gradient[:count]), own.gradient[count:]
    own.h[:] = 0
    own.c[:] = 0
    own.ds[:] = 0
    for t in range(own.u.shape[0] - 1, -1, -1):
        for n in range(trials.shape[0]):
            own.ds[n, 2] += 2 * own.s[t + 1, n, 2]
            du = plant_backward(own.s[t, n], trials[n], own.ds[n]) + 2 * EFFORT * own.u[t, n]
            dreadout[hidden] += du
            for j in range(hidden):
                dreadout[j] += du * own.out[t, n, j]
                own.h[n, j] += du * model.readout[j]
        step_backward(model.weights, own.seen[t], own.tape[t], (own.h, own.c), own.dseen, grads, own.scratch)
        own.ds[:, 2] += own.dseen[:, 0]


@njit(cache=True, parallel=True)
def loss_and_gradient(model, trials, work, gradient):
    """Mean cost of a time step over all trials; writes its gradient unless `gradient` is empty."""
    repack(model.weights, parameters_of(model.plain))
    blocks, batch = work.h.shape[:2]
    for k in prange(blocks):
        own = Work(
            work.s[k], work.seen[k], work.u[k], work.out[k], work.h[k], work.c[k], work.tape[k],
            work.scratch[k], work.ds[k], work.dseen[k], work.gradient[k], work.loss[k],
        )  # fmt: skip
        block = trials[k * batch : (k + 1) * batch]
        forward(model, block, own)
        if gradient.size > 0:
            backward(model, block, own)
    # Blocks are summed in order: the same bits for any number of threads.
    total, scale = 0.0, 1 / (trials.shape[0] * work.u.shape[1])
    gradient[:] = 0
    for k in range(blocks):
        total += work.loss[k, 0]
        for j in range(gradient.size):
            gradient[j] += scale * work.gradient[k, j]
    return scale * total


@njit(cache=True)
def pid_loss(gains, trials, steps):
    """The same cost under u = −(P p₂ + I ∫ p₂ + D ṗ₂), with ṗ₂ from finite differences."""
    total = 0.0
    s = np.empty(4)
    for trial in trials:
        s[:] = 0
        s[0] = s[2] = before = trial[0]
        integral = 0.0
        for _ in range(steps):
            integral += DT * s[2]
            u = -(gains[0] * s[2] + gains[1] * integral + gains[2] * (s[2] - before) / DT)
            before = s[2]
            plant(s, u, trial, s)
            total += s[2] ** 2 + EFFORT * u * u
    return total / (len(trials) * steps)


def draw_trials(count: int, seed: int, dtype: Any = np.float32) -> Array:
    """Trials of (p at the start, m, d), shape (count, 3)."""
    return np.random.default_rng(seed).uniform((-1, 0.5, -1), (1, 2.0, 1), (count, 3)).astype(dtype)


def tune_pid(trials: Array, steps: int, used: int) -> Array:
    """The best gains P, I, D, of which the first `used` are not zero, by the Nelder-Mead method."""

    def cost(gains: Array) -> float:
        found = float(pid_loss(np.append(gains, np.zeros(3 - used)), trials, steps))
        return found if math.isfinite(found) else 1e9

    return np.append(minimize(cost, np.full(used, 0.1), method="Nelder-Mead").x, np.zeros(3 - used))


def train(
    trials: Array,
    steps: int,
    hidden: int = 16,
    batch: int = 16,
    updates: int = 300,
    lr: float = 1e-2,
    seed: int = 0,
    log: bool = False,
) -> tuple[Model, list[float]]:
    """Train an LSTM as controller; returns model and losses."""
    theta, model = flat_model(LSTM(1, hidden, seed=seed, dtype=trials.dtype))
    work = make_work(model, len(trials) // batch, steps, batch)
    losses = descend(
        theta, lambda gradient: loss_and_gradient(model, trials, work, gradient), updates, lr, log
    )
    return model, losses


def evaluate(model: Model, trials: Array, steps: int, batch: int = 16) -> float:
    """Mean cost of a time step."""
    work = make_work(model, len(trials) // batch, steps, batch)
    return float(loss_and_gradient(model, trials, work, np.empty(0, trials.dtype)))


def main() -> None:
    """Train, and compare on new trials."""
    steps, training, fresh = 160, draw_trials(128, 0), draw_trials(1024, 1)
    model, _ = train(training, steps, log=True)
    print("cost of a time step, p₂² + 0.001 u², on 1024 other trials:")
    for used, name in {0: "no control", 1: "proportional, tuned", 3: "PID, tuned"}.items():
        gains = tune_pid(training, steps, used) if used else np.zeros(3)
        print(f"  {name:20s} {pid_loss(gains, fresh, steps):.4f}  gains {np.round(gains, 2)}")
    print(f"  {'LSTM':20s} {evaluate(model, fresh, steps):.4f}")


if __name__ == "__main__":
    # Numba's disk cache recognises classes of a module, not those of __main__.
    from lstm_numba.examples import controller

    controller.main()
