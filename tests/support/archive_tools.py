"""Small archives of the same numbers in every format, and arrays that note how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SEQUENCES, STEPS = 23, 9
VARIABLES = ["rain", "heat"]


def numbers(count: int = SEQUENCES, steps: int = STEPS, features: int = 2) -> Any:
    """Sequences (N, T, F), float32."""
    return np.random.default_rng(3).standard_normal((count, steps, features)).astype(np.float32)


def names(count: int = SEQUENCES) -> list[str]:
    """Of the sequences."""
    return [f"g{n:02d}" for n in range(count)]


def days(steps: int = STEPS) -> Any:
    """Times of the steps."""
    return np.datetime64("2001-02-27", "ns") + np.arange(steps) * np.timedelta64(1, "D")


def dataset(x: Any) -> Any:
    """With the variables in another order than `VARIABLES`, and one that is fixed for each sequence."""
    import xarray

    grid = {"heat": (("gauge", "day"), x[..., 1]), "rain": (("gauge", "day"), x[..., 0])}
    fixed = {"area": ("gauge", np.arange(len(x), dtype=np.float64))}
    return xarray.Dataset({**grid, **fixed}, {"gauge": names(len(x)), "day": days(x.shape[1])})


def frame(x: Any) -> Any:
    """A table in long form."""
    import pandas

    count, steps, _ = x.shape
    columns = {"gauge": np.repeat(names(count), steps), "day": np.tile(days(steps), count)}
    return pandas.DataFrame({**columns, "heat": x[..., 1].ravel(), "rain": x[..., 0].ravel()})


def write(kind: str, folder: Path, x: Any) -> tuple[Any, dict[str, Any]]:
    """An archive of `x`, and what must be said of it."""
    said: dict[str, Any] = {"variables": VARIABLES}
    path = folder / f"archive.{kind}"
    if kind == "npy":
        np.save(path, x)
        return path, {}
    if kind in ("zarr", "zarr3"):
        chunks = {name: {"chunks": (5, x.shape[1])} for name in VARIABLES}
        dataset(x).drop_vars("gauge").to_zarr(path, zarr_format=3 if kind == "zarr3" else 2, encoding=chunks)
    elif kind == "nc":
        chunks = {name: {"chunksizes": (5, x.shape[1])} for name in VARIABLES}
        dataset(x).to_netcdf(path, engine="h5netcdf", encoding=chunks)
    elif kind == "nc3":
        dataset(x).to_netcdf(path, engine="scipy")
    elif kind == "parquet":
        frame(x).to_parquet(path, row_group_size=31, index=False)
    elif kind == "zarr-group":
        import zarr

        group = zarr.open_group(str(path), mode="w")
        for k, name in enumerate(VARIABLES):
            group[name] = x[..., k]
    elif kind == "zarr-array":
        import zarr

        array = zarr.open_array(str(path), mode="w", shape=x.shape, chunks=(5, 4, 2), dtype=x.dtype)
        array[:] = x
        return path, {}
    return path, said


class Watched:
    """An array that notes the slices that are read of it."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.reads: list[tuple[int, int]] = []

    def __getitem__(self, key: slice) -> Any:
        self.reads.append((key.start, min(key.stop, len(self._array))))
        return self._array[key]
