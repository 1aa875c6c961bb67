"""The engine of CUDA devices."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import refuse_mask
from lstm_numba.cells.parameters import check_shapes
from lstm_numba.engines.base import FACTOR, NORM, Array, Arrays, Engine, Shape
from lstm_numba.engines.cuda import (
    branches,
    clipping,
    dropout,
    elementwise,
    embedding,
    gemm,
    graph,
    losses,
    memory,
    number_losses,
    reductions,
    sequence,
    steps,
    trace,
    updates,
    wavefront,
)
from lstm_numba.engines.cuda.device_array import as_view, swapped, transposed
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.launch import on_stream
from lstm_numba.engines.cuda.outputs import write_output
from lstm_numba.engines.dropout_masks import RowShare, draw_mask
from lstm_numba.engines.number_losses import NumberLoss, check_number_targets
from lstm_numba.engines.sparse import SparseRows
from lstm_numba.engines.targets import check_targets


@functools.cache
def _stream(number: int) -> Any:
    """The stream with that handle; 2 is CUDA's handle of the per-thread default stream."""
    return cuda.per_thread_default_stream() if number == 2 else cuda.external_stream(number)


class CudaEngine(Engine):
    """Computes on the current CUDA device, with Numba's device arrays."""

    name: ClassVar[str] = "cuda"
    in_flight: ClassVar[int] = 1

    # -- arrays ----------------------------------------------------------------------------------

    def empty(self, shape: Shape, dtype: npt.DTypeLike) -> Array:
        # Raises DeviceError if there is not enough memory.
        return memory.empty(tuple(shape), dtype)

    def zeros(self, shape: Shape, dtype: npt.DTypeLike) -> Array:
        return memory.zeros(tuple(shape), dtype)

    def stack(self, shape: Shape, dtype: npt.DTypeLike) -> list[Array]:
        # Separate arrays, which are faster to make than views.
        return [self.empty(shape[1:], dtype) for _ in range(shape[0])]

    upload = staticmethod(memory.upload)

    download = staticmethod(memory.download)

    def fixed(self, array: Array) -> Array:
        return array

    fetch = staticmethod(memory.Download)

    synchronize = staticmethod(memory.synchronize)

    def from_user(self, name: str, value: Any, dtype: np.dtype[Any] | None) -> Array:
        # NumPy arrays are copied; device arrays are not.
        refuse_mask(name, value)
        if isinstance(value, np.ndarray):
            array = value
        elif hasattr(value, "__cuda_array_interface__") or getattr(value, "__cuda_ndarray__", False):
            array = as_view(value)
        else:
            raise TypeError(
                f"{name}: expected a NumPy array or an array on the device, of {dtype}, "
                f"got {type(value).__name__}"
            )
        if dtype is not None and array.dtype != dtype:
            raise TypeError(f"{name}: expected dtype {dtype}, got {array.dtype}")
        return memory.upload(array) if isinstance(array, np.ndarray) else array

    def to_user(self, array: Array, like: Any) -> Any:
        # An array of NumPy, CuPy or PyTorch, else of Numba.
        library = type(like).__module__.partition(".")[0]
        if isinstance(like, np.ndarray):
            return memory.download(array)
        if library == "cupy":
            import cupy

            return cupy.asarray(array)
        if library == "torch":
            import torch

            return torch.as_tensor(array, device=like.device)
        return array

    def on_stream_of(self, value: Any) -> contextlib.AbstractContextManager[Any]:
        # The stream that the array's interface names, else its library's current one.
        interface = (
            None if isinstance(value, np.ndarray) else getattr(value, "__cuda_array_interface__", None)
        )
        number = None if interface is None else interface.get("stream")
        if number is None and type(value).__module__.partition(".")[0] == "torch":
            import torch

            number = torch.cuda.current_stream(value.device).cuda_stream
        if not number or number == 1:  # 1 is CUDA's handle of the default stream
            return contextlib.nullcontext()
        return on_stream(_stream(number))

    def read_only(self, array: Array, copy: bool) -> Array:
        return memory.copied(array) if copy else array

    contiguous = staticmethod(memory.contiguous)

    def copy_input(self, x: Array, lengths: Array | None) -> Array:
        copy = memory.copied(x)
        if lengths is not None:
            elementwise.zero_padding(copy, lengths)
        return copy

    def swap_time_batch(self, array: Array) -> Array:
        # A copy.
        if array.ndim > 3:
            return memory.copied(swapped(array))
        return elementwise.transpose_first(memory.contiguous(array))

    transposed = staticmethod(transposed)

    def lengths(self, lengths: npt.NDArray[np.int64] | None) -> Array | None:
        return None if lengths is None else memory.upload(lengths)

    # -- layers ----------------------------------------------------------------------------------

    def multiply(self, a: Array, b: Array, out: Array | None = None) -> Array:
        out = memory.empty(a.shape, a.dtype) if out is None else out
        elementwise.multiply(a, b, out)
        return out

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
        # The same masks as on the CPU; drawn on the device if the generator is a Philox, and whole.
        if _on_device(rng):
            return dropout.dropout(rng, x, p, out, mask)
        mask = memory.upload(draw_mask(rng, x.shape, p, x.dtype), mask)
        return self.multiply(x, mask, out), mask

    def mask(
        self, rng: np.random.Generator, shape: Shape, p: float, dtype: npt.DTypeLike, kept: float = 1.0
    ) -> Array:
        if _on_device(rng):
            return dropout.mask(rng, shape, p, dtype, kept)
        return memory.upload(draw_mask(rng, shape, p, dtype, kept=kept))

    def weight_cache(self) -> Any:
        # Nothing is kept between calls.
        return None

    pipeline = staticmethod(branches.pipeline)

    branches = staticmethod(branches.branches)

    wavefront = staticmethod(wavefront.chunks)

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
        for name, array in params.items():
            if not getattr(array, "__cuda_ndarray__", False) or array.dtype != x.dtype:
                got = getattr(array, "dtype", "")
                raise TypeError(
                    f"{name}: expected a device array of {x.dtype}, got {type(array).__name__} {got}".rstrip()
                )
        (steps, batch, inputs), (output,) = x.shape[-3:], finals[0].shape[-1:]
        lead = (models,) if models else ()
        check_shapes(cell, params, inputs, sequence.hidden_units(cell, params, output), output, lead)
        ends = sequence.full_lengths(steps, batch) if lengths is None else lengths
        h, offset, saved = sequence.forward_sequence(
            cell, params, x, states, finals, index, ends, reverse, keep, borrow, extras, models
        )
        return (h, offset), saved

    def trace(self, saved: Any, lengths: Array | None) -> dict[str, Array]:
        return trace.traced(saved)

    def join(self, outputs: Sequence[Any], lengths: Array | None, shape: Shape) -> Array:
        *lead, steps, batch, width = shape
        if len(outputs) == 1 and lengths is None and not lead:
            h, offset = outputs[0]
            return h[offset : offset + math.prod(shape)].reshape(shape)
        y = memory.empty(shape, outputs[0][0].dtype)
        ends = sequence.full_lengths(steps, batch) if lengths is None else lengths
        for direction, (h, offset) in enumerate(outputs):
            write_output(h, offset, ends, y, direction, width // len(outputs))
        return y

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
        result = dx
        if dx is None and input_gradient:
            lead = (saved.models.count,) if saved.models else ()
            result = memory.empty((*lead, *saved.x.shape[-3:]), saved.x.dtype)
        grads = sequence.backward_sequence(
            saved, dy, direction, dstates, initial, index, result, dx is not None
        )
        return result, grads

    # -- models ----------------------------------------------------------------------------------

    matmul = staticmethod(gemm.matmul)

    column_sums = staticmethod(reductions.column_sums)

    def add_row(self, matrix: Array, row: Array) -> Array:
        elementwise.add_row(matrix, row)
        return matrix

    tokens = staticmethod(embedding.upload_tokens)

    take_rows = staticmethod(embedding.gather)

    row_gradient = staticmethod(embedding.row_gradient)

    add_rows = staticmethod(embedding.add_rows)

    def last_outputs(self, h: Array, directions: int) -> Array:
        _, batch, hidden = h.shape
        result = memory.empty((batch, directions * hidden), h.dtype)
        for direction in range(directions):
            first = (h.shape[0] - directions + direction) * batch * hidden
            columns = (direction * hidden, directions * hidden)
            elementwise.copy_block(h, (first, hidden), result, columns, (batch, hidden))
        return result

    def last_outputs_gradient(self, h: Array, directions: int, gradient: Array) -> Array:
        _, batch, hidden = h.shape
        result = memory.zeros(h.shape, h.dtype)
        for direction in range(directions):
            first = (h.shape[0] - directions + direction) * batch * hidden
            columns = (direction * hidden, directions * hidden)
            elementwise.copy_block(gradient, columns, result, (first, hidden), (batch, hidden))
        return result

    def totals(self, models: int = 0) -> Array:
        # Not initialised: `cross_entropy` sets them to zero.
        return memory.empty((models, 4) if models else (4,), np.float64)

    def targets(
        self, targets: npt.NDArray[Any], weights: npt.NDArray[Any] | None, classes: int, out: Any = None
    ) -> Any:
        checked = check_targets(targets, weights, len(targets), classes)
        return tuple(map(memory.upload, checked, out or (None, None)))

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
        losses.softmax_cross_entropy(
            logits, targets, totals, scale=scale, weights=weights, bias=bias, gradient=gradient, start=True
        )

    def number_targets(
        self,
        targets: npt.NDArray[Any],
        weights: npt.NDArray[Any] | None,
        loss: NumberLoss,
        out: Any = None,
    ) -> Any:
        arrays = *check_number_targets(targets, weights), np.array(loss.levels)
        return tuple(map(memory.upload, arrays, out or (None, None, None)))

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
        number_losses.number_loss(
            predictions, bias, targets, loss.kind, totals, scale=scale, gradient=gradient
        )

    # -- training --------------------------------------------------------------------------------

    clip_by_value = staticmethod(clipping.clip_by_value)

    def clip_by_norm(self, grads: Mapping[str, Any], totals: Array, max_norm: float | None) -> None:
        clipping.clip_by_norm(grads, totals, NORM, FACTOR, max_norm)

    def scatter(self, rows: SparseRows, out: Array) -> Array:
        embedding.set_rows(rows, out)
        return out

    clear_rows = staticmethod(embedding.clear_rows)

    def factor(self, scale: Any, totals: Array | None) -> Any:
        # As totals on the device.
        if totals is not None:
            return totals
        given = np.zeros(FACTOR + 1)
        given[FACTOR] = scale
        return memory.upload(given)

    def numbers(self, values: tuple[float, ...], out: Any = None) -> Any:
        # A tuple, passed by value; or an array on the device.
        return values if out is None else memory.upload(np.array(values), out)

    def sgd(self, params: Arrays, grads: Sequence[Any], factor: Any, numbers: Any) -> None:
        updates.sgd(params, grads, factor, FACTOR, numbers)

    def momentum(
        self,
        params: Arrays,
        grads: Arrays,
        velocities: Arrays | None,
        factor: Any,
        numbers: Any,
        nesterov: bool,
    ) -> None:
        updates.with_momentum(params, grads, velocities, factor, FACTOR, numbers, nesterov)

    def adam(
        self, params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, factor: Any, numbers: Any
    ) -> None:
        updates.adam(params, grads, means, squares, factor, FACTOR, numbers)

    def rmsprop(
        self, params: Arrays, grads: Arrays, squares: Arrays, velocities: Arrays, factor: Any, numbers: Any
    ) -> None:
        updates.rmsprop(params, grads, squares, velocities, factor, FACTOR, numbers)

    assign = staticmethod(memory.assign)

    def recorder(self) -> Any:
        # Of CUDA graphs, if they are asked for and possible.
        return graph.Recorder() if graph.wanted() else None


def _on_device(rng: Any) -> bool:
    """Whether masks of a generator can be drawn on the device."""
    return isinstance(rng.bit_generator, np.random.Philox) and not isinstance(rng, RowShare)
