"""Prints results as text: tables with aligned columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lstm_numba.benchmarks.cases import Row
from lstm_numba.benchmarks.results import Pair, geometric_mean, summarise

#: Width of the longest time with its spread, ``2.72ms ±107%``.
_TIME_WIDTH = 12
#: Columns after the times: heading -> width; the last two are for backends on the GPU.
_LAST = {"ratio": 5, "GFLOP/s": 7, "GEMM": 5, "cuda ratio": 10, "cuda GFLOP/s": 12}


def short_time(seconds: float) -> str:
    """A time with three significant digits: ``12.3ms``."""
    units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
    unit, size = next((u for u in units if seconds >= 0.9995 * u[1]), units[-1])
    value = seconds / size
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}{unit}"


def spread_time(entry: Mapping[str, Any]) -> str:
    """Median and half the interquartile range: ``12.3ms ±3%``, or ``>999%``."""
    low, high = entry["quartiles"]
    spread = 50 * (high - low) / entry["median"]
    return f"{short_time(entry['median'])} {f'±{spread:.0f}' if spread < 999.5 else '>999'}%"


def heading(document: Mapping[str, Any], dtype: str) -> str:
    """The lines above the table: machine, protocol, unavailable backends."""
    about, repeats = document["machine"], document["protocol"]["turns"]
    chosen = " (all libraries were told to use no more)" if about.get("isa") else ""
    lines = [
        f"{about['cpu']}, {about['vector_unit']}{chosen}, {about['cores']} cores; {dtype}",
        *_conditions(document["protocol"]),
        *([_cuda_line(about["cuda"])] if about.get("cuda") else []),
        f"median of {repeats} repeats ± half the interquartile range; ratio: time of the fastest peer / ours",
    ]
    reasons: dict[str, list[str]] = {}
    for name, why in document["unavailable"].items():
        reasons.setdefault(why, []).append(name)
    return "\n".join(lines + [f"{', '.join(names)}: {why}" for why, names in reasons.items()])


def _conditions(protocol: Mapping[str, Any]) -> list[str]:
    """Lines on what else happened."""
    lines, count = [], protocol.get("busy")
    if protocol.get("call_pause_seconds"):
        lines.append(f"each call after a pause of {1000 * protocol['call_pause_seconds']:g} ms")
    if count:
        others = "1 process that computes" if count == 1 else f"{count} processes that compute"
        lines.append(f"beside {others} without end")
    return lines


def _cuda_line(about: Mapping[str, Any]) -> str:
    versions = [f"{word} {about[word]}" for word in ("driver", "runtime") if word in about]
    return ", ".join([f"cuda: {about['device']}", *versions, f"products by {about['products']}"])


class Table:
    """The table of rows, printed row by row.

    Parameters
    ----------
    rows : sequence of Row
        All rows that will be printed, for the widths.
    implementations : sequence of str
        Names of the backends that have a column.
    """

    def __init__(self, rows: Sequence[Row], implementations: Sequence[str]) -> None:
        self._names = implementations
        self._last = list(_LAST) if "cuda" in implementations else list(_LAST)[:3]
        self._threads = len({row.threads for row in rows}) > 1
        labels = [self._label(row.cell, row.shape.name, row.task, row.threads) for row in rows]
        head = ("cell", "shape", "task")
        self._widths = [max(map(len, column)) for column in zip(head, *labels, strict=True)]
        self.header = self._line(
            head,
            [f"{name:>{max(_TIME_WIDTH, len(name))}}" for name in implementations],
            dict(zip(_LAST, _LAST, strict=True)),
        )

    def _label(self, cell: str, shape: str, task: str, threads: int) -> tuple[str, str, str]:
        return cell, f"{shape} {threads}t" if self._threads else shape, task

    def _line(self, label: Sequence[str], times: Sequence[str], last: Mapping[str, str]) -> str:
        first = [f"{text:<{width}}" for text, width in zip(label, self._widths, strict=True)]
        ends = [f"{last.get(name, '-'):>{_LAST[name]}}" for name in self._last]
        return " ".join([*first, *times, *ends])

    def row(self, result: Mapping[str, Any]) -> str:
        """The line of a result, one for each kernel of a sequence, one for each refused backend."""
        times = []
        for name in self._names:
            entry = result["contestants"].get(name)
            text = spread_time(entry) if entry else "wrong" if name in result["refused"] else "-"
            times.append(f"{text:>{max(_TIME_WIDTH, len(name))}}")
        label = self._label(result["cell"], result["shape"]["name"], result["task"], result["threads"])
        last: dict[str, str] = {}
        if result["ours"]:
            last |= {**_ratio_and_speed(result), "GEMM": f"{100 * result['share']:.0f}%"}
        if result["cuda"]:
            last |= {f"cuda {name}": text for name, text in _ratio_and_speed(result["cuda"]).items()}
        lines = [self._line(label, times, last), *_kernels(result["contestants"])]
        lines += [f"  {name} is not timed: {why}" for name, why in result["refused"].items()]
        return "\n".join(lines)


def _kernels(entries: Mapping[str, Any]) -> list[str]:
    """Which kernels ran and why, those that several backends ran once."""
    names: dict[str, list[str]] = {}
    for name, entry in entries.items():
        for text in entry.get("kernels", ()):
            names.setdefault(text, []).append(name)
    return [f"  {' and '.join(found)}, {text}" for text, found in names.items()]


def _ratio_and_speed(result: Mapping[str, Any]) -> dict[str, str]:
    """The ratio to the fastest peer and our GFLOP/s, as text."""
    ratios, gflops = result["ratios"].values(), result["gflops"]
    speed = f"{gflops:.0f}" if gflops >= 999.5 else f"{gflops:.{3 if gflops >= 0.01 else 1}g}"
    ratio = min(ratios, default=None)
    text = "-" if ratio is None else f"{ratio:.{2 if ratio < 99.995 else 0}f}"
    return {"ratio": text, "GFLOP/s": speed}


def closing(document: Mapping[str, Any]) -> str:
    """The lines below the table: GEMM peak, compilation, crossovers, memory, means."""
    lines = []
    for threads, peak in document["yardsticks"].items():
        parts = ", ".join(f"{name} {value:.0f}" for name, value in peak["gflops"].items())
        count = f"{threads} thread{'' if threads == 1 else 's'}"
        lines.append(
            f"GEMM: fraction of GEMM throughput, {peak['name']} of size {peak['size']}, {count}: "
            f"{peak['best']:.0f} GFLOP/s, the best of {parts}"
        )
    lines.append(f"compiled in {document['compile_seconds']:.1f} s (0 s when cached)")
    lines += _crossovers(document.get("crossovers", []))
    lines += _memory(document["rows"])
    lines += _busy(document["rows"])
    summaries = summarise(document["rows"])
    if summaries:
        lines += ["", "time of a peer / ours (above 1: ours is faster), geometric mean and lowest"]
        lines += aligned(
            [(s.cell, s.task, s.peer, f"{s.mean:.2f}", f"{s.worst:.2f}", s.worst_shape) for s in summaries],
            right=(3, 4),
        )
    return "\n".join(lines)


def _busy(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What other processes cost, as text."""
    lines = []
    for row in rows:
        entries = row["contestants"]
        slower = {n: e["median"] / e["quiet_median"] for n, e in entries.items() if "quiet_median" in e}
        if slower:
            serial, parallel = (
                entries.get(name, {}).get("median") for name in ("cpu-serial", "cpu-parallel")
            )
            both = f"{parallel / serial:.2f}" if serial and parallel else "-"
            times = ", ".join(f"{name} {ratio:.1f}" for name, ratio in slower.items())
            lines.append((row["cell"], row["shape"]["name"], row["task"], both, times))
    if not lines:
        return []
    heading = "busy: time of cpu-parallel / cpu-serial, and of each backend / without the other processes"
    return ["", heading, *aligned(lines, right=(3,))]


def _crossovers(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """From which size on the GPU is faster, as text."""
    if not found:
        return []
    lines = ["", f"{found[0]['axis']} from which on a backend is faster than cpu-parallel"]
    return lines + aligned(
        [(f["cell"], f["task"], f["contestant"], crossover_text(f), _speedups(f)) for f in found]
    )


def crossover_text(found: Mapping[str, Any]) -> str:
    """``from 64 on``, or for which sizes it is faster otherwise."""
    if found["from"] is not None:
        everywhere = found["from"] == found["values"][0]
        return f"from {found['from']} on" + (", the smallest of this sweep" if everywhere else "")
    pairs = zip(found["values"], found["speedups"], strict=True)
    faster = [str(value) for value, speedup in pairs if speedup > 1]
    return f"only at {', '.join(faster)}" if faster else "never in this sweep"


def _speedups(found: Mapping[str, Any]) -> str:
    pairs = zip(found["values"], found["speedups"], strict=True)
    return "times as fast: " + ", ".join(f"{value}: {speedup:.2f}" for value, speedup in pairs)


def _memory(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    measured = [
        (row, name, entry["memory_mib"])
        for row in rows
        for name, entry in row["contestants"].items()
        if entry.get("memory_mib") is not None
    ]
    if not measured:
        return []
    table = [("cell", "shape", "backend", "MiB", "/ ours")]
    for row, name, mib in measured:
        ours = row["contestants"].get(row["ours"], {}).get("memory_mib")
        table.append(
            (row["cell"], row["shape"]["name"], name, f"{mib:.1f}", f"{mib / ours:.2f}" if ours else "-")
        )
    return [
        "",
        "peak memory of a training step on the CPU, without weights and input",
        *aligned(table, right=(3, 4)),
    ]


def comparison(pairs: Sequence[Pair], names: tuple[str, str]) -> str:
    """Two result files side by side.

    Parameters
    ----------
    pairs : sequence of Pair
    names : tuple of str
        Names of the first and the second.
    """
    table = [("cell", "shape", "task", "backend", "A", "B", "B/A", "quartiles")]
    for p in pairs:
        times = short_time(p.first), short_time(p.second), f"{p.ratio:.3f}"
        table.append((p.cell, p.shape, p.task, p.implementation, *times, "overlap" if p.overlap else "apart"))
    lines = [f"A: {names[0]}", f"B: {names[1]}", *aligned(table, right=(4, 5, 6)), ""]
    lines.append("B/A, geometric mean (below 1: B is faster)")
    by_name: dict[str, list[float]] = {}
    for p in pairs:
        by_name.setdefault(p.implementation, []).append(p.ratio)
    means = [(name, f"{geometric_mean(ratios):.3f}") for name, ratios in by_name.items()]
    means.append(("all", f"{geometric_mean(p.ratio for p in pairs):.3f}"))
    return "\n".join([*lines, *aligned(means, right=(1,))])


def aligned(table: Sequence[tuple[str, ...]], right: Sequence[int] = ()) -> list[str]:
    """Lines with aligned columns; those in `right` are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(f"{cell:{'>' if n in right else '<'}{widths[n]}}" for n, cell in enumerate(line)).rstrip()
        for line in table
    ]
