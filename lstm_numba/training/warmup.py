"""Compiles ahead of time what training needs, by a few steps on noise and by using the model.

Which kernels run depends on cell, precision, optimizer and kind of data, and on sizes: small arrays use
one thread, and wide layers are split in another way than large batches. So there are three short trainings:
one with the data set's own sizes, one with tiny sizes and every extra, one with a wide layer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.data import digits
from lstm_numba.data.corpus import EOS, Corpus
from lstm_numba.data.images import FORMS, Images
from lstm_numba.data.series import SeriesData, SeriesOptions, series_of_tables
from lstm_numba.training.callbacks import Reporter
from lstm_numba.training.classification import ImageTask
from lstm_numba.training.compile_watch import CompileWatch
from lstm_numba.training.config import make_config
from lstm_numba.training.language_modeling import TextTask
from lstm_numba.training.run import Run
from lstm_numba.training.series import SeriesTask
from lstm_numba.training.series_examples import example_table
from lstm_numba.training.series_prediction import SeriesStream, predictions
from lstm_numba.training.settings import CLASSIFIERS, LANGUAGE_MODELS, SERIES
from lstm_numba.training.task import Task
from lstm_numba.training.tasks import open_task
from lstm_numba.training.trainer import Trainer

#: As many words as Penn Treebank has, and about as many characters as a text has.
_WORDS, _CHARACTERS = 10_000, 60
#: Steps of each training; the last of an image training is smaller than the others.
_STEPS = 3
#: Items that the largest training is tested on: a full batch of the evaluation and a part of one, or as many
#: tokens as give all of its rows.
_TEST_IMAGES, _TEST_TOKENS = 520, 4200


class Warmed(NamedTuple):
    """What was compiled: names of the kernels, and seconds spent."""

    kernels: tuple[str, ...]
    seconds: float


class _FewImages(ImageTask):
    """Drawn digits in place of the data set, no more than the steps need; own pictures have their size."""

    def _read(self, split: str) -> Images:
        large = self.config["batch_size"] * (_STEPS - 1) + 1
        return digits.load(split, count=min(large, _TEST_IMAGES) if split == "test" else large)


class _Noise(TextTask):
    """Random tokens in place of the text."""

    def _read(self) -> Corpus:
        config = self.config
        level = config["data"].get("level", "word")
        size = _WORDS if level == "word" else _CHARACTERS
        large = config["batch_size"] * config["bptt"] * _STEPS + 1
        test = min(large, _TEST_TOKENS)
        rng = np.random.default_rng(0)
        splits = {
            split: rng.integers(size, size=count, dtype=np.int32)
            for split, count in {"train": large, "valid": test, "test": test}.items()
        }
        vocabulary = (EOS, *map(str, range(size - 1))) if level == "word" else tuple(map(chr, range(size)))
        return Corpus(config["dataset"], level, vocabulary, splits)


class _FewRows(SeriesTask):
    """The beginning of an example in place of a user's tables."""

    def _read(self, options: SeriesOptions) -> SeriesData:
        table = example_table(self.config["data"]["example"])
        if options.window is None:  # gestures, of which these are a few
            kept = np.arange(len(table)) < 2000
        else:
            steps = options.window + self.config["batch_size"] * (_STEPS - 1) + 1
            kept = np.arange(len(table)) < 2 * steps + 10 * (options.window + 1)
        columns = {name: column[kept] for name, column in table.columns.items()}
        return series_of_tables([replace(table, columns=columns, rows=table.rows[kept])], options)


def warm_up(
    dataset: str, options: Mapping[str, Any] | None = None, reporter: Reporter | None = None
) -> Warmed:
    """Compile what training on a data set needs and keep it in Numba's cache.

    Trains, evaluates, predicts or samples, and saves checkpoints in a temporary folder, without the data
    set.

    Parameters
    ----------
    dataset : str
        One of `lstm_numba.training.settings.DATASETS`.
    options : mapping, optional
        Fields of the configuration: cell, dtype, optimizer.
    reporter : Reporter, optional
        Receives the compilation events.

    Returns
    -------
    Warmed
    """
    watch = CompileWatch(Reporter() if reporter is None else reporter)
    with tempfile.TemporaryDirectory() as folder, watch:
        for number, config in enumerate(_configs(dataset, options or {})):
            _use(Run.create(Path(folder) / str(number), config))
    return Warmed(tuple(watch.kernels), watch.seconds)


def _configs(dataset: str, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The data set's own sizes; tiny ones with every extra; a wide layer."""
    extra: dict[str, Any] = (
        {"bidirectional": True, "validation": 5} if dataset in CLASSIFIERS else {"tie": True}
    )
    if dataset in SERIES:
        extra = {"bidirectional": True}
    whole: dict[str, Any] = {"validation": 0} if dataset in CLASSIFIERS else {}
    tiny = {"hidden": 8, "layers": 2, "dropout": 0.3, "batch_size": 9, "clip_value": 1.0, **extra}
    wide = {"hidden": 600, "layers": 1, "batch_size": 2, **whole}
    for sizes, window in ((whole, None), (tiny, 5), (wide, 5)):
        more = {} if window is None or dataset not in LANGUAGE_MODELS else {"bptt": window}
        data = {"example": "pendulum", "window": window or 32} if dataset in SERIES else {}
        once = {"epochs": 1, "schedule": "constant"}
        yield make_config(dataset, {**options, **sizes, **more, **once}, data=data)
        if dataset in SERIES and window is not None:
            one_way = {**options, **sizes, **once, "bidirectional": False}
            yield make_config(dataset, one_way, data={"example": "gestures"})


def _use(run: Run) -> None:
    """Train, then open the run and use the model as the other commands do."""
    task: Task
    if run.config["dataset"] in CLASSIFIERS:
        task = _FewImages(run.config, form=FORMS["digits"]._asdict())
    elif run.config["dataset"] in SERIES:
        task = _FewRows(run.config)
    else:
        task = _Noise(run.config)
    task.load_data()
    Trainer(task, run).train()
    opened = open_task(run, load_data=False)
    if isinstance(opened, ImageTask):
        opened.probabilities(digits.load("test", count=1).images)
    elif isinstance(opened, SeriesTask) and isinstance(task, SeriesTask):
        list(predictions(opened, task.data.sequences[:2]))
        if opened.description.window is None:
            names = [*opened.description.features, str(opened.description.group)]
            SeriesStream(opened, names).push(["0"] * len(names), 2)
    elif isinstance(opened, TextTask):
        list(opened.sample(opened.corpus.vocabulary[0] if opened.corpus.level == "word" else "", 2, seed=0))
