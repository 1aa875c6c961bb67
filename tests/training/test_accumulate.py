"""``--accumulate N``: steps of N batches are those of one batch of N times the size, and as repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from tolerances import assert_close
from training_tools import Crash, CrashAt, few_digits, lines_without_times, small_config, train

from lstm_numba.data import digits
from lstm_numba.engines.base import NORM
from lstm_numba.engines.sparse import SparseRows
from lstm_numba.models import LanguageModel, SequenceBatch, SequenceClassifier, TokenBatch
from lstm_numba.optim.optimizers import make_optimizer
from lstm_numba.training import checkpoint
from lstm_numba.training.run import Run
from lstm_numba.training.step import TrainingStep


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Few images, and one thread: on a busy machine waking others costs more than these models compute."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield
    numba.set_num_threads(threads)


def test_two_batches_of_four_are_one_of_eight(tmp_path: Path) -> None:
    """The same order of images, the same rates; 38 images: the last batches of an epoch have 4 and 2."""
    runs = []
    for batch_size, accumulate in ((8, 1), (4, 2), (2, 4)):
        config = small_config(
            "images", tmp_path, dtype="float64", dropout=0.0, clip=0.5, clip_value=0.2, validation=12,
            optimizer="sgd", momentum=0.9, lr=0.1,
            batch_size=batch_size, accumulate=accumulate, checkpoint_every=60.0,
        )  # fmt: skip
        config["data"]["count"] = 50
        outcome = train(tmp_path / str(batch_size), config)
        assert outcome.step == 10
        runs.append(Run.open(tmp_path / str(batch_size)))
    (whole, _), *others = (checkpoint.load(run.checkpoint_path) for run in runs)
    for tensors, _ in others:
        for name, array in whole.items():
            assert_close(tensors[name], array, "backward", name)  # after ten steps
    first, *lines = map(lines_without_times, runs)
    for other in lines:
        for line, truth in zip(other, first, strict=True):
            assert line == {
                name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
                for name, value in truth.items()
            }


@pytest.mark.parametrize("kind", ["images", "text", "grammar"])
def test_crashed_and_resumed_is_never_stopped(kind: str, tmp_path: Path) -> None:
    """A checkpoint stands between updates; the state of a text goes from batch to batch."""
    config = small_config(kind, tmp_path, accumulate=3)
    whole = train(tmp_path / "whole", config)
    for steps in (2, 5, 1):
        with pytest.raises(Crash):
            train(tmp_path / "run", config, CrashAt(steps))
    outcome = train(tmp_path / "run", config)
    assert outcome._replace(checkpoint=whole.checkpoint) == whole
    assert outcome.checkpoint.read_bytes() == whole.checkpoint.read_bytes()
    once = train(tmp_path / "once", {**config, "accumulate": 1})
    assert whole.step == 2 * -(-once.step // 2 // 3)  # fewer are left at the end of an epoch


def models(tie: bool | None) -> Any:
    """A small model: a classifier, or a language model with tied weights or without."""
    if tie is None:
        return SequenceClassifier(3, 4, 5, cell="gru", dtype=np.float64, seed=1)
    return LanguageModel(7, 4, cell="gru", tie=tie, dtype=np.float64, seed=1)


def batches(tie: bool | None) -> list[Any]:
    """Three batches, of different sizes where the model allows it."""
    rng = np.random.default_rng(2)
    if tie is None:
        return [SequenceBatch(rng.standard_normal((3, n, 3)), rng.integers(5, size=n)) for n in (5, 1, 3)]
    # Each of some words only, so that the rows of the sparse gradients differ.
    ids = [rng.integers(first, first + 4, size=(6, 3)) for first in (0, 1, 3)]
    return [TokenBatch(i[:-1], i[1:]) for i in ids]


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("tie", [None, True, False])
def test_the_step_is_that_of_the_mean_gradient(tie: bool | None, rule: str) -> None:
    """By hand: gradients weighted by predictions, the state carried, then clipped by value and by norm."""
    model, by_hand = models(tie), models(tie)
    rules = make_optimizer(rule, model.params, 0.1)
    step = TrainingStep(model, rules, 0.1, 0.2, carries_state=tie is not None)
    optimizer = make_optimizer(rule, by_hand.params, 0.1)
    parts = batches(tie)
    for _ in range(2):  # the sums begin at zero each time
        result = step.several(iter(parts), None, 0.05)
        state, results = None, []
        mean: dict[str, Any] = {name: np.zeros_like(array) for name, array in by_hand.params.items()}
        count = sum(part.labels.size if tie is None else part.targets.size for part in parts)
        for part in parts:
            one = by_hand.loss_and_gradients(part, state)
            state = None if tie is None else one.state
            results.append((one.loss_sum, one.correct, one.count))
            for name, gradient in one.grads.items():
                dense = gradient.to_dense() if isinstance(gradient, SparseRows) else gradient
                mean[name] += np.array(dense) * one.count / count
        losses, hits, counts = zip(*results, strict=True)
        assert (result.correct, result.count) == (sum(hits), sum(counts))
        assert result.loss_sum == pytest.approx(sum(losses), rel=1e-12)
        per_prediction = 1 / count if tie is None else 5 / count  # summed over five steps of time
        assert result.objective == pytest.approx(sum(losses) * per_prediction, rel=1e-12)
        mean = {name: np.clip(gradient, -0.1, 0.1) for name, gradient in mean.items()}
        norm = np.sqrt(sum(np.sum(gradient**2) for gradient in mean.values()))
        assert result.number(NORM) == pytest.approx(norm, rel=1e-12)
        assert norm > 0.2
        optimizer.lr = 0.05
        optimizer.step(mean, scale=0.2 / norm)
        if tie is not None:
            assert_close(result.state, state, "optimizer", "state")
        for name, array in by_hand.params.items():
            assert_close(model.params[name], array, "optimizer", name)


def test_numbers_that_are_not_finite_change_nothing() -> None:
    model = models(None)
    step = TrainingStep(model, make_optimizer("sgd", model.params, 0.1), None, None)
    before = {name: array.copy() for name, array in model.params.items()}
    first, second, third = batches(None)
    second.x[0, 0, 0] = np.nan
    assert not np.isfinite(step.several([first, second, third], None, 0.1).objective)
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, before[name])
    second.x[0, 0, 0] = 0
    assert np.isfinite(step.several([first, second, third], None, 0.1).objective)
