"""Checks the CUDA engine's arrays, copies and launches without the simulator, on a stand-in for the driver.

In the simulator arrays are NumPy's, and kernels are called as Python functions. Here numba-cuda and cuda.core
run as on a device; device memory is the host's, copies are real, and launches compute nothing. Run by
`tests/benchmarks/test_stand_in.py`, with the stand-in first on the library path:

    python tests/support/device_views.py
"""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from lstm_numba.benchmarks import stand_in
from lstm_numba.engines.cuda import launch, memory, pool
from lstm_numba.engines.cuda.device_array import DeviceView, as_view, columns, span, transposed


def same(array: Any, expected: Any) -> None:
    """A device array has the shape, strides, flags and elements of NumPy's, to us and to numba-cuda."""
    assert isinstance(array, cuda.cudadrv.devicearray.DeviceNDArray)
    assert array.shape == expected.shape, (array.shape, expected.shape)
    assert array.ndim == expected.ndim
    assert array.size == expected.size
    assert array.dtype == expected.dtype
    assert array.nbytes == expected.nbytes
    if expected.size:
        lengths = [n for n, length in enumerate(expected.shape) if length > 1]
        assert [array.strides[n] for n in lengths] == [expected.strides[n] for n in lengths]
        assert array.is_c_contiguous() == array.flags["C_CONTIGUOUS"] == expected.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(array.copy_to_host(), expected)


def check_views() -> None:
    """Views against NumPy's."""
    numbers = np.arange(60.0).reshape(3, 4, 5)
    array = memory.upload(numbers)
    assert type(array) is DeviceView
    same(array, numbers)
    for item in (1, slice(1, 3), slice(None, 2), slice(-1, None), slice(2, 9), slice(3, 1), -1):
        same(array[item], numbers[item])
    same(array[1:][1], numbers[1:][1])
    same(array[:, 1:3], numbers[:, 1:3])
    same(array[0, :, 1], numbers[0, :, 1])
    assert array[1, 2, 3] == numbers[1, 2, 3]
    for shape in ((60,), (3, 20), (-1, 5), (1, 60, 1)):
        same(array.reshape(shape), numbers.reshape(shape))
        same(array.reshape(*shape), numbers.reshape(*shape))
    for shape in ((7, -1), (61,), (-1, -1)):
        try:
            array.reshape(shape)
        except Exception:  # what numba-cuda raises
            continue
        raise AssertionError(shape)
    matrix = array.reshape(12, 5)
    same(transposed(matrix), numbers.reshape(12, 5).T)
    same(columns(matrix, 1, 3), numbers.reshape(12, 5)[:, 1:3])
    same(columns(columns(matrix, 1, 4), 1, 2), numbers.reshape(12, 5)[:, 2:3])
    same(span(columns(matrix, 1, 3)), numbers.reshape(-1)[1:58])
    same(array.ravel(), numbers.ravel())
    same(array.view(np.int64), numbers.view(np.int64))
    same(memory.empty((0, 3), np.float32), np.empty((0, 3), np.float32))
    rows = list(array)
    assert len(rows) == 3
    same(rows[2], numbers[2])


def check_copies() -> None:
    """Copies to, from and on the device, and those that Python makes."""
    numbers = np.random.default_rng(0).standard_normal((7, 9)).astype(np.float32)
    array = memory.upload(numbers)
    same(memory.copied(array), numbers)
    fetched = memory.Download(array)
    memory.fill(array, 0)
    same(array, np.zeros_like(numbers))
    np.testing.assert_array_equal(fetched(), numbers)  # on a device the copy would come first as well
    memory.upload(numbers.T.copy().T, out=array)
    for twin in (copy.deepcopy(array), pickle.loads(pickle.dumps(array)), copy.copy(array)):
        assert twin.copy_to_host().tobytes() == numbers.tobytes()
        assert memory.address(twin) != memory.address(array)
    large = np.ones((1 << 22) + 1)  # larger than what is staged in page-locked memory
    same(memory.upload(large), large)


def check_ownership() -> None:
    """Memory is used again when the last view of it is deleted, and not before."""
    ways: list[Any] = [
        lambda array: array,
        lambda array: array[3:7],
        lambda array: array.reshape(10, 10)[2],
        lambda array: array.reshape(10, 10)[:, 1:3],
        lambda array: transposed(array.reshape(4, 25)),
        lambda array: span(columns(array.reshape(4, 25), 1, 3)),
        lambda array: array.ravel(),
        lambda array: array.gpu_data,
    ]
    for way in ways:
        first = memory.empty((100,), np.float32)
        address, view = memory.address(first), way(first)
        del first
        gc.collect()
        assert memory.address(memory.empty((100,), np.float32)) != address
        del view
        gc.collect()
        assert memory.address(memory.empty((128,), np.float32)) == address  # 512 bytes either way
        assert memory.address(memory.empty((129,), np.float32)) != address
        with launch.on_stream(cuda.stream()):  # a stream whose work may overlap
            assert memory.address(memory.empty((100,), np.float32)) != address


def check_lifetimes() -> None:
    """Memory of arrays in a cycle is used again; that of a pool lasts as long as its arrays."""
    cycle: list[Any] = [memory.empty((100,), np.float32)]
    cycle.append(cycle)
    address = memory.address(cycle[0])
    stand_in.reset()
    del cycle
    gc.collect()
    cuda.current_context().memory_manager.deallocations.clear()
    assert stand_in.counts()["frees"] == 0
    assert memory.address(memory.empty((100,), np.float32)) == address
    with pool.allocate_from(pool.Pool()):  # held by its arrays only
        array = memory.empty((100,), np.float32)
    gc.collect()
    cuda.current_context().memory_manager.deallocations.clear()
    assert stand_in.counts()["frees"] == 0
    del array
    cuda.current_context().memory_manager.deallocations.clear()
    assert stand_in.counts()["frees"] == 1


def check_foreign() -> None:
    """Arrays of other libraries are viewed without a copy, and kept alive."""
    theirs = cuda.to_device(np.arange(12, dtype=np.float32).reshape(3, 4))
    ours = as_view(theirs)
    assert as_view(ours) is ours
    assert ours.owner is theirs
    same(ours, theirs.copy_to_host())
    same(as_view(theirs[:, 1:3]), theirs.copy_to_host()[:, 1:3])
    for array in (ours, theirs[:, 1:3], theirs[0]):
        assert as_view(array).__cuda_array_interface__ == array.__cuda_array_interface__
    np.testing.assert_array_equal(cuda.as_cuda_array(ours).copy_to_host(), theirs.copy_to_host())


class Numbers(NamedTuple):
    """A named tuple, as kernels take them."""

    small: int
    large: int


@cuda.jit
def _kernel(cell, sizes, arrays, flag, number, single, count, more):  # type: ignore[no-untyped-def]
    pass


def check_arguments() -> None:
    """A launch passes what numba-cuda itself would pass: types, numbers, shapes, strides."""
    matrix = memory.upload(np.zeros((3, 4), np.float32))
    cases = (
        (Numbers(1, 6), (matrix, transposed(matrix)), True, 2.5),
        (Numbers(1, 6), (matrix[1:], columns(matrix, 1, 3)), False, 0.5),
        (
            Numbers(1, 2**40),
            (memory.empty((0,), np.float64), cuda.to_device(np.zeros(3))),
            True,
            1.0,
        ),
    )
    more = (np.uint64(2**63 + 1), np.int64(-3))
    for sizes, arrays, flag, number in cases:
        args = ((), sizes, arrays, flag, np.float64(number), np.float32(1.5), 7, more)
        compiled, numbers = launch._find(_kernel, args)
        theirs = compiled._compiled
        expected: list[Any] = []
        for kind, value in zip(theirs.argument_types, args, strict=True):
            theirs._prepare_args(kind, value, 0, [], expected)
        values = [getattr(value, "value", value) for value in expected]
        assert [value or 0 for value in values] == numbers, (values, numbers)
        launch.launch(_kernel, 1, 32, *args)
    assert len({id(launch._find(_kernel, ((), *case, np.float32(1), 7, more))[0]) for case in cases}) == 3


def main() -> None:
    """Check everything; the first difference ends the script."""
    check_views()
    check_copies()
    check_ownership()
    check_lifetimes()
    check_foreign()
    check_arguments()
    print("arrays, copies and launches are as numba-cuda's")


if __name__ == "__main__":
    main()
