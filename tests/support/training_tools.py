"""Small runs for the tests of the training."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.data import digits
from lstm_numba.training.callbacks import Evaluation, Outcome, Reporter, StepInfo
from lstm_numba.training.config import make_config
from lstm_numba.training.run import Run
from lstm_numba.training.tasks import build_task
from lstm_numba.training.trainer import Trainer

_load_digits = digits.load
#: Test images of the small runs.
TEST_IMAGES = 150


@functools.cache
def few_digits(split: str, seed: int = 0, count: int | None = None) -> Any:
    """Stands for `lstm_numba.data.digits.load`: fewer test images, and drawn once only."""
    return _load_digits(split, seed, TEST_IMAGES if split == "test" else count)


def write_text(path: Path, characters: int = 1500) -> Path:
    """A text of a few letters with some order in it."""
    rng = np.random.default_rng(0)
    words = ["ab", "bca", "cab", "a", "dda"]
    text = ""
    while len(text) < characters:
        text += words[int(rng.integers(5))] + (" " if rng.random() < 0.9 else "\n")
    path.write_text(text, encoding="utf-8")
    return path


def small_config(kind: str, folder: Path, **more: Any) -> dict[str, Any]:
    """A configuration that trains in a second: "images", "text" or "grammar"."""
    options: dict[str, Any] = {"threads": None, "epochs": 2, "checkpoint_every": 0.0}
    if kind == "images":
        options.update(hidden=6, layers=2, dropout=0.3, batch_size=9, validation=12)
        data: dict[str, Any] = {"count": 200}
        dataset = "digits"
    elif kind == "text":
        options.update(
            hidden=8, layers=2, dropout=0.3, weight_drop=0.2, tie=True, batch_size=4, bptt=20, lr=0.5
        )
        options.update(optimizer="sgd", momentum=0.5, nesterov=True, schedule="plateau", patience=0, clip=1.0)
        data = {"file": str(write_text(folder / "text.txt"))}
        dataset = "text"
    else:
        options.update(
            hidden=8, cell="gru", init="orthogonal", batch_size=4, bptt=20, optimizer="rmsprop", lr=0.01
        )
        options.update(schedule="ptb", hold=1, clip_value=0.1)
        data = {"tokens": 1500}
        dataset = "grammar"
    options.update(more)
    return make_config(dataset, options, data=data)


def train(folder: Path, config: Mapping[str, Any], reporter: Reporter | None = None) -> Outcome:
    """Begin a run, or go on with it if the folder holds one."""
    run = Run.open(folder) if (folder / "config.json").exists() else Run.create(folder, config)
    return Trainer(build_task(run.config), run, reporter).train()


def lines_without_times(run: Run) -> list[dict[str, Any]]:
    """The metrics, but for how long things took."""
    return [{n: v for n, v in line.items() if n not in ("seconds", "rate")} for line in run.metrics()]


class Crash(Exception):
    """Stands for a process that ends in mid-step."""


class CrashAt(Reporter):
    """Raises `Crash` after so many steps of this process."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step(self, info: StepInfo) -> None:
        """Count, and crash."""
        self.left -= 1
        if self.left == 0:
            raise Crash


def foretold(
    folder: Path,
    config: Mapping[str, Any],
    losses: Sequence[float],
    reporter: Reporter | None = None,
    **more: Any,
) -> Outcome:
    """Train, or go on, where the loss on valid after each epoch is known before.

    `more` is changed in the configuration of the run.
    """
    run = Run.open(folder) if (folder / "config.json").exists() else Run.create(folder, config)
    run.config.update(more)
    trainer = Trainer(build_task(run.config), run, reporter)
    evaluate = trainer.task.evaluate

    def prophecy(split: str, progress: Any = None) -> Evaluation:
        result = evaluate(split, progress)
        foreseen = split == "valid" and trainer.epoch < len(losses)
        return replace(result, loss=losses[trainer.epoch]) if foreseen else result

    trainer.task.evaluate = prophecy  # type: ignore[method-assign]
    return trainer.train()
