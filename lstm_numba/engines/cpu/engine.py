"""The engine of the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import refuse_mask
from lstm_numba.engines.base import CORRECT, FACTOR, LOSS, NORM, Array, Arrays, Engine, Shape
from lstm_numba.engines.cpu import (
    clipping,
    embedding,
    gemm,
    model_products,
    model_sequences,
    reductions,
    sequence,
    steps,
    trace,
    updates,
)
from lstm_numba.engines.cpu.losses import softmax_cross_entropy
from lstm_numba.engines.cpu.memory import address, aligned_empty, fixed
from lstm_numba.engines.cpu.number_losses import number_loss
from lstm_numba.engines.cpu.prepared import PreparedCalls
from lstm_numba.engines.cpu.weight_cache import WeightCache
from lstm_numba.engines.dropout_masks import draw_mask
from lstm_numba.engines.number_losses import NumberLoss, check_number_targets
from lstm_numba.engines.sparse import SparseRows

_ANY_ORDER = contextlib.nullcontext()


class CpuEngine(Engine):
    """Computes on the processor, with NumPy arrays."""

    name: ClassVar[str] = "cpu"
    in_flight: ClassVar[int] = 0

    # -- arrays ----------------------------------------------------------------------------------

    def empty(self, shape: Shape, dtype: npt.DTypeLike) -> Array:
        return aligned_empty(shape, np.dtype(dtype))

    def zeros(self, shape: Shape, dtype: npt.DTypeLike) -> Array:
        return np.zeros(shape, dtype)

    def stack(self, shape: Shape, dtype: npt.DTypeLike) -> list[Array]:
        return list(self.empty(shape, dtype))

    def upload(self, array: npt.NDArray[Any], out: Array | None = None) -> Array:
        if out is None:
            return array
        out[...] = array
        return out

    def download(self, array: Array) -> npt.NDArray[Any]:
        result: npt.NDArray[Any] = array
        return result

    fixed = staticmethod(fixed)

    def fetch(self, array: Array) -> Callable[[], npt.NDArray[Any]]:
        return array.copy

    def synchronize(self) -> None:
        pass

    def from_user(self, name: str, value: Any, dtype: np.dtype[Any] | None) -> Array:
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name}: expected a NumPy array of {dtype}, got {type(value).__name__}")
        refuse_mask(name, value)
        if dtype is not None and value.dtype != dtype:
            raise TypeError(f"{name}: expected dtype {dtype}, got {value.dtype}")
        return value

    def to_user(self, array: Array, like: Any) -> Any:
        return array

    def on_stream_of(self, value: Any) -> contextlib.AbstractContextManager[Any]:
        return _ANY_ORDER

    def read_only(self, array: Array, copy: bool) -> Array:
        view = array[:]
        view.flags.writeable = False
        return view

    def contiguous(self, array: Array) -> Array:
        return np.ascontiguousarray(array)

    def copy_input(self, x: Array, lengths: Array | None) -> Array:
        copy = self.empty(x.shape, x.dtype)
        copy[...] = x
        if lengths is not None:
            np.copyto(copy, 0, where=_beyond(x.shape[-3], lengths)[..., None])
        return copy

    def swap_time_batch(self, array: Array) -> Array:
        return array.swapaxes(-3, -2)

    def transposed(self, matrix: Array) -> Array:
        return matrix.swapaxes(-2, -1)

    def lengths(self, lengths: npt.NDArray[np.int64] | None) -> Array | None:
        return lengths

    # -- layers ----------------------------------------------------------------------------------

    def multiply(self, a: Array, b: Array, out: Array | None = None) -> Array:
        return np.multiply(a, b, out=out)

    copy_steps = staticmethod(steps.copy_steps)

    add_steps = staticmethod(steps.add_steps)

    def dropout(
        self,
        rng: np.random.Generator,
        x: Array,
        p: float,
        out: Array | None = None,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        mask = draw_mask(rng, x.shape, p, x.dtype, mask)
        return np.multiply(x, mask, out=out), mask

    def mask(
        self, rng: np.random.Generator, shape: Shape, p: float, dtype: npt.DTypeLike, kept: float = 1.0
    ) -> Array:
        return draw_mask(rng, shape, p, dtype, self.empty(shape, dtype), kept)

    weight_cache = staticmethod(WeightCache)

    prepared_calls = staticmethod(PreparedCalls)

    def forward(
        self,
        cell: Any,
        params: dict[str, Array],
        x: Array,
        states: Sequence[Array] | None,
        finals: Sequence[Array],
        index: int,
        lengths: Array | None,
        reverse: bool,
        keep: bool,
        weight_cache: Any = None,
        borrow: bool = False,
        extras: Sequence[Array] = (),
        back: bool = True,
        models: int = 0,
    ) -> tuple[Any, Any]:
        # The first state may have fewer units than the others.
        sizes = finals[min(len(finals) - 1, int(cell.projected))].shape[-1], finals[0].shape[-1]
        if models:
            starts, ends = _places(cell, states, index), _places(cell, finals, index)
            return model_sequences.forward_models(
                cell, params, x, models, sizes, starts, ends, lengths, reverse, keep, extras
            )
        first, last = _addresses(cell, states, index), _addresses(cell, finals, index)
        return sequence.forward_sequence(
            cell, params, x, sizes, first, last, lengths, reverse, keep, weight_cache, extras, back
        )

    trace = staticmethod(trace.traced)

    def join(self, outputs: Sequence[Any], lengths: Array | None, shape: Shape) -> Array:
        y = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
        if lengths is None:
            return y
        return np.where(_beyond(shape[-3], lengths)[..., None], y.dtype.type(0), y)

    def backward(
        self,
        saved: Any,
        dy: Array | None,
        direction: int,
        dstates: Sequence[Array] | None,
        initial: Sequence[Array],
        index: int,
        dx: Array | None,
        input_gradient: bool = True,
    ) -> tuple[Array | None, dict[str, Array]]:
        units = initial[0].shape[-1]
        part = None if dy is None else dy[..., direction * units : (direction + 1) * units]
        if isinstance(saved, model_sequences.SavedModels):
            ends, starts = _places(saved.cell, dstates, index), _places(saved.cell, initial, index)
            d, grads = model_sequences.backward_models(saved, part, ends, starts, input_gradient)
        else:
            last, first = _addresses(saved.cell, dstates, index), _addresses(saved.cell, initial, index)
            d, grads = sequence.backward_sequence(saved, part, last, first, input_gradient)
        return (d if dx is None or d is None else np.add(dx, d, out=dx)), grads

    # -- models ----------------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        return (gemm if a.ndim == 2 else model_products).matmul(a, b, out)

    def column_sums(self, matrix: Array, out: Array | None = None) -> Array:
        return (reductions if matrix.ndim == 2 else model_products).column_sums(matrix, out)

    def add_row(self, matrix: Array, row: Array) -> Array:
        matrix += row[..., None, :]
        return matrix

    def tokens(
        self, ids: npt.NDArray[Any], gradient: bool = True, fixed: bool = False, out: Any = None
    ) -> Any:
        return ids

    def take_rows(self, table: Array, tokens: Any, out: Array | None = None) -> Array:
        if out is None:
            out = self.empty((*tokens.shape, table.shape[1]), table.dtype)
        # "clip" lets NumPy write straight to `out`.
        return np.take(table, tokens, axis=0, out=out, mode="clip")

    row_gradient = staticmethod(embedding.row_gradient)

    def add_rows(self, rows: Any, out: Array) -> None:
        out[rows.indices] += rows.values

    def last_outputs(self, h: Array, directions: int) -> Array:
        return np.concatenate([h[..., n, :, :] for n in range(-directions, 0)], axis=-1)

    def last_outputs_gradient(self, h: Array, directions: int, gradient: Array) -> Array:
        result, hidden = np.zeros_like(h), h.shape[-1]
        for direction in range(directions):
            part = gradient[..., direction * hidden : (direction + 1) * hidden]
            result[..., direction - directions, :, :] = part
        return result

    def totals(self, models: int = 0) -> Array:
        return np.zeros((models, 4) if models else 4)

    def targets(
        self, targets: npt.NDArray[Any], weights: npt.NDArray[Any] | None, classes: int, out: Any = None
    ) -> Any:
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
        targets, weights = targets
        loss, _, correct = softmax_cross_entropy(
            logits, targets, scale=scale, weights=weights, bias=bias, overwrite=True, gradient=gradient
        )
        totals[LOSS] = loss
        totals[CORRECT] = correct

    def number_targets(
        self,
        targets: npt.NDArray[Any],
        weights: npt.NDArray[Any] | None,
        loss: NumberLoss,
        out: Any = None,
    ) -> Any:
        return *check_number_targets(targets, weights), np.array(loss.levels)

    def number_loss(
        self,
        predictions: Array,
        targets: Any,
        totals: Array,
        loss: NumberLoss,
        *,
        scale: float = 1.0,
        bias: Array,
        gradient: bool = True,
    ) -> None:
        totals[LOSS] = number_loss(predictions, bias, targets, loss.kind, scale=scale, gradient=gradient)
        totals[CORRECT] = 0

    # -- training --------------------------------------------------------------------------------

    clip_by_value = staticmethod(clipping.clip_by_value)

    def clip_by_norm(self, grads: Mapping[str, Any], totals: Array, max_norm: float | None) -> None:
        if totals.ndim > 1:
            norms = model_products.global_norms(grads)
            sound = np.isfinite(norms) & np.isfinite(totals[:, LOSS])
            totals[:, NORM] = norms
            totals[:, FACTOR] = np.where(sound, model_products.clip_factors(norms, max_norm), np.nan)
            return
        norm = clipping.global_norm(grads)
        sound = np.isfinite(norm) and np.isfinite(totals[LOSS])
        totals[NORM] = norm
        totals[FACTOR] = clipping.clip_factor(norm, max_norm) if sound else np.nan

    def scatter(self, rows: Any, out: Array) -> Array:
        out[rows.indices] = rows.values
        return out

    def clear_rows(self, rows: Any, out: Array) -> None:
        out[rows.indices] = 0

    def factor(self, scale: Any, totals: Array | None) -> Any:
        found = scale if totals is None else totals[..., FACTOR]
        return found if np.ndim(found) else float(found)

    def numbers(self, values: tuple[float, ...], out: Any = None) -> Any:
        return values

    def sgd(self, params: Arrays, grads: Sequence[Any], factor: Any, numbers: Any) -> None:
        (lr,) = numbers
        if np.ndim(factor):
            for of_models in zip(params, grads, strict=True):
                model_products.sweep(model_products.sgd, of_models, factor, numbers)
            return
        for p, g in zip(params, grads, strict=True):
            rate = p.dtype.type(lr * factor)
            if np.isnan(rate):
                continue
            if isinstance(g, SparseRows):
                arrays = (p, g.indices, g.values)
                updates.sweep(updates.sgd_rows, updates.sgd_rows_shared, arrays, rate)
            else:
                updates.sweep(updates.sgd, updates.sgd_shared, _flat(p, g), rate)

    def momentum(
        self,
        params: Arrays,
        grads: Arrays,
        velocities: Arrays | None,
        factor: Any,
        numbers: Any,
        nesterov: bool,
    ) -> None:
        if np.ndim(factor):
            for p, g, velocity in zip(params, grads, velocities or [None] * len(params), strict=True):
                of_models = (p, g, np.zeros_like(p) if velocity is None else velocity)
                model_products.sweep(model_products.with_momentum, of_models, factor, numbers, nesterov)
            return
        if np.isnan(factor):
            return
        serial, shared = updates.with_momentum, updates.with_momentum_shared
        for p, g, velocity in zip(params, grads, velocities or [None] * len(params), strict=True):
            lr, *rest = map(p.dtype.type, numbers)
            arrays = _flat(p, g, np.zeros_like(p) if velocity is None else velocity)
            updates.sweep(serial, shared, arrays, lr, p.dtype.type(factor), *rest, nesterov)

    def adam(
        self, params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, factor: Any, numbers: Any
    ) -> None:
        if np.ndim(factor):
            for of_models in zip(params, grads, means, squares, strict=True):
                model_products.sweep(model_products.adam, of_models, factor, numbers)
        elif not np.isnan(factor):
            for p, *others in zip(params, grads, means, squares, strict=True):
                typed = map(p.dtype.type, (factor, *numbers))
                updates.sweep(updates.adam, updates.adam_shared, _flat(p, *others), *typed)

    def rmsprop(
        self, params: Arrays, grads: Arrays, squares: Arrays, velocities: Arrays, factor: Any, numbers: Any
    ) -> None:
        if np.ndim(factor):
            for of_models in zip(params, grads, squares, velocities, strict=True):
                model_products.sweep(model_products.rmsprop, of_models, factor, numbers)
        elif not np.isnan(factor):
            lr, *rest = numbers
            for p, *others in zip(params, grads, squares, velocities, strict=True):
                typed = map(p.dtype.type, (lr, factor, *rest))
                updates.sweep(updates.rmsprop, updates.rmsprop_shared, _flat(p, *others), *typed)

    def assign(self, target: Array, source: Array | None) -> None:
        target[...] = 0 if source is None else source

    def recorder(self) -> Any:
        return None


def _addresses(cell: Any, states: Sequence[Array] | None, index: int) -> tuple[int, ...]:
    """Addresses of one of stacked states, C-contiguous; 0 where there are none."""
    if states is None:
        return (0,) * len(cell.states)
    if index == 0:  # asking for strides takes as long as for the address
        return tuple(map(address, states))
    return tuple([address(state) + index * state.strides[0] for state in states])


def _places(cell: Any, states: Sequence[Array] | None, index: int) -> tuple[model_sequences.Place, ...]:
    """Where one of stacked states (models, layers*D, B, H) is."""
    if states is None:
        return (model_sequences.NOWHERE,) * len(cell.states)
    return tuple([(address(state) + index * state.strides[1], state.strides[0]) for state in states])


def _beyond(steps: int, lengths: Array) -> Array:
    """Which of (T, B), or (N, T, B), are past a sequence's end."""
    return np.arange(steps)[:, None] >= lengths[..., None, :]


def _flat(*arrays: Array) -> tuple[Array, ...]:
    return tuple(np.ascontiguousarray(array).reshape(-1) for array in arrays)
