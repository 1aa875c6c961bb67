"""Tables of arrays, and loops that stride over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, download, normal, upload

from lstm_numba.engines.cuda import memory, multi_tensor
from lstm_numba.engines.cuda.device_array import columns
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.launch import launch_over, launch_over_box


@cuda.jit
def _subtract(arrays, number):  # type: ignore[no-untyped-def]
    for n in range(arrays.count):
        first, second = multi_tensor.array_of(arrays, 0, n), multi_tensor.array_of(arrays, 1, n)
        for i in stride_range(cuda.grid(1), first.size, cuda.gridsize(1)):
            first[i] -= number * second[i]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_array_of_a_table(dtype: Any) -> None:
    shapes: list[Any] = [(5, 3), 0, 1, (2, 0), 301, (1, 1, 2)]
    first = [normal(shape, dtype, n) for n, shape in enumerate(shapes)]
    second = [normal(shape, dtype, 50 + n) for n, shape in enumerate(shapes)]
    device, others = ([upload(array) for array in column] for column in (first, second))
    ((arrays, size),) = multi_tensor.tables(device, others)
    assert (arrays.count, size) == (4, 301)
    launch_over(_subtract, size, arrays, dtype(0.5))
    for actual, a, b in zip(device, first, second, strict=True):
        np.testing.assert_array_equal(download(actual), a - dtype(0.5) * b)


def test_a_table_for_each_dtype() -> None:
    given = [np.zeros(2, np.float32), np.zeros(5), np.zeros(4, np.float32)]
    found = multi_tensor.tables([upload(array) for array in given])
    assert [(t.like.dtype, t.count, size) for t, size in found] == [(np.float32, 2, 4), (np.float64, 1, 5)]
    assert multi_tensor.tables([]) == multi_tensor.tables() == []


def test_a_table_is_uploaded_again_when_an_array_moved() -> None:
    arrays = [upload(np.zeros(n, np.float32)) for n in (3, 4)]
    others = [*arrays[:1], upload(np.zeros(4, np.float32))]
    kept = multi_tensor.tables(arrays)[0][0].entries
    assert multi_tensor.tables(arrays)[0][0].entries is kept
    moved = multi_tensor.tables(others)[0][0].entries
    assert list(download(kept)) == [3, 4, *map(memory.address, arrays)]
    assert list(download(moved)) == [3, 4, *map(memory.address, others)]
    smaller = [arrays[0][:2], arrays[1]]
    assert list(download(multi_tensor.tables(smaller)[0][0].entries))[:2] == [2, 4]


def test_arrays_with_gaps_are_refused() -> None:
    matrix = upload(np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="expected a C-contiguous array"):
        multi_tensor.tables([columns(matrix, 0, 2)])


@cuda.jit
def _count(box, out):  # type: ignore[no-untyped-def]
    (x, y, z), (x_step, y_step, z_step) = cuda.grid(3), cuda.gridsize(3)
    for i in stride_range(z, box[0], z_step):
        for j in stride_range(y, box[1], y_step):
            for k in stride_range(x, box[2], x_step):
                out[(i * box[1] + j) * box[2] + k] += 1


@pytest.mark.parametrize("box", [(1, 1, 1), (3, 1, 5), (2, 11, 1), (1, 3, 70), (9, 2, 3), (0, 3, 4)], ids=str)
def test_every_number_of_a_box_once(box: Any) -> None:
    out = upload(np.zeros(int(np.prod(box)), np.float32))
    launch_over_box(_count, box, box, out)
    np.testing.assert_array_equal(download(out), 1)
    while len(box) > 1 and box[0] == 1:
        box = box[1:]
        launch_over_box(_count, box, (1,) * (3 - len(box)) + box, out)
    np.testing.assert_array_equal(download(out), download(out)[:1].repeat(out.size))
