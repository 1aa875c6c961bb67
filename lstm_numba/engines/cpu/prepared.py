"""Calls of which everything but the arrays is known: repeated small calls of a layer on one thread.

A call of few multiplications takes less time than Python needs to plan it and to say where its arrays are. So
its job (`lstm_numba.engines.cpu.task`) is kept as a template, and compiled code, which Numba gives the arrays
with their shapes, checks these and fills in where the arrays are.
"""

from __future__ import annotations

from operator import is_not
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numba.core.errors import NumbaTypeError

from lstm_numba.engines.cpu import sequence, task
from lstm_numba.engines.cpu.blocking import cell_class, padded
from lstm_numba.engines.cpu.cpu_features import round_up
from lstm_numba.engines.cpu.job_template import ARRAYS, CALL, OTHER, THIRD, JobTemplate, compiled_call
from lstm_numba.engines.cpu.memory import ALIGNMENT, reserve
from lstm_numba.engines.cpu.records import (
    ALONE,
    Addresses,
    BackwardJob,
    GradientTargets,
    Layer,
    OutputGradient,
    Packing,
    Sequence,
    SequenceJob,
    size_of,
)
from lstm_numba.engines.cpu.thread_team import Phases
from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.engines.cpu.weight_cache import Located, field_names

Array = np.ndarray[Any, Any]
_ARRAY = np.ndarray  # a name that is looked up once: it counts in a call

#: Shapes for which calls are kept, and bytes of memory of those that are: larger calls have time to plan, and
#: are better off with memory that others used.
_MOST, _LARGEST = 64, 1 << 20


class _Prepared:
    """Calls of all layers for one shape of x.

    Raises
    ------
    _Unsuitable
        There is more to do than these can.
    """

    #: Whether a backward pass follows.
    keep: ClassVar[bool]

    def __init__(self, rnn: Any, shape: tuple[int, ...]) -> None:
        self._steps, self._batch, _ = shape
        count = len(rnn.cell.states)
        plain = rnn.directions == rnn.heads == 1 and not rnn.batch_first and not rnn.cell.extras
        if not plain or count not in (1, 2, 4):
            raise _Unsuitable
        self._dtype = rnn.dtype
        self._states = [
            (rnn.num_layers, self._batch, rnn.hidden_size if n else rnn.output_size) for n in range(count)
        ]
        self._zeros = [np.zeros(state, rnn.dtype) for state in self._states]
        self._history = (self._steps + 1, self._batch, rnn.output_size)

    def _inputs(self, rnn: Any, n: int) -> tuple[int, int, int]:
        """Shape of what a layer reads."""
        return self._steps, self._batch, rnn.output_size if n else rnn.input_size

    def _layer(self, rnn: Any, n: int) -> tuple[Located, sequence.Setting, Layer, Sequence]:
        """Parameters, setting and records of a layer, without addresses."""
        cell, output, shape = rnn.cell, rnn.output_size, (*self._inputs(rnn, n), rnn.hidden_size)
        team, block, chunks = plan = sequence.choose_plan(cell, shape, self._dtype, self.keep)
        if team != ALONE:
            raise _Unsuitable
        keep = self.keep
        setting = sequence.setting_of(cell_class(cell), shape, output, self._dtype, plan, keep, keep)
        params = {name: rnn.params[full] for name, full in rnn._layer_directions[n].names.items()}
        located = rnn._weight_caches[n].locate(cell, params, shape[2], shape[3], output, self._dtype)
        if any(map(is_not, located.arrays, located.whole.values())):
            raise _Unsuitable
        where = Sequence(self._steps, 0, int(self.keep), 0, setting.ends_at, 0, 0, 0, block, chunks, 0, 1)
        return located, setting, Layer(*shape[1:], output, 0, setting.functions, 0), where

    def _offsets(self, n: int) -> list[int]:
        """Where a layer's states are, in bytes from the beginning of arrays that hold those of all layers."""
        return [n * units * self._batch * self._dtype.itemsize for _, _, units in self._states]

    def _arrays(self, state: Any) -> Any:
        """States as a sequence of arrays, those of zeros for None; None if they are no plain arrays."""
        if state is None:
            return self._zeros
        if len(self._states) == 1:
            arrays: Any = (state,)
        elif isinstance(state, (tuple, list)):
            arrays = state
        else:
            return None
        for array in arrays:
            # Of a subclass, as a masked array is, Numba may see the numbers alone.
            if type(array) is not _ARRAY:
                return None
        return arrays

    def _empty_states(self) -> list[Array]:
        return [np.empty(shape, self._dtype) for shape in self._states]


def _job_bytes(kind: Any, states: int) -> int:
    """Bytes of a job and, behind it, two addresses for each of a cell's states; whole cache lines."""
    return round_up(8 * (size_of(kind) + 2 * states), ALIGNMENT)


class _Inference(_Prepared):
    """Calls that keep nothing. The memory of one is that of all layers, one after the other."""

    keep = False

    def __init__(self, rnn: Any, shape: tuple[int, ...]) -> None:
        super().__init__(rnn, shape)
        made = [self._job(rnn, n) for n in range(rnn.num_layers)]
        self._plans = [job.plan for job, _, _ in made]
        self._size = max(size for _, size, _ in made)
        if self._size > _LARGEST:
            raise _Unsuitable
        self._run = compiled_call(rnn.dtype, 2 + 2 * len(self._states))
        self._alive = made
        #: Memory that no call uses at present: what keeps it alive, and its address.
        self._free: list[tuple[Array, int]] = []

    def _job(self, rnn: Any, n: int) -> tuple[JobTemplate, int, Any]:
        """A layer's job, the bytes of memory that its calls want, and what the addresses in it lead to."""
        located, setting, layer, where = self._layer(rnn, n)
        cache = rnn._weight_caches[n]
        rest = _job_bytes(SequenceJob, len(self._states))
        weights, packing = sequence.checked_packing(cache, located, setting, ALONE, rest + setting.rest)
        record = SequenceJob(layer._replace(weights=weights), where._replace(rest=rest), ALONE, packing)
        relative: dict[tuple[str, ...], int] = {
            ("sequence", "rest"): CALL, ("packing", "descriptor"): CALL, ("packing", "found"): CALL,
            ("sequence", "x"): ARRAYS, ("sequence", "h"): ARRAYS + 1,
        }  # fmt: skip
        shapes = [self._inputs(rnn, n), self._history, *2 * self._states]
        job = JobTemplate(setting.task, Phases(1, 1, 1, 1, 1), record, 2 * self._offsets(n), relative, shapes)
        size = rest + setting.rest + setting.descriptor + setting.found
        return job, size, (setting, located, cache.packed(located, setting.forward))

    def __call__(self, x: Array, state: Any, copy: bool) -> tuple[Array, list[Array]] | None:
        """Outputs of the last layer and final states; None if a shape or dtype does not fit."""
        first = self._arrays(state)
        if first is None:
            return None
        try:  # one operation, which threads cannot interrupt
            memory = self._free.pop()
        except IndexError:
            owner, _, where = reserve(self._size)
            memory = owner, where
        finals = self._empty_states()
        try:
            for plan in self._plans:
                history = np.empty(self._history, self._dtype)
                if not self._run(plan, memory[1], 0, 0, x, history, *first, *finals):
                    return None
                x = history[1:]
        finally:
            self._free.append(memory)
        return x, finals


class _LayerPasses(NamedTuple):
    """The passes of a layer that a backward pass follows.

    Attributes
    ----------
    forward, backward, without_dx : JobTemplate
        The latter for a backward pass without the gradient of the input.
    kept, passing, scratch, gradients : int
        Bytes of memory: of the forward pass, of what is gone when that ends, of the backward pass, and of the
        gradients of the parameters.
    views : list of (str, tuple of int, int)
        Full name, shape and first byte of each of these.
    dx : tuple of int
        Shape of the gradient of the input, in whole vectors.
    alive : tuple
        What the addresses in the jobs lead to.
    """

    forward: JobTemplate
    backward: JobTemplate
    without_dx: JobTemplate
    kept: int
    passing: int
    scratch: int
    gradients: int
    views: list[tuple[str, tuple[int, ...], int]]
    dx: tuple[int, int, int]
    alive: tuple[Any, ...]


class _Training(_Prepared):
    """Calls that a backward pass follows."""

    keep = True

    def __init__(self, rnn: Any, shape: tuple[int, ...]) -> None:
        super().__init__(rnn, shape)
        self._inputs_of_x = rnn.input_size
        self._names = list(rnn.params)
        self._layers = [self._passes(rnn, n) for n in range(rnn.num_layers)]
        if max(layer.kept + layer.passing for layer in self._layers) > _LARGEST:
            raise _Unsuitable
        self._run = compiled_call(rnn.dtype, 2 + 2 * len(self._states))
        self._run_back = compiled_call(rnn.dtype, 4 + 2 * len(self._states))

    def _passes(self, rnn: Any, n: int) -> _LayerPasses:
        located, setting, layer, where = self._layer(rnn, n)
        states, x = self._offsets(n) * 2, self._inputs(rnn, n)
        rest = _job_bytes(SequenceJob, len(self._states))
        back, where = rest + setting.rest, where._replace(rest=rest)
        # The weights of the forward pass and what packing them wants are in other memory.
        packing = Packing(located.addresses, back, setting.forward, 1)
        forward = JobTemplate(
            setting.task, Phases(prepare=1, begin=1, work=1, end=1),
            SequenceJob(layer, where, ALONE, packing), states,
            {
                ("sequence", "rest"): CALL, ("packing", "back"): CALL, ("layer", "weights"): OTHER,
                ("packing", "descriptor"): OTHER, ("sequence", "x"): ARRAYS, ("sequence", "h"): ARRAYS + 1,
            },
            [x, self._history, *2 * self._states],
        )  # fmt: skip
        starts = dict(zip(located.ends, (0, *located.ends.values()), strict=False))
        fields = dict(zip(Addresses._fields, field_names(rnn.cell), strict=True))
        grads = Addresses(*(starts.get(name, 0) for name in fields.values()))
        scratch, wide = _job_bytes(BackwardJob, len(self._states)), padded(x[2], self._dtype)
        row = padded(rnn.output_size, self._dtype) if n + 1 < rnn.num_layers else rnn.output_size
        dx = (*x[:2], wide)
        record = BackwardJob(
            layer._replace(weights=back, scratch=scratch), where, ALONE, OutputGradient(0, row),
            GradientTargets(0, wide, grads, 0),
        )  # fmt: skip
        relative: dict[tuple[str, ...], int] = {
            ("layer", "weights"): OTHER, ("layer", "scratch"): CALL, ("sequence", "rest"): OTHER,
            ("sequence", "x"): ARRAYS, ("sequence", "h"): ARRAYS + 1,
            ("output_gradient", "dy"): ARRAYS + 2, ("targets", "dx"): ARRAYS + 3,
        }  # fmt: skip
        relative |= {("targets", "grads", field): THIRD for field, name in fields.items() if name in starts}
        phases = Phases(begin=1, work=1, end=1, after=1)
        backward = task.backward_task(cell_class(rnn.cell), self._dtype)
        shapes = [x, self._history, (*x[:2], row), dx, *2 * self._states]
        with_dx = JobTemplate(backward, phases, record, states, relative, shapes)
        # Another array takes the place of the gradient.
        del relative["targets", "dx"]
        shapes[3] = shapes[0]
        names = rnn._layer_directions[n].names
        views = [(names[name], located.whole[name].shape, start) for name, start in starts.items()]
        without_dx = JobTemplate(backward, phases, record, states, relative, shapes)
        return _LayerPasses(
            forward, with_dx, without_dx, back + setting.back, setting.forward + setting.descriptor,
            scratch + setting.scratch, max(located.ends.values()), views, dx, (located, setting),
        )  # fmt: skip

    def __call__(self, x: Array, state: Any, copy: bool) -> tuple[Array, list[Array], Any, list[Any]] | None:
        """Outputs of the last layer, final states, this, and what its `backward` takes; None if a shape or
        dtype does not fit.
        """
        first = self._arrays(state)
        if first is None:
            return None
        x = x.copy() if copy else x
        finals, saved = self._empty_states(), []
        for layer in self._layers:
            history = np.empty(self._history, self._dtype)
            memory, _, start = reserve(layer.kept)
            _passing, _, other = reserve(layer.passing)
            if not self._run(layer.forward.plan, start, other, 0, x, history, *first, *finals):
                return None
            saved.append((x, history, start, memory))
            x = history[1:]
        return x, finals, self, saved

    def backward(
        self, saved: list[Any], dy: Array | None, dstate: Any, input_gradient: bool
    ) -> tuple[Array | None, list[Array], dict[str, Array]] | None:
        """Gradients of the input, the initial states and the parameters; None if a shape or dtype does not
        fit.

        Parameters
        ----------
        saved : list
            From the call.
        dy, dstate, input_gradient
            As `Recurrent.backward` takes them.
        """
        try:
            return self._backward(saved, dy, dstate, input_gradient)
        except (TypeError, NumbaTypeError):  # another dtype, or not as many arrays
            return None

    def _backward(self, saved: list[Any], dy: Array | None, dstate: Any, input_gradient: bool) -> Any:
        last = self._arrays(dstate)
        dy = np.zeros((self._steps, *self._history[1:]), self._dtype) if dy is None else dy
        if last is None or type(dy) is not _ARRAY:
            return None
        initial = self._empty_states()
        grads: dict[str, Any] = dict.fromkeys(self._names)
        for n in range(len(saved) - 1, -1, -1):
            layer, (x, history, other, _) = self._layers[n], saved[n]
            _scratch, _, start = reserve(layer.scratch)
            memory, offset, third = reserve(layer.gradients)
            if n or input_gradient:
                job, dx = layer.backward, np.empty(layer.dx, self._dtype)
            else:
                job, dx = layer.without_dx, x
            if not self._run_back(job.plan, start, other, third, x, history, dy, dx, *last, *initial):
                return None
            for name, shape, at in layer.views:
                grads[name] = np.ndarray(shape, self._dtype, memory, offset + at)
            dy = dx
        return dy[..., : self._inputs_of_x] if input_gradient else None, initial, grads


class _Unsuitable(Exception):
    """A layer or a shape for which calls are not prepared."""


class PreparedCalls:
    """A layer's calls that one thread does, by the shape of x. Threads may share it.

    It knows parameters by their addresses, so a copy of it, which travels with copies of these, knows none.
    """

    def __init__(self) -> None:
        # Replaced as a whole, so that no thread sees half of it.
        self._known: tuple[list[Array], dict[Any, Any]] = ([], {})

    def __reduce__(self) -> Any:
        return PreparedCalls, ()

    def __call__(self, rnn: Any, x: Any, state: Any, keep: bool = False, copy: bool = False) -> Any:
        """Run a layer without dropout.

        Parameters
        ----------
        rnn : Recurrent
        x, state
            As `Recurrent` takes them.
        keep : bool
            Whether a backward pass follows.
        copy : bool
            Whether x may change before that.

        Returns
        -------
        output : ndarray, shape (T, B, units of h)
        finals : list of ndarray, shape (layers, B, units)
            None instead of both where there is more to do, or to refuse, than this can.
        call, saved
            With `keep`: whose ``backward`` takes what.
        """
        if type(x) is not _ARRAY or not x.flags.carray:
            return None
        arrays, calls = self._known
        given = list(rnn.params.values())
        if len(given) != len(arrays) or any(map(is_not, given, arrays)):
            calls = {}
            self._known = given, calls
        key = x.shape, thread_count(), keep
        try:
            call = calls[key]
        except KeyError:
            call = _prepare(rnn, x, keep)
            if len(calls) >= _MOST:
                calls.clear()
            calls[key] = call
        if call is None:
            return None
        try:
            return call(x, state, copy)
        except (TypeError, NumbaTypeError):  # another dtype, no arrays, or not as many
            return None


def _prepare(rnn: Any, x: Array, keep: bool) -> Any:
    """Calls for the shape of an array; None if they are not prepared."""
    if x.ndim != 3 or x.dtype != rnn.dtype or 0 in x.shape:
        return None
    try:
        return (_Training if keep else _Inference)(rnn, x.shape)
    except (_Unsuitable, TypeError, ValueError):  # the latter of parameters, which whoever does it refuses
        return None
