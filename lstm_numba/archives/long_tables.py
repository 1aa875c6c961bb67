"""Parquet tables in long form, a row a step: read by pyarrow, without ever holding the table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lstm_numba.archives.sources import Array, Source, choose
from lstm_numba.data.file_io import fault, one_line
from lstm_numba.data.sequences import Sequences
from lstm_numba.data.series_columns import TIME_NAMES
from lstm_numba.errors import DataError
from lstm_numba.wording import nearest


class TableSource(Source):
    """Sequences of one table in one or many Parquet files.

    In a file the rows of a sequence stand together; it may go on in other files, such as one a year.

    Parameters
    ----------
    files : sequence of Path
        In the order in which they are read.
    name : str
    variables : str or sequence of str, optional
        Columns that the model reads.
    sequence, time : str, optional
        The column that names the sequence, and the one that orders its rows.
    """

    def __init__(
        self,
        files: Sequence[Path],
        name: str,
        variables: Any = None,
        sequence: str | None = None,
        time: str | None = None,
    ) -> None:
        self.name, self._files = name, [os.path.abspath(file) for file in files]
        if not files:
            raise DataError(f"{name}: holds no .parquet files")
        self._opened: dict[int, Any] = {}
        self._schema = self._same_schema()
        self._time = self._find_time(time, sequence)
        self.time = self._time or "time"
        self.sequence = self._find_sequence(sequence, variables)
        fixed = (self.sequence, self._time)
        numbers = [field.name for field in self._schema if _is_number(field.type) and field.name not in fixed]
        self.features = tuple(choose(name, variables, self._schema.names, numbers))
        for column in self.features:
            kind = self._schema.field(column).type
            if not _is_number(kind):
                raise DataError(f"{name}: {one_line(column, 60)}: expected real numbers, got {kind}")
        self.item_bytes = 8 * len(self.features)
        self._index()
        self.steps = int(self.lengths.max()) if self.lengths is not None and len(self.lengths) else 0
        self._check_filled()

    def read(self, first: int, stop: int) -> Sequences:
        """See `Source`."""
        inside = np.flatnonzero((self._owners >= first) & (self._owners < stop))
        parts: dict[int, list[tuple[Array, Array | None]]] = {}
        for file in np.unique(self._places[inside, 0]):
            chosen = inside[self._places[inside, 0] == file]
            for piece, table in self._pieces(int(file), chosen):
                parts.setdefault(int(self._owners[piece]), []).append(self._numbers(table))
        return Sequences.join([self._in_order(number, parts[number]) for number in range(first, stop)])

    def identity(self) -> dict[str, Any]:
        """See `Source`; also sizes and dates of the files."""
        stats = [os.stat(file) for file in self._files]
        files = [
            [os.path.basename(f), s.st_size, s.st_mtime_ns] for f, s in zip(self._files, stats, strict=True)
        ]
        return {**super().identity(), "columns": [self.sequence, self._time], "files": files}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    # -- columns -------------------------------------------------------------------------------------

    def _same_schema(self) -> Any:
        first = self._file(0).schema_arrow
        for k in range(1, len(self._files)):
            schema = self._file(k).schema_arrow
            for name in first.names:
                if name not in schema.names or schema.field(name).type != first.field(name).type:
                    got = schema.field(name).type if name in schema.names else "no such column"
                    raise fault(
                        self._files[k],
                        f"column {name}: expected {first.field(name).type} as in {self._files[0]}, got {got}",
                    )
        return first

    def _column(self, argument: str, name: str) -> str:
        if name not in self._schema.names:
            there = self._schema.names
            near = nearest(str(name), there) or f"; there are {one_line(', '.join(there), 200)}"
            raise DataError(f"{self.name}: {argument}: no column {one_line(name, 60)}{near}")
        return name

    def _find_time(self, given: str | None, sequence: str | None) -> str | None:
        if given is not None:
            return self._column("time", given)
        fields = [field for field in self._schema if field.name != sequence]
        found = [field.name for field in fields if pa.types.is_temporal(field.type)]
        found = found or [field.name for field in fields if field.name.lower() in TIME_NAMES]
        if len(found) > 1:
            raise DataError(f"{self.name}: time: say which column it is; there are {', '.join(found)}")
        return found[0] if found else None

    def _find_sequence(self, given: str | None, variables: Any) -> str:
        if given is not None:
            return self._column("sequence", given)
        read = [variables] if isinstance(variables, str) else list(variables or ())
        found = [
            field.name
            for field in self._schema
            if field.name not in (self._time, *read) and not pa.types.is_floating(field.type)
        ]
        if len(found) != 1:
            shown = one_line(", ".join(self._schema.names), 200)
            raise DataError(f"{self.name}: sequence: say which column it is; there are {shown}")
        return found[0]

    # -- where the sequences are ---------------------------------------------------------------------

    def _index(self) -> None:
        """Find the rows of each sequence: file, first row and number of rows of each piece of it."""
        known: dict[Any, int] = {}
        owners: list[int] = []
        places: list[tuple[int, int, int]] = []
        for file in range(len(self._files)):
            last: Any = None
            seen: set[int] = set()
            row = 0
            for value, count in self._runs(file):
                number = known.setdefault(value, len(known))
                if number == last:
                    places[-1] = (*places[-1][:2], places[-1][2] + count)
                elif number in seen:
                    raise fault(
                        self._files[file],
                        f"the rows of {self.sequence} {value} stand in several places; sort the table by it",
                    )
                else:
                    owners.append(number)
                    places.append((file, row, count))
                    seen.add(number)
                last, row = number, row + count
        self.ids = np.array(list(known)) if known else None
        self.count = len(known)
        self._owners = np.array(owners, np.int64)
        self._places = np.array(places, np.int64).reshape(-1, 3)
        self.lengths = np.bincount(self._owners, self._places[:, 2], self.count).astype(np.int64)

    def _runs(self, file: int) -> Iterator[tuple[Any, int]]:
        """Values of the sequences' column that follow each other, and how often each does."""
        opened = self._file(file)
        for group in range(opened.num_row_groups):
            column = self._row_group(file, group, [self.sequence]).column(0).combine_chunks()
            if isinstance(column, pa.ChunkedArray):
                column = pa.concat_arrays(column.chunks)
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            if column.null_count:
                raise fault(
                    self._files[file], f"column {self.sequence}: the sequence of some rows is missing"
                )
            if len(column):
                runs = pc.run_end_encode(column)
                ends = np.asarray(runs.run_ends)
                yield from zip(runs.values.to_pylist(), np.diff(ends, prepend=0).tolist(), strict=True)

    # -- rows ----------------------------------------------------------------------------------------

    def _file(self, number: int) -> Any:
        if number not in self._opened:
            try:
                self._opened[number] = pq.ParquetFile(self._files[number])
            except (pa.ArrowException, OSError, ValueError) as error:
                raise fault(
                    self._files[number], f"damaged, or not a Parquet file ({one_line(error, 120)})"
                ) from None
        return self._opened[number]

    def _row_group(self, file: int, group: int, columns: list[str]) -> Any:
        try:
            return self._file(file).read_row_group(group, columns=columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise fault(self._files[file], f"cannot be read ({one_line(error, 120)})") from None

    def _pieces(self, file: int, chosen: Array) -> Iterator[tuple[int, Any]]:
        """Rows of pieces of sequences, one row group after the other; a piece may come in several parts."""
        columns = [*self.features, *([self._time] if self._time else [])]
        metadata = self._file(file).metadata
        starts, counts = self._places[chosen, 1], self._places[chosen, 2]
        begin = 0
        for group in range(metadata.num_row_groups):
            end = begin + metadata.row_group(group).num_rows
            wanted = np.flatnonzero((starts < end) & (starts + counts > begin))
            if len(wanted):
                table = self._row_group(file, group, columns)
                for k in wanted:
                    top, bottom = max(int(starts[k]), begin), min(int(starts[k] + counts[k]), end)
                    yield int(chosen[k]), table.slice(top - begin, bottom - top)
            begin = end

    def _numbers(self, table: Any) -> tuple[Array, Array | None]:
        """Values (R, F), NaN where missing, and times."""
        columns = [table.column(name).to_numpy() for name in self.features]
        rows = np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
        if self._time is None:
            return rows, None
        if table.column(self._time).null_count:
            raise DataError(f"{self.name}: column {self._time}: the time of some rows is missing")
        return rows, table.column(self._time).to_numpy()

    def _in_order(self, number: int, parts: list[tuple[Array, Array | None]]) -> Array:
        """The rows of a sequence, ordered by time."""
        rows = np.concatenate([values for values, _ in parts])
        if self._time is None:
            return rows
        times = np.concatenate([stamps for _, stamps in parts if stamps is not None])
        if not np.all(times[:-1] < times[1:]):
            order = np.argsort(times, kind="stable")
            rows, times = rows[order], times[order]
            same = np.flatnonzero(times[:-1] == times[1:])
            if len(same):
                when = one_line(times[same[0]], 40)
                raise DataError(f"{self.name}: {self.label(number)}: two rows have the {self.time} {when}")
        return rows


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
