"""Resemblyzer: whose voice is it? Three LSTM layers of 256 units and a linear layer, over 1.6 s of sound.

The layers and the linear layer come out of the package's checkpoint in one call. The original is the
package's forward pass, written here with PyTorch's modules, for to import the package is to import its tools
for sound. The frames are made up: smoothed noise, positive as spectra are.

    pip install torch
    python -m lstm_numba.examples.networks.resemblyzer --download

Package and network: Corentin Jemine, Resemble AI, Apache license 2.0, github.com/resemble-ai/Resemblyzer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import lstm_numba as ln
from lstm_numba.examples.networks.comparison import Comparison, difference, peer, run
from lstm_numba.examples.networks.package import Package

PACKAGE = Package(
    "Resemblyzer",
    "0.1.4",
    {"resemblyzer/pretrained.pt": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"},
)
FRAMES, BANDS, UNITS = 160, 40, 256

Array = np.ndarray[Any, Any]


def draw_frames(parts: int, seed: int = 0) -> Array:
    """Parts of an utterance, (parts, 160 frames of 10 ms, 40 bands), float32."""
    rng = np.random.default_rng(seed)
    level = rng.standard_normal((parts, FRAMES + 8, BANDS + 2))
    smooth = sum(level[:, k : k + FRAMES, j : j + BANDS] for k in range(8) for j in range(3))
    return (0.02 * np.exp(0.4 * smooth)).astype(np.float32)


def load_encoder(path: Path) -> Callable[[Array], Array]:
    """Their encoder: frames (B, 160, 40) -> embeddings (B, 256) of length 1."""
    network = ln.load_weights(path, prefix="model_state.lstm.", head="model_state.linear")
    network.rnn.freeze()

    def embed(frames: Array) -> Array:
        # The linear layer is wanted at the last step alone. NumPy's product would leave threads of its own
        # behind, which wait by spinning where the next call wants to compute.
        _, (hidden, _) = network.rnn(np.ascontiguousarray(frames.swapaxes(0, 1)))
        raw = np.maximum(network.output.forward(hidden[-1]), 0)
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    return embed


def original(path: Path, threads: int) -> Callable[[Array], Array]:
    """The same in PyTorch, as ``VoiceEncoder.forward`` computes it."""
    torch = peer("torch")
    torch.set_num_threads(threads)
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    layers = {
        "lstm": torch.nn.LSTM(BANDS, UNITS, 3, batch_first=True),
        "linear": torch.nn.Linear(UNITS, UNITS),
    }
    for name, module in layers.items():
        start = f"{name}."
        module.load_state_dict({k[len(start) :]: v for k, v in state.items() if k.startswith(start)})

    def embed(frames: Array) -> Array:
        with torch.inference_mode():
            _, (hidden, _) = layers["lstm"](torch.from_numpy(frames))
            raw = torch.relu(layers["linear"](hidden[-1]))
            return np.asarray((raw / torch.norm(raw, dim=1, keepdim=True)).numpy())

    return embed


def compare(path: Path, threads: int = 1, sizes: tuple[int, ...] = (1, 8)) -> list[Comparison]:
    """Both on 1.6 s, and on the parts of a longer utterance, which the package embeds together."""
    ours, theirs, found = load_encoder(path), original(path, threads), []
    for parts in sizes:
        frames = draw_frames(parts)
        found.append(
            Comparison(
                f"LSTM 40 -> 256, 3 layers, 160 steps, linear; {parts} at once", "PyTorch",
                difference(ours(frames), theirs(frames)), 1e-5,
                partial(ours, frames), partial(theirs, frames),
            )
        )  # fmt: skip
    return found


def main() -> None:
    """Find the network, compare, time."""
    run(PACKAGE, compare)


if __name__ == "__main__":
    main()
