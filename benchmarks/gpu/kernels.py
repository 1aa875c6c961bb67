"""Times on the device at the six shapes: the engine's kernels, the choices that it could make, cuDNN's."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from lstm_numba.benchmarks.cases import Shape
from lstm_numba.benchmarks.gpu.choices import (
    Choices,
    NotSelectable,
    general_candidates,
    kernel_candidates,
    layout_candidates,
)
from lstm_numba.benchmarks.gpu.device_time import by_kernel, device_us, enqueue_us, wall_us
from lstm_numba.benchmarks.gpu.record import finish, guarded, left, say
from lstm_numba.benchmarks.gpu.shapes import SIX
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.launch import cooperative_blocks, launch
from lstm_numba.engines.cuda.layout import CooperativeGrid, barrier_leave, barrier_wait
from lstm_numba.engines.cuda.memory import counters, download, upload
from lstm_numba.engines.cuda.plans import reasons
from lstm_numba.nn.layers import make_layer

Calls = dict[str, Callable[[], Any]]

#: Seconds that a shape's times may take: with less left, none is begun.
_LEAST = 2.0
_BARRIERS = 200
#: Cells that cuDNN has.
_CUDNN = ("rnn", "lstm", "gru")


def arrays(shape: Shape) -> tuple[Any, Any]:
    """Input and gradient of the output, on the device."""
    rng = np.random.default_rng(1)
    sizes = ((shape.steps, shape.batch, n) for n in (shape.inputs, shape.hidden))
    x, dy = (upload(rng.standard_normal(size).astype(np.float32)) for size in sizes)
    return x, dy


def ours(cell: str, shape: Shape) -> Calls:
    """The engine's inference and training pass."""
    layer, (x, dy) = make_layer(cell, shape.inputs, shape.hidden, device="cuda", seed=3), arrays(shape)

    def train() -> Any:
        y, _, tape = layer.forward(x)
        return y, layer.backward(tape, dy)

    return {"inference": lambda: layer(x), "training": train}


def cudnn(cell: str, shape: Shape) -> Calls:
    """The same of PyTorch."""
    import torch

    x, dy = (torch.as_tensor(download(array)).cuda() for array in arrays(shape))
    layer = getattr(torch.nn, cell.upper())(shape.inputs, shape.hidden).cuda()
    leaves = [x.detach().requires_grad_(), *layer.parameters()]

    def infer() -> Any:
        with torch.inference_mode():
            return layer(x)

    return {"inference": infer, "training": lambda: torch.autograd.grad(layer(leaves[0])[0], leaves, dy)}


def engine(cell: str, shape: Shape) -> None:
    """Times of the engine as it is, kernel by kernel, and why these run."""
    for task, call in ours(cell, shape).items():
        with guarded("kernels", cell=cell, shape=shape.name, task=task):
            with reasons() as found:
                call()
            say("plans", cell=cell, shape=shape.name, task=task, reasons=found)
            times = {**wall_us(call), **device_us(call)}
            per_step = round(times["device_us"] / shape.steps, 2)
            say("kernels", cell=cell, shape=shape.name, task=task, device_us_a_step=per_step, **times)
            say("by kernel", cell=cell, shape=shape.name, task=task, kernels=by_kernel(call))


def rival(cell: str, shape: Shape) -> None:
    """Times of cuDNN, in float32 and with TF32."""
    import torch

    for tf32 in (False, True):
        with guarded("cudnn", cell=cell, shape=shape.name, tf32=tf32):
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            for task, call in cudnn(cell, shape).items():
                times = {**wall_us(call), **device_us(call)}
                say("cudnn", cell=cell, shape=shape.name, task=task, tf32=tf32, **times)


def choices(candidates: Callable[[str, Shape], Choices], cell: str, shape: Shape) -> None:
    """Times of the sequences' kernels with each choice that the engine could make."""
    for name, choose in candidates(cell, shape).items():
        if left() < _LEAST:
            return
        with guarded("choice", cell=cell, shape=shape.name, choice=name):
            try:
                with choose():
                    calls = ours(cell, shape)
                    with reasons() as plans:
                        for call in calls.values():
                            call()
                    found = {task: _sequence_kernels(call) for task, call in calls.items()}
            except NotSelectable as error:
                facts = {"cell": cell, "shape": shape.name, "choice": name}
                say("choice", **facts, not_selectable=str(error))
                continue
            say("choice", cell=cell, shape=shape.name, choice=name, reasons=plans, us=found)


def both_kernels(cell: str, shape: Shape) -> None:
    """Times of the persistent kernels and of the general ones."""
    choices(kernel_candidates, cell, shape)


def layouts(cell: str, shape: Shape) -> None:
    """Times of other layouts of the persistent kernels."""
    choices(layout_candidates, cell, shape)


def general_kernels(cell: str, shape: Shape) -> None:
    """Times of the general kernels with each choice that the engine could make."""
    choices(general_candidates, cell, shape)


def _sequence_kernels(call: Callable[[], Any]) -> dict[str, float]:
    """The shortest of three times of the kernels that run whole sequences."""
    runs = [by_kernel(call) for _ in range(3)]
    names = [name for name in runs[0] if "forward" in name or "backward" in name]
    return {name: min(run[name][1] for run in runs) for name in names}


@cuda.jit
def _barriers(mode, counters, count):  # type: ignore[no-untyped-def]
    for n in range(1, count + 1):
        barrier_wait(mode, counters, n)
    barrier_leave(mode, counters)


def barrier() -> None:
    """Time of a barrier alone, by the number of blocks."""
    args = (CooperativeGrid(), counters(1), _BARRIERS)
    most = cooperative_blocks(_barriers, args, (256, 1), 0)
    for blocks in (1, 4, 16, 32, 66, 132, 264):
        if blocks <= most:
            run = lambda blocks=blocks: launch(_barriers, blocks, 256, *args, cooperative=True)  # noqa: E731
            run()
            times = device_us(run)
            say("barrier", blocks=blocks, us=round(times["device_us"] / _BARRIERS, 3), spread=times["spread"])


def main() -> None:
    """Time everything, what matters most first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", action="append", help="[default: lstm, gru]")
    parser.add_argument("--shape", action="append", choices=list(SIX))
    args = parser.parse_args()
    shapes = [SIX[name] for name in args.shape or SIX]
    cells = args.cell or ["lstm", "gru"]
    with guarded("enqueue"):
        say("enqueue", **enqueue_us())
    with guarded("barrier"):
        barrier()
    rivals = find_spec("torch") is not None
    if rivals:
        import torch

        rivals = torch.cuda.is_available()
    if not rivals:
        say("cudnn", left_out="PyTorch with CUDA is not here")
    parts = [engine, *([rival] if rivals else [])]
    jobs = [(part, cells[0], shape) for shape in shapes for part in parts]
    jobs += [(both_kernels, cells[0], shape) for shape in shapes]
    jobs += [(part, cell, shape) for cell in cells[1:] for shape in shapes for part in (*parts, both_kernels)]
    # Each layout is compiled: they come last.
    jobs += [(layouts, cells[0], shape) for shape in shapes]
    jobs += [(general_kernels, cells[0], shape) for shape in shapes if shape.name != "long"]
    jobs = [job for job in jobs if job[0] is not rival or job[1] in _CUDNN]
    for part, cell, shape in jobs:
        if left() < _LEAST:
            say("left out", part=part.__name__, cell=cell, shape=shape.name)
            continue
        with guarded(part.__name__, cell=cell, shape=shape.name):
            part(cell, shape)
    finish()


if __name__ == "__main__":
    main()
