"""What every picture has: a name, a title, lines that differ in grey, plain ticks, and nothing cut off."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from repository import ROOT

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lstm_numba.cli import bench_plots, run_plots, series_plots, set_plots
from lstm_numba.cli.comparison import Compared
from lstm_numba.plots.style import looks, marks, plain_log, plain_number, titled

RESULTS = ROOT / "benchmarks" / "results"
EXPERIMENTS = ("gradient-flow", "long-gap", "odyssey", "toy-grammar")


def epochs(metric: str, values: Sequence[float], splits: Sequence[str] = ("train", "valid")) -> list[Any]:
    """Lines of metrics of a run."""
    return [
        {
            "kind": "epoch",
            "split": split,
            "epoch": n + 1,
            "loss": float(np.log(value)),
            metric: value,
            "lr": 0.1,
        }
        for n, value in enumerate(values)
        for split in splits
    ]


def drawn(figure: Figure) -> Any:
    """Draw a figure, and return what measures its texts."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def assert_whole(figure: Figure) -> None:
    """No title, label or legend is cut off, and titles and legends cover nothing."""
    renderer = drawn(figure)
    width, height = figure.canvas.get_width_height()
    panels = [axes for axes in figure.axes if axes.get_visible()]
    shown = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in panels:
        shown += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        shown += axes.get_legend().get_texts() if axes.get_legend() else []
    for text in shown:
        box = text.get_window_extent(renderer)
        if text.get_visible() and text.get_text():
            whole = box.x0 > -2 and box.y0 > -2 and box.x1 < width + 2 and box.y1 < height + 2
            assert whole, text.get_text()
    areas = [axes.get_window_extent(renderer) for axes in panels]
    over = [legend.get_window_extent(renderer) for legend in figure.legends]
    over += [axes.get_legend().get_window_extent(renderer) for axes in panels if axes.get_legend()]
    title = figure._suptitle.get_window_extent(renderer)  # type: ignore[attr-defined]
    for box in (*over, title):
        for area in areas:
            across = min(box.x1, area.x1) - max(box.x0, area.x0)
            down = min(box.y1, area.y1) - max(box.y0, area.y0)
            assert min(across, down) < 2
    assert not any(title.overlaps(box) for box in over)


def assert_named(figure: Figure, name: str) -> None:
    """It has a title that begins with the run's name, says more, and all of it can be read."""
    assert figure.get_suptitle().startswith(f"{name}: ")
    assert len(figure.get_suptitle()) > len(name) + 5
    assert_whole(figure)


def ticks(axes: Any) -> list[str]:
    """The labels within a vertical axis, as they are drawn."""
    drawn(axes.figure)
    low, high = axes.get_ylim()
    return [
        label.get_text()
        for label, place in zip(axes.yaxis.get_ticklabels(), axes.yaxis.get_ticklocs(), strict=True)
        if low <= place <= high
    ]


def look(line: Line2D) -> tuple[Any, ...]:
    """What is left of a line in grey."""
    hollow = str(line.get_markerfacecolor()) == "white"
    return line.get_linestyle(), line.get_marker() if line.get_markersize() else "", hollow


# -- runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (90.0, 220.0, ["100", "125", "150", "175", "200"]),
        (112.4, 4800.0, ["200", "500", "1,000", "2,000"]),
        (1.02, 1.07, ["1.02", "1.03", "1.04", "1.05", "1.06", "1.07"]),
        (13.0, 250.0, ["20", "50", "100", "200"]),
        (2.0, 3e6, ["10", "100", "1,000", "10,000", "100,000", "1,000,000"]),
    ],
)
def test_a_perplexity_has_plain_ticks(low: float, high: float, wanted: list[str]) -> None:
    figure = run_plots.perplexity(epochs("perplexity", np.geomspace(high, low, 5).tolist()), "r")
    (axes,) = figure.axes
    axes.set_ylim(low, high)
    found = ticks(axes)
    assert [text for text in found if text] == wanted
    assert axes.yaxis.get_offset_text().get_text() == ""
    assert axes.get_yscale() == "log"
    curves = run_plots.learning_curves(epochs("perplexity", [high, low]), "r").axes[1]
    assert curves.get_ylabel() == "perplexity"
    assert all(text.replace(",", "").replace(".", "").isdigit() for text in ticks(curves))


def test_a_loss_has_no_offset() -> None:
    lines = epochs("accuracy", [0.90001, 0.90002])
    for line in lines:
        line["loss"] += 1000.0
    axes = run_plots.learning_curves(lines, "r").axes[0]
    drawn(axes.figure)
    assert axes.yaxis.get_offset_text().get_text() == ""


def test_pictures_of_a_run_are_named_and_whole() -> None:
    name = "my run with a name of sixty characters, which is the most 60"
    values = [300.0, 150.0, 120.0]
    for figure in (
        run_plots.learning_curves(epochs("perplexity", values), name),
        run_plots.learning_curves(epochs("accuracy", [0.5, 0.7]), "$digits"),
        run_plots.learning_curves(epochs("mae", [0.5, 0.7]), "s"),
        run_plots.perplexity(epochs("perplexity", values), name, 13.5),
        run_plots.confusion_matrix(np.eye(3, dtype=np.int64), ["a" * 20, "b", "c"], name),
    ):
        whole = figure.get_suptitle().replace("\n", " ").replace("\\$", "$")
        assert whole.startswith((f"{name}: ", "$digits: ", "s: "))
        assert_whole(figure)
        for axes in figure.axes:
            assert axes.get_ylabel()
    left, _, right = run_plots.learning_curves(epochs("accuracy", [0.5, 0.7]), "r").axes
    assert left.get_ylabel() == "loss (nats)"
    assert right.get_ylim()[0] == 0.0


def test_splits_differ_in_grey() -> None:
    lines = epochs("perplexity", [3.0, 2.0], ("train", "valid", "test"))
    for figure in (run_plots.learning_curves(lines, "r"), run_plots.perplexity(lines, "r", 1.5)):
        shown = figure.axes[0].lines
        assert len(shown) in (3, 4)
        assert len({line.get_linestyle() for line in shown}) == len(shown)
        assert len({look(line) for line in shown}) == len(shown)


@pytest.mark.parametrize("count", [2, 7, 12])
def test_runs_differ_in_grey(count: int) -> None:
    runs = {f"run {n}": epochs("accuracy", [0.5 + n / 100, 0.6]) for n in range(count)}
    figure = run_plots.compared_curves(runs, "accuracy", "digits")
    assert_named(figure, "digits")
    (legend,) = figure.legends
    assert len({look(line) for line in legend.get_lines()}) == count
    assert len({look(line) for line in figure.axes[0].lines}) == 2 * count  # train and valid of each
    cells = {
        f"cell {n}": [Compared("x", {}, lines, "accuracy", None)] for n, lines in enumerate(runs.values())
    }
    of_sets = set_plots.set_curves(cells, "accuracy", "seeds", "ten")
    assert_named(of_sets, "ten")
    assert len({look(line) for line in of_sets.legends[0].get_lines()}) == count
    assert [axes.get_ylabel() for axes in of_sets.axes] == ["loss (nats)", "accuracy (%)"]


def test_pictures_of_series() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(500, 2))
    shown = series_plots.Shown(("load", "price $"), true, true + 0.1, true - 1, true + 1, "80 %", 24)
    figure = series_plots.predictions(shown, "forecast", "series-1")
    assert_named(figure, "series-1")
    assert "24 steps ahead" in figure.get_suptitle()
    assert [axes.get_ylabel() for axes in figure.axes] == ["load", r"price \$"]
    for axes in figure.axes:
        assert len({line.get_linestyle() for line in axes.lines}) == 2
    errors = series_plots.residuals(shown, "series-1")
    assert_named(errors, "series-1")
    bars = errors.axes[1].patches
    assert {bar.get_x() for bar in bars} == {0.0}
    assert sum(bar.get_width() for bar in bars) == 500
    constant = series_plots.residuals(shown._replace(true=shown.middle), "r")
    assert max(bar.get_width() for bar in constant.axes[1].patches) == 500


# -- benchmarks --------------------------------------------------------------------------------------


def benchmark() -> dict[str, Any]:
    """The committed comparison on the older processor."""
    return dict(json.loads((RESULTS / "zen3-avx2" / "layers.json").read_text(encoding="utf-8")))


def test_bars_of_a_benchmark() -> None:
    document = benchmark()
    (first, *_) = document["rows"]
    figures = bench_plots.draw({**document, "rows": [first]}, None)
    (figure,) = figures.values()
    assert_named(figure, "bench")
    (axes,) = figure.axes
    assert axes.get_ylim()[0] == 0.0
    assert axes.get_ylabel() == "GFLOP/s"
    assert {bar.get_y() for bar in axes.patches} == {0.0}
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["lstm_numba, 1 thread", "lstm_numba", "PyTorch", "ONNX Runtime"]
    heights = {name: bar.get_height() for name, bar in zip(names, axes.patches, strict=True)}
    ours = first["flops"] / 1e9 / first["contestants"]["cpu-parallel"]["median"]
    assert heights["lstm_numba"] == pytest.approx(ours)
    assert [text.get_text() for text in axes.texts] == [f"{height:.3g}" for height in heights.values()]
    hatches = {(bar.get_hatch(), bar.get_facecolor()[:3]) for bar in axes.patches}
    assert len(hatches) == len(names)
    assert len({hatch for hatch, _ in hatches}) >= 3


def test_every_shape_has_its_own_axis() -> None:
    document = benchmark()
    rows = [row for row in document["rows"] if row["task"] == "training"][:6]
    (figure,) = bench_plots.draw({**document, "rows": rows}, None).values()
    assert_named(figure, "bench")
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == len(rows)
    assert {axes.get_ylim()[0] for axes in panels} == {0.0}
    for axes, row in zip(panels, rows, strict=True):
        assert axes.get_title().startswith(f"{row['cell']}\n{row['shape']['name']}: ")
        assert len(axes.texts) == len(row["contestants"])


def test_curves_of_a_benchmark_differ_in_grey() -> None:
    document = benchmark()
    rows = [row for row in document["rows"] if row["task"] == "inference" and row["cell"] == "lstm"]
    rows = [row for row in rows if row["shape"]["batch"] == 20]
    (figure,) = bench_plots.draw({**document, "rows": rows}, "hidden").values()
    assert_named(figure, "bench")
    (axes,) = figure.axes
    marked = [line for line in axes.lines if line.get_linestyle() != "None" and len(line.get_xdata()) == 3]
    assert len({look(line) for line in marked}) == 4
    assert axes.get_ylim()[0] == 0.0


# -- experiments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_pictures_of_experiments(name: str) -> None:
    document = json.loads((RESULTS / "experiments" / f"{name}.json").read_text(encoding="utf-8"))
    module = importlib.import_module(f"lstm_numba.plots.{name.replace('-', '_')}")
    for figure in module.figures(document).values():
        assert_named(figure, name)


# -- what they share ---------------------------------------------------------------------------------


def test_looks_differ() -> None:
    for count in (1, 4, 7, 28, 56):
        found = looks(count)
        grey = {(one["linestyle"], one["marker"], one["markerfacecolor"] == "white") for one in found}
        assert len(grey) == count
        assert len({str(one["color"]) for one in found}) == count
    assert [marks(n, "red")["markerfacecolor"] for n in (0, 6, 7, 13)] == ["red", "red", "white", "white"]


def test_a_long_title_is_wrapped_and_no_formula() -> None:
    figure = Figure(figsize=(4, 3), layout="constrained")
    figure.subplots()
    titled(figure, "a_name_$of_a_run$", "and a long sentence about what is to be seen in it " * 2)
    assert figure.get_suptitle().count("\n") >= 2
    assert figure.get_suptitle().startswith(r"a_name_\$of_a_run\$: ")
    assert_whole(figure)


def test_plain_numbers() -> None:
    values = (0.0003, 0.5, 2.5, 100.0, 1500.0, 2e6)
    assert [plain_number(v) for v in values] == ["0.0003", "0.5", "2.5", "100", "1,500", "2,000,000"]


@pytest.mark.parametrize("high", [1.1, 2.0, 4.9, 5.1, 30.0, 900.0, 1e4, 1e9])
def test_a_logarithmic_axis_has_a_few_ticks(high: float) -> None:
    figure = Figure()
    axes = figure.subplots()
    plain_log(axes)
    axes.set_ylim(1.0, high)
    places = [place for place in axes.yaxis.get_ticklocs() if 1.0 <= place <= high]
    assert 2 <= len(places) <= 10
    assert all(b > a for a, b in pairwise(places))
