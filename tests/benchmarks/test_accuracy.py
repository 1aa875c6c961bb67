"""Published trainings: their commands, results out of run folders, tables. Nothing is trained."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import parsed
from safetensors.numpy import save_file

from lstm_numba.benchmarks import accuracy, accuracy_runs, accuracy_tables
from lstm_numba.benchmarks.accuracy_trainings import TRAININGS
from lstm_numba.cli.train import train
from lstm_numba.errors import DataError
from lstm_numba.training.config import make_config
from lstm_numba.training.presets import PRESETS

MACHINE = {"cpu": "a processor", "vector_unit": "AVX2", "commit": "0123456789", "python": "3.11.7"}


def a_run(
    folder: Path,
    dataset: str = "mnist",
    results: tuple[float, ...] = (),
    test: float | None = None,
    preset: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """A run folder by hand, with a validation result for each epoch; its configuration."""
    config = make_config(
        dataset, options, preset=preset, data={"data_dir": f"/place/of/{folder.name}", "view": "rows"}
        if dataset == "mnist" else {"data_dir": "/place"},
    )  # fmt: skip
    measure = "accuracy" if dataset == "mnist" else "perplexity"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    lines: list[dict[str, Any]] = []
    for epoch, result in enumerate(results, 1):
        lines.append({"kind": "step", "split": "train", "epoch": epoch, measure: 0.5})
        lines.append({"kind": "epoch", "split": "train", "epoch": epoch, measure: 0.5, "seconds": 2.5})
        lines.append({"kind": "epoch", "split": "valid", "epoch": epoch, measure: result})
    if test is not None:
        lines.append({"kind": "final", "split": "test", "epoch": len(results), measure: test})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return config


# -- commands ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAININGS)
def test_the_command_line_takes_the_command(name: str) -> None:
    training = TRAININGS[name]
    preset = dict(zip(*[iter(training.options.split())] * 2, strict=False)).get("--preset", "small")
    if preset not in PRESETS:
        pytest.skip(f"there is no preset {preset}")
    program, command, dataset, *words = shlex.split(training.command)
    assert (program, command, dataset) == ("lstm-numba", "train", training.dataset)
    assert parsed(train.commands[dataset], words)["cell"] == (training.cells or ("lstm",))


@pytest.mark.parametrize(
    ("dataset", "preset", "options", "expected"),
    [
        ("mnist", None, {}, ""),
        ("mnist", None, {"validation": 0}, "--validation 0"),
        ("ptb", "medium", {}, ""),
        ("ptb", "medium", {"weight_drop": 0.2, "tie": True, "clip": 0}, "--tie --weight-drop 0.2 --clip 0"),
        ("ptb", "small", {"epochs": 2, "hold": 1}, "--epochs 2 --hold 1"),
        ("ptb", "small", {"schedule": "cosine", "warmup": 2}, "--schedule cosine --warmup 2"),
        ("mnist", None, {"bidirectional": True, "lr": 0.01}, "--bidirectional --lr 0.01"),
    ],
)
def test_options_of_a_configuration(dataset: str, preset: Any, options: Any, expected: str) -> None:
    config = make_config(dataset, {**options, "threads": 1, "seed": 3}, preset=preset)
    words = accuracy_runs.options_of(config)
    assert " ".join(words) == expected
    # The command line reads them as what the configuration says.
    params = parsed(train.commands[dataset], words)
    for option, value in options.items():
        assert params[option] == value


def test_options_of_the_data_and_what_preset_switched_on() -> None:
    config = make_config("mnist", {}, data={"view": "permuted", "data_dir": "/place"})
    assert accuracy_runs.options_of(config) == ["--view", "permuted"]
    few = make_config("digits", {}, data={"count": 300})
    assert accuracy_runs.options_of(few) == ["--images", "300"]
    with pytest.raises(DataError, match="hidden: expected a value that an option can give, got null"):
        accuracy_runs.options_of({**config, "hidden": None})


def test_trainings_are_begun_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def fake(words: list[str]) -> tuple[int, str]:
        ran.append(words)
        return 0, '{"accuracy": 0.5}\n'

    monkeypatch.setattr(accuracy, "_printed", fake)
    monkeypatch.setattr(accuracy, "facts", lambda: MACHINE)
    (tmp_path / "data/mnist").mkdir(parents=True)
    out = tmp_path / "runs"
    a_run(out / "mnist-cells/rnn-relu", cell="rnn-relu", validation=0)
    assert accuracy.run(TRAININGS["mnist-cells"], out, tmp_path / "data", 1) == 0
    end = ["--json", "--threads", "1", "--data-dir", str(tmp_path / "data/mnist")]
    rnn, relu, *others = ran
    assert rnn == ["train", "mnist", "--validation", "0", "--cell", "rnn", "--out",
                   str(out / "mnist-cells/rnn"), *end]  # fmt: skip
    assert relu == ["train", "mnist", "--resume", str(out / "mnist-cells/rnn-relu"), *end]
    assert [words[5] for words in others] == list(TRAININGS["mnist-cells"].cells[2:])
    assert json.loads((out / "mnist-cells/rnn.json").read_text()) == {"accuracy": 0.5}
    assert json.loads((out / "mnist-cells.machine.json").read_text()) == MACHINE
    ran.clear()
    accuracy.run(TRAININGS["mnist-seeds"], out, None, None)
    assert ran == [["train", "mnist", "--validation", "0", "--seeds", "5", "--cell", "lstm", "--cell", "gru",
                    "--out", str(out / "mnist-seeds"), "--json"]]  # fmt: skip
    (out / "mnist-seeds").mkdir()
    (out / "mnist-seeds/set.json").write_text("{}")
    ran.clear()
    accuracy.run(TRAININGS["mnist-seeds"], out, None, None)
    assert ran == [["train", "mnist", "--resume", str(out / "mnist-seeds"), "--json"]]


def test_a_training_that_fails_ends_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line itself refuses a folder that has something else in it."""
    monkeypatch.setattr(accuracy, "facts", lambda: MACHINE)
    (tmp_path / "mnist-cells/rnn").mkdir(parents=True)
    (tmp_path / "mnist-cells/rnn/letter.txt").write_text("mine")
    assert accuracy.main(["run", "mnist-cells", "ptb-small", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().out.count("lstm-numba train") == 1
    assert not (tmp_path / "mnist-cells/rnn.json").exists()
    assert not (tmp_path / "ptb-small.machine.json").exists()


# -- results out of run folders ------------------------------------------------------------------------


def test_a_run_that_is_complete_and_one_that_is_not(tmp_path: Path) -> None:
    a_run(tmp_path / "ptb-medium", "ptb", (200.0, 150.5), preset="medium", threads=1)
    arrays = {"model.a": np.zeros((3, 4)), "model.b": np.zeros(5), "optimizer.a": np.zeros(100)}
    save_file(arrays, tmp_path / "ptb-medium/checkpoint.safetensors")
    (row,) = accuracy_runs.rows(tmp_path / "ptb-medium", MACHINE)
    (run,) = row.pop("runs")
    assert run == {
        "seed": 0, "epochs": 2, "stopped_early": False, "test": None, "valid": [200.0, 150.5], "seconds": 5.0,
    }  # fmt: skip
    assert row == {
        "format": accuracy_runs.FORMAT, "name": "ptb-medium",
        "command": "lstm-numba train ptb --preset medium", "dataset": "ptb", "preset": "medium",
        "cell": "lstm", "options": [], "measure": "perplexity", "epochs": 39, "planned_runs": 1,
        "parameters": 17, "threads": 1, "machine": MACHINE, "started_with": row["started_with"],
    }  # fmt: skip
    a_run(tmp_path / "early", "ptb", (9.0, 8.0, 8.5), 7.5, preset="small", seed=4, early_stopping=1)
    (row,) = accuracy_runs.rows(tmp_path / "early", MACHINE)
    assert row["command"] == "lstm-numba train ptb --preset small --early-stopping 1 --seed 4"
    assert (row["runs"][0]["test"], row["runs"][0]["stopped_early"], row["parameters"]) == (7.5, True, None)
    assert "/place" not in json.dumps(row)


def test_a_set_of_seeds_and_several_cells(tmp_path: Path) -> None:
    folder = tmp_path / "seeds"
    for seed in (1, 0):
        test = 0.75 if seed else None
        a_run(folder / f"lstm/seed-{seed}", results=(0.5,), test=test, seed=seed, epochs=1)
    common = a_run(tmp_path / "other", epochs=1)
    members = [
        {"folder": f"{cell}/seed-{seed}", "name": str(seed), "settings": {"cell": cell, "seed": seed}}
        for cell in ("lstm", "gru")
        for seed in range(3)
    ]
    config = {name: value for name, value in common.items() if name not in ("cell", "seed")}
    document = {"format": 1, "kind": "seeds", "column": None, "config": config, "members": members}
    (folder / "set.json").write_text(json.dumps({**document, "skipped": {}}))
    (row,) = accuracy_runs.rows(folder, MACHINE)
    assert (row["name"], row["command"]) == ("seeds-lstm", "lstm-numba train mnist --epochs 1 --seeds 3")
    assert (row["planned_runs"], [run["seed"] for run in row["runs"]]) == (3, [0, 1])
    assert accuracy_tables.tests(row) == [0.75]
    cells = tmp_path / "cells"
    a_run(cells / "rnn", cell="rnn", validation=0)
    a_run(cells / "gru", cell="gru", validation=0)
    names = [row["name"] for row in accuracy_runs.rows(cells, MACHINE)]
    assert sorted(names) == ["cells-gru", "cells-rnn"]
    a_run(cells / "gru-2", cell="gru", validation=0, seed=1, lr=0.5)
    with pytest.raises(DataError, match="gru-2: expected the settings of gru but for the seed"):
        accuracy_runs.rows(cells, MACHINE)


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    a_run(tmp_path / "run", results=(0.25,))
    metrics = tmp_path / "run/metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"kind": "epo')
    (row,) = accuracy_runs.rows(tmp_path / "run", MACHINE)
    assert row["runs"][0]["valid"] == [0.25]
    metrics.write_text("{]\n" + metrics.read_text())
    with pytest.raises(DataError, match=r"metrics\.jsonl: line 1: invalid JSON"):
        accuracy_runs.rows(tmp_path / "run", MACHINE)


def test_collected_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "facts", lambda: {**MACHINE, "commit": "of this program"})
    a_run(tmp_path / "here", results=(0.5,), test=0.25)
    a_run(tmp_path / "there", results=(0.5,), test=float("inf"))
    (tmp_path / "there.machine.json").write_text(json.dumps({**MACHINE, "cpu": "another"}))
    paths = accuracy.collect([tmp_path / "here", tmp_path / "there"], tmp_path / "out")
    here, there = (json.loads(path.read_text()) for path in paths)
    assert (here["machine"]["cpu"], here["machine"]["commit"]) == (
        "a processor",
        None,
    )  # who trained is unknown
    assert (there["machine"]["cpu"], there["machine"]["commit"]) == ("another", "0123456789")
    assert there["runs"][0]["test"] is None  # no number in JSON
    (path,) = accuracy.collect([tmp_path / "here"], tmp_path / "out", "abc")
    assert json.loads(path.read_text())["machine"]["commit"] == "abc"
    assert accuracy.main(["collect", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")]) == 1


# -- tables --------------------------------------------------------------------------------------------


def a_row(name: str, tests: tuple[float | None, ...], **more: Any) -> dict[str, Any]:
    """A row of which each run has three epochs if complete, two otherwise."""
    runs = [
        {"seed": n, "epochs": 2 if test is None else 3, "stopped_early": False, "test": test,
         "valid": [300.0, 200.0 + n], "seconds": 1.0}
        for n, test in enumerate(tests)
    ]  # fmt: skip
    usual = {
        "name": name, "command": f"lstm-numba train {name}", "dataset": "ptb", "preset": "small",
        "cell": "lstm", "options": [], "measure": "perplexity", "epochs": 3, "planned_runs": len(tests),
        "parameters": 12345, "threads": 1, "runs": runs, "machine": MACHINE, "started_with": "0.1.0",
    }  # fmt: skip
    return {**usual, **more}


def lines_of(name: str, folder: Path, *rows: dict[str, Any]) -> list[str]:
    """The lines of a table but for its head."""
    for row in rows:
        (folder / f"{row['name']}.json").write_text(json.dumps(row))
    return accuracy_tables.TABLES[f"accuracy-{name}"](folder)[2:]


def test_table_of_cells(tmp_path: Path) -> None:
    images: dict[str, Any] = {"dataset": "mnist", "preset": None, "measure": "accuracy"}
    whole = ["--validation", "0"]
    last = {"test": 0.5, "valid": [0.2, 0.9], "epochs": 3, "stopped_early": False}
    lines = lines_of(
        "mnist", tmp_path,
        a_row("a", (0.96,), **images, cell="rnn", options=["--hidden", "9", *whole]),
        a_row("b", (0.97, 0.99, None), **images, cell="lstm", options=whole, planned_runs=5),
        a_row("c", (None,), **images, cell="gru", options=["--lr", "1"]),
        a_row("d", (0.5,), **images, options=["--view", "permuted"], runs=[last]),
    )  # fmt: skip
    assert lines == [  # best first; those without a result last
        "| `lstm` | 12,345 | 98.00 ± 1.41 | 2 of 5 | 3 |",
        "| `rnn` --hidden 9 | 12,345 | 96.00 | 1 | 3 |",
        "| `gru` --lr 1 (a tenth held out) | 12,345 |  | 0 of 1 | 2 of 3 |",
    ]
    assert accuracy_tables.permuted_table(tmp_path)[2:] == [
        "| `lstm-numba train d` | 12,345 | 50.00 | 90.00 | 3 |"
    ]


def test_table_of_penn_treebank(tmp_path: Path) -> None:
    lines = lines_of(
        "ptb", tmp_path,
        a_row("medium", (None,), preset="medium", parameters=99, epochs=39),
        a_row("small", (112.54,), parameters=5),
        a_row("other", (100.0,), parameters=7, options=["--tie"]),
        a_row("awd", (90.0,), preset="awd-small"),
    )  # fmt: skip
    assert lines == [
        "| `lstm-numba train small` | 5 | 112.5 | 114.5 | 200.0 | 120.7 | 3 |",
        "| `lstm-numba train other` | 7 | 100.0 |  | 200.0 |  | 3 |",
        "| `lstm-numba train medium` | 99 |  | 82.7 | 200.0 | 86.2 | 2 of 39 |",
    ]


def test_table_of_what_is_taken_away(tmp_path: Path) -> None:
    awd: dict[str, Any] = {"preset": "awd-small"}
    lines = lines_of(
        "awd", tmp_path,
        a_row("sgd", (95.5,), **awd, options=["--optimizer", "sgd"]),
        a_row("untied", (92.0,), **awd, options=["--no-tie"]),
        a_row("whole", (93.0,), **awd),
        a_row("open", (None,), **awd, options=["--weight-drop", "0"]),
    )  # fmt: skip
    shown = [line.split(" | ") for line in lines]
    assert [(cells[0].split()[-1], cells[2], cells[3]) for cells in shown] == [
        ("whole`", "93.0", ""), ("untied`", "92.0", "-1.0"), ("sgd`", "95.5", "+2.5"), ("open`", "", ""),
    ]  # fmt: skip
    assert accuracy_tables.ptb_table(tmp_path) == ["No results yet."]


def test_the_curve_is_drawn_of_medium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    (tmp_path / "accuracy").mkdir()
    (tmp_path / "accuracy/x.json").write_text(json.dumps(a_row("x", (112.5,))))
    with pytest.raises(DataError, match="expected a result of ptb medium, found none"):
        accuracy.draw(tmp_path)
    row = a_row("m", (None,), preset="medium", epochs=39)
    (tmp_path / "accuracy/m.json").write_text(json.dumps(row))
    text = accuracy.draw(tmp_path).read_text()
    assert all(
        shown in text for shown in ("(2 of 39 epochs)", "Zaremba et al. 2014, at the end: 86.2", ">200.0<")
    )


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy.main(["list"]) == 0
    assert "ptb-medium: lstm-numba train ptb --preset medium\n" in capsys.readouterr().out
