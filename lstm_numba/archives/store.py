"""Where answers are written: a Zarr store that takes its name when it is complete, and a mark a block.

Until then it lies in ``NAME.partial``, beside a description of the call and the marks. Each block is a chunk
along the sequences, so that processes write side by side. Format 2 of Zarr, which all its versions read.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.archives.answers import Array, Part
from lstm_numba.archives.job import Job, Receipt, checksum
from lstm_numba.archives.opening import needed
from lstm_numba.archives.sources import Source
from lstm_numba.data.file_io import atomic_write, fault, folder_lock, one_line, reason
from lstm_numba.errors import DataError, UserError

#: Bytes of a chunk at most, where one sequence's steps must be cut, too.
_CHUNK = 128 << 20


def partial_folder(output: Path) -> Path:
    """Where an output lies until it is complete."""
    return output.with_name(f"{output.name}.partial")


def _marks(store: Path) -> Path:
    return store.parent / "blocks"


def _mark(store: Path, block: int) -> Path:
    return _marks(store) / f"{block:08d}.json"


def _description(store: Path) -> Path:
    return store.parent / "call.json"


@contextlib.contextmanager
def opened(
    output: Path, call: Mapping[str, Any], source: Source, job: Job
) -> Iterator[tuple[Path, set[int]]]:
    """The unfinished store of an output, new or left by an interrupted call, for this process alone.

    Parameters
    ----------
    output : Path
    call : mapping
        What must be the same for a call to go on with another's work, as JSON holds it.
    source : Source
    job : Job
        Its store is not set yet.

    Yields
    ------
    store : Path
    done : set of int
        Blocks that are written.

    Raises
    ------
    UserError
        The output is there, another process writes it, or another call has begun it.
    """
    if os.path.lexists(output):
        raise fault(output, "already exists; remove it, or choose another output", UserError)
    folder = partial_folder(output)
    with contextlib.ExitStack() as stack:
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(folder_lock(folder))
            except BlockingIOError:
                raise fault(output, "another process is writing it", UserError) from None
            store = folder / "store"
            if not _goes_on(store, call):
                _create(store, source, job)
                atomic_write(_description(store), json.dumps(call, indent=2).encode())
            done = _done(store, job)
        yield store, done


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the file system refuses, in one line."""
    try:
        yield
    except OSError as error:
        raise fault(error.filename or path, f"cannot be written: {reason(error)}", UserError) from error


def keep(job: Job, block: int, answers: dict[str, Array]) -> Receipt:
    """Write a block's answers, and mark it as done; without a store its receipt holds them."""
    total = checksum(answers)
    if job.store is None:
        return Receipt(block, total, answers)
    with _writing(job.store):
        write(job.store, job.bounds(block)[0], answers)
        mark(job.store, block, total)
    return Receipt(block, total, None)


def kept(job: Job, block: int) -> Receipt | None:
    """The receipt of a block that is written, by a worker that ended before it could tell."""
    total = None if job.store is None else marked(job.store, block)
    return None if total is None else Receipt(block, total, None)


def write(store: Path, first: int, answers: Mapping[str, Array]) -> None:
    """Write a block's answers, which begin at the sequence `first`."""
    zarr = needed("zarr", "output")
    for name, values in answers.items():
        zarr.open_array(str(store / name), mode="r+")[first : first + len(values)] = values


def mark(store: Path, block: int, total: int) -> None:
    """Note that a block is written; of several processes that did it, by a scheduler's mistake, one does."""
    content = json.dumps({"block": block, "checksum": total}).encode()
    with contextlib.suppress(FileExistsError):
        atomic_write(_mark(store, block), content, fresh=True)


def marked(store: Path, block: int) -> int | None:
    """The checksum of a block that is written; None of one that is not."""
    try:
        return int(json.loads(_mark(store, block).read_text())["checksum"])
    except FileNotFoundError:
        return None


def finish(store: Path, output: Path, job: Job) -> None:
    """Give a complete store its name.

    Raises
    ------
    UserError
        Blocks are missing.
    """
    there = sum(1 for _ in _marks(store).glob("*.json"))
    if there != job.blocks:
        raise fault(
            output, f"{there} of {job.blocks} blocks are written; repeat the same call to resume", UserError
        )
    with _writing(output):
        for left in store.rglob("*.partial"):  # Zarr's, of a process that was killed while it wrote a chunk
            left.unlink()
        needed("zarr", "output").consolidate_metadata(str(store), **_format())
        store.rename(output)
    shutil.rmtree(store.parent, ignore_errors=True)


def _goes_on(store: Path, call: Mapping[str, Any]) -> bool:
    """Whether this call has begun here; what is left of one that did not come so far is removed."""
    try:
        before = json.loads(_description(store).read_text())
    except FileNotFoundError:
        before = None
    except ValueError:
        raise fault(_description(store), "damaged; remove the folder to start again", UserError) from None
    if before is None or not store.is_dir():
        _clear(store)
        return False
    differing = [name for name in call if before.get(name) != call[name]]
    if differing:
        raise fault(
            store.parent,
            f"holds an unfinished call with another {', '.join(differing)}; remove it to start again",
            UserError,
        )
    return True


def _clear(store: Path) -> None:
    """Remove what was begun, and nothing else that somebody may keep in a folder of that name."""
    for path in store.parent.iterdir():
        if path in (store, _marks(store)):
            shutil.rmtree(path)
        elif path == _description(store) or path.suffix == ".tmp":
            path.unlink()
        else:
            raise fault(store.parent, f"expected an unfinished output, found {path.name} in it", UserError)


def _create(store: Path, source: Source, job: Job) -> None:
    """An empty store: coordinates, and arrays in which a block is a chunk."""
    xarray, zarr = needed("xarray", "output"), needed("zarr", "output")
    _marks(store).mkdir()
    coordinates: dict[str, Any] = {}
    per_step = any(part.per_step for part in job.parts.values())
    for dim, values in ((source.sequence, source.ids), (source.time, source.times if per_step else None)):
        if values is not None:
            coordinates[dim] = values
    for part in job.parts.values():
        if part.labels is not None:
            coordinates[part.dims[-1]] = part.labels
    variables = {} if source.lengths is None else {"lengths": (source.sequence, source.lengths)}
    dataset = xarray.Dataset(variables, coordinates)
    dataset.to_zarr(str(store), mode="w", consolidated=False, **_format())
    for name, part in job.parts.items():
        steps = (job.steps,) if part.per_step else ()
        dims = [source.sequence, *((source.time,) if part.per_step else ()), *part.dims]
        array = zarr.open_array(
            str(store / name),
            mode="w",
            shape=(job.count, *steps, *part.shape),
            chunks=_chunks(part, job),
            dtype=part.dtype,
            fill_value=np.nan if part.dtype.kind == "f" else None,
            **_format(),
        )
        array.attrs["_ARRAY_DIMENSIONS"] = dims


def _chunks(part: Part, job: Job) -> tuple[int, ...]:
    """A block, of so many steps that what is compressed at once is not too large."""
    if not part.per_step:
        return (job.sizes.block, *part.shape)
    steps = max(1, min(job.steps, _CHUNK // (job.sizes.block * part.size(1))))
    return (job.sizes.block, steps, *part.shape)


def _format() -> dict[str, Any]:
    """The option with which Zarr 3 writes format 2; earlier versions have no other."""
    zarr = needed("zarr", "output")
    return {"zarr_format": 2} if int(zarr.__version__.split(".")[0]) >= 3 else {}


def _done(store: Path, job: Job) -> set[int]:
    """Blocks whose numbers are those of their marks; marks of others, after a power failure, are removed."""
    zarr = needed("zarr", "output")
    arrays = {name: zarr.open_array(str(store / name), mode="r") for name in job.parts}
    done = set()
    for path in sorted(_marks(store).iterdir()):
        try:
            marked = json.loads(path.read_text())
            first, stop = job.bounds(marked["block"])
            found = checksum({name: np.asarray(array[first:stop]) for name, array in arrays.items()})
            whole = path.suffix == ".json" and found == marked["checksum"]
        except Exception as error:  # a damaged mark or chunk, whatever Zarr's codecs raise
            one_line(error)
            whole = False
        if whole:
            done.add(int(marked["block"]))
        else:
            path.unlink()
    return done


def check_output(output: Any) -> Path:
    """The path of a store to be written.

    Raises
    ------
    DataError
        It has the name of something else, or is no path of this machine.
    """
    path = str(os.fspath(output))
    if "://" in path:
        raise DataError(
            f"output: expected a folder that this machine can write to, got {one_line(path, 200)}"
        )
    if path.lower().endswith((".nc", ".nc4", ".h5", ".parquet", ".pq", ".npy")):
        raise DataError(
            f"output: a Zarr store is written, expected a name such as out.zarr, got {one_line(path, 200)}; "
            "xarray.open_zarr(...).to_netcdf(...) converts it"
        )
    return Path(path).expanduser().absolute()
