"""`map_sequences`: a model over all sequences of an archive."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_numba._version import __version__
from lstm_numba.archives import store
from lstm_numba.archives.answers import Answer, Array, answer_of
from lstm_numba.archives.job import Job, Receipt, Sizes, computing, empty
from lstm_numba.archives.opening import needed, open_archive
from lstm_numba.archives.sources import Source
from lstm_numba.arguments import integer
from lstm_numba.data.file_io import one_line
from lstm_numba.errors import DataError, warn
from lstm_numba.wording import plural

#: Times that a chunk is read before a warning.
_OFTEN = 4


def map_sequences(
    model: Any,
    archive: Any,
    *,
    variables: str | Sequence[str] | None = None,
    sequence: str | None = None,
    time: str | None = None,
    method: str | None = None,
    output: str | os.PathLike[str] | None = None,
    missing: str | None = None,
    batch_size: int | None = None,
    block_size: int | None = None,
    threads: int | None = None,
    client: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Compute a model's answers to all sequences of an archive, a block of sequences at a time.

    Only a block or two are in memory, of the archive as of the answers that are written to `output`.

    Parameters
    ----------
    model : Recurrent, SequenceClassifier, SequenceRegressor, or fitted estimator
        What they read is what the archive holds; `load_run`'s model of tables reads standardised numbers.
    archive : path or str, array, or open dataset
        N sequences of T steps of F features:

        * a Zarr store or NetCDF file whose variables have a dimension of sequences and one of time, and
          possibly a third one of features; a variable with one of the first two alone, which must be named,
          is repeated along the other. Packed numbers are unpacked. Also an open xarray Dataset or DataArray.
        * Zarr arrays without names of dimensions, (N, T) or (N, T, F), one or a group of them; open ones too.
        * a Parquet file, or a folder of them, a row a step: `sequence` and `time` are columns. In each file
          the rows of a sequence stand together; they are put in the order of time. Lengths may differ.
        * an array (N, T) or (N, T, F): a ``.npy`` file, `numpy.memmap`, NumPy, h5py.
    variables : str or sequence of str, optional
        What the model reads, in its order. May be left out where there is one only.
    sequence, time : str, optional
        Dimensions or columns. By default time is the one that holds dates or is called "time", "date",
        "timestamp", "t" or "year"; sequence is the other one.
    method : str, optional
        What is computed. Of a layer "y", the output at every step, (N, T, D*H), or "state", the final
        states, (N, num_layers*D, H) each; of a model "probabilities", "logits", "predict" or "scores"; of an
        estimator "predict", "predict_proba" or "predict_quantiles". By default the first that it has.
    output : path, optional
        Folder of a Zarr store to be written, which must not be there yet, for example ``out.zarr``. It has
        an array `method`, of states one for each, and the sequences' names, times and lengths;
        ``xarray.open_zarr`` opens it. Until it is complete it lies in ``out.zarr.partial``; the same call
        goes on with what is there, after ``kill -9`` too. With a client it must be where all machines find
        it.
    missing : {"error", "pass"}, optional
        What NaN and infinity are: an error, or handed to the model. By default an error, but of
        an estimator, which reads NaN as its `predict` does.
    batch_size : int, optional
        Sequences that are computed at once.
    block_size : int, optional
        Sequences that are read and written at once; by default by their memory, and whole chunks of the
        archive.
    threads : int, optional
        Threads to compute on, with a client in each worker; by default all of the machine, which workers on
        the same machine share.
    client : distributed.Client, optional
        Its workers do the blocks, one at a time each; one worker a machine, with two threads or more, so
        that it reads a block while it computes another. Blocks of a worker that was killed are done by
        others. They need this library, and the archive under the same path.
    progress : callable, optional
        Called as ``progress(done, total)``, of sequences.

    Returns
    -------
    ndarray, tuple of ndarray, or zarr.Group
        Without an output the answers, (N, ...) or (N, T, ...), of several states one for each; with one the
        store, opened for reading. Steps beyond a sequence's end are NaN.

    Raises
    ------
    DataError
        The archive is missing, damaged or empty, or lacks a variable or number; the message names it.
    UserError
        An extra is not installed, the output is there, or a worker failed.
    ValueError, TypeError
        An argument does not fit; the message names it.

    Notes
    -----
    The answers are the same bits with and without a client, on processors of one kind. An interrupted call
    is told from another by the model's parameters and by the archive's names, sizes and, of Parquet files,
    dates, not by its numbers.

    Examples
    --------
    >>> states = ln.map_sequences(rnn, "gauges.zarr", variables=["rain", "temperature"], method="state")
    ... # doctest: +SKIP
    """
    answer = answer_of(model, method)
    missing = _missing(missing, answer)
    for name, value in (("batch_size", batch_size), ("block_size", block_size), ("threads", threads)):
        if value is not None:
            integer(name, value)
    if client is not None:
        from lstm_numba.archives.clients import check_client

        check_client(client, model)
    where = None if output is None else store.check_output(output)
    source = open_archive(archive, variables, sequence, time)
    _check_features(answer, source)
    parts = answer.parts(source.steps, len(source.features))
    sizes = Sizes.choose(source, answer, parts, batch_size, block_size)
    _warn_of_chunks(source, sizes)
    job = Job(source, answer, parts, sizes, source.count, source.steps, missing, threads=threads)
    if where is None:
        return _gathered(job, _receipts(job, range(job.blocks), client), progress)
    with store.opened(where, _call(job, source), source, job) as (folder, done):
        job = replace(job, store=folder)
        remaining = [block for block in range(job.blocks) if block not in done]
        _written(job, _receipts(job, remaining, client), progress, done)
        store.finish(folder, where, job)
    return needed("zarr", "output").open_group(str(where), mode="r")


def _missing(given: str | None, answer: Answer) -> str:
    if given not in (None, "error", "pass"):
        raise ValueError(f"missing: expected 'error' or 'pass', got {given!r}")
    return given or ("pass" if answer.takes_missing else "error")


def _check_features(answer: Answer, source: Source) -> None:
    if answer.features is not None and answer.features != len(source.features):
        raise DataError(
            f"{source.name}: variables: expected {plural(answer.features, 'feature')}, which the model "
            f"reads, got {len(source.features)}: {one_line(', '.join(source.features), 200)}"
        )


def _warn_of_chunks(source: Source, sizes: Sizes) -> None:
    """Chunks across more sequences than a block has are read again for each block."""
    times = min(source.chunk, source.count) / sizes.block
    if times > _OFTEN:
        warn(
            f"{source.name}: a chunk holds {source.chunk} sequences, a block {sizes.block}: each chunk is "
            f"read {times:.0f} times; chunks of fewer sequences and more steps would be read once"
        )


def _call(job: Job, source: Source) -> dict[str, Any]:
    """What must be the same for a call to go on with another's work."""
    return {
        "model": job.answer.digest(),
        "method": job.answer.method,
        "archive": source.identity(),
        "batch_size": job.sizes.batch,
        "block_size": job.sizes.block,
        "missing": job.missing,
        "lstm_numba": __version__,
    }


def _receipts(job: Job, blocks: Sequence[int], client: Any) -> Generator[Receipt, None, None]:
    if client is None:
        return _here(job, blocks)
    from lstm_numba.archives.clients import on_workers

    return on_workers(job, blocks, client)


def _here(job: Job, blocks: Sequence[int]) -> Generator[Receipt, None, None]:
    """Do blocks in this process; one is read while another is computed."""
    with ExitStack() as stack:
        reader = stack.enter_context(ThreadPoolExecutor(1, "lstm_numba-archive"))
        following = reader.submit(job.read, blocks[0]) if blocks else None
        for place, block in enumerate(blocks):
            assert following is not None
            sequences = following.result()
            following = reader.submit(job.read, blocks[place + 1]) if place + 1 < len(blocks) else None
            with computing(job.threads):
                answers = job.compute(block, sequences)
            del sequences
            yield store.keep(job, block, answers)


def _gathered(job: Job, receipts: Generator[Receipt, None, None], progress: Any) -> Any:
    """The answers of all blocks in memory."""
    found = {name: empty(part, job.count, job.steps) for name, part in job.parts.items()}
    done = 0
    with closing(receipts):
        for receipt in receipts:
            first, stop = job.bounds(receipt.block)
            assert receipt.answers is not None
            for name, values in receipt.answers.items():
                found[name][first:stop] = values
            done += stop - first
            if progress is not None:
                progress(done, job.count)
    arrays: list[Array] = list(found.values())
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def _written(job: Job, receipts: Generator[Receipt, None, None], progress: Any, before: set[int]) -> None:
    """Wait for all blocks, and tell how many sequences are done."""
    sizes = np.diff([job.bounds(block) for block in range(job.blocks)], axis=1).ravel()
    done = int(sum(sizes[block] for block in before))
    with closing(receipts):
        for receipt in receipts:
            done += int(sizes[receipt.block])
            if progress is not None:
                progress(done, job.count)
