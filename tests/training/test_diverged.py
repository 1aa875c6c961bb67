"""Trainings that end worse than they began say so and leave the best epoch; full disks are named."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from cli_tools import call, invoke
from training_tools import Crash, CrashAt, few_digits, small_config, train

from lstm_numba.data import digits, file_io
from lstm_numba.errors import TrainingDiverged
from lstm_numba.training import checkpoint
from lstm_numba.training.callbacks import Best, EpochInfo, Evaluation, Outcome, Reporter, StepInfo
from lstm_numba.training.run import MetricsLog, Run
from lstm_numba.training.tasks import build_task, open_task
from lstm_numba.training.trainer import Trainer

#: Watched by its training loss.
SMALL = "train digits --images 60 --hidden 6 --batch-size 20 --threads 1 --validation 0"


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Few images, and one thread: on a busy machine waking others costs more than these models compute."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield
    numba.set_num_threads(threads)


# -- what is said ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["--lr 1e3", "--optimizer sgd --lr 1e20 --schedule constant"])
def test_a_training_that_ends_worse_than_it_began(tmp_path: Path, words: str) -> None:
    """The issue's cases: the numbers are finite, the exit status is 0, and the result says it."""
    run = tmp_path / "run"
    answer = invoke(SMALL, "--epochs", "3", *words.split(), "--out", run)
    assert answer.status == 0, answer.err
    result, said = answer.out.splitlines()
    assert float(result.split()[2].rstrip(",")) > 23
    assert said.startswith("training diverged: the loss of its last epoch is ")
    again = invoke("train digits --resume", run, "--json").json()
    assert again["diverged"] is True
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if (line["kind"], line["split"]) == ("epoch", "train")]
    assert again["best"] == {"epoch": 1 + losses.index(min(losses)), "split": "train", "loss": min(losses)}


def test_a_training_that_learns_has_not_diverged(tmp_path: Path) -> None:
    answer = invoke(SMALL, "--epochs", "2", "--out", tmp_path / "run")
    assert len(answer.out.splitlines()) == 1
    assert invoke("train digits --resume", tmp_path / "run", "--json").json()["diverged"] is False


def outcome(start: float | None, train_loss: float, test_loss: float) -> Outcome:
    """A training of one epoch."""
    evaluations = {"test": Evaluation("test", test_loss, 0.1, None, 10)}
    ended = Evaluation("train", train_loss, 0.1, None, 10)
    return Outcome(1, 1, ended, evaluations, Path("c"), False, Best(1, "test", test_loss), start)


@pytest.mark.parametrize(
    ("start", "train_loss", "test_loss", "diverged"),
    [
        (2.3, 2.4, 2.4, False),  # chance
        (2.3, 2.6, 2.4, True),
        (2.3, 0.1, 5.0, False),  # overfitting
        (2.3, 2.3, 2336.0, True),  # destroyed by its last steps
        (None, 1e19, 1e19, False),  # nobody knows: a run of before
    ],
)
def test_what_counts_as_diverged(
    start: float | None, train_loss: float, test_loss: float, diverged: bool
) -> None:
    assert outcome(start, train_loss, test_loss).diverged is diverged


def test_the_start_is_the_first_step(tmp_path: Path) -> None:
    config = small_config("images", tmp_path, epochs=2, batch_size=200)
    done = train(tmp_path / "run", config)
    task = build_task(config)
    first = task.model.loss_and_gradients(task.batch(0, 0))
    assert done.start == max(first.loss_sum / first.count, np.log(10))
    assert train(tmp_path / "run", {}).start == done.start


# -- the best checkpoint -----------------------------------------------------------------------------


class Keep(Reporter):
    """Keeps the checkpoint of each epoch's end."""

    def __init__(self, run: Run) -> None:
        self.run, self.kept = run, [b""]

    def on_epoch(self, info: EpochInfo) -> None:
        """At its end."""
        self.kept.append(self.run.checkpoint_path.read_bytes())


def test_the_best_epoch_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config("images", tmp_path, epochs=4)
    run = Run.create(tmp_path / "run", config)
    trainer = Trainer(build_task(config), run, keep := Keep(run))
    evaluate, losses = trainer.task.evaluate, iter([2.0, 1.5, 1.5, 1.8])

    def prophecy(split: str, progress: Any = None) -> Evaluation:
        result = evaluate(split, progress)
        return replace(result, loss=next(losses)) if split == "valid" else result

    monkeypatch.setattr(trainer.task, "evaluate", prophecy)
    assert trainer.train().best == Best(2, "valid", 1.5)  # the first of equals
    assert run.best_path.read_bytes() == keep.kept[2]
    assert run.checkpoint_path.read_bytes() not in keep.kept  # one with the test's result follows
    best, last = (open_task(run, which=which).model.params for which in ("best", "last"))
    tensors, meta = checkpoint.load(run.best_path)
    assert meta["epoch"] == 2
    for name, array in best.items():
        assert array.tobytes() == tensors[f"model.{name}"].tobytes()
    assert any(best[name].tobytes() != last[name].tobytes() for name in best)


def test_commands_take_the_one_asked_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert invoke(SMALL, "--epochs", "2", "--out", run).status == 0
    shutil.copy(run / "best.safetensors", tmp_path / "other")
    tensors, meta = checkpoint.load(run / "best.safetensors")
    zero = {name: np.zeros_like(array) for name, array in tensors.items()}
    checkpoint.save(run / "best.safetensors", zero, meta)
    best = invoke("evaluate", run, "--checkpoint", "best", "--json").json()
    assert best["loss"] == pytest.approx(np.log(10))  # a network of zeros guesses
    assert invoke("evaluate", run, "--json").json()["loss"] != best["loss"]
    (tmp_path / "image").write_bytes(b"\0\0\x08\x03\0\0\0\x01\0\0\0\x1c\0\0\0\x1c" + bytes(784))
    answer = invoke("predict", run, f"{tmp_path / 'image'}:0", "--checkpoint", "best", "--json").json()
    np.testing.assert_allclose(answer["predictions"][0]["probabilities"], 0.1)
    out = tmp_path / "w.npz"
    assert invoke("export", run, "--format", "npz", "--out", out, "--checkpoint", "best").status == 0
    with np.load(out) as arrays:
        assert not any(arrays[name].any() for name in arrays.files)


@pytest.mark.parametrize("first", [1, 2])
def test_killed_after_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """The best is written first: whoever dies before the other is written comes by again."""
    config = small_config("images", tmp_path, epochs=3, checkpoint_every=60.0)
    train(tmp_path / "whole", config)
    write, left, deaths = file_io.atomic_write, 0, 0

    def dying(path: Path, content: bytes, **more: Any) -> None:
        nonlocal left
        write(path, content, **more)
        left -= 1
        if left == 0:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(file_io, "atomic_write", dying)
        while deaths < 30:
            left = 1 + (deaths + first) % 2
            try:
                train(tmp_path / "run", config)
                break
            except Crash:
                deaths += 1
    assert 3 < deaths < 30
    for name in ("best.safetensors", "checkpoint.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_no_finite_numbers_names_both_checkpoints(tmp_path: Path) -> None:
    config = small_config("images", tmp_path, epochs=3)

    class Spoil(Reporter):
        def on_epoch(self, info: EpochInfo) -> None:
            trainer.task.model.params["output.bias"][0] = np.nan

    run = Run.create(tmp_path / "run", config)
    trainer = Trainer(build_task(config), run, Spoil())
    with pytest.raises(TrainingDiverged) as caught:
        trainer.train()
    text = str(caught.value)
    found = re.search(r", of step 21, loss (\S+) \((\S+) at the start\): (.*?checkpoint\.safetensors)", text)
    assert found
    assert 0 < float(found[1]) < 10
    assert found[2] == f"{trainer.start:.4g}"
    assert found[3] == str(run.checkpoint_path)
    assert text.endswith(f"the best, of epoch 1: {run.best_path}")


def test_moments_that_overflow_are_divergence(tmp_path: Path) -> None:
    """A parameter whose moment is infinite stands still for ever: no checkpoint of it is called sound."""
    config = small_config("images", tmp_path, epochs=1)
    run = Run.create(tmp_path / "run", config)
    trainer = Trainer(build_task(config), run)

    class Spoil(CrashAt):
        def on_step(self, info: Any) -> None:
            next(iter(trainer.optimizer.state_arrays().values())).reshape(-1)[0] = np.inf

    trainer.reporter = Spoil(1)
    with pytest.raises(TrainingDiverged, match=r"optimizer\.\w+\.rnn\.weight_ih_l0 is not finite"):
        trainer.train()
    assert checkpoint.not_finite(checkpoint.load(run.checkpoint_path)[0]) is None


# -- numbers that are not finite -------------------------------------------------------------------


class Poison(Reporter):
    """Makes a parameter NaN or infinite after some steps."""

    def __init__(self, name: str, value: float, steps: int) -> None:
        self.name, self.value, self.left = name, value, steps
        self.trainer: Trainer | None = None
        self.good = b""

    def on_step(self, info: StepInfo) -> None:
        """Count, and poison."""
        assert self.trainer is not None
        self.left -= 1
        if self.left == 0:
            self.good = self.trainer.run.checkpoint_path.read_bytes()
            self.trainer.task.model.params[self.name].reshape(-1)[0] = self.value


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("every", [0.0, 60.0])
@pytest.mark.parametrize("name", ["output.bias", "rnn.weight_hh_l0"])
def test_divergence_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, value: float, every: float, name: str
) -> None:
    config = small_config("images", tmp_path, checkpoint_every=every)
    poison = Poison(name, value, 3)
    poison.trainer = Trainer(build_task(config), Run.create(tmp_path / "run", config), poison)
    with pytest.raises(TrainingDiverged) as caught:
        poison.trainer.train()
    path = tmp_path / "run" / "checkpoint.safetensors"
    text = str(caught.value)
    for part in (f"step {4 if every else 3}", "learning rate", "gradient norm", str(path)):
        assert part in text
    assert "\n" not in text
    assert path.read_bytes() == poison.good
    assert all(np.all(np.isfinite(array)) for array in checkpoint.load(path)[0].values())


def test_a_huge_learning_rate_is_told(tmp_path: Path) -> None:
    config = small_config("images", tmp_path, optimizer="sgd", schedule="constant", lr=1e39, clip=0)
    with pytest.raises(TrainingDiverged, match="learning rate 1e\\+39"):
        train(tmp_path / "run", config)


def test_a_loss_that_is_no_number_on_another_split_is_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("images", tmp_path)
    trainer = Trainer(build_task(config), Run.create(tmp_path / "run", config))
    evaluate = trainer.task.evaluate

    def infinite(split: str, progress: Any = None) -> Evaluation:
        return replace(evaluate(split, progress), loss=math.inf)

    monkeypatch.setattr(trainer.task, "evaluate", infinite)
    with pytest.raises(TrainingDiverged, match=r"step 21 .*the loss on valid is inf, .*gradient norm 0"):
        trainer.train()
    _, meta = checkpoint.load(trainer.run.checkpoint_path)
    assert (meta["epoch"], meta["step"]) == (0, 21)
    assert all(line["kind"] == "step" for line in trainer.run.metrics())


def test_a_perplexity_beyond_all_numbers_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("text", tmp_path, epochs=1)
    trainer = Trainer(build_task(config), Run.create(tmp_path / "run", config))
    huge = Evaluation("valid", 800.0, None, math.inf, 5)
    monkeypatch.setattr(trainer.task, "evaluate", lambda split, progress=None: replace(huge, split=split))
    outcome = trainer.train()
    assert outcome.evaluations["test"].perplexity == math.inf
    assert trainer.run.metrics()[-1]["perplexity"] is None
    assert train(tmp_path / "run", config).evaluations == outcome.evaluations


# -- full disks --------------------------------------------------------------------------------------

_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from lstm_numba.cli.main import run
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(run(sys.argv[2:]))
"""


def test_a_file_that_cannot_grow_is_named(tmp_path: Path) -> None:
    """ "File too large" comes as "No space left on device" does: from a write, without a name."""
    pytest.importorskip("resource", reason="needs limits as POSIX has them")
    words = "train digits --images 60 --hidden 40 --validation 0"  # the second epoch is the best
    assert invoke(f"{words} --epochs 1 --threads 1 --out", tmp_path / "made").status == 0
    for limit, command, name in (
        (4000, ["export", "made", "--format", "npz", "--out", "w.npz"], "w.npz"),
        (4000, ["train", "digits", "--resume", "made", "--epochs", "2"], "made/best.safetensors"),
        (100, ["train", "digits", "--images", "20", "--hidden", "3", "--out", "new"], "new"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", _LIMITED, str(limit), *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"error: {name}: "), last
        assert last.endswith("File too large")
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "w.npz").exists()
    assert call("evaluate", "made", cwd=tmp_path).status == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_metrics_is_named(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._file.fileno())
    os.close(full)
    with pytest.raises(OSError, match="No space left on device") as caught, log:
        log.append({"loss": 1.0})
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
