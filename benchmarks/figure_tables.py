"""Tables of the sections of `lstm_numba.benchmarks.figures`, of what their programs wrote.

Keys of the files keep the names of the first ones, see `lstm_numba.benchmarks.results`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from lstm_numba.benchmarks.markdown import table
from lstm_numba.benchmarks.results import geometric_mean

NAMES = {"lstm": "LSTM", "gru": "GRU"}
PEERS = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime"}


def bold_below(value: float) -> str:
    """A ratio; below 1 in bold."""
    text = f"{value:.2f}" if value < 9.995 else f"{value:.0f}"
    return text if value >= 0.995 else f"**{text}**"


def _by_shape(document: Mapping[str, Any]) -> dict[str, dict[tuple[str, str], Mapping[str, Any]]]:
    """Rows of ``lstm-numba bench`` by shape, then cell and task."""
    found: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {}
    for row in document["rows"]:
        found.setdefault(row["shape"]["name"], {})[row["cell"], row["task"]] = row
    return found


def peers_table(document: Mapping[str, Any]) -> list[str]:
    """How many times as fast as each peer, by shape."""
    shapes = _by_shape(document)
    kinds = list(dict.fromkeys(kind for rows in shapes.values() for kind in rows))
    columns = [
        (kind, peer)
        for kind in kinds
        for peer in ("pytorch", "onnxruntime")
        if any(peer in rows[kind]["ratios"] for rows in shapes.values() if kind in rows)
    ]
    head = ["batch, steps, inputs, units"]
    head += [f"{NAMES.get(cell, cell)} {task}: {PEERS[peer]}" for (cell, task), peer in columns]
    lines, ratios = [], {column: [] for column in columns}  # type: ignore[var-annotated]
    for rows in shapes.values():
        shape = next(iter(rows.values()))["shape"]
        cells = [", ".join(str(shape[axis]) for axis in ("batch", "steps", "inputs", "hidden"))]
        for kind, peer in columns:
            ratio = rows[kind]["ratios"].get(peer) if kind in rows else None
            cells.append("" if ratio is None else bold_below(ratio))
            if ratio is not None:
                ratios[kind, peer].append(ratio)
        lines.append(cells)
    lines.append(["geometric mean", *(f"{geometric_mean(ratios[column]):.2f}" for column in columns)])
    return [*table(head, lines), "", *_better_peer(document)]


def _better_peer(document: Mapping[str, Any]) -> list[str]:
    """Against the faster peer: mean and lowest."""
    groups: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for row in document["rows"]:
        if row["ratios"]:
            ratio = min(row["ratios"].values())
            groups.setdefault((row["cell"], row["task"]), []).append((ratio, row["shape"]["name"]))
    parts = [
        f"{NAMES.get(cell, cell)} {task} {geometric_mean(ratio for ratio, _ in found):.2f}, lowest "
        f"{min(found)[0]:.2f} ({min(found)[1]})"
        for (cell, task), found in groups.items()
    ]
    return [f"Against the faster peer of each row, geometric mean: {'; '.join(parts)}."]


def share_table(document: Mapping[str, Any]) -> list[str]:
    """Milliseconds, the fraction of GEMM throughput, and what is left to gain: the ratio to the faster peer
    if all multiplications ran at GEMM throughput.
    """
    lines = [
        (
            NAMES.get(row["cell"], row["cell"]), row["task"], row["shape"]["name"],
            *(
                f"{1e3 * row['contestants'][name]['median']:.3g}" if name in row["contestants"] else ""
                for name in ("cpu-serial", "cpu-parallel", "pytorch", "onnxruntime")
            ),
            f"{row['share']:.0%}",
            f"{min(row['ratios'].values()) / row['share']:.2f}" if row["ratios"] else "",
        )
        for row in document["rows"]
    ]  # fmt: skip
    head = [
        "cell",
        "task",
        "shape",
        "one thread, ms",
        "all threads, ms",
        "PyTorch, ms",
        "ONNX Runtime, ms",
        "fraction of GEMM throughput",
        "ratio at GEMM throughput",
    ]
    return table(head, lines)


def busy_table(document: Mapping[str, Any]) -> list[str]:
    """What other processes cost."""
    lines = []
    for row in document["rows"]:
        entries = row["contestants"]
        serial, parallel = entries["cpu-serial"], entries["cpu-parallel"]
        slower = [
            f"{entries[name]['median'] / entries[name]['quiet_median']:.1f}" if name in entries else ""
            for name in ("cpu-parallel", "pytorch", "onnxruntime")
        ]
        label = f"{NAMES.get(row['cell'], row['cell'])} {row['task']}, {row['shape']['name']}"
        lines.append((label, f"{parallel['median'] / serial['median']:.2f}", *slower))
    head = ["", "all threads / one thread", "all threads / without others", "PyTorch / without others",
            "ONNX Runtime / without others"]  # fmt: skip
    return table(head, lines)


def memory_table(document: Mapping[str, Any]) -> list[str]:
    """Peak memory of a training step."""
    lines = [
        (
            f"{NAMES.get(row['cell'], row['cell'])}, {row['shape']['name']}",
            *(f"{row['contestants'][name]['memory_mib']:.0f}" for name in ("cpu-parallel", "pytorch")),
        )
        for row in document["rows"]
    ]
    return table(["training, MiB", "lstm_numba", "PyTorch"], lines)


def options_table(document: Mapping[str, Any]) -> list[str]:
    """Other cells and options over the plain layer."""
    shapes = list(dict.fromkeys(row["shape"]["name"] for row in document["rows"]))
    cells: dict[str, dict[str, str]] = {}
    plain = {
        row["shape"]["name"]: row["multiplications"] for row in document["rows"] if row["option"] == "plain"
    }
    for row in document["rows"]:
        if row["option"] != "plain":
            shape = row["shape"]["name"]
            part = row["multiplications"] / plain[shape]
            cells.setdefault(row["option"], {})[shape] = f"{row['ratio']:.2f} ({part:.2f})"
    return table(
        ["training", *shapes], [(name, *(found.get(s, "") for s in shapes)) for name, found in cells.items()]
    )


def streams_table(document: Mapping[str, Any]) -> list[str]:
    """One step of many streams, in milliseconds."""
    lines = [
        (PEERS.get(entry["name"], entry["name"]), f"{1e3 * entry['median']:.3g}")
        for entry in document["streams"]
    ]
    return table(["one step of 10,000 streams, 16 inputs, 16 units", "ms"], lines)


def steps_table(document: Mapping[str, Any]) -> list[str]:
    """A step from compiled code and from Python, in microseconds."""
    found: dict[str, dict[str, float]] = {}
    for key, entries in document.items():
        if isinstance(entries, list) and key.endswith(" step"):
            found[key.removesuffix(" step")] = {entry["name"]: 1e6 * entry["median"] for entry in entries}
    names = list(dict.fromkeys(name for times in found.values() for name in times))
    lines = [
        (NAMES.get(cell, cell), *(f"{times[name]:.3g}" if name in times else "" for name in names))
        for cell, times in found.items()
    ]
    return table(["one step, µs", *(PEERS.get(name, name) for name in names)], lines)


def clockwork_table(document: Mapping[str, Any]) -> list[str]:
    """A clockwork RNN over a plain one."""
    shapes = list(dict.fromkeys(row["shape"]["name"] for row in document["rows"]))
    found: dict[str, dict[str, str]] = {}
    for row in document["rows"]:
        time = median(row["seconds"]) / median(row["plain_seconds"])
        part = row["multiplications"] / row["plain_multiplications"]
        name = f"{row['groups']} groups, {row['task']}"
        found.setdefault(name, {})[row["shape"]["name"]] = f"{time:.2f} ({part:.2f})"
    return table(
        ["", *shapes], [(name, *(cells.get(s, "") for s in shapes)) for name, cells in found.items()]
    )


def epochs_table(document: Mapping[str, Any]) -> list[str]:
    """Seconds per epoch of both programs."""
    return all_epochs_table([document])


def all_epochs_table(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Seconds per epoch of several trainings, of both programs."""

    def middle(values: Sequence[float]) -> str:
        if len(values) == 1:
            return f"{values[0]:.2f}"
        return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    head = ["seconds per epoch", "lstm_numba", "PyTorch", "PyTorch / lstm_numba"]
    lines = [
        (
            f"`{_training(document['command'])}`",
            *(middle(document["seconds"][name]) for name in ("lstm_numba", "pytorch")),
            bold_below(epochs_ratio(document)),
        )
        for document in documents
    ]
    return table(head, lines)


def epochs_ratio(document: Mapping[str, Any]) -> float:
    """Median seconds per epoch of PyTorch over ours."""
    seconds = document["seconds"]
    return median(seconds["pytorch"]) / median(seconds["lstm_numba"])


def _training(command: str) -> str:
    """The training that ``epochs.py`` timed."""
    words = command.split()[2:]
    given = dict(zip(words[1::2], words[2::2], strict=False))
    option = f"--preset {given['--preset']}" if words[0] == "ptb" else f"--cell {given.get('--cell', 'lstm')}"
    return f"lstm-numba train {words[0]} {option}"
