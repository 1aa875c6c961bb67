"""Every format gives the same sequences: the answers are those to the numbers that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_tools import SEQUENCES, STEPS, VARIABLES, dataset, days, frame, names, numbers, write

import lstm_numba as ln
from lstm_numba.archives.opening import open_archive
from lstm_numba.errors import DataError

pytest.importorskip("zarr", reason="zarr is not installed")
xarray = pytest.importorskip("xarray", reason="xarray is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

KINDS = ["npy", "zarr", "zarr3", "zarr-array", "zarr-group", "nc", "nc3", "parquet"]
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata", "ignore:The data type")


def read_all(source: Any) -> Any:
    """All sequences (N, T, F), read in blocks of 4."""
    parts = [source.read(n, min(n + 4, source.count)).rows for n in range(0, source.count, 4)]
    return np.concatenate(parts).reshape(source.count, -1, len(source.features))


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_that_were_written(kind: str, tmp_path: Path) -> None:
    if kind == "nc":
        pytest.importorskip("h5netcdf", reason="h5netcdf is not installed")
    if kind == "zarr3" and int(pytest.importorskip("zarr").__version__.split(".")[0]) < 3:
        pytest.skip("Zarr 3 writes this format")
    x = numbers()
    path, said = write(kind, tmp_path, x)
    source = open_archive(path, said.get("variables"))
    assert np.array_equal(read_all(source), x)
    if kind in ("zarr", "zarr3", "zarr-array", "nc"):
        assert source.chunk == 5
    if kind in ("nc", "parquet"):
        assert list(source.ids) == names()


@pytest.mark.smoke
def test_answers_are_those_of_the_layer(tmp_path: Path) -> None:
    x = numbers()
    path, said = write("zarr", tmp_path, x)
    rnn = ln.LSTM(2, 3, seed=0)
    y, state = rnn(np.ascontiguousarray(x.swapaxes(0, 1)))
    assert np.array_equal(ln.map_sequences(rnn, path, **said), y.swapaxes(0, 1))
    found = ln.map_sequences(rnn, str(path), method="state", block_size=4, **said)
    for got, expected in zip(found, state, strict=True):
        assert np.array_equal(got, expected.swapaxes(0, 1))


def test_open_objects(tmp_path: Path) -> None:
    import zarr

    x = numbers()
    path, _ = write("zarr", tmp_path, x)
    opened = [
        dataset(x),
        xarray.open_zarr(path, chunks=None),
        zarr.open_group(str(path), mode="r"),
        zarr.open_group(str(write("zarr-group", tmp_path, x)[0]), mode="r"),
    ]
    for each in opened:
        assert np.array_equal(read_all(open_archive(each, VARIABLES)), x)
    whole = xarray.DataArray(x, dims=("gauge", "time", "kind"))
    assert np.array_equal(read_all(open_archive(whole)), x)
    assert np.array_equal(read_all(open_archive(x[..., 0])), x[..., :1])


def test_times_before_sequences_and_dask_arrays(tmp_path: Path) -> None:
    pytest.importorskip("dask", reason="dask is not installed")
    x = numbers()
    turned = dataset(x).transpose("day", "gauge")
    turned.to_zarr(
        tmp_path / "turned.zarr", encoding={"rain": {"chunks": (4, 7)}, "heat": {"chunks": (9, 3)}}
    )
    source = open_archive(tmp_path / "turned.zarr", VARIABLES)
    assert np.array_equal(read_all(source), x)
    assert source.chunk == 21  # whole chunks of both
    lazily = xarray.open_zarr(tmp_path / "turned.zarr", chunks={})
    assert np.array_equal(read_all(open_archive(lazily, VARIABLES)), x)


def test_what_is_fixed_for_a_sequence_or_the_same_for_all_is_repeated() -> None:
    x = numbers()
    data = dataset(x).assign(weekday=("day", np.arange(STEPS, dtype=np.int16)))
    source = open_archive(data, ["weekday", "heat", "area"])
    found = read_all(source)
    assert source.features == ("weekday", "heat", "area")
    assert np.array_equal(found[..., 0], np.tile(np.arange(STEPS), (SEQUENCES, 1)))
    assert np.array_equal(found[..., 1], x[..., 1])
    assert np.array_equal(found[..., 2], np.repeat(np.arange(SEQUENCES)[:, None], STEPS, axis=1))


def test_packed_numbers_are_unpacked_and_missing_ones_told(tmp_path: Path) -> None:
    x = np.round(numbers(), 2)
    data = dataset(x)
    data["rain"][3, 5] = np.nan
    packed = {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -9999}
    data.to_netcdf(tmp_path / "packed.nc", engine="scipy", encoding={"rain": packed})
    source = open_archive(tmp_path / "packed.nc", VARIABLES)
    found = read_all(source)
    assert np.isnan(found[3, 5, 0])
    assert np.allclose(np.delete(found, 3, 0), np.delete(x, 3, 0), atol=1e-6)
    with pytest.raises(DataError, match=r"gauge g03, rain, day 2001-03-04.*: expected a number, got NaN"):
        ln.map_sequences(ln.GRU(2, 3), tmp_path / "packed.nc", variables=VARIABLES)


# -- tables in long form -----------------------------------------------------------------------------


def ragged(x: Any) -> tuple[Any, Any]:
    """A table whose sequences have 1 to STEPS rows, and their lengths."""
    lengths = 1 + np.arange(SEQUENCES) * 5 % STEPS
    table = frame(x)
    inside = (np.arange(STEPS) < lengths[:, None]).ravel()
    return table[inside], lengths


def test_lengths_of_a_table(tmp_path: Path) -> None:
    x = numbers()
    table, lengths = ragged(x)
    table.to_parquet(tmp_path / "a.parquet", row_group_size=11, index=False)
    rnn = ln.GRU(2, 3, seed=1)
    y, h = rnn(np.ascontiguousarray(x.swapaxes(0, 1)), lengths=lengths)
    found = ln.map_sequences(rnn, tmp_path / "a.parquet", variables=VARIABLES, batch_size=5, block_size=8)
    inside = np.arange(STEPS) < lengths[:, None]
    assert np.array_equal(found[inside], y.swapaxes(0, 1)[inside])
    assert np.isnan(found[~inside]).all()
    assert np.array_equal(
        ln.map_sequences(rnn, tmp_path / "a.parquet", variables=VARIABLES, method="state"), h.swapaxes(0, 1)
    )


def test_a_table_in_several_files_and_in_any_order_of_time(tmp_path: Path) -> None:
    x = numbers()
    table = frame(x)
    late = table.day >= days()[4]
    backwards = table[late].sort_values(["gauge", "day"], ascending=[True, False])
    backwards.to_parquet(tmp_path / "1.parquet", index=False)
    table[~late].to_parquet(tmp_path / "2.parquet", row_group_size=7, index=False)
    assert np.array_equal(read_all(open_archive(tmp_path, VARIABLES)), x)


def test_identities_of_any_type(tmp_path: Path) -> None:
    x = numbers()
    table = frame(x).assign(gauge=np.repeat(np.arange(SEQUENCES)[::-1], STEPS))
    table.to_parquet(tmp_path / "int.parquet", index=False)
    source = open_archive(tmp_path / "int.parquet", VARIABLES)
    assert np.array_equal(read_all(source), x)
    assert list(source.ids) == list(range(SEQUENCES))[::-1]
    table = frame(x)
    table["gauge"] = table.gauge.astype("category")
    table.to_parquet(tmp_path / "category.parquet", row_group_size=50, index=False)
    assert list(open_archive(tmp_path / "category.parquet", VARIABLES).ids) == names()


def test_tables_that_are_refused(tmp_path: Path) -> None:
    x = numbers()
    table = frame(x)

    def refused(changed: Any, match: str, **said: Any) -> None:
        changed.to_parquet(tmp_path / "bad.parquet", index=False)
        with pytest.raises(DataError, match=match):
            read_all(open_archive(tmp_path / "bad.parquet", said.pop("variables", VARIABLES), **said))

    refused(
        table.sort_values("day", kind="stable"), "rows of gauge g00 stand in several places; sort the table"
    )
    twice = table.copy()
    twice.loc[12, "day"] = twice.loc[11, "day"]
    refused(twice, "bad.parquet: gauge g01: two rows have the day 2001-03-01")
    gone = table.copy()
    gone.loc[3, "gauge"] = None
    refused(gone, "column gauge: the sequence of some rows is missing")
    gone = table.copy()
    gone.loc[3, "day"] = None
    refused(gone, "column day: the time of some rows is missing")
    refused(table.iloc[:0], "is empty: 0 sequences")
    refused(table, "variables: no variable rian; did you mean rain", variables=["rian"])
    refused(table, "variables: say which ones .* there are heat, rain", variables=None)
    refused(table, "sequence: no column gage; did you mean gauge", sequence="gage")
    refused(
        table.assign(what="a"), "sequence: say which column it is; there are gauge, day, heat, rain, what"
    )
    refused(table.assign(rain="wet"), "rain: expected real numbers, got .*string", sequence="gauge")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"bad\.parquet: damaged, or not a Parquet file"):
        open_archive(tmp_path / "bad.parquet")
