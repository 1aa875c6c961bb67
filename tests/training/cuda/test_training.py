"""Training on the device: the same numbers as on the processor, step by step, run by run, across devices."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import simulated
from cli_tools import invoke
from tolerances import assert_close
from training_tools import few_digits, lines_without_times, small_config

from lstm_numba.data import digits
from lstm_numba.engines.base import NORM
from lstm_numba.errors import TrainingDiverged
from lstm_numba.models import LanguageModel, SequenceBatch, SequenceClassifier, SequenceRegressor, TokenBatch
from lstm_numba.optim.nt_asgd import NTASGD
from lstm_numba.optim.optimizers import make_optimizer
from lstm_numba.training import classification
from lstm_numba.training.callbacks import Reporter
from lstm_numba.training.run import Run
from lstm_numba.training.step import TrainingStep
from lstm_numba.training.tasks import build_task, open_task
from lstm_numba.training.trainer import Trainer

KINDS = ["classifier", "regressor", "language model", "tied language model", "language model of AWD"]
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "sgd", "lr": 0.5},
    {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"name": "sgd", "lr": 0.1, "weight_decay": 0.01},
    {"name": "adam", "lr": 0.01, "weight_decay": 0.1},
    {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    {"name": "rmsprop", "lr": 0.01, "momentum": 0.5},
]


def models(kind: str, device: str, dtype: Any) -> Any:
    """A small model of each kind, with everything that a model may have."""
    if kind == "classifier":
        options: dict[str, Any] = {"cell": "peephole", "layers": 2, "bidirectional": True, "dropout": 0.3}
        return SequenceClassifier(3, 4, 5, **options, dtype=dtype, seed=1, device=device)
    if kind == "regressor":
        options = {"cell": "gru", "loss": "quantile", "per_step": True, "dropout": 0.3}
        return SequenceRegressor(3, 4, 2, **options, dtype=dtype, seed=1, device=device)
    if kind == "language model of AWD":
        options = {"layers": 2, "dropout": 0.3, "dropout_kind": "sequence", "weight_drop": 0.2, "tie": True}
        options.update(embedding_dropout=0.3, output_dropout=0.4)
        return LanguageModel(7, 4, **options, dtype=dtype, seed=1, device=device)
    tie = kind == "tied language model"
    options = {"cell": "gru", "layers": 2, "dropout": 0.3, "weight_drop": 0.2, "init": "orthogonal"}
    options.update(tie=tie, embedding=4 if tie else 3)
    return LanguageModel(7, 4, **options, dtype=dtype, seed=1, device=device)


def batches(kind: str, dtype: Any) -> list[Any]:
    rng = np.random.default_rng(2)
    if kind == "classifier":
        shape = (3, 5, 3)
        lengths = np.array([3, 1, 0, 2, 3])
        return [
            SequenceBatch(rng.standard_normal(shape).astype(dtype), rng.integers(5, size=5), ends)
            for ends in (None, lengths, None)
        ]
    if kind == "regressor":
        numbers, known = rng.standard_normal((3, 3, 5, 2)), rng.integers(3, size=(3, 5, 2))
        ends = np.array([3, 1, 2, 2, 3])
        return [
            SequenceBatch(rng.standard_normal((3, 5, 3)).astype(dtype), y, *more)
            for y, more in zip(numbers, ((None, None), (ends, known), (ends, None)), strict=True)
        ]
    weights = np.ones((4, 3))
    weights[2:, 1] = 0
    ids = [rng.integers(7, size=(5, 3)) for _ in range(3)]
    return [TokenBatch(i[:-1], i[1:], w) for i, w in zip(ids, (None, weights, None), strict=True)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("kind", KINDS)
def test_steps_agree_with_the_processor(kind: str, optimizer: dict[str, Any]) -> None:
    """Losses, hits, norms, parameters, dropout masks, carried state, clipping, for every optimizer."""
    dtype = np.float64
    both = [models(kind, device, dtype) for device in ("cpu", "cuda")]
    name, lr, *_ = optimizer.values()
    rest = {key: value for key, value in optimizer.items() if key not in ("name", "lr")}
    optimizers = [make_optimizer(name, model.params, lr, **rest) for model in both]
    states: list[Any] = [None, None]
    for number, batch in enumerate(batches(kind, dtype)):
        results = []
        for n, (model, taker) in enumerate(zip(both, optimizers, strict=True)):
            result = model.loss_and_gradients(batch, states[n] if "language" in kind else None)
            if number == 2:
                model.engine.clip_by_value(result.grads, 0.05)
            model.engine.clip_by_norm(result.grads, result.totals, 0.1 if number else None)
            taker.step(result.grads, totals=result.totals)
            states[n] = result.state
            results.append(result)
        host, device = results
        assert device.correct == host.correct
        assert device.count == host.count
        assert device.loss_sum == pytest.approx(host.loss_sum, rel=1e-12)
        assert device.number(NORM) == pytest.approx(host.number(NORM), rel=1e-11)
        for key, value in both[0].params.items():
            assert_close(both[1].engine.download(both[1].params[key]), value, "optimizer", key)
    for key, value in optimizers[0].state_dict().items():
        assert_close(optimizers[1].state_dict()[key], value, "optimizer", key, dtype=dtype)
    evaluated = [model.evaluate(batches(kind, dtype)[1]) for model in both]
    assert evaluated[1].loss_sum == pytest.approx(evaluated[0].loss_sum, rel=1e-11)
    assert evaluated[1].correct == evaluated[0].correct


def test_averages_agree_with_the_processor() -> None:
    """Dropped words and one mask a sequence, and from the second step on averages; recorded steps too."""
    kind, ends = "language model of AWD", []
    for device in ("cpu", "cuda"):
        model = models(kind, device, np.float64)
        optimizer = NTASGD(model.params, 0.5, 0, weight_decay=0.01)
        step = TrainingStep(model, optimizer, None, 1.0, carries_state=True)
        optimizer.end_evaluation(1.0)
        state: Any = None
        (batch, *_) = batches(kind, np.float64)
        for number in range(6):
            if number == 2:
                assert optimizer.end_evaluation(2.0)
                step.forget_records()
            state = step(batch, state, 0.5 / (number + 1)).state
        download = model.engine.download
        with optimizer.using_averages():
            lent = {name: np.array(download(array)) for name, array in model.params.items()}
        ends.append((lent, {name: np.array(download(array)) for name, array in model.params.items()}))
        assert optimizer.averaged == 5
    for got, truth in zip(ends[1], ends[0], strict=True):
        for key, value in truth.items():
            assert_close(got[key], value, "optimizer", key)
    assert any(np.abs(ends[0][0][name] - value).max() > 1e-3 for name, value in ends[0][1].items())


def test_a_scale_of_the_gradients_without_totals() -> None:
    both = [models("language model", device, np.float64) for device in ("cpu", "cuda")]
    (batch, *_) = batches("language model", np.float64)
    for model in both:
        make_optimizer("sgd", model.params, 0.5).step(model.loss_and_gradients(batch).grads, scale=0.25)
    for key, value in both[0].params.items():
        assert_close(both[1].engine.download(both[1].params[key]), value, "optimizer", key)


@pytest.fixture
def small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the simulator an evaluation takes a second a dozen images."""
    if simulated():

        def load(split: str, seed: int = 0, count: int | None = None) -> Any:
            return few_digits(split, seed, count).take(slice(0, 6 if split == "test" else None))

        monkeypatch.setattr(digits, "load", load)
        monkeypatch.setattr(classification, "_EVALUATION_BATCH", 8)


def configuration(kind: str, folder: Path, **more: Any) -> dict[str, Any]:
    config = small_config(kind, folder, hidden=3, layers=1, validation=0, schedule="constant", **more)
    config["data"]["count"] = 27
    return config


def run_on(folder: Path, config: dict[str, Any], device: str, reporter: Reporter | None = None) -> Run:
    """Train, or go on training, on a device."""
    run = Run.open(folder) if (folder / "config.json").exists() else Run.create(folder, config)
    run.config["epochs"] = config["epochs"]
    Trainer(build_task(run.config, device=device), run, reporter).train()
    return run


def assert_same_metrics(actual: Run, expected: Run) -> None:
    # A run that was extended has evaluated its end before.
    lines = ([x for x in lines_without_times(run) if x["kind"] != "final"] for run in (actual, expected))
    pairs = list(zip(*lines, strict=True))
    assert pairs
    for got, truth in pairs:
        assert got.keys() == truth.keys()
        for key, value in truth.items():
            assert got[key] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), key


def test_runs_agree_and_go_on_on_the_other_device(tmp_path: Path, small_data: None) -> None:
    one, two = (configuration("images", tmp_path, epochs=n) for n in (1, 2))
    expected = run_on(tmp_path / "cpu", two, "cpu")
    run_on(tmp_path / "there", one, "cpu")
    assert_same_metrics(run_on(tmp_path / "there", two, "cuda"), expected)
    run_on(tmp_path / "back", one, "cuda")
    assert_same_metrics(run_on(tmp_path / "back", two, "cpu"), expected)
    # The model of either run can be used on either device.
    for device in ("cpu", "cuda"):
        task = open_task(tmp_path / "back", device=device)
        assert task.model.device == device
        truth = open_task(tmp_path / "there").evaluate("test")
        assert task.evaluate("test").loss == pytest.approx(truth.loss, rel=1e-4)


class _Interrupt(Reporter):
    """Ends the training after a few steps, as a process that is killed."""

    def __init__(self) -> None:
        self.left = 2

    def on_step(self, info: Any) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_killed_run_goes_on_with_the_same_numbers(tmp_path: Path, small_data: None) -> None:
    config = configuration("images", tmp_path, epochs=1)
    expected = run_on(tmp_path / "whole", config, "cuda")
    with contextlib.suppress(KeyboardInterrupt):
        run_on(tmp_path / "killed", config, "cuda", _Interrupt())
    again = run_on(tmp_path / "killed", config, "cuda")
    assert lines_without_times(again) == lines_without_times(expected)


def test_divergence_is_told_with_its_step_and_changes_nothing(tmp_path: Path, small_data: None) -> None:
    """Though the next step is under way when the numbers of the bad one arrive."""
    config = configuration("images", tmp_path, epochs=1)
    messages = []
    for device in ("cpu", "cuda"):
        run = Run.create(tmp_path / device, config)
        trainer = Trainer(build_task(config, device=device), run)
        load = trainer.task.batch

        def spoilt(epoch: int, step: int, load: Any = load) -> Any:
            batch = load(epoch, step)
            return batch._replace(x=np.full_like(batch.x, np.nan)) if step >= 1 else batch

        trainer.task.batch = spoilt  # type: ignore[method-assign]
        with pytest.raises(TrainingDiverged, match=r"at step 2 \(epoch 1\): the loss is nan") as caught:
            trainer.train()
        messages.append(str(caught.value).partition(";")[0])
        engine = trainer.task.model.engine
        for value in trainer.task.model.params.values():
            assert np.isfinite(engine.download(value)).all()
    assert messages[0] == messages[1]


def test_the_command_line_trains_and_evaluates(tmp_path: Path, small_data: None) -> None:
    words = "train digits --images 20 --hidden 3 --batch-size 10 --epochs 1 --seed 3 --json --device"
    results = [invoke(f"{words} {device} --out {tmp_path / device}").json() for device in ("cpu", "cuda")]
    assert results[1]["loss"] == pytest.approx(results[0]["loss"], rel=1e-4)
    answer = invoke(f"evaluate {tmp_path / 'cpu'} --device cuda --json")
    assert answer.json()["loss"] == pytest.approx(results[0]["loss"], rel=1e-4)
    answer = invoke(f"train digits --resume {tmp_path / 'cuda'} --device cpu --epochs 2 --json")
    assert answer.json()["epochs"] == 2
    answer = invoke(f"train digits --images 20 --hidden 3 --epochs 1 --device auto --out {tmp_path / 'auto'}")
    assert "device: cuda" in answer.err


def test_info_names_the_device() -> None:
    found = invoke("info --json").json()["cuda"]
    assert found["available"]
    assert found["device"]
    assert found["products"] in ("cublas", "numba")
