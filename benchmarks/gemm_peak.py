"""The GEMM peak: the rate of one large matrix product on this computer, by the fastest library installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.timing import measure

#: Rows and columns of the matrices: large enough for the processor's full rate.
SIZE = 1536
_REPEATS = 5


class _Product(NamedTuple):
    start: Callable[[], Any]
    call: Callable[[], Any]

    def finish(self) -> None:
        """Nothing is left to wait for."""


def measure_peak(dtype: str, threads: int) -> dict[str, Any]:
    """Time one product of square matrices by this library, by NumPy and by PyTorch.

    NumPy always uses all threads, so that it is left out where fewer are asked for.

    Parameters
    ----------
    dtype : str
    threads : int

    Returns
    -------
    dict
        ``name`` (sgemm or dgemm), ``size``, ``gflops`` by library, and ``best``, the largest of them.
    """
    import numba

    from lstm_numba.engines.cpu.gemm import matmul
    from lstm_numba.engines.cpu.threads import set_thread_count

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIZE, SIZE)).astype(dtype) for _ in range(2))
    out = np.empty_like(a)
    products = {"lstm_numba": _Product(lambda: set_thread_count(threads), lambda: matmul(a, b, out))}
    if threads == numba.config.NUMBA_NUM_THREADS:
        products["numpy"] = _Product(lambda: None, lambda: np.matmul(a, b, out))
    if find_spec("torch"):
        import torch

        ta, tb, tout = torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(out)
        products["pytorch"] = _Product(
            lambda: torch.set_num_threads(threads), lambda: torch.matmul(ta, tb, out=tout)
        )
    times = measure(products, _REPEATS)
    gflops = {name: 2 * SIZE**3 / t.median / 1e9 for name, t in times.items()}
    return {
        "name": "sgemm" if dtype == "float32" else "dgemm",
        "size": SIZE,
        "gflops": gflops,
        "best": max(gflops.values()),
    }
