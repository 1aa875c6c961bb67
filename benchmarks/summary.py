"""The one table of the README: ratios to peers on every processor, of committed results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from lstm_numba.benchmarks.figure_tables import NAMES, PEERS, epochs_ratio
from lstm_numba.benchmarks.markdown import table
from lstm_numba.benchmarks.results import geometric_mean
from lstm_numba.benchmarks.stored_tables import cudnn_ratios, device_epochs, epoch_documents, read

#: Folder of results -> how its processor is called.
PROCESSORS = {
    "zen5-avx512": "Zen 5, AVX-512",
    "zen5-avx2": "Zen 5, AVX2",
    "zen3-avx2": "Zen 3, AVX2",
}
#: The GPU's folder, and what is compared there.
_GPU, _CUDNN = "h100", "cuDNN"
#: What a user calls for one step, as `lstm_numba.benchmarks.jit_step` names it.
_STEP = "from Python, Stream.step"
_EPOCHS = {
    "mnist-lstm": "MNIST epoch, LSTM",
    "mnist-gru": "MNIST epoch, GRU",
    "ptb-small": "PTB small epoch",
    "ptb-medium": "PTB medium epoch",
}
_GPU_EPOCHS = {"mnist": "mnist-lstm", "small": "ptb-small", "medium": "ptb-medium"}
_ROWS = (
    *(f"{name} {task}" for name in NAMES.values() for task in ("inference", "training")),
    *(f"{name}, one step per call" for name in NAMES.values()),
    *_EPOCHS.values(),
)


class Column(NamedTuple):
    """Ratios on one machine to one peer.

    Attributes
    ----------
    machine, peer : str
    ratios : dict
        Row -> the ratios that it is the geometric mean of: one for each shape.
    """

    machine: str
    peer: str
    ratios: dict[str, list[float]]


def processor_columns(results: Path) -> list[Column]:
    """The columns of all processors, in the folder of results."""
    found = []
    for folder, machine in PROCESSORS.items():
        for peer, name in PEERS.items():
            ratios = _of_layers(results / folder, peer)
            ratios |= _of_steps(results / folder, peer)
            if peer == "pytorch":
                ratios |= {
                    _EPOCHS[key]: [epochs_ratio(document)]
                    for key, document in epoch_documents(results / folder).items()
                }
            if ratios:
                found.append(Column(machine, name, ratios))
    return found


def _of_layers(folder: Path, peer: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in read(folder, "layers")["rows"]:
        if peer in row["ratios"]:
            found.setdefault(f"{NAMES[row['cell']]} {row['task']}", []).append(row["ratios"][peer])
    return found


def _of_steps(folder: Path, peer: str) -> dict[str, list[float]]:
    """One step per call of `lstm_numba.Stream`."""
    if not (folder / "steps.json").is_file():
        return {}
    document, found = read(folder, "steps"), {}
    for cell, name in NAMES.items():
        times = {entry["name"]: median(entry["seconds"]) for entry in document[f"{cell} step"]}
        if peer in times:
            found[f"{name}, one step per call"] = [times[peer] / times[_STEP]]
    return found


def gpu_column(results: Path) -> Column:
    """The column of the GPU: device times of layers, seconds of epochs."""
    folder = results / _GPU
    ratios = {
        f"{NAMES[cell]} {task}": list(shapes.values())
        for (cell, task), shapes in cudnn_ratios(folder).items()
    }
    epochs = {
        _EPOCHS[_GPU_EPOCHS[name]]: [epochs_ratio(document)]
        for name, (document, _) in device_epochs(folder).items()
    }
    return Column("H100, general kernels", f"PyTorch ({_CUDNN})", ratios | epochs)


def _text(value: float) -> str:
    """A ratio; below 1 in bold."""
    text = f"{value:.2f}" if value < 9.995 else f"{value:.0f}"
    return text if value >= 0.995 else f"**{text}**"


def _cell(ratios: Sequence[float]) -> str:
    """The geometric mean, and lowest to highest."""
    if len(ratios) < 2:
        return "".join(map(_text, ratios))
    return f"{_text(geometric_mean(ratios))} ({_text(min(ratios))} to {_text(max(ratios))})"


def summary_table(results: Path) -> list[str]:
    """A row for each task, a column for each machine and peer, and below what the numbers are."""
    columns = [*processor_columns(results), gpu_column(results)]
    head = ["peer's time / ours", *(f"{column.machine}: {column.peer}" for column in columns)]
    lines = [[name, *(_cell(column.ratios.get(name, ())) for column in columns)] for name in _ROWS]
    note = (
        "Layers: geometric mean (lowest to highest) over the shapes. Above 1: lstm_numba is faster; below 1 "
        "in bold. Empty: not measured."
    )
    return [*table(head, lines), "", note]
