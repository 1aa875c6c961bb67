"""The files that examples of the pages read: a run folder, weights of other programs, a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import keras_files
import numpy as np
import torch_files
from cli_tools import invoke
from pages import Block, python_blocks, reason_to_skip

import lstm_numba as ln


def _run(path: Path) -> None:
    few = "--images 60 --hidden 8 --batch-size 30 --epochs 1"
    answer = invoke(f"train digits {few} --out", path)
    assert answer.status == 0, answer.err


def _network_pt(path: Path) -> None:
    arrays = {f"encoder.{name}": a for name, a in ln.RNN(3, 5, seed=0).state_dict().items()}
    path.write_bytes(torch_files.saved(arrays))


def _tagger_pt(path: Path) -> None:
    arrays = {f"encoder.{name}": a for name, a in ln.GRU(16, 64, seed=0).state_dict().items()}
    head = ln.Linear(64, 5, rng=np.random.default_rng(1)).params
    path.write_bytes(torch_files.saved({**arrays, **{f"fc.{name}": a for name, a in head.items()}}))


def _loop_npz(path: Path) -> None:
    np.savez(path, enc_w_ih=np.ones((20, 3), np.float32), enc_w_hh=np.ones((20, 5), np.float32))


def _network_keras(path: Path) -> None:
    config = keras_files.chain(
        keras_files.entry("LSTM", "rec", return_sequences=True), keras_files.entry("Dense", "dense")
    )
    parts = keras_files.numbered("layers/lstm/cell", keras_files.weights(4, 3, 5, 1))
    parts["layers/dense/vars/0"], parts["layers/dense/vars/1"] = np.ones((5, 2)), np.ones(2)
    path.write_bytes(
        keras_files.archive(config, {name: np.asarray(a, np.float32) for name, a in parts.items()})
    )


def _network_onnx(path: Path) -> None:
    ln.save_onnx(ln.LSTM(3, 5, 2), path)


def _load_csv(path: Path) -> None:
    rows = [f"{hour},{math.sin(hour / 4):.4f},{math.cos(hour / 4):.4f}" for hour in range(120)]
    path.write_text("\n".join(["hour,load,temperature", *rows]) + "\n")


#: Name in an example -> what makes it.
MAKERS: dict[str, Callable[[Path], None]] = {
    "runs/digits-1": _run,
    "network.pt": _network_pt,
    "tagger.pt": _tagger_pt,
    "loop.npz": _loop_npz,
    "network.keras": _network_keras,
    "network.onnx": _network_onnx,
    "load.csv": _load_csv,
}


def make_files(text: str, folder: Path) -> None:
    """Make in a folder the files that a page's Python names."""
    read: list[Block] = [block for block in python_blocks(text) if not reason_to_skip(block)]
    for name, make in MAKERS.items():
        if any(f'"{name}"' in block.source for block in read) and not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            make(folder / name)
