"""Tables parted by their sequences: one of them alone is read as if there were no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from series_tools import write_table

from lstm_numba.data import series_groups
from lstm_numba.data.series import SeriesData, SeriesOptions, load_series
from lstm_numba.data.series_groups import part, read_parted
from lstm_numba.data.tables import read_table
from lstm_numba.errors import DataError


def shops(path: Path, only: str | None = None) -> Path:
    """Rows of three shops among each other, or of one alone, that sell more and more."""
    columns: dict[str, list[object]] = {"shop": [], "t": [], "sales": [], "rain": []}
    rng = np.random.default_rng(0)
    for step in range(30):
        for shop in ("b", "a", "c"):
            row = shop, step, float(step + rng.standard_normal()), float(rng.standard_normal())
            if only in (None, shop):
                for name, value in zip(columns, row, strict=True):
                    columns[name].append(value)
    return write_table(path, columns)


def assert_same(one: SeriesData, other: SeriesData) -> None:
    """The same numbers in the same parts."""
    assert one.features == other.features
    assert one.options.window == other.options.window
    for name, pieces in one.parts.items():
        assert len(pieces) == len(other.parts[name]) > 0
        for piece, same in zip(pieces, other.parts[name], strict=True):
            np.testing.assert_array_equal(piece.x, same.x)
            np.testing.assert_array_equal(piece.y, same.y)


def test_a_group_alone(tmp_path: Path) -> None:
    file = shops(tmp_path / "all.csv")
    parted = part([read_table(file, None, ["shop"])], "shop")
    assert [*parted] == ["b", "a", "c"]
    assert parted["a"][0].rows[:3].tolist() == [3, 6, 9]
    for shop in "abc":
        table = shops(tmp_path / f"{shop}.csv", shop)
        for task in ("forecast", "regress"):  # the second reads groups as a whole where there are several
            alone = load_series([table], SeriesOptions(("sales",), task=task))
            options = SeriesOptions(("sales",), group="shop", task=task, only=shop)
            assert_same(load_series([file], options), alone)
    with pytest.raises(DataError, match=r"all.csv: holds no rows of d"):
        load_series([file], SeriesOptions(("sales",), group="shop", only="d"))


def test_a_file_alone(tmp_path: Path) -> None:
    files = [shops(tmp_path / f"{shop}.csv", shop) for shop in "abc"]
    options = SeriesOptions(("sales",), only="b")
    assert_same(load_series(files, options), load_series(files[1:2], SeriesOptions(("sales",))))


def test_files_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shops(tmp_path / "all.csv")
    read: list[Path] = []

    def counting(path: Path, *more: object) -> object:
        read.append(path)
        return read_table(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(series_groups, "read_table", counting)
    first = read_parted([file], None, {"shop"}, "shop")
    assert read_parted([file], None, {"shop"}, "shop") is first
    assert len(read) == 1
    shops(file, "a")
    assert [*read_parted([file], None, {"shop"}, "shop")] == ["a"]
    assert len(read) == 2


def test_groups_that_are_not_there(tmp_path: Path) -> None:
    table = read_table(shops(tmp_path / "all.csv"))
    with pytest.raises(DataError, match=r"all.csv: --group: no column shp; did you mean shop"):
        part([table], "shp")
