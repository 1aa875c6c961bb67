"""Time recurrent layers beside PyTorch on this machine's CPU: inference and training, any shape.

Training is the forward pass and the gradients of the inputs, the initial state and every parameter. The
contestants take turns, each turn long enough to time; the median over the turns is quoted with the
quartiles, after a comparison of their results. Compilation is apart.

    python benchmarks/layers.py --cell lstm gru --shape mnist ptb-small --turns 15 --json out.json
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

import lstm_numba
from lstm_numba.cpu.target import vector_unit
from lstm_numba.layers import make_layer

SHAPES = {  # batch, steps, inputs, hidden
    "mnist": (128, 28, 28, 128),
    "ptb-small": (20, 20, 200, 200),
    "ptb-medium": (20, 35, 650, 650),
    "ptb-large": (20, 35, 1500, 1500),
    "wide": (256, 100, 64, 256),
    "sequence-256": (1, 100, 64, 256),
}
PEERS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
TURN_SECONDS = 0.15


def machine() -> dict[str, Any]:
    """What the numbers were measured on and with."""
    name = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = next(
            line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line
        )
    return {
        "cpu": name,
        "vector_unit": vector_unit().name,
        "threads": numba.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "torch": torch.__version__,
        "lstm_numba": lstm_numba.__version__,
    }


def contestants(cell: str, shape: tuple[int, int, int, int]) -> dict[str, dict[str, Callable[[], Any]]]:
    """Functions to time, by task and program; all on the same weights and input."""
    batch, steps, inputs, hidden = shape
    layer = make_layer(cell, inputs, hidden, seed=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((steps, batch, inputs)).astype(np.float32)
    dy = rng.standard_normal((steps, batch, hidden)).astype(np.float32)

    def train() -> dict[str, np.ndarray]:
        _, _, tape = layer.forward(x, layer.zero_state(batch))
        dx, _, grads = layer.backward(tape, dy)
        return {"x": dx, **grads}

    tasks: dict[str, dict[str, Callable[[], Any]]] = {
        "inference": {"lstm_numba": lambda: layer(x)[0]},
        "training": {"lstm_numba": train},
    }
    if cell not in PEERS:
        return tasks
    peer = PEERS[cell](inputs, hidden)
    peer.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in layer.params.items()})
    tx, tdy = torch.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(dy)
    initial = [torch.zeros(1, batch, hidden, requires_grad=True) for _ in layer.cell.states]
    state = tuple(initial) if len(initial) > 1 else initial[0]

    def peer_train() -> dict[str, np.ndarray]:
        leaves = [tx, *initial, *peer.parameters()]
        grads = torch.autograd.grad(peer(tx, state)[0], leaves, tdy)
        named = zip((name for name, _ in peer.named_parameters()), grads[1 + len(initial) :], strict=True)
        return {"x": grads[0].numpy(), **{name: g.numpy() for name, g in named}}

    def peer_inference() -> np.ndarray:
        with torch.inference_mode():
            return peer(tx.detach())[0].numpy()

    tasks["inference"]["pytorch"] = peer_inference
    tasks["training"]["pytorch"] = peer_train
    return tasks


def check(functions: dict[str, Callable[[], Any]]) -> float:
    """Largest difference between the programs' results, relative to the largest number."""
    results = [f() for f in functions.values()]
    worst = 0.0
    for other in results[1:]:
        pairs = (
            [(results[0][k], other[k]) for k in other] if isinstance(other, dict) else [(results[0], other)]
        )
        for ours, theirs in pairs:
            worst = max(worst, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    if worst > 1e-3:
        raise SystemExit(f"results differ by {worst:.1e}: nothing is timed")
    return worst


def measure(functions: dict[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    """Seconds a call of each function, one number a turn."""
    calls = {}
    for name, function in functions.items():
        begin = time.perf_counter()
        function()
        calls[name] = max(1, round(TURN_SECONDS / (time.perf_counter() - begin)))
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(turns):
        for name, function in functions.items():
            begin = time.perf_counter()
            for _ in range(calls[name]):
                function()
            seconds[name].append((time.perf_counter() - begin) / calls[name])
    return seconds


def main() -> None:
    """Read the arguments, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", nargs="+", default=["lstm", "gru", "peephole"])
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=numba.config.NUMBA_NUM_THREADS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    numba.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    rows = []
    print(
        f"{'cell':10}{'shape':14}{'task':11}{'ms: lstm_numba':>22}{'pytorch':>22}{'ratio':>8}{'GFLOP/s':>9}"
    )
    for cell in args.cell:
        for shape in args.shape:
            batch, steps, inputs, hidden = SHAPES[shape]
            for task, functions in contestants(cell, SHAPES[shape]).items():
                difference = check(functions)
                seconds = measure(functions, args.turns)
                quartiles = {name: np.percentile(s, [25, 50, 75]) for name, s in seconds.items()}
                gates = len(make_layer(cell, 1, 1).cell.gates)
                flop = (
                    2 * steps * batch * gates * hidden * (inputs + hidden) * (3 if task == "training" else 1)
                )
                ratio = quartiles["pytorch"][1] / quartiles["lstm_numba"][1] if "pytorch" in seconds else None
                text = {
                    name: f"{q[1] * 1e3:.2f} ({q[0] * 1e3:.2f}-{q[2] * 1e3:.2f})"
                    for name, q in quartiles.items()
                }
                print(
                    f"{cell:10}{shape:14}{task:11}{text['lstm_numba']:>22}{text.get('pytorch', '-'):>22}"
                    f"{f'{ratio:.2f}' if ratio else '-':>8}{flop / quartiles['lstm_numba'][1] / 1e9:9.0f}",
                    flush=True,
                )
                rows.append(
                    {"cell": cell, "shape": shape, "task": task, "difference": difference, "ratio": ratio,
                     "seconds": {name: list(q) for name, q in quartiles.items()}}
                )  # fmt: skip
    if args.json:
        command = "python " + " ".join(sys.argv)
        args.json.write_text(
            json.dumps({"machine": machine(), "command": command, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
