"""Runs on a user's own series: batches, measures, baselines, what is kept, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from series_tools import groups, series_config, waves, write_table
from training_tools import Crash, CrashAt, lines_without_times, train

from lstm_numba.data.series import load_series
from lstm_numba.errors import CheckpointError, DataError, UserError
from lstm_numba.training.config import ConfigError
from lstm_numba.training.run import Run
from lstm_numba.training.series import SeriesTask
from lstm_numba.training.series_description import SeriesDescription
from lstm_numba.training.series_prediction import SeriesStream, heading, predictions, read_inputs
from lstm_numba.training.tasks import build_task, open_task

FORECAST: dict[str, Any] = {"target": ["load"], "window": 5, "horizon": 3}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(threads)


class Made:
    """Runs of the four kinds, trained once; their tables are not to be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.forecast = self._train("forecast", waves(folder / "waves.csv"), {**FORECAST, "loss": "quantile"})
        for target in ("kind", "slope", "sum"):
            table = groups(folder / f"{target}.csv", target=target)
            task = {"target": [target], "group": "id", "task": "classify" if target == "kind" else "regress"}
            setattr(self, target, self._train(target, table, task))

    def _train(self, name: str, table: Path, data: dict[str, Any]) -> Path:
        train(self.folder / name, series_config([table], data))
        return self.folder / name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """See `Made`."""
    return Made(tmp_path_factory.mktemp("series"))


def opened(folder: Path, **more: Any) -> SeriesTask:
    """The task of a run."""
    task = open_task(folder, **more)
    assert isinstance(task, SeriesTask)
    return task


# -- batches -----------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_batches_are_standardised_windows(tmp_path: Path) -> None:
    task = build_task(series_config([waves(tmp_path / "a.csv")], FORECAST, dtype="float64"))
    raw = np.genfromtxt(tmp_path / "a.csv", delimiter=",", skip_header=1, usecols=(1, 2))
    found = {}
    for step in range(task.steps_per_epoch):
        batch = task.batch(0, step)
        for k in range(batch.x.shape[1]):
            window = batch.x[:, k] * task.description.inputs.scale + task.description.inputs.mean
            first = int(np.argmin(np.abs(raw[:, 0] - window[0, 0])))
            np.testing.assert_allclose(window, raw[first : first + 5], rtol=1e-12)
            target = (
                batch.labels[k].reshape(3, 1) * task.description.outputs.scale + task.description.outputs.mean
            )
            np.testing.assert_allclose(target, raw[first + 5 : first + 8, :1], rtol=1e-12)
            found[first] = True
    assert sorted(found) == list(range(140 - 8 + 1))
    windows = np.concatenate([raw[first : first + 5] for first in found])
    np.testing.assert_allclose(task.description.inputs.mean, windows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(task.description.inputs.scale, windows.std(axis=0), rtol=1e-12)


def test_missing_targets_weigh_nothing(tmp_path: Path) -> None:
    path = waves(tmp_path / "a.csv")
    lines = path.read_text().splitlines()
    lines[50] = lines[50].split(",")[0] + ",," + lines[50].split(",")[2]
    path.write_text("\n".join(lines) + "\n")
    task = build_task(series_config([path], FORECAST))
    assert isinstance(task, SeriesTask)
    items = task.items("train")
    weights = [items.gather(np.array([k]), np.float32).weights for k in range(len(items))]
    missing = {k: np.flatnonzero(w == 0).tolist() for k, w in enumerate(weights) if w is not None}
    assert missing == {42: [2], 43: [1], 44: [0]}  # line 51 is row 49
    assert any("1 missing values of load" in remark for remark in task.notes)


def test_missing_numbers_to_regress_weigh_nothing(tmp_path: Path) -> None:
    lines = groups(tmp_path / "a.csv", target="sum").read_text().splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:3], ""])
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    task = build_task(
        series_config([tmp_path / "a.csv"], {"target": ["sum"], "group": "id", "task": "regress"})
    )
    assert isinstance(task, SeriesTask)
    pieces = task.data.sequences[:2]  # the first step of the first group has no target
    batch = task.items_of(pieces).gather(np.arange(2), np.float64)
    assert batch.weights is not None
    assert batch.weights[0, :, 0].tolist() == [0, 1]
    assert batch.weights[1:, 0].sum() == pieces[0].steps - 1
    expected = (pieces[0].y[1:, 0] - task.description.outputs.mean) / task.description.outputs.scale
    np.testing.assert_allclose(batch.labels[1 : pieces[0].steps, 0, 0], expected, rtol=1e-12)


def test_scale_none_leaves_the_numbers(tmp_path: Path) -> None:
    task = build_task(
        series_config([waves(tmp_path / "a.csv")], {**FORECAST, "scale": "none"}, dtype="float64")
    )
    raw = np.genfromtxt(tmp_path / "a.csv", delimiter=",", skip_header=1, usecols=(1, 2))
    assert isinstance(task, SeriesTask)
    np.testing.assert_array_equal(task.items("train").gather(np.array([0]), np.float64).x[:, 0], raw[:5])


# -- results -----------------------------------------------------------------------------------------


def test_measures_are_those_of_the_forecasts(made: Any) -> None:
    task = opened(made.forecast)
    result = task.evaluate("test")
    load = np.genfromtxt(made.folder / "waves.csv", delimiter=",", skip_header=1, usecols=1)
    true, answers = task.compared("test")
    expected = np.stack([load[160 + 5 + k : 160 + 8 + k] for k in range(40 - 8 + 1)])
    np.testing.assert_array_equal(true[..., 0], expected)
    error = answers[..., 0] - expected
    np.testing.assert_allclose(result.measures["mae"], np.abs(error).mean(), rtol=1e-12)
    np.testing.assert_allclose(result.measures["rmse"], np.sqrt((error**2).mean()), rtol=1e-12)
    season = task.description.season or 1
    naive = np.abs(load[season:140] - load[: 140 - season]).mean()
    np.testing.assert_allclose(result.measures["mase"], np.abs(error).mean() / naive, rtol=1e-12)
    spread = ((expected - expected.mean()) ** 2).sum()
    np.testing.assert_allclose(result.measures["nse"], 1 - (error**2).sum() / spread, rtol=1e-12)
    assert result.count == expected.size


def test_baselines_are_in_the_same_units(made: Any) -> None:
    found, _ = opened(made.forecast).baselines()
    load = np.genfromtxt(made.folder / "waves.csv", delimiter=",", skip_header=1, usecols=1)
    error = [load[k + 5 : k + 8] - load[k + 4] for k in range(160, 200 - 8 + 1)]
    np.testing.assert_allclose(found["last value"]["mae"], np.abs(error).mean(), rtol=1e-12)
    assert found["linear (ridge)"]["mae"] < found["last value"]["mae"]
    classes, _ = opened(made.kind).baselines()
    assert classes["most frequent class"]["accuracy"] == pytest.approx(0.5, abs=0.11)
    slopes, _ = opened(made.slope).baselines()
    assert slopes["linear (ridge)"]["mae"] < slopes["mean"]["mae"]
    sums, _ = opened(made.sum).baselines()
    assert sums["linear (ridge)"]["mae"] < sums["mean"]["mae"]


@pytest.mark.parametrize("target", ["slope", "sum"])
def test_regressions_are_measured_group_by_group(made: Any, target: str) -> None:
    task = opened(getattr(made, target))
    result, data = task.evaluate("test"), task.data
    errors = []
    for piece in data.parts["test"]:
        items = task.items_of([piece])
        answer = items.predict(task.model, np.array([0]))
        answer = answer[:, 0, 0, 0] if target == "sum" else answer[0, 0, 0]
        errors.append(np.atleast_1d(answer - (piece.y[:, 0] if target == "sum" else piece.y[-1, 0])))
    np.testing.assert_allclose(result.measures["mae"], np.abs(np.concatenate(errors)).mean(), rtol=1e-5)
    assert result.count == sum(map(len, errors))


def test_training_learns(tmp_path: Path) -> None:
    """A longer training beats guessing by far: data, targets and scales belong together."""
    table = groups(tmp_path / "a.csv", 60)
    config = series_config([table], {"target": ["kind"], "group": "id"}, epochs=30, lr=0.02, hidden=12)
    outcome = train(tmp_path / "run", config)
    assert outcome.evaluations["test"].accuracy == 1
    config = series_config([waves(tmp_path / "w.csv", 400)], FORECAST, epochs=30, lr=0.02, hidden=12)
    outcome = train(tmp_path / "forecast", config)
    last, _ = opened(tmp_path / "forecast").baselines()
    assert outcome.evaluations["test"].measures["mae"] < 0.5 * last["last value"]["mae"]


# -- runs --------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    config = series_config([waves(tmp_path / "a.csv")], FORECAST, dropout=0.2, epochs=3)
    train(tmp_path / "whole", config)
    for steps in (3, 6):
        with pytest.raises(Crash):
            train(tmp_path / "cut", config, CrashAt(steps))
    train(tmp_path / "cut", config)
    whole, cut = Run.open(tmp_path / "whole"), Run.open(tmp_path / "cut")
    for name in ("checkpoint_path", "best_path", "series_path"):
        assert getattr(whole, name).read_bytes() == getattr(cut, name).read_bytes()
    assert lines_without_times(whole) == lines_without_times(cut)


def test_opened_run_evaluates_as_it_ended(made: Any) -> None:
    for name in ("forecast", "kind", "slope", "sum"):
        run = Run.open(getattr(made, name))
        (final,) = [line for line in run.metrics() if line["kind"] == "final"]
        result = opened(run.folder).evaluate("test")
        assert result.loss == final["loss"]
        assert {name: final[name] for name in result.measures} == result.measures
        assert result.measures


def test_description_survives_json(made: Any) -> None:
    for name in ("forecast", "kind", "slope", "sum"):
        task = opened(getattr(made, name), load_data=False)
        again = SeriesDescription.from_dict(json.loads(json.dumps(task.description.to_dict())))
        assert again.digest() == task.description.digest()


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda d: d.pop("features"), "features is missing"),
        (lambda d: d.update(task="dance"), "task"),
        (lambda d: d.update(window=0), "window"),
        (lambda d: d.update(window=None), "forecast"),
        (lambda d: d.update(targets=["other"]), "targets"),
        (lambda d: d.update(features=["load", "load"]), "twice"),
        (lambda d: d.update(features=[1, 2]), "features"),
        (lambda d: d.update(classes=["a", "b"]), "classes"),
        (lambda d: d["inputs"]["scale"].pop(), "inputs"),
        (lambda d: d["outputs"].update(scale=[0.0]), "outputs"),
        (lambda d: d.update(means=[1.0]), "means"),
        (lambda d: d.update(means=["x", "y"]), "means"),
        (lambda d: d.update(relative="yes"), "relative"),
        (lambda d: d.update(horizon=2), "trained with another"),
    ],
)
def test_damaged_description_is_one_line(made: Any, tmp_path: Path, change: Any, fragment: str) -> None:
    for path in made.forecast.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    description = json.loads((tmp_path / "series.json").read_text())
    change(description)
    (tmp_path / "series.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError) as caught:
        open_task(tmp_path, load_data=False)
    assert "series.json" in str(caught.value)
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_data_are_refused(tmp_path: Path) -> None:
    table = waves(tmp_path / "a.csv")
    train(tmp_path / "run", series_config([table], FORECAST, epochs=1))
    table.write_text(table.read_text() + "2024-03-01 00:00,1.0,2.0\n")
    with pytest.raises(CheckpointError, match=r"a\.csv: not the data that the run started with"):
        opened(tmp_path / "run").evaluate("test")
    with pytest.raises(CheckpointError, match="data"):
        train(tmp_path / "run", {})
    (tmp_path / "run" / "series.json").unlink()
    with pytest.raises(CheckpointError, match=r"series\.json: missing"):
        open_task(tmp_path / "run")


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    table = groups(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="validation"):
        series_config([table], {"test": 0.6}, validation=0.5)
    with pytest.raises(ConfigError, match="example"):
        series_config([table], {"example": "pendulum"})
    with pytest.raises(ConfigError, match="bptt"):
        series_config([table], bptt=4)
    with pytest.raises(ConfigError, match="loss"):
        build_task(series_config([table], {"target": ["kind"], "group": "id", "loss": "mae"}))


# -- predictions -------------------------------------------------------------------------------------


def test_forecast_goes_on_after_the_end(made: Any) -> None:
    task = opened(made.forecast, load_data=False)
    pieces, _ = read_inputs(task.description, [made.folder / "waves.csv"])
    rows = list(predictions(task, pieces))
    assert heading(task) == ["sequence", "step", "date", "load 10 %", "load 50 %", "load 90 %"]
    assert [row[:3] for row in rows] == [
        ["waves", 1, "2024-01-09 08:00"],
        ["waves", 2, "2024-01-09 09:00"],
        ["waves", 3, "2024-01-09 10:00"],
    ]
    assert all(row[3] <= row[4] <= row[5] for row in rows)
    # The same as of a window of the test part: all but the last three rows are given.
    data = load_series([made.folder / "waves.csv"], task.description.options(task.config["data"], 0.1))
    shorter = [piece.part(0, piece.steps - 3) for piece in data.sequences]
    _, answers = opened(made.forecast).bands("test")
    found = np.array([row[3:] for row in predictions(task, shorter)])
    np.testing.assert_allclose(found, answers[-1, :, 0], rtol=1e-5)


def test_stream_gives_what_predict_gives(made: Any) -> None:
    for name, table in (("forecast", "waves"), ("kind", "kind"), ("sum", "sum")):
        task = opened(getattr(made, name), load_data=False)
        lines = (made.folder / f"{table}.csv").read_text().splitlines()
        stream = SeriesStream(task, lines[0].split(","))
        answers = [stream.push(line.split(","), n) for n, line in enumerate(lines[1:], 2)]
        pieces, _ = read_inputs(task.description, [made.folder / f"{table}.csv"])
        expected = list(predictions(task, pieces))
        columns = {"forecast": 3, "kind": 2, "sum": 2}[name]
        if name == "forecast":
            assert [len(rows) for rows in answers] == [0] * 4 + [3] * 196
            found, skip = answers[-1], 3
        elif name == "kind":  # the last of each group
            last = np.cumsum([piece.steps for piece in pieces]) - 1
            found = [answers[k][0] for k in last]
            assert [row[2] for row in found] == [row[1] for row in expected]
            skip = 3
        else:
            found, skip = [rows[0] for rows in answers], 2
        np.testing.assert_allclose(
            np.array([row[skip:] for row in found], np.float64),
            np.array([row[columns:] for row in expected], np.float64),
            rtol=1e-4,
            atol=1e-6,
        )


def test_missing_numbers_in_a_stream_are_the_last_ones(made: Any) -> None:
    task = opened(made.forecast, load_data=False)
    rows = [f"2024-01-01 0{k}:00,{50 + k},{0.1 * k}".split(",") for k in range(6)]
    held = [row.copy() for row in rows]
    held[3][2], rows[3][2] = rows[2][2], "NA"
    answers = []
    for some in (rows, held):
        stream = SeriesStream(task, ["date", "load", "heat"])
        answers.append([stream.push(row, n) for n, row in enumerate(some)][-1])
    assert answers[0] == answers[1]


def test_predictions_that_cannot_be_made(made: Any, tmp_path: Path) -> None:
    task = opened(made.forecast, load_data=False)
    short = write_table(
        tmp_path / "s.csv", {"date": ["2024-01-01", "2024-01-02"], "load": [1, 2], "heat": [1, 2]}
    )
    with pytest.raises(DataError, match=r"s has 2 rows, the model reads windows of 5"):
        read_inputs(task.description, [short])
    wrong = write_table(
        tmp_path / "w.csv", {"date": ["2024-01-01", "2024-01-02"], "load": [1, 2], "heats": [1, 2]}
    )
    with pytest.raises(DataError, match=r"no column heat, which the model reads; did you mean heats"):
        read_inputs(task.description, [wrong])
    with pytest.raises(DataError, match="no column heat"):
        SeriesStream(task, ["date", "load"])
    stream = SeriesStream(task, ["date", "load", "heat"])
    with pytest.raises(DataError, match=r"row 7, column heat: expected a number.*'warm'"):
        stream.push(["2024-01-01", "1", "warm"], 7)
    with pytest.raises(DataError, match="row 8: expected 3 values, got 2"):
        stream.push(["2024-01-01", "1"], 8)


def test_a_model_of_both_directions_must_know_the_end(tmp_path: Path) -> None:
    table = groups(tmp_path / "a.csv")
    config = series_config([table], {"target": ["kind"], "group": "id"}, bidirectional=True, epochs=1)
    train(tmp_path / "run", config)
    with pytest.raises(UserError, match="both directions"):
        SeriesStream(opened(tmp_path / "run", load_data=False), ["id", "a", "b"])
