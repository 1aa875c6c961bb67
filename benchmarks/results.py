"""What a comparison leaves behind: one JSON object, and the comparison of two of them.

``format``, ``date``, ``command``, ``machine``, ``protocol``, ``unavailable`` (contestant -> why),
``yardsticks`` (threads -> the big product), ``interrupted``, ``compile_seconds``, ``crossovers`` (of a sweep,
see `crossovers`) and ``rows``. A row has
``cell``, ``shape`` (name, batch, steps, inputs, hidden), ``task``, ``dtype``, ``threads``, ``flops`` (see
`lstm_numba.benchmarks.cases.flop_count`), ``contestants``, ``refused`` (contestant -> why it was not timed)
and what follows from them: ``ours`` (who stands for this library on the processor), ``ratios`` (peers'
medians over ours), ``gflops``, ``share`` (of the big product) and ``cuda``, the first three of these for
those on the graphics processor. Each contestant has ``seconds`` (a call, one number a turn), ``calls`` (in a
turn), ``median``, ``quartiles``, ``compile_seconds`` (of the processor's kernels), ``first_seconds`` (of the
calls that were checked, with all that only a first call has to do, such as compiling CUDA's kernels),
``differences`` (from reference and others, by array, relative to its largest number) and, where asked for,
``memory_mib``.
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
    """Tell what numbers are measured on and with."""
    import numba

    from lstm_numba.engines.cpu.cpu_features import vector_unit

    return {
        "cpu": processor_name(),
        "vector_unit": vector_unit().name,
        "cores": os.cpu_count(),
        "threads": numba.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **versions(("numpy", "numba", "llvmlite", "torch", "onnxruntime")),
        "lstm_numba": __version__,
        "commit": _commit(),
        "cuda": _cuda(),
    }


def _cuda() -> dict[str, Any] | None:
    """The CUDA device and what computes on it; None where there is no device."""
    if not find_cuda().available:
        return None
    from lstm_numba.engines.cuda import gemm
    from lstm_numba.engines.cuda.driver import device_facts

    found = {
        **device_facts(),
        "products": gemm.backend(),
        **versions(("numba-cuda", "cupy-cuda12x", "cupy-cuda13x")),
    }
    torch = sys.modules.get("torch")  # not for this alone: it takes seconds
    if torch is not None and torch.cuda.is_available():
        found.update(torch_cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version())
    return found


def _commit() -> str | None:
    """The commit that this package is, with ``+`` if files were changed since; None outside a checkout."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # an installed copy may lie inside somebody's checkout
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def begin(command: str, protocol: Mapping[str, Any], unavailable: Mapping[str, str]) -> dict[str, Any]:
    """Start a document; rows are appended as they come."""
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
        It cannot be read, or is none of ours; the text names the file.
    """
    try:
        document = json.loads(read_file(path, kind=UserError))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UserError(f"{path}: not written by lstm-numba bench")
    try:
        _entries(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: damaged: {type(error).__name__}: {one_line(error)}") from None
    return document


class Pair(NamedTuple):
    """The same contestant on the same row of two documents, medians in seconds."""

    cell: str
    shape: str
    task: str
    contestant: str
    first: float
    second: float
    #: Whether the ranges between the quartiles have a number in common: then the ratio means little.
    overlap: bool

    @property
    def ratio(self) -> float:
        """Second over first: below 1, the second is faster."""
        return self.second / self.first


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Pair]:
    """Pair what two documents have in common, in the order of the first.

    Rows with the same cell, size, task, precision and threads are the same, whatever their names.
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
    """What identifies each contestant of each row -> the row's name, median, quartiles."""
    found = {}
    swept = len({row["threads"] for row in document["rows"]}) > 1
    for row in document["rows"]:
        shape = row["shape"]
        for name in ("cell", "task", "dtype"):
            if not isinstance(row[name], str):
                raise TypeError(f"{name}: expected a text, got {row[name]!r}")
        size = tuple(int(shape[axis]) for axis in ("batch", "steps", "inputs", "hidden"))
        for contestant, entry in row["contestants"].items():
            key = (row["cell"], row["task"], size, row["dtype"], row["threads"], contestant)
            median, (low, high) = float(entry["median"]), entry["quartiles"]
            if not 0 < median < math.inf:
                raise ValueError(f"median: expected a time, got {median}")
            name = f"{shape['name']} {row['threads']}t" if swept else str(shape["name"])
            found[key] = name, median, (float(low), float(high))
    return found


def geometric_mean(values: Iterable[float]) -> float:
    """The mean for ratios."""
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms))


def crossovers(rows: Sequence[Mapping[str, Any]], axis: str) -> list[dict[str, Any]]:
    """From where on along a sweep the graphics processor is faster than all threads of the processor.

    Parameters
    ----------
    rows : sequence of dict
        Of one sweep.
    axis : {"batch", "hidden"}

    Returns
    -------
    list of dict
        One for each cell, task and contestant of ours on the device: ``cell``, ``task``, ``contestant``,
        ``axis``, ``values`` at which it and cpu-parallel were timed, in order, ``speedups`` there
        (cpu-parallel's median over the contestant's) and ``from``, the least value at which, and at all
        greater ones of the sweep, it was faster; None where it was not faster at the greatest.
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
    """A peer's times over ours, of one cell and task."""

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
