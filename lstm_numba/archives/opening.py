"""What a user names as an archive, opened."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.archives.sources import ArraySource, Source, choose
from lstm_numba.data.file_io import fault, one_line
from lstm_numba.errors import DataError, UserError

#: Files in the folder of a Zarr store.
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
_PARQUET = (".parquet", ".pq")
#: First bytes of files, and the engine with which xarray reads them: HDF5 (NetCDF 4), and NetCDF 3.
_NETCDF = {b"\x89HDF": "h5netcdf", b"CDF\x01": "scipy", b"CDF\x02": "scipy"}


def open_archive(
    archive: Any, variables: Any = None, sequence: str | None = None, time: str | None = None
) -> Source:
    """Open an archive; see `lstm_numba.map_sequences` for the arguments.

    Raises
    ------
    DataError
        It is missing, damaged, empty or something else, or lacks what was named.
    UserError
        The extra ``archives`` is not installed.
    TypeError
        It is nothing that can be read so.
    """
    names = (variables, sequence, time)
    if isinstance(archive, (str, os.PathLike)):
        return _open_path(os.fspath(archive), names)
    package = type(archive).__module__.split(".")[0]
    if package == "xarray":
        dataset = (
            archive if hasattr(archive, "data_vars") else archive.to_dataset(name=archive.name or "values")
        )
        return _gridded(dataset, f"{type(archive).__name__}", names)
    if package == "zarr":
        return _open_zarr(archive, f"Zarr {type(archive).__name__.lower()}", names)
    if hasattr(archive, "shape") and hasattr(archive, "dtype") and not hasattr(archive, "iloc"):
        return _plain([("archive", archive)], type(archive).__name__, names)
    raise TypeError(
        f"archive: expected a path, an array, or an open Zarr or xarray object, got {type(archive).__name__}"
    )


def needed(name: str, what: str) -> Any:
    """Import a package of the extra ``archives``."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{what} needs {name}: pip install 'lstm_numba[archives]'") from None


def _open_path(path: str, names: tuple[Any, ...]) -> Source:
    if "://" in path:
        needed("zarr", path)
        return _gridded(_dataset(path, "zarr"), path, names)
    where = Path(path).expanduser().absolute()
    if where.is_dir():
        if any((where / name).exists() for name in _ZARR_FILES):
            zarr = needed("zarr", one_line(path, 200))
            try:
                opened = zarr.open(str(where), mode="r")
            except Exception as error:  # of Zarr's and its codecs' own classes
                raise fault(path, f"damaged, or not a Zarr store ({one_line(error, 120)})") from None
            return _open_zarr(opened, path, names, where)
        return _table(sorted(f for f in where.rglob("*") if f.suffix in _PARQUET), path, names)
    if not where.exists():
        raise fault(path, "no such file or folder")
    with where.open("rb") as file:
        magic = file.read(6)
    if magic[:4] in _NETCDF:
        return _gridded(_dataset(str(where), _NETCDF[magic[:4]]), path, names)
    if magic[:4] == b"PAR1":
        return _table([where], path, names)
    if magic == b"\x93NUMPY":
        try:
            array = np.load(where, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise fault(path, f"damaged ({one_line(error, 120)})") from None
        return _plain([(where.name, array)], path, names)
    raise fault(path, "expected a Zarr store, NetCDF, Parquet (a file or a folder of them) or .npy")


def _dataset(path: str, engine: str) -> Any:
    """A lazily read dataset of xarray."""
    xarray = needed("xarray", one_line(path, 200))
    needed({"zarr": "zarr", "h5netcdf": "h5netcdf"}.get(engine, "scipy"), one_line(path, 200))
    try:
        return xarray.open_dataset(path, engine=engine, cache=False)
    except Exception as error:  # of the format's libraries
        raise fault(
            path, f"damaged, or of another format than its name says ({one_line(error, 160)})"
        ) from None


def _gridded(dataset: Any, name: str, names: tuple[Any, ...]) -> Source:
    from lstm_numba.archives.gridded import GriddedSource

    return GriddedSource(dataset, name, *names)


def _open_zarr(opened: Any, name: str, names: tuple[Any, ...], path: Path | None = None) -> Source:
    """An open Zarr array or group; xarray reads what has names of dimensions."""
    if hasattr(opened, "shape"):
        return _plain([("array", opened)], name, names)
    arrays = dict(opened.arrays())
    if arrays and all(_has_dimensions(array) for array in arrays.values()):
        xarray = needed("xarray", name)
        store, group = (str(path), None) if path is not None else (opened.store, opened.path or None)
        return _gridded(xarray.open_zarr(store, group=group, chunks=None), name, names)
    _no_names(name, names[1:])
    numbers = [key for key, array in sorted(arrays.items()) if len(array.shape) in (2, 3)]
    chosen = choose(name, names[0], sorted(arrays), numbers)
    return ArraySource([(key, arrays[key]) for key in chosen], name)


def _has_dimensions(array: Any) -> bool:
    """Whether an array of Zarr, format 2 or 3, names its dimensions."""
    named = getattr(getattr(array, "metadata", None), "dimension_names", None)
    return bool(named) or "_ARRAY_DIMENSIONS" in array.attrs


def _plain(arrays: list[tuple[str, Any]], name: str, names: tuple[Any, ...]) -> Source:
    if names[0] is not None:
        raise TypeError(f"variables: expected None of a single array, which names none, got {names[0]!r}")
    _no_names(name, names[1:])
    return ArraySource(arrays, name)


def _no_names(name: str, dims: tuple[Any, ...]) -> None:
    for argument, given in zip(("sequence", "time"), dims, strict=True):
        if given is not None:
            raise DataError(
                f"{name}: {argument}: its axes have no names, expected None and the order "
                "(sequences, steps, features)"
            )


def _table(files: list[Path], path: str, names: tuple[Any, ...]) -> Source:
    if not files:
        raise DataError(f"{one_line(path, 400)}: a folder without a Zarr store and without .parquet files")
    needed("pyarrow", one_line(path, 200))
    from lstm_numba.archives.long_tables import TableSource

    return TableSource(files, path, *names)
