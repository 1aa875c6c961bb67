"""One step at a time: a recurrent layer that is fed sample by sample, from Python or from compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lstm_numba.cpu.forward import one_step
from lstm_numba.cpu.layout import Arrays, job
from lstm_numba.cpu.options import SERIAL
from lstm_numba.cpu.sequence import pack, run_forward, step_arrays, weights_of
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
    one_step(cell, plan, zero, flat, target)


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
        self._layers: list[Arrays] = []
        self._plans: list[Any] = []
        self._weights = []
        jobs = []
        x = np.zeros((1, self.batch, rnn.input_size), rnn.dtype)
        for params in rnn.layer_params():
            # Of a layer on a GPU too: what steps is the processor.
            params = {name: rnn.engine.download(array) for name, array in params.items()}
            packed = pack(rnn.cell, params, x, rnn.hidden_size, False, 1)
            weights = weights_of(rnn.cell, packed, x.shape[-1], rnn.hidden_size, False)
            plan, sizes, arrays = step_arrays(rnn.cell, x, rnn.hidden_size)
            jobs.append(job(sizes, weights, arrays))
            self._plans.append(plan)
            self._layers.append(arrays)
            self._weights.append(packed)
            # The next layer reads what this one writes.
            x = arrays.h.reshape(2, self.batch, rnn.hidden_size)[1:]
        self._alone = all(plan.parts == 1 for plan in self._plans)
        self.arguments = (rnn.cell, np.array(jobs), rnn.dtype.type(0))
        self._out = np.zeros((self.batch, rnn.hidden_size), rnn.dtype)
        self._first = self._out[0]
        self._hidden = rnn.hidden_size
        self._states = len(rnn.cell.states)
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
        shape = (len(self._layers), self.batch, self._hidden)
        if state is None:
            states = [np.zeros(shape, self.dtype)] * self._states
        else:
            states = [np.asarray(s) for s in (state if self._states > 1 else (state,))]
        if len(states) != self._states or any(s.shape != shape for s in states):
            raise ValueError(
                f"state: expected {self._states} of shape {shape}, got {[s.shape for s in states]}"
            )
        for n, arrays in enumerate(self._layers):
            for target, source in zip(self._views(arrays), states, strict=True):
                target[...] = source[n]

    def _views(self, arrays: Arrays) -> list[Array]:
        """The current states of a layer, each (B, H)."""
        shape = (-1, self.batch, self._hidden)
        return [arrays.h.reshape(shape)[0], *(arrays.memory.reshape(shape) if arrays.memory.size else ())]

    @property
    def state(self) -> Any:
        """A copy of the state, as a layer returns it: ``h`` or ``(h, c)``, each (num_layers, B, H)."""
        layers = [self._views(arrays) for arrays in self._layers]
        states = tuple(np.stack([layer[n] for layer in layers]) for n in range(self._states))
        return states if self._states > 1 else states[0]

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
        cell, jobs, zero = self.arguments
        self._layers[0].x[...] = x
        for plan, arrays, job_ in zip(self._plans, self._layers, jobs, strict=True):
            arrays.meeting.fill(0)
            run_forward(cell, job_, zero, plan)
            before, after = arrays.h.reshape(2, self.batch, self._hidden)
            before[...] = after
        self._out[...] = after
