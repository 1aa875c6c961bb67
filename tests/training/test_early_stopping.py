"""Early stopping: when it stops, that it goes on, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from cli_tools import invoke
from training_tools import Crash, CrashAt, few_digits, small_config
from training_tools import foretold as foretold_by

from lstm_numba.data import digits
from lstm_numba.training.callbacks import Best, Outcome, Reporter
from lstm_numba.training.run import Run

#: Loss on valid after each epoch: lowest after the second one, and lower again after the seventh.
LOSSES = (2.0, 1.5, 1.6, 1.5, 1.9, 1.7, 1.4, 1.3, 1.35, 1.36)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Few images, and one thread: on a busy machine waking others costs more than these models compute."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield
    numba.set_num_threads(threads)


def foretold(folder: Path, config: dict[str, Any], reporter: Reporter | None = None, **more: Any) -> Outcome:
    """Train, or go on, with `LOSSES`."""
    return foretold_by(folder, config, LOSSES, reporter, **more)


def configuration(folder: Path, **more: Any) -> dict[str, Any]:
    """A training of up to eight epochs of three steps."""
    return small_config("images", folder, **{"epochs": 8, "batch_size": 80, "schedule": "constant", **more})


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (4, 6), (5, 8), (0, 8), (None, 8)])
def test_it_stops_so_many_epochs_after_the_best(tmp_path: Path, patience: int | None, epochs: int) -> None:
    outcome = foretold(tmp_path / "run", configuration(tmp_path, early_stopping=patience))
    assert (outcome.epochs, outcome.step, outcome.stopped_early) == (epochs, 3 * epochs, epochs < 8)
    assert outcome.best == (Best(2, "valid", 1.5) if epochs < 8 else Best(8, "valid", 1.3))


def test_crashed_and_resumed_it_stops_at_the_same_epoch(tmp_path: Path) -> None:
    config = configuration(tmp_path, early_stopping=3)
    whole = foretold(tmp_path / "whole", config)
    assert whole.epochs == 5
    for steps in (2, 6, 4, 1):
        with pytest.raises(Crash):
            foretold(tmp_path / "run", config, CrashAt(steps))
    outcome = foretold(tmp_path / "run", config)
    assert outcome._replace(checkpoint=whole.checkpoint) == whole
    assert outcome.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


def test_it_stays_stopped_until_it_is_given_more_patience(tmp_path: Path) -> None:
    config = configuration(tmp_path, early_stopping=2)
    stopped = foretold(tmp_path / "run", config)
    before = stopped.checkpoint.read_bytes()
    again = foretold(tmp_path / "run", config, epochs=10)
    assert again == stopped._replace(already_complete=True)
    assert stopped.checkpoint.read_bytes() == before
    further = foretold(tmp_path / "run", config, early_stopping=5)
    assert (further.epochs, further.stopped_early, further.best) == (10, False, Best(8, "valid", 1.3))
    # The same as with that patience from the start, but for the test result in between.
    whole = foretold(tmp_path / "whole", {**config, "epochs": 10, "early_stopping": 5})
    assert further._replace(checkpoint=whole.checkpoint) == whole
    kept, others = (
        [line for line in Run.open(tmp_path / name).metrics() if line["kind"] == "epoch"]
        for name in ("run", "whole")
    )
    assert [line["loss"] for line in kept] == [line["loss"] for line in others]


def test_less_patience_in_the_middle_of_an_epoch_ends_the_epoch(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    with pytest.raises(Crash):
        foretold(tmp_path / "run", config, CrashAt(3 * 5 + 2))
    outcome = foretold(tmp_path / "run", config, early_stopping=1)
    assert (outcome.epochs, outcome.step, outcome.stopped_early) == (6, 18, True)


def test_the_command_line_says_it(tmp_path: Path) -> None:
    """With a learning rate too small to change a number, no epoch is better than the first."""
    words = "train digits --images 60 --hidden 6 --batch-size 20 --threads 1 --lr 1e-30 --epochs 9"
    run = tmp_path / "run"
    answer = invoke(words, "--early-stopping", 2, "--out", run)
    assert answer.status == 0, answer.err
    assert f"(3 epochs, stopped early, {run})" in answer.out
    assert "stopped early: the loss on valid was lowest after epoch 1" in answer.err
    answer = invoke("train digits --resume", run, "--epochs", 12, "--json")
    found = answer.json()
    assert (found["epochs"], found["stopped_early"]) == (3, True)
    assert "the run has stopped early; --early-stopping N with N above 2, or 0, resumes it" in answer.err
    assert json.loads((run / "config.json").read_text())["epochs"] == 12
    found = invoke("train digits --resume", run, "--early-stopping", 4, "--json").json()
    assert (found["epochs"], found["stopped_early"]) == (5, True)
    found = invoke("train digits --resume", run, "--early-stopping", 0, "--epochs", 13, "--json").json()
    assert (found["epochs"], found["stopped_early"]) == (13, False)
    assert json.loads((run / "config.json").read_text())["early_stopping"] is None
