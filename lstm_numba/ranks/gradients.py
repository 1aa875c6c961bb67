"""Gradients of all ranks summed, each as soon as it is final, while those of earlier layers are computed.

A large gradient is a bucket of its own, which is summed where it is. All small ones go with the step's
numbers into the last bucket, in float64, so that a step of a small network is one reduction. Rows of a table
of which a batch meets few are gathered, and every rank adds them in the order of the ranks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.engines.base import Engine
from lstm_numba.engines.sparse import SparseRows
from lstm_numba.ranks.base import Array, Ranks, Sum
from lstm_numba.ranks.nccl import DeviceSums

#: Bytes from which on a gradient is a bucket of its own: copying it would cost more than another message.
LARGE = 1 << 18
#: Seconds between two looks at a reduction while the processor computes.
_PAUSE = 1e-4


class Event(NamedTuple):
    """Something that took time, in seconds of `time.perf_counter`, which the ranks of a machine share.

    Attributes
    ----------
    kind : str
        "backward" until gradients are final, "sum" of a bucket, "rows", "rest".
    name : str
        Of the parameters.
    begin, end : float
    size : int
        Bytes.
    """

    kind: str
    name: str
    begin: float
    end: float
    size: int = 0


class _Bucket:
    """A reduction under way; both threads may push it on."""

    def __init__(self, name: str, array: Array, total: Sum) -> None:
        self.name, self.total = name, total
        self.began = time.perf_counter()
        self.ended: float | None = None
        self._lock = threading.Lock()
        self._test = total.begin(array)

    def push(self) -> bool:
        """Go on with it; whether it is done."""
        with self._lock:
            if self.ended is None and self._test():
                self.ended = time.perf_counter()
        return self.ended is not None


class _Helper:
    """A thread that pushes reductions on while the other one computes: MPI moves only within its calls."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[_Bucket] = SimpleQueue()
        self.fault: BaseException | None = None
        threading.Thread(target=self._run, name="sums of ranks", daemon=True).start()

    def give(self, bucket: _Bucket) -> None:
        """Push this one on after those before it."""
        self._inbox.put(bucket)

    def _run(self) -> None:
        while self.fault is None:
            bucket = self._inbox.get()
            try:
                while not bucket.push():
                    time.sleep(_PAUSE)
            except Exception as error:  # told by `GradientSum.finish`
                self.fault = error


class GradientSum:
    """Sums the gradients of each step over the ranks.

    Parameters
    ----------
    ranks : Ranks
    engine : Engine
        Of the gradients.
    params : dict of ndarray
        In the order in which a forward pass uses them: the gradients come in the opposite one.
    overlap : bool
        Whether to sum while the backward pass goes on; the bits do not depend on it.
    device : DeviceSums, optional
        Sums all gradients where they are, on a GPU.

    Attributes
    ----------
    events : list of Event or None
        If a list, what happens is added to it.
    """

    def __init__(
        self,
        ranks: Ranks,
        engine: Engine,
        params: Mapping[str, Any],
        overlap: bool = True,
        device: DeviceSums | None = None,
    ) -> None:
        self._ranks, self._engine = ranks, engine
        self._shapes = {name: (array.shape, np.dtype(array.dtype)) for name, array in params.items()}
        large = {
            name for name, (shape, dtype) in self._shapes.items() if device or _bytes(shape, dtype) >= LARGE
        }
        self._order = [name for name in reversed(self._shapes) if name in large]
        self._small = [name for name in self._shapes if name not in large]
        makes = ranks if device is None else device
        self._sums = {name: makes.new_sum(*self._shapes[name]) for name in self._order}
        # A GPU goes on by itself.
        helped = overlap and ranks.concurrent and self._order and device is None
        self._helper = _Helper() if helped else None
        self.events: list[Event] | None = None
        self._rest = np.empty(0)
        self._tables: dict[str, Array] = {}
        self.begin()

    def places(self) -> dict[str, Array]:
        """Where gradients are best computed, by name, in the host's memory; valid for good."""
        return {name: one.own for name, one in self._sums.items() if one.own is not None}

    def begin(self, rows: int = 0) -> None:
        """Begin a step.

        Parameters
        ----------
        rows : int
            Rows of a table that are used at most in the share of any rank; 0 if there is no table.
        """
        self._rows = rows
        self._found: dict[str, Any] = {}
        self._begun: dict[str, _Bucket | None] = {}
        self._since = time.perf_counter()

    def ready(self, grads: Mapping[str, Any]) -> None:
        """Take gradients that are final, and begin to sum those whose turn it is."""
        self._note("backward", ", ".join(grads), self._since)
        self._found.update(grads)
        for name in self._order[len(self._begun) :]:
            if name not in self._found:
                break
            gradient = self._found[name]
            sparse = isinstance(gradient, SparseRows)
            if sparse and self._few(gradient):
                self._begun[name] = None
                continue
            whole = self._dense(name, gradient) if sparse else gradient
            array = whole if self._sums[name].on_device else self._host(whole)
            bucket = _Bucket(name, array, self._sums[name])
            self._begun[name] = bucket
            if self._helper is not None:
                self._helper.give(bucket)
        self._since = time.perf_counter()

    def finish(self, numbers: npt.NDArray[np.float64]) -> dict[str, Any]:
        """Wait for all sums.

        Parameters
        ----------
        numbers : ndarray, float64
            Overwritten with their sums.

        Returns
        -------
        dict of ndarray or SparseRows
            The sums of all gradients by name; valid until the next step.
        """
        grads: dict[str, Any] = {}
        for name in self._order:
            bucket = self._begun[name]
            if bucket is not None:
                grads[name] = self._wait(bucket)
        grads.update(self._sum_rest(numbers, [name for name in self._small if not self._by_rows(name)]))
        for name in self._shapes:
            if name not in grads:
                grads[name] = self._gather_rows(name, self._found[name])
        self._found = {}
        return {name: grads[name] for name in self._shapes}

    def _wait(self, bucket: _Bucket) -> Any:
        while not bucket.push():
            if self._helper is not None and self._helper.fault is not None:
                raise self._helper.fault
        assert bucket.ended is not None
        self._note("sum", bucket.name, bucket.began, bucket.ended, bucket.total.result.nbytes)
        result = bucket.total.result
        return result if bucket.total.on_device else self._engine.upload(result)

    def _sum_rest(self, numbers: npt.NDArray[np.float64], names: list[str]) -> dict[str, Any]:
        """Sum the small gradients and the numbers, which are one array."""
        began = time.perf_counter()
        arrays = [self._host(self._as_dense(name)).reshape(-1) for name in names]
        ends = np.cumsum([numbers.size, *(array.size for array in arrays)])
        if self._rest.size != ends[-1]:
            self._rest = np.empty(ends[-1])
        np.concatenate([numbers, *arrays], out=self._rest)
        self._ranks.sum(self._rest)
        numbers[:] = self._rest[: numbers.size]
        found = {}
        for name, start, stop in zip(names, ends, ends[1:], strict=False):
            shape, dtype = self._shapes[name]
            with np.errstate(over="ignore"):
                part = self._rest[start:stop].astype(dtype).reshape(shape)
            found[name] = self._engine.upload(part)
        self._note("rest", ", ".join(names), began, time.perf_counter(), self._rest.nbytes)
        return found

    # -- rows of tables --------------------------------------------------------------------------

    def _few(self, gradient: SparseRows) -> bool:
        """Whether all ranks together use no more rows than the table has; all ranks find the same."""
        return 0 < self._rows * self._ranks.size <= gradient.shape[0]

    def _by_rows(self, name: str) -> bool:
        gradient = self._found[name]
        return isinstance(gradient, SparseRows) and self._few(gradient)

    def _as_dense(self, name: str) -> Any:
        gradient = self._found[name]
        return self._dense(name, gradient) if isinstance(gradient, SparseRows) else gradient

    def _dense(self, name: str, gradient: SparseRows) -> Any:
        """The whole matrix."""
        if name not in self._tables:
            self._tables[name] = self._engine.empty(*self._shapes[name])
        table = self._tables[name]
        self._engine.assign(table, None)
        return self._engine.scatter(gradient, table)

    def _gather_rows(self, name: str, gradient: SparseRows) -> SparseRows:
        """The rows of all ranks, those of one number added in the order of the ranks."""
        began = time.perf_counter()
        indices, values = (self._engine.download(array) for array in (gradient.indices, gradient.values))
        message = _Rows(self._rows, gradient.shape[1], values.dtype)
        sent = message.pack(indices, values)
        parts = [message.unpack(one) for one in self._ranks.gather(sent)]
        union = np.unique(np.concatenate([numbers for numbers, _ in parts]))
        total = np.zeros((len(union), gradient.shape[1]), values.dtype)
        for numbers, rows in parts:
            total[np.searchsorted(union, numbers)] += rows
        self._note("rows", name, began, time.perf_counter(), sent.nbytes * self._ranks.size)
        return SparseRows(self._engine.upload(union), self._engine.upload(total), gradient.shape)

    # -- help ------------------------------------------------------------------------------------

    def _host(self, gradient: Any) -> Array:
        """A gradient in the memory of the host, contiguous: the gradient itself where it is that."""
        return np.require(self._engine.download(gradient), requirements=["C", "W"])

    def _note(self, kind: str, name: str, begin: float, end: float | None = None, size: int = 0) -> None:
        if self.events is not None:
            self.events.append(Event(kind, name, begin, time.perf_counter() if end is None else end, size))


class _Rows(NamedTuple):
    """How so many rows at most are one message of a known size: how many, which, and what they hold."""

    most: int
    width: int
    dtype: np.dtype[Any]

    def pack(self, indices: Array, values: Array) -> npt.NDArray[np.uint8]:
        """One message."""
        message = np.zeros(8 + self.most * (8 + self.width * self.dtype.itemsize), np.uint8)
        count, numbers, rows = self._views(message)
        count[0] = len(indices)
        numbers[: len(indices)] = indices
        rows[: len(indices)] = values
        return message

    def unpack(self, message: npt.NDArray[np.uint8]) -> tuple[Array, Array]:
        """Indices and values."""
        count, numbers, rows = self._views(message)
        return numbers[: count[0]], rows[: count[0]]

    def _views(self, message: npt.NDArray[np.uint8]) -> tuple[Array, Array, Array]:
        numbers = message[: 8 + 8 * self.most].view(np.int64)
        rows = message[8 + 8 * self.most :].view(self.dtype)
        return numbers[:1], numbers[1:], rows.reshape(self.most, self.width)


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
