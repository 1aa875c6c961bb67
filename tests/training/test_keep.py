"""``--keep best``: what a training ends with, and that it goes on from its last epoch all the same."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from cli_tools import invoke
from training_tools import Crash, few_digits, foretold, small_config

from lstm_numba.data import digits
from lstm_numba.training import checkpoint
from lstm_numba.training.callbacks import Best, Outcome, Reporter
from lstm_numba.training.run import Run
from lstm_numba.training.tasks import open_task
from lstm_numba.training.trainer import Interrupted

LOSSES = (2.0, 1.5, 1.6, 1.7)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Few images, and one thread: on a busy machine waking others costs more than these models compute."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield
    numba.set_num_threads(threads)


def configuration(folder: Path, **more: Any) -> dict[str, Any]:
    """A training of four epochs of three steps that keeps the best."""
    options = {"epochs": 4, "batch_size": 80, "schedule": "constant", "keep": "best", **more}
    return small_config("images", folder, **options)


def tensors(path: Path) -> dict[str, bytes]:
    """The tensors of a checkpoint as bytes."""
    return {name: array.tobytes() for name, array in checkpoint.load(path)[0].items()}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Run]:
    """A training that was never stopped."""
    folder = tmp_path_factory.mktemp("kept")
    return foretold(folder / "run", configuration(folder), LOSSES), Run.open(folder / "run")


def test_the_best_epoch_is_tested_and_used(kept: tuple[Outcome, Run], tmp_path: Path) -> None:
    outcome, run = kept
    assert (outcome.best, outcome.epochs, outcome.kept_epoch) == (Best(2, "valid", 1.5), 4, 2)
    assert outcome.checkpoint == run.best_path
    best, last = open_task(run), open_task(run, which="last")
    assert best.evaluate("test") == outcome.evaluations["test"] != last.evaluate("test")
    assert best.evaluate("valid") == outcome.evaluations["valid"]
    (final,) = [line for line in run.metrics() if line["split"] == "test"]
    assert (final["epoch"], final["step"], final["loss"]) == (2, 6, outcome.evaluations["test"].loss)
    # With the last kept, the training is the same.
    other = foretold(tmp_path / "last", configuration(tmp_path, keep="last"), LOSSES)
    assert (other.kept_epoch, other.checkpoint) == (4, tmp_path / "last" / "checkpoint.safetensors")
    assert other.evaluations["test"] == last.evaluate("test")
    assert tensors(other.checkpoint) == tensors(run.checkpoint_path)


class AtTest(Reporter):
    """Does something while the test split is evaluated."""

    def __init__(self, deed: Any) -> None:
        self.deed = deed

    def on_evaluation(self, split: str, done: int, total: int) -> None:
        """Do it."""
        if split == "test":
            self.deed()


def _crash() -> None:
    raise Crash


def test_stopped_while_the_best_is_tested(kept: tuple[Outcome, Run], tmp_path: Path) -> None:
    """The parameters of the best epoch are in the model then, and must not reach the last checkpoint."""
    outcome, run = kept
    config = configuration(tmp_path)
    with pytest.raises(Crash):
        foretold(tmp_path / "run", config, LOSSES, AtTest(_crash))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Interrupted):
            foretold(tmp_path / "run", config, LOSSES, AtTest(lambda: signal.raise_signal(signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert tensors(tmp_path / "run" / "checkpoint.safetensors") == tensors(run.checkpoint_path)
    again = foretold(tmp_path / "run", config, LOSSES)
    assert again == outcome._replace(checkpoint=again.checkpoint)
    for name in ("checkpoint.safetensors", "best.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (run.folder / name).read_bytes()


def test_more_epochs_go_on_from_the_last_one(kept: tuple[Outcome, Run], tmp_path: Path) -> None:
    _, run = kept
    shutil.copytree(run.folder, tmp_path / "run")
    longer = (*LOSSES, 1.4, 1.8)
    further = foretold(tmp_path / "run", {}, longer, epochs=6)
    whole = foretold(tmp_path / "whole", configuration(tmp_path, epochs=6), longer)
    assert further._replace(checkpoint=whole.checkpoint) == whole
    assert further.kept_epoch == 5
    for name in ("checkpoint.safetensors", "best.safetensors"):
        assert tensors(tmp_path / "run" / name) == tensors(tmp_path / "whole" / name)


def test_commands_take_the_best_by_default(kept: tuple[Outcome, Run], tmp_path: Path) -> None:
    outcome, run = kept
    found = invoke("evaluate", run.folder, "--json").json()
    last = invoke("evaluate", run.folder, "--checkpoint", "last", "--json").json()
    assert found["loss"] == outcome.evaluations["test"].loss != last["loss"]
    for name, more in (("kept", ()), ("best", ("--checkpoint", "best")), ("last", ("--checkpoint", "last"))):
        words = ("--format", "npz", "--out", tmp_path / f"{name}.npz")
        assert invoke("export", run.folder, *words, *more).status == 0
    weights = {}
    for name in ("kept", "best", "last"):
        with np.load(tmp_path / f"{name}.npz") as arrays:
            weights[name] = arrays["output.weight"].tobytes()
    assert weights["kept"] == weights["best"] != weights["last"]
    answer = invoke("train digits --resume", run.folder)
    assert f"(epoch 2 of 4 epochs, {run.folder})" in answer.out
    assert invoke("train digits --resume", run.folder, "--json").json()["kept_epoch"] == 2


def test_before_the_first_epoch_there_is_only_the_last(tmp_path: Path) -> None:
    class AtStep(Reporter):
        def on_step(self, info: Any) -> None:
            raise Crash

    with pytest.raises(Crash):
        foretold(tmp_path / "run", configuration(tmp_path), LOSSES, AtStep())
    assert open_task(tmp_path / "run").evaluate("test").count == 150
