"""The result file of a comparison, a JSON object, and the comparison of two of them.

Keys keep the names of the first files: ``contestants`` are implementations, ``turns`` repeats, ``yardsticks``
GEMM peaks. At the top: ``format``, ``date``, ``command``, ``machine``, ``protocol``, ``unavailable``
(implementation -> why), ``yardsticks`` (threads -> see `lstm_numba.benchmarks.gemm_peak`), ``interrupted``,
``compile_seconds``, ``crossovers`` (of a sweep, see `crossovers`) and ``rows``.

A row has ``cell``, ``shape`` (name, batch, steps, inputs, hidden), ``task``, ``dtype``, ``threads``,
``flops`` (see `lstm_numba.benchmarks.cases.flop_count`), ``contestants``, ``refused`` (implementation -> why
it was not timed), and computed from these ``ours`` (this library's implementation for ratios on the CPU),
``ratios`` (peers' medians over ours), ``gflops``, ``share`` (of the GEMM peak) and ``cuda`` (the first three
of these on the GPU).

An implementation has ``seconds`` (per call, one number per repeat), ``calls`` (in a repeat), ``median``,
``quartiles``, ``compile_seconds`` (of CPU kernels), ``first_seconds`` (of the calls for the check, including
what only a first call does, such as compiling CUDA kernels), ``differences`` (from the reference and from
others, by array, relative to its largest element), on CUDA ``kernels`` (which one runs the sequence and why,
a line for each pass), with ``--memory`` ``memory_mib`` and with ``--busy`` ``quiet_median``, without the
other processes.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from lstm_numba import __version__
from lstm_numba.benchmarks.cases import ON_CUDA, OURS
from lstm_numba.data.file_io import one_line, read_file
from lstm_numba.engines import find_cuda
from lstm_numba.environment import processor_name, versions
from lstm_numba.errors import UserError

FORMAT = "lstm-numba bench 1"


def machine() -> dict[str, Any]:
    """The hardware and software that numbers are measured with."""
    from lstm_numba.benchmarks.conditions import chosen_isa
    from lstm_numba.engines.cpu.cpu_features import vector_unit
    from lstm_numba.engines.cpu.threads import thread_count

    return {
        "cpu": processor_name(),
        "vector_unit": vector_unit().name,
        "isa": chosen_isa(),
        "cores": os.cpu_count(),
        "threads": thread_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **versions(("numpy", "numba", "llvmlite", "torch", "onnxruntime")),
        "lstm_numba": __version__,
        "commit": commit(Path(__file__)),
        "cuda": _cuda(),
    }


def _cuda() -> dict[str, Any] | None:
    """The CUDA device and its libraries; None where there is no device."""
    if not find_cuda().available:
        return None
    from lstm_numba.engines.cuda import gemm
    from lstm_numba.engines.cuda.driver import device_facts

    found = {
        **device_facts(),
        "products": gemm.backend(),
        **versions(("numba-cuda", "cupy-cuda12x", "cupy-cuda13x")),
    }
    torch = sys.modules.get("torch")  # only where it is loaded already: loading takes seconds
    if torch is not None and torch.cuda.is_available():
        found.update(torch_cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version())
    return found


def commit(path: Path) -> str | None:
    """The commit of the checkout that `path` is in, with ``+`` if it has changes; None outside a checkout."""
    path = path.resolve()
    folder = path if path.is_dir() else path.parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", str(path))  # an installed copy may be inside some other checkout
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def begin(command: str, protocol: Mapping[str, Any], unavailable: Mapping[str, str]) -> dict[str, Any]:
    """A new document; rows are appended one by one."""
    return {
        "format": FORMAT,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "machine": machine(),
        "protocol": dict(protocol),
        "unavailable": dict(unavailable),
        "yardsticks": {},
        "compile_seconds": 0.0,
        "interrupted": False,
        "rows": [],
    }


def load(path: Path) -> dict[str, Any]:
    """Read a document.

    Raises
    ------
    UserError
        It cannot be read, or is no result file; the text names the file.
    """
    try:
        document = json.loads(read_file(path, kind=UserError))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: invalid JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UserError(f"{path}: not written by lstm-numba bench")
    try:
        _entries(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: damaged: {type(error).__name__}: {one_line(error)}") from None
    return document


class Pair(NamedTuple):
    """The same implementation and row in two documents, medians in seconds."""

    cell: str
    shape: str
    task: str
    implementation: str
    first: float
    second: float
    #: Whether the interquartile ranges overlap: then the ratio means little.
    overlap: bool

    @property
    def ratio(self) -> float:
        """Second over first: below 1, the second is faster."""
        return self.second / self.first


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Pair]:
    """Pair the rows and implementations that two documents share, in the order of the first.

    Rows with the same cell, size, task, precision and threads are the same, whatever the shape is called.
    """
    ones, others = _entries(first), _entries(second)
    pairs = []
    for key, (name, median, (low, high)) in ones.items():
        if key in others:
            _, other, (other_low, other_high) = others[key]
            overlap = low <= other_high and other_low <= high
            pairs.append(Pair(key[0], name, key[1], key[-1], median, other, overlap))
    return pairs


def _entries(document: Mapping[str, Any]) -> dict[tuple[Any, ...], tuple[str, float, tuple[float, float]]]:
    """What identifies an implementation in a row -> the row's name, median, quartiles."""
    found = {}
    swept = len({row["threads"] for row in document["rows"]}) > 1
    for row in document["rows"]:
        shape = row["shape"]
        for name in ("cell", "task", "dtype"):
            if not isinstance(row[name], str):
                raise TypeError(f"{name}: expected a text, got {row[name]!r}")
        size = tuple(int(shape[axis]) for axis in ("batch", "steps", "inputs", "hidden"))
        for implementation, entry in row["contestants"].items():
            key = (row["cell"], row["task"], size, row["dtype"], row["threads"], implementation)
            median, (low, high) = float(entry["median"]), entry["quartiles"]
            if not 0 < median < math.inf:
                raise ValueError(f"median: expected a time, got {median}")
            name = f"{shape['name']} {row['threads']}t" if swept else str(shape["name"])
            found[key] = name, median, (float(low), float(high))
    return found


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean, for ratios."""
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms))


def crossovers(rows: Sequence[Mapping[str, Any]], axis: str) -> list[dict[str, Any]]:
    """From which size of a sweep on the GPU is faster than all threads of the CPU.

    Parameters
    ----------
    rows : sequence of dict
        Of one sweep.
    axis : {"batch", "hidden"}

    Returns
    -------
    list of dict
        One for each cell, task and implementation of this library on the GPU: ``cell``, ``task``,
        ``contestant``, ``axis``, ``values`` at which it and cpu-parallel were timed, ascending, ``speedups``
        there (cpu-parallel's median over the implementation's) and ``from``, the smallest value from which on
        it was always faster; None where it was not faster at the largest.
    """
    speedups: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in rows:
        entries = row["contestants"]
        for name in OURS:
            if name in ON_CUDA and name in entries and "cpu-parallel" in entries:
                ratio = entries["cpu-parallel"]["median"] / entries[name]["median"]
                speedups.setdefault((row["cell"], row["task"], name), {})[row["shape"][axis]] = ratio
    found = []
    for (cell, task, name), by_value in speedups.items():
        start = None
        for value in sorted(by_value, reverse=True):
            if by_value[value] <= 1:
                break
            start = value
        values = sorted(by_value)
        identity = {"cell": cell, "task": task, "contestant": name, "axis": axis}
        ratios = [by_value[value] for value in values]
        found.append({**identity, "values": values, "speedups": ratios, "from": start})
    return found


class Summary(NamedTuple):
    """Times of a peer over ours, for one cell and task."""

    cell: str
    task: str
    peer: str
    mean: float
    worst: float
    worst_shape: str


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[Summary]:
    """Geometric mean and worst of the ratios, by cell, task and peer."""
    groups: dict[tuple[str, str, str], list[tuple[float, str]]] = {}
    for row in rows:
        on_cuda = (row.get("cuda") or {}).get("ratios", {})
        for peer, ratio in {**row["ratios"], **on_cuda}.items():
            groups.setdefault((row["cell"], row["task"], peer), []).append((ratio, row["shape"]["name"]))
    return [
        Summary(*key, geometric_mean(ratio for ratio, _ in found), *min(found))
        for key, found in groups.items()
    ]
