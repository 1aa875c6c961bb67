# ruff: noqa: B023, E501, E741, SIM115, B905, RUF059
"""First look at the CUDA engine on a real device, in at most BUDGET seconds; every result is kept as soon as it exists.

    python first_run.py OUTPUT [--budget 400] [--data-dir DATA]

Stands alone: the product's public names, PyTorch as truth (autograd in float64 on the CPU) and as rival (cuDNN).
Writes OUTPUT/results.jsonl and OUTPUT/log.txt. `--tiny` tries the script itself in CUDA's simulator.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
import traceback

import numpy as np

START = time.monotonic()
CELLS = {"RNN": {}, "LSTM": {}, "PeepholeLSTM": {}, "GRU": {}, "GRU-before": {"reset_after": False}}
SHAPES = {
    "mnist": (128, 28, 28, 128),
    "small": (20, 20, 200, 200),
    "medium": (20, 35, 650, 650),
    "large": (20, 35, 1500, 1500),
    "long": (16, 1024, 768, 768),
    "single": (1, 1000, 64, 256),
}


def say(kind, **facts):
    line = json.dumps({"at": round(time.monotonic() - START, 1), "kind": kind, **facts}, default=str)
    print(line, flush=True)
    with open(os.path.join(ARGS.output, "results.jsonl"), "a") as file:
        file.write(line + "\n")


@contextlib.contextmanager
def guarded(kind, **facts):
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        say(
            kind,
            failed=f"{type(error).__name__}: {error}"[:600],
            trace=traceback.format_exc()[-1500:],
            **facts,
        )


def left():
    return ARGS.budget - (time.monotonic() - START)


def make(name, I, H, device, dtype, **more):
    import lstm_numba as ln

    return getattr(ln, name.split("-")[0])(I, H, device=device, dtype=dtype, seed=3, **CELLS[name], **more)


def truth(name, params, x, states, dy):
    """Outputs and all gradients by autograd, float64, one layer."""
    import torch

    p = {k: torch.tensor(np.asarray(v, np.float64), requires_grad=True) for k, v in params.items()}
    X = torch.tensor(np.asarray(x, np.float64), requires_grad=True)
    S = [torch.tensor(np.asarray(s[0], np.float64), requires_grad=True) for s in states]
    W, R, b, br = p["weight_ih_l0"], p["weight_hh_l0"], p["bias_ih_l0"], p["bias_hh_l0"]
    h, c = S[0], (S[1] if len(S) > 1 else None)
    sig, tanh, out = torch.sigmoid, torch.tanh, []
    for t in range(len(X)):
        w, r = X[t] @ W.T + b, h @ R.T + br
        H = h.shape[1]
        if name == "RNN":
            h = tanh(w + r)
        elif name.startswith("GRU"):
            a, u = sig(w[:, :H] + r[:, :H]), sig(w[:, H : 2 * H] + r[:, H : 2 * H])
            last = a * r[:, 2 * H :] if name == "GRU" else (a * h) @ R[2 * H :].T + br[2 * H :]
            h = (1 - u) * tanh(w[:, 2 * H :] + last) + u * h
        else:
            z = w + r
            i, f, g, o = z[:, :H], z[:, H : 2 * H], z[:, 2 * H : 3 * H], z[:, 3 * H :]
            if name == "PeepholeLSTM":
                P = p["weight_ph_l0"]
                i, f = i + P[:H] * c, f + P[H : 2 * H] * c
            c = sig(f) * c + sig(i) * tanh(g)
            if name == "PeepholeLSTM":
                o = o + P[2 * H :] * c
            h = sig(o) * tanh(c)
        out.append(h)
    y = torch.stack(out)
    (y * torch.tensor(np.asarray(dy, np.float64))).sum().backward()
    grads = {k: v.grad.numpy() for k, v in p.items()}
    return y.detach().numpy(), X.grad.numpy(), [s.grad.numpy() for s in S], grads


def host(a):
    return a.copy_to_host() if hasattr(a, "copy_to_host") else np.asarray(a)


def gap(a, b):
    a, b = np.asarray(host(a), np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / (np.abs(b).max() + 1e-12)) if np.isfinite(a).all() else float("inf")


def smoke_cell(name):
    """One cell, all sizes: numbers against the truth, and 20 repeats bit for bit."""
    sizes = (
        [(5, 2, 3)] if ARGS.tiny else [(17, 1, 7), (17, 5, 7), (128, 128, 28), (261, 5, 31), (650, 20, 35)]
    )
    for dtype in (np.float32, np.float64):
        for H, B, T in sizes:
            if dtype == np.float64 and H > 300:
                continue
            with guarded("smoke", cell=name, H=H, B=B, dtype=np.dtype(dtype).name):
                rng = np.random.default_rng(H + B)
                rnn = make(name, 13, H, "cuda", dtype)
                x = rng.standard_normal((T, B, 13)).astype(dtype)
                s = [rng.standard_normal((1, B, H)).astype(dtype) for _ in rnn.cell.states]
                dy = rng.standard_normal((T, B, H)).astype(dtype)
                state = tuple(s) if len(s) > 1 else s[0]
                began = time.monotonic()
                y, _, tape = rnn.forward(x, state)
                dx, ds, g = rnn.backward(tape, dy)
                first = time.monotonic() - began
                ty, tx, ts, tg = truth(name, rnn.state_dict(), x, s, dy)
                ds = ds if isinstance(ds, tuple) else (ds,)
                worst = max(
                    [gap(y, ty), gap(dx, tx)]
                    + [gap(host(a)[0], b) for a, b in zip(ds, ts)]
                    + [gap(g[k], tg[k]) for k in tg]
                )
                keep, other = (host(y).copy(), {k: host(v).copy() for k, v in g.items()}), 0
                for _ in range(1 if ARGS.tiny else 20):
                    y, _, tape = rnn.forward(x, state)
                    _, _, g = rnn.backward(tape, dy)
                    other += not np.array_equal(host(y), keep[0])
                    other += any(not np.array_equal(host(g[k]), keep[1][k]) for k in g)
                bound = 2e-4 if dtype == np.float32 else 1e-10
                say(
                    "smoke",
                    cell=name,
                    H=H,
                    B=B,
                    T=T,
                    dtype=np.dtype(dtype).name,
                    worst=worst,
                    right=worst < bound,
                    runs_with_other_bits=other,
                    first_call_s=round(first, 2),
                )


def versions():
    import numba

    facts = {"python": sys.version.split()[0], "numpy": np.__version__, "numba": numba.__version__}
    for name in ("numba_cuda", "torch", "cupy", "cuda.core", "cuda.bindings"):
        with contextlib.suppress(Exception):
            facts[name] = __import__(name, fromlist=["x"]).__version__
    with contextlib.suppress(Exception):
        facts["smi"] = subprocess.run(
            [
                "nvidia-smi",
                "--query-gpu=name,driver_version,clocks.max.sm,memory.total",
                "--format=csv,noheader",
            ],
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout.strip()
    from lstm_numba.engines import find_cuda

    facts["cuda"] = find_cuda()._asdict()
    say("versions", **facts)
    return facts["cuda"]["available"]


def timed(function, wait, seconds=0.25):
    function()
    wait()
    n, began = 1, time.perf_counter()
    function()
    wait()
    n = max(1, min(200, int(seconds / 3 / max(1e-5, time.perf_counter() - began))))
    runs = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(n):
            function()
        queued = time.perf_counter() - began
        wait()
        runs.append(((time.perf_counter() - began) / n, queued / n))
    runs.sort()
    return {
        "us": round(runs[2][0] * 1e6, 1),
        "host_us": round(runs[2][1] * 1e6, 1),
        "spread": round(runs[4][0] / runs[0][0], 2),
    }


def kernels():
    """Every shape, forward and training, ours and cuDNN's, data on the device, TF32 off."""
    import torch
    from numba import cuda

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for shape, (B, T, I, H) in SHAPES.items():
        for cell in ("LSTM", "GRU", "PeepholeLSTM"):
            if left() < 30:
                return say("kernels", note="no time left", shape=shape)
            with guarded("kernels", cell=cell, shape=shape):
                rnn = make(cell, I, H, "cuda", np.float32)
                rng = np.random.default_rng(1)
                x, dy = (cuda.to_device(rng.standard_normal((T, B, n)).astype("f")) for n in (I, H))

                def train():
                    y, _, tape = rnn.forward(x)
                    return rnn.backward(tape, dy)

                ours = {
                    "inference": timed(lambda: rnn(x), cuda.synchronize),
                    "training": timed(train, cuda.synchronize),
                }
                say(
                    "kernels",
                    cell=cell,
                    shape=shape,
                    BTIH=[B, T, I, H],
                    us_a_step=round(ours["inference"]["us"] / T, 2),
                    ours=ours,
                )
                if cell == "PeepholeLSTM":
                    continue
                m = getattr(torch.nn, cell)(I, H).cuda()
                tx, tdy = torch.as_tensor(x.copy_to_host()).cuda(), torch.as_tensor(dy.copy_to_host()).cuda()

                def rival():
                    m.zero_grad(set_to_none=True)
                    leaf = tx.detach().requires_grad_(True)
                    m(leaf)[0].backward(tdy)

                def infer():
                    with torch.no_grad():
                        m(tx)

                cudnn = {
                    "inference": timed(infer, torch.cuda.synchronize),
                    "training": timed(rival, torch.cuda.synchronize),
                }
                say(
                    "rival",
                    cell=cell,
                    shape=shape,
                    cudnn=cudnn,
                    cudnn_over_ours={k: round(cudnn[k]["us"] / ours[k]["us"], 2) for k in ours},
                )


def together_or_alone():
    """The two ways of sharing work, on MNIST's shape, which lies on the border."""
    with guarded("sharing"):
        from numba import cuda

        try:
            from lstm_numba.gpu import sequence
        except ImportError:
            from lstm_numba.engines.cuda import sequence
        B, T, I, H = SHAPES["mnist"]
        x = cuda.to_device(np.random.default_rng(1).standard_normal((T, B, I)).astype("f"))
        keep, found, outputs = sequence.ALONE_BYTES, {}, {}
        for name, limit in (("single_block", 1 << 40), ("cooperative", 0)):
            sequence.ALONE_BYTES = limit
            rnn = make("LSTM", I, H, "cuda", np.float32)
            found[name], outputs[name] = timed(lambda: rnn(x), cuda.synchronize), host(rnn(x)[0]).copy()
        sequence.ALONE_BYTES = keep
        say("sharing", same_bits=bool(np.array_equal(*outputs.values())), **found)


def programs():
    """Whole trainings by the command line, CPU and CUDA, and the project's own tests for the rest of the time."""
    data = ["--data-dir", ARGS.data_dir] if ARGS.data_dir else []
    jobs = [
        ["train", "digits", "--epochs", "2", "--device", d, "--seed", "1", "--json", "--out", f"digits-{d}"]
        for d in ("cuda", "cpu")
    ]
    if ARGS.data_dir:
        jobs += [
            ["train", "mnist", "--epochs", "2", "--device", "cuda", "--json", "--out", "mnist-cuda", *data],
            [
                "train",
                "ptb",
                "--preset",
                "small",
                "--epochs",
                "1",
                "--device",
                "cuda",
                "--json",
                "--out",
                "small-cuda",
                *data,
            ],
        ]
    for job in jobs:
        if left() < 25:
            return say("program", note="no time left", job=job)
        began = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "lstm_numba", *job],
                cwd=ARGS.output,
                capture_output=True,
                text=True,
                timeout=max(20, left() - 5),
            )
            say(
                "program",
                job=" ".join(job),
                rc=done.returncode,
                seconds=round(time.monotonic() - began, 1),
                out=done.stdout[-1500:],
                err=done.stderr[-1500:],
            )
        except subprocess.TimeoutExpired as error:
            say("program", job=" ".join(job), rc="stopped", err=str(error.stderr)[-1500:])


def main():
    os.makedirs(ARGS.output, exist_ok=True)
    sys.stderr = open(os.path.join(ARGS.output, "log.txt"), "a")
    if ARGS.cell:
        return smoke_cell(ARGS.cell)
    if not versions():
        return 1
    own = [sys.executable, os.path.abspath(__file__), ARGS.output, "--budget", str(ARGS.budget)] + [
        "--tiny"
    ] * ARGS.tiny
    children = [subprocess.Popen([*own, "--cell", name]) for name in CELLS]
    end = time.monotonic() + (600 if ARGS.tiny else 110)
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=max(1, end - time.monotonic()))
        if child.poll() is None:
            child.kill()
            say("smoke", failed="stopped: took too long", args=child.args)
    if not ARGS.tiny:
        kernels()
        together_or_alone()
        programs()
    say("end")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
(
    parser.add_argument("output"),
    parser.add_argument("--budget", type=float, default=400),
    parser.add_argument("--data-dir"),
)
parser.add_argument("--tiny", action="store_true"), parser.add_argument("--cell", choices=CELLS)
ARGS = parser.parse_args()
ARGS.output = os.path.abspath(ARGS.output)
sys.exit(main())
