"""Zarr and NetCDF archives whose dimensions have names, read by xarray."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from lstm_numba.archives.sources import Array, Source, check_kind, choose, common_chunk, joined
from lstm_numba.data.file_io import one_line
from lstm_numba.data.sequences import Sequences
from lstm_numba.data.series_columns import TIME_NAMES
from lstm_numba.errors import DataError
from lstm_numba.wording import nearest


class GriddedSource(Source):
    """Variables with a dimension of sequences and one of time.

    A variable has both, and possibly a third one of features; one of them alone, if it is named, is repeated
    along the other: what is fixed for a sequence, or the same for all.

    Parameters
    ----------
    dataset : xarray.Dataset
        Lazily read.
    name : str
    variables : str or sequence of str, optional
    sequence, time : str, optional
        Names of the dimensions.
    """

    def __init__(
        self,
        dataset: Any,
        name: str,
        variables: Any = None,
        sequence: str | None = None,
        time: str | None = None,
    ) -> None:
        self.name, self._dataset = name, dataset
        for argument, given in (("sequence", sequence), ("time", time)):
            self._check_dimension(argument, given)
        self.time = time or self._find_time()
        candidates = [
            str(key)
            for key, variable in dataset.data_vars.items()
            if self.time in variable.dims and variable.ndim in (2, 3) and variable.dtype.kind in "fiu"
            and (sequence is None or sequence in variable.dims)
        ]  # fmt: skip
        self._names = choose(name, variables, [str(key) for key in dataset.variables], candidates)
        self.sequence = sequence or self._find_sequence()
        if self.sequence == self.time:
            raise ValueError(f"sequence, time: expected two dimensions, got {self.time} twice")
        self.count, self.steps = dataset.sizes[self.sequence], dataset.sizes[self.time]
        self.ids, self.times = self._coordinate(self.sequence), self._coordinate(self.time)
        self._columns()
        self._check_filled()

    def read(self, first: int, stop: int) -> Sequences:
        """See `Source`."""
        parts = []
        for name in self._names:
            variable = self._dataset[name]
            if self.sequence in variable.dims:
                variable = variable.isel({self.sequence: slice(first, stop)})
            order = [dim for dim in (self.sequence, self.time) if dim in variable.dims]
            # Without Dask's scheduler: in a worker it would wait for other workers.
            numbers = variable.transpose(*order, ...).compute(scheduler="single-threaded").to_numpy()
            parts.append(self._spread(numbers, order, stop - first))
        return joined(parts)

    def remark(self, column: int) -> str:
        """See `Source`: Zarr's own default of 0 is a fill value, too."""
        fill = self._fills[column]
        return "" if fill is None or fill != fill else f", as which its fill value {fill} counts"

    # -- what there is -------------------------------------------------------------------------------

    def _check_dimension(self, argument: str, given: str | None) -> None:
        there = [str(dim) for dim in self._dataset.sizes]
        if given is not None and given not in there:
            near = nearest(str(given), there) or f"; there are {one_line(', '.join(there), 200)}"
            raise DataError(f"{self.name}: {argument}: no dimension {one_line(given, 60)}{near}")

    def _find_time(self) -> str:
        """The dimension of times, or of such a name."""
        sizes, coords = list(self._dataset.sizes), self._dataset.coords
        found = [dim for dim in sizes if dim in coords and coords[dim].dtype.kind == "M"]
        found = found or [dim for dim in sizes if str(dim).lower() in TIME_NAMES]
        if len(found) != 1:
            there = one_line(", ".join(map(str, sizes)), 200) or "none"
            raise DataError(f"{self.name}: time: say which dimension it is; there are {there}")
        return str(found[0])

    def _find_sequence(self) -> str:
        """The first dimension of the variables that is not time."""
        found = []
        for name in self._names:
            dims = [str(dim) for dim in self._dataset[name].dims if dim != self.time]
            if self.time in self._dataset[name].dims and dims:
                found.append(dims[0])
        if len(set(found)) != 1:
            there = one_line(", ".join(map(str, self._dataset.sizes)), 200)
            raise DataError(f"{self.name}: sequence: say which dimension it is; there are {there}")
        return found[0]

    def _coordinate(self, dim: str) -> Array | None:
        """Values of a dimension; of calendars that NumPy lacks their texts."""
        if dim not in self._dataset.coords or self._dataset.coords[dim].ndim != 1:
            return None
        values = np.asarray(self._dataset.coords[dim].to_numpy())
        return values.astype(str) if values.dtype == object else values

    def _columns(self) -> None:
        """Columns of a step, and the chunks in which they are stored."""
        features: list[str] = []
        self._fills: list[Any] = []
        chunks, self.item_bytes = [1], 0
        for name in self._names:
            variable = self._dataset[name]
            check_kind(self.name, name, variable.dtype)
            others = [dim for dim in variable.dims if dim not in (self.sequence, self.time)]
            if len(others) > 1 or len(others) == variable.ndim:
                wanted = f"({self.sequence}, {self.time}), and at most one more dimension"
                raise DataError(f"{self.name}: {name}: expected {wanted}, got {_shown(variable.dims)}")
            width = variable.sizes[others[0]] if others else 1
            features += [f"{name}[..., {k}]" for k in range(width)] if others else [name]
            self._fills += [variable.encoding.get("_FillValue")] * width
            self.item_bytes += width * variable.dtype.itemsize
            stored = variable.encoding.get("preferred_chunks") or {}
            if self.sequence in variable.dims and self.time in variable.dims:
                chunks.append(int(stored.get(self.sequence, 1)))
        self.features = tuple(features)
        self.chunk = common_chunk(chunks, 4 * max(chunks))

    def _spread(self, numbers: Array, order: Sequence[Hashable], count: int) -> Array:
        """A variable's numbers as (count, steps) or (count, steps, features)."""
        if self.sequence not in order:
            numbers = numbers[None]
        elif self.time not in order:
            numbers = numbers[:, None]
        return np.broadcast_to(numbers, (count, self.steps, *numbers.shape[2:]))


def _shown(dims: Sequence[Hashable]) -> str:
    return f"({', '.join(map(str, dims))})"
