"""``train --seeds``, ``train series --per-group``: each run is that of itself alone; all go on together."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import Answer, invoke
from series_tools import write_table

from lstm_numba.cli.set_training import Done, Failed, Job
from lstm_numba.training import checkpoint

SMALL = "--hidden 4 --batch-size 20 --schedule constant"
DIGITS = f"train digits --images 80 {SMALL}"
SERIES = "train series --group shop --target sales --window 3 --horizon 2 --hidden 4 --schedule constant"


def refused(answer: Answer, status: int, *fragments: str) -> None:
    """One line of error, and nothing on standard output."""
    assert answer.status == status, answer
    assert answer.out == ""
    line = answer.err.splitlines()[-1]
    assert line.startswith("error: "), answer.err
    for fragment in fragments:
        assert fragment in line, line


def succeeded(answer: Answer) -> Answer:
    """The answer, which must be no error."""
    assert answer.status == 0, answer.err
    return answer


def bits(folder: Path) -> list[bytes]:
    """What a run left that does not tell of time."""
    names = ("checkpoint.safetensors", "best.safetensors", "config.json")
    return [(folder / name).read_bytes() for name in names]


# -- seeds -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds, in two processes."""
    folder = tmp_path_factory.mktemp("sets") / "seeds"
    answer = succeeded(invoke(f"{DIGITS} --epochs 2 --seed 4 --seeds 3 --threads 2 --json --out", folder))
    (folder.parent / "answer.json").write_text(answer.out)
    return folder


@pytest.mark.smoke
def test_each_seed_is_that_of_itself_alone(seeds: Path, tmp_path: Path) -> None:
    for seed in (4, 6):
        alone = tmp_path / str(seed)
        succeeded(invoke(f"{DIGITS} --epochs 2 --seed {seed} --threads 1 --out", alone))
        assert bits(seeds / f"seed-{seed}") == bits(alone)
    assert bits(seeds / "seed-4")[0] != bits(seeds / "seed-5")[0]


def test_results_and_their_spread(seeds: Path) -> None:
    result = json.loads((seeds.parent / "answer.json").read_text())
    assert [run["seed"] for run in result["runs"]] == [4, 5, 6]
    losses = [run["loss"] for run in result["runs"]]
    for run in result["runs"]:
        alone = invoke("evaluate", seeds / f"seed-{run['seed']}", "--json").json()
        assert (run["loss"], run["accuracy"]) == (alone["loss"], alone["accuracy"])
    (found,) = result["summary"]
    assert (found["cell"], found["runs"], found["count"]) == ("lstm", 3, 3)
    assert found["loss"]["mean"] == pytest.approx(np.mean(losses))
    assert found["loss"]["deviation"] == pytest.approx(np.std(losses, ddof=1))
    assert found["loss"]["low"] < found["loss"]["mean"] < found["loss"]["high"]
    again = invoke("evaluate", seeds, "--json").json()
    assert again["summary"] == result["summary"]
    lines = invoke("evaluate", seeds).out.splitlines()
    assert [line.split()[0] for line in lines] == ["seed", "4", "5", "6", "mean", "standard", "95", "95"]
    assert f"{losses[1]:.4f}" in lines[2]
    assert "valid loss" in invoke("evaluate", seeds, "--split", "valid").out


def test_curves(seeds: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    files = invoke("plot", seeds, "--out", tmp_path, "--json").json()["files"]
    assert {Path(file).name for file in files} == {"comparison.png", "comparison.svg"}
    assert (seeds / "comparison.svg").read_bytes() == (tmp_path / "comparison.svg").read_bytes()
    refused(invoke("plot", seeds, "--threads", 1), 2, "--threads", "a set of runs")


def test_a_set_where_one_run_is_expected(seeds: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    named = ("is a set of 3 runs", str(seeds / "seed-4"), str(seeds / "seed-6"))
    for words in ("inspect", "sample", "stream"):
        refused(invoke(words, seeds), 1, *named)
    refused(invoke("predict", seeds, "x.png"), 1, *named)
    refused(invoke("plot", seeds, seeds / "seed-4"), 1, *named)
    refused(invoke("export", seeds, "--format", "torch", "--out", tmp_path / "x"), 1, *named)


def test_going_on_begins_what_is_missing_and_leaves_what_is_there(seeds: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(seeds, again)
    shutil.rmtree(again / "seed-5")  # never begun
    (again / "seed-6" / "checkpoint.safetensors").unlink()  # killed before its first checkpoint
    lines = invoke("evaluate", again).out.splitlines()
    assert [line.split() for line in lines[2:4]] == [["5", "not", "begun"], ["6", "no", "checkpoint"]]
    answer = succeeded(invoke("train digits --resume", again))
    assert "seed 5: test" in answer.err
    for seed in (4, 5, 6):
        assert bits(again / f"seed-{seed}") == bits(seeds / f"seed-{seed}")
    assert "all runs are complete" in succeeded(invoke("train digits --resume", again)).err


def test_a_run_that_has_not_ended_is_not_in_the_mean(seeds: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(seeds, again)
    lines = (again / "seed-6" / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[-1])["kind"] == "final"
    (again / "seed-6" / "metrics.jsonl").write_text("".join(lines[:-1]))
    found = invoke("evaluate", again, "--json").json()
    assert found["runs"][2]["error"] == "not complete"
    (summary,) = found["summary"]
    assert (summary["runs"], summary["count"]) == (3, 2)
    assert summary["loss"]["mean"] == pytest.approx(np.mean([run["loss"] for run in found["runs"][:2]]))


def test_more_epochs_for_all(seeds: Path, tmp_path: Path) -> None:
    grown = tmp_path / "grown"
    shutil.copytree(seeds, grown)
    result = succeeded(invoke("train digits --resume", grown, "--epochs", 3, "--json")).json()
    assert [run["epochs"] for run in result["runs"]] == [3, 3, 3]
    alone = tmp_path / "alone"
    succeeded(invoke(f"{DIGITS} --epochs 3 --seed 5 --threads 1 --out", alone))
    grown_up, whole = parameters(grown / "seed-5"), parameters(alone)
    for name, array in whole.items():
        np.testing.assert_array_equal(array, grown_up[name])


def test_cells_beside_each_other(tmp_path: Path) -> None:
    words = "--cell lstm --cell gru --epochs 1 --seeds 2 --threads 1 --out"
    lines = succeeded(invoke(DIGITS, *words.split(), tmp_path / "set")).out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["lstm", "2"], ["gru", "2"]]
    assert all(line.count("±") == 2 for line in lines[1:3])
    runs = sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("config.json"))
    assert runs == ["set/gru/seed-0", "set/gru/seed-1", "set/lstm/seed-0", "set/lstm/seed-1"]
    assert json.loads((tmp_path / "set/gru/seed-1/config.json").read_text())["cell"] == "gru"


def test_one_diverges_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_numba.cli import set_training

    train = set_training.train_member

    def diverging(job: Job, *more: Any) -> Any:
        if job.run.config["seed"] == 1:
            job.run.config["lr"], job.run.config["optimizer"] = 3e38, "sgd"
            job.run.config["clip"] = None
        return train(job, *more)

    monkeypatch.setattr(set_training, "train_member", diverging)
    answer = invoke(f"{DIGITS} --epochs 1 --seeds 3 --threads 1 --out", tmp_path / "set")
    assert answer.status == 1
    lines = answer.out.splitlines()
    assert lines[2].split() == ["1", "diverged"]
    assert lines[-1] == "1 run without a result is not in these numbers"
    assert lines[3].split()[0] == "2"
    last = answer.err.splitlines()[-1]
    assert last.startswith("error: 1 of 3 runs failed; seed 1: training diverged at step")


def test_a_wish_to_stop_that_came_before_the_training_is_obeyed(tmp_path: Path) -> None:
    from lstm_numba.cli.set_training import Stopped, train_member
    from lstm_numba.training.config import make_config
    from lstm_numba.training.run import Run

    settings = {"hidden": 4, "batch_size": 20, "threads": 1}
    run = Run.create(tmp_path, make_config("digits", settings, data={"count": 80}))
    assert train_member(Job(run, None, "cpu"), lambda report: None, lambda: True) == Stopped(signal.SIGTERM)
    _, meta = checkpoint.load(run.checkpoint_path)
    assert (meta["steps"], meta["complete"]) == (1, False)


def test_failures_are_told_apart(tmp_path: Path) -> None:
    from lstm_numba.cli.set_training import train_member
    from lstm_numba.training.config import make_config
    from lstm_numba.training.run import Run

    lost = make_config("text", {"hidden": 3, "threads": 1}, data={"file": str(tmp_path / "lost.txt")})
    found = train_member(Job(Run.create(tmp_path / "a", lost), None, "cpu"), print, lambda: False)
    assert isinstance(found, Failed)
    assert "lost.txt" in found.text
    assert not found.diverged


@pytest.mark.parametrize(
    ("words", "status", "fragments"),
    [
        ("train digits --seeds 0", 2, ["--seeds", "'0'", "from 1"]),
        ("train digits --seeds many", 2, ["--seeds", "'many'"]),
        ("train digits --seeds 10001", 2, ["--seeds", "10000"]),
        (
            "train digits --seeds 2 --seed 18446744073709551615",
            2,
            ["--seeds", "seed", "18446744073709551615"],
        ),
        ("train digits --seeds 2 --resume one", 2, ["--seeds", "--resume"]),
        ("train digits --seeds 2 --resume SET", 2, ["--seeds", "--resume"]),
        ("train digits --seeds 2 --out SET", 1, ["holds a set of runs", "--resume"]),
        ("train digits --seeds 2 --out SET/seed-4", 1, ["holds a run", "--resume"]),
        ("train grammar --resume SET", 2, ["digits", "lstm-numba train digits --resume"]),
        ("train digits --resume SET --hidden 5", 2, ["--hidden", "--resume"]),
        (
            "train digits --resume SET --epochs 1",
            2,
            ["--epochs", "more than the run has done, 2 epochs"],
        ),
        ("train digits --resume SET --cell gru", 1, ["--cell gru", "lstm"]),
        ("train digits --per-group", 2, ["--per-group is an option of series"]),
        ("train series shops.csv --per-group --seeds 2", 2, ["--seeds", "--per-group"]),
        ("train series shops.csv --per-group --cell rnn --cell gru", 2, ["--cell", "--per-group"]),
        ("train series shops.csv --target sales --per-group", 1, ["--per-group", "--group COLUMN"]),
        (
            "train series shops.csv --target sales --group shp --per-group",
            1,
            ["--group", "did you mean shop"],
        ),
        ("train series shops.csv --target sales --group shop --per-group --window 40", 1, ["no group", "40"]),
    ],
)
def test_refused_in_one_line(
    seeds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    status: int,
    fragments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shops(tmp_path / "shops.csv")
    shutil.copytree(seeds / "seed-4", tmp_path / "one")
    refused(invoke(words.replace("SET", str(seeds))), status, *fragments)
    assert not (tmp_path / "runs").exists()


# -- groups ------------------------------------------------------------------------------------------


def shops(path: Path, *only: str) -> Path:
    """Sales of shops by the day, of all or of some; one has too few rows."""
    columns: dict[str, list[Any]] = {"shop": [], "t": [], "sales": [], "rain": []}
    rng = np.random.default_rng(0)
    for number, (shop, days) in enumerate({"north": 60, "a/b": 50, "tiny": 4, "South": 70}.items()):
        rain = np.sin(np.arange(days) / (2 + number)) + 0.1 * rng.standard_normal(days)
        sales = 10 + 3 * np.roll(rain, 1)
        for day in range(days if not only or shop in only else 0):
            for name, value in zip(columns, (shop, day, float(sales[day]), float(rain[day])), strict=True):
                columns[name].append(value)
    return write_table(path, columns)


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for each shop."""
    folder = tmp_path_factory.mktemp("groups")
    shops(folder / "shops.csv")
    words = "--epochs 2 --per-group --json --out"
    answer = succeeded(invoke(SERIES, folder / "shops.csv", *words.split(), folder / "set"))
    (folder / "answer.json").write_text(answer.out)
    (folder / "told").write_text(answer.err)
    return folder


def parameters(run: Path) -> dict[str, Any]:
    """A model's, by name."""
    tensors, _ = checkpoint.load(run / "checkpoint.safetensors")
    return {name: array for name, array in tensors.items() if name.startswith("model.")}


def rows_of(text: str) -> list[dict[str, str]]:
    """Rows of CSV."""
    return list(csv.DictReader(io.StringIO(text)))


def test_each_group_is_that_of_itself_alone(groups: Path, tmp_path: Path) -> None:
    table = shops(tmp_path / "alone.csv", "South")
    words = SERIES.replace(" --group shop", "")
    result = succeeded(
        invoke(f"{words} --epochs 2 --threads 1 --json", table, "--out", tmp_path / "run")
    ).json()
    alone, member = parameters(tmp_path / "run"), parameters(groups / "set" / "South")
    assert alone.keys() == member.keys()
    for name, array in alone.items():
        np.testing.assert_array_equal(array, member[name])
    found = json.loads((groups / "answer.json").read_text())
    (mine,) = [run for run in found["runs"] if run["group"] == "South"]
    for name in ("loss", "mae", "rmse", "mase", "nse", "baselines"):
        assert mine[name] == result[name], name


def test_groups_and_what_they_have_in_common(groups: Path) -> None:
    found = json.loads((groups / "answer.json").read_text())
    assert {run["group"]: Path(run["run"]).name for run in found["runs"]} == {
        "north": "north",
        "a/b": "a-b",
        "South": "South",
    }
    errors = [run["mae"] for run in found["runs"]]
    assert found["overall"]["mae"]["mean"] == pytest.approx(np.mean(errors))
    assert found["overall"]["mae"]["median"] == pytest.approx(np.median(errors))
    best = [min(simple["mae"] for simple in run["baselines"].values()) for run in found["runs"]]
    assert found["overall"]["ratio"]["mean"] == pytest.approx(np.mean(np.divide(errors, best)))
    assert [*found["skipped"]] == ["tiny"]
    assert "group tiny is skipped: " in (groups / "told").read_text()
    assert "3 rows" in found["skipped"]["tiny"]
    again = invoke("evaluate", groups / "set", "--json").json()
    assert again["overall"] == found["overall"]
    lines = invoke("evaluate", groups / "set").out.splitlines()
    worst = max(range(3), key=lambda k: errors[k] / best[k])
    assert lines[1].split()[0] == found["runs"][worst]["group"]
    assert lines[4].startswith("3 groups: MAE mean")


def test_predictions_come_from_each_groups_own_model(groups: Path, tmp_path: Path) -> None:
    known = shops(tmp_path / "known.csv", "South", "a/b")
    rows = rows_of(succeeded(invoke("predict", groups / "set", known)).out)
    assert [row["shop"] for row in rows] == ["a/b", "a/b", "South", "South"]
    for shop, folder in (("a/b", "a-b"), ("South", "South")):
        table = shops(tmp_path / f"{folder}.csv", shop)
        alone = rows_of(succeeded(invoke("predict", groups / "set" / folder, table)).out)
        assert [row for row in rows if row["shop"] == shop] == alone
    made = invoke("predict", groups / "set", known, "--json").json()["predictions"]
    assert [row["sales"] for row in made] == [float(row["sales"]) for row in rows]
    gone = tmp_path / "gone.csv"
    answer = invoke("predict", groups / "set", gone, known)
    assert (answer.status, rows_of(answer.out)) == (1, rows)
    assert f"error: {gone}: " in answer.err
    refused(
        invoke("predict", groups / "set", groups / "shops.csv"), 1, "no model of the group tiny", "3 rows"
    )
    foreign = tmp_path / "foreign.csv"
    foreign.write_text(known.read_text().replace("South", "West"))
    refused(invoke("predict", groups / "set", foreign), 1, "foreign.csv", "no model of the group West")


def test_going_on_with_groups(groups: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(groups / "set", again)
    shutil.rmtree(again / "South")
    before = json.loads((groups / "answer.json").read_text())
    result = succeeded(invoke("train series --resume", again, "--json")).json()
    assert [run["loss"] for run in result["runs"]] == [run["loss"] for run in before["runs"]]
    moved = tmp_path / "moved.csv"
    shutil.copy(groups / "shops.csv", moved)
    result = succeeded(invoke("train series --resume", again, moved, "--epochs", 3, "--json")).json()
    assert [run["epochs"] for run in result["runs"]] == [3, 3, 3]


def test_files_as_groups(tmp_path: Path) -> None:
    files = [shops(tmp_path / f"{name}.csv", name.replace("_", "/")) for name in ("north", "a_b", "South")]
    words = SERIES.replace(" --group shop", "")
    succeeded(invoke(f"{words} --epochs 1 --per-group", *files[:2], "--out", tmp_path / "set"))
    rows = rows_of(succeeded(invoke("predict", tmp_path / "set", files[1])).out)
    assert [row["sequence"] for row in rows] == ["a_b", "a_b"]
    alone = rows_of(invoke("predict", tmp_path / "set" / "a_b", files[1]).out)
    assert rows == alone
    refused(invoke("predict", tmp_path / "set", files[2]), 1, "no model of the group South")


def test_done_is_what_a_process_can_send(groups: Path) -> None:
    import pickle

    from lstm_numba.cli.set_training import train_member
    from lstm_numba.training.run import Run

    found = train_member(Job(Run.open(groups / "set" / "north"), None, "cpu"), print, lambda: False)
    assert isinstance(found, Done)
    assert pickle.loads(pickle.dumps(found)) == found
