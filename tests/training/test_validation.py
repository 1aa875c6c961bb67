"""The validation split by default; the test split is looked at once, at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from training_tools import Crash, CrashAt, few_digits, small_config, train

from lstm_numba.data import digits
from lstm_numba.errors import UserError
from lstm_numba.training import checkpoint
from lstm_numba.training.callbacks import Best, Evaluation
from lstm_numba.training.config import make_config
from lstm_numba.training.run import Run
from lstm_numba.training.tasks import build_task
from lstm_numba.training.trainer import Trainer


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Few images, and one thread: on a busy machine waking others costs more than these models compute."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield
    numba.set_num_threads(threads)


def test_images_are_held_out_by_default() -> None:
    assert [make_config(name)["validation"] for name in ("mnist", "digits")] == [0.1, 0.1]
    assert [make_config(name)["validation"] for name in ("ptb", "grammar")] == [0, 0]
    for count, held in ((200, 20), (39, 3), (9, 1), (2, 1)):
        task: Any = build_task(make_config("digits", data={"count": count}))
        assert task.splits == ("train", "valid", "test")
        assert (len(task.images("train")), len(task.images("valid"))) == (count - held, held)
    with pytest.raises(UserError, match=r"validation: expected 0 with a single image, got 0\.1"):
        build_task(make_config("digits", data={"count": 1}))


def watched(folder: Path, config: dict[str, Any]) -> tuple[list[tuple[int, str]], Trainer]:
    """Train, and note which splits are evaluated after how many epochs."""
    run = Run.open(folder) if (folder / "config.json").exists() else Run.create(folder, config)
    trainer = Trainer(build_task(run.config), run)
    evaluate = trainer.task.evaluate
    seen: list[tuple[int, str]] = []

    def note(split: str, progress: Any = None) -> Evaluation:
        seen.append((trainer.optimizer.steps // trainer.task.steps_per_epoch, split))
        return evaluate(split, progress)

    trainer.task.evaluate = note  # type: ignore[method-assign]
    trainer.train()
    return seen, trainer


def test_the_test_split_is_evaluated_once(tmp_path: Path) -> None:
    for kind in ("images", "text"):
        seen, _ = watched(tmp_path / kind, small_config(kind, tmp_path))
        assert seen == [(1, "valid"), (2, "valid"), (2, "test")]
    seen, trainer = watched(tmp_path / "none", small_config("images", tmp_path, validation=0))
    assert seen == [(2, "test")]
    lines = [line for line in trainer.run.metrics() if line["kind"] != "step"]
    assert [(line["kind"], line["split"]) for line in lines] == [
        ("epoch", "train"),
        ("epoch", "train"),
        ("final", "test"),
    ]
    losses = [line["loss"] for line in lines[:2]]
    assert trainer.best == Best(1 + losses.index(min(losses)), "train", min(losses))


def test_without_validation_a_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    config = small_config("images", tmp_path, validation=0, schedule="plateau", patience=0)
    train(tmp_path / "whole", config)
    for steps in (5, 20, 10):
        with pytest.raises(Crash):
            train(tmp_path / "run", config, CrashAt(steps))
    train(tmp_path / "run", config)
    for name in ("checkpoint.safetensors", "best.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_that_has_looked_at_the_test_split_goes_on(tmp_path: Path) -> None:
    """Earlier versions evaluated it after every epoch where there was no other to watch."""
    config = small_config("images", tmp_path, validation=0)
    expected = train(tmp_path / "whole", config)
    with pytest.raises(Crash):
        train(tmp_path / "run", config, CrashAt(30))  # in its second epoch
    path = tmp_path / "run" / "checkpoint.safetensors"
    tensors, meta = checkpoint.load(path)
    assert meta["evaluations"] == {}
    meta["evaluations"] = {"test": {"split": "test", "loss": 9.0, "accuracy": 0.5, "count": 150}}
    checkpoint.save(path, tensors, meta)
    outcome = train(tmp_path / "run", config)
    assert outcome._replace(checkpoint=expected.checkpoint) == expected
    assert path.read_bytes() == expected.checkpoint.read_bytes()
