"""The estimators beside other methods, on small data that are made here."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from lstm_numba.benchmarks import own_classes, own_data, own_forecasts, own_tables, selection

#: In float64, as of the estimators' own tests, whose kernels these use.
TINY: dict[str, Any] = {"hidden_size": 4, "max_epochs": 2}


def a_series(steps: int = 100) -> own_forecasts.Series:
    """A season of four steps on a straight line, with a little noise in the first half."""
    values = np.tile([0.0, 2.0, 1.0, -1.0], steps // 4) + 0.5 * np.arange(steps)
    values[: steps // 2] += 1e-3 * np.random.default_rng(0).standard_normal(steps // 2)
    return own_forecasts.Series("wave", "m", "made here", values, 4, 4)


def labelled(ragged: bool) -> own_classes.Labelled:
    """Sequences that go up or down."""
    rng = np.random.default_rng(0)
    labels = np.array(["up", "down"] * 6)
    lengths = rng.integers(4, 9, 12) if ragged else np.full(12, 6)
    parts = [
        np.where(label == "up", 1.0, -1.0) * np.arange(n)[:, None] + 0.1 * rng.standard_normal((n, 2))
        for label, n in zip(labels, lengths, strict=True)
    ]
    return own_classes.Labelled("slopes", "made here", parts, labels, parts[:4], labels[:4])


def test_the_best_candidate_is_chosen_and_the_second_number_decides() -> None:
    candidates = selection.grid(a=[1, 2], b=[3, 4])
    assert candidates == [{"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4}]
    chosen, tried = selection.choose(candidates, lambda s: (abs(s["a"] - 2), -s["b"]))
    assert chosen == {"a": 2, "b": 4}
    assert [entry["error"] for entry in tried] == [(1, -3), (1, -4), (0, -3), (0, -4)]
    assert selection.grid() == [{}]
    assert selection.choose([{"a": 1}], lambda s: 1 / 0) == ({"a": 1}, [])


def test_forecasts_learn_from_what_is_before_their_part_only() -> None:
    series, seen = a_series(), []

    def spy(past: Any, contexts: Any, horizon: int, settings: Any, seed: int) -> Any:
        seen.append((len(past), [len(context) for context in contexts], dict(settings)))
        np.testing.assert_array_equal(past, series.values[: len(past)])
        # What is off by 1 in validation, and by 2 in the test.
        off = settings["off"] if len(past) == 64 else 2.0
        return np.stack([series.values[len(context) :][:horizon] + off for context in contexts])

    way = own_forecasts.Method(spy, [{"off": 3.0}, {"off": 1.0}])
    found = own_forecasts.measure(series, {"spy": way}, [0, 1])
    validation, test = list(range(64, 77)), list(range(80, 97))
    assert seen == [(64, validation, {"off": 3.0}), (64, validation, {"off": 1.0}), (80, test, {"off": 1.0})]
    assert (found["validation_from"], found["test_from"], found["origins"]) == (64, 80, 17)
    (run,) = found["methods"]["spy"]["runs"]
    assert run["mae"] == pytest.approx(2.0)
    assert run["rmse"] == pytest.approx(2.0)
    assert run["mase"] == pytest.approx(1.0, abs=0.01)  # a season makes 4 * 0.5
    assert run["mae_by_step"] == pytest.approx([2.0] * 4)


def test_simple_forecasts_and_the_linear_one() -> None:
    ways = own_forecasts.methods(4)
    simple = {name: ways[name] for name in ("last value", "season ago", "linear")}
    found = own_forecasts.measure(a_series(), simple, [0])["methods"]
    assert found["season ago"]["runs"][0]["mae"] == pytest.approx(2.0)
    assert found["linear"]["runs"][0]["mae"] < 0.1  # a line and a season are linear
    assert len(found["linear"]["tried"]) == 3 * 2 * 6
    assert found["last value"]["runs"][0]["mae"] > 1.0


@pytest.mark.parametrize("relative", [False, True])
def test_the_linear_forecast_of_levels_and_of_differences(relative: bool) -> None:
    y = a_series().values
    settings = {"window": 8, "relative": relative, "penalty": 1e-6}
    found = own_forecasts._linear(y[:80], [y[:80], y[:85]], 4, settings, 0)
    np.testing.assert_allclose(found, [y[80:84], y[85:89]], atol=0.02)


def test_a_peer_that_cannot_be_imported_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("classification.convolution_based", "classification.distance_based"):
        monkeypatch.setitem(sys.modules, f"aeon.{name}", None)

    def absent() -> Any:
        raise ImportError("No module named 'elsewhere'")

    found = own_data.compare(
        {"absent": absent, "wave": a_series},
        {"slopes": lambda: labelled(ragged=True)},
        seeds=[0, 1],
        forecasters=lambda season: {
            "gru": own_forecasts.Method(
                own_forecasts._recurrent("gru", TINY), [{"window": 4, "relative": True}], random=True
            ),
            "season ago": own_forecasts.methods(season)["season ago"],
        },
        classifiers=partial(own_classes.methods, fixed={**TINY, "max_epochs": 30}, candidates=[{}]),
    )
    printed = capsys.readouterr().out
    assert "absent: left out: No module named 'elsewhere'\n" in printed
    assert "ROCKET: left out: aeon cannot be imported" in printed
    assert set(found["left_out"]) == {"absent", "1-NN DTW", "ROCKET"}
    assert found["classes"][0]["lengths"] == [4, 8]
    assert [run["accuracy"] for run in found["classes"][0]["methods"]["gru"]["runs"]] == [1.0, 1.0]
    document = json.loads(json.dumps({**found, "note": "A note."}))
    lines = own_tables.own_data_table(document)
    assert lines[0] == "| lower is better | GRU | season ago |"
    assert any(line.startswith("| slopes, 4 sequences | 100.0 % (100.0 to 100.0) |") for line in lines)
    assert own_tables.settings_table(document)[-1].startswith("ROCKET: left out")


def test_what_is_worse_than_the_best_of_the_others_is_bold() -> None:
    def method(*values: float) -> dict[str, Any]:
        return {"settings": {}, "padded": False, "runs": [{"accuracy": value} for value in values]}

    methods = {
        "gru": method(0.9, 0.95),
        "lstm": method(0.97),
        "1-NN DTW": method(0.96),
        "ROCKET": method(0.5),
    }
    methods["ROCKET"]["padded"] = True
    part = {"name": "some", "test": 8, "methods": methods}
    assert own_tables.classes_table({"classes": [part]})[-1] == (
        "| some, 8 sequences | **92.5 % (90.0 to 95.0)** | 97.0 % | 96.0 % | 50.0 %, padded |"
    )


@pytest.mark.parametrize("ragged", [False, True])
def test_classifiers_of_aeon_read_our_sequences(ragged: bool) -> None:
    """Those that refuse different lengths get padded ones."""
    pytest.importorskip("aeon")
    from aeon.classification.convolution_based import RocketClassifier
    from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier

    data = labelled(ragged)
    for model, pads in (
        (KNeighborsTimeSeriesClassifier(), False),
        (RocketClassifier(200, random_state=0), True),
    ):
        peer = own_classes.Aeon(model, 8).fit(data.train, data.train_labels)
        assert (peer.predict(data.test) == data.test_labels).all()
        assert peer.padded == (pads and ragged)
