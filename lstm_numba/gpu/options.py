"""The one place that spells the CUDA compiler's options."""

from __future__ import annotations

from typing import Any

from lstm_numba.gpu.driver import SIMULATED

#: Options of a kernel. Compiled code is kept on disk.
KERNEL: dict[str, Any] = {"cache": True}

#: Options of a function that kernels call.
DEVICE: dict[str, Any] = {"device": True, "cache": True}

#: Options of a sequence's kernel: a block has so many threads, and two blocks fit on a multiprocessor, which
#: is to say that a thread has 128 registers at most. With more, half of it is idle while a block waits.
SEQUENCE: dict[str, Any] = KERNEL if SIMULATED else {**KERNEL, "launch_bounds": (256, 2)}
