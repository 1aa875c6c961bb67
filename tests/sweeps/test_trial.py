"""Trials that really train, stopped at every place where a process may end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep_tools import need_toml, small_sweep
from training_tools import Crash, CrashAt, few_digits, train

from lstm_numba.data import digits
from lstm_numba.errors import CheckpointError, DataError, UserError
from lstm_numba.training.callbacks import EpochInfo, Reporter
from lstm_numba.training.checkpoint import load
from lstm_numba.training.config import ConfigError

pytest.importorskip("optuna")
pytest.importorskip("fcntl")
need_toml()

from lstm_numba.sweeps.opening import open_sweep  # noqa: E402
from lstm_numba.sweeps.study import Sweep  # noqa: E402
from lstm_numba.sweeps.trial import Result, Surroundings, run_trial  # noqa: E402

AROUND = Surroundings(1, "cpu", None, lambda config: config, lambda config, steps: None)


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "load", few_digits)


def losses(folder: Path) -> dict[int, float]:
    """Loss on valid after each epoch, of which each must be there once."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [line for line in lines if line["kind"] == "epoch" and line["split"] == "valid"]
    assert [line["epoch"] for line in found] == list(range(1, len(found) + 1))
    return {line["epoch"]: line["loss"] for line in found}


def next_trial(
    folder: Path, head: str = "", reporter: Reporter | None = None, around: Surroundings = AROUND, **more: Any
) -> tuple[Result, list[Any]]:
    """Train a trial as a process of its own would; what came of it, and all trials afterwards."""
    sweep = open_sweep(small_sweep(folder, head, **more), folder / "sweep")
    try:
        claim = sweep.begin()
        assert claim is not None
        return run_trial(sweep, claim, around, reporter or Reporter()), sweep.trials()
    finally:
        sweep.close()


def test_a_trial_is_a_run_like_any_other(tmp_path: Path) -> None:
    result, (trial,) = next_trial(tmp_path)
    folder = tmp_path / "sweep" / "trial-0000"
    found = losses(folder)
    assert len(found) == 3
    assert trial.curve == found
    assert (result.state, trial.state) == ("complete", "complete")
    assert result.value == trial.value == min(found.values())
    config = small_sweep(tmp_path).run_config(trial.params, threads=1, device="cpu")
    train(tmp_path / "alone", config)
    names = ("config.json", "checkpoint.safetensors", "best.safetensors")
    assert all((tmp_path / "alone" / name).read_bytes() == (folder / name).read_bytes() for name in names)
    (final,) = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"test"' in line]
    assert trial.test["loss"] == json.loads(final)["loss"]


class CrashAfterEpoch(Reporter):
    """Ends between the checkpoint of an epoch and its report to the study."""

    def on_epoch(self, info: EpochInfo) -> None:
        """Crash."""
        raise Crash


def test_a_trial_goes_on_wherever_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path / "straight", tmp_path / "killed"):
        folder.mkdir()
    _, (straight,) = next_trial(tmp_path / "straight")
    killed = tmp_path / "killed"
    for crash in (CrashAt(2), CrashAfterEpoch(), CrashAt(3), CrashAfterEpoch(), CrashAfterEpoch()):
        with pytest.raises(Crash):
            next_trial(killed, reporter=crash)

    def die(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "complete", die)  # the run is complete, and the study does not know
        with pytest.raises(Crash):
            next_trial(killed)
    _, (trial,) = next_trial(killed)
    assert replace(trial, seconds=None) == replace(straight, seconds=None)
    assert losses(killed / "sweep" / "trial-0000") == trial.curve
    ends = [
        folder / "sweep" / "trial-0000" / "checkpoint.safetensors"
        for folder in (tmp_path / "straight", killed)
    ]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_a_trial_that_somebody_trained_to_its_end(tmp_path: Path) -> None:
    """By train --resume, of which the study knows nothing."""
    with pytest.raises(Crash):
        next_trial(tmp_path, reporter=CrashAfterEpoch())
    folder = tmp_path / "sweep" / "trial-0000"
    train(folder, {})
    result, (trial,) = next_trial(tmp_path)
    assert trial.curve == losses(folder)
    assert result.value == trial.value == min(losses(folder).values())


def test_a_trial_that_was_begun_and_has_no_folder_yet(tmp_path: Path) -> None:
    class Full(Exception):
        pass

    def full(config: Mapping[str, Any]) -> dict[str, Any]:
        raise Full

    with pytest.raises(Full):
        next_trial(tmp_path, around=AROUND._replace(complete=full))
    assert not (tmp_path / "sweep" / "trial-0000").exists()
    result, trials = next_trial(tmp_path)
    assert (result.state, len(trials)) == ("complete", 1)


def test_what_is_given_up_has_a_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Sweep.report

    def worse_in_epoch_2(self: Sweep, claim: Any, curve: Mapping[int, float]) -> bool:
        report(self, claim, curve)
        return len(curve) == 2

    monkeypatch.setattr(Sweep, "report", worse_in_epoch_2)
    result, (trial,) = next_trial(tmp_path)
    assert (result.state, trial.state, result.epochs) == ("pruned", "pruned", 2)
    _, meta = load(tmp_path / "sweep" / "trial-0000" / "checkpoint.safetensors")
    assert (meta["epoch"], meta["step"], meta["complete"]) == (2, 0, False)


def test_nothing_is_given_up_after_its_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Sweep.report
    asked: list[int] = []

    def always_in_the_end(self: Sweep, claim: Any, curve: Mapping[int, float]) -> bool:
        report(self, claim, curve)
        asked.append(len(curve))
        return len(curve) == 3

    monkeypatch.setattr(Sweep, "report", always_in_the_end)
    result, _ = next_trial(tmp_path)
    assert result.state == "complete"
    assert 3 in asked


def test_a_process_that_died_while_it_gave_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Crash):
        next_trial(tmp_path, reporter=CrashAfterEpoch())
    report = Sweep.report

    def worse(self: Sweep, claim: Any, curve: Mapping[int, float]) -> bool:
        report(self, claim, curve)
        return True

    monkeypatch.setattr(Sweep, "report", worse)
    result, (trial,) = next_trial(tmp_path)
    assert (result.state, result.epochs, dict(trial.curve)) == ("pruned", 1, {1: result.value})


def test_trials_that_cannot_be_trained_are_no_end_of_the_sweep(tmp_path: Path) -> None:
    ranges = "[ranges]\nlr = [1e38, 0.01]\nseed = [1, 2]"
    head = 'sampler = "grid"'
    result, _ = next_trial(tmp_path, head, ranges=ranges)
    assert result.state == "diverged"
    assert "diverged at step" in result.reason

    def refuse(kind: type[Exception]) -> Any:
        def fits(config: Mapping[str, Any], steps: int) -> None:
            raise kind("hidden", "too large") if kind is ConfigError else kind("too large")

        return AROUND._replace(fits=fits)

    for number, kind in enumerate((UserError, MemoryError), 1):
        result, trials = next_trial(tmp_path, head, around=refuse(kind), ranges=ranges)
        assert (result.state, result.reason) == ("failed", "too large")
        assert [trial.state for trial in trials] == ["diverged", *itertools.repeat("failed", number)]


def test_what_is_wrong_with_more_than_a_trial_ends_the_sweep(tmp_path: Path) -> None:
    def missing(config: dict[str, Any]) -> dict[str, Any]:
        raise DataError("the disk has gone")

    with pytest.raises(DataError):
        next_trial(tmp_path, around=AROUND._replace(complete=missing))
    folder = tmp_path / "sweep" / "trial-0000"
    train(folder, small_sweep(tmp_path).run_config({"lr": 0.5}, threads=1))
    with pytest.raises(CheckpointError, match=r"holds another run than trial 0 \(lr: 0\.5, expected"):
        next_trial(tmp_path)
    folder.rename(tmp_path / "away")
    result, trials = next_trial(tmp_path)
    assert (result.state, len(trials)) == ("complete", 1)
