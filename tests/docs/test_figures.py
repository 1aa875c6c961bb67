"""Tables and pictures of figures are those of the result files."""

from __future__ import annotations

import copy
import itertools
import json
import re
import shutil
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from repository import ROOT

from lstm_numba.benchmarks import figures, stored_tables, summary
from lstm_numba.benchmarks.figure_tables import all_epochs_table, epochs_table, peers_table, share_table
from lstm_numba.cells import find_cell

RESULTS = ROOT / "benchmarks/results"
FOLDERS = sorted({path.parent for path in RESULTS.glob("*/layers.json")})
PAGES = figures.pages()


def _read(path: str) -> Any:
    return json.loads((RESULTS / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", figures.folders(), ids=lambda folder: folder.name)
def test_a_folders_page_is_of_its_files(folder: Path) -> None:
    assert (folder / "README.md").read_text(encoding="utf-8") == figures.page(folder)


def test_pages_have_tables() -> None:
    assert {path.relative_to(ROOT).as_posix() for path in PAGES} >= {
        "README.md", "benchmarks/README.md", "benchmarks/results/accuracy/README.md",
    }  # fmt: skip
    text = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    for name in figures.OTHER_TABLES.keys() - {"accuracy-runs"}:
        assert re.search(rf"<!-- figures (\S+ )?{name} -->\n", text), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_pages_tables_are_of_the_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert figures.with_tables(text, page.parent) == text


def test_a_block_names_a_folder_and_a_table(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kill_and_resume.txt").write_text("killed 3 times; 2 of 4 final checkpoints identical\n")
    page = "before\n<!-- figures {} kill-and-resume -->\nold\n<!-- end of figures -->\nafter\n"
    text = figures.with_tables(page.format("mine"), tmp_path)
    assert "| kill_and_resume.txt | 4 | 3 | 2 of 4 |\n" in text
    assert "old" not in text
    assert text.endswith("<!-- end of figures -->\nafter\n")
    without_folder = figures.with_tables(page.replace("{} ", ""), tmp_path)
    assert "| all | 30 | 42 | 30 of 30 |" in without_folder
    for words in ("mine nothing", "mine kill-and-resume more", "nothing"):
        with pytest.raises(ValueError, match=f"figures {words}: expected a folder and one of layers, "):
            figures.with_tables(f"<!-- figures {words} -->\n<!-- end of figures -->", tmp_path)


def test_a_table_says_what_the_file_says() -> None:
    document = json.loads((FOLDERS[0] / "layers.json").read_text())
    before = peers_table(document)
    row = next(row for row in document["rows"] if row["cell"] == "lstm" and "pytorch" in row["ratios"])
    changed = copy.deepcopy(document)
    index = document["rows"].index(row)
    changed["rows"][index]["ratios"]["pytorch"] = 0.123
    after = peers_table(changed)
    assert any("**0.12**" in line for line in after)
    assert before != after


def test_the_fraction_says_what_is_left_to_gain() -> None:
    row = {
        "cell": "lstm", "task": "training", "shape": {"name": "mnist"}, "share": 0.8,
        "ratios": {"pytorch": 1.2, "onnxruntime": 2.0},
        "contestants": {"cpu-parallel": {"median": 0.004}, "pytorch": {"median": 0.0048}},
    }  # fmt: skip
    alone = {**row, "ratios": {}}
    lines = share_table({"rows": [row, alone]})
    assert lines[-2] == "| LSTM | training | mnist |  | 4 | 4.8 |  | 80% | 1.50 |"
    assert lines[-1].endswith("| 80% |  |")


def test_every_section_can_be_measured() -> None:
    """Its program takes the words that it is given."""
    for name, section in figures.SECTIONS.items():
        programs = ("jit_step", "layer_options", "clockwork", "epochs", "own_data")
        assert section.module in ("lstm_numba", *(f"lstm_numba.benchmarks.{program}" for program in programs))
        assert section.title, name
        for option, value in itertools.pairwise(section.words):
            if option in ("--cell", "--other"):
                assert find_cell(value) is not None, name


def test_epochs_are_named_by_their_training() -> None:
    document = {
        "command": "python benchmarks/epochs.py ptb --preset small --epochs 1 --rounds 1 --json x.json",
        "seconds": {"lstm_numba": [100.0, 90.0, 110.0], "pytorch": [200.0]},
    }
    line = "| `lstm-numba train ptb --preset small` | 100.00 (90.00 to 110.00) | 200.00 | 2.00 |"
    assert epochs_table(document)[-1] == line
    slower = {**document, "seconds": {"lstm_numba": [100.0], "pytorch": [60.0]}}
    assert all_epochs_table([document, slower])[-2:] == [
        line, "| `lstm-numba train ptb --preset small` | 100.00 | 60.00 | **0.60** |",
    ]  # fmt: skip


# -- the README's table and picture --------------------------------------------------------------------


def _mean(ratios: list[float]) -> float:
    product = 1.0
    for ratio in ratios:
        product *= ratio
    return product ** (1 / len(ratios))


@pytest.mark.parametrize(("machine", "folder"), [("Zen 3, AVX2", "zen3-avx2"), ("Zen 5, AVX2", "zen5-avx2")])
def test_the_summary_is_of_the_times(machine: str, folder: str) -> None:
    """Ratios out of medians of seconds, not of what the files say of ratios."""
    of_peer = {
        column.peer: column.ratios
        for column in summary.processor_columns(RESULTS)
        if column.machine == machine
    }
    rows = [
        row["contestants"]
        for row in _read(f"{folder}/layers.json")["rows"]
        if (row["cell"], row["task"]) == ("gru", "training")
    ]
    expected = [median(of["pytorch"]["seconds"]) / median(of["cpu-parallel"]["seconds"]) for of in rows]
    assert of_peer["PyTorch"]["GRU training"] == pytest.approx(expected)
    lines = figures.OTHER_TABLES["summary"](RESULTS)
    column = lines[0].split(" | ").index(f"{machine}: PyTorch")
    (line,) = (line for line in lines if line.startswith("| GRU training |"))
    shown = line.split(" | ")[column].split()
    assert float(shown[0]) == pytest.approx(_mean(expected), abs=0.006)
    epochs = _read(f"{folder}/mnist-lstm.json")["seconds"]
    assert of_peer["PyTorch"]["MNIST epoch, LSTM"] == [
        median(epochs["pytorch"]) / median(epochs["lstm_numba"])
    ]


def test_the_summary_fits_and_shows_losses() -> None:
    lines = figures.OTHER_TABLES["summary"](RESULTS)
    assert len(lines) <= 14
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "(**0.72** to 3.06)" in "\n".join(lines)
    assert summary._cell([0.5, 8.0]) == "2.00 (**0.50** to 8.00)"
    assert summary._cell([0.25, 1.0]) == "**0.50** (**0.25** to 1.00)"
    assert (summary._cell([12.4]), summary._cell([0.5]), summary._cell([])) == ("12", "**0.50**", "")


def test_one_step_per_call_is_of_the_stream() -> None:
    (column,) = (
        column
        for column in summary.processor_columns(RESULTS)
        if (column.machine, column.peer) == ("Zen 3, AVX2", "ONNX Runtime")
    )
    times = {entry["name"]: entry["median"] for entry in _read("zen3-avx2/steps.json")["lstm step"]}
    ratio = times["onnxruntime"] / times["from Python, Stream.step"]
    assert column.ratios["LSTM, one step per call"] == pytest.approx([ratio])


def _picture() -> Any:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from lstm_numba.plots.ratios import draw

    return draw(summary.processor_columns(RESULTS))


def test_the_picture_shows_the_ratios() -> None:
    figure = _picture()
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]  # both panels have the same
    assert names == ["lstm_numba", "PyTorch", "ONNX Runtime", "lstm_numba", "PyTorch"] * 2
    assert [axes.get_title() for axes in figure.axes] == ["Zen 5, AVX-512", "Zen 3, AVX2"]
    for axes in figure.axes:
        assert axes.get_xlim()[0] == 0
        bars = {round(bar.get_y() + bar.get_height() / 2, 6): bar for bar in axes.patches}
        assert all(bar.get_x() == 0 for bar in bars.values())
        widths = [bars[round(tick, 6)].get_width() for tick in axes.get_yticks()]
        assert [width for name, width in zip(names, widths, strict=True) if name == "lstm_numba"] == [1.0] * 4
        printed = [text.get_text() for text in axes.texts if text.get_text()[:1].isdigit()]
        assert [f"{width:.2f}" for width in widths] == [text.split()[0] for text in printed]
    widths = [bar.get_width() for bar in figure.axes[1].patches]
    (gru,) = (
        column.ratios["GRU training"]
        for column in summary.processor_columns(RESULTS)
        if (column.machine, column.peer) == ("Zen 3, AVX2", "PyTorch")
    )
    assert widths[-1] == pytest.approx(_mean(gru))


def test_the_committed_picture_is_small_adaptive_and_of_the_files() -> None:
    path = RESULTS / "pictures/ratios.svg"
    text = path.read_text(encoding="utf-8")
    assert len(text) < 30_000
    assert "prefers-color-scheme:dark" in text
    assert "#123456" not in text
    shown = re.findall(r"<text [^>]*>([^<]+)</text>", text)
    figure = _picture()
    for axes in figure.axes:
        for found in (*axes.texts, *axes.get_yticklabels(), axes.title):
            assert found.get_text() in shown


def test_perplexities_have_plain_ticks_and_the_published_line() -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from lstm_numba.plots.adaptive import svg
    from lstm_numba.plots.perplexity import draw

    figure = draw("medium", [400.0, 200.0, 150.0, 121.5], 39, 86.2, "a paper")
    (axes,) = figure.axes
    content = svg(figure).decode()
    shown = re.findall(r"<text [^>]*>([^<]+)</text>", content)
    assert {"100", "160", "200", "121.5", "lstm_numba (4 of 39 epochs)", "a paper, at the end: 86.2"} <= {
        *shown
    }
    curve, line = axes.lines
    assert list(curve.get_xdata()) == [1, 2, 3, 4]
    assert [*line.get_ydata()] == [86.2, 86.2]
    assert curve.get_linestyle() != line.get_linestyle()
    assert axes.get_ylim()[0] < 86.2
    whole = draw("all", [2.0, 1.5], 2)
    assert "lstm_numba (2 epochs)" in svg(whole).decode()
    with pytest.raises(ValueError, match="values: expected the perplexity of one epoch or more, got none"):
        draw("none", [], 39)


# -- tables of programs of their own -------------------------------------------------------------------


def test_losses_are_all_that_is_slower() -> None:
    folder = RESULTS / "zen3-avx2"
    lines = stored_tables.losses(folder)[2:]
    slower = [
        (row["cell"], ratio, row["share"])
        for name in ("layers", "cold")
        for row in _read(f"zen3-avx2/{name}.json")["rows"]
        for ratio in row["ratios"].values()
        if ratio < 0.995
    ]
    assert len(lines) == len(slower) > 5
    for line, (cell, ratio, fraction) in zip(lines, slower, strict=True):
        assert line.startswith(f"| {cell.upper()} inference")
        assert f"**{ratio:.2f}** | {fraction:.0%}" in line


def test_ranks_by_hand(tmp_path: Path) -> None:
    document = {
        "seconds": {"2 threads": [0.06, 0.05, 0.08], "2 ranks": [0.07], "1 thread": [0.1]},
        "model": {"strong": [{"ranks": 4, "rows": 160, "apart": 0.6, "overlapped": 0.5, "alone": 1.8}]},
    }
    (tmp_path / "ranks.json").write_text(json.dumps(document))
    assert stored_tables.ranks(tmp_path)[2] == "| 1 process, 2 threads | 60.0 (50.0 to 80.0) |"
    assert stored_tables.ranks_model(tmp_path)[2] == "| 4 | 160 | 600 | 500 | 90% |"


def test_many_models_are_over_ours(tmp_path: Path) -> None:
    seconds = {"models=N": [0.1, 0.1, 0.1], "PyTorch loop": [2.0, 1.0, 3.0]}
    (tmp_path / "many_models.json").write_text(json.dumps({"rows": [{"seconds": seconds}]}))
    assert stored_tables.many_models(tmp_path)[2:] == [
        "| `LSTM(8, 32, models=256)`, 2 threads | 100.0 (100.0 to 100.0) | 1 |",
        "| PyTorch, a loop over 256 modules, 2 threads | 2000 (1500 to 2500) | 20 |",
    ]


def test_a_network_that_is_slower_is_bold(tmp_path: Path) -> None:
    document = _read("zen3-avx2/networks.json")
    row = document["rows"][0]
    changed = {**row, "ratio": 0.5, "ratio_quartiles": [0.4, 0.6], "theirs": 2e-3, "ours": 4e-3}
    (tmp_path / "networks.json").write_text(json.dumps({"rows": [changed]}))
    (line,) = stored_tables.networks(tmp_path)[2:]
    assert line.endswith("| 4 ms per step | 2 ms, ONNX Runtime | **0.50** (0.40 to 0.60) |")


def test_a_file_of_kills_without_a_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kill_and_resume_9.txt").write_text("uninterrupted: 1.1 s\n")
    with pytest.raises(ValueError, match=r"kill_and_resume_9\.txt: expected a line 'killed N times"):
        stored_tables.kill_and_resume(tmp_path)


def test_ratios_to_cudnn_leave_tf32_out(tmp_path: Path) -> None:
    for cell, file in (("lstm", "on_gpu_4.jsonl"), ("gru", "on_gpu_5.jsonl")):
        of = {"cell": cell, "shape": "mnist", "task": "training"}
        lines = [
            {**of, "kind": "kernels", "device_us": 200.0},
            {**of, "kind": "cudnn", "device_us": 100.0 if cell == "lstm" else 300.0, "tf32": False},
            {**of, "kind": "cudnn", "device_us": 1.0, "tf32": True},
            {"kind": "barrier", "us": 1.0},
        ]
        (tmp_path / file).write_text("\n".join(map(json.dumps, lines)))
    assert stored_tables.cudnn_ratios(tmp_path) == {
        ("lstm", "training"): {"mnist": 0.5}, ("gru", "training"): {"mnist": 1.5},
    }  # fmt: skip
    assert stored_tables.cudnn(tmp_path)[2:] == ["| LSTM training | **0.50** |", "| GRU training | 1.50 |"]


def test_pages_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`figures pages` mends a page, whatever is in its blocks; `figures readme` one page."""
    results = tmp_path / "benchmarks/results"
    shutil.copytree(RESULTS / "zen5-avx2", results / "zen5-avx2")
    block = "<!-- figures {} layers -->\n{}<!-- end of figures -->\n"
    (tmp_path / "README.md").write_text(block.format("benchmarks/results/zen5-avx2", ""))
    other = tmp_path / "benchmarks/other.md"
    other.write_text(block.format("results/zen5-avx2", "| typed |\n"))
    (results / "zen5-avx2/README.md").write_text("old")
    monkeypatch.setattr(figures, "RESULTS", results)
    monkeypatch.setattr("sys.argv", ["figures", "pages"])
    figures.main()
    table = "\n".join(peers_table(_read("zen5-avx2/layers.json")))
    assert (tmp_path / "README.md").read_text() == block.format("benchmarks/results/zen5-avx2", table + "\n")
    assert other.read_text() == block.format("results/zen5-avx2", table + "\n")
    assert (results / "zen5-avx2/README.md").read_text().startswith("# zen5-avx2\n")
    other.write_text(block.format("results/zen5-avx2", ""))
    monkeypatch.setattr("sys.argv", ["figures", "readme", str(other)])
    figures.main()
    assert table in other.read_text()


@pytest.mark.parametrize("action", ["pages", "picture"])
def test_an_installed_package_has_no_pages(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "nothing")
    monkeypatch.setattr("sys.argv", ["figures", action])
    with pytest.raises(SystemExit):
        figures.main()
    assert "nothing: expected the results of a checkout, found no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [("pages x.md", "pages: expected no path, got x.md"), ("readme", "readme: expected a path, got none")],
)
def test_wrong_words(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["figures", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        figures.main()
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
