"""The options of the CUDA compiler, all in one place."""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import SIMULATED

#: Options of a kernel. Compiled code is cached on disk.
KERNEL: dict[str, Any] = {"cache": True}

#: Options of a function that kernels call.
DEVICE: dict[str, Any] = {"device": True, "cache": True}

#: Options of kernels with a cooperative launch: launch bounds of 256 threads and two blocks on a
#: multiprocessor limit a thread to 128 registers, which the compiler then uses for loads ahead of their use.
#: (LSTM, 1,500 units, 20 rows, on an H100: a step of the forward pass takes 67 µs instead of 173 with more
#: registers, a step of the backward pass 89 instead of 184 with the 106 that it takes by itself.)
COOPERATIVE_KERNEL: dict[str, Any] = KERNEL if SIMULATED else {**KERNEL, "launch_bounds": (256, 2)}
