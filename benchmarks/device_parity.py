"""Compares trainings on the CPU and on a GPU: the same steps on both, losses side by side.

Weights, batches, optimizer, clipping and schedule are those of `lstm-numba train` with the same seed. The two
devices round differently, and the difference grows with every step.

    python benchmarks/device_parity.py mnist --steps 100 --data-dir DATA --json out.json
    python benchmarks/device_parity.py ptb --preset small --steps 100

Where the files of MNIST or PTB are not found, ``digits`` or ``grammar`` replace them: the same network and
optimizer, generated data.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from lstm_numba.benchmarks import stand_in
from lstm_numba.training.config import make_config
from lstm_numba.training.presets import PRESETS

_REPLACEMENTS = {"mnist": "digits", "ptb": "grammar"}


def configuration(task: str, preset: str, data_dir: str | None, dtype: str) -> dict[str, Any]:
    """The configuration of a training, with generated data where the published data are not found."""
    from lstm_numba.data import store

    if task in store.DATASETS and any(check.state != "ok" for check in store.verify(task, data_dir)):
        print(f"{task}: files not found, using {_REPLACEMENTS[task]}", file=sys.stderr)
        task = _REPLACEMENTS[task]
    options: dict[str, Any] = {"dtype": dtype}
    if task == "grammar":
        fields = {name: value for name, value in PRESETS[preset].items() if value is not None}
        options |= fields
    return make_config(task, options, preset=preset if task == "ptb" else None)


def losses(config: dict[str, Any], device: str, steps: int, data_dir: str | None) -> list[float]:
    """Mean loss of each of the first steps of a training, as in `lstm_numba.training.trainer`."""
    from lstm_numba.optim.optimizers import make_optimizer
    from lstm_numba.optim.schedules import make_schedule
    from lstm_numba.training.tasks import build_task

    task = build_task(config, data_dir=data_dir, device=device)
    model = task.model
    names = ("momentum", "nesterov", "weight_decay")
    optimizer = make_optimizer(
        config["optimizer"], model.params, config["lr"], **{name: config[name] for name in names}
    )
    schedule = make_schedule(config["schedule"], config["lr"], config["epochs"], config["schedule_options"])
    found: list[float] = []
    state = None
    for number in range(steps):
        epoch, step = divmod(number, task.steps_per_epoch)
        optimizer.lr = schedule.rate(epoch, step, task.steps_per_epoch)
        result = model.loss_and_gradients(task.batch(epoch, step), state if step else None)
        if config["clip_value"] is not None:
            model.engine.clip_by_value(result.grads, config["clip_value"])
        model.engine.clip_by_norm(result.grads, result.totals, config["clip"])
        optimizer.step(result.grads, totals=result.totals)
        state = result.state if task.carries_state else None
        found.append(result.loss_sum / result.count)
    return found


def differences(first: list[float], second: list[float]) -> list[float]:
    """Differences relative to the first, step by step."""
    return [abs(b - a) / abs(a) for a, b in zip(first, second, strict=True)]


def main() -> None:
    """Read the arguments, train on both devices, print and write the losses."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["mnist", "digits", "ptb", "grammar"])
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default="small",
        help="settings of ptb and grammar  [default: small]",
    )
    parser.add_argument("--steps", type=int, default=100, help="training steps  [default: 100]")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="precision")
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cuda", help="compared with the CPU  [default: cuda]"
    )
    parser.add_argument("--allowed", type=float, help="largest relative difference; fail beyond it")
    parser.add_argument("--data-dir", help="folder with the files of MNIST and PTB")
    parser.add_argument("--json", type=Path, help="write configuration and losses to this file")
    args = parser.parse_args()
    config = configuration(args.task, args.preset, args.data_dir, args.dtype)
    found, seconds = {}, {}
    for name, device in (("cpu", "cpu"), ("other", args.device)):
        began = time.perf_counter()
        found[name] = losses(config, device, args.steps, args.data_dir)
        seconds[name] = time.perf_counter() - began
    relative = differences(found["cpu"], found["other"])
    print(f"{config['dataset']}, {config['dtype']}, seed {config['seed']}: mean loss of a step")
    print(f"{'step':>6} {'cpu':>12} {args.device:>12} {'relative':>9}")
    for step in sorted({1, 2, 3, 5, 10, 20, 50, 100, 200, 500, args.steps}):
        if step <= args.steps:
            pair = found["cpu"][step - 1], found["other"][step - 1]
            print(f"{step:6} {pair[0]:12.8f} {pair[1]:12.8f} {relative[step - 1]:9.1e}")
    worst = max(range(args.steps), key=relative.__getitem__)
    print(f"largest relative difference {relative[worst]:.1e}, at step {worst + 1}")
    print(
        f"seconds with start and compilation: cpu {seconds['cpu']:.1f}, {args.device} {seconds['other']:.1f}"
    )
    if args.json:
        from lstm_numba.benchmarks.results import machine

        result = {"machine": machine(), "config": config, "device": args.device, "losses": found}
        args.json.write_text(json.dumps({**result, "relative": relative}, indent=1) + "\n")
    if stand_in.active():
        print("not compared: the stand-in driver computes nothing")
    elif args.allowed is not None and not relative[worst] <= args.allowed:
        raise SystemExit(f"more than {args.allowed:.1e}")


if __name__ == "__main__":
    main()
