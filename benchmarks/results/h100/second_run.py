# ruff: noqa
"""Second look at the CUDA engine: where the device's and the host's time goes, and what the plans are worth.

    python second_run.py OUTPUT [--budget 250] [--data-dir DATA]

Every section is a process of its own: all import and compile at once, then each measures while the others wait,
is stopped when its time is over, and a device error of one is none of the next. Every result goes at once to
OUTPUT/results.jsonl; what else is said to OUTPUT/log.txt.
"""

import argparse, contextlib, ctypes, json, os, re, signal, statistics, subprocess, sys, tempfile, time, traceback
import numpy as np

SHAPES = {
    "mnist": (128, 28, 28, 128),
    "small": (20, 20, 200, 200),
    "medium": (20, 35, 650, 650),
    "large": (20, 35, 1500, 1500),
    "long": (16, 1024, 768, 768),
    "single": (1, 1000, 64, 256),
}
CELLS = ("LSTM", "GRU", "PeepholeLSTM")
#: Seconds that a section may take; the program gets what is left.
CAPS = {"device": 85, "host": 35, "persistent": 35, "variants": 35, "tf32": 20}


def say(kind, **facts):
    line = json.dumps({"at": round(time.time() - ARGS.start, 1), "kind": kind, **facts}, default=str)
    print(line[:400], flush=True)
    where = os.open(os.path.join(ARGS.output, "results.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(where, (line + "\n").encode())  # in one piece: other processes write too
    os.close(where)


@contextlib.contextmanager
def guarded(kind, **facts):
    try:
        yield
    except Exception as error:
        say(
            kind,
            failed=f"{type(error).__name__}: {error}"[:600],
            trace=traceback.format_exc()[-1500:],
            **facts,
        )


def left():
    """Seconds until this process has to be done."""
    return ARGS.end - time.time()


def host(a):
    return a.copy_to_host() if hasattr(a, "copy_to_host") else np.asarray(a)


def gap(a, b):
    a, b = np.asarray(host(a), np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / (np.abs(b).max() + 1e-12)) if np.isfinite(a).all() else float("inf")


def make(name, I, H, dtype=np.float32):
    import lstm_numba as ln

    return getattr(ln, name)(I, H, device="cuda", dtype=dtype, seed=3)


def layer(name, shape):
    """A layer, its input on the device, and functions for inference and a training step."""
    from numba import cuda

    B, T, I, H = SHAPES[shape]
    rnn, rng = make(name, I, H), np.random.default_rng(1)
    x, dy = (cuda.to_device(rng.standard_normal((T, B, n)).astype("f")) for n in (I, H))

    def train():
        _, _, tape = rnn.forward(x)
        return rnn.backward(tape, dy)

    return x, dy, {"inference": lambda: rnn(x), "training": train}


def rival(name, x, dy):
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    T, B, I = x.shape
    m = getattr(torch.nn, name)(I, dy.shape[2]).cuda()
    tx, tdy = (torch.as_tensor(a.copy_to_host()).cuda() for a in (x, dy))

    def infer():
        with torch.no_grad():
            m(tx)

    def train():
        m.zero_grad(set_to_none=True)
        m(tx.detach().requires_grad_(True))[0].backward(tdy)

    return {"inference": infer, "training": train}


# -- the device's time -----------------------------------------------------------------------------------


_naps = []


def _nap():
    """A kernel of one thread that keeps the stream busy, and how many rounds of it a microsecond has."""
    if not _naps:
        from numba import cuda

        @cuda.jit
        def nap(rounds):
            for _ in range(rounds):
                cuda.nanosleep(np.uint32(20000))

        nap[1, 1](1)
        _naps.append(nap)
    if len(_naps) == 1:
        from numba import cuda

        a, b = cuda.event(), cuda.event()
        cuda.synchronize()
        a.record()
        _naps[0][1, 1](500)
        b.record()
        cuda.synchronize()
        _naps.append(500 / max(1.0, cuda.event_elapsed_time(a, b) * 1e3))
    return _naps


def held(function, hold_us, times=1):
    """Device's µs for what `function` launches: all of it waits behind a busy stream, and then runs without gaps.

    `waited` says whether all was launched before the stream went on; else the time has some of the host's in it.
    """
    from numba import cuda

    nap, rate = _nap()
    a, b = cuda.event(), cuda.event()
    cuda.synchronize()
    nap[1, 1](max(1, int(hold_us * rate)))
    a.record()
    for _ in range(times):
        function()
    b.record()
    waited = not a.query()
    cuda.synchronize()
    return cuda.event_elapsed_time(a, b) * 1e3 / times, waited


def device_us(function, times=1, repeats=5, hold_us=3000):
    """Median of `held`."""
    found = [held(function, hold_us, times) for _ in range(repeats)]
    return {
        "device_us": round(statistics.median(f[0] for f in found), 2),
        "spread": round(max(f[0] for f in found) / max(1e-9, min(f[0] for f in found)), 2),
        "waited": all(f[1] for f in found),
    }


def wall(function, seconds=0.15):
    """Median µs, and the part of it in which the host was busy."""
    from numba import cuda

    function()
    cuda.synchronize()
    began = time.perf_counter()
    function()
    cuda.synchronize()
    n = max(1, min(50, int(seconds / 3 / max(1e-5, time.perf_counter() - began))))
    runs = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(n):
            function()
        queued = time.perf_counter() - began
        cuda.synchronize()
        runs.append(((time.perf_counter() - began) / n * 1e6, queued / n * 1e6))
    return sorted(runs)[1]


def short(name):
    """A kernel's name without what Numba's mangling adds."""
    if name.startswith("_ZN"):
        at, parts = 3, []
        while found := re.match(r"\d+", name[at:]):
            at += found.end()
            parts.append(name[at : at + int(found[0])])
            at += int(found[0])
        return ".".join(parts[-2:]) or name[:80]
    return re.sub(r"^void ", "", name)[:110]


def traced(function, times):
    """(name, start, ns) of everything that ran on the device, by CUPTI."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as p:
        for _ in range(times):
            function()
        torch.cuda.synchronize()
    try:
        found = [
            (e.name(), e.start_ns(), e.duration_ns())
            for e in p.profiler.kineto_results.events()
            if "CUDA" in str(e.device_type())
        ]
    except Exception:
        found = [
            (e.name, e.time_range.start * 1e3, e.time_range.elapsed_us() * 1e3)
            for e in p.events()
            if "CUDA" in str(e.device_type)
        ]
    return sorted((f for f in found if "ynchroniz" not in f[0] and " Sync" not in f[0]), key=lambda f: f[1])


def by_launch(function):
    """The same without CUPTI, only what the engine launches: an event before and after, behind a busy stream."""
    from numba import cuda
    from lstm_numba.gpu import cublas, launch

    marks, configured, multiply = [], launch._configured, cublas.multiply

    def marked(name, run):
        def call(*args):
            a, b = cuda.event(), cuda.event()
            a.record()
            run(*args)
            b.record()
            marks.append((name, a, b))

        return call

    launch._configured = lambda kernel, *rest: marked(kernel.py_func.__name__, configured(kernel, *rest))
    cublas.multiply = marked("cublas", multiply)
    try:
        held(function, 60000)
    finally:
        launch._configured, cublas.multiply = configured, multiply
    return [(name, 0, cuda.event_elapsed_time(a, b) * 1e6) for name, a, b in marks]


def summary(events, times, top):
    kernels = {}
    for name, _, ns in events:
        calls, total = kernels.get(short(name), (0, 0))
        kernels[short(name)] = (calls + 1, total + ns)
    rows = sorted(kernels.items(), key=lambda k: -k[1][1])
    busy = sum(k[1][1] for k in rows)
    span = events[-1][1] + events[-1][2] - events[0][1] if events else 0
    return {
        "busy_us": round(busy / times / 1e3, 2),
        "launches": round(len(events) / times, 2),
        "span_us": round(span / times / 1e3, 1),
        "kernels": [[n, round(c / times, 2), round(t / times / 1e3, 2)] for n, (c, t) in rows[:top]],
    }


def one_case(function, ours):
    """Everything about one function: wall and host µs, device µs two ways, kernels."""
    us, host_us = wall(function)
    facts = {"us": round(us, 1), "host_us": round(host_us, 1)}
    with guarded("held"):
        facts.update(device_us(function, repeats=3, hold_us=min(60000, 1.5 * host_us + 1000)))
    times = 2 if us > 10000 else 5
    events, by = [], "cupti"
    try:
        events = traced(function, times)
    except Exception as error:
        facts["no_trace"] = f"{type(error).__name__}: {error}"[:300]
    if not events and ours:
        events, times, by = by_launch(function), 1, "events"
    if events:
        facts.update(summary(events, times, 24 if ours else 8), by=by)
        if by == "events":
            del facts["span_us"]
    return facts


def whole_step(preset):
    """A training step of PTB as the program takes it: (function, what it needs said)."""
    from lstm_numba.optimizers import make_optimizer
    from lstm_numba.training.config import make_config
    from lstm_numba.training.tasks import build_task

    config = make_config("ptb", {"device": "cuda"}, data={"data_dir": ARGS.data_dir}, preset=preset)
    task = build_task(config, ARGS.data_dir, "cuda")
    model, state, count = task.model, [None], iter(range(10**6))
    names = ("momentum", "nesterov", "weight_decay")
    optimizer = make_optimizer(
        config["optimizer"], model.params, config["lr"], **{n: config[n] for n in names}
    )

    def step():
        r = model.loss_and_gradients(task.batch(0, next(count)), state[0])
        if config["clip_value"] is not None:
            model.engine.clip_by_value(r.grads, config["clip_value"])
        model.engine.clip_by_norm(r.grads, r.totals, config["clip"])
        optimizer.step(r.grads, totals=r.totals)
        r.fetch()
        state[0] = r.state
        return r

    return step


def device():
    """Question 1. Kernel by kernel, ours and cuDNN's."""
    step = None
    with guarded("prepare", section="device"):
        import torch

        torch.zeros(1).cuda()
        _nap()
        _, _, functions = layer("LSTM", "mnist")
        functions["inference"]()
        traced(functions["inference"], 1)  # the first is dear
    with guarded("prepare", what="whole step"):
        if ARGS.data_dir:
            step = whole_step("medium")
            step(), step()
    yield
    if step:
        with guarded("whole", preset="medium"):
            say("whole", preset="medium", **one_case(step, True))
            total, rows = profiled(step, 10, 25)
            say(
                "cprofile",
                what="whole step, medium",
                profiled_us=total,
                columns=["function", "calls", "own µs", "with callees µs"],
                rows=rows,
            )
    totals = []
    for shape, (B, T, I, H) in SHAPES.items():
        for cell in CELLS:
            if left() < 4:
                say("device", note="no time left", shape=shape, cell=cell)
                continue
            with guarded("device", shape=shape, cell=cell):
                began = time.time()
                x, dy, functions = layer(cell, shape)
                ours = {mode: one_case(f, True) for mode, f in functions.items()}
                for mode, facts in ours.items():
                    say("device", shape=shape, cell=cell, who="ours", mode=mode, BTIH=[B, T, I, H], **facts)
                if cell == "PeepholeLSTM":
                    continue
                theirs = {mode: one_case(f, False) for mode, f in rival(cell, x, dy).items()}
                for mode, facts in theirs.items():
                    say("device", shape=shape, cell=cell, who="cudnn", mode=mode, **facts)
                    totals.append(
                        [
                            shape,
                            cell,
                            mode,
                            *(k.get("busy_us") for k in (ours[mode], facts)),
                            *(k.get("device_us") for k in (ours[mode], facts)),
                            *(k.get("launches") for k in (ours[mode], facts)),
                        ]
                    )
                say("took", shape=shape, cell=cell, seconds=round(time.time() - began, 2))
    say(
        "busy",
        columns=[
            "shape",
            "cell",
            "mode",
            "busy ours",
            "busy cudnn",
            "held ours",
            "held cudnn",
            "launches ours",
            "launches cudnn",
        ],
        rows=totals,
    )


# -- the host's time -------------------------------------------------------------------------------------


def cost(function, n=200, repeats=7):
    """µs a call of the host's time: least and median of some rounds, the device's work waited for in between."""
    from numba import cuda

    function()
    function()
    cuda.synchronize()
    runs = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(n):
            function()
        runs.append((time.perf_counter() - began) / n * 1e6)
        cuda.synchronize()
    return [round(min(runs), 2), round(statistics.median(runs), 2)]


def recorded(function):
    """Launches of the sequence kernels in `function`: (kernel, grid, block, args, shared)."""
    from lstm_numba.gpu import sequence

    found, true = [], sequence.launch

    def note(kernel, grid, block, *args, shared=0):
        found.append((kernel, grid, block, args, shared))
        true(kernel, grid, block, *args, shared=shared)

    sequence.launch = note
    try:
        function()
    finally:
        sequence.launch = true
    return found


def profiled(function, times=20, top=25):
    import cProfile, pstats
    from numba import cuda

    function()
    cuda.synchronize()
    p = cProfile.Profile()
    p.enable()
    for _ in range(times):
        function()
    p.disable()
    cuda.synchronize()
    stats = pstats.Stats(p)
    rows = sorted(stats.stats.items(), key=lambda row: -row[1][2])[:top]
    # Calls, own and cumulated µs, each of one inference.
    return round(stats.total_tt / times * 1e6), [
        [
            f"{os.path.basename(f)}:{line} {name}",
            round(calls / times, 2),
            round(own / times * 1e6, 1),
            round(cumulated / times * 1e6, 1),
        ]
        for (f, line, name), (_, calls, own, cumulated, _) in rows
    ]


@contextlib.contextmanager
def whole_extents():
    """Numba lists a strided view's rows one by one, only to see whether there is more than one: here it does not."""
    from numba.cuda.cudadrv import dummyarray

    true = dummyarray.Array.iter_contiguous_extent

    def one(self):
        yield self.extent

    dummyarray.Array.iter_contiguous_extent = one
    try:
        yield
    finally:
        dummyarray.Array.iter_contiguous_extent = true


def pieces_of_launching():
    from numba import cuda
    import persistent as P
    from lstm_numba.gpu import launch

    @cuda.jit
    def tiny(a, b, c):
        i = cuda.grid(1)
        if i < c.size:
            c[i] = a[i] + b[i]

    @cuda.jit
    def nothing():
        pass

    a, b, c = (cuda.to_device(np.full(32, v, "f")) for v in (1, 2, 0))
    with guarded("host", what="launching"):
        stream, found = cuda.stream(), {}
        ready, bound = tiny[1, 32], tiny[1, 32, stream]
        found["numba tiny[1, 32](a, b, c)"] = cost(lambda: tiny[1, 32](a, b, c))
        found["numba, configured before"] = cost(lambda: ready(a, b, c))
        found["numba, configured before, own stream"] = cost(lambda: bound(a, b, c))
        found["engine's launch(tiny, ...)"] = cost(lambda: launch.launch(tiny, 1, 32, a, b, c))
        empty = nothing[1, 32]
        found["numba, no arguments"] = cost(empty)
        go = P.prepare(tiny, 1, 32, 0, (a, b, c), cooperative=False)
        found["cuda.core launch, flat arguments"] = cost(go)
        c.copy_to_device(np.zeros(32, "f"))
        go()
        cuda.synchronize()
        right = bool((c.copy_to_host() == 3).all())
        found["flattening the three arrays"] = cost(lambda: P.flatten((a, b, c)))
        found["typeof_pyval of an array"] = cost(lambda: tiny.typeof_pyval(a))
        say("host", what="launching, µs [least, median]", right=right, found=found)
    return a


def engine_launches():
    """A sequence kernel's launch with the engine's arguments, blocks alone and together."""
    from numba import cuda
    import persistent as P
    from lstm_numba.gpu import launch, sequence

    for name, H in (("alone", 32), ("together", 300)):
        with guarded("host", what=f"sequence launch, {name}"):
            rnn, x = make("LSTM", 16, H), cuda.to_device(np.zeros((1, 4, 16), "f"))
            rnn(x)
            kernel, grid, block, args, shared = next(
                r for r in recorded(lambda: rnn(x)) if r[0] is sequence.forward_kernel
            )
            found = {
                "engine's launch": cost(lambda: launch.launch(kernel, grid, block, *args, shared=shared))
            }
            if name == "together":
                found["cooperative_blocks"] = cost(
                    lambda: launch.cooperative_blocks(kernel, args, block, shared)
                )
            found["typeof_pyval of all arguments"] = cost(lambda: tuple(kernel.typeof_pyval(a) for a in args))
            found["flattening all arguments"] = cost(lambda: P.flatten(args))
            go = P.prepare(kernel, (*grid, 1), (*block, 1), shared, args, cooperative=name == "together")
            found["cuda.core launch, flat arguments"] = cost(go)
            say(
                "host",
                what=f"sequence launch, {name}, µs [least, median]",
                grid=grid,
                flat=len(P.flatten(args)),
                found=found,
            )
            say("host", what=f"forward kernel, {name}", **P.facts(P.compiled(kernel, args)))


def pieces_of_arrays(a):
    from numba import cuda
    from lstm_numba.gpu import cublas, launch, memory, products
    from lstm_numba.gpu.driver import device_view

    with guarded("host", what="arrays"):
        flat, found = memory.empty((4096,), np.float32), {}
        matrix = flat.reshape(64, 64)
        base = cuda.device_array(4096, np.uint8)
        found["empty((1000,))"] = cost(lambda: memory.empty((1000,), np.float32))
        found["empty((0,))"] = cost(lambda: memory.empty((0,), np.float32))
        found["cuda.device_array(1000)"] = cost(lambda: cuda.device_array(1000, np.float32))
        found["device_view"] = cost(lambda: device_view(base, (1000,), np.dtype(np.float32), None))
        found["a[10:20]"] = cost(lambda: flat[10:20])
        found["matrix[10:20]"] = cost(lambda: matrix[10:20])
        found["reshape(64, 64)"] = cost(lambda: flat.reshape(64, 64))
        found["flat(matrix)"] = cost(lambda: memory.flat(matrix))
        found["transposed(matrix)"] = cost(lambda: memory.transposed(matrix))
        found["span(matrix)"] = cost(lambda: memory.span(matrix))
        found["type(a)(shape, strides, dtype, gpu_data)"] = cost(
            lambda: type(flat)(shape=(64, 64), strides=(256, 4), dtype=flat.dtype, gpu_data=flat.gpu_data)
        )
        found["gpu_data.view"] = cost(lambda: flat.gpu_data.view(0, 400))
        found["fill(matrix, 0)"] = cost(lambda: memory.fill(matrix, 0))
        found["device_number()"] = cost(launch.device_number)
        found["current_context()"] = cost(cuda.current_context)
        found["__cuda_array_interface__"] = cost(lambda: flat.__cuda_array_interface__)
        found["device_ctypes_pointer.value"] = cost(lambda: flat.device_ctypes_pointer.value)
        found["flags[C_CONTIGUOUS]"] = cost(lambda: flat.flags["C_CONTIGUOUS"])
        found["event().record()"] = cost(lambda: cuda.event(timing=False).record())
        small = np.zeros(64, np.int64)
        found["upload(64 int64)"] = cost(lambda: memory.upload(small), n=50)
        say("host", what="arrays, µs [least, median]", found=found)
    with guarded("host", what="strided slices"):
        rows, found = {}, {}
        for n in (100, 700, 3584, 16384):
            big = memory.empty((n, 512), np.float32)
            found[f"({n}, 512)[:, 0:384]"] = cost(lambda: big[:, 0:384], n=5, repeats=3)
            with whole_extents():
                rows[f"({n}, 512)[:, 0:384]"] = cost(lambda: big[:, 0:384], n=5, repeats=3)
        say("host", what="strided slices, µs [least, median]", numba=found, without_listing_rows=rows)
    with guarded("host", what="products"):
        x, y, z = (memory.empty((64, 64), np.float32) for _ in range(3))
        found = {
            "backend": products.backend(),
            "products.matmul, out given": cost(lambda: products.matmul(x, y, out=z)),
            "products.matmul": cost(lambda: products.matmul(x, y)),
        }
        with guarded("host", what="cublas.multiply"):
            found["cublas.multiply"] = cost(lambda: cublas.multiply(x, y, z, False, products.element_strides))
        products.use("numba")
        found["numba's kernel"] = cost(lambda: products.matmul(x, y, out=z))
        products.use(None)
        with contextlib.suppress(ImportError):
            import cupy

            p, q, r = (cupy.zeros((64, 64), "f") for _ in range(3))
            found["cupy.matmul(out=)"] = cost(lambda: cupy.matmul(p, q, out=r))
        with contextlib.suppress(ImportError):
            import torch

            p, q, r = (torch.zeros((64, 64), device="cuda") for _ in range(3))
            found["torch.mm(out=)"] = cost(lambda: torch.mm(p, q, out=r))
            found["torch.empty"] = cost(lambda: torch.empty(1000, device="cuda"))
        say("host", what="products, µs [least, median]", found=found)


def host_time():
    """Question 2. What the host's time is made of, and why GRU takes so much of it."""
    with guarded("prepare", section="host"):
        cases = {cell: layer(cell, "mnist")[2] for cell in CELLS}
        for functions in cases.values():
            for function in functions.values():
                function()
    yield
    from numba import cuda

    cuda.synchronize()
    with guarded("host", what="profile"):
        for cell in ("LSTM", "GRU"):
            for mode in ("inference", "training"):
                us = cost(cases[cell][mode], n=20, repeats=3)
                total, rows = profiled(cases[cell][mode], 20, 25)
                say(
                    "cprofile",
                    cell=cell,
                    shape="mnist",
                    mode=mode,
                    host_us=us,
                    profiled_us=total,
                    columns=["function", "calls", "own µs", "with callees µs"],
                    rows=rows,
                )
    with guarded("host", what="why GRU"):
        for shape in ("mnist", "medium"):
            for cell in CELLS:
                functions = cases[cell] if shape == "mnist" else layer(cell, shape)[2]
                for mode, function in functions.items():
                    numba = cost(function, n=10, repeats=3)
                    keep = host(function()[0]).copy()
                    with whole_extents():
                        whole, again = cost(function, n=10, repeats=3), host(function()[0])
                    say(
                        "why",
                        shape=shape,
                        cell=cell,
                        mode=mode,
                        host_us=numba,
                        without_listing_rows=whole,
                        same_bits=bool(np.array_equal(keep, again)),
                    )
    a = pieces_of_launching()
    engine_launches()
    pieces_of_arrays(a)


# -- the persistent prototype ----------------------------------------------------------------------------


def numpy_lstm(slots, R, T, B, H):
    """Outputs and last c, float64."""
    h, c, out, weights = np.zeros((B, H)), np.zeros((B, H)), [], R.T.astype(float)
    sig = lambda v: 1 / (1 + np.exp(-v))
    for t in range(T):
        z = slots[t].reshape(B, 4, H).astype(float) + (h @ weights).reshape(B, 4, H)
        c = sig(z[:, 1]) * c + sig(z[:, 0]) * np.tanh(z[:, 2])
        h = sig(z[:, 3]) * np.tanh(c)
        out.append(h)
    return np.stack(out), c


class Flags:
    """Counters at zero, a new one for each launch: making one at zero again would be between the launches."""

    def __init__(self, size=1, count=64):
        from numba import cuda

        self.all = cuda.to_device(np.zeros((count, max(32, size)), np.int32))
        self.rows, self.next = [self.all[n] for n in range(count)], 0

    def take(self):
        if self.next == len(self.rows):
            from numba import cuda

            cuda.synchronize()
            self.all.copy_to_device(np.zeros(self.all.shape, np.int32))
            self.next = 0
        self.next += 1
        return self.rows[self.next - 1]


def launches(P, kernel, grid, shared, args_of, cooperative=True, count=48):
    """Prepared launches that differ in their flags, one after the other, and the flags' end."""
    flags = Flags(count=count)
    made = [P.prepare(kernel, grid, 256, shared, args_of(flags.take()), cooperative) for _ in range(count)]
    state = iter(made)
    return (lambda: next(state)()), flags


def multiplications(P, name, steps, depth, blocks):
    """The prototype as it was: products only."""
    from numba import cuda

    rng, padded = np.random.default_rng(5), P.padded_depth(depth)
    shared = 2 * 20 * padded * 4
    w, h = np.zeros((blocks, 20, padded), "f"), np.zeros((steps + 1, 20, padded), "f")
    w[..., :depth], h[..., :depth] = (
        rng.standard_normal((blocks, 20, depth)),
        rng.standard_normal((steps + 1, 20, depth)),
    )
    dw, dh, out = (
        cuda.to_device(w.ravel()),
        cuda.to_device(h.ravel()),
        cuda.to_device(np.full(steps * blocks * 8 * 128, np.nan, "f")),
    )
    go, _ = launches(
        P, P.persistent, blocks, shared, lambda f: (dw, dh, out, f, steps, 20, depth, padded, 20)
    )
    go()
    cuda.synchronize()
    got = out.copy_to_host().reshape(steps, blocks, 8, 32, 4)
    table, worst = P.value_table(), 0.0
    lanes, slots = np.nonzero(table >= 0)
    values = table[lanes, slots]
    for t in {0, steps // 2, steps - 1}:
        for half in range(2):
            k = (np.arange(padded) // 128) % 2 == half
            product = np.einsum(
                "nrk,bk->nrb", w[..., k].astype(float), h[t][:, k].astype(float), optimize=True
            )
            for r in range(2):
                for b in range(2):
                    mine = got[t, :, half * 4 + b * 2 + r][:, lanes, slots]
                    worst = max(worst, gap(mine, product[:, 10 * r + values // 10, 10 * b + values % 10]))
    us = device_us(go, times=4, repeats=5)
    say(
        "prototype",
        name=name,
        steps=steps,
        depth=depth,
        blocks=blocks,
        shared=shared,
        worst=worst,
        right=worst < 1e-4,
        us_a_step=round(us["device_us"] / steps, 3),
        **us,
    )


def lstm(P, name, steps, H):
    """A whole LSTM forward, against numpy, and what its parts cost."""
    from numba import cuda

    rng, padded, blocks = np.random.default_rng(6), P.padded_depth(H), -(-H // 5)
    shared = (2 * 20 * padded + 832) * 4
    R = (rng.uniform(-1, 1, (4 * H, H)) / np.sqrt(H)).astype("f")
    slots = rng.standard_normal((steps, 20, 4 * H)).astype("f")
    dw, ds = cuda.to_device(P.pack(R, H, padded).ravel()), cuda.to_device(slots.ravel())
    table, h, last = (
        cuda.to_device(P.value_table().ravel()),
        cuda.to_device(np.zeros((steps + 1) * 20 * padded, "f")),
        cuda.to_device(np.zeros(20 * H, "f")),
    )
    facts = {}
    go, _ = launches(
        P, P.persistent_lstm, blocks, shared, lambda f: (dw, h, ds, table, last, f, steps, H, padded, 1, 1)
    )
    go()
    cuda.synchronize()
    y = h.copy_to_host().reshape(steps + 1, 20, padded)[1:, :, :H].copy()
    checked = min(steps, 35)  # numpy takes its time
    ty, tc = numpy_lstm(slots, R, checked, 20, H)
    worst, other = gap(y[:checked], ty), 0
    if checked == steps:
        worst = max(worst, gap(last.copy_to_host().reshape(20, H), tc))
    for _ in range(20 if steps < 100 else 4):
        go()
        cuda.synchronize()
        other += not np.array_equal(y, h.copy_to_host().reshape(steps + 1, 20, padded)[1:, :, :H])
    us = device_us(go, times=4, repeats=5)
    facts["all"] = us
    for part, product, meeting in (("no product", 0, 1), ("no barrier", 1, 0)):
        with guarded("persistent", part=part):
            run, _ = launches(
                P,
                P.persistent_lstm,
                blocks,
                shared,
                lambda f: (dw, h, ds, table, last, f, steps, H, padded, product, meeting),
            )
            facts[part] = device_us(run, times=4, repeats=5)
    say(
        "persistent",
        name=name,
        steps=steps,
        H=H,
        blocks=blocks,
        shared=shared,
        worst=worst,
        right=worst < 1e-4,
        checked_steps=checked,
        finite=bool(np.isfinite(y).all()),
        runs_with_other_bits=other,
        us_a_step={k: round(v["device_us"] / steps, 3) for k, v in facts.items()},
        **facts,
    )


def barriers(P, count=2000):
    from numba import cuda

    for blocks in (16, 50, 130):
        found, right = {}, {}
        for name, threads in (
            ("numba's grid sync", 256),
            ("numba's grid sync, 32 threads", 32),
            ("counter", 256),
            ("flags, 4 bytes apart", 256),
            ("flags, 128 bytes apart", 256),
        ):
            with guarded("barrier", blocks=blocks, name=name):
                out = cuda.to_device(np.zeros(blocks + 1, np.int32))
                if name.startswith("numba"):
                    run = P.prepare(P.meet_grid, blocks, threads, 0, (count, out))
                else:
                    apart = 32 if "128" in name else 1
                    flags = cuda.to_device(np.zeros((8, 32 * 256), np.int32))
                    kernel = P.meet_counter if name == "counter" else P.meet_flags
                    rest = () if name == "counter" else (apart,)
                    state = iter(
                        [
                            P.prepare(kernel, blocks, threads, 0, (count, out, flags[n], *rest))
                            for n in range(8)
                        ]
                    )
                    run = lambda: next(state)()
                run()
                cuda.synchronize()
                ends = out.copy_to_host()
                right[name] = bool((ends[:blocks] == count).all() and ends[blocks] == 0)
                found[name] = round(device_us(run, repeats=5)["device_us"] / count, 3)
        say("barrier", blocks=blocks, rounds=count, us_a_barrier=found, right=right)


def persistent():
    """Question 3."""
    P = None
    with guarded("prepare", section="persistent"):
        import persistent as P
        from numba.cuda import types as t

        f, i, n = t.float32[::1], t.int64, t.int32[::1]
        _nap()
        for kernel, signature in (
            (P.persistent, (f, f, f, n, i, i, i, i, i)),
            (P.persistent_lstm, (f, f, f, n, f, n, i, i, i, i, i)),
            (P.meet_grid, (i, n)),
            (P.meet_counter, (i, n, n)),
            (P.meet_flags, (i, n, n, i)),
        ):
            with guarded("prepare", kernel=kernel.py_func.__name__):
                say("kernel", name=kernel.py_func.__name__, **P.facts(kernel.compile(signature)))
    yield
    with guarded("barrier"):
        barriers(P)
    for name, steps, H in (
        ("medium", 35, 650),
        ("small", 20, 200),
        ("medium, 350 steps", 350, 650),
        ("H 256", 350, 256),
    ):
        if left() > 4:
            with guarded("persistent", name=name):
                lstm(P, name, steps, H)
    for name, steps, depth, blocks in (
        ("medium", 35, 650, 130),
        ("small", 20, 200, 40),
        ("deep", 35, 1416, 130),
    ):
        if left() > 4:
            with guarded("prototype", name=name):
                multiplications(P, name, steps, depth, blocks)


# -- variants of the engine's kernels ----------------------------------------------------------------------


def kernel_only(function, which):
    """Device µs of a sequence kernel alone, launched again and again with the arguments that the engine gave it."""
    import persistent as P
    from lstm_numba.gpu import launch, sequence

    kernel, grid, block, args, shared = next(
        r for r in recorded(function) if r[0] is getattr(sequence, which)
    )
    facts = P.facts(P.compiled(kernel, args))
    facts["fit"] = launch.cooperative_blocks(kernel, args, block, shared)
    facts.update(
        device_us(lambda: launch.launch(kernel, grid, block, *args, shared=shared), times=3, repeats=5)
    )
    return {"grid": grid, **facts}


def variants():
    """Question 4: registers of the sequence kernels, and from which size on blocks share the units."""
    ready, true = {}, {}
    with guarded("prepare", section="variants"):
        from numba import cuda
        from lstm_numba.gpu import sequence
        from lstm_numba.gpu.options import KERNEL

        _nap()
        options = {**KERNEL, "cache": False}
        true = {w: getattr(sequence, w) for w in ("forward_kernel", "backward_kernel")}
        for registers in (None, 128, 96, 64):
            ready[registers] = {
                w: k if registers is None else cuda.jit(max_registers=registers, **options)(k.py_func)
                for w, k in true.items()
            }
        for registers in (128, 64):
            for w, kernel in ready[registers].items():
                setattr(sequence, w, kernel)
            layer("LSTM", "large")[2]["training"]()
        cuda.synchronize()
    if ready:
        for w, kernel in true.items():
            setattr(sequence, w, kernel)
    yield
    with guarded("alone"):
        keep = sequence.ALONE_BYTES
        for cell in CELLS:
            for shape in ("mnist",):
                found, outputs = {}, []
                for name, limit in (("alone", 1 << 40), ("together", 0)):
                    sequence.ALONE_BYTES = limit
                    functions = layer(cell, shape)[2]
                    outputs.append(host(functions["inference"]()[0]).copy())
                    found[name] = {
                        "forward": kernel_only(functions["inference"], "forward_kernel"),
                        "forward, kept": kernel_only(functions["training"], "forward_kernel"),
                        "backward": kernel_only(functions["training"], "backward_kernel"),
                    }
                sequence.ALONE_BYTES = keep
                say("alone", cell=cell, shape=shape, same_bits=bool(np.array_equal(*outputs)), **found)
    for shape, cell in (
        ("large", "LSTM"),
        ("medium", "LSTM"),
        ("large", "GRU"),
        ("small", "LSTM"),
        ("long", "LSTM"),
    ):
        for registers, kernels in ready.items():
            if left() < 5 or (registers == 96 and left() < 12):
                say("registers", note="no time left", shape=shape, registers=registers)
                continue
            with guarded("registers", shape=shape, cell=cell, registers=registers):
                for w, kernel in kernels.items():
                    setattr(sequence, w, kernel)
                x, dy, functions = layer(cell, shape)
                y = host(functions["inference"]()[0])
                if registers is None:
                    first = y.copy()
                found = {
                    "forward": kernel_only(functions["inference"], "forward_kernel"),
                    "backward": kernel_only(functions["training"], "backward_kernel"),
                }
                say(
                    "registers",
                    shape=shape,
                    cell=cell,
                    most=registers,
                    same_bits=bool(np.array_equal(y, first)),
                    us_a_step={k: round(v["device_us"] / SHAPES[shape][1], 2) for k, v in found.items()},
                    **found,
                )
    for w, kernel in true.items():
        setattr(sequence, w, kernel)


# -- products ----------------------------------------------------------------------------------------------


def tf32():
    """Question 5: TF32 with the real CuPy; beside it cuBLAS and the engine's own kernel in full precision."""
    with guarded("prepare", section="tf32"):
        from lstm_numba.gpu import cublas, memory, products

        _nap()
        say("tf32", cublas_available=cublas.available(), backend=products.backend())
        small = [memory.empty((64, 64), np.float32) for _ in range(3)]
        for backend in ("numba", "cublas"):
            with guarded("prepare", backend=backend):
                products.use(backend)
                products.matmul(small[0], small[1], out=small[2])
        products.use(None)
    yield
    from numba import cuda

    with guarded("tf32", what="names"):
        from cupy_backends.cuda.libs import cublas as real

        say("tf32", names={n: getattr(real, n) for n in dir(real) if "TF32" in n or "MATH" in n})
    products.allow_tf32(True)
    try:
        products.matmul(small[0], small[1], out=small[2])
        cuda.synchronize()
        say("tf32", as_it_is="no error")
    except Exception as error:
        say("tf32", as_it_is=f"{type(error).__name__}: {error}", trace=traceback.format_exc()[-900:])
    products.allow_tf32(False)
    with guarded("tf32", what="lend the name"):
        from cupy_backends.cuda.libs import cublas as real

        if not hasattr(real, "CUBLAS_TF32_TENSOR_OP_MATH"):
            real.CUBLAS_TF32_TENSOR_OP_MATH = 3
    rng = np.random.default_rng(7)
    for name, M, K, N, left_t in (
        ("mnist x W", 3584, 28, 512, 0),
        ("medium x W", 700, 650, 2600, 0),
        ("medium dW", 2600, 700, 650, 1),
        ("large x W", 700, 1500, 6000, 0),
        ("medium logits", 700, 650, 10000, 0),
        ("big", 4096, 4096, 4096, 0),
    ):
        if left() < 3:
            say("products", note="no time left", name=name)
            continue
        with guarded("products", name=name):
            A, B = rng.standard_normal((M, K)).astype("f"), rng.standard_normal((K, N)).astype("f")
            a = memory.transposed(cuda.to_device(np.ascontiguousarray(A.T))) if left_t else cuda.to_device(A)
            b, c = (
                memory.transposed(cuda.to_device(np.ascontiguousarray(B.T))),
                memory.empty((M, N), np.float32),
            )
            rows = rng.choice(M, 16, replace=False)
            want, found = A[rows].astype(float) @ B.astype(float), {}
            for how in ("cublas", "cublas tf32", "numba"):
                with guarded("products", name=name, how=how):
                    products.use(how.split()[0])
                    products.allow_tf32("tf32" in how)
                    memory.fill(c, float("nan"))
                    products.matmul(a, b, out=c)
                    got = c.copy_to_host()[rows]
                    us = device_us(lambda: products.matmul(a, b, out=c), times=5, repeats=5)
                    found[how] = {
                        "worst": gap(got, want),
                        "tflops": round(2e-6 * M * K * N / us["device_us"], 2),
                        **us,
                    }
            products.allow_tf32(False)
            products.use(None)
            say("products", name=name, MKN=[M, K, N], **found)


# -- the program --------------------------------------------------------------------------------------------


def start_program(folder, name):
    """PTB medium in a folder of its own."""
    data = ["--data-dir", ARGS.data_dir] if ARGS.data_dir else []
    log = open(os.path.join(folder, name + ".err"), "w")
    job = [
        sys.executable,
        "-m",
        "lstm_numba",
        "train",
        "ptb",
        "--preset",
        "medium",
        "--epochs",
        "1",
        "--device",
        "cuda",
        "--seed",
        "1",
        "--json",
        "--out",
        name,
        *data,
    ]
    return subprocess.Popen(job, cwd=folder, stdout=log, stderr=log), job


def stop(process, patience=12):
    """Ask once, then kill."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    if process.poll() is None:
        process.kill()
        process.wait()


def program(folder):
    """Question 6."""
    seconds = min(30, left() - 14)
    if seconds < 12 or not ARGS.data_dir:
        return say("program", note="no time left, or no data")
    with guarded("program"):
        process, job = start_program(folder, "medium")
        began = time.time()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        seconds = time.time() - began
        early = process.poll()
        stop(process)
        facts = {
            "job": " ".join(job[1:]),
            "rc": process.returncode,
            "ended_by_itself": early is not None,
            "seconds": round(seconds, 1),
        }
        with open(os.path.join(folder, "medium.err")) as file:
            facts["said"] = file.read()[-2500:]
        with contextlib.suppress(OSError):
            with open(os.path.join(folder, "medium", "metrics.jsonl")) as file:
                lines = file.read().splitlines()
            facts["metrics"] = lines[:2] + lines[-6:]
        say("program", **facts)


# -- who runs what --------------------------------------------------------------------------------------------


def versions():
    import numba

    facts = {"python": sys.version.split()[0], "numpy": np.__version__, "numba": numba.__version__}
    for name in ("numba_cuda", "torch", "cupy", "cuda.core", "cuda.bindings", "lstm_numba"):
        with contextlib.suppress(Exception):
            facts[name] = __import__(name, fromlist=["x"]).__version__
    with contextlib.suppress(Exception):
        import lstm_numba

        facts["from"] = os.path.dirname(lstm_numba.__file__)
    with contextlib.suppress(Exception):
        facts["smi"] = subprocess.run(
            [
                "nvidia-smi",
                "--query-gpu=name,driver_version,clocks.sm,clocks.max.sm,memory.total",
                "--format=csv,noheader",
            ],
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout.strip()
    say("versions", **facts)


def warm(cell):
    """Compile what the sections will use of one cell: they find it on disk."""
    for shape in SHAPES:
        with guarded("warm", cell=cell, shape=shape):
            x, dy, functions = layer(cell, shape)
            for function in functions.values():
                function()
    if cell == "LSTM":
        with guarded("warm", what="shared"):
            from lstm_numba.gpu import sequence

            sequence.ALONE_BYTES = 0
            for name in CELLS:
                layer(name, "mnist")[2]["training"]()
    from numba import cuda

    cuda.synchronize()
    say("warm", cell=cell)


SECTIONS = {"device": device, "host": host_time, "persistent": persistent, "variants": variants, "tf32": tf32}


def child():
    """One section: everything before its `yield` at once, the rest when the parent says for how long."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "second"))
    if ARGS.section.startswith("warm-"):
        return warm(ARGS.section[5:])
    run = SECTIONS[ARGS.section]()
    try:
        next(run)
        say("prepared", section=ARGS.section)
        word = sys.stdin.readline().split()
        if not word:
            return
        ARGS.end = time.time() + float(word[1])
        del _naps[1:]  # measured while others had the device too
        for _ in run:
            pass
    except BaseException as error:
        say(
            "section",
            section=ARGS.section,
            failed=f"{type(error).__name__}: {error}"[:600],
            trace=traceback.format_exc()[-1500:],
        )
        raise


def ready_or_dead(sections):
    """Whether all sections wait for their turn: one that still compiles disturbs the one that measures."""
    with contextlib.suppress(OSError):
        with open(os.path.join(ARGS.output, "results.jsonl")) as file:
            ready = {
                line.split('"section": "')[1].split('"')[0] for line in file if '"kind": "prepared"' in line
            }
        return all(name in ready or process.poll() is not None for name, process in sections.items())
    return False


def main():
    with contextlib.suppress(Exception):
        versions()
    log = open(os.path.join(ARGS.output, "log.txt"), "a")
    own = [
        sys.executable,
        os.path.abspath(__file__),
        ARGS.output,
        "--start",
        repr(ARGS.start),
        *(["--data-dir", ARGS.data_dir] if ARGS.data_dir else []),
        "--section",
    ]

    wanted = ARGS.only.split(",") if ARGS.only else list(SECTIONS)
    with tempfile.TemporaryDirectory() as folder:

        def start(name):  # in another folder than the checkout's, which must not be found before the package
            return subprocess.Popen(
                [*own, name], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder, text=True
            )

        sections = {}
        try:
            warmers = [start("warm-" + cell) for cell in CELLS]
            sections = {name: start(name) for name in SECTIONS if name in wanted}
            first = (
                start_program(folder, "first")[0]
                if ARGS.data_dir and ("program" in wanted or not ARGS.only)
                else None
            )
            end = time.time() + ARGS.warm
            for process in warmers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(1, end - time.time()))
                if process.poll() is None:
                    process.kill()
                    say("warm", failed="stopped: took too long", args=process.args[-1])
            if first:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    first.wait(max(0.1, ARGS.start + min(20, ARGS.warm) - time.time()))
                stop(first, 5)
            while time.time() < end and not ready_or_dead(sections):
                time.sleep(0.2)
            say("warmed", seconds=round(time.time() - ARGS.start, 1))
            for name, process in sections.items():
                share = min(CAPS[name], left() - 4)
                if share < 5:
                    say("section", section=name, note="no time left")
                    continue
                began = time.time()
                with guarded("section", section=name):
                    process.stdin.write(f"go {share}\n")
                    process.stdin.close()
                    try:
                        process.wait(share + 2)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        process.wait()
                        say("section", section=name, failed="stopped: took too long")
                say("section", section=name, rc=process.returncode, seconds=round(time.time() - began, 1))
            if first or ARGS.only == "program":
                program(folder)
        finally:
            for process in sections.values():
                if process.poll() is None:
                    process.kill()
    say("end", seconds=round(time.time() - ARGS.start, 1))
    with open(os.path.join(ARGS.output, "results.jsonl")) as file:  # the gist, should the files not come back
        for line in file:
            if re.search(
                r'"kind": "(busy|whole|why|barrier|persistent|prototype|registers|program|section)"|"failed"',
                line,
            ):
                print(line.strip()[: 2400 if '"busy"' in line else 260])


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
(
    parser.add_argument("output"),
    parser.add_argument("--budget", type=float, default=250),
    parser.add_argument("--data-dir"),
)
parser.add_argument("--warm", type=float, default=50, help="seconds to compile in, at most")
parser.add_argument("--only", help="sections, by commas; for trying the script")
parser.add_argument("--section"), parser.add_argument("--start", type=float, default=None)
ARGS = parser.parse_args()
ARGS.output = os.path.abspath(ARGS.output)
ARGS.data_dir = os.path.abspath(ARGS.data_dir) if ARGS.data_dir else None
ARGS.start = time.time() if ARGS.start is None else ARGS.start
ARGS.end = ARGS.start + ARGS.budget
os.makedirs(ARGS.output, exist_ok=True)
for _name in ("PYTHONPATH", "NUMBA_CACHE_DIR"):  # the sections run in another folder
    if os.environ.get(_name):
        os.environ[_name] = os.pathsep.join(
            os.path.abspath(part) for part in os.environ[_name].split(os.pathsep) if part
        )
sys.exit(child() if ARGS.section else main())
