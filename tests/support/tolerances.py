"""The one table of tolerances, and the comparison that uses it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: What is compared -> dtype -> (relative, absolute) tolerance. The error allowed is
#: ``relative * max|expected| + absolute``: rounding errors of sums scale with the largest terms.
TOLERANCES: dict[str, dict[str, tuple[float, float]]] = {
    "activation": {"float32": (0.0, 2e-7), "float64": (0.0, 4e-16)},
    "forward": {"float32": (3e-6, 1e-6), "float64": (1e-13, 1e-14)},
    "backward": {"float32": (2e-5, 2e-6), "float64": (1e-12, 1e-13)},
    "central differences": {"float64": (2e-7, 2e-8)},
    "product": {"float32": (4e-6, 1e-6), "float64": (1e-14, 1e-14)},
    # float32: the exponential is good to one unit in the last place, the sums are float64.
    "loss": {"float32": (1e-6, 1e-7), "float64": (1e-14, 1e-15)},
    "optimizer": {"float32": (3e-6, 1e-7), "float64": (1e-13, 1e-14)},
}


def assert_close(actual: Any, expected: Any, kind: str, name: str = "result", dtype: Any = None) -> None:
    """Compare arrays by the table; a failure names the largest absolute and relative error and where.

    Parameters
    ----------
    actual, expected : array_like
        Same shape.
    kind : str
        Row of `TOLERANCES`.
    name : str
        What is compared, for the message.
    dtype : dtype, optional
        Column of `TOLERANCES`; by default the dtype of `actual`.
    """
    a: npt.NDArray[Any] = np.asarray(actual)
    e: npt.NDArray[Any] = np.asarray(expected)
    assert a.shape == e.shape, f"{name}: shape {a.shape}, expected {e.shape}"
    relative, absolute = TOLERANCES[kind][np.dtype(dtype or a.dtype).name]
    if a.size == 0:
        return
    error = np.abs(a.astype(np.float64) - e.astype(np.float64))
    scale = float(np.max(np.abs(e)))
    allowed = relative * scale + absolute
    if not np.all(error <= allowed):  # also catches NaN
        where = np.unravel_index(int(np.argmax(np.where(np.isnan(error), np.inf, error))), a.shape)
        worst = float(error[where])
        part = worst / scale if scale else np.inf
        raise AssertionError(
            f"{name}: largest error {worst:.3e} ({part:.3e} of the largest value) at "
            f"{tuple(int(i) for i in where)}: got {a[where]!r}, expected {e[where]!r}; "
            f"allowed {allowed:.3e} ({kind})"
        )
