"""`RNNClassifier` on labelled sequences, beside aeon's 1-NN DTW and ROCKET; see `own_data`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.benchmarks.selection import Settings, choose, grid
from lstm_numba.metrics import accuracy

Array = npt.NDArray[Any]

#: Parts of the training data, each of which is once for validation.
FOLDS = 4
#: What every recurrent classifier is given.
FIXED: Settings = {"dtype": "float32"}
CANDIDATES = grid(bidirectional=[False, True], hidden_size=[32, 64])


class Labelled(NamedTuple):
    """What is classified.

    Attributes
    ----------
    name, about : str
    train, test : list of ndarray (T_i, F)
    train_labels, test_labels : ndarray (N,)
    """

    name: str
    about: str
    train: list[Array]
    train_labels: Array
    test: list[Array]
    test_labels: Array


class Method(NamedTuple):
    """A way to classify.

    Attributes
    ----------
    make : callable
        ``make(settings, seed)``: an object with `fit`, `predict` and, where there are several candidates,
        `predict_proba`, which take lists of sequences (T_i, F).
    candidates : list of dict
        Settings to choose from.
    random : bool
        Whether a seed changes anything.
    """

    make: Callable[[Mapping[str, Any], int], Any]
    candidates: list[Settings]
    random: bool = True


class Aeon:
    """A classifier of aeon, which reads (N, F, T), or a list of (F, T_i) if it takes different lengths.

    Parameters
    ----------
    model : BaseClassifier
    longest : int
        Steps to which aeon's `Padder` pads with zeros where `model` does not take different lengths.
    """

    def __init__(self, model: Any, longest: int) -> None:
        self._model, self._longest, self.padded = model, longest, False

    def _read(self, sequences: Sequence[Array]) -> Any:
        found = [np.ascontiguousarray(sequence.T, np.float64) for sequence in sequences]
        if self.padded:
            from aeon.transformations.collection.unequal_length import Padder

            return np.asarray(Padder(padded_length=self._longest).fit_transform(found))
        return found if len({len(sequence) for sequence in sequences}) > 1 else np.stack(found)

    def fit(self, sequences: Sequence[Array], labels: Array) -> Aeon:
        """Learn; if lengths differ and the classifier refuses that, sequences are padded from now on."""
        lengths = {len(sequence) for sequence in sequences}
        self.padded = len(lengths) > 1 and not self._model.get_tag("capability:unequal_length")
        self._model.fit(self._read(sequences), labels)
        return self

    def predict(self, sequences: Sequence[Array]) -> Array:
        """Classes, (N,)."""
        return np.asarray(self._model.predict(self._read(sequences)))


def _recurrent(cell: str, fixed: Mapping[str, Any]) -> Callable[[Mapping[str, Any], int], Any]:
    def make(settings: Mapping[str, Any], seed: int) -> Any:
        from lstm_numba.estimators import RNNClassifier

        return RNNClassifier(cell, random_state=seed, **fixed, **settings)

    return make


def methods(
    longest: int, fixed: Mapping[str, Any] = FIXED, candidates: list[Settings] = CANDIDATES
) -> tuple[dict[str, Method], dict[str, str]]:
    """The classifiers that are compared, of sequences of at most so many steps, and why some are left out."""
    found = {cell: Method(_recurrent(cell, fixed), candidates) for cell in ("gru", "lstm")}
    peers = ("1-NN DTW", "ROCKET")
    try:
        from aeon.classification.convolution_based import RocketClassifier
        from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier
    except ImportError as error:
        return found, dict.fromkeys(peers, f"aeon cannot be imported: {error}")
    found["1-NN DTW"] = Method(
        lambda settings, seed: Aeon(KNeighborsTimeSeriesClassifier(), longest), [{}], random=False
    )
    found["ROCKET"] = Method(lambda settings, seed: Aeon(RocketClassifier(random_state=seed), longest), [{}])
    return found, {}


def _folds(labels: Array, count: int) -> list[tuple[Array, Array]]:
    """What is learnt from and what is held out, of each fold; the same share of each class."""
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(count, shuffle=True, random_state=0)
    return list(folds.split(np.zeros(len(labels)), labels))


def _validate(
    data: Labelled, model: Callable[[], Any], folds: Sequence[tuple[Array, Array]]
) -> tuple[float, float]:
    """Share of wrong classes in the held-out parts, and the mean cross-entropy there, between equals."""
    wrong, losses = [], []
    for kept, held in folds:
        labels = data.train_labels[held]
        fitted = model().fit([data.train[k] for k in kept], data.train_labels[kept])
        found = fitted.predict_proba([data.train[k] for k in held])
        codes = np.searchsorted(fitted.classes_, labels)
        wrong.append(found.argmax(axis=1) != codes)
        losses.append(-np.log(np.maximum(found[np.arange(len(codes)), codes], 1e-12)))
    return float(np.mean(np.concatenate(wrong))), float(np.mean(np.concatenate(losses)))


def measure(
    data: Labelled, ways: Mapping[str, Method], seeds: Sequence[int], folds: int = FOLDS
) -> dict[str, Any]:
    """Choose settings by cross-validation within the training data, learn all of these, test once.

    Parameters
    ----------
    data : Labelled
    ways : dict of Method
    seeds : sequence of int
        The first is that of the cross-validation too.
    folds : int
        Of the cross-validation.

    Returns
    -------
    dict
        ``name``, ``about``, ``train``, ``test``, ``classes``, ``features`` (numbers), ``lengths`` (least and
        most steps), and ``methods``: for each ``settings``, ``tried`` (see
        `lstm_numba.benchmarks.selection.choose`), ``padded`` and ``runs``, one for each seed: ``accuracy``,
        ``fit_seconds``, ``predict_seconds``.
    """
    parts, found = _folds(data.train_labels, folds), {}
    for name, way in ways.items():

        def error(settings: Mapping[str, Any], way: Method = way) -> tuple[float, ...]:
            return _validate(data, lambda: way.make(settings, seeds[0]), parts)

        settings, tried = choose(way.candidates, error)
        _warm(data, way.make(settings, seeds[0]))
        runs = []
        for seed in seeds if way.random else seeds[:1]:
            model = way.make(settings, seed)
            began = time.perf_counter()
            model.fit(data.train, data.train_labels)
            learnt = time.perf_counter()
            answer = model.predict(data.test)
            done = time.perf_counter()
            right = accuracy(data.test_labels, answer)
            runs.append(
                {
                    "seed": seed,
                    "accuracy": right,
                    "fit_seconds": learnt - began,
                    "predict_seconds": done - learnt,
                }
            )
        padded = bool(getattr(model, "padded", False))
        found[name] = {"settings": settings, "tried": tried, "padded": padded, "runs": runs}
        print(
            f"{data.name}, {name}: accuracy {[round(run['accuracy'], 4) for run in runs]}, {settings}",
            flush=True,
        )
    lengths = [len(sequence) for sequence in [*data.train, *data.test]]
    return {
        "name": data.name,
        "about": data.about,
        "train": len(data.train),
        "test": len(data.test),
        "classes": len(np.unique(data.train_labels)),
        "features": data.train[0].shape[1],
        "lengths": [min(lengths), max(lengths)],
        "methods": found,
    }


def _warm(data: Labelled, model: Any) -> None:
    """Let a method compile what it compiles, on a few sequences of each class."""
    chosen = [
        k for label in np.unique(data.train_labels) for k in np.flatnonzero(data.train_labels == label)[:3]
    ]
    part = [data.train[k] for k in chosen]
    model.fit(part, data.train_labels[chosen]).predict(part)
