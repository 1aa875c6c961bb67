"""Runs of a user's own pictures: what is kept of them, and that they must stay the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import invoke
from picture_tools import draw, draw_classes, save
from training_tools import train

from lstm_numba.data.images import image_sequences
from lstm_numba.errors import CheckpointError, DataError, UserError
from lstm_numba.training import classification
from lstm_numba.training.config import ConfigError, make_config
from lstm_numba.training.run import Run
from lstm_numba.training.tasks import build_task, open_task
from lstm_numba.training.warm_start import create_successor

COUNTS = {"daisy": 8, "rose": 12, "tulip": 20}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images."""
    return draw_classes(tmp_path / "flowers", COUNTS)


def config_of(folder: Path, data: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A configuration that trains in no time."""
    options = {"hidden": 8, "epochs": 1, "batch_size": 8, "threads": 1, "cell": "rnn", **more}
    return make_config("images", options, data={"file": str(folder), **(data or {})})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run and its pictures, not to be changed."""
    place = tmp_path_factory.mktemp("own")
    train(place / "run", config_of(draw_classes(place / "flowers", COUNTS)))
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of both, to be changed."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["file"] = str(tmp_path / "flowers")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    return tmp_path


# -- the task ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "input_size", "steps"),
    [
        ({}, 5, 6),
        ({"colour": True}, 15, 6),
        ({"view": "pixels"}, 1, 30),
        ({"view": "permuted", "colour": True}, 3, 30),
        ({"size": "4x7"}, 7, 4),
    ],
)
def test_the_models_input(folder: Path, data: dict[str, Any], input_size: int, steps: int) -> None:
    task: Any = build_task(config_of(folder, data))
    assert task.classes == ("daisy", "rose", "tulip")
    assert (task.model.config()["input_size"], task.model.config()["classes"]) == (input_size, 3)
    assert task.sequence_steps == steps
    batch = task.batch(0, 0)
    assert batch.x.shape == (steps, 8, input_size)
    assert task.chance == pytest.approx(np.log(3))


def test_a_batch_is_the_pictures(folder: Path) -> None:
    task: Any = build_task(config_of(folder, dtype="float64"))
    batch, images = task.batch(0, 0), task.images("train")
    x = image_sequences(images, dtype=np.float64, form=task.form)
    for n, label in enumerate(batch.labels):
        (same,) = (k for k in range(len(images)) if np.array_equal(x[:, k], batch.x[:, n]))
        assert images.labels[same] == label


def test_validation_takes_from_every_class(folder: Path) -> None:
    task: Any = build_task(config_of(folder, validation=0.25))
    assert task.splits == ("train", "valid", "test")
    assert [len(task.images(split)) for split in task.splits] == [27, 9, 4]
    assert np.bincount(task.images("valid").labels).tolist() == [2, 3, 4]


def test_the_test_pictures_depend_on_their_own_seed(folder: Path) -> None:
    def tested(**more: Any) -> list[Any]:
        data = {"split_seed": more.pop("split_seed", 0)}
        task: Any = build_task(config_of(folder, data, **more))
        return task.images("test").images.tolist()

    assert tested() == tested(seed=5)
    assert tested() != tested(split_seed=5)


def test_configurations_that_cannot_be(folder: Path) -> None:
    for data, words in (
        ({"size": "6"}, "data.size: expected height x width in pixels, such as 28x28, got '6'"),
        ({"size": "0x5"}, "data.size"),
        ({"test": 1}, "data.test"),
        ({"colour": 1}, "data.colour"),
    ):
        with pytest.raises(ConfigError, match=words):
            config_of(folder, data)
    with pytest.raises(ConfigError, match=r"data\.file: expected the folder with the images, got none"):
        build_task(make_config("images"))
    with pytest.raises(ConfigError, match="bptt: is for language models, images trains none"):
        config_of(folder, bptt=3)
    with pytest.raises(UserError, match="validation: expected 1 to 35 of the 36 images"):
        build_task(config_of(folder, validation=36))


# -- the run folder ----------------------------------------------------------------------------------


def test_a_run_keeps_the_form_and_needs_no_pictures(place: Path) -> None:
    kept = json.loads((place / "run" / "classes.json").read_text())
    before: Any = open_task(place / "run")
    assert kept == json.loads(json.dumps(before.form._asdict()))
    assert (kept["classes"], kept["shape"]) == (["daisy", "rose", "tulip"], [6, 5])
    images = before.images("test").images
    wanted = before.probabilities(images)
    shutil.rmtree(place / "flowers")
    after: Any = open_task(place / "run", load_data=False)
    np.testing.assert_array_equal(after.probabilities(images), wanted)
    with pytest.raises(DataError, match="no such folder"):
        open_task(place / "run").evaluate("test")


def test_answers_agree_with_each_other(place: Path) -> None:
    task: Any = open_task(place / "run")
    images = task.images("test")
    answers = task.probabilities(images.images).argmax(axis=1)
    matrix = task.confusion_matrix("test")
    for true in range(3):
        np.testing.assert_array_equal(matrix[true], np.bincount(answers[images.labels == true], minlength=3))
    assert task.evaluate("test").accuracy == np.trace(matrix) / len(images)


def test_large_pictures_are_evaluated_a_few_at_a_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task: Any = open_task(place / "run")
    images, done = task.images("train").images, list[int]()
    wanted, result = task.probabilities(images), task.evaluate("train")
    for limit, size in (("_EVALUATION_STEPS", 7), ("_EVALUATION_NUMBERS", 60), ("_EVALUATION_NUMBERS", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(classification, limit, size)
            np.testing.assert_allclose(task.probabilities(images), wanted, rtol=1e-5)
            few = task.evaluate("train", progress=lambda count, _: done.append(count))
        assert few.loss == pytest.approx(result.loss, rel=1e-5)
        assert few.accuracy == result.accuracy
    count = len(images)
    assert done == [*range(1, count + 1), *range(2, count, 2), count, *range(1, count + 1)]


def test_a_moved_folder(place: Path) -> None:
    wanted = open_task(place / "run").evaluate("test")
    (place / "flowers").rename(place / "moved")
    assert open_task(place / "run", data_dir=place / "moved").evaluate("test") == wanted


def test_changed_pictures_are_refused(place: Path) -> None:
    flowers, run = place / "flowers", Run.open(place / "run")
    run.config["epochs"] = 2
    run.keep_config()
    before = run.checkpoint_path.read_bytes()

    def refused(words: str) -> None:
        with pytest.raises(CheckpointError, match="the training data are not those that"):
            train(run.folder, {})
        with pytest.raises(CheckpointError, match=words):
            open_task(run).evaluate("test")
        assert run.checkpoint_path.read_bytes() == before

    save(flowers / "rose" / "999.png", draw(1, 99))
    refused("flowers: has other training images than those that the run started with")
    (flowers / "rose" / "999.png").unlink()
    draw_classes(flowers, {**COUNTS, "weed": 3})
    refused("flowers: has other classes than")
    shutil.rmtree(flowers / "weed")
    (flowers / "rose").rename(flowers / "rosa")
    refused("flowers: has other classes than")
    shutil.rmtree(flowers)
    draw_classes(flowers, COUNTS, (5, 5))
    refused("flowers: has images of another size than")
    shutil.rmtree(flowers)
    draw_classes(flowers, COUNTS)
    assert train(run.folder, {}).epochs == 2


def test_form_and_checkpoint_belong_together(place: Path) -> None:
    run = Run.open(place / "run")
    kept = json.loads(run.form_path.read_text())
    for change, words in (
        ({"classes": ["a", "b", "c"]}, "does not fit classes.json: it was trained on images of another"),
        ({"mean": 0.25}, "does not fit classes.json"),
        ({"classes": ["a"]}, "classes.json: damaged: classes: expected at least two, and none twice"),
        ({"classes": ["a", "a", "b"]}, "none twice"),
        ({"classes": "abc"}, 'classes.json: damaged: classes: expected texts, got "abc"'),
        ({"classes": [1, 2]}, "expected texts"),
        ({"shape": ["6", 5]}, "classes.json: damaged: shape: expected height, width"),
        ({"shape": [6]}, "classes.json: damaged: shape: expected height, width and, for color images, 3"),
        ({"shape": [6, 5, 4]}, "damaged: shape"),
        ({"shape": [6, -5]}, "damaged: shape"),
        ({"shape": [6, 10**9]}, "damaged: shape"),
        ({"mean": None}, "damaged: mean: expected a number from 0 to 1, got null"),
        ({"deviation": 0}, "damaged: deviation: expected a number above 0"),
    ):
        run.form_path.write_text(json.dumps({**kept, **change}))
        with pytest.raises(CheckpointError, match=words):
            open_task(run, load_data=False)
    run.form_path.unlink()
    with pytest.raises(CheckpointError, match=r"classes\.json: missing"):
        open_task(run)


def test_the_form_must_stay_the_same(tmp_path: Path) -> None:
    run = Run(tmp_path, {})
    names = ["a", "\udce4 $x$\n"]
    form = {"classes": tuple(names), "shape": (6, 5, 3), "mean": 1 / 3, "deviation": 0.1}
    assert run.form() is None
    for _ in range(2):
        run.keep_form(form)
    assert run.form() == {**form, "classes": names, "shape": [6, 5, 3]}
    with pytest.raises(CheckpointError, match="the images are not those that the run started with"):
        run.keep_form({**form, "shape": (5, 6, 3)})


def test_a_successor_has_the_form(place: Path) -> None:
    run = Run.open(place / "run")
    made = create_successor(run, open_task(run, load_data=False), place / "next")
    assert made.form() == run.form()
    assert open_task(made).evaluate("test") == open_task(run).evaluate("test")


def test_settings_of_another_run(place: Path) -> None:
    path = place / "run" / "config.json"
    config = json.loads(path.read_text())
    for name, value in (("size", "6x5"), ("colour", True), ("test", 0.5), ("split_seed", 3)):
        path.write_text(json.dumps({**config, "data": {**config["data"], name: value}}))
        answer = invoke("evaluate", place / "run")
        assert answer.status == 1
        assert f"it was trained with data.{name} " in answer.err.splitlines()[-1]
