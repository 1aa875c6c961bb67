"""Tables of a user's own: what is read, what is guessed and said, what is refused and where."""

from __future__ import annotations

import builtins
import gzip
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_numba.data.tables import Table, read_table
from lstm_numba.errors import DataError, UserError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file and gives its path."""

    def write_file(content: str | bytes, name: str = "a.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def refused(path: Path, *fragments: str, **options: Any) -> None:
    """Reading must fail with one line that names the file and holds the fragments."""
    with pytest.raises(UserError) as caught:
        read_table(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    for fragment in fragments:
        assert fragment in text, text


def same(table: Table, **columns: list[Any]) -> None:
    """The table must have these columns of numbers, in this order; None stands for NaN."""
    assert list(table.columns) == list(columns)
    for name, expected in columns.items():
        np.testing.assert_array_equal(table.columns[name], np.array(expected, np.float64), err_msg=name)


# -- text --------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_numbers_text_and_lines(write: Write) -> None:
    table = read_table(write('\ufeffa, b ,"say ""c"""\n1,-2.5e1,x\n\nNaN,,"y,\nz"\n 3 ,null,NA\n'))
    assert table.columns["a"].dtype == np.float64
    np.testing.assert_array_equal(table.columns["a"], [1, np.nan, 3])
    np.testing.assert_array_equal(table.columns["b"], [-25, np.nan, np.nan])
    assert table.columns['say "c"'].tolist() == ["x", "y,\nz", ""]
    assert table.rows.tolist() == [2, 4, 6]  # an empty line, and a value of two lines
    assert table.guesses == ()


@pytest.mark.parametrize(("separator", "said"), [(";", "semicolons"), ("\t", "tabulators"), ("|", "strokes")])
def test_separator_is_found_and_said(write: Write, separator: str, said: str) -> None:
    table = read_table(write("\n".join(separator.join(row) for row in ("ab", "12", "34"))))
    same(table, a=[1, 3], b=[2, 4])
    (guess,) = table.guesses
    assert said in guess


def test_decimal_commas(write: Write) -> None:
    table = read_table(write("a;b;n\n1,5;2,5;1\n-0,25;3;2\n"))
    same(table, a=[1.5, -0.25], b=[2.5, 3], n=[1, 2])
    assert any("decimal comma" in guess for guess in table.guesses)
    same(read_table(write("value\n1,5\n2,5\n")), value=[1.5, 2.5])
    refused(write("a;b\n1,5;2.5\n2,5;3.5\n"), "column a has decimal commas", "column b decimal points")
    refused(
        write('a,b\n"1,500",2\n3,4\n5,6\n'), "row 2", "column a", "'1,500'"
    )  # a comma parts thousands there


def test_names_that_pandas_writes(write: Write) -> None:
    table = read_table(write(",a\n0,5\n1,6\n"))
    same(table, a=[5, 6])
    assert "counts the rows" in table.guesses[0]
    table = read_table(write(",a\n2024-01-01,5\n2024-01-02,6\n"))
    assert table.columns["index"].tolist() == np.array(["2024-01-01", "2024-01-02"], "M8[ns]").tolist()
    refused(write("a,,b\n1,2,3\n1,2,3\n"), "column 2 has no name")


def test_a_missing_value_of_a_single_column_is_an_empty_line(write: Write) -> None:
    table = read_table(write("a\n1\n\n3\n\n\n"))
    np.testing.assert_array_equal(table.columns["a"], [1, np.nan, 3])
    assert table.rows.tolist() == [2, 3, 4]


def test_compressed(write: Write) -> None:
    same(read_table(write(gzip.compress(b"a,b\n1,2\n3,4\n"), "a.csv.gz")), a=[1, 3], b=[2, 4])


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        ("", ["empty"]),
        ("  \n \n", ["white space"]),
        ("a,b\n", ["no rows, only the header"]),
        ("a,b\n1,2\n", ["one row only"]),
        ('a,"b\nc"\n1,2\n3,4\n', ["printable names", "'b\\nc'"]),
        ("1,2\n3,4\n5,6\n", ["names of the columns", "1, 2"]),
        ("a,b,a\n1,2,3\n1,2,3\n", ["two columns of the name a"]),
        ("a,b\n1,2\n3\n", ["row 3", "expected 2 values", "got 1"]),
        ("a,b\n1,2\n3,4\n5,6,7\n", ["row 4", "expected 2 values", "got 3"]),
        ("a,b\n1,2\n3,oops\n5,6\n", ["row 3", "column b", "'oops'"]),
        ("a,b\n1,2\n3,1_000\n5,6\n", ["row 3", "column b", "'1_000'"]),
        ("a,b\n1,2\n3,1e400\n", ["row 3", "column b", "inf"]),
        ("a,b\n1,2\n3,-Infinity\n", ["row 3", "column b", "-inf"]),
        ("a,b\n1,2\n1e308,3\n", ["row 3", "column a", "1e+308"]),
        ('a,b\n1,"2\n3,4\n', ["row 2"]),
        (b"a,b\n1,caf\xe9\n", ["UTF-8", "line 2"]),
        (b"a,b\n1,\x00\n", ["NUL", "line 2"]),
        ("a,b\n1,2\n".encode("utf-16"), ["UTF-16"]),
    ],
)
def test_refused_with_row_and_column(write: Write, content: str | bytes, fragments: list[str]) -> None:
    refused(write(content), *fragments)


def test_half_of_a_column_is_no_exception(write: Write) -> None:
    table = read_table(write("a,b\n1,x1\n2,17\n3,x2\n"))
    assert table.columns["b"].tolist() == ["x1", "17", "x2"]


def test_columns_that_are_not_needed_may_hold_anything(write: Write) -> None:
    path = write("a,b\n1,1\n2,2\n3,odd\n")
    assert read_table(path, needed={"a"}).columns["b"].tolist() == ["1", "2", "odd"]
    refused(path, "column b", needed={"a", "b"})
    assert read_table(path, text={"b"}).columns["b"].tolist() == ["1", "2", "odd"]
    assert read_table(write("a,g\n1,01\n2,1\n"), text={"g"}).columns["g"].tolist() == ["01", "1"]


def test_files_that_are_none(write: Write, tmp_path: Path) -> None:
    refused(tmp_path / "missing.csv", "no such file")
    refused(tmp_path / "missing.what", "no such file")
    (tmp_path / "folder.csv").mkdir()
    refused(tmp_path / "folder.csv", "is a folder")
    refused(write("a,b\n1,2\n3,4\n", "a.tsv"), "tabulators", "commas")
    refused(write("a\n1\n2\n", "a.what"), ".csv", ".parquet", ".npz")


# -- times -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["2024-02-29", "2024-03-01"], ["2024-02-29", "2024-03-01"]),
        (["2024-02-29T23:59:58.5", "2024-03-01 0:00"], ["2024-02-29T23:59:58.5", "2024-03-01"]),
        (["2024-02-29T23", "2024-03-01 05"], ["2024-02-29T23", "2024-03-01T05"]),
        (["2023-12", "2024-1"], ["2023-12-01", "2024-01-01"]),
        (["2024/2/9", "2024/2/10"], ["2024-02-09", "2024-02-10"]),
        (["9.2.2024 13:05", "10.02.2024 14:00"], ["2024-02-09T13:05", "2024-02-10T14:00"]),
        (["12/31/2023", "1/2/2024"], ["2023-12-31", "2024-01-02"]),
        (["31/12/2023 1:00 PM", "2/1/2024 12:30 am"], ["2023-12-31T13:00", "2024-01-02T00:30"]),
        (["2024-01-01T00:30+01:00", "2024-01-01T01:30+01:00"], ["2023-12-31T23:30", "2024-01-01T00:30"]),
        (["2024-03-31 01:30+0100", "2024-03-31 03:30+0200"], ["2024-03-31T00:30", "2024-03-31T01:30"]),
        (["2024-01-01 00:00Z", ""], ["2024-01-01", "NaT"]),
    ],
)
def test_times(write: Write, texts: list[str], expected: list[str]) -> None:
    table = read_table(write("t,a\n" + "".join(f"{text},1\n" for text in texts)))
    assert table.columns["t"].dtype == np.dtype("datetime64[ns]")
    np.testing.assert_array_equal(table.columns["t"], np.array(expected, "datetime64[ns]"))
    converted = any("+0" in text for text in texts)
    assert any("UTC" in guess for guess in table.guesses) == converted


def test_what_looks_like_a_month_and_is_none_is_text(write: Write) -> None:
    table = read_table(write("part,a\n1234-56,1\n0012-01,1\n"))
    assert table.columns["part"].dtype.kind == "O"
    np.testing.assert_array_equal(read_table(write("a\n2024.01\n2024.02\n")).columns["a"], [2024.01, 2024.02])


def test_months_before_days_are_said(write: Write) -> None:
    (guess,) = read_table(write("t,a\n12/31/2023,1\n1/2/2024,1\n")).guesses
    assert "month stands before the day" in guess


@pytest.mark.parametrize(
    ("texts", "fragments"),
    [
        (["2024-01-01", "2023-02-29"], ["row 3", "'2023-02-29'"]),
        (["2024-01-01", "2024-13-01"], ["row 3", "'2024-13-01'"]),
        (["2024-01-01 24:00", "2024-01-02"], ["row 2"]),
        (["2024-01-01", "0001-01-01"], ["row 3", "1678"]),
        (["2024-01-01 00:00Z", "2024-01-01 01:00"], ["row 3", "time zone"]),
        (["2024-01-01 00:00+01:00", "2024-01-01 00:00-05:00"], ["row 3", "time zone", "+01:00"]),
        (["01/02/2024", "03/04/2024"], ["month or the day first"]),
        (["2024-01-01"] * 30 + ["yesterday"], ["row 32", "column t", "'yesterday'"]),
    ],
)
def test_times_that_are_refused(write: Write, texts: list[str], fragments: list[str]) -> None:
    refused(write("t,a\n" + "".join(f"{text},1\n" for text in texts)), *fragments)


# -- NumPy -------------------------------------------------------------------------------------------


def test_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "one.npy", np.arange(3))
    same(read_table(tmp_path / "one.npy"), **{"0": [0, 1, 2]})
    two = rng.standard_normal((4, 2)).astype(np.float32)
    np.save(tmp_path / "two.npy", two)
    table = read_table(tmp_path / "two.npy")
    assert table.groups is None
    np.testing.assert_array_equal(np.stack([*table.columns.values()], axis=1), two.astype(np.float64))
    three = rng.standard_normal((2, 3, 2))
    np.save(tmp_path / "three.npy", three)
    table = read_table(tmp_path / "three.npy")
    assert table.groups is not None
    assert table.groups.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(table.columns["1"], three[:, :, 1].ravel())
    np.savez(
        tmp_path / "n.npz", t=np.array(["2024-01-01", "2024-01-02"], "M8[D]"), a=[True, False], g=["x", "y"]
    )
    table = read_table(tmp_path / "n.npz", text={"a"})
    assert table.columns["t"].dtype == np.dtype("datetime64[ns]")
    assert table.columns["a"].tolist() == ["1", "0"]
    assert table.columns["g"].tolist() == ["x", "y"]


def test_arrays_that_are_refused(tmp_path: Path, write: Write) -> None:
    def saved(array: Any) -> bytes:
        memory = io.BytesIO()
        np.save(memory, array)
        return memory.getvalue()

    refused(write(saved(np.array([1, None])), "a.npy"), "objects")
    refused(write(saved(np.zeros((2, 2, 2, 2))), "a.npy"), "(2, 2, 2, 2)")
    refused(write(saved(np.zeros(3, complex)), "a.npy"), "complex")
    refused(write(saved(np.array([1.0, np.inf])), "a.npy"), "row 2", "column 0", "inf")
    refused(write(saved(np.zeros(3))[:-5], "a.npy"), "19 bytes", "(3,)")
    refused(write(b"nothing", "a.npy"), "damaged")
    refused(write(b"nothing", "a.npz"), "damaged")
    huge = re.sub(rb"\(3,\)", b"(3000000000000000,)", saved(np.zeros(3)))
    refused(write(huge, "a.npy"), "(3000000000000000,)")
    np.savez(tmp_path / "b.npz", a=np.zeros(3), b=np.zeros(4))
    refused(tmp_path / "b.npz", "array b", "(3,)", "(4,)")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("a.npy", b"not an array")
    refused(tmp_path / "c.npz", "damaged")


# -- Parquet -----------------------------------------------------------------------------------------


def test_parquet(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    frame = pandas.DataFrame(
        {"n": [1, 2], "f": [0.5, None], "s": ["x", None], "b": [True, False]},
        index=pandas.DatetimeIndex(["2024-07-01 02:00", "2024-07-01 03:00"], tz="Europe/Berlin", name="when"),
    )
    frame.to_parquet(tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    np.testing.assert_array_equal(
        table.columns["when"], np.array(["2024-07-01T00", "2024-07-01T01"], "datetime64[ns]")
    )
    assert table.columns["n"].tolist() == [1, 2]
    np.testing.assert_array_equal(table.columns["f"], [0.5, np.nan])
    assert table.columns["s"].tolist() == ["x", ""]
    assert table.columns["b"].tolist() == [1, 0]
    assert any("Europe/Berlin" in guess and "UTC" in guess for guess in table.guesses)
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    refused(tmp_path / "b.parquet", "Parquet")


def test_parquet_without_pandas(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return load(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    refused(write(b"PAR1", "a.parquet"), "pip install 'lstm_numba[tables]'")


def test_errors_are_data_errors(write: Write) -> None:
    with pytest.raises(DataError):
        read_table(write("a\n"))
