"""Layouts of persistent kernels on an H100, beside the least that a step can take and what was measured.

python -m lstm_numba.benchmarks.gpu.floors benchmarks/README.md

writes a table between ``<!-- floors CELL -->`` and ``<!-- end of floors -->``, from the code and from the
files in ``results/h100`` beside the page. It needs the package numba-cuda, but no device.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lstm_numba.benchmarks.cases import Shape
from lstm_numba.benchmarks.gpu.shapes import SIX
from lstm_numba.benchmarks.markdown import table, with_blocks, write_page
from lstm_numba.cells import find_cell
from lstm_numba.engines.cuda.driver import DeviceLimits
from lstm_numba.engines.cuda.persistent_layout import Layout, Problem, layouts
from lstm_numba.engines.cuda.persistent_product import aligned_rows

H100 = DeviceLimits(132, 232_448, (9, 0))
#: Threads of a block.
THREADS = 256
#: In a µs, of all of an H100: multiplications with an addition in float32 (132 multiprocessors, 128 each in a
#: cycle, 1755 MHz), and bytes from the second-level cache.
_MULTIPLY_ADDS, _CACHE_BYTES = 29.6e6, 5.5e6
#: The newest measurements of a cell: files in the folder of results.
_FILES = {"lstm": "on_gpu_4.jsonl", "gru": "on_gpu_5.jsonl"}
_PASSES = ("forward", "backward")


def problem(cell: str, shape: Shape, backward: bool, size: int = 4) -> Problem:
    """One pass of a layer's sequence, numbers of so many bytes."""
    found = find_cell(cell)
    sizes = (shape.batch, shape.hidden, shape.hidden)
    return Problem(found.stages, found.projected, size, backward, *sizes)


class Floors(NamedTuple):
    """The least µs of a step, if it did nothing else.

    Attributes
    ----------
    arithmetic : float
        All multiplications and additions of the recurrent product, at the device's highest rate.
    weights : float
        All recurrent weights once from the second-level cache. What a block keeps it does not read again; of
        blocks with other rows each reads the rest.
    operand : float
        The operand of the product from the second-level cache, for each block of the layout.
    barrier : float
        The barriers of the layout, as measured with as many blocks or the next larger number.
    """

    arithmetic: float
    weights: float
    operand: float
    barrier: float


def floors(pass_: Problem, layout: Layout, barriers: Mapping[int, float]) -> Floors:
    """The floors of a layout; `barriers` are µs by the number of blocks."""
    weights, operand = 0, 0
    for gates, depth, inner in pass_.depths():
        weights += gates * pass_.hidden * depth
        operand += depth * inner * aligned_rows(layout.tile.rows)
    across, down = layout.grid
    barrier = 0.0 if across == 1 else barriers[min(count for count in barriers if count >= across)]
    # A block has several tiles, one after the other, where there are more tiles than blocks.
    tiles, rounds = -(-layout.sizes["unit_tiles"] // across), -(-layout.sizes["row_tiles"] // down)
    return Floors(
        weights * pass_.batch / _MULTIPLY_ADDS,
        weights * pass_.size / _CACHE_BYTES,
        operand * pass_.size * across * down * tiles * rounds / _CACHE_BYTES,
        barrier * len(pass_.stages) * rounds,
    )


# -- what was measured ---------------------------------------------------------------------------------


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


def barriers(folder: Path) -> dict[int, float]:
    """The shortest measured µs of a barrier, by the number of blocks."""
    found: dict[int, float] = {}
    for file in sorted(folder.glob("on_gpu*.jsonl")):
        for line in _lines(file):
            if line["kind"] == "barrier":
                found[line["blocks"]] = min(line["us"], found.get(line["blocks"], line["us"]))
    return found


class Measured(NamedTuple):
    """Measured µs of a step of one pass.

    Attributes
    ----------
    kernel : float
        The general kernel alone.
    ours, cudnn : float
        Everything on the device: inference; of the backward pass training without inference.
    waited : bool
        Whether cuDNN's time is the device's alone; else the host kept it waiting.
    """

    kernel: float
    ours: float
    cudnn: float
    waited: bool


def measured(cell: str, folder: Path) -> dict[tuple[str, str], Measured]:
    """Measured times by shape and pass, in float32 without TF32; none of a cell that was not measured."""
    if cell not in _FILES:
        return {}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for line in _lines(folder / _FILES[cell]):
        wanted = line["kind"] in ("by kernel", "kernels", "cudnn") and line["cell"] == cell
        if wanted and not line.get("tf32"):
            found[line["kind"], line["shape"], line["task"]] = line
    result = {}
    for name, shape in SIX.items():
        rival = [found["cudnn", name, task] for task in ("inference", "training")]
        own = [found["kernels", name, task] for task in ("inference", "training")]
        kernels = found["by kernel", name, "training"]["kernels"]
        for n, pass_ in enumerate(_PASSES):
            ours, cudnn = (each[n]["device_us"] - n * each[0]["device_us"] for each in (own, rival))
            kernel, steps = kernels[f"{pass_}_kernel"][1], shape.steps
            waited = all(line["waited"] for line in rival[: n + 1])
            result[name, pass_] = Measured(kernel / steps, ours / steps, cudnn / steps, waited)
    return result


# -- the table -----------------------------------------------------------------------------------------

_HEAD = (
    "batch, units", "pass", "persistent kernel", "estimate", "arithmetic", "weights once", "operand",
    "barrier", "general kernel, measured", "everything: general kernels", "cuDNN",
)  # fmt: skip


def _us(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def floors_table(cell: str, folder: Path) -> list[str]:
    """A line for each of the six shapes and each pass."""
    times, waits, rows = measured(cell, folder), barriers(folder), []
    for name, shape in SIX.items():
        for backward, pass_ in enumerate(_PASSES):
            work = problem(cell, shape, bool(backward))
            layout = layouts(work, H100, THREADS)[0]
            one = times.get((name, pass_))
            last = ["", "", ""] if one is None else [
                _us(one.kernel), _us(one.ours), f"{'' if one.waited else '≤ '}{_us(one.cudnn)}"
            ]  # fmt: skip
            sizes = f"{shape.batch}, {shape.hidden}"
            least = map(_us, floors(work, layout, waits))
            rows.append([sizes, pass_, layout.describe(), _us(layout.us), *least, *last])
    return table(_HEAD, rows)


def with_tables(text: str, folder: Path) -> str:
    """A page with the tables of its blocks; `folder` has the measurements."""
    lines: Callable[[str], list[str]] = lambda cell: floors_table(cell, folder)  # noqa: E731
    return with_blocks(text, "floors", lines)


if __name__ == "__main__":
    write_page(
        __doc__,
        "the README.md beside the folder results",
        lambda text, folder: with_tables(text, folder / "results" / "h100"),
    )
