"""Many small LSTMs in one layer beside a loop over as many layers, and beside PyTorch, forward and back.

python -m lstm_numba.benchmarks.gpu.many_models --models 256

The results are compared with the processor's before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import lstm_numba as ln
from lstm_numba.benchmarks.correctness import between, worst
from lstm_numba.benchmarks.gpu.device_time import device_us, wall_us
from lstm_numba.benchmarks.gpu.record import computing, finish, guarded, left, say, verdict
from lstm_numba.engines.cuda import memory, plans
from lstm_numba.engines.cuda.layout import BlockOfModel, SingleBlock

#: Seconds that a backend may take: with less left, none is begun.
_LEAST = 3.0


def arrays(args: argparse.Namespace) -> tuple[Any, Any]:
    """Input (N, T, B, I) and the output's gradient (N, T, B, H)."""
    rng = np.random.default_rng(1)
    lead = args.models, args.steps, args.batch
    x = rng.standard_normal((*lead, args.inputs)).astype(np.float32)
    return x, rng.standard_normal((*lead, args.hidden)).astype(np.float32)


def both_passes(layer: Any, x: Any, dy: Any) -> dict[str, Any]:
    """What a forward and a backward pass give, by name."""
    y, _, tape = layer.forward(x, copy=False)
    dx, _, grads = layer.backward(tape, dy)
    return {"y": y, "dx": dx, **{f"d{name}": grad for name, grad in grads.items()}}


def compare(args: argparse.Namespace, x: Any, dy: Any) -> None:
    """Both ways to run the models against the processor."""
    layer = ln.LSTM(args.inputs, args.hidden, models=args.models, seed=0)
    expected = {name: np.array(array) for name, array in both_passes(layer, x, dy).items()}
    layer.to("cuda")
    on_device = memory.upload(x), memory.upload(dy)
    for name, mode in (("blocks", BlockOfModel), ("in turn", SingleBlock)):
        with guarded("many models right", way=name):
            plans.FORCED_MODE = mode
            try:
                found = both_passes(layer, *on_device)
                got = {key: memory.download(array) for key, array in found.items()}
            finally:
                plans.FORCED_MODE = None
            differences = between(got, expected, "the processor", "float32")
            right = verdict(all(difference.acceptable for difference in differences))
            say("many models right", way=name, right=right, worst=str(worst(differences)))


def backends(args: argparse.Namespace, x: Any, dy: Any) -> dict[str, Callable[[], Any]]:
    """Both passes of all models, by who computes them."""
    many = ln.LSTM(args.inputs, args.hidden, models=args.models, seed=0, device="cuda")
    alone = [many.model(n) for n in range(args.models)]
    whole = memory.upload(x), memory.upload(dy)
    parts = [tuple(array[n] for array in whole) for n in range(args.models)]

    def loop() -> None:
        for layer, part in zip(alone, parts, strict=True):
            both_passes(layer, *part)

    own = {"one layer": lambda: both_passes(many, *whole), "a loop over layers": loop}
    return own | torch_loop(args, x, dy)


def torch_loop(args: argparse.Namespace, x: Any, dy: Any) -> dict[str, Callable[[], Any]]:
    """A loop over PyTorch's layers, and one over the steps of stacked weights, as far as PyTorch is here."""
    try:
        import torch
    except ImportError:
        say("many models", who="torch", left_out="PyTorch is not here")
        return {}
    if not (computing() and torch.cuda.is_available()):
        say("many models", who="torch", left_out="PyTorch has no device")
        return {}
    given, gradient = (torch.from_numpy(array).cuda() for array in (x, dy))
    given.requires_grad_()
    layers = [torch.nn.LSTM(args.inputs, args.hidden).cuda() for _ in range(args.models)]
    names = dict(layers[0].named_parameters())
    stacked = {
        name: torch.stack([dict(layer.named_parameters())[name].detach() for layer in layers])
        .requires_grad_()
        for name in names
    }  # fmt: skip

    def loop() -> None:
        outputs = [layer(given[n])[0] for n, layer in enumerate(layers)]
        torch.autograd.backward(outputs, list(gradient))

    def stacked_steps() -> None:
        n, steps, batch, _ = given.shape
        weights, recurrent = stacked["weight_ih_l0"].mT, stacked["weight_hh_l0"].mT
        bias = (stacked["bias_ih_l0"] + stacked["bias_hh_l0"])[:, None]
        inputs = torch.baddbmm(bias, given.flatten(1, 2), weights).unflatten(1, (steps, batch))
        h = c = torch.zeros(n, batch, args.hidden, device="cuda")
        outputs = []
        for t in range(steps):
            i, f, g, o = (inputs[:, t] + torch.bmm(h, recurrent)).chunk(4, 2)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        torch.stack(outputs, 1).backward(gradient)

    return {"torch, a loop over layers": loop, "torch, steps of stacked weights": stacked_steps}


def main() -> None:
    """Read the arguments, compare, and time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("models", 256), ("batch", 16), ("steps", 50), ("inputs", 8), ("hidden", 32)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"[default: {value}]")
    args = parser.parse_args()
    x, dy = arrays(args)
    with guarded("many models right"):
        compare(args, x, dy)
    with guarded("many models"):
        for who, run in backends(args, x, dy).items():
            if left() < _LEAST:
                say("many models", who=who, left_out="no time left")
                continue
            with guarded("many models", who=who), plans.reasons() as why:
                times = {**wall_us(run), **device_us(run, repeats=2)}
                say("many models", who=who, **vars(args), **times, why=why)
    finish()


if __name__ == "__main__":
    main()
