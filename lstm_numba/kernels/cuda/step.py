"""One step of a layer inside a user's own ``@cuda.jit`` kernel, forward and backward, for any cell.

Each function has two variants: ``thread_...`` is called by one thread, which does all of the work, for
thousands of small networks or streams in parallel; ``block_...`` is called by all threads of a block, which
share the hidden units of one sequence. Blocks may have any number of threads, in up to three dimensions, as
far as there are registers: if a launch with large blocks fails, ``@cuda.jit(max_registers=64)`` makes it fit.

On the host, `device_weights` copies a layer's weights for a kernel, `device_gradients` allocates gradients.

Arrays
    All are the caller's: one-dimensional views of the layer's dtype, in any memory that the threads share
    (global or shared; for ``thread_...`` local memory too), with any stride. So the states of many streams
    may be stored as (H, streams), where neighbouring threads read neighbouring elements, and be passed as
    ``h[:, stream]``. What is written must not overlap anything else. Wrong dimensions and dtypes are errors
    when Numba compiles the kernel; sizes are not checked.
State
    h (H,), or a tuple with one array for each of the cell's states, ``(h, c)``; updated in place.
Barriers
    ``block_...`` contain ``cuda.syncthreads()``: all threads of the block must call them, with the same
    arguments. They begin and end with one: what the block's threads wrote before is visible, and all of them
    may read the results afterwards. ``thread_...`` contain none.

Examples
--------
>>> from numba import cuda
>>> from lstm_numba.kernels.cuda import step
>>> @cuda.jit
... def kernel(weights, x, h, c):  # (B, T, I), (B, H), (B, H); a block for each sequence
...     b, scratch = cuda.blockIdx.x, cuda.shared.array(0, x.dtype)
...     for t in range(x.shape[1]):
...         step.block_step(weights, x[b, t], (h[b], c[b]), scratch)
>>> weights = step.device_weights(rnn)  # doctest: +SKIP
>>> shared = step.scratch_size(weights) * rnn.dtype.itemsize  # doctest: +SKIP
>>> kernel[len(x), 64, 0, shared](weights, x, h, c)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import TypingError, cuda, overload, types
from lstm_numba.engines.cuda.options import DEVICE
from lstm_numba.kernels.cuda.backward import step_backward
from lstm_numba.kernels.cuda.forward import step_forward
from lstm_numba.kernels.cuda.weights import (
    ParameterGradients,
    Weights,
    device_gradients,
    device_weights,
    scratch_size,
    tape_size,
)

__all__ = [
    "ParameterGradients",
    "Weights",
    "block_backward",
    "block_forward",
    "block_step",
    "device_gradients",
    "device_weights",
    "scratch_size",
    "tape_size",
    "thread_backward",
    "thread_forward",
    "thread_step",
]


@cuda.jit(**DEVICE)
def _rank():
    """This thread's number in its block."""
    inner = cuda.threadIdx.y + cuda.blockDim.y * cuda.threadIdx.z
    return cuda.threadIdx.x + cuda.blockDim.x * inner


@cuda.jit(**DEVICE)
def _threads():
    return cuda.blockDim.x * cuda.blockDim.y * cuda.blockDim.z


def _checked(weights: Any, state: Any, *arrays: Any) -> Any:
    """The states as a tuple; Numba checks dimensions and dtypes of all arrays while it compiles."""
    return state if isinstance(state, tuple) else (state,)


@overload(_checked)
def _(weights, state, *arrays):
    single, dtype = not isinstance(state, types.BaseTuple), weights[weights.fields.index("bias")].dtype
    states = (state,) if single else tuple(state)
    names = weights[0].instance_class.states
    if len(states) != len(names):
        raise TypingError(f"state: expected {len(names)} arrays ({', '.join(names)}), got {len(states)}")
    for kind in (*states, *arrays):
        if not isinstance(kind, types.Array) or kind.ndim != 1 or kind.dtype != dtype:
            raise TypingError(f"expected views of one dimension of {dtype}, got {kind}")
    if single:
        return lambda weights, state, *arrays: (state,)
    return lambda weights, state, *arrays: state


@cuda.jit(**DEVICE)
def thread_step(weights, x, state, scratch):
    """Advance one sequence by one step, by one thread; see the module for arrays, state and barriers.

    Parameters
    ----------
    weights : Weights
        From `device_weights`.
    x : array, shape (I,)
    state : array or tuple of arrays, each (H,)
        ``h`` or ``(h, c)``; replaced by the new state.
    scratch : array, shape (scratch_size(weights),) or more
        For this call only; this thread's own.
    """
    step_forward(weights, x, _checked(weights, state, x, scratch), scratch, False, 0, 1)


@cuda.jit(**DEVICE)
def block_step(weights, x, state, scratch):
    """Advance one sequence by one step, by all threads of a block.

    Parameters
    ----------
    weights, x, state, scratch
        As for `thread_step`; the scratch memory is this block's own.
    """
    step_forward(weights, x, _checked(weights, state, x, scratch), scratch, False, _rank(), _threads())


@cuda.jit(**DEVICE)
def thread_forward(weights, x, state, tape):
    """Advance one sequence by one step, by one thread, and keep what the backward pass needs.

    Parameters
    ----------
    weights, x, state
        As for `thread_step`.
    tape : array, shape (tape_size(weights),) or more
        This step's own. `x` is not kept there.
    """
    step_forward(weights, x, _checked(weights, state, x, tape), tape, True, 0, 1)


@cuda.jit(**DEVICE)
def block_forward(weights, x, state, tape):
    """Advance one sequence by one step, by all threads of a block, and keep what the backward pass needs.

    Parameters
    ----------
    weights, x, state, tape
        As for `thread_forward`.
    """
    step_forward(weights, x, _checked(weights, state, x, tape), tape, True, _rank(), _threads())


@cuda.jit(**DEVICE)
def thread_backward(weights, gradients, x, tape, dstate, dx):
    """Back-propagate through one step, by one thread; see the module for arrays, state and barriers.

    Parameters
    ----------
    weights : Weights
        Those of the forward step.
    gradients : ParameterGradients
        From `device_gradients`. The step's are added atomically: any number of threads and blocks may share
        them, which then add in any order, so that the last bits differ from run to run.
    x : array, shape (I,)
        The forward step's.
    tape : array
        The forward step's; is overwritten.
    dstate : array or tuple of arrays, each (H,)
        In the state's form: the loss' gradient with respect to the new state, through everything that uses
        it; replaced by that with respect to the previous state.
    dx : array, shape (I,), or empty
        Gets the gradient of `x`; nothing is computed for an empty one.
    """
    step_backward(weights, gradients, x, tape, _checked(weights, dstate, x, tape, dx), dx, 0, 1)


@cuda.jit(**DEVICE)
def block_backward(weights, gradients, x, tape, dstate, dx):
    """Back-propagate through one step, by all threads of a block.

    Parameters
    ----------
    weights, gradients, x, tape, dstate, dx
        As for `thread_backward`.
    """
    step_backward(
        weights,
        gradients,
        x,
        tape,
        _checked(weights, dstate, x, tape, dx),
        dx,
        _rank(),
        _threads(),
    )
