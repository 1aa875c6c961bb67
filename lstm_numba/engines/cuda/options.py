"""The one place that spells the CUDA compiler's options."""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import SIMULATED

#: Options of a kernel. Compiled code is kept on disk.
KERNEL: dict[str, Any] = {"cache": True}

#: Options of a function that kernels call.
DEVICE: dict[str, Any] = {"device": True, "cache": True}

#: Options of the forward kernel whose blocks wait for each other: a block has so many threads, and two blocks
#: fit on a multiprocessor, which is to say that a thread has 128 registers at most. (LSTM, 1,500 units, 20
#: rows, on an H100: 67 µs a step in the place of 173.)
COOPERATIVE_KERNEL: dict[str, Any] = KERNEL if SIMULATED else {**KERNEL, "launch_bounds": (256, 2)}
