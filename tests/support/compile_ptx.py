"""Compile every CUDA kernel for float32 and float64, without a GPU: CUDA's simulator checks no types.

    python tests/support/compile_ptx.py [-v] [--cc 7.5 ...] [--dtype float32 ...] [--only PART-OF-NAME]

Fails on a type error, on float64 instructions in a float32 kernel that are not listed below, on divisions in
64 bits, on static or badly aligned shared memory, and, where ``ptxas`` is found (package
``nvidia-cuda-nvcc``, or PATH), on registers spilt to memory and on a stack frame; where ``nvdisasm`` is found
besides (package ``nvidia-cuda-nvdisasm``), on more instructions for each multiply-add of a persistent kernel
than are listed below.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from machine_code import disassemble, product_loops

#: Float32 kernels with float64 instructions, and why.
FLOAT64 = {
    "cross_entropy": "a row's sum and its loss are float64, as on the CPU",
    "number_loss": "a prediction's loss is float64, as on the CPU",
    "column_sums": "columns are summed in float64",
    "bias_gradients": "columns are summed in float64",
    "norm": "squares are summed in float64; norm and factor are float64",
    "sgd": "factor and hyperparameters are float64, and cast once a thread",
    "sgd_rows": "factor and hyperparameters are float64, and cast once a thread",
    "momentum": "factor and hyperparameters are float64, and cast once a thread",
    "adam": "factor and hyperparameters are float64, and cast once a thread",
    "rmsprop": "factor and hyperparameters are float64, and cast once a thread",
}

#: Bytes of a stack frame, or spilt, that are no fault: a register or two, in float64.
ALLOWED_SPILL = 16

#: Kernels of cells with a second product, in float64 -> bytes that they may spill.
KNOWN_SPILLS = {
    **{f"forward ({name}, CooperativeGrid, FourRows), float64": 96 for name in ("peephole-full", "use-gate")},
    # For compute capability 8.0.
    "persistent backward (gru-reset-before, CooperativeGrid, Rows5Units4), float64": 32,
    "persistent backward (peephole-full, CooperativeGrid, Rows5Units4), float64": 36,
}

#: Cells whose kernels of many models hold more numbers at once than there are registers for two blocks on a
#: multiprocessor -> bytes that they may spill, in float32 and in float64: addresses of a model's arrays are
#: computed, where those of one model are constants.
SPILLS_OF_MODELS = {
    "gru-reset-before": (48, 16),
    "use-gate": (80, 144),
    "peephole-full": (112, 180),
    "lstm-projected": (112, 320),
    "layer-norm-lstm": (452, 436),
    "layer-norm-gru": (108, 320),
}

#: Cells whose equations hold more numbers at once than a thread of a cooperative kernel has registers ->
#: bytes that these kernels, and persistent ones, may spill, in float32 and in float64.
LARGE_CELLS = {
    "wrapped lstm": (48, 16),
    "layer-norm-gru": (32, 320),
    "layer-norm-lstm": (160, 436),
    "lstm-projected": (32, 48),
    "wrapped gru-reset-before": (80, 176),
    "wrapped lstm-projected": (96, 384),
}

#: Instructions for each multiply-add, at most, of persistent kernels' loops over the depth, in float32, with
#: weights in shared and in global memory. For four times 80 multiply-adds, of 4 gates and 20 rows, an
#: LSTM's forward pass has 20 vector loads, 16 loads of weights, and some index arithmetic.
INSTRUCTIONS = {
    "persistent forward (lstm,": (1.21, 1.26),
    "persistent forward (peephole,": (1.21, 1.26),
    "persistent forward (gru,": (1.24, 1.29),
    "persistent forward (rnn,": (1.46, 1.56),
    "persistent backward (lstm,": (1.25, 1.36),
    "persistent backward (peephole,": (1.25, 1.36),
    "persistent backward (gru,": (1.25, 1.38),
    "persistent backward (rnn,": (1.27, 1.39),
}
#: The same of other cells, and in float64; there of cells with two products, whose tiles are smaller.
OTHER_INSTRUCTIONS = {"float32": (1.5, 1.6), "float64": (1.8, 1.9)}
SMALL_TILES = {"Rows7Units1), float64": (1.95, 2.2), "Rows5Units4), float64": (1.8, 2.0)}

#: Users' kernels with Numba's `range`, which computes the number of iterations by a division.
USERS = ("step of ", "training by ", "example, ")

#: The oldest that CUDA 13 supports, and two that are common.
CAPABILITIES = ["7.5", "8.0", "9.0"]


class Tools(NamedTuple):
    """Paths of NVIDIA's programs, None for those that are not here."""

    ptxas: str | None
    nvdisasm: str | None


class _Device:
    """Stands in for a GPU; the compiler asks for nothing else."""

    def __init__(self, capability: tuple[int, int]) -> None:
        self.compute_capability = capability


def _pretend(capability: tuple[int, int]) -> None:
    """Make numba-cuda compile for a device that is not there."""
    from numba.cuda import api, dispatcher
    from numba.cuda.cudadrv import devices

    for module in (api, dispatcher, devices):
        if hasattr(module, "get_current_device"):
            module.get_current_device = lambda: _Device(capability)


def find_tool(name: str) -> str | None:
    """``ptxas``, the assembler, or ``nvdisasm``: from the package of its wheel or from PATH."""
    try:
        import nvidia
    except ImportError:
        return shutil.which(name)
    for root in nvidia.__path__:
        for path in sorted(Path(root).glob(f"*/bin/{name}*")):
            return str(path)
    return shutil.which(name)


def compile_kernel(kernel: Any, signature: Any, capability: tuple[int, int]) -> str:
    """PTX of a kernel."""
    from lstm_numba.engines.cuda.driver import cuda

    bounds = kernel.targetoptions.get("launch_bounds")
    ptx, _ = cuda.compile_ptx(kernel.py_func, signature, cc=capability, launch_bounds=bounds)
    return str(ptx)


def float64_instructions(ptx: str) -> list[str]:
    """Float64 instructions, without declarations."""
    lines = (line.strip() for line in ptx.splitlines())
    return [line for line in lines if ".f64" in line and not line.startswith((".reg", ".param", "//"))]


def shared_memory_faults(ptx: str) -> list[str]:
    """Static shared memory, and shared memory not aligned for vector loads of 16 bytes."""
    declared = re.findall(r"\.shared \.align (\d+) \.\w+ \w+(\[\d*\])?", ptx)
    faults = ["static shared memory"] if any(size != "[]" for _, size in declared) else []
    wide = re.search(r"\b(ld|st)\.\S*shared\S*\.(v4\.\w32|v2\.\w64)|\bcp\.async\.cg\b", ptx)
    if wide and any(int(alignment) < 16 for alignment, _ in declared):
        faults.append(f"{wide[0]}, and shared memory with an alignment of less than 16 bytes")
    return faults


def divisions(ptx: str) -> list[str]:
    """Divisions in 64 bits, each of which is a routine of some tens of instructions."""
    return re.findall(r"\b(?:div|rem)\.[su]64\b.*", ptx)


def spills(
    ptxas: str, ptx: str, capability: tuple[int, int], most: int | None, allowed: int, cubin: Path
) -> tuple[str, str]:
    """Registers of at most so many, and faults: spills and stack frames of more bytes than allowed."""
    source = cubin.with_suffix(".ptx")
    source.write_text(ptx)
    major, minor = capability
    command = [ptxas, "-v", f"-arch=sm_{major}{minor}", str(source), "-o", str(cubin)]
    if most is not None:
        command.append(f"--maxrregcount={most}")
    if ".extern .func" in ptx:  # CUDA's device runtime, which numba-cuda links later
        command.append("--compile-only")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    text = result.stdout + result.stderr
    if result.returncode:
        return "", f"ptxas: {text.strip()}"
    registers = re.findall(r"Used (\d+) registers", text)
    sizes = re.findall(r"(\d+) bytes (stack frame|spill stores|spill loads)", text)
    wrong = [f"{count} bytes {what}" for count, what in sizes if int(count) > allowed]
    return f"{max(map(int, registers), default=0)} registers", ", ".join(wrong)


def slow_loops(nvdisasm: str, cubin: Path, name: str, kind: str) -> tuple[str, list[str]]:
    """What a persistent kernel's loops over the depth take, and which take more than is listed."""
    listed = [most for start, most in INSTRUCTIONS.items() if name.startswith(start)]
    small = [most for end, most in SMALL_TILES.items() if f"{name}, {kind}".endswith(end)]
    most = listed[0] if listed and kind == "float32" else (*small, OTHER_INSTRUCTIONS[kind])[0]
    bounds = dict(zip(("shared", "global"), most, strict=True))
    loops, known, faults = product_loops(disassemble(nvdisasm, cubin)), [], []
    for source, most in bounds.items():
        # The one that is unrolled, of the largest product.
        main = max((loop for loop in loops if loop.source == source), key=lambda loop: loop.multiply_adds)
        text = f"{main.ratio:.3f} instructions for each multiply-add, weights from {source} memory"
        known.append(text)
        if main.ratio > most:
            faults.append(f"{text}: expected {most} at most")
    return ", ".join(known), faults


def allowed_spill(name: str, kind: str) -> int:
    """Bytes that a kernel may spill."""
    for cell, most in SPILLS_OF_MODELS.items():
        if f"({cell}, BlockOfModel" in name:
            return most[kind == "float64"]
    for cell, allowed in LARGE_CELLS.items():
        if f"({cell}, CooperativeGrid" in name or (name.startswith("persistent") and f"({cell}, " in name):
            return allowed[kind == "float64"]
    return KNOWN_SPILLS.get(f"{name}, {kind}", ALLOWED_SPILL)


def check(
    name: str, kernel: Any, signature: Any, kind: str, capability: tuple[int, int], tools: Tools
) -> tuple[str, list[str]]:
    """Facts about a kernel, and its faults."""
    with tempfile.TemporaryDirectory() as folder:
        return _check(name, kernel, signature, kind, capability, tools, Path(folder) / "kernel.cubin")


def _check(
    name: str, kernel: Any, signature: Any, kind: str, capability: tuple[int, int], tools: Tools, cubin: Path
) -> tuple[str, list[str]]:
    try:
        ptx = compile_kernel(kernel, signature, capability)
    except Exception as error:  # whatever the compiler raises is a fault
        return "", [f"{type(error).__name__}: {str(error).strip()}"]
    wide, faults, known = float64_instructions(ptx), [], ""
    if kind == "float32" and wide and name.partition(" (")[0] not in FLOAT64:
        faults.append(f"{len(wide)} float64 instructions, the first: {wide[0]}")
    faults += shared_memory_faults(ptx)
    if divisions(ptx) and not name.startswith(USERS):
        faults.append(f"{len(divisions(ptx))} divisions in 64 bits, the first: {divisions(ptx)[0]}")
    if tools.ptxas:
        most = kernel.targetoptions.get("max_registers")
        known, wrong = spills(tools.ptxas, ptx, capability, most, allowed_spill(name, kind), cubin)
        faults += [wrong] if wrong else []
        if tools.nvdisasm and name.startswith("persistent") and capability == (9, 0) and not wrong:
            loops, slow = slow_loops(tools.nvdisasm, cubin, name, kind)
            known, faults = f"{known}, {loops}", faults + slow
    return f"{known}, {len(wide)} float64 instructions", faults


def unlisted(listed: list[tuple[str, Any, Any]]) -> list[str]:
    """Names of kernels of the CUDA engine, and of those for users' kernels, that are not listed."""
    import importlib
    import pkgutil

    import lstm_numba.engines.cuda
    import lstm_numba.kernels.cuda

    kernels, kind = {id(kernel) for _, kernel, _ in listed}, type(listed[0][1])
    names = []
    packages = lstm_numba.engines.cuda, lstm_numba.kernels.cuda
    for info in (
        info
        for package in packages
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            # No other object's attributes are read: without a device some of CUDA's driver raise errors.
            if not isinstance(value, kind) or value.__module__ != module.__name__:
                continue
            if not value.targetoptions.get("device") and id(value) not in kernels:
                names.append(f"{info.name}.{name}")
    return names


def main() -> int:
    """Compile, report, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for every kernel")
    parser.add_argument("--cc", action="append", help="compute capability; may be repeated")
    parser.add_argument("--dtype", action="append", choices=("float32", "float64"), help="may be repeated")
    parser.add_argument("--only", action="append", help="kernels whose name contains this; may be repeated")
    options = parser.parse_args()

    from lstm_numba.engines.cuda.driver import SIMULATED, types

    if SIMULATED:
        parser.error("CUDA's simulator is on: it has no compiler")
    sys.path.insert(0, str(Path(__file__).parent))
    from ptx_kernels import example_kernels, kernels, sequence_kernels, step_kernels

    def every(dtype: Any) -> list[Any]:
        examples = example_kernels() if dtype == types.float32 else []
        return [*kernels(dtype), *sequence_kernels(dtype), *step_kernels(dtype), *examples]

    listed = every(types.float32)
    offenders = [f"{name}: not listed in ptx_kernels.py" for name in unlisted(listed)]
    tools, count = Tools(find_tool("ptxas"), find_tool("nvdisasm")), 0
    for text in options.cc or CAPABILITIES:
        major, minor = (int(n) for n in text.split("."))
        _pretend((major, minor))
        for dtype in (getattr(types, name) for name in options.dtype or ("float32", "float64")):
            for name, kernel, signature in every(dtype):
                if not any(part in name for part in options.only or [""]):
                    continue
                if name.startswith("persistent") and (major, minor) < (8, 0):
                    continue  # it has no asynchronous copies: `plans.unsuited`
                known, faults = check(name, kernel, signature, dtype.name, (major, minor), tools)
                count += 1
                label = f"{name}, {dtype.name}, {text}"
                offenders += [f"{label}: {fault}" for fault in faults]
                if options.verbose:
                    print(f"{label}: {'; '.join(faults) or known}", flush=True)
    for offender in offenders:
        print(offender)
    checked = "registers checked" if tools.ptxas else "no ptxas, registers not checked"
    checked += "" if tools.nvdisasm else "; no nvdisasm, loops not checked"
    print(f"{count} kernels compiled ({checked}), {len(offenders)} faults")
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main())
