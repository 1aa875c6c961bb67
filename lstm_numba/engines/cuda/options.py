"""The options of the CUDA compiler, all in one place."""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import SIMULATED

#: Options of a kernel. Compiled code is cached on disk.
KERNEL: dict[str, Any] = {"cache": True}

#: Options of a function that kernels call.
DEVICE: dict[str, Any] = {"device": True, "cache": True}

#: Options of the forward kernel with a cooperative launch: launch bounds of 256 threads and two blocks on a
#: multiprocessor limit a thread to 128 registers. (LSTM, 1,500 units, 20 rows, on an H100: 67 µs a step
#: instead of 173.)
COOPERATIVE_KERNEL: dict[str, Any] = KERNEL if SIMULATED else {**KERNEL, "launch_bounds": (256, 2)}
