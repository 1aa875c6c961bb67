"""Forward passes of which everything but the arrays is known: repeated calls of a layer on one thread.

A call of few multiplications takes less time than Python needs to plan it and to say where its arrays are. So
the job of `lstm_numba.engines.cpu.task` is kept, and compiled code, which Numba gives the arrays with their
shapes, checks these and fills in where the arrays are.
"""

from __future__ import annotations

from operator import is_not
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import types
from numba.core.errors import NumbaTypeError
from numba.np.numpy_support import from_dtype

from lstm_numba.engines.cpu.blocking import cell_class, choose_plan
from lstm_numba.engines.cpu.cpu_features import round_up
from lstm_numba.engines.cpu.function_pointers import once
from lstm_numba.engines.cpu.memory import ALIGNMENT
from lstm_numba.engines.cpu.options import INLINE, SERIAL
from lstm_numba.engines.cpu.records import (
    ALONE,
    Layer,
    Numbers,
    Packing,
    Sequence,
    SequenceJob,
    index_of,
    numbers,
    read_record,
    size_of,
)
from lstm_numba.engines.cpu.sequence import checked_packing, setting_of
from lstm_numba.engines.cpu.thread_team import Phases, phase_bits, run_alone
from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.engines.cpu.vector import pointer_to

Array = np.ndarray[Any, Any]
_ARRAY = np.ndarray  # a name that is looked up once: it counts in a call

#: Positions in a job of what a call fills in.
_SEQUENCE, _PACKING = index_of(SequenceJob, "sequence"), index_of(SequenceJob, "packing")
_X, _H, _REST = (_SEQUENCE + index_of(Sequence, field) for field in ("x", "h", "rest"))
_DESCRIPTOR, _FOUND = (_PACKING + index_of(Packing, field) for field in ("descriptor", "found"))
_STALE = index_of(SequenceJob, "stale")
#: Shapes for which calls are kept, and bytes of memory of those that are.
_MOST, _LARGEST = 64, 1 << 20


class _Plan(NamedTuple):
    """A layer's call, as a record.

    Attributes
    ----------
    task, phases : int
        As `run_alone` takes them.
    steps, batch, inputs, output, hidden, layers : int
        T, B, I, units of the first and of the other states, and how many layers a state is of.
    layer : int
        Which of them this is.
    template, job : int
        Address of the job, with offsets instead of the addresses that a call fills in, and how many numbers
        it has.
    """

    task: int
    phases: int
    steps: int
    batch: int
    inputs: int
    output: int
    hidden: int
    layers: int
    layer: int
    template: int
    job: int


@njit(**INLINE)
def _call(where, x, history, memory, states):
    """A layer's call, whose states are the initial ones and behind them the final ones; False if a shape does
    not fit.
    """
    plan = read_record(_Plan, where, 0)
    if x.shape != (plan.steps, plan.batch, plan.inputs):
        return False
    count = len(states) // 2
    for n in range(2 * count):
        units = plan.output if n % count == 0 else plan.hidden
        if states[n].shape != (plan.layers, plan.batch, units):
            return False
    start = -(-np.int64(memory.ctypes.data) // ALIGNMENT) * ALIGNMENT
    job, template = pointer_to(start, where), pointer_to(plan.template, where)
    for n in range(plan.job):
        job[n] = template[n]
    job[_X], job[_H] = np.int64(x.ctypes.data), np.int64(history.ctypes.data)
    job[_REST] += start
    job[_DESCRIPTOR] += start
    job[_FOUND] += start
    for n in range(2 * count):
        stride = states[n].itemsize * states[n].shape[1] * states[n].shape[2]
        job[plan.job - 2 * count + n] = np.int64(states[n].ctypes.data) + plan.layer * stride
    run_alone(plan.task, start, plan.phases, start + 8 * _STALE)
    return True


# One for each number of states: Python gives Numba an array in a tenth of the time of a tuple of arrays.


def _one(where, x, history, memory, a, last_a):
    return _call(where, x, history, memory, (a, last_a))


def _two(where, x, history, memory, a, b, last_a, last_b):
    return _call(where, x, history, memory, (a, b, last_a, last_b))


def _four(where, x, history, memory, a, b, c, d, last_a, last_b, last_c, last_d):
    return _call(where, x, history, memory, (a, b, c, d, last_a, last_b, last_c, last_d))


_BY_STATES = {1: _one, 2: _two, 4: _four}


@once
def _compiled(dtype: Any, states: int) -> Any:
    number = from_dtype(dtype)
    cube = number[:, :, ::1]
    return njit(types.boolean(types.int64, cube, cube, types.uint8[::1], *[cube] * (2 * states)), **SERIAL)(
        _BY_STATES[states]
    )


class _Prepared:
    """Calls of all layers for one shape of x.

    Raises
    ------
    _Unsuitable
        There is more to do than these can.
    """

    def __init__(self, rnn: Any, shape: tuple[int, ...]) -> None:
        steps, batch, _ = shape
        count = len(rnn.cell.states)
        plain = rnn.directions == rnn.heads == 1 and not rnn.batch_first and not rnn.cell.extras
        if not plain or count not in _BY_STATES:
            raise _Unsuitable
        self._dtype = rnn.dtype
        self._states = [
            (rnn.num_layers, batch, rnn.hidden_size if n else rnn.output_size) for n in range(count)
        ]
        self._zeros = [np.zeros(state, rnn.dtype) for state in self._states]
        self._run = _compiled(rnn.dtype, count)
        self._history = (steps + 1, batch, rnn.output_size)
        made = [
            self._layer(rnn, n, (steps, batch, rnn.output_size if n else rnn.input_size))
            for n in range(rnn.num_layers)
        ]
        self._plans = [plan.buffer_info()[0] for plan, _, _ in made]
        self._size = max(size for _, size, _ in made) + ALIGNMENT
        if self._size > _LARGEST:
            raise _Unsuitable
        self._alive = made
        self._free: list[Array] = []

    def _layer(self, rnn: Any, n: int, shape: tuple[int, int, int]) -> tuple[Numbers, int, Any]:
        """A layer's plan, the bytes of memory that its calls want, and what the addresses in it lead to."""
        cell, (steps, batch, inputs), hidden, output = rnn.cell, shape, rnn.hidden_size, rnn.output_size
        team, block, chunks = plan = choose_plan(cell, (*shape, hidden), self._dtype)
        setting = setting_of(cell_class(cell), (*shape, hidden), output, self._dtype, plan, False)
        params = {name: rnn.params[full] for name, full in rnn._layer_directions[n].names.items()}
        cache = rnn._weight_caches[n]
        located = cache.locate(cell, params, inputs, hidden, output, self._dtype)
        if team != ALONE or any(map(is_not, located.arrays, located.whole.values())):
            raise _Unsuitable
        states = (0,) * (2 * len(cell.states))
        # The job is at the beginning of a call's memory.
        rest = round_up(8 * (size_of(SequenceJob) + len(states)), ALIGNMENT)
        weights, packing = checked_packing(cache, located, setting, team, rest + setting.rest)
        sequence = Sequence(steps, 0, 0, 0, setting.ends_at, 0, rest, 0, block, chunks, 0, 1)
        layer = Layer(batch, inputs, hidden, output, weights, setting.functions, 0)
        job = numbers(SequenceJob(layer, sequence, team, packing), states)
        call = _Plan(
            setting.task, phase_bits(Phases(1, 1, 1, 1, 1)), steps, batch, inputs, output, hidden,
            rnn.num_layers, n, job.buffer_info()[0], len(job),
        )  # fmt: skip
        size = rest + setting.rest + setting.descriptor + setting.found
        return numbers(call), size, (job, setting, located, cache.packed(located, setting.forward))

    def __call__(self, x: Array, state: Any) -> tuple[Array, list[Array]] | None:
        """Outputs of the last layer and final states; None if a shape or dtype does not fit."""
        if state is None:
            first: Any = self._zeros
        elif len(self._states) == 1:
            first = (state,)
        elif isinstance(state, (tuple, list)):
            first = state
        else:
            return None
        for array in first:
            # Of a subclass, as a masked array is, Numba may see the numbers alone.
            if type(array) is not _ARRAY:
                return None
        try:  # one operation, which threads cannot interrupt
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(self._size, np.uint8)
        finals = [np.empty(shape, self._dtype) for shape in self._states]
        try:
            for plan in self._plans:
                history = np.empty(self._history, self._dtype)
                if not self._run(plan, x, history, memory, *first, *finals):
                    return None
                x = history[1:]
        finally:
            self._free.append(memory)
        return x, finals


class _Unsuitable(Exception):
    """A layer or a shape for which calls are not prepared."""


class PreparedCalls:
    """A layer's calls for inference that one thread does, by the shape of x. Threads may share it.

    It knows parameters by their addresses, so a copy of it, which travels with copies of these, knows none.
    """

    def __init__(self) -> None:
        # Replaced as a whole, so that no thread sees half of it.
        self._known: tuple[list[Array], dict[Any, _Prepared | None]] = ([], {})

    def __reduce__(self) -> Any:
        return PreparedCalls, ()

    def __call__(self, rnn: Any, x: Any, state: Any) -> tuple[Array, list[Array]] | None:
        """Run a layer.

        Parameters
        ----------
        rnn : Recurrent
        x, state
            As `Recurrent` takes them.

        Returns
        -------
        output : ndarray, shape (T, B, units of h)
        finals : list of ndarray, shape (layers, B, units)
            None instead of both where there is more to do, or to refuse, than this can.
        """
        if type(x) is not _ARRAY or not x.flags.carray:
            return None
        arrays, calls = self._known
        given = list(rnn.params.values())
        if len(given) != len(arrays) or any(map(is_not, given, arrays)):
            calls = {}
            self._known = given, calls
        key = x.shape, thread_count()
        try:
            call = calls[key]
        except KeyError:
            call = _prepare(rnn, x)
            if len(calls) >= _MOST:
                calls.clear()
            calls[key] = call
        if call is None:
            return None
        try:
            return call(x, state)
        except (TypeError, NumbaTypeError):  # another dtype, no arrays, or not as many
            return None


def _prepare(rnn: Any, x: Array) -> _Prepared | None:
    """Calls for the shape of an array; None if they are not prepared."""
    if x.ndim != 3 or x.dtype != rnn.dtype or 0 in x.shape:
        return None
    try:
        return _Prepared(rnn, x.shape)
    except (_Unsuitable, TypeError, ValueError):  # the latter of parameters, which whoever does it refuses
        return None
