"""A training step that is recorded and repeated computes what it computes otherwise, bit for bit.

The simulator has no graphs: there launches and copies are recorded here with their arguments, and then
repeated as a graph would repeat them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_numba.engines.cuda import graph, memory
from lstm_numba.engines.cuda.driver import DEVICE_ARRAY, SIMULATED
from lstm_numba.models.base import SequenceBatch, TokenBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.language_model import LanguageModel
from lstm_numba.optim.optimizers import make_optimizer
from lstm_numba.training.step import TrainingStep

VOCABULARY, STEPS = 13, 7


class FakeRecorder:
    """Stands for `lstm_numba.engines.cuda.graph.Recorder` in the simulator."""

    def __init__(self) -> None:
        self.work: list[Callable[[], Any]] = []
        self.draws = graph.dropout.Draws

    def apart(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def record(self, work: Callable[[], Any]) -> Any:
        with memory.recording(), pytest.MonkeyPatch.context() as patch:
            self._watch(patch)
            return work()

    def _watch(self, patch: pytest.MonkeyPatch) -> None:
        from numba.cuda.simulator.kernel import FakeCUDAKernel

        call, copy = FakeCUDAKernel.__call__, DEVICE_ARRAY.copy_to_device

        def record_call(kernel: Any, *args: Any) -> None:
            shape = (kernel.grid_dim, kernel.block_dim, kernel.stream, kernel.dynshared_size)
            self.work.append(lambda: kernel[shape](*args))

        def record_copy(target: Any, source: Any, stream: Any = 0) -> None:
            self.work.append(lambda: copy(target, source, stream))

        assert call is not record_call
        patch.setattr(FakeCUDAKernel, "__call__", record_call)
        patch.setattr(DEVICE_ARRAY, "copy_to_device", record_copy)

    def repeat(self) -> None:
        for step in self.work:
            step()


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Have steps recorded; what was recorded."""
    made: list[Any] = []
    cls = FakeRecorder if SIMULATED else graph.Recorder

    def recorder() -> Any:
        made.append(cls())
        return made[-1]

    monkeypatch.setattr(graph, "wanted", lambda: True)
    monkeypatch.setattr(graph, "Recorder", recorder)
    monkeypatch.setattr(graph.gemm, "_chosen", "numba")
    return made


def text(rng: np.random.Generator) -> list[TokenBatch]:
    """Windows in which some tokens occur often, and of two shapes."""
    windows = []
    for n in range(STEPS):
        shape = (4, 3) if n != 4 else (2, 3)
        weights = (rng.random(shape) < 0.8).astype(float) if n % 2 else np.ones(shape)
        ids = rng.integers(VOCABULARY, size=(2, *shape)) // rng.integers(1, 4)
        ids[0, 0, 0] = VOCABULARY - 1  # the row that an index of -1 would mean to NumPy
        windows.append(TokenBatch(ids[0], ids[1], weights))
    return windows


def sequences(rng: np.random.Generator) -> list[SequenceBatch]:
    return [
        SequenceBatch(rng.standard_normal((3, 4, 5)).astype(np.float32), rng.integers(6, size=4))
        for _ in range(STEPS)
    ]


def train(model: Any, batches: list[Any], name: str, carries: bool, **options: float) -> list[Any]:
    """Parameters, optimizer's state and losses after a few steps, with another learning rate at each."""
    optimizer = make_optimizer(name, model.params, 0.1, **options)
    step = TrainingStep(model, optimizer, clip_value=0.5, clip=0.2, carries_state=carries)
    state, found = None, []
    for n, batch in enumerate(batches):
        result = step(batch, state, 0.3 / (1 + n))
        state = result.state if carries else None
        found.append((result.loss_sum, result.correct, result.number(2), result.count))
    arrays = [*model.params.values(), *optimizer.state_arrays().values()]
    return [*found, *map(memory.download, arrays), str(model.rng.bit_generator.state)]


def compare(make: Callable[[], Any], batches: list[Any], made: list[Any], *options: Any, **more: Any) -> None:
    repeated = train(make(), batches, *options, **more)
    assert made  # and the last of them was used
    with pytest.MonkeyPatch.context() as patch:  # the same work, as it comes
        patch.setattr(TrainingStep, "_record", lambda self, batch: None)
        expected = train(make(), batches, *options, **more)
    for a, b in zip(repeated, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("tie", [False, True])
def test_language_model(recording: list[Any], name: str, tie: bool) -> None:
    def make() -> LanguageModel:
        return LanguageModel(
            VOCABULARY, 5, layers=2, dropout=0.3, weight_drop=0.2, tie=tie, seed=1, device="cuda"
        )

    compare(make, text(np.random.default_rng(0)), recording, name, True)


@pytest.mark.parametrize("options", [{"momentum": 0.5}, {"weight_decay": 0.1}])
def test_classifier(recording: list[Any], options: dict[str, float]) -> None:
    def make() -> SequenceClassifier:
        drops = {"dropout": 0.2, "weight_drop": 0.3, "zoneout": 0.2, "recurrent_dropout": 0.3}
        return SequenceClassifier(5, 4, 6, cell="gru", seed=1, device="cuda", **drops)

    compare(make, sequences(np.random.default_rng(0)), recording, "sgd", False, **options)


def test_copies_from_the_host_are_no_part_of_it() -> None:
    with memory.recording(), pytest.raises(RuntimeError, match="no copy from the host"):
        memory.upload(np.zeros(3))
