"""The options of the CUDA compiler, all in one place."""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import SIMULATED

#: Options of a kernel. Compiled code is cached on disk.
KERNEL: dict[str, Any] = {"cache": True}

#: Options of a function that kernels call.
DEVICE: dict[str, Any] = {"device": True, "cache": True}

#: Options of kernels with a cooperative launch: two blocks of 256 threads on a multiprocessor, so at most 128
#: registers a thread, which the compiler uses for loads ahead of their use. Launch bounds for the forward
#: pass, where a maximum spills for a GRU; the backward pass takes fewer registers by itself, and with launch
#: bounds not as many as it may. (LSTM, 1,500 units, 20 rows, on an H100: a step of the forward pass takes
#: 60 µs, 173 with more registers; one of the backward pass 89 with this maximum, 124 with launch bounds,
#: else 184.)
COOPERATIVE_FORWARD: dict[str, Any] = KERNEL if SIMULATED else {**KERNEL, "launch_bounds": (256, 2)}
COOPERATIVE_BACKWARD: dict[str, Any] = KERNEL if SIMULATED else {**KERNEL, "max_registers": 128}

#: Options of persistent kernels: one block of at most 256 threads on a multiprocessor, which has all of its
#: registers, for the sums of a tall tile.
PERSISTENT: dict[str, Any] = KERNEL if SIMULATED else {**KERNEL, "launch_bounds": (256, 1)}
