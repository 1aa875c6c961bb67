"""silero-vad: is there speech in 32 ms of sound? An LSTM cell between convolutions, one step at a time.

Of the network in the package's ONNX file the LSTM is computed here, the convolutions before it by ONNX
Runtime; what follows, 128 weights and a sigmoid, takes a line of NumPy. The original is the whole file in
ONNX Runtime, as the package runs it: on one thread, a call for every 32 ms, which is given the state that the
last one gave. The sound is made up.

    pip install onnx onnxruntime
    python -m lstm_numba.examples.networks.silero_vad --download

Package and network: Silero Team, MIT license, github.com/snakers4/silero-vad.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lstm_numba as ln
from lstm_numba.examples.networks.comparison import Comparison, difference, run
from lstm_numba.examples.networks.onnx_parts import Model, session
from lstm_numba.examples.networks.package import Package

PACKAGE = Package(
    "silero-vad",
    "6.0.0",
    {
        "silero_vad/data/silero_vad_16k_op15.onnx": (
            "794ed8a51d4f37faf0555383aa34dbaeeb83e3031a1df1e0351c457e1142bd3e"
        )
    },
)
RATE, CHUNK, CONTEXT, UNITS = 16000, 512, 64, 128
SAMPLING = np.array(RATE)
#: What the LSTM reads, in the file.
FEATURES = "/model/encoder/3/activation/Relu_output_0"
HEAD = "model.decoder.decoder.2.weight", "model.decoder.decoder.2.bias"

Array = np.ndarray[Any, Any]


def draw_sound(seconds: float, seed: int = 0) -> Array:
    """Something like syllables: harmonics of a gliding pitch, in bursts, in noise; (T, 64 + 512) samples.

    Every chunk begins with the last 64 samples of the one before.
    """
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    phase = (
        2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 0.7 * t) + 5 * np.sin(2 * np.pi * 5 * t)) / RATE
    )
    formants = 500 + 300 * np.sin(2 * np.pi * 1.3 * t), 1600 + 500 * np.sin(2 * np.pi * 0.9 * t)
    voice = np.zeros_like(t)
    for k in range(1, 25):
        loudness = sum(np.exp(-(((k * 140 - f) / 250) ** 2)) for f in formants)
        voice += loudness * np.sin(k * phase)
    bursts = np.clip(3 * np.sin(2 * np.pi * 3.1 * t) + 1, 0, 1) * (np.sin(2 * np.pi * 0.3 * t) > -0.2)
    sound = 0.08 * voice * bursts + 0.003 * rng.standard_normal(t.size)
    sound = np.concatenate([np.zeros(CONTEXT), sound]).astype(np.float32)
    count = (sound.size - CONTEXT) // CHUNK
    return np.stack([sound[n * CHUNK :][: CONTEXT + CHUNK] for n in range(count)])


def load_lstm(path: Path) -> ln.Stream:
    """Their LSTM, fed step by step."""
    return ln.Stream(ln.load_onnx(path, node=0))


def detector(path: Path, threads: int) -> Callable[[Array], Array]:
    """The whole network around our LSTM: chunks (T, 576) -> probabilities of speech (T,)."""
    model, stream = Model(path), load_lstm(path)
    front = session(model.part([FEATURES]), threads)
    weight, bias = (model.constant(name).astype(np.float32) for name in HEAD)
    weight = weight.reshape(-1)

    def detect(chunks: Array) -> Array:
        stream.reset()
        scores = np.empty(len(chunks), np.float32)
        for n, chunk in enumerate(chunks):
            features = front.run(None, {"input": chunk[None]})[0]
            scores[n] = weight @ np.maximum(stream.step(features[0, :, 0]), 0)
        return 1 / (1 + np.exp(-(scores + bias)))

    return detect


def original(path: Path, threads: int) -> Callable[[Array], tuple[Array, Array, Array]]:
    """The whole file: chunks -> probabilities (T,), states (T, 2, 1, 128), features (T, 128)."""
    whole = session(Model(path).with_outputs([FEATURES]), threads)

    def detect(chunks: Array) -> tuple[Array, Array, Array]:
        state, found = np.zeros((2, 1, UNITS), np.float32), []
        for chunk in chunks:
            given = {"input": chunk[None], "state": state, "sr": SAMPLING}
            score, state, features = whole.run(["output", "stateN", FEATURES], given)
            found.append((score[0, 0], state, features[0, :, 0]))
        scores, states, features = (np.array(part) for part in zip(*found, strict=True))
        return scores, states, features

    return detect


def compare_cell(path: Path, chunks: Array, threads: int) -> Comparison:
    """The LSTM alone, on the features of the whole file: h and c after every step."""
    _, states, features = original(path, threads)(chunks)
    model, stream = Model(path), load_lstm(path)
    node = model.recurrent[0]
    x, h, c = (node.input[k] for k in (0, 5, 6))
    theirs = session(model.part(node.output[1:3], [x, h, c]), threads)
    found = []
    for sample in features:
        stream.step(sample)
        found.append(np.array(stream.state)[:, 0])
    apart = max(difference(np.array(found)[:, k], states[:, k]) for k in range(2))

    def run_ours() -> None:
        for sample in features:
            stream.step(sample)

    def run_theirs() -> None:
        state = np.zeros((2, 1, 1, UNITS), np.float32)
        for sample in features:
            state = theirs.run(None, {x: sample[None, None], h: state[0], c: state[1]})

    return Comparison(
        f"LSTM 128 -> 128, {len(chunks)} steps in a row", "ONNX Runtime", apart, 1e-5,
        run_ours, run_theirs, len(chunks), "step",
    )  # fmt: skip


def compare_whole(path: Path, chunks: Array, threads: int) -> Comparison:
    """The whole network: the probability of speech."""
    ours, theirs = detector(path, threads), session(path.read_bytes(), threads)
    found, expected = ours(chunks), original(path, threads)(chunks)[0]

    def run_theirs() -> None:
        state = np.zeros((2, 1, UNITS), np.float32)
        for chunk in chunks:
            _, state = theirs.run(None, {"input": chunk[None], "state": state, "sr": SAMPLING})

    return Comparison(
        f"whole network, convolutions by ONNX Runtime in both, {len(chunks)} chunks", "ONNX Runtime",
        difference(found, expected), 1e-5, lambda: ours(chunks), run_theirs, len(chunks), "chunk",
        f"speech in {np.count_nonzero(expected > 0.5)} of {len(chunks)} chunks",
    )  # fmt: skip


def compare(path: Path, threads: int = 1, seconds: float = 10.0) -> list[Comparison]:
    """Both on a made-up sound."""
    chunks = draw_sound(seconds)
    return [compare_cell(path, chunks, threads), compare_whole(path, chunks, threads)]


def main() -> None:
    """Find the network, compare, time."""
    run(PACKAGE, compare)


if __name__ == "__main__":
    main()
