"""Every cell through the layers on the device: forward against the reference, gradients against the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import own_cells
import pytest
from backends import simulated
from cuda_tools import cases, download
from recurrent_problems import DISTINCT, Case, Problem, central_differences, unpack
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.engines.cuda import memory, plans, pool
from lstm_numba.engines.cuda.driver import SIMULATED, cuda
from lstm_numba.engines.cuda.layout import CooperativeGrid, SingleBlock
from lstm_numba.errors import DeviceError
from lstm_numba.nn.layers import make_layer
from lstm_numba.nn.recurrent import Recurrent

DTYPES = ("float32", "float64")
#: Registered cells take long in the simulator, and run as machine code of the CPU in `compiled_kernels.py`.
NAMES = (*DISTINCT, "peephole-full", *(() if SIMULATED else own_cells.NAMES))

#: Blocks and tiles are smaller in the simulator, and so may be the sizes that exceed them.
CASES = cases(
    [
        Case(1, 1, 1, 1),
        Case(5, 3, 4, 17),
        Case(3, 5, 3, 6, 2, True, (3, 0, 1, 3, 2)),
        Case(2, 18, 2, 5, 1, False, None, False),
        Case(3, 4, 2, 3, 1, False, (1, 0, 3, 2)),
    ],
    [
        Case(7, 33, 20, 65, 2, True, (*range(8), *([7] * 25))),
        Case(3, 40, 70, 129, 1, True),
        Case(4, 300, 16, 40),
        Case(2, 2, 3, 1500),
    ],
)


@pytest.fixture(
    params=[SingleBlock, CooperativeGrid, None], ids=lambda mode: getattr(mode, "__name__", "chosen")
)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type | None:
    """Both launch modes of general kernels, and what the engine chooses for the sizes."""
    monkeypatch.setattr(plans, "FORCED_MODE", request.param)
    return request.param


def both(name: str, case: Case, dtype: Any, **options: Any) -> tuple[Problem, Problem]:
    """The same problem on the device and on the processor."""
    return Problem(name, case, dtype, device="cuda", **options), Problem(name, case, dtype, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_forward_against_reference(name: str, dtype: str, mode: type | None) -> None:
    for case in CASES:
        problem, host = both(name, case, dtype)
        expected_y, expected_states = reference.run(
            name, host.layer.params, problem.x, problem.states,
            num_layers=case.layers, bidirectional=case.bidirectional, lengths=case.lengths,
        )  # fmt: skip
        kept_y, kept_state, _ = problem.layer.forward(problem.x, problem.pack(problem.states), case.lengths)
        for kind, (y, states) in {
            "inference": problem.run(),
            "forward": (kept_y, unpack(kept_state)),
        }.items():
            assert_close(y, expected_y, "forward", f"y ({kind}, {case})")
            for n, (got, truth) in enumerate(zip(states, expected_states, strict=True)):
                assert_close(got, truth, "forward", f"state {n} ({kind}, {case})")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_gradient_against_the_processor(name: str, dtype: str, mode: type | None) -> None:
    for case in CASES:
        problem, host = both(name, case, dtype)
        expected = host.gradients()
        gradients = problem.gradients()
        assert gradients.keys() == expected.keys()
        for key, value in gradients.items():
            assert_close(value, expected[key], "backward", f"d{key} ({case})")


@pytest.mark.parametrize("name", NAMES)
def test_every_gradient_against_central_differences(name: str, mode: type | None) -> None:
    case = Case(2, 1, 1, 2) if simulated() else Case(4, 3, 2, 3, 2, True, (4, 0, 2))
    problem, host = both(name, case, np.float64)
    gradients = problem.gradients()

    def loss() -> float:
        """The device's loss for the variables that are moved on the host."""
        layer = problem.layer
        for parameter, value in host.layer.params.items():
            layer.engine.upload(value, out=layer.params[parameter])
        problem.x, problem.states = host.x, host.states
        return problem.loss()

    variables = host.variables()
    host.loss = loss  # type: ignore[method-assign]
    for key, array in variables.items():
        slopes = central_differences(host, array)
        assert_close(gradients[key], slopes, "central differences", f"d{key} ({case})")


def test_dropout_masks_are_those_of_the_processor() -> None:
    problem, host = both("lstm", Case(3, 2, 3, 4, 3, True), np.float64, dropout=0.4)
    for p in (problem, host):
        p.layer.rng = np.random.Generator(np.random.Philox(11))
    expected = host.gradients()
    for key, value in problem.gradients().items():
        assert_close(value, expected[key], "backward", f"d{key}")
    for p in (problem, host):  # the streams are where they were left, and others have other masks
        p.layer.rng = np.random.default_rng(11)
    expected = host.gradients()
    for key, value in problem.gradients().items():
        assert_close(value, expected[key], "backward", f"d{key}")


@pytest.mark.parametrize("copy", [True, False])
def test_weights_are_dropped_as_on_the_processor(copy: bool) -> None:
    problem, host = both("lstm", Case(2, 2, 3, 4, 2, True), np.float64, dropout=0.4, weight_drop=0.3)
    for make in (np.random.Philox, np.random.PCG64):
        found: list[Any] = []
        for p in (problem, host):
            p.layer.rng = np.random.Generator(make(11))
            y, state, tape = p.layer.forward(p.x, p.pack(p.states), copy=copy)
            dx, dstate, grads = p.layer.backward(tape, p.dy, p.pack(p.dstates))
            arrays = {name: p.layer.engine.download(grad) for name, grad in grads.items()}
            found.append([y, *unpack(state), dx, *unpack(dstate), *arrays.values()])
        for got, expected in zip(*found, strict=True):
            assert_close(got, expected, "backward")
        for name in ("weight_hh_l0", "weight_hh_l1_reverse"):
            assert 0 < np.count_nonzero(arrays[name]) < arrays[name].size


def test_arrays_on_the_device_stay_there() -> None:
    problem, host = both("peephole", Case(3, 2, 2, 5), np.float32)
    x, dy = (memory.upload(a) for a in (problem.x, problem.dy))
    states = tuple(memory.upload(s) for s in problem.states)
    y, state, tape = problem.layer.forward(x, states)
    dx, dstate, _ = problem.layer.backward(tape, dy, tuple(memory.upload(d) for d in problem.dstates))
    assert all(type(a) is type(x) for a in (y, *state, dx, *dstate))
    expected_y, _ = host.run()
    expected = host.gradients()
    assert_close(download(y), expected_y, "forward")
    assert_close(download(dx), expected["x"], "backward")
    assert_close(download(dstate[1]), expected["state 1"], "backward")


@pytest.mark.skipif(simulated(), reason="other libraries need a device")
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_arrays_of_other_libraries(library: str) -> None:
    module = pytest.importorskip(library)
    problem, host = both("gru", Case(4, 3, 2, 17), np.float32)
    expected_y, _ = host.run()
    expected = host.gradients()

    def lend(array: np.ndarray) -> Any:
        if library == "cupy":
            return module.asarray(array)
        return module.from_numpy(np.ascontiguousarray(array)).cuda()

    stream = module.cuda.Stream()
    with stream if library == "cupy" else module.cuda.stream(stream):
        x = lend(problem.x)
        y, state, tape = problem.layer.forward(x, lend(problem.states[0]))
        dx, _, _ = problem.layer.backward(tape, lend(problem.dy), lend(problem.dstates[0]))
        assert all(type(a) is type(x) for a in (y, state, dx))
        stream.synchronize()
    assert_close(
        memory.download(cuda.as_cuda_array(y.detach() if library == "torch" else y)), expected_y, "forward"
    )
    assert_close(memory.download(cuda.as_cuda_array(dx)), expected["x"], "backward")
    # A view that is not contiguous is read as it is.
    swapped = lend(np.ascontiguousarray(problem.x.transpose(1, 0, 2)))
    swapped = swapped.transpose(1, 0, 2) if library == "cupy" else swapped.permute(1, 0, 2)
    y, _ = problem.layer(swapped, lend(problem.states[0]))
    assert_close(memory.download(cuda.as_cuda_array(y)), expected_y, "forward")


def test_an_array_that_is_not_contiguous_is_read_as_it_is() -> None:
    layer = ln.RNN(3, 4, seed=0, device="cuda")
    x = np.random.default_rng(0).standard_normal((5, 6, 3)).astype(np.float32)
    y, _ = layer(memory.upload(x)[:, ::2])
    np.testing.assert_array_equal(download(y), layer(np.ascontiguousarray(x[:, ::2]))[0])


def test_moving_a_layer_keeps_its_results() -> None:
    layer = ln.GRU(3, 4, 2, seed=0)
    x = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float32)
    expected, _ = layer(x)
    assert layer.to("cuda") is layer
    assert layer.device == "cuda"
    assert not isinstance(layer.params["weight_ih_l0"], np.ndarray)
    assert_close(layer(x)[0], expected, "forward")
    np.testing.assert_array_equal(layer.to("cpu")(x)[0], expected)


def test_parameters_come_from_the_device_too() -> None:
    source, target = (ln.LSTM(2, 3, seed=seed, device="cuda") for seed in (0, 1))
    target.load_state_dict(source.params)
    for name, value in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[name], value)


def test_more_memory_than_there_is_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    if SIMULATED:

        def refuse(*_: Any) -> Any:
            raise pool.CudaAPIError(2, "Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

        class Context:
            class memory_manager:
                class deallocations:
                    clear = staticmethod(lambda: None)

            get_memory_info = staticmethod(lambda: (2**20, 2**30))

        fake = type("cuda", (), {"device_array": refuse, "current_context": Context})
        monkeypatch.setattr(memory, "SIMULATED", False)
        monkeypatch.setattr(pool, "cuda", fake)
    with pytest.raises(DeviceError, match=r"out of device memory: asked for 4,194,304.0 MiB, .* are free"):
        memory.empty((1 << 40,), np.float32)


def test_a_repeated_run_gives_the_same_bits() -> None:
    problem = Problem("peephole", Case(3, 6, 3, 7, 1, True), np.float32, device="cuda")
    first, again = problem.gradients(), problem.gradients()
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])


def test_what_the_device_refuses() -> None:
    layer: Recurrent = make_layer("lstm", 2, 3, device="cuda")
    with pytest.raises(TypeError, match="x: expected a NumPy array or an array on the device"):
        layer([[[1.0, 2.0]]])
    with pytest.raises(TypeError, match="x: expected dtype float32, got float64"):
        layer(memory.upload(np.zeros((1, 1, 2))))


def test_gradients_of_a_registered_cell_are_checked_on_the_device() -> None:
    report = ln.check_gradients(own_cells.JANET, device="cuda")
    assert report.device == "cuda"
    assert max(entry.relative for entry in report.layer) < 1e-9
