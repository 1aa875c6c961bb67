"""Tasks: batches, evaluations, answers and samples; what a training reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from training_tools import TEST_IMAGES, few_digits, small_config, train, write_text

from lstm_numba.data import digits
from lstm_numba.errors import UserError
from lstm_numba.models import TokenBatch
from lstm_numba.training.callbacks import EpochInfo, Evaluation, Reporter, StartInfo, StepInfo
from lstm_numba.training.tasks import build_task, open_task


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Few images, and one thread: on a busy machine waking others costs more than these models compute."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield
    numba.set_num_threads(threads)


def test_reports_are_right(tmp_path: Path) -> None:
    heard: dict[str, list[Any]] = {}

    class Listener(Reporter):
        def on_start(self, info: StartInfo) -> None:
            heard.setdefault("start", []).append(info)

        def on_step(self, info: StepInfo) -> None:
            heard.setdefault("step", []).append(info)

        def on_epoch(self, info: EpochInfo) -> None:
            heard.setdefault("epoch", []).append(info)

        def on_evaluation(self, split: str, done: int, total: int) -> None:
            heard.setdefault(split, []).append((done, total))

    config = small_config("images", tmp_path)
    train(tmp_path / "run", config, Listener())
    (start,) = heard["start"]
    parameters = 4 * 6 * (28 + 6 + 2) + 4 * 6 * (6 + 6 + 2) + 10 * 6 + 10
    assert (start.epochs, start.steps_per_epoch, start.parameters) == (2, 21, parameters)
    assert (start.unit, start.metric, start.floor, start.resumed) == ("images", "accuracy", None, False)
    assert [(info.epoch, info.step) for info in heard["step"]] == [
        (e, s) for e in (1, 2) for s in range(1, 22)
    ]
    # 188 training images: the last batch of an epoch has 8, the running mean weighs it so.
    last = heard["step"][20]
    assert heard["epoch"][0].train.count == 188
    assert last.loss == heard["epoch"][0].train.loss
    assert last.metric == heard["epoch"][0].train.accuracy
    assert heard["valid"][-1] == (12, 12)
    assert heard["test"][-1] == (TEST_IMAGES, TEST_IMAGES)
    assert heard["step"][0].lr > heard["step"][-1].lr > 0  # cosine


def test_validation_images_are_the_last_of_the_training_images(tmp_path: Path) -> None:
    task: Any = build_task(small_config("images", tmp_path))
    whole: Any = build_task(small_config("images", tmp_path, validation=0))
    images = whole.images("train").images
    np.testing.assert_array_equal(task.images("train").images, images[:188])
    np.testing.assert_array_equal(task.images("valid").images, images[188:])
    assert whole.splits == ("train", "test")
    quarter: Any = build_task(small_config("images", tmp_path, validation=0.25))
    assert len(quarter.images("valid")) == 50
    with pytest.raises(UserError, match="validation: expected 1 to 199 of the 200 images, got 200"):
        build_task(small_config("images", tmp_path, validation=200))
    with pytest.raises(UserError, match="split: expected one of train, test, got 'valid'"):
        whole.evaluate("valid")


def test_every_epoch_sees_every_image_once_in_another_order(tmp_path: Path) -> None:
    task: Any = build_task(small_config("images", tmp_path))
    epochs = []
    for epoch in range(2):
        batches = [task.batch(epoch, step) for step in range(task.steps_per_epoch)]
        assert [len(batch.labels) for batch in batches] == [9] * 20 + [8]
        epochs.append(
            np.concatenate([batch.x for batch in batches], axis=1).transpose(1, 0, 2).reshape(188, -1)
        )
    assert not np.array_equal(epochs[0], epochs[1])
    np.testing.assert_array_equal(epochs[0][np.lexsort(epochs[0].T)], epochs[1][np.lexsort(epochs[1].T)])


def test_image_answers_agree_with_each_other(tmp_path: Path) -> None:
    config = small_config("images", tmp_path, epochs=1)
    train(tmp_path / "run", config)
    task: Any = open_task(tmp_path / "run")
    images = task.images("test")
    answers = task.probabilities(images.images).argmax(axis=1)
    matrix = task.confusion_matrix("test")
    for true in range(10):
        np.testing.assert_array_equal(matrix[true], np.bincount(answers[images.labels == true], minlength=10))
    result: Evaluation = task.evaluate("test")
    assert result.accuracy == np.trace(matrix) / TEST_IMAGES
    p = task.probabilities(images.images)[np.arange(TEST_IMAGES), images.labels]
    assert result.loss == pytest.approx(-np.log(p).mean(), rel=1e-5)
    assert task.probabilities(images.images[:0]).shape == (0, 10)


def test_evaluation_reads_a_text_in_one_go(tmp_path: Path) -> None:
    """Side by side with context, the rows give what one pass over the whole text gives."""
    config = small_config("text", tmp_path, epochs=1, dropout=0.0)
    config["data"]["file"] = str(write_text(tmp_path / "long.txt", 20000))
    train(tmp_path / "run", config)
    task: Any = open_task(tmp_path / "run")
    corpus = build_task(config).corpus
    for split in ("test", "valid"):
        ids = corpus.splits[split]
        whole = task.model.evaluate(TokenBatch(ids[:-1, None], ids[1:, None]))
        result = task.evaluate(split)
        assert result.count == len(ids) - 1
        assert result.loss == pytest.approx(whole.loss_sum / whole.count, rel=1e-6)
        assert result.perplexity == pytest.approx(np.exp(result.loss))


def test_sampling_needs_no_data(tmp_path: Path) -> None:
    config = small_config("text", tmp_path, epochs=1)
    train(tmp_path / "run", config)
    (tmp_path / "text.txt").unlink()
    task: Any = open_task(tmp_path / "run", load_data=False)
    text = "".join(task.sample("ab ", 50, seed=1))
    assert len(text) == 50
    assert set(text) <= set("abcd \n")
    assert text == "".join(task.sample("ab ", 50, seed=1))
    assert text != "".join(task.sample("ab ", 50, seed=2))
    with pytest.raises(UserError, match="character 'z' is not among"):
        list(task.sample("z", 5))


def test_sampled_words_have_spaces_and_lines(tmp_path: Path) -> None:
    config = small_config("grammar", tmp_path, epochs=1)
    train(tmp_path / "run", config)
    task: Any = open_task(tmp_path / "run", load_data=False)
    pieces = list(task.sample("", 80, seed=0))
    assert len(pieces) == 80
    text = "".join(pieces)
    # Reading the text again gives the tokens that were drawn.
    ids = task.corpus.encode(text)
    assert len(ids) == 80
    assert not text.startswith(" ")
    assert "\n " not in text
    assert task.floor > 1


def test_grammar_knows_its_lowest_perplexity(tmp_path: Path) -> None:
    task = build_task(small_config("grammar", tmp_path))
    assert task.floor is not None
    assert 1 < task.floor < 30
    assert task.evaluate("test").perplexity > task.floor  # type: ignore[operator]
