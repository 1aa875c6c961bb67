"""The work on an archive, cut into blocks that any process can do: read, compute, write."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np

from lstm_numba._version import __version__
from lstm_numba.archives.answers import Answer, Array, Part
from lstm_numba.archives.sources import Source
from lstm_numba.data.file_io import one_line
from lstm_numba.data.sequences import Sequences
from lstm_numba.engines.cpu.threads import set_thread_count, thread_count
from lstm_numba.errors import DataError, UserError

#: Bytes of a block and of a batch while it is computed, and of the largest block that keeps a chunk whole.
_BLOCK, _BATCH, _LARGEST = 64 << 20, 128 << 20, 512 << 20
#: Sequences of a batch at most; blocks of an archive at least, so that several machines have some.
_LARGEST_BATCH, _FEWEST_BLOCKS = 512, 32


class Receipt(NamedTuple):
    """What a block leaves.

    Attributes
    ----------
    block : int
    checksum : int
        CRC-32 of its answers.
    answers : dict of ndarray, optional
        The answers themselves, where they are not written.
    """

    block: int
    checksum: int
    answers: dict[str, Array] | None


class Sizes(NamedTuple):
    """Sequences of a batch, which is computed at once, and of a block, which is read and written at once."""

    batch: int
    block: int

    @classmethod
    def choose(
        cls,
        source: Source,
        answer: Answer,
        parts: Mapping[str, Part],
        batch: int | None,
        block: int | None,
    ) -> Sizes:
        """By the memory that they take; a block is whole chunks of the archive where these are not too large.

        They depend on archive and model alone, so that every machine computes the same.
        """
        features = len(source.features)
        read = source.steps * (source.item_bytes + features * answer.rnn.dtype.itemsize)
        written = sum(part.size(source.steps) for part in parts.values())
        if block is None:
            fitting = max(1, _BLOCK // (read + written))
            spread = max(_LARGEST_BATCH // 8, -(-source.count // _FEWEST_BLOCKS))
            block = min(fitting, spread)
            if source.chunk * (read + written) <= _LARGEST:
                block = max(1, block // source.chunk) * source.chunk
        block = min(block, source.count)
        if batch is None:
            batch = max(1, min(_LARGEST_BATCH, _BATCH // (source.steps * answer.bytes_per_step)))
        return cls(min(batch, block), block)


@dataclass(frozen=True, eq=False)
class Job:
    """All that a process must know to do a block.

    Attributes
    ----------
    source : Source or None
        None where another process reads, and sends the block.
    answer : Answer
    parts : dict of Part
    sizes : Sizes
    count, steps : int
        Sequences of the source, and steps of the longest.
    missing : {"error", "pass"}
    store : Path, optional
        Where the answers are written.
    threads : int, optional
    version : str
        Of this library.
    """

    source: Source | None
    answer: Answer
    parts: Mapping[str, Part]
    sizes: Sizes
    count: int
    steps: int
    missing: str
    store: Path | None = None
    threads: int | None = None
    version: str = __version__

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // self.sizes.block)

    def bounds(self, block: int) -> tuple[int, int]:
        """The sequences of a block: first, and the one after the last."""
        first = block * self.sizes.block
        return first, min(first + self.sizes.block, self.count)

    def read(self, block: int) -> Sequences:
        """The sequences of a block, checked.

        Raises
        ------
        DataError
            A number is missing; the message names the sequence, the variable and the step.
        """
        assert self.source is not None
        first, stop = self.bounds(block)
        try:
            sequences = self.source.read(first, stop)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # of the format's libraries
            raise DataError(
                f"{self.source.name}: sequences {first} to {stop - 1} cannot be read: {one_line(error, 160)}"
            ) from error
        if self.missing == "error":
            _refuse_missing(self.source, sequences, first)
        return sequences

    def compute(self, block: int, sequences: Sequences) -> dict[str, Array]:
        """The answers to a block, batch by batch: arrays (n, ...) or (n, T, ...), NaN beyond an end."""
        first, stop = self.bounds(block)
        found = {name: empty(part, stop - first, self.steps) for name, part in self.parts.items()}
        for begin in range(0, stop - first, self.sizes.batch):
            chosen = np.arange(begin, min(begin + self.sizes.batch, stop - first))
            batch = sequences.take(chosen)
            try:
                answers = self.answer(batch)
            except ValueError as error:
                top, bottom = first + begin, first + begin + len(chosen) - 1
                raise ValueError(f"sequences {top} to {bottom}: {error}") from None
            for name, part in self.parts.items():
                _put(found[name][begin : begin + len(chosen)], answers[name], part, batch.lengths)
        return found


@contextlib.contextmanager
def computing(threads: int | None, sharers: int = 1) -> Iterator[None]:
    """Compute on so many threads; by default on all, shared with other processes of the machine."""
    before = thread_count()
    wanted = max(1, before // sharers) if threads is None else threads
    if wanted == before:
        yield
        return
    set_thread_count(min(wanted, int(numba.config.NUMBA_NUM_THREADS)))
    try:
        yield
    finally:
        set_thread_count(before)


def checksum(answers: Mapping[str, Array]) -> int:
    """CRC-32 of all arrays."""
    total = 0
    for name in sorted(answers):
        total = zlib.crc32(np.ascontiguousarray(answers[name]).view(np.uint8).data, total)
    return total


def empty(part: Part, count: int, steps: int) -> Array:
    """An array for so many answers."""
    shape = (count, steps, *part.shape) if part.per_step else (count, *part.shape)
    return np.full(shape, np.nan, part.dtype) if part.per_step else np.zeros(shape, part.dtype)


def _put(out: Array, found: Array, part: Part, lengths: Array) -> None:
    """Answers to a batch into those to its block, of each sequence as many steps as it has."""
    if not part.per_step:
        out[...] = found
        return
    steps = found.shape[1]
    inside = np.arange(steps) < lengths[:, None]
    out[:, :steps][inside] = found[inside]


def _refuse_missing(source: Source, sequences: Sequences, first: int) -> None:
    known = np.isfinite(sequences.rows)
    if known.all():
        return
    row, column = map(int, np.argwhere(~known)[0])
    number = int(np.searchsorted(sequences.starts, row, "right")) - 1
    step = row - int(sequences.starts[number])
    value = "NaN" if np.isnan(sequences.rows[row, column]) else "infinity"
    raise DataError(
        f"{source.name}: {source.label(first + number)}, {source.features[column]}, "
        f"{source.step_label(step)}: expected a number, got {value}{source.remark(column)}; missing='pass' "
        "hands it to the model"
    )
