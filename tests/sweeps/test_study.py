"""The trials of a study, without training: each is begun once, none is lost, and the values are reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sweep_tools import need_toml, small_sweep

from lstm_numba.sweeps.config import SweepConfig
from lstm_numba.sweeps.ranges import SweepError

pytest.importorskip("optuna")
pytest.importorskip("fcntl")
need_toml()

from lstm_numba.sweeps.opening import open_sweep  # noqa: E402
from lstm_numba.sweeps.report import document  # noqa: E402
from lstm_numba.sweeps.study import Claim, Sweep  # noqa: E402

TWO = "[ranges]\nlr = {low = 1e-3, high = 1e-1, log = true}\nlayers = [1, 2]"


@contextmanager
def opened(config: SweepConfig, folder: Path, url: str | None = None, begin: bool = True) -> Iterator[Sweep]:
    """A sweep as one process has it; afterwards that process is gone."""
    sweep = open_sweep(config, folder, url, begin)
    try:
        yield sweep
    finally:
        sweep.close()


def begun(sweep: Sweep) -> Claim:
    claim = sweep.begin()
    assert claim is not None
    return claim


def end(sweep: Sweep, claim: Claim, losses: tuple[float, ...]) -> None:
    sweep.report(claim, dict(enumerate(losses, 1)))
    sweep.complete(claim, {"loss": 0.5, "perplexity": float("inf")})


def test_the_value_is_that_of_the_best_epoch(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    with opened(small_sweep(tmp_path, "trials = 2"), folder) as sweep:
        end(sweep, begun(sweep), (3.0, 1.0, 2.0))
        end(sweep, begun(sweep), (4.0, 2.0, 5.0))
        assert sweep.begin() is None
        found = document(sweep)
    first = found["trials"][0]
    assert (first["trial"], first["value"], first["best_epoch"], first["epochs"]) == (0, 1.0, 2, 3)
    assert first["test"] == {"loss": 0.5}  # JSON has no infinity
    assert found["best"] == first
    assert found["counts"] == {"complete": 2}


def test_more_may_be_better(tmp_path: Path) -> None:
    with opened(small_sweep(tmp_path, 'metric = "accuracy"\ntrials = 2'), tmp_path / "sweep") as sweep:
        end(sweep, begun(sweep), (0.1, 0.3, 0.2))
        end(sweep, begun(sweep), (0.5, 0.4, 0.4))
        found = document(sweep)
    assert [(row["trial"], row["value"], row["best_epoch"]) for row in found["trials"]] == [
        (1, 0.5, 1),
        (0, 0.3, 2),
    ]


def test_an_abandoned_trial_goes_on_as_itself_and_first(tmp_path: Path) -> None:
    config, folder = small_sweep(tmp_path, "trials = 2", TWO), tmp_path / "sweep"
    with opened(config, folder) as sweep:
        first = begun(sweep)
        sweep.report(first, {1: 3.0})
    with opened(config, folder) as sweep:
        assert [trial.state for trial in sweep.trials()] == ["abandoned"]
        again = begun(sweep)
        assert again[1:4] == first[1:4]  # number, settings, folder
        assert (first.again, again.again) == (False, True)
        assert [trial.state for trial in sweep.trials()] == ["running"]
        other = begun(sweep)  # and not the first once more
        assert other.number == 1
        end(sweep, again, (3.0, 2.0))
        end(sweep, other, (1.0,))
        assert sweep.begin() is None
        assert [dict(trial.curve) for trial in sweep.trials()] == [{1: 3.0, 2: 2.0}, {1: 1.0}]


def test_a_sweep_that_was_killed_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    config = small_sweep(tmp_path, "trials = 6\nstartup_trials = 3", TWO)

    def all_params(folder: Path, killed: bool) -> list[dict[str, object]]:
        while True:
            with opened(config, folder) as sweep:
                claim = sweep.begin()
                if claim is not None and killed and not claim.again:
                    continue  # its process is gone
                while claim is not None:
                    end(sweep, claim, (abs(claim.params["lr"] - 0.01),))
                    if killed:
                        break
                    claim = sweep.begin()
                if claim is None:
                    return [dict(trial.params) for trial in sweep.trials()]

    straight = all_params(tmp_path / "straight", killed=False)
    assert all_params(tmp_path / "killed", killed=True) == straight
    assert len({params["lr"] for params in straight}) == 6


def test_processes_with_one_seed_draw_different_values(tmp_path: Path) -> None:
    with opened(small_sweep(tmp_path, "trials = 9"), tmp_path / "sweep") as sweep:
        claims = [begun(sweep) for _ in range(9)]
    assert len({claim.params["lr"] for claim in claims}) == 9


def test_a_condition_decides_what_is_drawn(tmp_path: Path) -> None:
    ranges = '[ranges]\noptimizer = ["adam", "sgd"]\n'
    ranges += 'momentum = {low = 0.1, high = 0.9, when = {optimizer = "sgd"}}'
    with opened(small_sweep(tmp_path, "trials = 12", ranges), tmp_path / "sweep") as sweep:
        drawn = [begun(sweep).params for _ in range(12)]
    assert {params["optimizer"] for params in drawn} == {"adam", "sgd"}
    assert all(("momentum" in params) == (params["optimizer"] == "sgd") for params in drawn)


def test_a_grid_is_drawn_once_each_by_folders_of_one_database(tmp_path: Path) -> None:
    ranges = "[ranges]\ncell = ['lstm', 'gru']\nlayers = {low = 1, high = 2}"
    config = small_sweep(tmp_path, 'sampler = "grid"\nname = "grid"', ranges)
    url = f"sqlite:///{tmp_path / 'common.db'}"
    with opened(config, tmp_path / "here", url) as here, opened(config, tmp_path / "there", url) as there:
        claims = [begun(sweep) for sweep in (here, there, here, there)]
        assert [claim.params for claim in claims] == config.grid()
        assert here.begin() is None
        assert [trial.state for trial in here.trials()] == ["running", "elsewhere"] * 2
    with opened(config, tmp_path / "here", url) as here:  # goes on with its own only
        again = [begun(here), begun(here)]
        assert [claim.number for claim in again] == [0, 2]
        assert here.begin() is None


def test_a_trial_too_many_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_sweep(tmp_path, 'trials = 1\nname = "one"')
    url = f"sqlite:///{tmp_path / 'common.db'}"
    with opened(config, tmp_path / "here", url) as here, opened(config, tmp_path / "there", url) as there:
        end(here, begun(here), (1.0,))
        counting, looked = there._counting, [False]

        def late() -> list[Any]:  # as if both had looked at the same time
            found = counting() if looked[0] else []
            looked[0] = True
            return found

        monkeypatch.setattr(there, "_counting", late)
        assert there.begin() is None
        assert [trial.number for trial in here.trials()] == [0]
        assert len(here._study.get_trials()) == 2


def test_a_trial_that_kills_its_process_is_given_up(tmp_path: Path) -> None:
    config, folder = small_sweep(tmp_path, "trials = 1"), tmp_path / "sweep"
    for _ in range(5):
        with opened(config, folder) as sweep:
            assert begun(sweep).number == 0
    with opened(config, folder) as sweep:
        assert sweep.begin() is None
        (trial,) = sweep.trials()
    assert trial.state == "failed"
    assert "died 5 times" in trial.reason


@pytest.mark.parametrize("clean", [True, False])
def test_an_epoch_or_a_clean_stop_gives_a_trial_more_attempts(clean: bool, tmp_path: Path) -> None:
    config, folder = small_sweep(tmp_path, "trials = 1"), tmp_path / "sweep"
    for attempt in range(7):
        with opened(config, folder) as sweep:
            claim = begun(sweep)
            if attempt == 3 and clean:
                sweep.leave(claim)
            elif attempt == 3:
                sweep.report(claim, {1: 1.0})
    with opened(config, folder) as sweep:
        assert begun(sweep).again


def test_the_median_gives_up_what_is_worse_but_not_at_once(tmp_path: Path) -> None:
    with opened(small_sweep(tmp_path, "trials = 9\nwarmup_epochs = 1"), tmp_path / "sweep") as sweep:
        for loss in (1.0, 2.0, 3.0, 4.0, 5.0):  # the median needs some
            claim = begun(sweep)
            assert not sweep.report(claim, {1: loss, 2: loss})
            sweep.complete(claim, {})
        claim = begun(sweep)
        assert not sweep.report(claim, {1: 3.5})
        assert sweep.report(claim, {1: 3.5, 2: 3.5})
        sweep.give_up(claim, "pruned")
        claim = begun(sweep)
        assert not sweep.report(claim, {1: 2.5, 2: 2.5})
        sweep.give_up(claim, "diverged", "the loss is nan")
        claim = begun(sweep)
        sweep.give_up(claim, "failed", "it does not fit")
        states = [(trial.state, trial.reason) for trial in sweep.trials()[5:]]
    assert states == [("pruned", ""), ("diverged", "the loss is nan"), ("failed", "it does not fit")]


def test_without_a_pruner_nothing_is_given_up(tmp_path: Path) -> None:
    with opened(small_sweep(tmp_path, 'trials = 9\npruner = "none"'), tmp_path / "sweep") as sweep:
        for loss in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 50.0):
            claim = begun(sweep)
            assert not sweep.report(claim, {1: loss, 2: loss})
            sweep.complete(claim, {})


def test_the_number_of_trials_may_grow_and_nothing_else_may_change(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    with opened(small_sweep(tmp_path, "trials = 1", TWO), folder) as sweep:
        end(sweep, begun(sweep), (1.0,))
        assert sweep.begin() is None
    with opened(small_sweep(tmp_path, 'trials = 2\npruner = "none"', TWO), folder) as sweep:
        assert begun(sweep).number == 1
    for head, ranges, complaint in (
        ("", TWO.replace("1e-1", "2e-1"), r"ranges\.lr: was \{low = 0\.001, high = 0\.1, .*high = 0\.2"),
        ("", TWO.replace("[1, 2]", "[1, 3]"), r"ranges\.layers: was \[1, 2\], is \[1, 3\]"),
        ("", TWO + "\nheads = [1, 2]", r"ranges\.heads: was not there, is \[1, 2\]"),
        ('metric = "accuracy"', TWO, "metric: was 'loss', is 'accuracy'"),
        ('sampler = "grid"', TWO.replace(", log = true", ", step = 0.099"), "a grid cannot follow another"),
    ):
        with pytest.raises(SweepError, match=complaint):
            open_sweep(small_sweep(tmp_path, head, ranges), folder)


def test_settings_may_change_while_there_is_no_trial(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    with opened(small_sweep(tmp_path), folder):
        pass
    with opened(small_sweep(tmp_path, "", TWO), folder) as sweep:
        assert set(begun(sweep).params) == {"lr", "layers"}


def test_what_mattered(tmp_path: Path) -> None:
    with opened(small_sweep(tmp_path, 'sampler = "random"\ntrials = 15', TWO), tmp_path / "sweep") as sweep:
        for _ in range(15):
            claim = begun(sweep)
            end(sweep, claim, (claim.params["lr"] + 1e-5 * claim.params["layers"],))
        found = document(sweep)
    lr, layers = found["settings"]
    assert (lr["name"], layers["name"]) == ("lr", "layers")
    assert lr["importance"] > 0.8
    assert lr["importance"] + layers["importance"] == pytest.approx(1.0)
    assert lr["correlation"] > 0.95
    low, high = lr["best"]
    values = sorted(row["params"]["lr"] for row in found["trials"])
    assert (low, high) == (values[0], values[2])  # the best three
    assert found["top"] == 3
    assert set(layers["best"]) <= {1, 2}


def test_little_is_told_of_few_trials(tmp_path: Path) -> None:
    with opened(small_sweep(tmp_path, "trials = 3"), tmp_path / "sweep") as sweep:
        for _ in range(3):
            claim = begun(sweep)
            end(sweep, claim, (claim.params["lr"],))
        (row,) = document(sweep)["settings"]
    assert (row["importance"], row["correlation"], row["best"]) == (None, None, None)


def test_a_report_makes_nothing(tmp_path: Path) -> None:
    config = small_sweep(tmp_path)
    for url in (None, f"sqlite:///{tmp_path / 'none.db'}"):
        with pytest.raises(SweepError, match="no study yet"):
            open_sweep(config, tmp_path / "none", url, begin=False)
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "none.db").exists()


def test_databases_that_cannot_be_opened(tmp_path: Path) -> None:
    config, folder = small_sweep(tmp_path), tmp_path / "sweep"
    folder.mkdir()
    (folder / "study.db").write_bytes(b"not a database" * 100)
    with pytest.raises(SweepError, match="not a database"):
        open_sweep(config, folder)
    with pytest.raises(SweepError, match="unable to open"):
        open_sweep(config, tmp_path / "a", f"sqlite:///{tmp_path}/no/such.db")
    with pytest.raises(SweepError) as caught:
        open_sweep(config, tmp_path / "b", "nonsense://me:secret@host/x")
    assert "secret" not in str(caught.value)
    with opened(config, tmp_path / "odd %?#name") as sweep:
        begun(sweep)
    assert (tmp_path / "odd %?#name" / "study.db").exists()
