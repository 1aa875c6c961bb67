"""Classifying images read as sequences: MNIST, digits, and a user's own pictures."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.data import digits, mnist, pictures
from lstm_numba.data.batching import BatchOrder
from lstm_numba.data.images import FORMS, ImageForm, Images, image_sequences
from lstm_numba.errors import CheckpointError, UserError
from lstm_numba.models.base import SequenceBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.ranks.base import ALONE, Ranks
from lstm_numba.ranks.shares import Share
from lstm_numba.training.callbacks import Evaluation
from lstm_numba.training.config import ConfigError
from lstm_numba.training.run import Run
from lstm_numba.training.run_consistency import form_digest
from lstm_numba.training.settings import data_defaults, read_size
from lstm_numba.training.task import Progress, Task

#: Batch size of an evaluation, and the most steps and numbers in a batch of large images.
_EVALUATION_BATCH = 500
_EVALUATION_STEPS, _EVALUATION_NUMBERS = 784 * _EVALUATION_BATCH, 1 << 24


class ImageTask(Task):
    """A `SequenceClassifier` and images.

    Parameters
    ----------
    config, data_dir, device
        See `lstm_numba.training.tasks.build_task`.
    ranks : Ranks
        See `Task`.
    form : dict, optional
        What the run folder keeps of own pictures; with it, they are loaded only when needed.

    Attributes
    ----------
    form : ImageForm
    """

    kind = "classification"
    unit = "images"
    metric = "accuracy"
    carries_state = False

    def __init__(
        self,
        config: Mapping[str, Any],
        data_dir: str | os.PathLike[str] | None = None,
        device: str | None = None,
        form: Mapping[str, Any] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(config, data_dir, device, ranks)
        self._view = config["data"].get("view", "rows")
        self.splits = ("train", "valid", "test") if config["validation"] else ("train", "test")
        self._split_images: dict[str, Images] = {}
        self._known = None if form is None else _image_form(form)
        self.form: ImageForm = FORMS.get(config["dataset"]) or self._known or self._own.form
        self._steps, features = self.form.sequence(self._view)
        self.model: SequenceClassifier = SequenceClassifier(
            features, classes=len(self.classes), **self.network("bidirectional")
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.form.classes

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Task.notes`."""
        return self._own.notes if self.config["dataset"] == "images" else ()

    @property
    def sequence_steps(self) -> int:
        """See `Task.sequence_steps`."""
        return self._steps

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
                self._split_images["test"] = self._once("test")
            else:
                self._divide(self._once("train"))
        return self._split_images[split]

    def _once(self, split: str) -> Images:
        """Read images once a machine; own pictures have been, both parts at once."""
        own = self.config["dataset"] == "images"
        return self._read(split) if own else self.ranks.once_a_machine(lambda: self._read(split))

    def _read(self, split: str) -> Images:
        data = self.config["data"]
        if self.config["dataset"] == "mnist":
            return mnist.load(split, self.data_dir)
        if self.config["dataset"] == "images":
            return self._own.train if split == "train" else self._own.test
        # `count` is the number of training images; the test images are always the same.
        return digits.load(split, data.get("seed", 0), data.get("count") if split == "train" else None)

    @cached_property
    def _own(self) -> pictures.PictureSet:
        """The user's own pictures, read once."""
        data = data_defaults("images") | self.config["data"]
        path = data["file"] if self.data_dir is None else self.data_dir
        if path is None:
            raise ConfigError("data.file", "expected the folder with the images, got none")
        size = None if data["size"] is None else read_size(data["size"])
        found = self.ranks.once_a_machine(
            lambda: pictures.load(path, size, data["colour"], data["test"], data["split_seed"])
        )
        if self._known is not None:
            _check_same(path, found.form, self._known)
        return found

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

    def share(self, epoch: int, step: int) -> Share:
        """See `Task.share`: only its own rows are prepared."""
        items = self._order.batch(epoch, step)
        part = self.ranks.part(len(items))
        chosen = self.images("train").take(items[part.rows] if part.size else items[:1])
        return Share(SequenceBatch(self._sequences(chosen.images), chosen.labels), part, part.total)

    def _sequences(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        return image_sequences(np.ascontiguousarray(images), self._view, self.model.dtype, form=self.form)

    @property
    def _evaluation_batch(self) -> int:
        """Images that are evaluated at once: fewer of those that make long sequences."""
        few = min(_EVALUATION_STEPS // self._steps, _EVALUATION_NUMBERS // math.prod(self.form.shape))
        return min(_EVALUATION_BATCH, max(few, 1))

    def _batches(
        self, images: Images, progress: Progress | None, ranks: Ranks = ALONE
    ) -> Iterator[SequenceBatch]:
        """A rank's share of the images in order; `progress` is called when a batch has been used."""
        size = self._evaluation_batch
        for first in range(0, len(images), size):
            stop = min(first + size, len(images))
            part = ranks.part(stop - first)
            if part.size:
                some = images.take(slice(first + part.first, first + part.stop))
                yield SequenceBatch(self._sequences(some.images), some.labels)
            if progress is not None:
                progress(stop, len(images))

    def evaluate(self, split: str, progress: Progress | None = None) -> Evaluation:
        """See `Task.evaluate`."""
        images = self.images(split)
        sums = np.zeros(2)
        for batch in self._batches(images, progress, self.ranks):
            result = self.model.evaluate(batch)
            sums += result.loss_sum, result.correct
        loss, correct = self.ranks.sum(sums).tolist()
        return self.summary(split, loss, round(correct), len(images))

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Probabilities of the classes.

        Parameters
        ----------
        images : ndarray (N, *form.shape), uint8
            (N, 28, 28) for MNIST and digits: 0 is background, 255 full ink.

        Returns
        -------
        ndarray (N, classes), float64

        Raises
        ------
        UserError
            The model's numbers overflow.
        """
        size = self._evaluation_batch
        parts = [
            self.model.probabilities(self._sequences(images[first : first + size]))
            for first in range(0, len(images), size)
        ]
        if not all(np.all(np.isfinite(part)) for part in parts):
            raise UserError("the model's outputs are not finite: its weights are too large")
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)))

    def confusion_matrix(self, split: str, progress: Progress | None = None) -> npt.NDArray[np.int64]:
        """Number of images by ``[true, predicted]`` class, (classes, classes)."""
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
        if self.config["dataset"] == "images":
            digest.update(form_digest(self.form._asdict()).encode())
        return digest.hexdigest()

    def vocabulary_digest(self) -> str | None:
        """See `Task.vocabulary_digest`: own pictures have a form."""
        return form_digest(self.form._asdict()) if self.config["dataset"] == "images" else None

    def keep_with(self, run: Run) -> None:
        """See `Task.keep_with`: the form of own pictures."""
        if self.config["dataset"] == "images":
            run.keep_form(self.form._asdict())


def _image_form(kept: Mapping[str, Any]) -> ImageForm:
    """What a run folder keeps, as it was before it became JSON."""
    return ImageForm(tuple(kept["classes"]), tuple(kept["shape"]), kept["mean"], kept["deviation"])


def _check_same(path: str, found: ImageForm, known: ImageForm) -> None:
    """Refuse pictures that are not those of the run."""
    if found.classes != known.classes:
        what = "other classes"
    elif found.shape != known.shape:
        what = "images of another size"
    elif found != known:
        what = "other training images"
    else:
        return
    raise CheckpointError(f"{path}: has {what} than those that the run started with")
