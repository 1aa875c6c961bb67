"""What the tests know of the devices that they can run on."""

from __future__ import annotations

import functools
import os


def simulated() -> bool:
    """Whether CUDA's simulator is on, in which a sequence takes a thousand times as long."""
    return bool(os.environ.get("NUMBA_ENABLE_CUDASIM", "0").strip("0"))


@functools.cache
def reason_without_cuda() -> str:
    """Why tests of the CUDA engine cannot run here; empty where there is a GPU or CUDA's simulator is on."""
    from lstm_numba.engines import find_cuda

    found = find_cuda()
    return "" if found.available else f"{found.text}; NUMBA_ENABLE_CUDASIM=1 turns CUDA's simulator on"
