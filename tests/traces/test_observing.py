"""Answers as the steps come in: against the model's own, and against an evaluation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from series_tools import groups, series_config, waves
from training_tools import few_digits, small_config

from lstm_numba.data import digits
from lstm_numba.errors import DataError, UserError
from lstm_numba.traces.inspection import ClassAnswers, NumberAnswers, TokenAnswers, mean_surprise
from lstm_numba.traces.observing import by_prefixes, observe_image, observe_text, visible
from lstm_numba.traces.observing_series import observe_series
from lstm_numba.training.tasks import build_task


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "load", few_digits)


def text_task(folder: Path, **more: Any) -> Any:
    return build_task(small_config("text", folder, **more))


def test_surprise_adds_up_to_the_loss_of_an_evaluation(tmp_path: Path) -> None:
    task = text_task(tmp_path)
    text = task.corpus.decode(task.split_ids("test"))
    found = observe_text(task, "run", text)
    assert isinstance(found.answers, TokenAnswers)
    assert math.isnan(found.answers.surprise[0])
    assert len(found.steps) == len(task.split_ids("test"))
    loss = task.evaluate("test").loss
    assert mean_surprise(found.answers) * math.log(2) == pytest.approx(loss, rel=1e-5)


def test_likeliest_tokens_are_the_models(tmp_path: Path) -> None:
    task = text_task(tmp_path)
    found = observe_text(task, "run", "ab cab")
    answers = found.answers
    assert isinstance(answers, TokenAnswers)
    assert found.steps == ("a", "b", "␣", "c", "a", "b")
    ids = task.corpus.encode("ab cab")
    for t in range(6):
        logits, _ = task.model.next_logits(ids[: t + 1, None])
        p = np.exp(logits[0].astype(np.float64))
        p /= p.sum()
        best = np.argsort(-p)[:5]
        np.testing.assert_allclose(answers.likeliest.probabilities[t], p[best], rtol=1e-5)
        assert answers.words[t] == tuple(visible(task.corpus.vocabulary[k]) for k in best)
        if t + 1 < 6:
            assert answers.surprise[t + 1] == pytest.approx(-math.log2(p[ids[t + 1]]), rel=1e-5)


def test_the_test_text_is_shown_where_none_is_given(tmp_path: Path) -> None:
    task = build_task(small_config("grammar", tmp_path))
    found = observe_text(task, "run")
    ids = task.split_ids("test")
    assert found.steps == tuple(task.corpus.vocabulary[k] for k in ids[: len(found.steps)])
    assert found.steps[-1] == "<eos>"
    assert found.counted == min(2000, len(ids)) > len(found.steps)
    assert found.views[0].values["h"].shape == (len(found.steps), 8)
    # Statistics are over all that was read, not over what is shown.
    h = np.asarray(task.model.embedding.forward(ids[:2000, None].astype(np.int64)))
    whole = task.model.rnn.trace(h)
    np.testing.assert_allclose(found.views[0].shares["z"].right, (whole["z_l0"] > 0.9).mean(axis=(0, 1)))


def test_long_texts_are_cut_and_say_so(tmp_path: Path) -> None:
    task = text_task(tmp_path)
    found = observe_text(task, "run", "ab " * 300)
    assert len(found.steps) == found.counted == 800
    assert "the first 800 of 900 tokens are shown; answers after the last one are not" in found.notes


def test_texts_that_cannot_be_read(tmp_path: Path) -> None:
    task = text_task(tmp_path)
    with pytest.raises(UserError, match="the text is empty"):
        observe_text(task, "run", "")
    with pytest.raises(UserError, match="character 'X' is not among"):
        observe_text(task, "run", "abXc")


@pytest.mark.parametrize("bidirectional", [False, True])
def test_probabilities_as_rows_come_in(tmp_path: Path, bidirectional: bool) -> None:
    task = build_task(small_config("images", tmp_path, bidirectional=bidirectional))
    found = observe_image(task, "run")
    image = task.images("test").images[:1]
    answers = found.answers
    assert isinstance(answers, ClassAnswers)
    assert answers.true == task.images("test").labels[0]
    np.testing.assert_allclose(answers.probabilities[-1], task.probabilities(image)[0], atol=1e-6)
    weight, bias = (np.asarray(task.model.output.params[n], np.float64) for n in ("weight", "bias"))
    h = found.views[-1].values["h"]
    if bidirectional:  # h of the reverse direction is another one for each part of the image
        x = task._sequences(image)[:10]
        part = task.model.probabilities(np.ascontiguousarray(x))
        np.testing.assert_allclose(answers.probabilities[9], part[0], atol=1e-6)
        assert "both directions" in found.notes[0]
    else:
        scores = h @ weight.T + bias
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        np.testing.assert_allclose(answers.probabilities, p / p.sum(axis=1, keepdims=True), atol=1e-6)
    assert found.sequences == 100
    assert found.counted == 2800
    np.testing.assert_allclose(found.strip.values, image[0] / 255, atol=1e-6)


def test_prefixes_are_given_in_parts_and_in_order() -> None:
    x = np.arange(300, dtype=float).reshape(150, 2)

    def answer(part: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        assert part.shape[0] == lengths[-1] <= 150
        return np.array([part[:n, k].sum(axis=0) for k, n in enumerate(lengths)])

    np.testing.assert_array_equal(by_prefixes(answer, x), np.cumsum(x, axis=0))


def forecast_task(folder: Path, **more: Any) -> Any:
    data = {"target": ["load"], "window": 5, "horizon": 3, **more}
    return build_task(series_config([waves(folder / "waves.csv")], data))


def test_a_forecast_is_that_of_predict(tmp_path: Path) -> None:
    task = forecast_task(tmp_path)
    found, _ = observe_series(task, "run")
    answers = found.answers
    assert isinstance(answers, NumberAnswers)
    items = task.items("test")
    np.testing.assert_allclose(answers.values[:, 0], items.predict(task.model, np.array([0]))[0, :, 0, 0])
    assert answers.true is not None
    np.testing.assert_allclose(answers.true, items.read(np.array([0]))[1][0])
    np.testing.assert_allclose(found.strip.values, items.index.gather(np.array([0])).x[:, 0])
    assert found.strip.names == task.description.features


def test_the_window_that_a_row_names(tmp_path: Path) -> None:
    task = forecast_task(tmp_path)
    file = tmp_path / "waves.csv"
    last, _ = observe_series(task, "run", file)
    named, _ = observe_series(task, "run", file, 201)  # the header is row 1
    assert last.steps == named.steps == tuple(f"row {n}" for n in range(197, 202))
    assert isinstance(last.answers, NumberAnswers)
    assert last.answers.true is None  # nothing comes after the end
    early, _ = observe_series(task, "run", file, 6)
    assert early.steps[0] == "row 2"
    table = np.loadtxt(file, delimiter=",", skiprows=1, usecols=(1, 2))
    order = [("load", "heat").index(name) for name in task.description.features]
    np.testing.assert_allclose(early.strip.values, table[:5, order])
    assert isinstance(early.answers, NumberAnswers)
    np.testing.assert_allclose(early.answers.true, table[5:8, :1])


def test_rows_that_are_not_there(tmp_path: Path) -> None:
    task = forecast_task(tmp_path)
    with pytest.raises(DataError, match="no row 900, it has the rows 2 to 201"):
        observe_series(task, "run", tmp_path / "waves.csv", 900)
    with pytest.raises(DataError, match="has 4 rows up to row 5, the model reads windows of 5"):
        observe_series(task, "run", tmp_path / "waves.csv", 5)


@pytest.mark.parametrize("target", ["kind", "slope", "sum"])
def test_whole_groups(tmp_path: Path, target: str) -> None:
    """Classes, one number for a group, and one for each step."""
    table = groups(tmp_path / "groups.csv", target=target)
    kind = "classify" if target == "kind" else "regress"
    task = build_task(series_config([table], {"target": [target], "group": "id", "task": kind}))
    found, _ = observe_series(task, "run")
    items, first = task.items("test"), np.array([0])
    steps = len(found.steps)
    expected, true = items.predict(task.model, first), items.read(first)[1][..., 0].ravel()
    if isinstance(found.answers, ClassAnswers):
        assert target == "kind"
        np.testing.assert_allclose(found.answers.probabilities[-1], expected[0], atol=1e-6)
        assert found.answers.true == true[0]
        return
    assert isinstance(found.answers, NumberAnswers)
    assert found.answers.true is not None
    if target == "sum":
        np.testing.assert_allclose(found.answers.values[:, 0], expected[:steps, 0, 0, 0])
        np.testing.assert_allclose(found.answers.true[:, 0], true[:steps])
    else:
        np.testing.assert_allclose(found.answers.values[-1], expected[0, 0, 0], rtol=1e-5)
        np.testing.assert_allclose(found.answers.true[:, 0], true[0])
        one = items.gather(first, np.float32)
        part = task.model.predict(np.ascontiguousarray(one.x[:2]))[0]
        np.testing.assert_allclose(found.answers.values[1], items.in_units(task.model, part)[0], rtol=1e-5)


def test_numbers_that_overflow(tmp_path: Path) -> None:
    task = text_task(tmp_path)
    task.model.params["rnn.weight_hh_l0"][:] = np.nan
    with pytest.raises(UserError, match="overflow"):
        observe_text(task, "run", "ab ab")
