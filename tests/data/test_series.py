"""Tables as sequences: what is guessed and said, what is refused, and that no row serves two parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_numba.data.series import (
    SeriesData,
    SeriesOptions,
    WindowIndex,
    load_series,
    series_of_tables,
)
from lstm_numba.data.tables import Table
from lstm_numba.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a CSV file from columns and gives its path."""

    def write_file(name: str = "a.csv", **columns: Any) -> Path:
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write_file


def days(count: int, first: str = "2024-01-01") -> list[str]:
    """Dates, day by day."""
    return [str(day) for day in np.datetime64(first) + np.arange(count)]


def table(name: str = "made", **columns: Any) -> Table:
    """A table that was not read from a file; rows count as if it had been."""
    arrays = {n: np.asarray(c, object if isinstance(c[0], str) else np.float64) for n, c in columns.items()}
    return Table(name, arrays, np.arange(2, 2 + len(next(iter(arrays.values())))))


def told(data: SeriesData, *fragments: str) -> None:
    """One line of what was guessed must hold all fragments."""
    assert any(all(fragment in line for fragment in fragments) for line in data.guesses), data.guesses


def refused(paths: Any, *fragments: str, **options: Any) -> None:
    """Loading must fail with one line that holds the fragments."""
    with pytest.raises(DataError) as caught:
        load_series([paths] if isinstance(paths, Path) else paths, SeriesOptions(**options))
    assert "\n" not in str(caught.value)
    for fragment in fragments:
        assert fragment in str(caught.value), str(caught.value)


def wave(count: int) -> list[float]:
    """Some numbers that change."""
    return [float(x) for x in np.round(np.sin(np.arange(count)), 3)]


# -- what is guessed ---------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_forecast_is_recognised(write: Write) -> None:
    path = write(date=days(100), city=["x"] * 100, load=range(100), heat=wave(100))
    data = load_series([path], SeriesOptions(target=("load",)))
    assert (data.task, data.columns.time, data.features) == ("forecast", "date", ("load", "heat"))
    assert (data.options.horizon, data.options.split) == (1, "time")
    assert data.options.window is not None
    for fragments in (("time", "date"), ("forecast",), ("window",), ("horizon",), ("left out", "city")):
        told(data, *fragments)
    (sequence,) = data.sequences
    np.testing.assert_array_equal(sequence.x, np.stack([np.arange(100), wave(100)], axis=1))
    np.testing.assert_array_equal(sequence.y[:, 0], np.arange(100))
    assert sequence.rows[0] == 2
    assert [part[0].steps for part in data.parts.values()] == [70, 10, 20]


def test_a_horizon_means_a_forecast(write: Write) -> None:
    path = write(load=range(100), heat=wave(100))
    data = load_series([path], SeriesOptions(target=("load",), horizon=3))
    assert (data.task, data.options.horizon) == ("forecast", 3)
    told(data, "forecast", "--horizon")
    with pytest.raises(DataError, match="--task: the data do not say it"):
        load_series([path], SeriesOptions(target=("load",)))


def test_classes_are_recognised(write: Write) -> None:
    group = np.repeat(np.arange(12), 5)
    path = write(g=group, a=wave(60), label=np.where(group % 2, "yes", "no"))
    data = load_series([path], SeriesOptions(target=("label",), group="g"))
    assert (data.task, data.classes, data.options.window) == ("classify", ("no", "yes"), None)
    assert [sequence.name for sequence in data.sequences] == [str(k) for k in range(12)]
    assert [sequence.y[0, 0] for sequence in data.sequences] == [k % 2 for k in range(12)]
    assert data.features == ("a",)
    told(data, "classify", "label")
    numbers = write("b.csv", g=group, a=wave(60), label=group % 2)
    data = load_series([numbers], SeriesOptions(target=("label",), group="g"))
    assert (data.task, data.classes) == ("classify", ("0", "1"))
    told(data, "classify", "2 whole numbers")


def test_one_number_a_group_is_a_regression(write: Write) -> None:
    group = np.repeat(np.arange(12), 5)
    path = write(g=group, a=wave(60), mass=group * 1.5)
    data = load_series([path], SeriesOptions(target=("mass",), group="g"))
    assert (data.task, data.per_step, data.options.split) == ("regress", False, "group")
    told(data, "regress", "one number in each group")


def test_a_number_a_step(write: Write) -> None:
    path = write(g=np.repeat(np.arange(12), 5), a=wave(60), y=range(60))
    data = load_series([path], SeriesOptions(target=("y",), group="g", task="regress"))
    assert data.per_step
    index = WindowIndex(data.sequences, None, per_step=True)
    batch = index.gather(np.array([1, 0]))
    np.testing.assert_array_equal(batch.y[:, 0, 0], np.arange(5, 10))
    assert batch.x.shape == (5, 2, 1)


def test_what_cannot_be_told_is_asked(write: Write) -> None:
    path = write(a=wave(40), b=range(40))
    refused(path, "--target", "a, b")
    refused(path, "--task", "forecast", "regress", "classify", target=("b",))
    only = load_series([write("b.csv", b=range(40))])
    assert (only.task, only.features) == ("forecast", ("b",))
    told(only, "target", "b")


def test_several_files_are_groups(write: Write) -> None:
    paths = [write(f"{k}.csv", a=wave(6), y=["up" if k % 2 else "down"] * 6) for k in range(8)]
    data = load_series(paths, SeriesOptions(target=("y",)))
    assert [sequence.name for sequence in data.sequences] == [str(k) for k in range(8)]
    assert data.task == "classify"
    refused([*paths, write("z.csv", b=[1, 2], y=["up", "up"])], "z.csv", "no column a", target=("y",))
    refused([*paths, write("y.csv", a=["p", "q"], y=["up", "up"])], "y.csv", "column a", target=("y",))
    refused([paths[0], paths[0]], "named twice", target=("y",))


def test_groups_inside_a_file_of_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.standard_normal((6, 30, 2)))
    data = load_series([tmp_path / "a.npy"], SeriesOptions(target=("1",), task="forecast", window=2))
    assert len(data.sequences) == 6
    assert data.features == ("0", "1")


# -- what is refused ---------------------------------------------------------------------------------


def test_names_of_columns(write: Write) -> None:
    path = write(date=days(40), temperature=wave(40), load=range(40))
    refused(path, "--target", "temprature", "did you mean temperature?", target=("temprature",))
    refused(path, "--features", "x", "there are date, temperature, load", target=("load",), features=("x",))
    refused(path, "--time", "Date", "did you mean date?", target=("load",), time="Date")
    refused(path, "twice", target=("load", "load"))
    refused(path, "--target already", target=("load",), time="load")
    refused(path, "column date", "numbers", target=("load",), features=("date",), time="temperature")


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (lambda d: [*d[:5], d[7], *d[6:]], ["row 9", "twice", "row 7", "--group"]),
        (lambda d: [*d[:5], d[6], d[5], *d[7:]], ["row 8", "2024-01-06", "2024-01-07", "order"]),
        (lambda d: [*d[:5], "", *d[6:]], ["row 7", "missing"]),
    ],
)
def test_times_must_be_in_order(write: Write, change: Any, fragments: list[str]) -> None:
    refused(write(date=change(days(40)), load=range(40)), *fragments, target=("load",), window=2)


def test_latest_first_is_read_backwards(write: Write) -> None:
    data = load_series(
        [write(date=days(40)[::-1], load=range(40))], SeriesOptions(target=("load",), window=2)
    )
    np.testing.assert_array_equal(data.sequences[0].y[:, 0], np.arange(40)[::-1])
    assert data.sequences[0].rows[0] == 41
    told(data, "backwards")


def test_gaps_and_irregular_times_are_said(write: Write) -> None:
    some = days(50)
    data = load_series(
        [write(date=some[:10] + some[12:20] + some[21:], load=range(47))],
        SeriesOptions(target=("load",), window=2),
    )
    told(data, "2 gaps", "1 d", "row 12")
    months = [f"2024-{m:02}-01" for m in range(1, 13)] + [f"2025-{m:02}-01" for m in range(1, 13)]
    data = load_series([write(date=months, load=range(24))], SeriesOptions(target=("load",), window=1))
    assert not any("gap" in line or "irregular" in line for line in data.guesses)
    odd = [1.0, 2.0, 7.0, 7.5, 20.0, 21.0, 50.0, 51.0, 51.5, 90.0]
    data = load_series(
        [write(t=odd, load=range(10))], SeriesOptions(target=("load",), window=1, validation=0.2)
    )
    told(data, "irregular")


def test_a_class_must_not_change_within_its_group(write: Write) -> None:
    group = np.repeat(np.arange(6), 5)
    labels = np.where(group % 2, "yes", "no").astype(object)
    labels[7] = "no"
    path = write(g=group, a=wave(30), label=labels)
    refused(path, "row 9", "'no'", "row 7", "'yes'", "--window", target=("label",), group="g")
    data = load_series([path], SeriesOptions(target=("label",), group="g", window=2, split="group"))
    batch = WindowIndex(data.sequences, 2).gather(np.arange(8))
    assert batch.y[:, 0, 0].tolist() == [
        0,
        0,
        0,
        0,
        1,
        0,
        1,
        1,
    ]  # that of the last step; rows 5 to 9 are group 1


def test_texts_that_are_no_classes(write: Write) -> None:
    path = write(date=days(40), a=wave(40), price=[f"{k} EUR" for k in range(40)])
    refused(path, "column price", "40 different values in 40 rows", "'0 EUR'", target=("price",))


def test_constant_columns(write: Write) -> None:
    path = write(date=days(40), load=range(40), flat=[3] * 40, heat=[*[1] * 35, *range(5)])
    data = load_series([path], SeriesOptions(target=("load",), window=2))
    assert data.features == ("load",)
    told(data, "flat", "constant (3)", "left out")
    told(data, "heat", "training")
    assert data.parts["test"][0].x.shape[1] == 1
    refused(path, "column flat", "constant (3)", target=("flat",), window=2, time="date")
    tiny = write("c.csv", date=days(40), load=[1e-310 * k for k in range(40)])
    refused(tiny, "column load", "constant", target=("load",), window=2)
    one = write("b.csv", g=np.repeat(np.arange(6), 5), a=wave(30), label=["x"] * 30)
    refused(one, "two or more classes", "'x'", target=("label",), group="g")


def test_parts_that_are_too_short(write: Write) -> None:
    path = write(date=days(40), load=range(40))
    refused(
        path,
        "valid",
        "4 rows",
        "window of 8",
        "horizon of 2",
        "10 are needed",
        target=("load",),
        window=8,
        horizon=2,
    )
    group = write("b.csv", g=[1, 1, 2, 2], a=wave(4), label=["x", "x", "y", "y"])
    refused(group, "at least 3 groups", "got 2", target=("label",), group="g")
    refused(path, "--horizon", target=("load",), task="regress", horizon=2)
    refused(path, "--split time", target=("load",), group="date", task="regress", split="time")


def test_groups_of_one_row_are_left_out_and_said(write: Write) -> None:
    group = [*np.repeat(np.arange(12), 4), 99]
    path = write(g=group, a=wave(49), label=["yes" if k % 2 else "no" for k in group])
    data = load_series([path], SeriesOptions(target=("label",), group="g", validation=0.2))
    told(data, "one piece", "left out", "99", "with 1")
    assert "99" not in {piece.name for pieces in data.parts.values() for piece in pieces}


def test_missing_numbers_are_said(write: Write) -> None:
    load: list[Any] = [*range(40)]
    load[5] = ""
    heat: list[Any] = wave(40)
    heat[0] = heat[7] = "NA"
    data = load_series(
        [write(date=days(40), load=load, heat=heat)], SeriesOptions(target=("load",), window=2)
    )
    told(data, "3 missing numbers", "load, heat")
    told(data, "1 missing values of load")


# -- splits ------------------------------------------------------------------------------------------


def used_rows(data: SeriesData) -> dict[str, set[tuple[str, int]]]:
    """The rows that the windows of each part read or predict."""
    options, used = data.options, {}
    for part, pieces in data.parts.items():
        index = WindowIndex(pieces, options.window, options.horizon or 0, options.stride)
        rows: set[tuple[str, int]] = set()
        for item in range(len(index)):
            place = index.place(item)
            piece = pieces[place.piece]
            last = place.last + (options.horizon or 0)
            assert last <= piece.steps
            rows.update((piece.name, int(row)) for row in piece.rows[place.first : last])
        used[part] = rows
    return used


@pytest.mark.parametrize("split", ["time", "group", "random"])
@pytest.mark.parametrize(("window", "horizon", "stride"), [(1, 1, 1), (5, 3, 1), (4, 2, 3)])
def test_no_row_serves_two_parts(split: str, window: int, horizon: int, stride: int) -> None:
    rng = np.random.default_rng(1)
    group = rng.permutation(np.repeat(np.arange(7), 90))
    data = series_of_tables(
        [table(g=[f"s{k}" for k in group], a=rng.standard_normal(630), y=np.arange(630.0))],
        SeriesOptions(
            target=("y",),
            group="g",
            task="forecast",
            window=window,
            horizon=horizon,
            stride=stride,
            split=split,
        ),
    )
    used = used_rows(data)
    assert set(used) == {"train", "valid", "test"}
    for part, rows in used.items():
        for other, others in used.items():
            assert part == other or not rows & others
    # Also what the model is given: the target is the row's number, so that no number may come twice.
    numbers = {
        part: set(np.concatenate([piece.y.ravel() for piece in pieces]).tolist())
        for part, pieces in data.parts.items()
    }
    assert sum(map(len, numbers.values())) == len(set().union(*numbers.values()))


def test_a_change_in_one_part_changes_no_window_of_another() -> None:
    def windows(values: np.ndarray[Any, Any]) -> dict[str, Any]:
        data = series_of_tables(
            [table(t=np.arange(200.0), y=values)],
            SeriesOptions(target=("y",), time="t", task="forecast", window=6, horizon=2),
        )
        found = {}
        for part, pieces in data.parts.items():
            index = WindowIndex(pieces, 6, 2)
            batch = index.gather(np.arange(len(index)))
            found[part] = (batch.x, batch.y)
        return found

    values = np.sin(np.arange(200.0))
    values[141] = np.nan  # the first of the validation part: not filled from the training part
    before = windows(values)
    for part, rows in {"train": slice(0, 140), "valid": slice(140, 160), "test": slice(160, 200)}.items():
        changed = values.copy()
        changed[rows] += 1000
        after = windows(changed)
        for other in before:
            for old, new in zip(before[other], after[other], strict=True):
                assert np.array_equal(old, new) == (other != part), (part, other)


def test_time_is_cut_in_order() -> None:
    data = series_of_tables(
        [table(t=np.arange(100.0), y=np.arange(100.0))],
        SeriesOptions(target=("y",), time="t", task="forecast", window=3),
    )
    latest = {part: pieces[0].time[-1] for part, pieces in data.parts.items() if pieces[0].time is not None}
    assert latest == {"train": 69, "valid": 79, "test": 99}


def grouped(split: str, seed: int = 0, **more: Any) -> SeriesData:
    """Forty groups, one in four of class b, the later ones all of class a."""
    group = np.repeat(np.arange(40), 3)
    labels = ["b" if k < 10 else "a" for k in group]
    made = table(g=[str(k) for k in group], x=wave(120), label=labels)
    return series_of_tables(
        [made], SeriesOptions(target=("label",), group="g", split=split, seed=seed, **more)
    )


def test_groups_are_dealt_out_by_seed_and_class() -> None:
    def names(data: SeriesData) -> dict[str, list[str]]:
        return {part: [piece.name for piece in pieces] for part, pieces in data.parts.items()}

    data = grouped("group")
    assert {part: len(pieces) for part, pieces in data.parts.items()} == {"train": 28, "valid": 4, "test": 8}
    for pieces in data.parts.values():
        share = np.mean([piece.y[0, 0] for piece in pieces])
        assert share == 0.25
    assert names(grouped("group")) == names(data)
    assert names(grouped("group", seed=1)) != names(data)
    assert set(grouped("group", validation=0.0).parts) == {"train", "test"}


def test_a_group_in_several_files_stays_together() -> None:
    tables = [
        table(f"{k}.csv", g=[str(g) for g in np.repeat(np.arange(9), 4)], x=wave(36), y=np.arange(36.0))
        for k in range(3)
    ]
    options = SeriesOptions(target=("y",), group="g", task="forecast", window=2, split="group")
    data = series_of_tables(tables, options)
    names = [{piece.name for piece in pieces} for pieces in data.parts.values()]
    assert sum(map(len, names)) == 9
    assert all(len(pieces) == 3 * len(held) for pieces, held in zip(data.parts.values(), names, strict=True))


# -- windows -----------------------------------------------------------------------------------------


def pieces_of(lengths: list[int], features: int = 2) -> list[Any]:
    """Sequences whose numbers say where they stand: 100 * sequence + step."""
    found = []
    for k, steps in enumerate(lengths):
        numbers = 100.0 * k + np.arange(steps)
        x = np.stack([numbers, -numbers], axis=1)[:, :features]
        data = series_of_tables(
            [table(t=np.arange(50.0), y=np.arange(50.0))], SeriesOptions(target=("y",), time="t", window=2)
        )
        found.append(data.sequences[0]._replace(name=str(k), x=x, y=numbers[:, None], rows=np.arange(steps)))
    return found


@pytest.mark.smoke
def test_windows_are_those_of_a_loop() -> None:
    pieces = pieces_of([9, 3, 12])
    for window, horizon, stride in [(3, 2, 1), (4, 0, 1), (2, 1, 3), (9, 3, 2), (1, 1, 1)]:
        index = WindowIndex(pieces, window, horizon, stride)
        expected = [
            (k, first)
            for k, piece in enumerate(pieces)
            for first in range(0, piece.steps - window - horizon + 1, stride)
        ]
        places = [index.place(item) for item in range(len(index))]
        assert [(place.piece, place.first) for place in places] == expected
        order = np.arange(len(index))[::-1]
        batch = index.gather(order, np.float32)
        assert (batch.x.dtype, batch.lengths) == (np.float32, None)
        for column, item in enumerate(order):
            k, first = expected[item]
            np.testing.assert_array_equal(batch.x[:, column], pieces[k].x[first : first + window])
            last = first + window
            targets = slice(last, last + horizon) if horizon else slice(last - 1, last)
            np.testing.assert_array_equal(batch.y[column], pieces[k].y[targets])
        assert batch.weights.min() == 1


def test_windows_are_not_copied() -> None:
    (piece,) = pieces_of([5000])
    index = WindowIndex([piece], 1000)
    stored = sum(array.nbytes for array in vars(index).values() if isinstance(array, np.ndarray))
    assert stored < 40 * piece.steps  # the windows themselves would take 1,000 times as much
    assert len(index) == 4001


def test_whole_sequences_are_padded() -> None:
    pieces = pieces_of([4, 2])
    batch = WindowIndex(pieces, None).gather(np.array([1, 0]))
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [2, 4]
    np.testing.assert_array_equal(batch.x[:, 0, 0], [100, 101, 0, 0])
    assert batch.y.ravel().tolist() == [101, 3]
    batch = WindowIndex(pieces, None, per_step=True).gather(np.array([1, 0]))
    np.testing.assert_array_equal(batch.y[..., 0], [[100, 0], [101, 1], [0, 2], [0, 3]])
    np.testing.assert_array_equal(batch.weights[..., 0], [[1, 1], [1, 1], [0, 1], [0, 1]])


def test_missing_numbers_are_filled_and_missing_targets_weigh_nothing() -> None:
    (piece,) = pieces_of([8])
    x, y = piece.x.copy(), piece.y.copy()
    x[[0, 1, 4], 0] = np.nan
    y[[3, 5, 6, 7]] = np.nan
    index = WindowIndex([piece._replace(x=x, y=y)], 2, 1, before=np.array([50.0, 60.0]))
    # Windows whose only target is missing are left out: those that end at rows 2, 4, 5 and 6.
    assert [index.place(item).last for item in range(len(index))] == [2, 4]
    batch = index.gather(np.arange(2))
    np.testing.assert_array_equal(batch.x[:, 0, 0], [50, 50])
    np.testing.assert_array_equal(batch.x[:, 1, 0], [2, 3])
    index = WindowIndex([piece._replace(x=x, y=y)], 2, 2, all_items=True)
    batch = index.gather(np.arange(len(index)))
    np.testing.assert_array_equal(batch.x[:, 3, 0], [3, 3])  # rows 3 and 4
    np.testing.assert_array_equal(batch.weights[0, :, 0], [1, 0])
    np.testing.assert_array_equal(batch.y[0, :, 0], [2, 0])
