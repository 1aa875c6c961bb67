"""One step at a time: a recurrent layer that is fed sample by sample, from Python or from compiled code."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import types
from numba.core.errors import NumbaTypeError
from numba.np.numpy_support import from_dtype

from lstm_numba.arguments import float_array, real_numbers
from lstm_numba.engines.cpu import passes, task
from lstm_numba.engines.cpu.blocking import choose_plan
from lstm_numba.engines.cpu.function_pointers import call_pointer, once
from lstm_numba.engines.cpu.gemm import matmul
from lstm_numba.engines.cpu.memory import address, aligned_zeros
from lstm_numba.engines.cpu.options import INLINE, SERIAL
from lstm_numba.engines.cpu.records import PACKED, Numbers, SequenceJob, Team, numbers, read_record
from lstm_numba.engines.cpu.vector import pointer_to
from lstm_numba.kernels.argument_types import name_in_messages, samples
from lstm_numba.kernels.c_functions import CStep
from lstm_numba.kernels.heads import Headed
from lstm_numba.kernels.status import FITS, STREAM, Checked, spoil
from lstm_numba.nn.linear import Linear
from lstm_numba.nn.recurrent import Recurrent

Array = np.ndarray[Any, Any]
_ARRAY = np.ndarray  # a name that is looked up once: it counts in a step


class _Plan(NamedTuple):
    """What a stream's step needs, as a record: addresses of the C function and its arguments, and sizes."""

    step: int
    handle: int
    x: int
    state: int
    y: int
    inputs: int  # I
    sample: int  # numbers that a step reads, B * I
    output: int  # and that it writes, B * H, or B * O with a head


@njit(**INLINE)
def _advance(plan: Any, given: Any, out: Any, zero: Any) -> None:
    """A step, from a flat array to an address."""
    sample = pointer_to(plan.x, zero)
    for n in range(given.size):
        sample[n] = given[n]
    handle, state = pointer_to(plan.handle, out), pointer_to(plan.state, zero)
    call_pointer(plan.step, (handle, sample, state, pointer_to(out, zero)))


@functools.partial(Checked, x=samples)
@njit(**SERIAL)
def stream_step(cell: Any, plan: Any, zero: Any, x: Any, out: Any) -> int:
    """Advance a stream by one step; for calls from compiled code.

    Parameters
    ----------
    cell, plan, zero
        The stream's `Stream.arguments`. The stream must outlive the call, and two threads must not step the
        same stream at the same time.
    x : ndarray, shape (B, I) or (I,)
        Input, of the stream's dtype, in any layout of memory.
    out : ndarray, shape (B, H) or (H,), with a head (B, O) or (O,)
        Where what `Stream.step` returns goes; C-contiguous, of the stream's dtype.

    Returns
    -------
    int
        In compiled code: 0, or a status, as `lstm_numba.kernels.step` returns it, where an array has another
        size; `out` is NaN then.

    Raises
    ------
    ValueError
        From Python: an array has another size. Wrong dtypes are a `TypingError` while Numba compiles.
    """
    record = read_record(_Plan, np.int64(plan.ctypes.data), 0)
    if x.size != record.sample or out.size != record.output:
        spoil(out, zero)
        return STREAM
    _advance(record, x.ravel(), np.int64(out.reshape(-1).ctypes.data), zero)
    return FITS


def _from_python(plan: Any, x: Any) -> bool:
    """A step; False if the samples have another shape.

    Takes two arguments of plain types, for Python tells Numba of each: of `stream_step`'s five this takes as
    long as the step.
    """
    record = read_record(_Plan, plan, 0)
    if x.shape[-1] != record.inputs or x.size != record.sample:
        return False
    _advance(record, x.reshape(-1), record.y, x.dtype.type(0))
    return True


@once
def _python_step(dtype: Any) -> Any:
    """`_from_python` for a dtype; anything but contiguous samples that may be written to is a TypeError."""
    number = from_dtype(dtype)
    kinds = [types.boolean(types.int64, samples) for samples in (number[::1], number[:, ::1])]
    return njit(kinds, **SERIAL)(_from_python)


class Stream:
    """A layer's weights, packed, and a state; each step reads one sample and moves the state on.

    With a linear layer behind it, a head, a step gives what the head makes of the last layer's h, in the same
    compiled call. No step allocates memory, but for a head's where threads share it. A stream is for one
    thread at a time; several streams of one layer may run in several threads. Where a layer's step is much
    work, for a large batch say, `step` shares it among as many threads as Numba had when the stream was made;
    `stream_step` never does.

    Threads may call at the same time, beside a ``prange`` of a user's own too: shared work is done by threads
    of the library's own, whatever Numba's threading layer is, and who finds them at work for another thread
    computes alone. A forked process has threads of its own.

    Parameters
    ----------
    rnn : Recurrent, SequenceRegressor or SequenceClassifier
        A layer of one direction, or a model, whose linear layer is the head. The weights are copied now,
        later changes are not seen.
    batch : int
        Sequences that are stepped together (B).
    head : Linear, optional
        Linear layer, of the layer's dtype, that is applied to the last layer's h.

    Attributes
    ----------
    arguments : tuple
        What `stream_step` needs to step this stream from compiled code.

    Raises
    ------
    TypeError, ValueError
        `rnn` is no recurrent layer and no such model, or reads in both directions; `head` does not fit it;
        `batch` is not positive.

    Examples
    --------
    >>> import numpy as np, lstm_numba as ln
    >>> stream = ln.Stream(ln.LSTM(16, 64, seed=0))
    >>> stream.step(np.ones(16, np.float32)).shape
    (64,)
    >>> stream = ln.Stream(ln.SequenceRegressor(16, 64, 3, seed=0))
    >>> stream.step(np.ones(16, np.float32)).shape
    (3,)
    """

    def __init__(self, rnn: Recurrent | Headed, batch: int = 1, *, head: Linear | None = None) -> None:
        self._c = CStep(rnn, batch, head=head)
        rnn = self._c.rnn
        self.batch = self._c.batch
        self.dtype = rnn.dtype
        self._shape = (self.batch, rnn.input_size)
        self._single = (rnn.input_size,)
        memory = np.zeros(self._c.state_shape, rnn.dtype)
        ends = list(itertools.accumulate(map(math.prod, self._c.state_shapes)))
        parts = np.split(memory.reshape(-1), ends[:-1])
        self._states = [part.reshape(shape) for part, shape in zip(parts, self._c.state_shapes, strict=True)]
        self._x = aligned_zeros(self._shape, rnn.dtype)
        self._out = np.zeros((self.batch, self._c.outputs), rnn.dtype)
        self._first = self._out[0]
        addresses = [address(array) for array in (self._x, memory, self._out)]
        sizes = rnn.input_size, self._x.size, self._out.size
        plan = np.array(_Plan._make([self._c.address, self._c.handle.value, *addresses, *sizes]), np.int64)
        self.arguments = (rnn.cell, plan, self._c.zero)
        teams = [choose_plan(rnn.cell, (1, *layer[:3]), rnn.dtype).team for layer in self._c.layers]
        self._scratch: list[Array] = []  # of the threads
        self._alone = all(team.parts == 1 for team in teams)
        self._jobs = [] if self._alone else [self._job(rnn.cell, n, team) for n, team in enumerate(teams)]
        self._advance: Any = functools.partial(_python_step(rnn.dtype), address(plan))
        self.reset()

    def __repr__(self) -> str:
        return f"Stream({self._c.layer}, batch={self.batch})"

    def __reduce__(self) -> Any:
        raise TypeError(
            "Stream: cannot be copied or pickled, it is made of addresses; make another one of the layer "
            "and give its reset this one's state"
        )

    def reset(self, state: Any = None) -> None:
        """Begin anew.

        Parameters
        ----------
        state : ndarray or tuple of ndarray, shape (num_layers, B, H), optional
            As a layer takes it, of `proj_size` units h; zeros by default.

        Raises
        ------
        ValueError, TypeError
            A shape does not fit, or there is something else than real numbers.
        """
        shapes = self._c.state_shapes
        if state is None:
            for target in self._states:
                target.fill(0)
            return
        states = [real_numbers("state", s) for s in (state if len(self._states) > 1 else (state,))]
        if [s.shape for s in states] != shapes:
            raise ValueError(f"state: expected shapes {shapes}, got {[s.shape for s in states]}")
        for target, source in zip(self._states, states, strict=True):
            target[...] = source

    @property
    def state(self) -> Array | tuple[Array, ...]:
        """A copy of the state, as a layer returns it: ``h`` or ``(h, c)``, each (num_layers, B, H)."""
        states = tuple(state.copy() for state in self._states)
        return states if len(states) > 1 else states[0]

    def step(self, x: Array) -> Array:
        """Read one sample of each sequence.

        Parameters
        ----------
        x : ndarray, shape (B, I), or (I,) for a batch of one
            Of the stream's dtype.

        Returns
        -------
        ndarray, shape (B, H), or (H,)
            The last layer's h, of `proj_size` units where it is projected; with a head its scores, (B, O) or
            (O,). The next step overwrites it: copy what is to stay.

        Raises
        ------
        ValueError, TypeError
            The shape or dtype does not fit.
        """
        try:
            # Of a subclass, as a masked array is, Numba may see the numbers alone.
            if self._alone and type(x) is _ARRAY and x.flags.carray and self._advance(x):
                return self._first if x.ndim == 1 else self._out
        except (TypeError, AttributeError, NumbaTypeError):  # another dtype or form, or no array
            pass
        float_array("x", x, self.dtype)
        single = x.shape == self._single and self.batch == 1
        if not single and x.shape != self._shape:
            raise ValueError(f"x: expected shape {self._shape}, got {x.shape}")
        self._x[...] = x
        if self._alone:
            self._advance(self._x)
        else:
            self._advance_together()
        return self._first if single else self._out

    def _advance_together(self) -> None:
        """A step of much work, on several threads."""
        for function, job, team in self._jobs:
            task.run_job(function, job[:], team, 0)
        top, head = self._states[0][-1], self._c.head
        if head is None:
            self._out[...] = top
        else:
            matmul(top, head.weight.T, self._out)
            self._out += head.bias

    def _job(self, cell: Any, layer: int, team: Team) -> tuple[int, Numbers, Team]:
        """A layer's step as `lstm_numba.engines.cpu.task.run_job` takes it; each reads the one below."""
        kind: Any = type(cell)
        source = self._x if layer == 0 else self._states[0][layer - 1]
        states = tuple(address(state[layer]) for state in self._states)
        record = self._c.layers[layer]
        scratch = aligned_zeros((passes.scratch_bytes(cell, record, 1, False, team, self._c.zero),), np.uint8)
        self._scratch.append(scratch)
        record = record._replace(scratch=address(scratch))
        where = passes.one_step(record, address(source), team)
        job = numbers(SequenceJob(record, where, team, PACKED), states + states)
        return task.forward_task(kind, self.dtype), job, team


name_in_messages(Stream)
