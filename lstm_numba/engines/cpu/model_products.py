"""Matrix products, sums, norms and updates of many models: what one model's kernels do, for each of them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numba import njit

from lstm_numba.engines.cpu import clipping, gemm, reductions, updates
from lstm_numba.engines.cpu.many_models import run_models, threads_for
from lstm_numba.engines.cpu.memory import address, aligned_empty, reserve, strided
from lstm_numba.engines.cpu.options import EXACT
from lstm_numba.engines.cpu.records import Numbers, ProductJob, ProductOperand
from lstm_numba.engines.cpu.shared_loop import share, shared_loop
from lstm_numba.engines.cpu.thread_team import Phases

Array = np.ndarray[Any, Any]


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Products (N, M, K) x (N, K, O) -> (N, M, O), of any strides; each as `gemm.matmul` gives it.

    Raises
    ------
    ValueError
        `out` has another shape, or is not C-contiguous.
    """
    models, rows, inner = a.shape
    columns = b.shape[2]
    out = aligned_empty((models, rows, columns), a.dtype) if out is None else out
    if out.shape != (models, rows, columns) or not out.flags.c_contiguous:
        raise ValueError(f"out: expected a C-contiguous {(models, rows, columns)}, got {out.shape}")
    if a.size == 0 or b.size == 0:
        out[...] = 0
        return out
    a, a_row, a_column = _strided(a)
    b, b_row, b_column = _strided(b)
    setting = gemm.setting_of(rows, columns, inner, a.dtype, 1)
    _workspace, _, workspace = reserve(threads_for(models) * setting.share)
    head = ProductJob(
        address(a), a_row, a_column, inner, setting.lane, a.itemsize, 0, workspace, setting.share,
        *setting.tiles, 1, operands=1, segments=1,
    )  # fmt: skip
    operand = ProductOperand(address(b), b_row, b_column, address(out), columns, columns, setting.packed)
    per_model = ProductJob(*[0] * len(ProductJob._fields))._replace(a=a.strides[0])
    of_operand = ProductOperand(*[0] * len(ProductOperand._fields))._replace(b=b.strides[0], c=out.strides[0])
    per_thread = ProductJob(*[0] * len(ProductJob._fields))._replace(workspace=setting.share)
    run_models(
        setting.task,
        Phases(work=1),
        _job(head, operand, rows),
        _job(per_model, of_operand, 0),
        _job(per_thread, ProductOperand(*[0] * len(ProductOperand._fields)), 0),
        models,
    )
    return out


def _job(head: ProductJob, operand: ProductOperand, rows: int) -> Numbers:
    return array("q", (*head, *operand, 0, rows, 0))


def _strided(matrices: Array) -> tuple[Array, int, int]:
    """Matrices, or copies, whose strides are whole numbers of numbers, and these strides."""
    first, row, column = strided(matrices[0])
    if address(first) == address(matrices[0]) and matrices.strides[0] % matrices.itemsize == 0:
        return matrices, row, column
    return np.ascontiguousarray(matrices), matrices.shape[2], 1


def column_sums(matrices: Array, out: Array | None = None) -> Array:
    """Sums (N, O) over the rows of (N, M, O)."""
    out = np.empty((len(matrices), matrices.shape[2]), matrices.dtype) if out is None else out
    for matrix, sums in zip(matrices, out, strict=True):
        reductions.column_sums(matrix, sums)
    return out


def global_norms(grads: Mapping[str, Array]) -> Array:
    """Euclidean norm of all gradients of each model, (N,); see `clipping.global_norm`."""
    squares = [[clipping.sum_of_squares(one) for one in gradient] for gradient in grads.values()]
    return np.sqrt([sum(of_model) for of_model in zip(*squares, strict=True)])


def clip_factors(norms: Array, max_norm: float | None) -> Array:
    """See `clipping.clip_factor`."""
    return np.array([clipping.clip_factor(norm, max_norm) for norm in norms.tolist()])


# -- updates -------------------------------------------------------------------------------------------
# A model is updated by one thread, with a row of numbers of its own: its factor, then those of the rule.


@njit(**EXACT)
def _sgd(n, p, g, numbers):
    rate = p.dtype.type(numbers[n, 1] * numbers[n, 0])
    if not np.isnan(rate):
        updates.sgd(p[n], g[n], rate)


@njit(**EXACT)
def _momentum(n, p, g, velocity, numbers, nesterov):
    k, kind = numbers[n], p.dtype.type
    if not np.isnan(k[0]):
        updates.with_momentum(
            p[n], g[n], velocity[n], kind(k[1]), kind(k[0]), kind(k[2]), kind(k[3]), nesterov
        )


@njit(**EXACT)
def _adam(n, p, g, mean, square, numbers):
    k, kind = numbers[n], p.dtype.type
    if not np.isnan(k[0]):
        updates.adam(
            p[n], g[n], mean[n], square[n], kind(k[0]), kind(k[1]), kind(k[2]), kind(k[3]), kind(k[4]),
            kind(k[5]), kind(k[6]), kind(k[7]), kind(k[8]), kind(k[9]),
        )  # fmt: skip


@njit(**EXACT)
def _rmsprop(n, p, g, square, velocity, numbers):
    k, kind = numbers[n], p.dtype.type
    if not np.isnan(k[0]):
        updates.rmsprop(
            p[n], g[n], square[n], velocity[n], kind(k[1]), kind(k[0]), kind(k[2]), kind(k[3]), kind(k[4]),
            kind(k[5]), kind(k[6]),
        )  # fmt: skip


@njit(**EXACT)
def sgd(where, threads, p, g, numbers):
    """See `lstm_numba.engines.cpu.updates.sgd`."""
    shared_loop(where, threads, _sgd, p.shape[0], (p, g, numbers))


@njit(**EXACT)
def with_momentum(where, threads, p, g, velocity, numbers, nesterov):
    """See `lstm_numba.engines.cpu.updates.with_momentum`."""
    shared_loop(where, threads, _momentum, p.shape[0], (p, g, velocity, numbers, nesterov))


@njit(**EXACT)
def adam(where, threads, p, g, mean, square, numbers):
    """See `lstm_numba.engines.cpu.updates.adam`."""
    shared_loop(where, threads, _adam, p.shape[0], (p, g, mean, square, numbers))


@njit(**EXACT)
def rmsprop(where, threads, p, g, square, velocity, numbers):
    """See `lstm_numba.engines.cpu.updates.rmsprop`."""
    shared_loop(where, threads, _rmsprop, p.shape[0], (p, g, square, velocity, numbers))


def sweep(kernel: Any, arrays: Sequence[Array], factors: Array, numbers: Sequence[Any], *more: Any) -> None:
    """Run an update of one parameter of all models.

    Parameters
    ----------
    kernel : callable
        Of the above.
    arrays : sequence of ndarray, shape (N, ...)
        The parameter, its gradient and state.
    factors : ndarray, shape (N,)
        Of the gradients; where it is NaN nothing changes.
    numbers : sequence of float or ndarray (N,)
        Those of the rule.
    """
    models = len(factors)
    rows = np.stack([np.broadcast_to(column, (models,)) for column in (factors, *numbers)], axis=1)
    flat = [np.ascontiguousarray(array).reshape(models, -1) for array in arrays]
    share(kernel, *flat, np.ascontiguousarray(rows, np.float64), *more)
