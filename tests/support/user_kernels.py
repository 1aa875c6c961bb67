"""Kernels as a user of `kernels.cuda.step` writes them: no compile options, strided views of arrays."""

from __future__ import annotations

# A user writes ``from numba import cuda``; `compiled_kernels.py` replaces this one.
from lstm_numba.engines.cuda.driver import cuda, overload
from lstm_numba.kernels.cuda import step


def columns(arrays, n):
    """Column n of each matrix of a tuple: one kernel for cells with any number of states."""
    return tuple(array[:, n] for array in arrays)


def rows(arrays, n):
    """Row n of each matrix of a tuple."""
    return tuple(array[n] for array in arrays)


@overload(columns)
def _(arrays, n):
    if len(arrays) == 1:
        return lambda arrays, n: (arrays[0][:, n],)
    return lambda arrays, n: (arrays[0][:, n], *columns(arrays[1:], n))


@overload(rows)
def _(arrays, n):
    if len(arrays) == 1:
        return lambda arrays, n: (arrays[0][n],)
    return lambda arrays, n: (arrays[0][n], *rows(arrays[1:], n))


@cuda.jit
def thread_streams(weights, x, states, scratch, y):
    """A thread for each stream; x (T, I, N), states (H, N), scratch (size, N), y (T, H, N)."""
    for n in range(cuda.grid(1), y.shape[2], cuda.gridsize(1)):
        state = columns(states, n)
        for t in range(x.shape[0]):
            step.thread_step(weights, x[t, :, n], state, scratch[:, n])
            for u in range(weights.hidden):
                y[t, u, n] = state[0][u]


@cuda.jit
def block_streams(weights, x, states, y):
    """A block for each sequence, scratch memory shared; x (N, T, I), states (N, H), y (N, T, H)."""
    scratch = cuda.shared.array(0, x.dtype)
    for n in range(cuda.blockIdx.x, y.shape[0], cuda.gridDim.x):
        state = rows(states, n)
        for t in range(x.shape[1]):
            step.block_step(weights, x[n, t], state, scratch)
            # Other units than the step gives this thread, to test its barriers.
            for u in range(weights.hidden - 1 - cuda.threadIdx.x, -1, -cuda.blockDim.x):
                y[n, t, u] = state[0][u]


@cuda.jit
def thread_training(weights, gradients, x, states, tape, dy, dstates, dx):
    """All steps forward and back, a thread for each stream; tape (T, size, N), dy (T, H, N), dx as x."""
    for n in range(cuda.grid(1), dy.shape[2], cuda.gridsize(1)):
        state, dstate = columns(states, n), columns(dstates, n)
        for t in range(x.shape[0]):
            step.thread_forward(weights, x[t, :, n], state, tape[t, :, n])
        for t in range(x.shape[0] - 1, -1, -1):
            for u in range(weights.hidden):
                dstate[0][u] += dy[t, u, n]
            step.thread_backward(weights, gradients, x[t, :, n], tape[t, :, n], dstate, dx[t, :, n])


@cuda.jit
def block_training(weights, gradients, x, states, tape, dy, dstates, dx):
    """All steps forward and back, a block for each sequence; tape (N, T, size), dy (N, T, H), dx as x."""
    for n in range(cuda.blockIdx.x, dy.shape[0], cuda.gridDim.x):
        state, dstate = rows(states, n), rows(dstates, n)
        for t in range(x.shape[1]):
            step.block_forward(weights, x[n, t], state, tape[n, t])
        for t in range(x.shape[1] - 1, -1, -1):
            for u in range(weights.hidden - 1 - cuda.threadIdx.x, -1, -cuda.blockDim.x):
                dstate[0][u] += dy[n, t, u]
            step.block_backward(weights, gradients, x[n, t], tape[n, t], dstate, dx[n, 0])
            for i in range(dx.shape[2] - 1 - cuda.threadIdx.x, -1, -cuda.blockDim.x):
                dx[n, t, i] = dx[n, 0, i]  # of step 0, the last one, it stays as it is


@cuda.jit
def single_state(weights, x, h, sizes):
    """One step of a cell with one state, passed as an array; and the sizes, as a kernel gets them."""
    scratch = cuda.shared.array(0, x.dtype)
    step.block_step(weights, x, h, scratch)
    sizes[0] = step.scratch_size(weights)
    sizes[1] = step.tape_size(weights)
