"""Every figure that the README quotes of the processor, measured in one sitting, and its tables.

    python -m lstm_numba.benchmarks.figures measure benchmarks/results/zen5-avx512 --data-dir DATA
    python -m lstm_numba.benchmarks.figures measure benchmarks/results/zen5-avx2 --isa avx2 --only layers cold
    python -m lstm_numba.benchmarks.figures tables benchmarks/results/zen5-avx512
    python -m lstm_numba.benchmarks.figures readme README.md

`measure` runs the sections one after the other, each a program of its own that writes a JSON file to the
folder, and then `tables`, which writes a README.md of these files beside them. `readme` puts tables into a
page, between ``<!-- figures FOLDER SECTION -->`` and ``<!-- end of figures -->``. No table is typed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from lstm_numba.benchmarks.conditions import ISAS, environment
from lstm_numba.benchmarks.markdown import table as _table
from lstm_numba.benchmarks.markdown import with_blocks
from lstm_numba.benchmarks.own_tables import own_data_table, settings_table
from lstm_numba.benchmarks.results import geometric_mean

#: A table's lines, of a section's file.
Table = Callable[[Mapping[str, Any]], "list[str]"]
_NAMES = {"lstm": "LSTM", "gru": "GRU"}


class Section(NamedTuple):
    """A program that measures, the words after it, its table, what that is of, and more for its own page."""

    module: str
    words: Sequence[str]
    table: Table
    title: str
    details: Table = lambda document: []


def _bold_below(value: float) -> str:
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
    names = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime"}
    head = ["batch, steps, inputs, units"]
    head += [f"{_NAMES.get(cell, cell)} {task}: {names[peer]}" for (cell, task), peer in columns]
    lines, ratios = [], {column: [] for column in columns}  # type: ignore[var-annotated]
    for rows in shapes.values():
        shape = next(iter(rows.values()))["shape"]
        cells = [", ".join(str(shape[axis]) for axis in ("batch", "steps", "inputs", "hidden"))]
        for kind, peer in columns:
            ratio = rows[kind]["ratios"].get(peer) if kind in rows else None
            cells.append("" if ratio is None else _bold_below(ratio))
            if ratio is not None:
                ratios[kind, peer].append(ratio)
        lines.append(cells)
    lines.append(["geometric mean", *(f"{geometric_mean(ratios[column]):.2f}" for column in columns)])
    return [*_table(head, lines), "", *_better_peer(document)]


def _better_peer(document: Mapping[str, Any]) -> list[str]:
    """Beside the faster peer: mean and lowest."""
    groups: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for row in document["rows"]:
        if row["ratios"]:
            ratio = min(row["ratios"].values())
            groups.setdefault((row["cell"], row["task"]), []).append((ratio, row["shape"]["name"]))
    parts = [
        f"{_NAMES.get(cell, cell)} {task} {geometric_mean(ratio for ratio, _ in found):.2f}, lowest "
        f"{min(found)[0]:.2f} ({min(found)[1]})"
        for (cell, task), found in groups.items()
    ]
    return [f"Beside the faster peer of each row, in the mean: {'; '.join(parts)}."]


def share_table(document: Mapping[str, Any]) -> list[str]:
    """Milliseconds, the share of one big product, and what is left to gain: how many times the time that all
    multiplications would take at that product's rate the faster peer takes.
    """
    lines = [
        (
            _NAMES.get(row["cell"], row["cell"]), row["task"], row["shape"]["name"],
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
        "all threads",
        "PyTorch",
        "ONNX Runtime",
        "share of one big product",
        "ratio at 100%",
    ]
    return _table(head, lines)


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
        label = f"{_NAMES.get(row['cell'], row['cell'])} {row['task']}, {row['shape']['name']}"
        lines.append((label, f"{parallel['median'] / serial['median']:.2f}", *slower))
    head = ["", "all threads / one thread", "all threads / without others", "PyTorch / without others",
            "ONNX Runtime / without others"]  # fmt: skip
    return _table(head, lines)


def memory_table(document: Mapping[str, Any]) -> list[str]:
    """Peak memory of a training step."""
    lines = [
        (
            f"{_NAMES.get(row['cell'], row['cell'])}, {row['shape']['name']}",
            *(f"{row['contestants'][name]['memory_mib']:.0f}" for name in ("cpu-parallel", "pytorch")),
        )
        for row in document["rows"]
    ]
    return _table(["training, MiB", "here", "PyTorch"], lines)


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
    return _table(
        ["training", *shapes], [(name, *(found.get(s, "") for s in shapes)) for name, found in cells.items()]
    )


def streams_table(document: Mapping[str, Any]) -> list[str]:
    """One step of many streams, in milliseconds."""
    lines = [(entry["name"], f"{1e3 * entry['median']:.3g}") for entry in document["streams"]]
    return _table(["one step of 10,000 streams, 16 inputs, 16 units", "ms"], lines)


def steps_table(document: Mapping[str, Any]) -> list[str]:
    """A step from compiled code and from Python, in microseconds."""
    found: dict[str, dict[str, float]] = {}
    for key, entries in document.items():
        if isinstance(entries, list) and key.endswith(" step"):
            found[key.removesuffix(" step")] = {entry["name"]: 1e6 * entry["median"] for entry in entries}
    names = list(dict.fromkeys(name for times in found.values() for name in times))
    lines = [
        (_NAMES.get(cell, cell), *(f"{times[name]:.3g}" if name in times else "" for name in names))
        for cell, times in found.items()
    ]
    return _table(["one step, µs", *names], lines)


def clockwork_table(document: Mapping[str, Any]) -> list[str]:
    """A clockwork RNN over a plain one."""
    shapes = list(dict.fromkeys(row["shape"]["name"] for row in document["rows"]))
    found: dict[str, dict[str, str]] = {}
    for row in document["rows"]:
        time = median(row["seconds"]) / median(row["plain_seconds"])
        part = row["multiplications"] / row["plain_multiplications"]
        name = f"{row['groups']} groups, {row['task']}"
        found.setdefault(name, {})[row["shape"]["name"]] = f"{time:.2f} ({part:.2f})"
    return _table(
        ["", *shapes], [(name, *(cells.get(s, "") for s in shapes)) for name, cells in found.items()]
    )


def epochs_table(document: Mapping[str, Any]) -> list[str]:
    """Seconds an epoch of both programs."""

    def middle(values: Sequence[float]) -> str:
        return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    seconds = document["seconds"]
    names = [name for name in ("lstm_numba", "pytorch") if name in seconds]
    head = ["seconds an epoch", *({"lstm_numba": "here", "pytorch": "PyTorch"}[name] for name in names)]
    lines: list[Sequence[object]] = [
        (f"`{_training(document['command'])}`", *(middle(seconds[name]) for name in names))
    ]
    return _table(head, lines)


def _training(command: str) -> str:
    """The training that ``epochs.py`` timed."""
    words = command.split()[2:]
    given = dict(zip(words[1::2], words[2::2], strict=False))
    option = f"--preset {given['--preset']}" if words[0] == "ptb" else f"--cell {given.get('--cell', 'lstm')}"
    return f"lstm-numba train {words[0]} {option}"


def _words(option: str, names: Sequence[str]) -> list[str]:
    return [word for name in names for word in (option, name)]


def _bench(words: str, table: Table, title: str, *details: Table) -> Section:
    cells = _words("--cell", list(_NAMES))
    return Section("lstm_numba", ["bench", *cells, *words.split()], table, title, *details)


def _options(words: str, others: Sequence[str], title: str) -> Section:
    return Section(
        "lstm_numba.benchmarks.layer_options",
        [*words.split(), *_words("--other", others)],
        options_table,
        title,
    )


def _epochs(words: str, title: str) -> Section:
    return Section(
        "lstm_numba.benchmarks.epochs", words.split(), epochs_table, f"{title}, an epoch of training"
    )


_TASKS = "--task inference --task training"
_BUSY = "--shape mnist --shape ptb-small --shape ptb-medium --shape sequence-256"
_OTHERS = ("coupled", "peephole", "peephole-full", "use-gate", "slstm", "layer-norm-lstm")
SECTIONS: dict[str, Section] = {
    "layers": _bench(
        f"--preset all {_TASKS} --repeats 7",
        peers_table,
        "Layers: how many times as fast as the peers (above 1: faster)",
        share_table,
    ),
    "cold": _bench(
        "--preset all --task inference --pause 30 --repeats 7",
        peers_table,
        "The same, each call after a pause of 30 ms",
    ),
    **{
        f"busy-{count}": _bench(
            f"{_BUSY} {_TASKS} --busy {count} --repeats 7",
            busy_table,
            f"Beside {count} process{'es' * (count > 1)} that compute{'s' * (count == 1)} without end",
        )
        for count in (1, 2, 4)
    },
    "steps": Section(
        "lstm_numba.benchmarks.jit_step",
        ["--repeats", "9"],
        steps_table,
        "One step a call, one sequence, 16 inputs, 64 units",
        streams_table,
    ),
    "lstm-options": _options(
        "--cell lstm", _OTHERS, "Time of other cells and options over the plain LSTM's (multiplications)"
    ),
    "gru-options": _options("--cell gru", ["layer-norm-gru"], "The same of the GRU"),
    "clockwork": Section(
        "lstm_numba.benchmarks.clockwork",
        [
            *_words("--shape", ["mnist", "ptb-small", "ptb-medium", "ptb-large"]),
            *_words("--groups", ["2", "4"]),
        ],
        clockwork_table,
        "Time of a clockwork RNN over a plain RNN's of as many units (multiplications)",
    ),
    "memory": _bench(
        "--preset all --task training --repeats 1 --memory "
        "--implementation cpu-parallel --implementation pytorch",
        memory_table,
        "Peak memory of a training step, beyond weights and input",
    ),
    "mnist-lstm": _epochs("mnist --cell lstm --epochs 3", "MNIST, LSTM"),
    "mnist-gru": _epochs("mnist --cell gru --epochs 3 --rounds 1", "MNIST, GRU"),
    "ptb-small": _epochs("ptb --preset small --epochs 1 --rounds 1", "Penn Treebank, small"),
    "ptb-medium": _epochs("ptb --preset medium --epochs 1 --rounds 1", "Penn Treebank, medium"),
    "own-data": Section(
        "lstm_numba.benchmarks.own_data",
        [],
        own_data_table,
        "The estimators on real data: mean of the seeds (lowest to highest)",
        settings_table,
    ),
}
#: Sections that read MNIST or PTB.
_ON_DATA = [name for name, section in SECTIONS.items() if section.module.endswith("epochs")]


def measure(folder: Path, names: Sequence[str], isa: str | None, data_dir: str | None) -> None:
    """Run sections, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**os.environ, **(environment(isa) if isa else {})}
    for name in names:
        section, began = SECTIONS[name], time.perf_counter()
        words = [*section.words, "--json", f"{name}.json"]
        if name in _ON_DATA and data_dir is not None:
            words += ["--data-dir", str(Path(data_dir).resolve())]
        print(f"{name}: {section.module} {' '.join(words)}", flush=True)
        status = subprocess.run(
            [sys.executable, "-m", section.module, *words], cwd=folder, env=settings
        ).returncode
        print(
            f"{name}: {time.perf_counter() - began:.0f} s{f', exit status {status}' if status else ''}",
            flush=True,
        )


def _documents(folder: Path) -> dict[str, Any]:
    """What the sections wrote, in their order."""
    files = {name: folder / f"{name}.json" for name in SECTIONS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}


#: Packages whose versions a page tells.
_PACKAGES = ("python", "numpy", "numba", "torch", "onnxruntime", "scikit-learn", "aeon", "statsmodels")


def _versions(machine: Mapping[str, Any]) -> list[str]:
    """Versions and commit that a section was measured with."""
    found = [f"{name} {machine[name]}" for name in _PACKAGES if machine.get(name)]
    return [*found, f"commit {(machine.get('commit') or 'unknown')[:7]}"]


def page(folder: Path) -> str:
    """Machine, versions and all tables of a folder, as Markdown; a section's own where they differ."""
    documents = _documents(folder)
    about = next(document["machine"] for document in documents.values() if "machine" in document)
    chosen = ", and no library was to use more" if about.get("isa") else ""
    written = "Written" if set(documents) == {"own-data"} else "Medians; written"
    machine = f"{about['cpu']}, {about['cores']} cores, {about['threads']} threads"
    lines = [
        f"# {folder.name}",
        "",
        f"{machine}; {about['vector_unit']}{chosen}. "
        f"{', '.join(_versions(about))}. {written} by "
        "`python -m lstm_numba.benchmarks.figures` from the JSON files beside this page.",
    ]
    for name, document in documents.items():
        section = SECTIONS[name]
        others = [text for text in _versions(document.get("machine", about)) if text not in _versions(about)]
        source = f"`{document.get('command', '')}`: [{name}.json]({name}.json)"
        source += f" ({', '.join(others)})" if others else ""
        lines += ["", f"## {section.title}", "", *section.table(document), ""]
        lines += [*section.details(document), "", source] if section.details(document) else [source]
    return "\n".join(lines) + "\n"


def with_tables(text: str, root: Path) -> str:
    """A page with the tables of its blocks as the files in `root` say."""

    def block(folder: str, section: str) -> list[str]:
        return SECTIONS[section].table(json.loads((root / folder / f"{section}.json").read_text()))

    return with_blocks(text, "figures", block)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["measure", "tables", "readme"])
    parser.add_argument("path", type=Path, help="folder of results, or a page")
    names = list(SECTIONS)
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="SECTION", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--isa", choices=ISAS, help="as of lstm-numba bench")
    parser.add_argument("--data-dir", help="folder with the files of MNIST and PTB")
    args = parser.parse_args()
    if args.action == "readme":
        args.path.write_text(with_tables(args.path.read_text(), args.path.parent))
        return
    if args.action == "measure":
        measure(args.path, args.only, args.isa, args.data_dir)
    (args.path / "README.md").write_text(page(args.path))


if __name__ == "__main__":
    main()
