"""Steps in users' own kernels: against the CPU engine, the reference and central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import user_kernels
from cuda_tools import cases, download, normal, upload
from recurrent_problems import DISTINCT, central_differences
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.kernels.cuda import step
from lstm_numba.nn.layers import make_layer

DTYPES = ("float32", "float64")
Array = npt.NDArray[Any]


class Case(NamedTuple):
    """Steps, sequences, inputs, units, blocks and threads of a block."""

    steps: int
    batch: int
    inputs: int
    hidden: int
    blocks: int = 1
    threads: Any = 4


#: Blocks of fewer threads than units, of as many and of more; fewer blocks than sequences, and more.
CASES = cases(
    [
        Case(2, 1, 1, 1, 1, 1),
        Case(3, 2, 3, 5, 1, 4),
        Case(2, 2, 3, 5, 3, (2, 2, 2)),
        Case(2, 1, 1, 17, 1, 32),
    ],
    [Case(5, 300, 16, 16, 8, 128), Case(4, 7, 40, 129, 3, 64), Case(3, 33, 2, 65, 40, (8, 4, 4))],
)


class Work:
    """A layer, its input, states, and gradients that come from outside; time first."""

    def __init__(self, name: str, case: Case, dtype: Any, **options: Any) -> None:
        self.name, self.case = name, case
        self.skip_dx = False
        self.layer = make_layer(name, case.inputs, case.hidden, dtype=dtype, seed=3, **options)
        shape = (case.steps, case.batch)
        self.x, self.dy = normal((*shape, case.inputs), dtype, 1), normal((*shape, case.hidden), dtype, 2)
        count = len(self.layer.cell.states)
        self.states = list(normal((count, case.batch, case.hidden), dtype, 4))
        self.dstates = list(normal((count, case.batch, case.hidden), dtype, 5))

    def pack(self, states: list[Array]) -> Any:
        """States as a layer takes them."""
        return states[0][None] if len(states) == 1 else tuple(s[None] for s in states)

    def by_processor(self) -> dict[str, Array]:
        """Gradients from the CPU engine."""
        _, _, tape = self.layer.forward(self.x, self.pack(self.states))
        dx, dstate, grads = self.layer.backward(tape, self.dy, self.pack(self.dstates))
        dstates = [dstate] if len(self.states) == 1 else dstate
        return {"x": dx, **{f"state {n}": d[0] for n, d in enumerate(dstates)}, **grads}


def by_threads(work: Work) -> tuple[Array, list[Array]]:
    """Outputs and final states of `user_kernels.thread_streams`."""
    case, weights = work.case, step.device_weights(work.layer)
    x, states = upload(work.x.transpose(0, 2, 1)), tuple(upload(s.T) for s in work.states)
    scratch = upload(np.full((step.scratch_size(weights), case.batch), np.nan, work.x.dtype))
    y = upload(np.full((case.steps, case.hidden, case.batch), np.nan, work.x.dtype))
    user_kernels.thread_streams[case.blocks, case.threads](weights, x, states, scratch, y)
    return download(y).transpose(0, 2, 1), [download(s).T for s in states]


def by_blocks(work: Work) -> tuple[Array, list[Array]]:
    """Outputs and final states of `user_kernels.block_streams`."""
    case, weights = work.case, step.device_weights(work.layer)
    x, states = upload(work.x.transpose(1, 0, 2)), tuple(upload(s) for s in work.states)
    y = upload(np.full((case.batch, case.steps, case.hidden), np.nan, work.x.dtype))
    shared = step.scratch_size(weights) * y.dtype.itemsize
    user_kernels.block_streams[case.blocks, case.threads, 0, shared](weights, x, states, y)
    return download(y).transpose(1, 0, 2), [download(s) for s in states]


def training(work: Work, by: str) -> dict[str, Array]:
    """Gradients from `user_kernels.thread_training` or `block_training`."""
    case, dtype = work.case, work.x.dtype
    axes = (0, 2, 1) if by == "thread" else (1, 0, 2)
    weights, gradients = step.device_weights(work.layer), step.device_gradients(work.layer)

    def matrix(array: Array) -> Any:
        return upload(array.T if by == "thread" else array)

    x, dy, dx = (upload(a.transpose(axes)) for a in (work.x, work.dy, np.full_like(work.x, np.nan)))
    target = dx[:, :, :0] if work.skip_dx else dx
    states, dstates = (tuple(matrix(a) for a in arrays) for arrays in (work.states, work.dstates))
    tape = np.full((case.steps, case.batch, step.tape_size(weights)), np.nan, dtype)
    kernel = user_kernels.thread_training if by == "thread" else user_kernels.block_training
    arguments = (weights, gradients, x, states, upload(tape.transpose(axes)), dy, dstates, target)
    kernel[case.blocks, case.threads](*arguments)
    back = np.argsort(axes)
    result = {"x": download(dx).transpose(back)}
    for n, array in enumerate(dstates):
        result[f"state {n}"] = download(array).T if by == "thread" else download(array)
    found = {f"{name}_l0": download(array) for name, array in gradients._asdict().items() if array.size}
    assert found.keys() == work.layer.params.keys()
    return {**result, **found}


def flattened(case: Case) -> Case:
    """For kernels that number threads along one axis only."""
    return case._replace(threads=int(np.prod(case.threads)))


@pytest.mark.parametrize("by", ["thread", "block"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DISTINCT)
def test_steps_against_reference_and_processor(name: str, dtype: str, by: str) -> None:
    run: Callable[[Work], Any] = by_threads if by == "thread" else by_blocks
    for given in CASES:
        case = given if by == "block" else flattened(given)
        work = Work(name, case, dtype)
        y, states = run(work)
        expected_y, expected = reference.run(
            name, work.layer.params, work.x, [s[None] for s in work.states], num_layers=1, bidirectional=False
        )
        assert_close(y, expected_y, "forward", f"y ({case})")
        for n, state in enumerate(states):
            assert_close(state, expected[n][0], "forward", f"state {n} ({case})")
        assert_close(y, work.layer(work.x, work.pack(work.states))[0], "forward", f"y of the engine ({case})")


@pytest.mark.parametrize("by", ["thread", "block"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DISTINCT)
def test_every_gradient_against_the_processor(name: str, dtype: str, by: str) -> None:
    for given in CASES:
        work = Work(name, flattened(given), dtype)
        expected = work.by_processor()
        for key, value in training(work, by).items():
            assert_close(value, expected[key], "backward", f"d{key} ({given})")


@pytest.mark.parametrize("by", ["thread", "block"])
@pytest.mark.parametrize("name", DISTINCT)
def test_every_gradient_against_central_differences(name: str, by: str) -> None:
    """Of a loss that is computed by the steps themselves."""
    work = Work(name, Case(2, 1, 2, 2, 1, 3), np.float64)

    def loss() -> float:
        y, states = (by_threads if by == "thread" else by_blocks)(work)
        ends = sum(np.vdot(d, s) for d, s in zip(work.dstates, states, strict=True))
        return float(np.vdot(work.dy, y) + ends)

    variables = {"x": work.x, **{f"state {n}": s for n, s in enumerate(work.states)}, **work.layer.params}
    gradients = training(work, by)
    assert gradients.keys() == variables.keys()
    work.loss = loss  # type: ignore[attr-defined]
    for key, array in variables.items():
        assert_close(gradients[key], central_differences(work, array), "central differences", f"d{key}")


@pytest.mark.parametrize("name", ["rnn", "gru", "gru-reset-before"])
def test_one_state_may_be_an_array(name: str) -> None:
    work = Work(name, Case(1, 1, 2, 5), np.float32)
    weights, h = step.device_weights(work.layer), upload(work.states[0][0])
    scratch, tape = step.scratch_size(weights), step.tape_size(weights)
    sizes = upload(np.zeros(2, np.int64))
    user_kernels.single_state[1, 4, 0, scratch * 4](weights, upload(work.x[0, 0]), h, sizes)
    assert_close(download(h), work.layer(work.x, work.pack(work.states))[0][0, 0], "forward")
    assert download(sizes).tolist() == [scratch, tape]


def test_every_layer_and_direction_has_its_weights() -> None:
    host = ln.PeepholeLSTM(3, 4, 2, bidirectional=True, bias=False, seed=0)
    device = ln.PeepholeLSTM(3, 4, 2, bidirectional=True, bias=False, seed=0, device="cuda")
    for layer in range(2):
        for direction, end in enumerate(("", "_reverse")):
            single = ln.PeepholeLSTM(3 if layer == 0 else 8, 4, bias=False)
            for name in single.params:
                single.params[name] = host.params[name.removesuffix("_l0") + f"_l{layer}{end}"]
            x = normal((2, 3, single.input_size), np.float32)
            expected = single(x)[0]
            for source in (host, device):
                y = outputs(step.device_weights(source, layer, direction), x)
                assert_close(y, expected, "forward", f"layer {layer}, direction {direction}")


def outputs(weights: Any, x: Array) -> Array:
    """Outputs of `user_kernels.block_streams` from states of zeros."""
    steps, batch, _ = x.shape
    states = tuple(upload(np.zeros((batch, weights.hidden), x.dtype)) for _ in weights.cell.states)
    y = upload(np.empty((batch, steps, weights.hidden), x.dtype))
    shared = step.scratch_size(weights) * x.itemsize
    user_kernels.block_streams[batch, 4, 0, shared](weights, upload(x.transpose(1, 0, 2)), states, y)
    return download(y).transpose(1, 0, 2)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_weights_are_copies(device: str) -> None:
    layer = ln.PeepholeLSTM(2, 3, device=device, seed=0)
    weights = step.device_weights(layer)
    before = [download(array) for array in weights[3:]]
    layer.load_state_dict({name: np.zeros_like(a) for name, a in layer.state_dict().items()})
    for array, kept in zip(weights[3:], before, strict=True):
        np.testing.assert_array_equal(download(array), kept)
        assert kept.any()


@pytest.mark.parametrize("by", ["thread", "block"])
def test_training_through_a_user_s_kernel(by: str) -> None:
    """The gradients lie as the parameters do: updates with them learn as they do on the processor."""
    losses = {}
    for way in (by, "processor"):
        work = Work("gru-reset-before", Case(3, 2, 2, 3), np.float64)
        losses[way] = []
        for _ in range(4):
            y = work.layer(work.x, work.pack(work.states))[0]
            losses[way].append(float(np.sum(y * y)))
            work.dy, work.dstates = 2 * y, [np.zeros_like(s) for s in work.states]
            found = work.by_processor() if way == "processor" else training(work, by)
            for name, parameter in work.layer.params.items():
                parameter -= 0.1 * found[name]
    np.testing.assert_allclose(losses[by], losses["processor"], rtol=1e-9)
    assert losses[by][-1] < 0.7 * losses[by][0]


def test_an_empty_gradient_of_the_input_is_left_out() -> None:
    work = Work("lstm", Case(2, 1, 3, 4), np.float64)
    expected = training(work, "block")
    work.skip_dx = True
    found = training(work, "block")
    assert np.isnan(found.pop("x")).all()
    for name, value in found.items():
        assert_close(value, expected[name], "backward", name)


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="rnn: expected a recurrent layer, got dict"):
        step.device_weights({})
    layer = ln.GRU(2, 3, 2)
    for function in (step.device_weights, step.device_gradients):
        with pytest.raises(ValueError, match="layer: expected 0 to 1, got 2"):
            function(layer, 2)
        with pytest.raises(ValueError, match="layer: expected 0 to 1, got -1"):
            function(layer, -1)
        with pytest.raises(ValueError, match="direction: expected 0 to 0, got 1"):
            function(layer, 0, 1)
        with pytest.raises(TypeError, match="ProjectedLSTMCell: needs weight_hr"):
            function(ln.LSTM(2, 3, proj_size=2))
        with pytest.raises(TypeError, match="LayerNormGRUCell: needs means"):
            function(ln.LayerNormGRU(2, 3))


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    from lstm_numba.examples import cuda_pipeline

    cuda_pipeline.main(signals=2, steps=3, hidden=3, threads=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"{way}_step, {what}" for way in ("block", "thread") for what in ("h", "c", "peaks")
    ]
