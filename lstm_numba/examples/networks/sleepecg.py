"""SleepECG: awake, dreaming or asleep? Two bidirectional GRUs of 8 units over a night of heartbeats.

Both GRUs and the linear layer after them come out of the package's Keras model in one call. Keras skips steps
whose features are all -1, and outputs zeros there: here these steps are left out, which is the same. The
original is Keras on the backend that KERAS_BACKEND names, PyTorch by default (the package asks for
TensorFlow), and, if there is no Keras too, the equations that Keras documents, in NumPy, with weights read by
h5py. The features are made up: a night of 8 hours, a tenth of it unknown.

    pip install h5py keras torch
    python -m lstm_numba.examples.networks.sleepecg --download

Package and network: Florian Hofer, Clemens Brunner and others, BSD license, github.com/cbrnr/sleepecg.
"""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import lstm_numba as ln
from lstm_numba.examples.networks.comparison import Comparison, difference, peer, run
from lstm_numba.examples.networks.package import Package

PACKAGE = Package(
    "sleepecg",
    "0.6.0",
    {
        "sleepecg/classifiers/wrn-gru-mesa.zip": (
            "5622a858c855b0090e1fbcbdc35334ea459707c830eae1a26a4375e33091e869"
        )
    },
)
#: In the package's archive.
MODEL = "classifier.keras"
FEATURES, UNKNOWN = 36, -1
#: Keras' default, added to a variance; the model has it.
EPSILON = 1e-3

Array = np.ndarray[Any, Any]
Stager = Callable[[Array], Array]


def draw_night(steps: int, seed: int = 0) -> Array:
    """Slowly changing features (T, 36) of 30 s each; every tenth step, and some features, unknown (-1)."""
    rng = np.random.default_rng(seed)
    night = np.cumsum(rng.standard_normal((steps, FEATURES)) * 0.3, axis=0) + rng.standard_normal((steps, 36))
    night[rng.random(steps) < 0.1] = UNKNOWN
    night[rng.random(night.shape) < 0.02] = UNKNOWN
    return night.astype(np.float32)


def softmax(scores: Array) -> Array:
    """Probabilities, along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def load_stager(path: Path) -> Stager:
    """Their network: features (T, 36) -> probabilities of the stages (T, 4)."""
    # Warns, rightly, that the network masks steps, and of the layers that are put together below.
    network = ln.load_weights(path, prefix="bidirectional.", head="dense_1")
    network.rnn.freeze()
    tensors = ln.read_tensors(path)
    gamma, beta, mean, variance = (
        tensors[f"batch_normalization.{n}"] for n in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    scale = gamma / np.sqrt(variance + EPSILON)
    # The normalisation is part of the linear layer after it.
    weight = (tensors["dense.weight"] * scale).T
    bias = tensors["dense.bias"] + tensors["dense.weight"] @ (beta - scale * mean)
    unknown = network.output.params["bias"]

    def stage(features: Array) -> Array:
        known = np.any(features != UNKNOWN, axis=1)
        scores = np.tile(unknown, (len(features), 1))
        scores[known] = network.scores(np.maximum(features[known] @ weight + bias, 0)[:, None])[:, 0]
        return softmax(scores)

    return stage


class ByEquations:
    """The network as Keras documents its layers, step by step in NumPy, with weights read by h5py.

    Parameters
    ----------
    path : path
    dtype : dtype
        Of the computation.
    """

    def __init__(self, path: Path, dtype: Any = np.float32) -> None:
        content = zipfile.ZipFile(path).read("model.weights.h5")
        with peer("h5py").File(io.BytesIO(content)) as file:
            layers = file["layers"]

            def read(name: str) -> list[Array]:
                group = layers[f"{name}/vars"]
                return [group[str(n)][:].astype(dtype) for n in range(len(group))]

            self.normalization, self.dense, self.last = map(read, ("batch_normalization", "dense", "dense_1"))
            self.rnns = [
                [read(f"{layer}/{way}_layer/cell") for way in ("forward", "backward")]
                for layer in ("bidirectional", "bidirectional_1")
            ]

    def __call__(self, features: Array) -> Array:
        known = np.any(features != UNKNOWN, axis=1)
        gamma, beta, mean, variance = self.normalization
        x = gamma * (features - mean) / np.sqrt(variance + EPSILON) + beta
        x = np.maximum(x @ self.dense[0] + self.dense[1], 0)
        for forward, backward in self.rnns:
            back = self._gru(x[::-1], known[::-1], *backward)[::-1]
            x = np.concatenate([self._gru(x, known, *forward), back], axis=1)
        return softmax(x @ self.last[0] + self.last[1])

    @staticmethod
    def _gru(x: Array, known: Array, kernel: Array, recurrent: Array, bias: Array) -> Array:
        """Keras' GRU with reset_after: at a masked step the state stays and the output is zero."""
        units = len(recurrent)
        given = x @ kernel + bias[0]
        h, y = np.zeros(units, x.dtype), np.zeros((len(x), units), x.dtype)
        for t in np.flatnonzero(known):
            own = h @ recurrent + bias[1]
            z, r = (1 / (1 + np.exp(-(given[t] + own)[: 2 * units]))).reshape(2, units)
            h = z * h + (1 - z) * np.tanh(given[t, 2 * units :] + r * own[2 * units :])
            y[t] = h
        return y


def by_keras(path: Path, threads: int) -> tuple[str, Stager]:
    """The network in Keras, by `predict_on_batch`: `predict`, which the package calls, takes longer."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = peer("keras")
    backend = keras.backend.backend()
    if backend == "torch":
        peer("torch").set_num_threads(threads)
    model = keras.models.load_model(path)
    return f"Keras on {backend}", lambda features: np.asarray(model.predict_on_batch(features[None]))[0]


def compare(path: Path, threads: int = 1, steps: int = 960) -> list[Comparison]:
    """All on a night of 8 hours, with the package's archive or the Keras model in it."""
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == ".zip":
            path = Path(zipfile.ZipFile(path).extract(MODEL, folder))
        ours = load_stager(path)
        rivals: dict[str, Stager] = {"the equations in NumPy": ByEquations(path)}
        if find_spec("keras"):
            rivals = dict([by_keras(path, threads)]) | rivals
    night, found = draw_night(steps), []
    for name, theirs in rivals.items():
        expected = theirs(night)
        stages = ", ".join(map(str, np.bincount(expected.argmax(axis=1), minlength=4)))
        found.append(
            Comparison(
                f"2 bidirectional GRUs of 8, {steps} steps", name, difference(ours(night), expected), 1e-5,
                partial(ours, night), partial(theirs, night), unit="night",
                note=f"steps of each stage: {stages}",
            )
        )  # fmt: skip
    return found


def main() -> None:
    """Find the network, compare, time."""
    run(PACKAGE, compare)


if __name__ == "__main__":
    main()
