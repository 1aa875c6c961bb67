"""One step at a time: a recurrent layer that is fed sample by sample, from Python or from compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lstm_numba.cpu import jobs, passes
from lstm_numba.cpu.arrays import address, aligned_zeros
from lstm_numba.cpu.functions import compiled_functions
from lstm_numba.cpu.options import SERIAL
from lstm_numba.cpu.passes import ALONE, Team, run_stack
from lstm_numba.cpu.places import MEETING_BYTES, Layer
from lstm_numba.cpu.sequence import choose_plan, pack
from lstm_numba.cpu.simd import pointer_to
from lstm_numba.layers import Recurrent

Array = np.ndarray[Any, Any]


@njit(**SERIAL)
def stream_step(cell: Any, plan: Any, zero: Any, x: Any, out: Any) -> None:
    """Advance a stream by one step; for calls from compiled code.

    Parameters
    ----------
    cell, plan, zero
        The stream's `Stream.arguments`. The stream must outlive the call, and two threads must not step the
        same stream at the same time.
    x : ndarray, shape (B, I) or (I,)
        Input, of the stream's dtype; its numbers in order of memory.
    out : ndarray, shape (B, H) or (H,)
        Where the last layer's h goes; C-contiguous.
    """
    flat, target = x.ravel(), out.reshape(-1)
    sample, states, layers = pointer_to(plan[0], zero), plan[1], pointer_to(plan.ctypes.data + 16, plan[0])
    for n in range(flat.size):
        sample[n] = flat[n]
    run_stack(cell, layers, plan[0], states, np.int64(target.ctypes.data), zero)


class Stream:
    """A layer's weights, packed, and a state; each step reads one sample and moves the state on.

    No step allocates memory. A stream is for one thread at a time; several streams of one layer may run in
    several threads. Where a step is much work, for a large batch say, `step` shares it among as
    many threads as Numba had when the stream was made; `stream_step` never does.

    Parameters
    ----------
    rnn : Recurrent
        A layer of one direction; its weights are copied now, later changes are not seen.
    batch : int
        Sequences that are stepped together (B).

    Attributes
    ----------
    arguments : tuple
        What `stream_step` needs to step this stream from compiled code.

    Raises
    ------
    TypeError, ValueError
        `rnn` is no recurrent layer, or reads in both directions, or `batch` is not positive.

    Examples
    --------
    >>> import numpy as np, lstm_numba as ln
    >>> stream = ln.Stream(ln.LSTM(16, 64, seed=0))
    >>> stream.step(np.ones(16, np.float32)).shape
    (64,)
    """

    def __init__(self, rnn: Recurrent, batch: int = 1) -> None:
        if not isinstance(rnn, Recurrent):
            raise TypeError(f"rnn: expected a recurrent layer, got {type(rnn).__name__}")
        if rnn.bidirectional:
            raise ValueError("rnn: expected one direction; a stream has no end to read from")
        if batch < 1:
            raise ValueError(f"batch: expected at least 1, got {batch}")
        self.batch = int(batch)
        self.dtype = rnn.dtype
        self._shape = (self.batch, rnn.input_size)
        self._single = (rnn.input_size,)
        shape = (len(rnn.cell.states), rnn.num_layers, self.batch, rnn.hidden_size)
        self._states = np.zeros(shape, rnn.dtype)
        self._x = aligned_zeros(self._shape, rnn.dtype)
        self._out = np.zeros(shape[2:], rnn.dtype)
        self._first = self._out[0]
        cell, zero, functions = rnn.cell, rnn.dtype.type(0), compiled_functions(rnn.cell, rnn.dtype, False)
        self._memory: list[Array] = []
        self._layers: list[Layer] = []
        for params in rnn.layer_params():
            # Of a layer on a GPU too: what steps is the processor.
            params = {name: rnn.engine.download(array) for name, array in params.items()}
            inputs = params["weight_ih"].shape[1]
            packed = pack(cell, params, inputs, rnn.hidden_size, rnn.dtype)
            layer = Layer(self.batch, inputs, rnn.hidden_size, address(packed), address(functions), 0)
            scratch = aligned_zeros((passes.scratch_bytes(cell, layer, 1, False, ALONE, zero),), np.uint8)
            self._memory += [packed, scratch]
            self._layers.append(layer._replace(scratch=address(scratch)))
        teams = [choose_plan(cell, (1, *layer[:3]), rnn.dtype).team for layer in self._layers]
        self._alone = all(team.parts == 1 for team in teams)
        self._jobs = [] if self._alone else [self._job(cell, n, team) for n, team in enumerate(teams)]
        numbers = [number for layer in self._layers for number in layer]
        plan = np.array([address(self._x), address(self._states), rnn.num_layers, *numbers], np.int64)
        self.arguments = (cell, plan, zero)
        self.reset()

    def reset(self, state: Any = None) -> None:
        """Begin anew.

        Parameters
        ----------
        state : ndarray or tuple of ndarray, shape (num_layers, B, H), optional
            As a layer takes it; zeros by default.

        Raises
        ------
        ValueError
            A shape does not fit.
        """
        shape = self._states.shape[1:]
        if state is None:
            self._states.fill(0)
            return
        states = [np.asarray(s) for s in (state if len(self._states) > 1 else (state,))]
        if len(states) != len(self._states) or any(s.shape != shape for s in states):
            raise ValueError(
                f"state: expected {len(self._states)} of shape {shape}, got {[s.shape for s in states]}"
            )
        for target, source in zip(self._states, states, strict=True):
            target[...] = source

    @property
    def state(self) -> Any:
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
            The last layer's h. The next step overwrites it: copy what is to stay.

        Raises
        ------
        ValueError, TypeError
            The shape or dtype does not fit.
        """
        if x.dtype != self.dtype:
            raise TypeError(f"x: expected {self.dtype}, got {x.dtype}")
        single = x.shape == self._single and self.batch == 1
        if not single and x.shape != self._shape:
            raise ValueError(f"x: expected shape {self._shape}, got {x.shape}")
        out = self._first if single else self._out
        if self._alone:
            stream_step(*self.arguments, x, out)
        else:
            self._step_together(x)
        return out

    def _step_together(self, x: Array) -> None:
        """A step of much work, on several threads."""
        self._x[...] = x
        for task, job, team, meeting in self._jobs:
            jobs.run_sequence_job(task, job.copy(), team, 0, meeting)
        self._out[...] = self._states[0, -1]

    def _job(self, cell: Any, layer: int, team: Team) -> tuple[int, Array, Team, int]:
        """A layer's step as `lstm_numba.cpu.jobs.run_sequence_job` takes it; each reads the one below."""
        kind: Any = type(cell)
        zero = self.dtype.type(0)
        source = self._x if layer == 0 else self._states[0, layer - 1]
        states = tuple(address(state[layer]) for state in self._states)
        where = passes.one_step(self._layers[layer], address(source))
        end = where.rest + passes.kept_bytes(cell, self._layers[layer], where, zero)
        job = jobs.sequence_job(self._layers[layer], where, team, jobs.PACKED, states, states)
        return jobs.forward_task(kind, self.dtype), job, team, end - MEETING_BYTES
