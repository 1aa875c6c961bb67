"""The one place that spells the CUDA compiler's options."""

from __future__ import annotations

from typing import Any

#: Options of a kernel. Compiled code is kept on disk.
KERNEL: dict[str, Any] = {"cache": True}

#: Options of a function that kernels call.
DEVICE: dict[str, Any] = {"device": True, "cache": True}
