"""A user's own series: forecasts, regression and classification from tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.data.batching import BatchOrder
from lstm_numba.data.series import (
    SeriesData,
    SeriesOptions,
    WindowIndex,
    load_series,
    series_of_tables,
)
from lstm_numba.data.series_groups import part, tables_of
from lstm_numba.data.tables import Array
from lstm_numba.errors import CheckpointError, UserError, printable
from lstm_numba.models.base import SequenceBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.ranks.base import ALONE, Ranks
from lstm_numba.training.callbacks import Evaluation
from lstm_numba.training.config import ConfigError
from lstm_numba.training.run import Run
from lstm_numba.training.series_description import SeriesDescription, checksum, describe
from lstm_numba.training.series_examples import example_options, example_table
from lstm_numba.training.series_items import SeriesItems
from lstm_numba.training.series_measures import Measures, baselines, of_classes, of_numbers
from lstm_numba.training.series_settings import test_share
from lstm_numba.training.task import Progress, Task

#: Loss of predicted numbers where none is chosen.
DEFAULT_LOSS = "mse"


class SeriesTask(Task):
    """A `SequenceRegressor` or `SequenceClassifier` and a user's tables.

    Parameters
    ----------
    config, data_dir, device
        See `lstm_numba.training.tasks.build_task`.
    ranks : Ranks
        See `Task`.
    description : SeriesDescription, optional
        As the run folder keeps it; with it, the tables are read only when needed.

    Attributes
    ----------
    description : SeriesDescription
    """

    carries_state = False
    model: SequenceClassifier | SequenceRegressor

    def __init__(
        self,
        config: Mapping[str, Any],
        data_dir: str | os.PathLike[str] | None = None,
        device: str | None = None,
        description: SeriesDescription | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(config, data_dir, device, ranks)
        self._loaded: SeriesData | None = None
        self._remarks: tuple[str, ...] = ()
        self._items: dict[str, SeriesItems] = {}
        self.splits = ("train", "valid", "test") if config["validation"] else ("train", "test")
        if description is None:
            self._loaded = self._read(series_options(self.config))
            self._remarks = self._loaded.guesses
            description = describe(self._loaded, config["data"]["scale"])
        self.description = description
        classify = description.task == "classify"
        self.kind = "classification" if classify else "regression"
        self.metric = "accuracy" if classify else "loss"
        self.unit = "values" if not classify else "sequences" if description.window is None else "windows"
        self.classes = description.classes
        self.model = self._make_model()

    def _make_model(self) -> SequenceClassifier | SequenceRegressor:
        it, loss = self.description, self.config["data"]["loss"]
        inputs, network = len(it.features), self.network("bidirectional")
        if it.task == "classify":
            if loss is not None:
                raise ConfigError("loss", f"is for predicted numbers, not for --task classify, got {loss}")
            return SequenceClassifier(inputs, classes=len(it.classes), **network)
        outputs = len(it.targets) * (it.horizon or 1)
        return SequenceRegressor(
            inputs, outputs=outputs, loss=loss or DEFAULT_LOSS, per_step=it.per_step, **network
        )

    # -- data ----------------------------------------------------------------------------------------

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Task.notes`: what was guessed, left out and filled, a line each."""
        return tuple(map(printable, self._remarks))

    @property
    def sequence_steps(self) -> int:
        """See `Task.sequence_steps`."""
        return self.items("train").index.longest

    @property
    def data(self) -> SeriesData:
        """The sequences; those that the run started with.

        Raises
        ------
        CheckpointError
            They are others.
        """
        if self._loaded is None:
            options = self.description.options(self.config["data"], self.config["validation"])
            data = self._read(options)
            it = self.description
            if (data.features, data.classes, checksum(data)) != (it.features, it.classes, it.data):
                raise CheckpointError(f"{self._source()}: not the data that the run started with")
            self._loaded = data
        return self._loaded

    def _read(self, options: SeriesOptions) -> SeriesData:
        """Read the tables once a machine; tests and `warmup` have others."""
        return self.ranks.once_a_machine(lambda: self._load(options))

    def _load(self, options: SeriesOptions) -> SeriesData:
        example = self.config["data"]["example"]
        if example is not None:
            tables = [example_table(example)]
            if options.only is not None:
                tables = tables_of(part(tables, options.group), options.only, example)
            return series_of_tables(tables, options)
        files = self.config["data"]["files"]
        if self.data_dir is not None:  # where they are now
            files = [os.path.join(self.data_dir, os.path.basename(file)) for file in files]
        return load_series(files, options)

    def _source(self) -> str:
        files = self.config["data"]["files"] or [self.config["data"]["example"]]
        return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"

    def load_data(self) -> None:
        """See `Task.load_data`."""
        for split in self.splits:
            self.items(split)

    def items(self, split: str) -> SeriesItems:
        """What is predicted in a part of the data."""
        self._check_split(split)
        if split not in self._items:
            self._items[split] = self.items_of(self.data.parts[split])
            if not len(self._items[split]):
                raise UserError(f"{self._source()}: no target is known in the {split} part")
        return self._items[split]

    def items_of(self, pieces: Sequence[Any], all_items: bool = False) -> SeriesItems:
        """What is predicted in some sequences.

        Parameters
        ----------
        pieces : sequence of lstm_numba.data.series.Sequence
        all_items : bool
            Those without a target too.
        """
        it = self.description
        index = WindowIndex(
            pieces,
            it.window,
            it.horizon or 0,
            self.config["data"]["stride"],
            per_step=it.per_step,
            before=np.array(it.means),
            all_items=all_items,
        )
        return SeriesItems(index, it)

    # -- training ------------------------------------------------------------------------------------

    @property
    def chance(self) -> float:
        """See `Task.chance`; of numbers it depends on their scale: the first step's loss stands for it."""
        return float(np.log(len(self.classes))) if self.classes else 0.0

    @cached_property
    def _order(self) -> BatchOrder:
        return BatchOrder(len(self.items("train")), self.config["batch_size"], self.config["seed"])

    @property
    def steps_per_epoch(self) -> int:
        """See `Task.steps_per_epoch`."""
        return len(self._order)

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        """See `Task.batch`."""
        return self.items("train").gather(self._order.batch(epoch, step), self.model.dtype)

    def fingerprint(self) -> str:
        """See `Task.fingerprint`."""
        self.data  # noqa: B018  # compared with the description if that was there before
        return self.description.data

    def vocabulary_digest(self) -> str:
        """See `Task.vocabulary_digest`."""
        return self.description.digest()

    def keep_with(self, run: Run) -> None:
        """See `Task.keep_with`: the description."""
        run.keep_series(self.description)

    # -- results -------------------------------------------------------------------------------------

    def evaluate(self, split: str, progress: Progress | None = None) -> Evaluation:
        """See `Task.evaluate`; the measures are in the units of the data."""
        items = self.items(split)
        sums, pairs = np.zeros(3), []
        for chosen in items.batches():
            own = chosen[self.ranks.part(len(chosen)).rows]
            if len(own):
                result = self.model.evaluate(items.gather(own, self.model.dtype))
                sums += result.loss_sum, result.correct, result.count
                pairs.append(self._compared(items, own))
            if progress is not None:
                progress(int(chosen[-1]) + 1, len(items))
        loss, correct, count = self.ranks.sum(sums).tolist()
        summary = self.summary(split, loss, round(correct), round(count))
        true, answers = (
            self.ranks.join(np.concatenate(parts) if parts else None)
            for parts in ([true for true, _ in pairs], [answer for _, answer in pairs])
        )
        if not np.isfinite(answers).all():
            return Evaluation(split, float("nan"), summary.accuracy, None, summary.count)
        measures = self._measures(true, answers)
        measures.pop("accuracy", None)
        return Evaluation(split, summary.loss, summary.accuracy, None, summary.count, measures)

    def _compared(self, items: SeriesItems, chosen: npt.NDArray[np.int64]) -> tuple[Array, Array]:
        """Targets and answers of some items, (B,) and (B, C), or (N, K, M) each."""
        _, true = items.read(chosen)
        answer = items.predict(self.model, chosen)
        if self.classes:
            return true[:, 0, 0].astype(np.int64), answer
        middle = answer[..., answer.shape[-1] // 2]  # of quantiles the median
        if self.description.per_step:
            count = len(self.description.targets)
            return true.reshape(-1, 1, count), middle.reshape(-1, 1, count)
        return true, middle

    def compared(self, split: str) -> tuple[Array, Array]:
        """Targets, NaN where missing, and answers for a part of the data.

        Returns
        -------
        true, answers : ndarray
            Classes (N,) and their probabilities (N, C); or numbers (N, K, M), K steps ahead or 1.
        """
        items = self.items(split)
        pairs = [self._compared(items, chosen) for chosen in items.batches()]
        return np.concatenate([true for true, _ in pairs]), np.concatenate([answer for _, answer in pairs])

    def bands(self, split: str) -> tuple[Array, Array]:
        """As `compared`, of numbers, with all that is predicted of each: answers (N, K, M, P)."""
        items, count = self.items(split), len(self.description.targets)
        pairs = []
        for chosen in items.batches():
            (_, true), answer = items.read(chosen), items.predict(self.model, chosen)
            if self.description.per_step:
                true, answer = true.reshape(-1, 1, count), answer.reshape(-1, 1, *answer.shape[2:])
            pairs.append((true, answer))
        return np.concatenate([true for true, _ in pairs]), np.concatenate([answer for _, answer in pairs])

    def _measures(self, true: Array, answers: Array) -> Measures:
        if self.classes:
            return of_classes(true, answers)
        return of_numbers(true, answers, self._training_targets(), self.description)

    def _training_targets(self) -> list[Array]:
        return [piece.y for piece in self.data.parts["train"]]

    def baselines(self) -> tuple[dict[str, Measures], list[str]]:
        """See `Task.baselines`."""
        parts = {split: self.items(split) for split in self.splits}
        return baselines(parts, self.description, self._training_targets())

    def confusion_matrix(self, split: str, progress: Progress | None = None) -> npt.NDArray[np.int64]:
        """Number of items by ``[true, predicted]`` class, (C, C)."""
        true, probabilities = self.compared(split)
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(matrix, (true, np.argmax(probabilities, axis=1)), 1)
        return matrix


def series_options(config: Mapping[str, Any]) -> SeriesOptions:
    """What the user said of the tables, or what an example needs."""
    data = config["data"]
    options = SeriesOptions(
        tuple(data["target"] or ()),
        tuple(data["features"] or ()),
        data["time"],
        data["group"],
        data["task"],
        data["window"],
        data["horizon"],
        data["stride"],
        data["split"],
        config["validation"],
        test_share(data),
        data["split_seed"],
        data.get("only"),
    )
    return options if data["example"] is None else example_options(data["example"], options)
