"""Classifying images read as sequences: MNIST and digits."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_numba.data import digits, mnist
from lstm_numba.data.batching import BatchOrder
from lstm_numba.data.images import Images, image_sequences
from lstm_numba.errors import UserError
from lstm_numba.models.base import SequenceBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.training.callbacks import Evaluation
from lstm_numba.training.config import ConfigError
from lstm_numba.training.task import Progress, Task

#: Batch size of an evaluation.
_EVALUATION_BATCH = 500


class ImageTask(Task):
    """A `SequenceClassifier` and images.

    Attributes
    ----------
    classes : tuple of str
    """

    kind: ClassVar[str] = "classification"
    unit: ClassVar[str] = "images"
    metric: ClassVar[str] = "accuracy"
    carries_state: ClassVar[bool] = False
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def __init__(
        self,
        config: Mapping[str, Any],
        data_dir: str | os.PathLike[str] | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(config, data_dir, device)
        self._view = config["data"].get("view", "rows")
        self.splits = ("train", "valid", "test") if config["validation"] else ("train", "test")
        self._split_images: dict[str, Images] = {}
        self.model: SequenceClassifier = SequenceClassifier(
            28 if self._view == "rows" else 1, classes=len(self.classes), **self.network("bidirectional")
        )

    @property
    def chance(self) -> float:
        """See `Task.chance`."""
        return math.log(len(self.classes))

    def load_data(self) -> None:
        """See `Task.load_data`."""
        for split in self.splits:
            self.images(split)

    def images(self, split: str) -> Images:
        """The images of a split; the last training images are held out as ``valid``."""
        self._check_split(split)
        if split not in self._split_images:
            if split == "test":
                self._split_images["test"] = self._read("test")
            else:
                self._divide(self._read("train"))
        return self._split_images[split]

    def _read(self, split: str) -> Images:
        data = self.config["data"]
        if self.config["dataset"] == "mnist":
            return mnist.load(split, self.data_dir)
        # `count` is the number of training images; the test images are always the same.
        return digits.load(split, data.get("seed", 0), data.get("count") if split == "train" else None)

    def _divide(self, images: Images) -> None:
        wanted = self.config["validation"]
        held = max(1, int(wanted * len(images))) if 0 < wanted < 1 else int(wanted)
        if held >= len(images):
            most = len(images) - 1
            expected = f"1 to {most} of the {len(images)} images" if most else "0 with a single image"
            raise ConfigError("validation", f"expected {expected}, got {wanted:g}")
        first = len(images) - held
        self._split_images["train"] = images.take(slice(0, first))
        if held:
            self._split_images["valid"] = images.take(slice(first, None))

    @cached_property
    def _order(self) -> BatchOrder:
        return BatchOrder(len(self.images("train")), self.config["batch_size"], self.config["seed"])

    @property
    def steps_per_epoch(self) -> int:
        """See `Task.steps_per_epoch`."""
        return len(self._order)

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        """See `Task.batch`."""
        chosen = self.images("train").take(self._order.batch(epoch, step))
        return SequenceBatch(self._sequences(chosen.images), chosen.labels)

    def _sequences(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        return image_sequences(
            np.ascontiguousarray(images), self._view, self.model.dtype, dataset=self.config["dataset"]
        )

    def _batches(self, images: Images, progress: Progress | None) -> Iterator[SequenceBatch]:
        """Images in order; `progress` is called when a batch has been used."""
        for first in range(0, len(images), _EVALUATION_BATCH):
            part = images.take(slice(first, first + _EVALUATION_BATCH))
            yield SequenceBatch(self._sequences(part.images), part.labels)
            if progress is not None:
                progress(first + len(part), len(images))

    def evaluate(self, split: str, progress: Progress | None = None) -> Evaluation:
        """See `Task.evaluate`."""
        images = self.images(split)
        loss, correct = 0.0, 0
        for batch in self._batches(images, progress):
            result = self.model.evaluate(batch)
            loss += result.loss_sum
            correct += result.correct
        return self.summary(split, loss, correct, len(images))

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Probabilities of the classes.

        Parameters
        ----------
        images : ndarray (N, 28, 28), uint8
            0 is background, 255 full ink.

        Returns
        -------
        ndarray (N, 10), float64

        Raises
        ------
        UserError
            The model's numbers overflow.
        """
        parts = [
            self.model.probabilities(self._sequences(images[first : first + _EVALUATION_BATCH]))
            for first in range(0, len(images), _EVALUATION_BATCH)
        ]
        if not all(np.all(np.isfinite(part)) for part in parts):
            raise UserError("the model's answers are no numbers: its weights are too large")
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)))

    def confusion_matrix(self, split: str, progress: Progress | None = None) -> npt.NDArray[np.int64]:
        """Number of images by ``[true, predicted]`` class, (10, 10)."""
        images = self.images(split)
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for batch in self._batches(images, progress):
            answers = np.argmax(self.model.logits(batch.x), axis=1)
            np.add.at(matrix, (batch.labels, answers), 1)
        return matrix

    def fingerprint(self) -> str:
        """See `Task.fingerprint`."""
        images = self.images("train")
        digest = hashlib.sha256(np.ascontiguousarray(images.images).data)
        digest.update(np.ascontiguousarray(images.labels).data)
        return digest.hexdigest()
