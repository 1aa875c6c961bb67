"""Files of sweeps: what they mean, and the line that says what is wrong with one. Without Optuna."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sweep_tools import FIXED, LR, need_toml, small_sweep, sweep_file

from lstm_numba.sweeps.example import EXAMPLE
from lstm_numba.sweeps.ranges import SweepError
from lstm_numba.sweeps.reading import read_sweep
from lstm_numba.training.config import make_config

need_toml()
HEAD = 'command = "train digits"\n'


def test_what_a_file_means(tmp_path: Path) -> None:
    text = """
        command = "lstm-numba train text"
        trials = 7
        metric = "perplexity"
        sampler = "random"
        [fixed]
        file = "book.txt"
        batch-size = 3
        [ranges]
        momentum = {low = 0.0, high = 0.9, when = {optimizer = ["sgd"]}}
        optimizer = ["adam", "sgd"]
        level = ["char", "word"]
    """
    config = read_sweep(sweep_file(tmp_path, text, "trial"))
    assert (config.name, config.dataset, config.trials) == ("trial", "text", 7)
    assert (config.metric, config.direction, config.watched) == ("perplexity", "minimize", "valid")
    assert list(config.ranges) == ["optimizer", "level", "momentum"]  # conditions after what they name
    params = {"optimizer": "sgd", "level": "word", "momentum": 0.5}
    expected = make_config(
        "text",
        {"batch_size": 3, "optimizer": "sgd", "momentum": 0.5, "threads": 2},
        data={"file": str(tmp_path / "book.txt"), "level": "word"},
    )
    assert config.run_config(params, threads=2) == expected


def test_defaults_follow_from_metric_and_data(tmp_path: Path) -> None:
    assert small_sweep(tmp_path).direction == "minimize"
    assert small_sweep(tmp_path, 'metric = "accuracy"').maximizes
    none = FIXED.replace("[fixed]", "[fixed]\nvalidation = 0")
    assert read_sweep(sweep_file(tmp_path, none + LR)).watched == "train"
    assert small_sweep(tmp_path).watched == "valid"
    assert small_sweep(tmp_path).epochs == 3
    drawn = FIXED.replace("epochs = 3\n", "") + "[ranges]\nepochs = {low = 2, high = 9}"
    assert read_sweep(sweep_file(tmp_path, drawn)).epochs == 9


def test_an_option_has_the_name_of_the_command_line(tmp_path: Path) -> None:
    config = small_sweep(tmp_path)
    assert config.fixed["count"] == 80  # --images
    assert config.option("count") == "images"
    assert config.run_config({"lr": 0.1})["data"]["count"] == 80


def test_a_grid_has_all_combinations(tmp_path: Path) -> None:
    ranges = '[ranges]\nlr = [0.1, 0.2]\ncell = ["lstm", "gru"]\nlayers = {low = 1, high = 2}'
    config = small_sweep(tmp_path, 'sampler = "grid"', ranges)
    assert config.trials == 8
    assert [tuple(one.values()) for one in config.grid()][:3] == [
        (0.1, "lstm", 1),
        (0.1, "lstm", 2),
        (0.1, "gru", 1),
    ]


def test_cells_are_named_in_any_case(tmp_path: Path) -> None:
    ranges = (
        '[ranges]\ncell = ["LSTM", "Gru,f=HARDSIGMOID"]\nlayers = {choices = [1, 2], when = {cell = "Lstm"}}'
    )
    config = small_sweep(tmp_path, "", ranges)
    assert config.cells() == ["lstm", "gru,f=HardSigmoid"]
    assert config.ranges["layers"].when == {"cell": ("lstm",)}
    assert config.written["ranges"]["cell"]["choices"] == config.cells()
    text = FIXED + 'cell = "SLSTM"\n' + LR
    assert read_sweep(sweep_file(tmp_path, text)).run_config({})["cell"] == "slstm"


def test_the_example_is_sound(tmp_path: Path) -> None:
    config = read_sweep(sweep_file(tmp_path, EXAMPLE))
    assert config.dataset == "digits"  # no download
    assert set(config.ranges) == {"lr", "hidden", "cell", "optimizer", "momentum"}
    lines = [line.removeprefix("# ") for line in EXAMPLE.splitlines()]
    keys = "\n".join(line for line in lines if line.split(" ")[0] in ("sampler", "pruner", "metric", "seed"))
    changed = EXAMPLE.replace("trials = 20", f"trials = 20\n{keys}")
    again = read_sweep(sweep_file(tmp_path, changed))  # what is commented out is the default
    assert keys.count("=") == 4
    assert {n: v for n, v in vars(again).items() if n != "ranges"} == {
        n: v for n, v in vars(config).items() if n != "ranges"
    }


REFUSED = {
    "": "command: is missing",
    "a = = 3": "invalid TOML",
    'command = "train digitz"\n' + LR: "'digitz'; did you mean digits?",
    'command = "train digits --lr 3"\n' + LR: "'--lr 3' belongs under [fixed]",
    HEAD: "ranges: is missing",
    "trails = 3\n" + HEAD + LR: "trails: no such key; did you mean trials?",
    "trials = 0\n" + HEAD + LR: "trials: expected a whole number from 1, got 0",
    'metric = "perplexity"\n' + HEAD + LR: "metric: expected one of loss, accuracy, got 'perplexity'",
    'direction = "maximize"\n' + HEAD + LR: "direction: of loss expected minimize",
    'sampler = "tpee"\n' + HEAD + LR: "expected one of tpe, random, grid, got 'tpee'; did you mean tpe?",
    'sampler = "grid"\n' + HEAD + LR: "ranges.lr: sampler = \"grid\" needs a list of values, or a step",
    'sampler = "grid"\ntrials = 3\n' + HEAD + "[ranges]\nlr = [1, 2]": "the grid has 2 combinations, got 3",
    'name = ""\n' + HEAD + LR: "name: expected a text",
    HEAD + "[fixed]\nhiden = 3\n" + LR: "fixed.hiden: train digits has no such option; did you mean hidden?",
    HEAD + "[fixed]\nhidden = -3\n" + LR: "fixed.hidden: expected a whole number from 1, got -3",
    HEAD + "[fixed]\nbptt = 3\n" + LR: "fixed.bptt: is an option of train ptb, text, grammar, not",
    HEAD + "[fixed]\nthreads = 3\n" + LR: "fixed.threads: is an option of lstm-numba sweep",
    HEAD + "[fixed]\nlr = 0.1\n" + LR: "ranges.lr: stands under [fixed] too",
    HEAD + "[fixed]\nbatch-size = 3\nbatch_size = 4\n" + LR: "stands there as batch-size too",
    HEAD + "[ranges]\nlr = {low = 1}": "ranges.lr.high: is missing",
    HEAD + "[ranges]\ncell = ['a:b', 'a:b']": "ranges.cell: 'a:b' appears twice",
    HEAD + LR + "momentum = {low = 0.1, high = 0.9, when = {optimizer = 'sgd'}}":
        "ranges.momentum.when.optimizer: expected another range that is a list",
    HEAD + LR + "optimizer = ['sgd', 'adam']\nmomentum = {low = 0.1, high = 0.9, when = {optimizer = 'sdg'}}":
        "ranges.momentum.when.optimizer: expected some of sgd, adam, got 'sdg'",
    # Settings that do not go together, of which no single one is wrong:
    HEAD + LR + "optimizer = ['sgd', 'adam']\nmomentum = {low = 0.0, high = 0.9}":
        "ranges.momentum: adam has none; sgd and rmsprop do (a trial with lr = 0.001, optimizer = adam",
    HEAD + "[fixed]\nheads = 4\n[ranges]\nhidden = {low = 4, high = 12}": "fixed.heads: expected a divisor",
    'command = "train text"\n' + LR: "fixed.file: is missing",
    'command = "train series"\n' + LR: "fixed.files: is missing",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str, tmp_path: Path) -> None:
    path = sweep_file(tmp_path, text)
    with pytest.raises(SweepError) as caught:
        read_sweep(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert REFUSED[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_are_named_before_anything_trains(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("a\n1\n")
    head = 'command = "train series"\n[fixed]\n'
    config = read_sweep(sweep_file(tmp_path, f'{head}files = ["there.csv", "not.csv"]\n{LR}'))
    with pytest.raises(SweepError, match=r"fixed\.files: .*not\.csv does not exist"):
        config.check_files()
    read_sweep(sweep_file(tmp_path, f'{head}files = ["there.csv"]\n{LR}')).check_files()


def test_reading_imports_neither_optuna_nor_numba(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, EXAMPLE)
    code = (
        "import sys\n"
        "from lstm_numba.sweeps.reading import read_sweep\n"
        f"read_sweep({str(path)!r})\n"
        "print([name for name in ('optuna', 'sqlalchemy', 'numba') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
