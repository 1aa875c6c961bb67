"""Tables of result files that programs of their own wrote: epochs, many models, ranks, networks, traces.

Each takes the folder that the files are in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from lstm_numba.benchmarks.figure_tables import NAMES, all_epochs_table, bold_below, streams_table
from lstm_numba.benchmarks.gpu.shapes import SIX
from lstm_numba.benchmarks.markdown import table

_EPOCHS = ("mnist-lstm", "mnist-gru", "ptb-small", "ptb-medium")


def read(folder: Path, name: str) -> dict[str, Any]:
    """A result file of a folder."""
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return document


def epoch_documents(folder: Path) -> dict[str, dict[str, Any]]:
    """The files of `lstm_numba.benchmarks.epochs` in a folder, by their names."""
    return {name: read(folder, name) for name in _EPOCHS if (folder / f"{name}.json").is_file()}


def epochs(folder: Path) -> list[str]:
    """Seconds per epoch of all trainings that a folder has."""
    return all_epochs_table(list(epoch_documents(folder).values()))


def streams(folder: Path) -> list[str]:
    """One step of many streams."""
    return streams_table(read(folder, "steps"))


#: Rows slower than this are losses: two digits after the point.
_LOST = 0.995


def losses(folder: Path) -> list[str]:
    """Layers that are slower than a peer, and what they would reach at GEMM throughput."""
    lines = []
    for file, condition in (("layers", ""), ("cold", ", after a pause of 30 ms")):
        for row in read(folder, file)["rows"]:
            for peer, ratio in row["ratios"].items():
                if ratio < _LOST:
                    shape = ", ".join(
                        str(row["shape"][axis]) for axis in ("batch", "steps", "inputs", "hidden")
                    )
                    lines.append(
                        (
                            f"{NAMES.get(row['cell'], row['cell'])} {row['task']}{condition}",
                            shape,
                            {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime"}[peer],
                            bold_below(ratio),
                            f"{row['share']:.0%}",
                            bold_below(ratio / row["share"]),
                        )
                    )
    head = ["slower", "batch, steps, inputs, units", "than", "ratio", "fraction of GEMM throughput",
            "ratio at GEMM throughput"]  # fmt: skip
    return table(head, lines)


def _milliseconds(seconds: Sequence[float]) -> str:
    """Median and quartiles."""
    low, _, high = quantiles(seconds, n=4, method="inclusive")
    digits = 0 if median(seconds) >= 1 else 1
    middle, low, high = (f"{1e3 * value:.{digits}f}" for value in (median(seconds), low, high))  # type: ignore[assignment]
    return f"{middle} ({low} to {high})"


#: Keys of a file of `lstm_numba.benchmarks.many_models`, and what they are.
_MANY = {
    "models=N": "`LSTM(8, 32, models=256)`, 2 threads",
    "models=N, 1 thread": "the same, 1 thread",
    "loop over layers": "a loop over 256 layers, 2 threads",
    "loop over layers, 1 thread": "a loop over 256 layers, 1 thread",
    "PyTorch loop": "PyTorch, a loop over 256 modules, 2 threads",
    "PyTorch loop, 1 thread": "PyTorch, a loop over 256 modules, 1 thread",
    "torch.func, nn.LSTM": "`torch.func.vmap` of the gradient, `nn.LSTM` with stacked weights",
    "torch.func, cell written out": "`torch.func.vmap` of the gradient, the cell written out",
}


def many_models(folder: Path) -> list[str]:
    """A training step of many small models: medians, quartiles, and the time over ours."""
    (row,) = read(folder, "many_models")["rows"]
    seconds = row["seconds"]
    ours = median(seconds["models=N"])
    lines = [
        (name, _milliseconds(seconds[key]), f"{median(seconds[key]) / ours:.3g}")
        for key, name in _MANY.items()
        if key in seconds
    ]
    return table(["backend", "ms per step (quartiles)", "over ours"], lines)


def ranks(folder: Path) -> list[str]:
    """A training step of two ranks beside one process."""
    seconds = read(folder, "ranks")["seconds"]
    names = {
        "2 threads": "1 process, 2 threads",
        "2 ranks": "2 ranks of 1 thread",
        "1 thread": "1 process, 1 thread",
    }
    lines = [
        (name, f"{1e3 * median(found):.1f} ({1e3 * min(found):.1f} to {1e3 * max(found):.1f})")
        for key, name in names.items()
        for found in (seconds[key],)
    ]
    return table(["", "ms per step, median (lowest to highest)"], lines)


def ranks_model(folder: Path) -> list[str]:
    """What more ranks would take, by the model; nothing in it is measured."""

    def ms(seconds: float) -> str:
        return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"

    lines = [
        (
            one["ranks"],
            one["rows"],
            ms(one["apart"]),
            ms(one["overlapped"]),
            f"{one['alone'] / one['ranks'] / one['overlapped']:.0%}",
        )
        for one in read(folder, "ranks")["model"]["strong"]
    ]
    return table(["ranks", "rows per rank", "ms per step", "with overlap", "efficiency with overlap"], lines)


def _short(seconds: float) -> str:
    """Seconds, milliseconds or microseconds."""
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e9 * seconds:.3g} ns"


def networks(folder: Path) -> list[str]:
    """Networks that others trained, beside what they ship with."""
    lines = []
    for row in read(folder, "networks")["rows"]:
        ratio = f"{row['ratio']:.2f}" if row["ratio"] >= 0.995 else f"**{row['ratio']:.2f}**"
        low, high = row["ratio_quartiles"]
        lines.append(
            (
                f"{row['package']} {row['version']}",
                row["what"],
                row["threads"],
                "0" if row["difference"] == 0 else f"{row['difference']:.0e}",
                f"{_short(row['ours'])} per {row['unit']}",
                f"{_short(row['theirs'])}, {row['rival']}",
                f"{ratio} ({low:.2f} to {high:.2f})",
            )
        )
    head = ["package", "network", "threads", "largest difference", "ours", "original",
            "original / ours (quartiles)"]  # fmt: skip
    return table(head, lines)


def trace_cost(folder: Path) -> list[str]:
    """Time of a trace over that of a forward pass and of a call, over all cells."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in read(folder, "trace_cost")["rows"]:
        for name, ratio in row["ratios"].items():
            found.setdefault(row["shape"]["name"], {}).setdefault(name, []).append(ratio)
    lines = [
        (
            shape,
            *(f"{median(ratios[name]):.2f} ({min(ratios[name]):.2f} to {max(ratios[name]):.2f})"
              for name in ("forward", "call")),
        )
        for shape, ratios in found.items()
    ]  # fmt: skip
    head = [
        "`rnn.trace(x)`, median over the cells (lowest to highest)",
        "over `rnn.forward(x)`",
        "over `rnn(x)`",
    ]
    return table(head, lines)


_KILLED = re.compile(r"killed (\d+) times; (\d+) of (\d+) final checkpoints identical")


def kill_and_resume(folder: Path) -> list[str]:
    """Runs that were killed and resumed, of all files of `lstm_numba.benchmarks.kill_and_resume`."""
    lines, sums = [], [0, 0, 0]
    for file in sorted(folder.glob("kill_and_resume*.txt")):
        summary = _KILLED.search(file.read_text(encoding="utf-8"))
        if summary is None:
            raise ValueError(
                f"{file.name}: expected a line 'killed N times; N of N final checkpoints identical'"
            )
        kills, identical, runs = map(int, summary.groups())
        lines.append((file.name, runs, kills, f"{identical} of {runs}"))
        sums = [sums[0] + runs, sums[1] + kills, sums[2] + identical]
    lines.append(("all", sums[0], sums[1], f"{sums[2]} of {sums[0]}"))
    return table(["file", "runs", "`kill -9`", "final checkpoints with the same bytes"], lines)


# -- GPU -----------------------------------------------------------------------------------------------

#: The newest measurements of a cell, in the folder of a device.
_DEVICE_FILES = {"lstm": "on_gpu_4.jsonl", "gru": "on_gpu_5.jsonl"}
#: Section of `on_gpu.py` -> file, newest measurement of epochs.
_DEVICE_EPOCHS = {
    "epochs-mnist": ("on_gpu_4.jsonl", "recorded steps, without CuPy"),
    "epochs-small": ("on_gpu_4.jsonl", "recorded steps, without CuPy"),
    "epochs-medium": ("on_gpu_2.jsonl", "with CuPy, before recorded steps"),
}


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def cudnn_ratios(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    """cuDNN's device time over ours, without TF32: (cell, task) -> shape -> ratio."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for cell, file in _DEVICE_FILES.items():
        times: dict[tuple[str, str, str], float] = {}
        for line in _lines(folder / file):
            if line["kind"] in ("kernels", "cudnn") and line["cell"] == cell and not line.get("tf32"):
                times[line["kind"], line["task"], line["shape"]] = line["device_us"]
        for (kind, task, shape), device in times.items():
            if kind == "kernels":
                found.setdefault((cell, task), {})[shape] = times["cudnn", task, shape] / device
    return found


def cudnn(folder: Path) -> list[str]:
    """The table of these ratios."""
    ratios = cudnn_ratios(folder)
    shapes = list(next(iter(ratios.values())))
    lines = [
        (f"{NAMES[cell]} {task}", *(bold_below(of[shape]) for shape in shapes))
        for (cell, task), of in ratios.items()
    ]
    sizes = [f"{name}: {', '.join(map(str, SIX[name][1:]))}" for name in shapes]
    return table(["cuDNN / lstm_numba; batch, steps, inputs, units", *sizes], lines)


def device_epochs(folder: Path) -> dict[str, tuple[Mapping[str, Any], str]]:
    """The newest document of each training on a device, and how it ran."""
    found = {}
    for section, (file, how) in _DEVICE_EPOCHS.items():
        for line in _lines(folder / file):
            if line["kind"] == "file" and line["section"] == section:
                found[section.removeprefix("epochs-")] = line["content"], how
    return found


def device_epochs_table(folder: Path) -> list[str]:
    """Seconds per epoch on the device."""
    documents = device_epochs(folder)
    head, rule, *lines = all_epochs_table([document for document, _ in documents.values()])
    notes = [how for _, how in documents.values()]
    return [
        f"{head} how |",
        f"{rule} --- |",
        *(f"{line} {how} |" for line, how in zip(lines, notes, strict=True)),
    ]


def device_steps(folder: Path) -> list[str]:
    """A whole training step on the device: recorded with our own products, and not recorded with cuBLAS."""
    names = {"steps_numba": "own products, recorded", "steps_cublas": "cuBLAS (CuPy), not recorded"}
    rows = {name: read(folder, name)["rows"] for name in names}
    found = {
        name: {one["name"]: one["host_us"]["median"] for one in steps if one["kind"] == "training step"}
        for name, steps in rows.items()
    }
    shapes = list(found["steps_numba"])
    lines = [(how, *(f"{found[name][shape] / 1e3:.2f}" for shape in shapes)) for name, how in names.items()]
    return table(["training step, ms, without preparing the batch", *shapes], lines)
