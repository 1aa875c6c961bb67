"""Whole trainings of several ranks that are threads, against one process; without MPI.

In float64, where rounding is far below what any mistake would change: a lost row, another mask, a wrong
weight of a share.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from rank_threads import on_ranks
from series_tools import groups, series_config, waves
from tolerances import assert_close
from training_tools import few_digits, lines_without_times, small_config

from lstm_numba.data import digits
from lstm_numba.errors import TrainingDiverged
from lstm_numba.models.base import SequenceBatch
from lstm_numba.ranks import gradients
from lstm_numba.ranks.base import ALONE, Ranks
from lstm_numba.training import checkpoint, language_modeling
from lstm_numba.training.callbacks import Reporter, StepInfo
from lstm_numba.training.config import ConfigError
from lstm_numba.training.run import Run
from lstm_numba.training.signals import Interrupted
from lstm_numba.training.tasks import build_task
from lstm_numba.training.team import RanksDiffer
from lstm_numba.training.trainer import Trainer


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield
    numba.set_num_threads(threads)


def trained(folder: Path, config: Mapping[str, Any], size: int, prepare: Any = None) -> Run:
    """Begin a run on so many ranks, or go on with it; `prepare` is given each trainer."""
    fresh = not (folder / "config.json").exists()
    run = Run.create(folder, config) if fresh else Run.open(folder)

    def work(ranks: Ranks) -> None:
        own = Run(run.folder, run.config)
        trainer = Trainer(build_task(run.config, ranks=ranks), own)
        if prepare is not None:
            prepare(trainer)
        trainer.train()

    if size == 1:
        work(ALONE)
    else:
        on_ranks(size, work)
    return run


def assert_same(run: Run, other: Run) -> None:
    """The same parameters, moments, recurrent state, masks to come, and lines, but for rounding."""
    (tensors, meta), (wanted, truth) = (checkpoint.load(one.checkpoint_path) for one in (run, other))
    assert tensors.keys() == wanted.keys()
    for name, array in wanted.items():
        assert_close(tensors[name], array, "backward", name)
    assert meta["rng"] == truth["rng"]
    assert meta["settings"] == truth["settings"]
    for line, expected in zip(lines_without_times(run), lines_without_times(other), strict=True):
        assert line == {
            name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            for name, value in expected.items()
        }


def settings_of(kind: str, folder: Path) -> dict[str, Any]:
    """Small trainings of all kinds."""
    if kind == "images":  # 38 images to train on: the last batch has two
        config = small_config("images", folder, validation=12, epochs=2, dtype="float64")
        config["data"]["count"] = 50
        return config
    if kind == "text":
        return small_config("text", folder, dtype="float64", batch_size=5, epochs=1)
    if kind == "grammar":
        return small_config(
            "grammar", folder, cell="lstm", dtype="float64", batch_size=5, epochs=1, accumulate=2
        )
    if kind == "forecast":
        data = {"target": ["load"], "window": 8, "horizon": 2}
        return series_config([waves(folder / "waves.csv", 120)], data, dtype="float64", dropout=0.3)
    data = {"target": ["sum"], "group": "id", "task": "regress"}
    table = groups(folder / "groups.csv", 14, target="sum")
    return series_config([table], data, dtype="float64", dropout=0.3, batch_size=5)


@pytest.mark.parametrize("kind", ["images", "text", "grammar", "forecast", "sums of groups"])
def test_ranks_train_as_one(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_modeling, "_CONTEXT", 10)  # several rows of the short texts
    config = settings_of(kind, tmp_path)
    alone = trained(tmp_path / "1", config, 1)
    for size in (2, 3):
        assert_same(trained(tmp_path / str(size), config, size), alone)
    assert (tmp_path / "3" / "config.json").read_text() == (tmp_path / "1" / "config.json").read_text()


def test_ranks_drop_words_and_average_as_one(tmp_path: Path) -> None:
    options = {"dropout_kind": "sequence", "embedding_dropout": 0.2, "optimizer": "nt-asgd", "nonmono": 0}
    plain = {"momentum": 0.0, "nesterov": False, "epochs": 2}
    config = small_config("text", tmp_path, dtype="float64", batch_size=5, **options, **plain)

    def trigger(trainer: Trainer) -> None:
        trainer.optimizer.end_evaluation(0.0)  # any loss after it is higher

    alone = trained(tmp_path / "1", config, 1, trigger)
    names = checkpoint.load(alone.checkpoint_path)[0]
    assert any(name.startswith("raw.") for name in names)
    assert_same(trained(tmp_path / "2", config, 2, trigger), alone)


def test_rows_of_a_table_and_large_gradients_are_summed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, where every gradient is a bucket of its own, and few of many words are in a batch."""
    monkeypatch.setattr(gradients, "LARGE", 0)
    config = small_config("grammar", tmp_path, cell="lstm", dtype="float64", batch_size=4, bptt=5, epochs=1)
    config["data"]["tokens"] = 700
    gathered = []
    rows = gradients.GradientSum._gather_rows
    monkeypatch.setattr(
        gradients.GradientSum,
        "_gather_rows",
        lambda self, name, gradient: gathered.append(name) or rows(self, name, gradient),
    )
    alone = trained(tmp_path / "1", config, 1)
    assert_same(trained(tmp_path / "2", config, 2), alone)
    assert {*gathered} == {"embedding.weight"}


class SignalAt(Reporter):
    """Has one rank's trainer receive a signal after some steps."""

    def __init__(self, trainer: Trainer, steps: int) -> None:
        self.trainer, self.left = trainer, steps

    def on_step(self, info: StepInfo) -> None:
        """Count."""
        self.left -= 1
        if self.left == 0:
            self.trainer._signals.received = signal.SIGTERM


def stop_rank(which: int, steps: int) -> Any:
    """For `trained`: rank `which` alone gets a signal."""

    def prepare(trainer: Trainer) -> None:
        if trainer.ranks.rank == which:
            trainer.reporter = SignalAt(trainer, steps)

    return prepare


def test_a_run_goes_on_with_other_ranks(tmp_path: Path) -> None:
    """Two ranks, stopped by a signal that the second one gets; then one; then three, amid an epoch."""
    config = small_config("text", tmp_path, dtype="float64", epochs=2, batch_size=5, checkpoint_every=60.0)
    alone = trained(tmp_path / "1", config, 1)
    with pytest.raises(Interrupted) as stopped:
        trained(tmp_path / "n", config, 2, stop_rank(1, 5))
    assert (stopped.value.step, stopped.value.signum, stopped.value.alone) == (6, signal.SIGTERM, False)
    with pytest.raises(Interrupted):
        trained(tmp_path / "n", config, 1, stop_rank(0, 4))
    assert_same(trained(tmp_path / "n", config, 3), alone)


def test_ranks_that_differ_end_and_the_checkpoint_stays(tmp_path: Path) -> None:
    config = settings_of("images", tmp_path)
    with pytest.raises(Interrupted):
        trained(tmp_path / "n", config, 2, stop_rank(0, 2))
    before = (tmp_path / "n" / "checkpoint.safetensors").read_bytes()

    def change(trainer: Trainer) -> None:
        restore = trainer._restore

        def restored(*content: Any) -> None:
            restore(*content)
            if trainer.ranks.rank == 1:
                trainer.task.model.params["rnn.bias_ih_l1"][3] += 1e-9

        trainer._restore = restored  # type: ignore[method-assign]

    with pytest.raises(RanksDiffer, match=r"rank 1 has another rnn.bias_ih_l1 than rank 0"):
        trained(tmp_path / "n", config, 2, change)
    assert (tmp_path / "n" / "checkpoint.safetensors").read_bytes() == before


def test_a_nan_on_one_rank_ends_all_alike(tmp_path: Path) -> None:
    config = {**settings_of("images", tmp_path), "dropout": 0.0, "checkpoint_every": 60.0}
    texts = []

    def spoil(trainer: Trainer) -> None:
        share, train = trainer.task.share, trainer.train

        def spoilt(epoch: int, step: int) -> Any:
            found = share(epoch, step)
            if trainer.ranks.rank == 1 and step == 2:
                batch = found.batch
                found = found._replace(batch=SequenceBatch(batch.x * np.nan, batch.labels))
            return found

        def told() -> Any:
            try:
                return train()
            except TrainingDiverged as error:
                texts.append(str(error))
                raise

        trainer.task.share, trainer.train = spoilt, told  # type: ignore[method-assign]

    with pytest.raises(TrainingDiverged, match=r"step 3 .*the loss is nan"):
        trained(tmp_path / "n", config, 2, spoil)
    assert len(texts) == 2
    assert texts[0] == texts[1]
    _, meta = checkpoint.load(tmp_path / "n" / "checkpoint.safetensors")
    assert meta["steps"] == 0  # that of the beginning


def test_a_batch_has_a_row_for_each_rank(tmp_path: Path) -> None:
    config = {**settings_of("images", tmp_path), "batch_size": 2}
    with pytest.raises(ConfigError, match="batch_size: expected at least a row for each of 3 ranks, got 2"):
        trained(tmp_path / "n", config, 3)
