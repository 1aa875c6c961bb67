"""What is compared: tasks, shapes, sweeps, and the names of the implementations. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

TASKS = ("inference", "training", "streaming")
#: This library's implementations, the one used for ratios first; and the others.
OURS = ("cpu-parallel", "cpu-serial", "cuda", "cuda-transfers")
PEERS = ("pytorch", "onnxruntime", "pytorch-cuda")
IMPLEMENTATIONS = ("cpu-serial", "cpu-parallel", "cuda", "cuda-transfers", *PEERS)
#: Implementations on a GPU. Ratios are taken between these only, and always with "cuda" for this library, as
#: the peer's arrays are on the device too.
ON_CUDA = ("cuda", "cuda-transfers", "pytorch-cuda")
#: Cells that are compared by default.
DEFAULT_CELLS = ("lstm", "gru", "peephole")
#: How often each implementation is timed by default.
DEFAULT_REPEATS = 11


class Shape(NamedTuple):
    """Size of a problem: `batch` sequences of `steps` vectors of size `inputs`, and `hidden` units."""

    name: str
    batch: int
    steps: int
    inputs: int
    hidden: int

    @property
    def dimensions(self) -> str:
        """The size as on the command line: ``BxTxIxH``."""
        return f"{self.batch}x{self.steps}x{self.inputs}x{self.hidden}"


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("mnist", 128, 28, 28, 128),
        Shape("ptb-small", 20, 20, 200, 200),
        Shape("ptb-medium", 20, 35, 650, 650),
        Shape("ptb-large", 20, 35, 1500, 1500),
        Shape("wide", 256, 100, 64, 256),
        Shape("stream", 1, 1, 16, 64),
        Shape("sequence", 1, 100, 16, 64),
        Shape("sequence-256", 1, 100, 64, 256),
    )
}
#: Names for several shapes at once.
PRESETS: dict[str, tuple[str, ...]] = {
    "quick": ("mnist", "ptb-small", "stream"),
    "ptb": ("ptb-small", "ptb-medium", "ptb-large"),
    "all": tuple(SHAPES),
}
#: Axis of a sweep -> its default values; threads go from 1 to all there are.
SWEEPS: dict[str, tuple[int, ...]] = {
    "threads": (),
    "hidden": (32, 64, 128, 256, 512, 1024),
    "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256),
}
#: Axes along which a GPU may become faster than the CPU.
CROSSOVER_AXES = ("batch", "hidden")
#: The shape that a sweep varies by default.
SWEEP_SHAPE = "mnist"


class Sweep(NamedTuple):
    """A series of rows along one axis of `SWEEPS`; without values, those of `SWEEPS`."""

    axis: str
    values: tuple[int, ...]


class Row(NamedTuple):
    """One comparison: all implementations on the same cell, shape, task and number of threads."""

    cell: str
    shape: Shape
    task: str
    threads: int


def parse_shape(text: str) -> Shape:
    """Read the name of a shape, or ``BxTxIxH`` such as ``32x50x64x128``.

    Raises
    ------
    ValueError
        It is neither; the message says what is expected.
    """
    if text in SHAPES:
        return SHAPES[text]
    if not re.fullmatch(r"[1-9]\d{0,6}(x[1-9]\d{0,6}){3}", text):
        raise ValueError(
            f"{text!r} is neither BATCHxSTEPSxINPUTSxHIDDEN, such as 32x50x64x128, "
            f"nor one of {', '.join(SHAPES)}"
        )
    return Shape(text, *map(int, text.split("x")))


def parse_sweep(text: str) -> Sweep:
    """Read an axis, or an axis and its values: ``hidden``, ``hidden=64,96``.

    Raises
    ------
    ValueError
        There is no such axis, or a value is no whole number from 1.
    """
    axis, _, values = text.partition("=")
    if axis not in SWEEPS:
        raise ValueError(f"{axis!r} is not one of {', '.join(SWEEPS)}")
    if "=" not in text:
        return Sweep(axis, ())
    if not re.fullmatch(r"[1-9]\d{0,6}(,[1-9]\d{0,6})*", values):
        raise ValueError(f"{values!r} are not whole numbers from 1 with commas between them")
    return Sweep(axis, tuple(map(int, values.split(","))))


class Blocks(NamedTuple):
    """Row blocks of a cell's weights, of H rows each.

    Attributes
    ----------
    inputs, recurrent : int
        Of ``weight_ih`` and of ``weight_hh``.
    """

    inputs: int
    recurrent: int

    @classmethod
    def of(cls, cell: Any) -> Blocks:
        """Those of a cell."""
        return cls(len(cell.gates), len(cell.recurrent_gates))

    def weights(self, shape: Shape) -> int:
        """Numbers in both weights."""
        return shape.hidden * (self.inputs * shape.inputs + self.recurrent * shape.hidden)


def flop_count(blocks: Blocks, shape: Shape, task: str) -> int:
    """Floating-point operations of the matrix products, two for each multiplication and addition.

    ``2 T B H (G I + R H)``, with G and R row blocks, for the products of inputs and hidden states with their
    weights; three times that for training (forward, gradients of the operands, gradients of the weights); a
    single step for streaming. Activations and other element-wise operations are not counted.
    """
    steps = 1 if task == "streaming" else shape.steps
    products = 2 * steps * shape.batch * blocks.weights(shape)
    return 3 * products if task == "training" else products


def plan_rows(
    cells: Sequence[str],
    shapes: Sequence[Shape],
    tasks: Sequence[str],
    threads: int,
    sweep: Sweep | None = None,
) -> list[Row]:
    """Combine cells, shapes and tasks, without duplicates.

    With a single time step, inference and streaming are the same, and only streaming is kept. Streaming rows
    that differ only in the number of steps are one row.

    Parameters
    ----------
    cells, shapes, tasks : sequence
        A sweep varies the first of the shapes.
    threads : int
        For all rows, or the maximum of a sweep over threads.
    sweep : Sweep, optional
    """
    sizes = [(shape, threads) for shape in shapes] if sweep is None else _swept(shapes[0], threads, sweep)
    rows: list[Row] = []
    seen = set()
    for cell in cells:
        for shape, count in sizes:
            for task in ("streaming",) if shape.steps == 1 and "streaming" in tasks else tasks:
                size = shape[1:] if task != "streaming" else (shape.batch, shape.inputs, shape.hidden)
                if (cell, task, size, count) not in seen:
                    seen.add((cell, task, size, count))
                    rows.append(Row(cell, shape, task, count))
    return rows


def _swept(shape: Shape, threads: int, sweep: Sweep) -> Iterable[tuple[Shape, int]]:
    if sweep.axis == "threads":
        return [(shape, count) for count in sweep.values or range(1, threads + 1)]
    values = sweep.values or SWEEPS[sweep.axis]
    varied = [Shape(**{**shape._asdict(), sweep.axis: value}) for value in values]
    return [(v._replace(name=v.dimensions), threads) for v in varied]
