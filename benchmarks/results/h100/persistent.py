# ruff: noqa
"""A prototype of persistent kernels, launchable: a product alone, a whole LSTM around it, and barriers.

The first kernel multiplies only (h is an input); the second is an LSTM's forward pass: slots hold W x + b, each
step adds the recurrent product, makes h, and hands it on through global memory. A bounded wait in place of an
endless one: a kernel that does not meet ends wrong instead of never.
"""

import math

import numpy as np
from lstm_numba.gpu.driver import cuda, insert_function, intrinsic, ir, make_signature, types, unpack_tuple
from lstm_numba.gpu.number import Number, data_of, multiply_add, store_numbers

I64, I32 = ir.IntType(64), ir.IntType(32)
ONE, ZERO = np.float32(1), np.float32(0)
PATIENCE = 20_000_000  # polls of a barrier, a few seconds
ROWS = BATCH = 20
UNITS = 5


def _asm(builder, ret, args, text, cons):
    f = ir.InlineAsm(ir.FunctionType(ret, [a.type for a in args]), text, cons, side_effect=True)
    return builder.call(f, args)


def _address(context, builder, sig, args):
    return builder.ptrtoint(builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]]), I64)


@intrinsic
def load_acquire(typingctx, array, at):
    def codegen(context, builder, sig, args):
        return _asm(
            builder,
            I32,
            [_address(context, builder, sig, args)],
            "ld.acquire.gpu.global.u32 $0, [$1];",
            "=r,l,~{memory}",
        )

    return make_signature(types.int32, array, types.int64), codegen


def _writer(text):
    @intrinsic
    def emit(typingctx, array, at, value):
        def codegen(context, builder, sig, args):
            _asm(
                builder,
                ir.VoidType(),
                [_address(context, builder, sig, args), args[2]],
                text,
                "l,r,~{memory}",
            )
            return context.get_dummy_value()

        return make_signature(types.void, array, types.int64, types.int32), codegen

    return emit


add_release = _writer("red.release.gpu.global.add.u32 [$0], $1;")
store_release = _writer("st.release.gpu.global.u32 [$0], $1;")


def _vector(builder, data, where):
    v = ir.VectorType(data.type.pointee, 4)
    return builder.bitcast(builder.gep(data, [where]), v.as_pointer())


@intrinsic
def copy4(typingctx, target, at, source, start):
    """One 16-byte copy, global to shared."""

    def codegen(context, builder, sig, args):
        t = data_of(context, builder, sig.args[0], args[0])
        s = data_of(context, builder, sig.args[2], args[2])
        builder.store(
            builder.load(_vector(builder, s, args[3]), align=16), _vector(builder, t, args[1]), align=16
        )
        return context.get_dummy_value()

    return make_signature(types.void, target, types.int64, source, types.int64), codegen


def tile(R, B):
    """sums + products of R rows of weights and B rows of h over four neighbours of the depth."""

    @intrinsic
    def emit(typingctx, sums, shared, w_at, w_step, h_at, h_step):
        def codegen(context, builder, sig, args):
            d = data_of(context, builder, sig.args[1], args[1])
            tot = list(unpack_tuple(builder, args[0], R * B))

            def vec(at, step, n):
                return builder.load(
                    _vector(builder, d, builder.add(at, builder.mul(step, ir.Constant(I64, n)))), align=16
                )

            ws = [vec(args[2], args[3], n) for n in range(R)]
            for b in range(B):
                h = vec(args[4], args[5], b)
                for r in range(R):
                    for q in range(4):
                        lane = ir.Constant(I32, q)
                        tot[r * B + b] = multiply_add(
                            builder,
                            builder.extract_element(ws[r], lane),
                            builder.extract_element(h, lane),
                            tot[r * B + b],
                        )
            return context.make_tuple(builder, sig.return_type, tot)

        i = types.int64
        return make_signature(sums, sums, shared, i, i, i, i), codegen

    @intrinsic
    def zeros(typingctx, array):
        n = Number(array.dtype)

        def codegen(context, builder, sig, args):
            return context.make_tuple(
                builder, sig.return_type, [context.get_constant(array.dtype, 0.0)] * (R * B)
            )

        return make_signature(types.UniTuple(n, R * B), array), codegen

    @intrinsic
    def reduce(typingctx, sums, lane):
        """Butterfly that halves the values at each step; lane keeps its share: value index by its bits."""

        def codegen(context, builder, sig, args):
            vals, lane = list(unpack_tuple(builder, args[0], R * B)), args[1]
            F = vals[0].type
            fn = insert_function(
                builder.module, ir.FunctionType(F, [I32, F, I32, I32]), "llvm.nvvm.shfl.sync.bfly.f32"
            )
            full = ir.Constant(I32, -1)
            for bit in (16, 8, 4, 2, 1):
                if len(vals) % 2:
                    vals.append(ir.Constant(F, 0.0))
                half = len(vals) // 2
                up = builder.icmp_signed("!=", builder.and_(lane, ir.Constant(I32, bit)), ir.Constant(I32, 0))
                new = []
                for n in range(half):
                    mine = builder.select(up, vals[half + n], vals[n])
                    other = builder.select(up, vals[n], vals[half + n])
                    got = builder.call(fn, [full, other, ir.Constant(I32, bit), ir.Constant(I32, 31)])
                    new.append(builder.fadd(mine, got))
                vals = new
            return context.make_tuple(builder, sig.return_type, vals)

        n = R * B
        for _ in range(5):
            n = (n + 1) // 2
        return make_signature(types.UniTuple(sums.dtype, n), sums, types.int32), codegen

    return emit, zeros, reduce


emit, zeros, reduce = tile(10, 10)


def value_table():
    """(lanes, 4): which of the tile's 100 values (row * 10 + column) a lane has after `reduce`; -1 for none."""
    table = np.full((32, 4), -1, np.int32)
    for lane in range(32):
        vals = list(range(100))
        for bit in (16, 8, 4, 2, 1):
            vals += [-1] * (len(vals) % 2)
            half = len(vals) // 2
            vals = vals[half:] if lane & bit else vals[:half]
        table[lane] = vals
    return table


@cuda.jit(launch_bounds=(256, 1))
def persistent(weights, h, out, flags, steps, batch, depth, padded, rows):
    """The prototype. weights (blocks, rows, padded), h (T+1, batch, padded), flags (1,)."""
    shared = cuda.shared.array(0, h.dtype)
    thread = cuda.threadIdx.x
    lane, warp = thread & 31, thread >> 5
    own = cuda.blockIdx.x * rows * padded
    for i in range(4 * thread, rows * padded, 4 * 256):
        copy4(shared, i, weights, own + i)
    h_at = rows * padded
    half = warp >> 2
    r0 = (warp & 1) * 10
    b0 = ((warp >> 1) & 1) * 10
    blocks = cuda.gridDim.x
    for t in range(steps):
        start = t * batch * padded
        for i in range(4 * thread, batch * padded, 4 * 256):
            copy4(shared, h_at + i, h, start + i)
        cuda.syncthreads()
        sums = zeros(h)
        for k in range(4 * lane + 128 * half, padded, 256):
            sums = emit(sums, shared, r0 * padded + k, padded, h_at + b0 * padded + k, padded)
        part = reduce(sums, np.int32(lane))
        store_numbers(out, ((t * blocks + cuda.blockIdx.x) * 8 + warp) * 128 + lane * 4, 1, part)
        cuda.syncthreads()
        if thread == 0:
            add_release(flags, 0, np.int32(1))
            polls = 0
            while load_acquire(flags, 0) < (t + 1) * blocks and polls < PATIENCE:
                polls += 1
        cuda.syncthreads()


@cuda.jit(launch_bounds=(256, 1))
def persistent_lstm(weights, h, slots, table, last, flags, steps, hidden, padded, product, meeting):
    """Forward pass of an LSTM, batch 20, five units a block.

    weights (blocks, 20, padded), a unit's i f g o together; h (T+1, 20, padded); slots (T, 20, 4, hidden);
    last (20, hidden): c at the end; product 0 leaves the multiplication out and meeting 0 the barrier, for timing.
    """
    shared = cuda.shared.array(0, h.dtype)
    thread = cuda.threadIdx.x
    lane, warp = thread & 31, thread >> 5
    own = cuda.blockIdx.x * ROWS * padded
    for i in range(4 * thread, ROWS * padded, 4 * 256):
        copy4(shared, i, weights, own + i)
    h_at = ROWS * padded
    part_at = h_at + BATCH * padded
    half = warp >> 2
    r0 = (warp & 1) * 10
    b0 = ((warp >> 1) & 1) * 10
    base = part_at + half * 400 + r0 * 20 + b0
    v0, v1, v2, v3 = table[lane * 4], table[lane * 4 + 1], table[lane * 4 + 2], table[lane * 4 + 3]
    p0 = base + v0 // 10 * 20 + v0 % 10 if v0 >= 0 else part_at + 800
    p1 = base + v1 // 10 * 20 + v1 % 10 if v1 >= 0 else part_at + 800
    p2 = base + v2 // 10 * 20 + v2 % 10 if v2 >= 0 else part_at + 800
    p3 = base + v3 // 10 * 20 + v3 % 10 if v3 >= 0 else part_at + 800
    u, b = thread // 20, thread % 20
    unit = cuda.blockIdx.x * UNITS + u
    mine = thread < 100 and unit < hidden
    read = part_at + u * 80 + b
    blocks = cuda.gridDim.x
    c = ZERO
    zi, zf, zg, zo = ZERO, ZERO, ZERO, ZERO
    for t in range(steps):
        if mine:
            at = (t * BATCH + b) * 4 * hidden + unit
            zi, zf, zg, zo = slots[at], slots[at + hidden], slots[at + 2 * hidden], slots[at + 3 * hidden]
        if product:
            start = t * BATCH * padded
            for i in range(4 * thread, BATCH * padded, 4 * 256):
                copy4(shared, h_at + i, h, start + i)
            cuda.syncthreads()
            sums = zeros(h)
            for k in range(4 * lane + 128 * half, padded, 256):
                sums = emit(sums, shared, r0 * padded + k, padded, h_at + b0 * padded + k, padded)
            part = reduce(sums, np.int32(lane))
            store_numbers(shared, p0, 0, part[0:1])
            store_numbers(shared, p1, 0, part[1:2])
            store_numbers(shared, p2, 0, part[2:3])
            store_numbers(shared, p3, 0, part[3:4])
        cuda.syncthreads()
        if mine:
            zi += shared[read] + shared[read + 400]
            zf += shared[read + 20] + shared[read + 420]
            zg += shared[read + 40] + shared[read + 440]
            zo += shared[read + 60] + shared[read + 460]
            c = c * (ONE / (ONE + math.exp(-zf))) + math.tanh(zg) * (ONE / (ONE + math.exp(-zi)))
            h[((t + 1) * BATCH + b) * padded + unit] = math.tanh(c) * (ONE / (ONE + math.exp(-zo)))
        cuda.syncthreads()
        if meeting:
            if thread == 0:
                add_release(flags, 0, np.int32(1))
                polls = 0
                while load_acquire(flags, 0) < (t + 1) * blocks and polls < PATIENCE:
                    polls += 1
            cuda.syncthreads()
    if mine:
        last[b * hidden + unit] = c


@cuda.jit
def meet_grid(count, out):
    """Numba's barrier alone."""
    grid = cuda.cg.this_grid()
    for _ in range(count):
        grid.sync()
    if cuda.threadIdx.x == 0:
        out[cuda.blockIdx.x] = count


@cuda.jit
def meet_counter(count, out, flags):
    """The prototype's: one counter, every block adds to it and waits for it."""
    blocks = cuda.gridDim.x
    for t in range(count):
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            add_release(flags, 0, np.int32(1))
            polls = 0
            while load_acquire(flags, 0) < (t + 1) * blocks and polls < PATIENCE:
                polls += 1
            if polls >= PATIENCE:
                out[blocks] = 1
        cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        out[cuda.blockIdx.x] = count


@cuda.jit
def meet_flags(count, out, flags, apart):
    """No atomics: each block stores its own flag, thread n waits for block n's. Blocks <= threads of a block."""
    blocks = cuda.gridDim.x
    thread = cuda.threadIdx.x
    for t in range(count):
        cuda.syncthreads()
        if thread == 0:
            store_release(flags, cuda.blockIdx.x * apart, np.int32(t + 1))
        if thread < blocks:
            polls = 0
            while load_acquire(flags, thread * apart) < t + 1 and polls < PATIENCE:
                polls += 1
            if polls >= PATIENCE:
                out[blocks] = 1
        cuda.syncthreads()
    if thread == 0:
        out[cuda.blockIdx.x] = count


# -- launching -----------------------------------------------------------------------------------------


def flatten(args):
    """A kernel's arguments as the compiled code takes them."""
    out = []
    for a in args:
        if isinstance(a, (bool, int)):
            out.append(a)
        elif isinstance(a, tuple):
            out.extend(flatten(a))
        elif isinstance(a, np.generic):
            out.append(np.ctypeslib.as_ctypes_type(a.dtype)(a.item()))
        else:
            out.extend(
                (0, 0, a.size, a.dtype.itemsize, a.device_ctypes_pointer.value or 0, *a.shape, *a.strides)
            )
    return out


def compiled(kernel, args):
    return kernel.compile(tuple(kernel.typeof_pyval(a) for a in args))


def facts(code):
    found = code._codelibrary.get_cufunc().attrs
    return {"registers": found.regs, "local_bytes": found.local, "cooperative": bool(code.cooperative)}


def prepare(kernel, grid, block, shared, args, cooperative=True):
    """A function that launches; what it costs to find out is paid here."""
    from cuda.core import LaunchConfig, launch
    from numba.cuda.cudadrv import driver as drv

    code = compiled(kernel, args)
    function = code._codelibrary.get_cufunc()
    if shared > 48 * 1024:
        name = drv.binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        drv.driver.cuKernelSetAttribute(name, shared, function.handle, function.device.id)
    grid = grid if isinstance(grid, tuple) else (grid, 1, 1)
    block = block if isinstance(block, tuple) else (block, 1, 1)
    config = LaunchConfig(grid=grid, block=block, shmem_size=shared, is_cooperative=cooperative)
    stream, flat, core = drv._to_core_stream(0), flatten(args), function.kernel
    return lambda keep=args: launch(stream, config, core, *flat)  # flat holds addresses only


def padded_depth(depth):
    return -(-depth // 8) * 8


def pack(R, hidden, padded):
    """(4H, H) as (blocks, 20, padded): five units a block, a unit's gates together."""
    blocks = -(-hidden // UNITS)
    packed = np.zeros((blocks * UNITS, 4, padded), np.float32)
    packed[:hidden, :, :hidden] = R.reshape(4, hidden, hidden).transpose(1, 0, 2)
    return packed.reshape(blocks, 4 * UNITS, padded)
