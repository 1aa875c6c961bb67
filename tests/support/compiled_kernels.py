"""Compiles the CUDA engine's kernels for the CPU, runs them, and compares them with the CPU engine.

CUDA's simulator runs the plain bodies of the functions that Numba replaces while it compiles a kernel, never
the replacements. Here Numba compiles these, for a grid of one thread, whose barriers are empty. A script of
its own, because it replaces the module that imports CUDA:

    python tests/support/compiled_kernels.py
"""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import os
import sys
from collections import namedtuple
from types import ModuleType
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit
from numba.core import types
from numba.core.cgutils import alloca_once, get_or_insert_function, unpack_tuple
from numba.core.datamodel import PrimitiveModel, StructModel
from numba.core.errors import TypingError
from numba.core.imputils import RefType, iternext_impl
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, overload, register_jitable, register_model

#: Cells that are compared in users' kernels, too; the others add nothing to these.
STEPS = ("peephole",)


def cells() -> dict[str, Any]:
    """Cells to compare; the others add little to these. Each takes half a minute to compile."""
    from engine_problems import with_everything

    from lstm_numba.cells import find_cell

    return {
        "peephole": find_cell("peephole"),
        "wrapped gru-reset-before": with_everything("gru-reset-before"),
    }


#: What device arrays and launches import from the driver; neither is used here.
DRIVER_ONLY = (
    "Event", "allow_shared_memory", "binding", "copy_apart", "core_launch", "core_stream", "describe_memory",
    "driver", "launch_configuration", "new_stream",
)  # fmt: skip

_SHARED = 4096  # elements of shared memory
_Dim3 = namedtuple("_Dim3", "x y z")
_DeviceLimits = namedtuple("_DeviceLimits", "multiprocessors shared capability")


def _shared_array(size: Any, dtype: Any, alignment: Any = None) -> Any:
    raise NotImplementedError


@overload(_shared_array)
def _(size, dtype, alignment=None):
    return lambda size, dtype, alignment=None: np.empty(_SHARED, dtype)


def _atomic_add(array: Any, at: Any, value: Any) -> Any:
    raise NotImplementedError


@overload(_atomic_add)
def _(array, at, value):
    def add(array, at, value):  # type: ignore[no-untyped-def]
        before = array[at]
        array[at] += value
        return before

    return add


def _one_thread(number: int) -> Any:
    """``cuda.grid`` or ``cuda.gridsize`` of one thread: the same number in each dimension."""

    def function(dimensions: Any) -> Any:
        raise NotImplementedError

    @overload(function, prefer_literal=True)
    def _(dimensions):
        count = dimensions.literal_value
        result = number if count == 1 else (number,) * count
        return lambda dimensions: result

    return function


def _jit(function: Any = None, **options: Any) -> Any:
    """``cuda.jit``, with or without options."""
    return njit(error_model="numpy") if function is None else njit(error_model="numpy")(function)


def fake_driver() -> ModuleType:
    """A replacement of `lstm_numba.engines.cuda.driver`: core Numba, and a grid of one thread."""
    cuda, shared, driver = (
        ModuleType("cuda"),
        ModuleType("shared"),
        ModuleType("lstm_numba.engines.cuda.driver"),
    )
    atomic = ModuleType("atomic")
    shared.array = _shared_array  # type: ignore[attr-defined]
    atomic.add = _atomic_add  # type: ignore[attr-defined]
    vars(cuda).update(
        jit=_jit,
        threadIdx=_Dim3(0, 0, 0), blockIdx=_Dim3(0, 0, 0),
        blockDim=_Dim3(1, 1, 1), gridDim=_Dim3(1, 1, 1),
        grid=_one_thread(0),
        gridsize=_one_thread(1),
        threadfence=register_jitable(lambda: None),
        syncthreads=register_jitable(lambda: None),
        syncthreads_or=register_jitable(lambda value: value),
        shared=shared,
        atomic=atomic,
        device_array=np.empty,
    )  # fmt: skip
    vars(driver).update(
        SIMULATED=True, cuda=cuda, types=types, ir=ir, intrinsic=intrinsic, overload=overload,
        lower_builtin=lower_builtin, lower_cast=lower_cast, register_model=register_model,
        AbstractTemplate=AbstractTemplate, Conversion=Conversion, PrimitiveModel=PrimitiveModel,
        StructModel=StructModel, RefType=RefType, iternext_impl=iternext_impl, alloca_once=alloca_once,
        infer_global=infer_global, insert_function=get_or_insert_function, make_signature=signature,
        unpack_tuple=unpack_tuple, CudaAPIError=RuntimeError, TypingError=TypingError,
        DEVICE_ARRAY=type("DeviceArray", (), {}), SHARED_ALIGNMENT=16, current_device=lambda: 0,
        DeviceLimits=_DeviceLimits, device_limits=lambda: _DeviceLimits(1, 4 * _SHARED, (9, 0)),
        **dict.fromkeys(DRIVER_ONLY),
    )  # fmt: skip
    return driver


@ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)
def _upper_half(a: int, b: int) -> int:
    return a * b >> 64


@ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
def _rsqrt(x: float) -> float:
    return 1 / math.sqrt(x)


@ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_float)
def _rsqrtf(x: float) -> float:
    return 1 / math.sqrt(x)


#: Functions of libdevice that equations may use; the C library has the same names.
MATH_FUNCTIONS = (
    "exp", "tanh", "sqrt", "fabs", "log", "log1p", "log2", "expm1", "sin", "cos", "tan", "atan", "sinh",
    "cosh", "erf", "pow",
)  # fmt: skip


def define_libdevice() -> None:
    """Define CUDA's functions as the C library's."""
    binding.add_symbol("__nv_umul64hi", ctypes.cast(_upper_half, ctypes.c_void_p).value)
    for name, function in (("rsqrt", _rsqrt), ("rsqrtf", _rsqrtf)):
        binding.add_symbol(f"__nv_{name}", ctypes.cast(function, ctypes.c_void_p).value)
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    for name in [name + end for name in MATH_FUNCTIONS for end in ("", "f")]:
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        binding.add_symbol(f"__nv_{name}", address)


class CompiledEngine:
    """What `engine_problems.EngineProblem` calls of the CUDA engine, on NumPy arrays."""

    upload = download = lengths = staticmethod(lambda array: array)
    zeros = staticmethod(np.zeros)

    def forward(self, cell: Any, params: Any, x: Any, states: Any, finals: Any, index: int, ends: Any,
                reverse: bool, keep: bool, extras: Any, models: int = 0) -> Any:  # fmt: skip
        """See `Engine.forward`."""
        from lstm_numba.engines.cuda import sequence

        ends = np.full(x.shape[-2], x.shape[-3]) if ends is None else ends
        h, at, saved = sequence.forward_sequence(
            cell, params, x, states, finals, index, ends, reverse, keep, extras=extras, models=models
        )
        return (h, at, ends), saved

    def join(self, outputs: Any, ends: Any, shape: Any) -> Any:
        """See `Engine.join`."""
        from lstm_numba.engines.cuda import outputs as writing

        ((h, at, ends),) = outputs
        result = np.empty(shape, h.dtype)
        writing.write_output(h, at, ends, result, 0, shape[-1])
        return result

    def backward(
        self, saved: Any, dy: Any, direction: int, dstates: Any, initial: Any, index: int, dx: Any
    ) -> Any:
        """See `Engine.backward`."""
        from lstm_numba.engines.cuda import sequence

        dx = np.empty_like(saved.x)
        return dx, sequence.backward_sequence(saved, dy, direction, dstates, initial, index, dx, False)


def compare_sequences(cell: Any, dtype: str, reverse: bool) -> None:
    """A sequence forward and back against the CPU engine; both kinds of kernels give the same bits."""
    from engine_problems import HIDDEN, LENGTHS, EngineProblem, compare_devices

    from lstm_numba.engines.cuda import plans

    lengths, output = None if reverse else LENGTHS, 2 if cell.projected else HIDDEN
    problem, found = EngineProblem(cell, lengths, reverse, int(reverse), output, dtype), []
    for kernel in ("general", "persistent"):
        os.environ[plans.VARIABLE] = kernel
        plans._plans.clear()
        compare_devices(problem, CompiledEngine())
        assert all(plan.reason.startswith(kernel) for plan in plans._plans.values()), plans._plans
        found.append(problem.run_on(CompiledEngine()))
    for name, array in found[0].items():
        np.testing.assert_array_equal(found[1][name], array, err_msg=name)


def compare_models(cell: Any, dtype: str, reverse: bool) -> None:
    """Many models' sequences against the CPU engine: blocks that take models, and one after the other."""
    from engine_problems import HIDDEN, LENGTHS, EngineProblem, compare_devices

    from lstm_numba.engines.cuda import plans
    from lstm_numba.engines.cuda.layout import BlockOfModel, SingleBlock

    lengths, output = LENGTHS if reverse else None, 2 if cell.projected else HIDDEN
    problem = EngineProblem(cell, lengths, reverse, int(reverse), output, dtype, models=3)
    for mode in (BlockOfModel, SingleBlock):
        plans.FORCED_MODE = mode
        try:
            with plans.reasons() as found:
                compare_devices(problem, CompiledEngine())
        finally:
            plans.FORCED_MODE = None
        assert all(("3 models" in reason) == (mode is BlockOfModel) for reason in found), found


def compare_steps(name: str, dtype: str) -> None:
    """Steps in users' kernels, by a thread and by a block, against the CPU engine."""
    import user_kernels as user
    from tolerances import assert_close

    from lstm_numba.kernels.cuda import step
    from lstm_numba.nn.layers import make_layer

    steps, batch, inputs, hidden = 3, 2, 3, 5
    layer = make_layer(name, inputs, hidden, dtype=dtype, seed=1)
    weights, rng = step.device_weights(layer), np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(dtype)

    def pack(states: list[Any]) -> Any:
        return states[0][None] if len(states) == 1 else tuple(s[None] for s in states)

    x, dy = draw(steps, batch, inputs), draw(steps, batch, hidden)
    states, dstates = ([draw(batch, hidden) for _ in layer.cell.states] for _ in range(2))
    y, _, tape = layer.forward(x, pack(states))
    dx, initial, expected = layer.backward(tape, dy, pack(dstates))
    initial = [initial] if len(states) == 1 else list(initial)

    # A block that shares scratch memory and keeps nothing, in rows; a thread that keeps a tape, in columns.
    out = np.zeros((batch, steps, hidden), dtype)
    x_rows = np.ascontiguousarray(x.transpose(1, 0, 2))
    user.block_streams(weights, x_rows, tuple(s.copy() for s in states), out)
    assert_close(out.transpose(1, 0, 2), y, "forward", "y of steps")

    def columns(array: Any) -> Any:
        return np.ascontiguousarray(array.swapaxes(-1, -2))

    gradients, got_dx = step.device_gradients(layer), np.empty((steps, inputs, batch), dtype)
    kept, got_dstates = np.empty((steps, step.tape_size(weights), batch), dtype), tuple(map(columns, dstates))
    moving = tuple(map(columns, states))
    user.thread_training(weights, gradients, columns(x), moving, kept, columns(dy), got_dstates, got_dx)
    assert_close(columns(moving[0]), y[-1], "forward", "h of steps")
    assert_close(columns(got_dx), dx, "backward", "dx of steps")
    for got, truth in zip(got_dstates, initial, strict=True):
        assert_close(columns(got), truth[0], "backward", "initial state of steps")
    for key, truth in expected.items():
        value = getattr(gradients, key.removesuffix("_l0"))
        assert_close(value, truth, "backward", f"{key} of steps")


def compare_argument_errors() -> None:
    """The arguments of a step are checked while the kernel is compiled."""
    import user_kernels as user

    from lstm_numba.kernels.cuda import step
    from lstm_numba.nn.layers import make_layer

    weights, sizes = step.device_weights(make_layer("gru", 2, 3)), np.zeros(2, np.int64)
    x, h = np.zeros(2, np.float32), np.zeros(3, np.float32)
    user.single_state(weights, x, h, sizes)
    lstm = step.device_weights(make_layer("lstm", 2, 3))
    for text, *given in (
        ("of one dimension of float32, got array(float64, 1d, C)", weights, x.astype(np.float64), h),
        ("of one dimension of float32, got array(float32, 2d, C)", weights, x, np.zeros((1, 3), np.float32)),
        ("state: expected 2 arrays (h, c), got 1", lstm, x, h),
        ("of one dimension of float32, got int64", weights, x, 3),
    ):
        said = ""
        try:
            user.single_state(*given, sizes)
        except TypingError as error:
            said = str(error)
        assert text in said, (text, said)


def compare_register_tiles(tile: Any, dtype: str) -> None:
    """The functions of register tiles, compiled and plain."""
    from lstm_numba.engines.cuda import microkernel

    def run(tile, a, b, c, add):  # type: ignore[no-untyped-def]
        rows = microkernel.clamped_offsets(tile, 1, 2, 9, 3)
        column = microkernel.gather_side(tile, a, rows, 1)
        row = microkernel.load_vectors(tile, b, 4, 8)
        sums = microkernel.add_outer_product(microkernel.tile_zeros(tile, c), column, row)
        sums = microkernel.add_outer_product(sums, row, microkernel.gather_side(tile, b, rows, 0))
        lines = microkernel.masked_offsets(tile, 1, 8, 11, 16)
        microkernel.store_tile(c, 2, lines, microkernel.masked_offsets(tile, 0, 4, 14, 1), sums, add)

    rng = np.random.default_rng(0)
    a, b, start = (rng.standard_normal(400).astype(dtype) for _ in range(3))
    b = aligned(b)
    for add in (0, 1):
        expected, got = start.copy(), start.copy()
        run(tile, a, b, expected, add)
        njit(run)(tile, a, b, got, add)
        np.testing.assert_allclose(got, expected, rtol=1e-5 if dtype == "float32" else 1e-14, atol=1e-6)
        assert np.any(got != start)


def aligned(array: Any) -> Any:
    """A copy that is aligned for vector loads of 16 bytes."""
    memory = np.empty(array.size + 16, array.dtype)
    skip = -memory.ctypes.data % 64 // array.itemsize
    memory[skip : skip + array.size] = array
    return memory[skip : skip + array.size]


def compare_model_arrays() -> None:
    """A model's arrays of a tuple in a tuple, compiled and plain; numbers stay as they are."""
    from lstm_numba.engines.cuda.model_arrays import of_model

    compiled = njit(lambda group, strides, model: of_model(group, strides, model))
    group = (np.arange(12.0), (np.arange(6.0), np.arange(3.0)), (7, 8), ())
    for model in range(3):
        for strides in ((4, 2, 1), (4, 0, 1)):
            first, (second, third), numbers, nothing = compiled(group, strides, model)
            expected, (two, three), *_ = of_model(group, strides, model)
            for got, truth in ((first, expected), (second, two), (third, three)):
                np.testing.assert_array_equal(got[:1], truth[:1])
                assert got.ctypes.data == truth.ctypes.data
            assert (numbers, nothing) == ((7, 8), ())


def compare_row_offsets() -> None:
    """Past the end of the batch, a tile's rows are its last one."""
    from lstm_numba.engines.cuda.specialize import FourRows, OneRow
    from lstm_numba.engines.cuda.stage_product import row_offsets

    compiled = njit(lambda tile, row, batch, stride: row_offsets(tile, row, batch, stride))
    for tile in (OneRow(), FourRows()):
        for row in range(6):
            assert compiled(tile, row, 6, 10) == row_offsets(tile, row, 6, 10), (tile, row)


def compare_activations(dtype: str) -> None:
    """The nonlinearities over their whole range, infinities and NaN included."""
    from tolerances import assert_close

    from lstm_numba.cells import activations

    x = np.concatenate([np.linspace(-120, 120, 999), [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-8, -1e-8]])
    x = x.astype(dtype)
    own = (activations.sigmoid, activations.tanh, activations.relu, activations.positive)
    for function in own:
        name, out = function.__name__, applied(function, x)
        expected = np.array([function(v) for v in x.astype(float)])
        assert np.array_equal(np.isnan(out), np.isnan(x)) or name == "positive", name
        known = ~np.isnan(x)
        assert_close(
            out[known & np.isfinite(expected)], expected[known & np.isfinite(expected)], "activation", name
        )
        np.testing.assert_array_equal(out[known & np.isinf(expected)], np.inf, err_msg=name)
        # Near zero the relative error counts.
        small = known & (np.abs(x) < 20) & (expected != 0)
        np.testing.assert_allclose(out[small], expected[small], rtol=4 * np.finfo(dtype).eps, err_msg=name)


def applied(function: Any, x: Any) -> Any:
    """A function of equations, compiled and applied to the elements of an array."""
    from lstm_numba.engines.cuda.scalar import store_scalars
    from lstm_numba.engines.cuda.specialize import load_scalar

    @njit
    def compiled(cell, x, out):  # type: ignore[no-untyped-def]
        for i in range(x.size):
            (value,) = load_scalar(cell, x, i, 0)
            store_scalars(out, i, 0, (function(value),))

    out = np.empty_like(x)
    compiled(first_cell(), x, out)
    return out


def compare_math_functions(dtype: str) -> None:
    """Functions of `math`, powers, maximum and minimum, as calls of CUDA's library."""
    from scipy.special import erf

    from lstm_numba.cells import activations

    x = np.linspace(0.01, 20, 400).astype(dtype)
    names = {"fabs": "abs", "atan": "arctan"}
    others = {"erf": erf, "rsqrt": lambda x: 1 / np.sqrt(x)}
    for function in (*activations.FUNCTIONS, activations.rsqrt):
        name = names.get(function.__name__, function.__name__)
        truth = others.get(name) or getattr(np, name)
        expected = truth(x.astype(np.float64))
        np.testing.assert_allclose(applied(function, x), expected, rtol=1e-6 if dtype == "float32" else 1e-14)

    def expression(v: Any) -> Any:
        v += 1
        return max(v, 3) - min(v, 2.5) + abs(-v) ** 1.5 + +v

    expected = [expression(float(value)) for value in x]
    np.testing.assert_allclose(
        applied(njit(expression), x), expected, rtol=1e-6 if dtype == "float32" else 1e-14
    )


def compare_dropout(dtype: str) -> None:
    """Dropout masks against NumPy's generator."""
    from lstm_numba.engines import dropout_masks
    from lstm_numba.engines.cuda import dropout

    ours, theirs = (np.random.Generator(np.random.Philox(5)) for _ in range(2))
    for shape, p in (((3, 7), 0.3), ((1,), 0.5), ((40, 5), 0.01)):
        x = np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype)
        out, mask = dropout.dropout(ours, x, p)
        np.testing.assert_array_equal(mask, dropout_masks.draw_mask(theirs, shape, p, dtype))
        np.testing.assert_array_equal(out, x * mask)


def first_cell() -> Any:
    """Any cell, for functions that only need a class."""
    from lstm_numba.cells import CELLS

    return CELLS["rnn"]


def replace_launches() -> None:
    """Launches call the kernel as one thread; products and sums are NumPy's."""
    from lstm_numba.engines.cuda import (
        clipping,
        dropout,
        elementwise,
        embedding,
        launch,
        losses,
        many_models,
        memory,
        multi_tensor,
        number_losses,
        outputs,
        plans,
        reductions,
        sequence,
        updates,
    )
    from lstm_numba.kernels.cuda import weights

    def run(kernel: Any, grid: Any, block: Any, *args: Any, **options: Any) -> None:
        kernel(*args)

    def over(kernel: Any, size: int, *args: Any) -> None:
        if size:
            kernel(*args)

    def over_box(kernel: Any, shape: tuple[int, ...], *args: Any) -> None:
        over(kernel, int(np.prod(shape)), *args)

    def over_models(kernel: Any, shape: tuple[int, ...], *args: Any) -> None:
        over(kernel, int(np.prod(shape)), *args, 0)

    def matmul(a: Any, b: Any, out: Any, accumulate: bool = False) -> Any:
        out[...] = out + a @ b if accumulate else a @ b

    def sums(matrix: Any, out: Any = None) -> Any:
        result = matrix.sum(axis=-2)
        if out is None:
            return result
        out[...] = result
        return out

    def biases(slots: Any, input_gates: Any, recurrent_gates: Any, bias_ih: Any, bias_hh: Any) -> None:
        parts = np.split(slots.sum(axis=-2), len(input_gates), axis=-1)
        for gates, bias in ((input_gates, bias_ih), (recurrent_gates, bias_hh)):
            for gate, part in zip(gates, parts, strict=True):
                if gate >= 0:
                    units = part.shape[-1]
                    bias[..., gate * units : (gate + 1) * units] = part

    launch.set_limits(launch.Limits(threads=1, blocks=1, lanes=1, parts=1, tile=1))
    parts = [
        clipping, dropout, elementwise, embedding, losses, many_models, memory, multi_tensor, number_losses,
        outputs, plans, reductions, sequence, updates, weights,
    ]  # fmt: skip
    stand_ins = {"launch": run, "launch_over": over, "launch_over_box": over_box}
    stand_ins["launch_over_models"] = over_models
    stand_ins |= dict.fromkeys(("upload", "constant"), np.array)
    for module in parts:
        for name, stand_in in stand_ins.items():
            if hasattr(module, name):
                setattr(module, name, stand_in)

    def array_address(array: Any) -> int:
        assert array.flags["C_CONTIGUOUS"]
        return int(array.ctypes.data)

    multi_tensor.array_address, reductions.span = array_address, np.ravel
    sequence.matmul, sequence.column_sums, sequence.copied = matmul, sums, np.array
    sequence.bias_gradients = biases
    dropout.zero = lambda: np.zeros(1, np.int64)
    sequence.transpose = weights.transpose = lambda matrix: np.ascontiguousarray(matrix.swapaxes(-2, -1))
    sequence.transposed = lambda matrix: matrix.swapaxes(-2, -1)
    sequence.columns = lambda matrix, begin, end: matrix[..., begin:end]
    sequence.rows = lambda matrix, begin, end: matrix[..., begin:end, :]
    sequence.contiguous, sequence.span = np.ascontiguousarray, np.ravel
    plans.cooperative_blocks = lambda *args: 1
    many_models.MAX_GRID_Z = 1  # the grid has one block: a launch for each model
    sequence.counters = lambda count: np.zeros(count, np.int32)


def main() -> None:
    """Compare everything; the first difference ends the script."""
    sys.modules["lstm_numba.engines.cuda.driver"] = fake_driver()
    define_libdevice()
    from compiled_training import compare_losses, compare_number_losses, compare_sums, compare_training

    from lstm_numba.engines.cuda.microkernel import LargeTile, SmallTile

    replace_launches()
    compare_row_offsets()
    compare_model_arrays()
    compare_argument_errors()
    for dtype in ("float32", "float64"):
        compare_activations(dtype)
        compare_math_functions(dtype)
        for tile in (SmallTile(), LargeTile()):
            compare_register_tiles(tile, dtype)
        compare_dropout(dtype)
        compare_losses(dtype)
        compare_number_losses(dtype)
        compare_training(dtype)
        compare_sums(dtype)
        print(f"{dtype}: activations, products, masks, losses, updates, sums agree", flush=True)
    for number, (name, cell) in enumerate(cells().items()):
        for dtype in ("float32", "float64") if name == "peephole" else ("float32",):
            compare_sequences(cell, dtype, number % 2 == 0)
            compare_models(cell, dtype, number % 2 == 0)
            if name in STEPS:
                compare_steps(name, dtype)
            print(f"{name}, {dtype}: compiled kernels agree", flush=True)


if __name__ == "__main__":
    main()
