"""The processor's engine: what layers, models and training ask of any engine, computed on NumPy arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_numba import clipping, dropout, embedding, updates
from lstm_numba.arguments import refuse_mask
from lstm_numba.cpu import gemm, sequence
from lstm_numba.cpu.arrays import address, aligned_empty
from lstm_numba.cpu.prepared import Prepared
from lstm_numba.engines import engine
from lstm_numba.linear import column_sums
from lstm_numba.losses import softmax_cross_entropy
from lstm_numba.sparse import SparseRows

Array = Any
Arrays = Sequence[Array]
Shape = tuple[int, ...]

#: Places in an array of totals: sum of losses, correct predictions, gradient norm, factor of the gradients.
LOSS, CORRECT, NORM, FACTOR = range(4)

_ANY_ORDER = contextlib.nullcontext()


class CpuEngine:
    """Computes on the processor.

    ``Array`` stands for the engine's arrays: NumPy's here. Where `out` may be given, the result is put there.

    Attributes
    ----------
    name : str
        Name of the device.
    in_flight : int
        Training steps that may be under way before the numbers of the first are looked at.
    """

    name: ClassVar[str] = "cpu"
    in_flight: ClassVar[int] = 0

    def __reduce__(self) -> Any:
        """There is one of each device in a process: copies of what computes with it share it."""
        return engine, (self.name,)

    # -- arrays ----------------------------------------------------------------------------------

    def empty(self, shape: Shape, dtype: npt.DTypeLike) -> Array:
        """A new array with whatever the memory holds."""
        return aligned_empty(shape, np.dtype(dtype))

    def zeros(self, shape: Shape, dtype: npt.DTypeLike) -> Array:
        """A new array of zeros."""
        return np.zeros(shape, dtype)

    def stack(self, shape: Shape, dtype: npt.DTypeLike) -> list[Array]:
        """New arrays of one shape, as many as `shape` says first; they may share a piece of memory."""
        return list(self.empty(shape, dtype))

    def upload(self, array: npt.NDArray[Any], out: Array | None = None) -> Array:
        """A NumPy array in the engine's memory; without `out` it need not be a copy."""
        if out is None:
            return array
        out[...] = array
        return out

    def download(self, array: Array) -> npt.NDArray[Any]:
        """An array as NumPy's; it need not be a copy."""
        result: npt.NDArray[Any] = array
        return result

    def fetch(self, array: Array) -> Callable[[], npt.NDArray[Any]]:
        """Begin to copy an array; the function returned waits for the numbers and gives them."""
        return array.copy

    def synchronize(self) -> None:
        """Wait for all that was begun, before other streams may need it."""

    def accept(self, name: str, value: Any, dtype: np.dtype[Any] | None) -> Array:
        """A user's array as the engine's; a TypeError names the argument."""
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name}: expected a NumPy array of {dtype}, got {type(value).__name__}")
        refuse_mask(name, value)
        if dtype is not None and value.dtype != dtype:
            raise TypeError(f"{name}: expected dtype {dtype}, got {value.dtype}")
        return value

    def give(self, array: Array, like: Any) -> Any:
        """An array in the form of what the user came with."""
        return array

    def on_stream_of(self, value: Any) -> contextlib.AbstractContextManager[Any]:
        """Compute in the order that the user's array belongs to."""
        return _ANY_ORDER

    def protected(self, array: Array, copy: bool) -> Array:
        """A view that cannot be written to, or where there are no such views, a copy if asked for."""
        view = array[:]
        view.flags.writeable = False
        return view

    def contiguous(self, array: Array) -> Array:
        """The array itself where it is C-contiguous, else a copy."""
        return np.ascontiguousarray(array)

    def kept(self, x: Array, lengths: Array | None) -> Array:
        """A copy of an input (T, B, I) for the backward pass: the caller may refill the original before it.

        It is zero past a sequence's end: what lies there is multiplied with zeros, and may be NaN.
        """
        copy = self.empty(x.shape, x.dtype)
        copy[...] = x
        if lengths is not None:
            copy[_beyond(len(x), lengths)] = 0
        return copy

    def turned(self, array: Array) -> Array:
        """An array (A, B, C) as (B, A, C)."""
        return array.transpose(1, 0, 2)

    def transposed(self, matrix: Array) -> Array:
        """A matrix (M, N) as (N, M), without a copy."""
        return matrix.T

    def lengths(self, lengths: npt.NDArray[np.int64] | None) -> Array | None:
        """Checked lengths in the engine's memory."""
        return lengths

    # -- layers ----------------------------------------------------------------------------------

    def multiply(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Product of two arrays of one shape, number by number."""
        return np.multiply(a, b, out=out)

    def dropout(
        self,
        rng: np.random.Generator,
        x: Array,
        p: float,
        out: Array | None = None,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        """An array times a mask, and the mask; see `lstm_numba.dropout.draw_mask`. `out` may be `x`."""
        mask = dropout.draw_mask(rng, x.shape, p, x.dtype, mask)
        return np.multiply(x, mask, out=out), mask

    def prepared(self) -> Any:
        """Memory for what repeated calls with the same parameters can share."""
        return Prepared()

    def forward(
        self,
        cell: Any,
        params: dict[str, Array],
        x: Array,
        states: Sequence[Array] | None,
        finals: Sequence[Array],
        place: int,
        lengths: Array | None,
        reverse: bool,
        keep: bool,
        prepared: Any = None,
        borrow: bool = False,
    ) -> tuple[Any, Any]:
        """Run one layer and direction over a sequence x (T, B, I).

        `states` (None for zeros) and `finals` are stacked, (layers * directions, B, H): of them `place` is
        read and written. Returns the output, for `join`, and what `backward` needs, or None without `keep`.
        With `borrow` nobody writes to the parameters until then, so that it need not copy them.
        """
        first, last = _places(cell, states, place), _places(cell, finals, place)
        hidden = finals[0].shape[2]
        return sequence.forward_sequence(
            cell, params, x, hidden, first, last, lengths, reverse, keep, prepared
        )

    def join(self, outputs: Sequence[Any], lengths: Array | None, shape: Shape) -> Array:
        """The outputs of all directions side by side, (T, B, D*H), zero past a sequence's end."""
        y = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=2)
        if lengths is None:
            return y
        return np.where(_beyond(shape[0], lengths)[..., None], y.dtype.type(0), y)

    def backward(
        self,
        trace: Any,
        dy: Array | None,
        direction: int,
        dstates: Sequence[Array] | None,
        initial: Sequence[Array],
        place: int,
        dx: Array | None,
        input_gradient: bool = True,
    ) -> tuple[Array | None, dict[str, Array]]:
        """Back-propagate through what `forward` ran, as direction number `direction` of dy (T, B, D*H).

        `dy` and `dstates` may be None for zeros. Returns the gradient of x, added to `dx` where that is given
        and None where it is not wanted, and those of the parameters.
        """
        hidden = initial[0].shape[2]
        part = None if dy is None else dy[:, :, direction * hidden : (direction + 1) * hidden]
        last, first = _places(trace.cell, dstates, place), _places(trace.cell, initial, place)
        d, grads = sequence.backward_sequence(trace, part, last, first, input_gradient)
        return (d if dx is None or d is None else np.add(dx, d, out=dx)), grads

    # -- models ----------------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Matrix product."""
        return gemm.matmul(a, b, out=out)

    def column_sums(self, matrix: Array, out: Array | None = None) -> Array:
        """Sums of the columns of a matrix."""
        return column_sums(matrix, out)

    def add_row(self, matrix: Array, row: Array) -> Array:
        """Add a row to all rows of a matrix, in place."""
        matrix += row
        return matrix

    def tokens(
        self, ids: npt.NDArray[Any], gradient: bool = True, fixed: bool = False, out: Any = None
    ) -> Any:
        """A NumPy array of valid tokens as the engine wants them.

        Without `gradient` they will only be looked up. `fixed` has arrays of the same sizes come of all
        tokens of one shape; `out` are earlier ones of that kind, whose place they take.
        """
        return ids

    def gather(self, table: Array, tokens: Any, out: Array | None = None) -> Array:
        """Rows of a table."""
        if out is None:
            out = self.empty((*tokens.shape, table.shape[1]), table.dtype)
        # "clip" lets NumPy write straight to `out`.
        return np.take(table, tokens, axis=0, out=out, mode="clip")

    def row_gradient(self, tokens: Any, dy: Array, shape: tuple[int, int]) -> Any:
        """Gradient of a table of that shape from those of the rows that `gather` took."""
        return embedding.row_gradient(tokens, dy, shape)

    def add_rows(self, rows: Any, out: Array) -> None:
        """Add a sparse gradient to a whole one."""
        out[rows.indices] += rows.values

    def last_outputs(self, h: Array, directions: int) -> Array:
        """The last layer's final h, directions side by side: (B, D*H) of (layers * D, B, H)."""
        return np.concatenate(list(h[-directions:]), axis=1)

    def last_outputs_gradient(self, h: Array, directions: int, gradient: Array) -> Array:
        """Gradient of h from that of `last_outputs`."""
        result, hidden = np.zeros_like(h), h.shape[2]
        for direction in range(directions):
            result[direction - directions] = gradient[:, direction * hidden : (direction + 1) * hidden]
        return result

    def totals(self) -> Array:
        """For the numbers of a step, in float64: see `LOSS` and the other places."""
        return np.zeros(4)

    def targets(
        self, targets: npt.NDArray[Any], weights: npt.NDArray[Any] | None, classes: int, out: Any = None
    ) -> Any:
        """NumPy arrays of targets and their weights, each (N,), as `cross_entropy` wants them.

        `out` are earlier ones of that shape, whose place they take.
        """
        return targets, weights

    def cross_entropy(
        self,
        logits: Array,
        targets: Any,
        totals: Array,
        *,
        scale: float = 1.0,
        bias: Array,
        gradient: bool = True,
    ) -> None:
        """Put loss and correct predictions into new totals; the gradient takes the place of the logits.

        See `lstm_numba.losses.softmax_cross_entropy`.
        """
        targets, weights = targets
        loss, _, correct = softmax_cross_entropy(
            logits, targets, scale=scale, weights=weights, bias=bias, overwrite=True, gradient=gradient
        )
        totals[LOSS] = loss
        totals[CORRECT] = correct

    # -- training --------------------------------------------------------------------------------

    def clip_by_value(self, grads: Mapping[str, Any], limit: float) -> None:
        """Limit every number of the gradients to [-limit, limit]."""
        clipping.clip_by_value(grads, limit)

    def clip_by_norm(self, grads: Mapping[str, Any], totals: Array, max_norm: float | None) -> None:
        """Put the gradients' norm and the factor that brings it down to `max_norm` into the totals.

        The factor is NaN where the norm or the loss is not finite; then no parameter shall change.
        """
        norm = clipping.global_norm(grads)
        sound = np.isfinite(norm) and np.isfinite(totals[LOSS])
        totals[NORM] = norm
        totals[FACTOR] = clipping.clip_factor(norm, max_norm) if sound else np.nan

    def scatter(self, rows: Any, out: Array) -> Array:
        """Put the rows of a sparse gradient into a matrix that is zero elsewhere."""
        out[rows.indices] = rows.values
        return out

    def clear_rows(self, rows: Any, out: Array) -> None:
        """Zero the rows of a matrix that a sparse gradient has."""
        out[rows.indices] = 0

    def factor(self, scale: float, totals: Array | None) -> Any:
        """What the updates below take as the factor of the gradients: `scale`, or the one in the totals.

        Where it is NaN, no update changes anything.
        """
        return float(scale if totals is None else totals[FACTOR])

    def numbers(self, values: tuple[float, ...], out: Any = None) -> Any:
        """Numbers of a step as the updates take them; into those of an earlier step where these are given."""
        return values

    def sgd(self, params: Arrays, grads: Sequence[Any], factor: Any, numbers: Any) -> None:
        """Update parameters by `lstm_numba.updates.sgd`; sparse gradients touch their own rows only."""
        (lr,) = numbers
        for p, g in zip(params, grads, strict=True):
            rate = p.dtype.type(lr * factor)
            if np.isnan(rate):
                continue
            if isinstance(g, SparseRows):
                arrays = (p, g.indices, g.values)
                updates.sweep(updates.sgd_rows, updates.sgd_rows_parallel, arrays, rate)
            else:
                updates.sweep(updates.sgd, updates.sgd_parallel, _flat(p, g), rate)

    def momentum(
        self,
        params: Arrays,
        grads: Arrays,
        velocities: Arrays | None,
        factor: Any,
        numbers: Any,
        nesterov: bool,
    ) -> None:
        """Update parameters by `lstm_numba.updates.with_momentum`, from rest without `velocities`."""
        if np.isnan(factor):
            return
        serial, parallel = updates.with_momentum, updates.with_momentum_parallel
        for p, g, velocity in zip(params, grads, velocities or [None] * len(params), strict=True):
            lr, *rest = map(p.dtype.type, numbers)
            arrays = _flat(p, g, np.zeros_like(p) if velocity is None else velocity)
            updates.sweep(serial, parallel, arrays, lr, p.dtype.type(factor), *rest, nesterov)

    def adam(
        self, params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, factor: Any, numbers: Any
    ) -> None:
        """Update parameters by `lstm_numba.updates.adam`."""
        if not np.isnan(factor):
            for p, *others in zip(params, grads, means, squares, strict=True):
                typed = map(p.dtype.type, (factor, *numbers))
                updates.sweep(updates.adam, updates.adam_parallel, _flat(p, *others), *typed)

    def rmsprop(
        self, params: Arrays, grads: Arrays, squares: Arrays, velocities: Arrays, factor: Any, numbers: Any
    ) -> None:
        """Update parameters by `lstm_numba.updates.rmsprop`."""
        if not np.isnan(factor):
            lr, *rest = numbers
            for p, *others in zip(params, grads, squares, velocities, strict=True):
                typed = map(p.dtype.type, (lr, factor, *rest))
                updates.sweep(updates.rmsprop, updates.rmsprop_parallel, _flat(p, *others), *typed)

    def assign(self, target: Array, source: Array | None) -> None:
        """Copy an array to another one of its shape; None stands for zeros."""
        target[...] = 0 if source is None else source

    def recorder(self) -> Any:
        """What records a training step, to repeat it without the host; None where nothing does."""
        return None


def _places(cell: Any, states: Sequence[Array] | None, place: int) -> tuple[int, ...]:
    """Addresses of one of stacked states, C-contiguous; 0 where there are none."""
    if states is None:
        return (0,) * len(cell.states)
    return tuple([address(state) + place * state.strides[0] for state in states])


def _beyond(steps: int, lengths: Array) -> Array:
    """Which of (T, B) lie past a sequence's end."""
    return np.arange(steps)[:, None] >= lengths


def _flat(*arrays: Array) -> tuple[Array, ...]:
    return tuple(np.ascontiguousarray(array).reshape(-1) for array in arrays)
