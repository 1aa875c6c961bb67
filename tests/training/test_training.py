"""The training loop: repeatable to the bit, however it is stopped; errors leave the last good checkpoint."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from repository import ROOT
from tolerances import assert_close
from training_tools import (
    Crash,
    CrashAt,
    few_digits,
    lines_without_times,
    small_config,
    train,
    write_text,
)

from lstm_numba.data import digits
from lstm_numba.engines.sparse import SparseRows
from lstm_numba.errors import CheckpointError
from lstm_numba.models import LanguageModel, TokenBatch
from lstm_numba.training import checkpoint
from lstm_numba.training.callbacks import EpochInfo, Reporter, StepInfo
from lstm_numba.training.run import Run
from lstm_numba.training.tasks import build_task, open_task
from lstm_numba.training.trainer import Interrupted

KINDS = ["images", "text", "grammar"]


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Few images, and one thread: on a busy machine waking others costs more than these models compute."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield
    numba.set_num_threads(threads)


class Finished:
    """A run that was never stopped."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.config = small_config(kind, folder, checkpoint_every=60.0)
        self.outcome = train(folder / "run", self.config)
        self.run = Run.open(folder / "run")
        self.bytes = self.run.checkpoint_path.read_bytes()
        self.best = self.run.best_path.read_bytes()
        self.lines = lines_without_times(self.run)
        self.steps = self.outcome.step // 2


@pytest.fixture(scope="module", params=KINDS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run of each kind."""
    return Finished(request.param, tmp_path_factory.mktemp(request.param))


def _same(folder: Path, finished: Finished) -> None:
    run = Run.open(folder)
    assert lines_without_times(run) == finished.lines
    assert run.checkpoint_path.read_bytes() == finished.bytes
    assert run.best_path.read_bytes() == finished.best


@pytest.mark.parametrize("every", [0.0, 60.0])
def test_crashed_and_resumed_is_never_stopped(finished: Finished, tmp_path: Path, every: float) -> None:
    """Crash at random steps, over and over; with a checkpoint at every step, or at the epochs' ends only."""
    rng = np.random.default_rng([len(finished.kind), int(every)])
    config = {**finished.config, "checkpoint_every": every}
    crashes = 0
    longest = 4 if every == 0 else 2 * finished.steps
    while True:
        try:
            outcome = train(tmp_path / "run", config, CrashAt(int(rng.integers(1, longest))))
            break
        except Crash:
            crashes += 1
    assert crashes >= (3 if every == 0 else 1)
    assert outcome == finished.outcome._replace(checkpoint=tmp_path / "run" / "checkpoint.safetensors")
    _same(tmp_path / "run", finished)


def test_a_crash_while_an_epoch_ends_changes_nothing(finished: Finished, tmp_path: Path) -> None:
    class InEvaluation(Reporter):
        def on_evaluation(self, split: str, done: int, total: int) -> None:
            raise Crash

    class AfterEpoch(Reporter):
        def on_epoch(self, info: EpochInfo) -> None:
            raise Crash

    class AtCheckpoint(Reporter):
        def on_checkpoint(self, path: Path, step: int) -> None:
            raise Crash

    for reporter in (AtCheckpoint(), InEvaluation(), AfterEpoch(), InEvaluation(), AfterEpoch()):
        with pytest.raises(Crash):
            train(tmp_path / "run", finished.config, reporter)
    # Two epochs are behind, the last evaluation may not be.
    train(tmp_path / "run", finished.config)
    _same(tmp_path / "run", finished)


def test_a_complete_run_is_left_as_it_is(finished: Finished) -> None:
    heard: list[str] = []

    class Listener(Reporter):
        def on_step(self, info: StepInfo) -> None:
            heard.append("step")

    outcome = train(finished.run.folder, finished.config, Listener())
    assert outcome.already_complete
    assert outcome._replace(already_complete=False) == finished.outcome
    assert not heard
    _same(finished.run.folder, finished)


def test_metrics_say_what_happened(finished: Finished) -> None:
    epochs = [line for line in finished.lines if line["kind"] == "epoch"]
    splits = [(line["epoch"], line["split"]) for line in epochs]
    assert splits == [(1, "train"), (1, "valid"), (2, "train"), (2, "valid")]
    assert [line["step"] for line in epochs[::2]] == [finished.steps, 2 * finished.steps]
    final = finished.lines[-1]
    assert (final["kind"], final["split"]) == ("final", "test")
    # What the run folder says is what evaluating its checkpoint says.
    task = open_task(finished.run)
    for split, expected in finished.outcome.evaluations.items():
        assert task.evaluate(split) == expected
    assert final["loss"] == finished.outcome.evaluations["test"].loss
    metric = "accuracy" if finished.kind == "images" else "perplexity"
    assert all(metric in line for line in finished.lines)
    assert sum(line["kind"] == "step" for line in finished.lines) >= 20
    # The mean of an epoch is that of its steps: training goes down.
    assert epochs[2]["loss"] < epochs[0]["loss"]


def test_nothing_in_a_checkpoint_is_a_time(finished: Finished) -> None:
    _, meta = checkpoint.load(finished.run.checkpoint_path)
    assert meta["complete"]
    assert not any("second" in name or "time" in name for name in json.dumps(meta).split('"'))


def test_a_language_model_is_trained_as_written_out_here(tmp_path: Path) -> None:
    """The literature's recipe by hand.

    Contiguous windows; the state carried, and zero at an epoch's beginning; the loss summed over time and
    averaged over the batch; its gradient clipped; plain SGD; a constant rate that is then halved.
    """
    recipe: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "nesterov": False, "lr": 0.7, "clip": 1.5}
    recipe.update(schedule="ptb", hold=1, decay=0.5, patience=None, epochs=3)
    recipe.update(dropout=0.0, weight_drop=0.0, tie=False, init_range=0.1)
    config = small_config("text", tmp_path, **recipe)
    task: Any = build_task(config)
    model = LanguageModel(
        len(task.corpus.vocabulary), 8, layers=2, init_range=0.1, dropout=0.0, seed=config["seed"]
    )
    ids = task.corpus.splits["train"]
    length = len(ids) // 4
    streams = ids[: 4 * length].reshape(4, length).T
    clipped = 0
    for epoch in range(3):
        state = None
        for start in range(0, (length - 1) // 20 * 20, 20):
            window = TokenBatch(streams[start : start + 20], streams[start + 1 : start + 21])
            result = model.loss_and_gradients(window, state)
            state = result.state
            assert result.objective == pytest.approx(result.loss_sum / 4)
            grads = {n: g.to_dense() if isinstance(g, SparseRows) else g for n, g in result.grads.items()}
            norm = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in grads.values()))
            clipped += norm > 1.5
            rate = 0.7 * 0.5**epoch * min(1.0, 1.5 / norm)
            for name, array in model.params.items():
                array -= np.float32(rate) * grads[name]
    outcome = train(tmp_path / "run", config)
    assert 0 < clipped < outcome.step
    assert outcome.step == 3 * ((length - 1) // 20)
    tensors, _ = checkpoint.load(outcome.checkpoint)
    for name, array in model.params.items():
        assert_close(tensors[f"model.{name}"], array, "optimizer", name)


class SignalAt(Reporter):
    """Raises a signal at a moment of a training, and Ctrl-C right after it."""

    def __init__(self, signum: int, moment: str, count: int = 1) -> None:
        self.signum, self.moment, self.left = signum, moment, count
        self.told: list[str] = []

    def _now(self, moment: str) -> None:
        if moment == self.moment:
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(self.signum)  # to this thread, so that it comes at this moment
                signal.raise_signal(signal.SIGINT)

    def on_message(self, text: str) -> None:
        """What comes of telling must not matter."""
        if text.startswith("SIG"):
            self.told.append(text)
            raise RuntimeError("reentrant call")

    def on_step(self, info: StepInfo) -> None:
        """After a step."""
        self._now("step")

    def on_evaluation(self, split: str, done: int, total: int) -> None:
        """In an evaluation."""
        self._now("evaluation")

    def on_epoch(self, info: EpochInfo) -> None:
        """After an epoch."""
        self._now("epoch")

    def on_checkpoint(self, path: Path, step: int) -> None:
        """After a checkpoint."""
        self._now("checkpoint")


def test_signals_save_and_resume_to_the_same_bits(finished: Finished, tmp_path: Path) -> None:
    def handler(signum: int, frame: Any) -> None:
        raise AssertionError("the caller's handler must not be called")

    before = signal.signal(signal.SIGTERM, handler)
    # A program started in the background ignores SIGINT, and so may the one that runs these tests.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        moments = [
            (signal.SIGINT, "step", 3),
            (signal.SIGTERM, "step", 2),
            (signal.SIGINT, "evaluation", 1),
            (signal.SIGTERM, "checkpoint", 1),
            (signal.SIGINT, "epoch", 1),
        ]
        config = {**finished.config, "checkpoint_every": 60.0}
        position = 0
        for signum, moment, count in moments:
            sender = SignalAt(signum, moment, count)
            with pytest.raises(Interrupted) as caught:
                train(tmp_path / "run", config, sender)
            stop = caught.value
            name = signal.Signals(signum).name
            assert sender.told == [f"{name}: finishing this step, then saving ..."]
            assert stop.signum == signum
            assert stop.exit_status == {signal.SIGINT: 130, signal.SIGTERM: 143}[signum]
            assert stop.path == tmp_path / "run" / "checkpoint.safetensors"
            assert str(stop.path) in str(stop)
            _, meta = checkpoint.load(stop.path)
            assert meta["steps"] == stop.step
            if moment == "step":
                position += count
                assert stop.step == position  # the step was finished, no other begun
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            assert signal.getsignal(signal.SIGTERM) is handler
        train(tmp_path / "run", config)
        _same(tmp_path / "run", finished)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        config = small_config("images", tmp_path, epochs=1)
        assert train(tmp_path / "run", config, SignalAt(signal.SIGINT, "step")).step == 21
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.smoke
def test_training_outside_the_main_thread(tmp_path: Path) -> None:
    results: list[Any] = []
    config = small_config("images", tmp_path, epochs=1)
    thread = threading.Thread(target=lambda: results.append(train(tmp_path / "run", config)))
    thread.start()
    thread.join()
    assert results[0].step == 21


_SCRIPT = """
import json
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from training_tools import few_digits, train
import numba
from lstm_numba.data import digits
numba.set_num_threads(1)
digits.load = few_digits
train(Path(sys.argv[2]), json.loads(sys.argv[3]))
"""


@pytest.mark.parametrize("kind", ["images", "text"])
def test_killed_and_resumed_is_never_stopped(kind: str, tmp_path: Path) -> None:
    """kill -9 whenever: every step writes a checkpoint, so many kills fall into the writing of one."""
    config = small_config(kind, tmp_path, epochs=4)
    train(tmp_path / "whole", config)
    rng = np.random.default_rng(0)
    metrics = tmp_path / "run" / "metrics.jsonl"
    kills = 0
    while kills < 2:
        before = metrics.stat().st_size if metrics.exists() else -1
        arguments = [str(ROOT / "tests" / "support"), str(tmp_path / "run"), json.dumps(config)]
        process = subprocess.Popen([sys.executable, "-c", _SCRIPT, *arguments])
        while process.poll() is None and (metrics.stat().st_size if metrics.exists() else -1) <= before + 100:
            time.sleep(0.01)
        time.sleep(float(rng.uniform(0, 0.2)))
        process.kill()
        if process.wait() == 0:
            break
        kills += 1
    assert kills >= 1
    train(tmp_path / "run", config)
    ours, theirs = Run.open(tmp_path / "run"), Run.open(tmp_path / "whole")
    assert lines_without_times(ours) == lines_without_times(theirs)
    assert ours.checkpoint_path.read_bytes() == theirs.checkpoint_path.read_bytes()
    assert ours.best_path.read_bytes() == theirs.best_path.read_bytes()


# -- what a run goes on with -------------------------------------------------------------------------


def test_other_data_or_another_model_are_refused(tmp_path: Path) -> None:
    config = small_config("text", tmp_path, epochs=1)
    train(tmp_path / "run", config)
    write_text(tmp_path / "text.txt", 1400)
    with pytest.raises(CheckpointError, match="the training data are not those that the run started with"):
        train(tmp_path / "run", config)
    (tmp_path / "text.txt").write_text("xyz abc\n" * 200)
    with pytest.raises(CheckpointError):
        train(tmp_path / "run", config)
    with pytest.raises(CheckpointError, match="has another vocabulary than the one of the run"):
        open_task(tmp_path / "run").evaluate("test")
    write_text(tmp_path / "text.txt")
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({**config, "hidden": 9}))
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: does not fit config\.json"):
        train(tmp_path / "run", config)
    path.write_text(json.dumps({**config, "optimizer": "adam", "momentum": 0.0, "nesterov": False}))
    with pytest.raises(CheckpointError, match=r"fit config\.json: it was trained with momentum 0\.5"):
        train(tmp_path / "run", config)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(finished: Finished, tmp_path: Path) -> None:
    Run.create(tmp_path / "run", finished.config)
    train(tmp_path / "run", finished.config)
    _same(tmp_path / "run", finished)


def test_seeds_decide(tmp_path: Path) -> None:
    def parameters(name: str, seed: int) -> bytes:
        config = small_config("images", tmp_path, epochs=1, seed=seed, checkpoint_every=60.0)
        train(tmp_path / name, config)
        tensors, _ = checkpoint.load(tmp_path / name / "checkpoint.safetensors")
        return b"".join(tensors[name].tobytes() for name in sorted(tensors))

    assert parameters("a", 1) == parameters("b", 1)
    assert parameters("c", 2) != parameters("a", 1)
