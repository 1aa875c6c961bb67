"""Checkpoint files and run folders: what is written comes back; what is damaged is named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_numba.errors import CheckpointError
from lstm_numba.training import checkpoint
from lstm_numba.training.config import ConfigError, make_config
from lstm_numba.training.run import MetricsLog, Run
from lstm_numba.training.settings import SETTINGS

TENSORS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1.5, -0.0, np.pi]),
    "scalar": np.array(3.0),
    "empty": np.zeros((0, 4), np.float32),
}
LINE = {"kind": "step", "split": "train", "epoch": 1}
META: dict[str, Any] = {"rng": {"state": 2**127 + 1}, "loss": 0.1 + 0.2, "none": None, "name": "naïve"}


def test_everything_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TENSORS, META)
    tensors, meta = checkpoint.load(path)
    assert meta == META
    assert tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert tensors[name].dtype == array.dtype
        assert tensors[name].tobytes() == array.tobytes()
        assert tensors[name].shape == array.shape
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TENSORS, META)
    first = path.read_bytes()
    for _ in range(20):
        checkpoint.save(path, dict(reversed(TENSORS.items())), dict(reversed(META.items())))
        assert path.read_bytes() == first


def test_transposed_arrays_are_stored_as_they_look(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", {"t": TENSORS["b"].T}, {})
    np.testing.assert_array_equal(checkpoint.load(tmp_path / "c")[0]["t"], TENSORS["b"].T)


def test_every_kind_of_damage_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"w": np.arange(8.0), "v": np.ones((2, 2), np.float32)}, META)
    good = path.read_bytes()
    damaged = [good[:length] for length in (0, 1, 7, 8, 9, 100, len(good) - 1)]
    damaged += [good + b"x", b"\xff" * 8 + good[8:], b"not a checkpoint at all", b"\0" * 200]
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(good), 200):
        broken = bytearray(good)
        broken[place] ^= int(rng.integers(1, 256))
        damaged.append(bytes(broken))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert len(damaged) > 200
    path.unlink()
    with pytest.raises(CheckpointError, match="the checkpoint does not exist"):
        checkpoint.load(path)
    with pytest.raises(CheckpointError, match="is a folder"):
        checkpoint.load(tmp_path)


def test_foreign_safetensors_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "c.safetensors"
    save_file({"w": np.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        checkpoint.load(path)


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TENSORS, META)
    good = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {}, {})
    assert path.read_bytes() == good
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_content_is_on_disk_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(descriptor: int) -> None:
        happened.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def spy_replace(self: Path, target: Any) -> Path:
        happened.append("rename")
        return replace(self, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to tell files from folders")
    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    checkpoint.save(tmp_path / "c", {}, {})
    assert happened == ["file", "rename", "folder"]


def test_meta_must_be_json_numbers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoint.save(tmp_path / "c", {}, {"loss": float("nan")})


# -- run folders -------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_run_opens_as_it_was_made(tmp_path: Path) -> None:
    config = make_config("digits", {"hidden": 7})
    made = Run.create(tmp_path / "deep" / "run", config)
    opened = Run.open(tmp_path / "deep" / "run")
    assert opened.config == made.config == config
    with pytest.raises(CheckpointError, match="already holds a run"):
        Run.create(tmp_path / "deep" / "run", config)


def test_bad_run_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"run folder .*nowhere does not exist"):
        Run.open(tmp_path / "nowhere")
    path = tmp_path / "config.json"
    config = make_config("digits")
    for content, text in (
        ("", "damaged"),
        ("[1]", "expected an object"),
        ('{"format": 1', "damaged"),
        (json.dumps({**config, "hidden": -3}), "hidden: expected a whole number from 1, got -3"),
        (json.dumps({**config, "format": 9}), "format: expected one of 1, got 9"),
        (json.dumps({n: v for n, v in config.items() if n != "lr"}), "lr: is missing"),
    ):
        path.write_text(content)
        with pytest.raises(CheckpointError, match=text) as caught:
            Run.open(tmp_path)
        assert str(path) in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot make the run folder"):
        Run.create(tmp_path / "file" / "run", config)


def test_a_configuration_of_an_earlier_version_has_the_defaults(tmp_path: Path) -> None:
    """Of settings that there were not yet; they are written when the run goes on."""
    config = make_config("digits", {"hidden": 7})
    Run.create(tmp_path, config)
    path = tmp_path / "config.json"
    later = [name for name, setting in SETTINGS.items() if setting.later]
    assert {"weight_drop", "init", "zoneout", "proj_size", "periods"} <= {*later}
    earlier = {n: v for n, v in config.items() if n not in later}
    assert len(earlier) == len(config) - len(later)
    path.write_text(json.dumps(earlier))
    run = Run.open(tmp_path)
    assert run.config == config
    assert (config["weight_drop"], config["init"]) == (0.0, "uniform")
    run.keep_config()
    assert json.loads(path.read_text()) == config


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 0.05), ({"init": "uniform"}, 0.05), ({"init": "orthogonal"}, None)],
)
def test_an_initialisation_wins_over_the_range_of_a_preset(options: dict[str, Any], expected: Any) -> None:
    assert make_config("ptb", options, preset="medium")["init_range"] == expected


def test_metrics_are_cut_to_what_the_checkpoint_knows(tmp_path: Path) -> None:
    run = Run(tmp_path, {})
    assert run.metrics() == []
    with MetricsLog(run.metrics_path, 0) as log:
        for k in range(5):
            log.append({**LINE, "step": k, "loss": float("inf") if k == 1 else 0.5})
        assert log.lines == 5
    assert run.metrics()[1] == {**LINE, "step": 1, "loss": None}
    with run.metrics_path.open("ab") as file:
        file.write(b'{"step": 5, "lo')  # the process was killed in mid-line
    assert [line["step"] for line in run.metrics()] == [0, 1, 2, 3, 4]
    with MetricsLog(run.metrics_path, 3) as log:
        assert log.lines == 3
        log.append({**LINE, "step": 99})
    assert [line["step"] for line in run.metrics()] == [0, 1, 2, 99]
    with MetricsLog(run.metrics_path, 10) as log:  # somebody removed lines: go on with what there is
        assert log.lines == 4
    run.metrics_path.write_text(json.dumps({**LINE, "step": 1}) + "\nnonsense\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: damaged: line 2"):
        run.metrics()


def test_vocabulary_must_stay_the_same(tmp_path: Path) -> None:
    run = Run(tmp_path, {})
    assert run.vocabulary() is None
    run.keep_vocabulary("char", ("a", "é", "\n"))
    run.keep_vocabulary("char", ("a", "é", "\n"))
    assert run.vocabulary() == {"level": "char", "tokens": ["a", "é", "\n"]}
    with pytest.raises(CheckpointError, match="the text has other chars"):
        run.keep_vocabulary("char", ("a", "b", "\n"))
    run.vocabulary_path.write_text('{"level": "char"}')
    with pytest.raises(CheckpointError, match="damaged: expected level and tokens"):
        run.vocabulary()


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    run = Run.create(tmp_path, make_config("digits"))
    other = Run.open(tmp_path).locked()
    with run.locked(), pytest.raises(CheckpointError, match="another process is training"):
        other.__enter__()
    with run.locked():
        pass


# -- configurations ----------------------------------------------------------------------------------


def test_presets_are_the_published_ones() -> None:
    """Zaremba et al. 2014, section 4.1, number by number."""
    published = {
        "small": (200, 20, 13, 0.0, 0.1, 5.0, 4, 0.5),
        "medium": (650, 35, 39, 0.5, 0.05, 5.0, 6, 1 / 1.2),
        "large": (1500, 35, 55, 0.65, 0.04, 10.0, 14, 1 / 1.15),
    }
    for name, (hidden, bptt, epochs, dropout, init_range, clip, hold, decay) in published.items():
        config = make_config("ptb", preset=name)
        assert config["preset"] == name
        assert (config["cell"], config["layers"], config["batch_size"]) == ("lstm", 2, 20)
        assert (config["optimizer"], config["lr"], config["forget_bias"]) == ("sgd", 1.0, 0.0)
        assert (config["hidden"], config["bptt"], config["epochs"]) == (hidden, bptt, epochs)
        assert (config["dropout"], config["init_range"], config["clip"]) == (dropout, init_range, clip)
        assert config["schedule"] == "ptb"
        assert config["schedule_options"] == {"hold": hold, "decay": decay}
        assert not config["tie"]
    assert make_config("ptb") == make_config("ptb", preset="small")


def test_what_the_user_gives_wins_over_the_preset() -> None:
    config = make_config("ptb", {"hidden": 64, "schedule": "cosine", "clip": 0, "lr": None}, preset="medium")
    assert (config["hidden"], config["lr"], config["clip"], config["bptt"]) == (64, 1.0, None, 35)
    assert config["schedule_options"] == {"warmup": 0, "final": 0.0}
    assert make_config("mnist", {"optimizer": "adamw"})["weight_decay"] == 0.01
    assert make_config("mnist", {"optimizer": "adamw", "weight_decay": 0})["weight_decay"] == 0
    assert make_config("text", {"schedule": "ptb", "hold": 2}, data={"file": "x"})["schedule_options"] == {
        "hold": 2,
        "decay": 0.5,
    }


def test_no_configuration_shares_its_dicts_with_the_defaults() -> None:
    first = make_config("ptb")
    first["schedule_options"]["hold"] = 99
    first["data"]["data_dir"] = "elsewhere"
    assert make_config("ptb")["schedule_options"]["hold"] == 4
    assert make_config("ptb")["data"] == {"data_dir": None}


@pytest.mark.parametrize(
    ("dataset", "options", "field", "text"),
    [
        ("mnist", {"hidden": 0}, "hidden", "expected a whole number from 1, got 0"),
        ("mnist", {"hidden": 2.5}, "hidden", "expected a whole number from 1, got 2.5"),
        ("mnist", {"hidden": True}, "hidden", "expected a whole number from 1, got True"),
        ("mnist", {"cell": "elman"}, "cell", "expected one of rnn, rnn-relu, lstm"),
        ("mnist", {"dropout": 1.0}, "dropout", "expected a number from 0 below 1, got 1.0"),
        ("mnist", {"weight_drop": -0.1}, "weight_drop", "expected a number from 0 below 1, got -0.1"),
        ("mnist", {"init": "he"}, "init", "expected one of uniform, xavier, orthogonal, identity, got 'he'"),
        ("mnist", {"init": "identity"}, "init", "identity is for the cell rnn-relu, got lstm"),
        ("mnist", {"init": "identity", "cell": "m:C"}, "init", "identity is for the cell rnn-relu, got m:C"),
        ("mnist", {"zoneout": 1.0}, "zoneout", "expected a number from 0 below 1, got 1.0"),
        ("mnist", {"recurrent_dropout_kind": "step"}, "recurrent_dropout_kind", "expected one of sequence"),
        (
            "mnist",
            {"cell": "rnn", "recurrent_dropout": 0.1, "recurrent_dropout_kind": "candidate"},
            "recurrent_dropout_kind",
            "the cell rnn has no candidate",
        ),
        ("mnist", {"proj_size": 128}, "proj_size", "for the cell lstm, and less than its hidden units, 128"),
        ("mnist", {"proj_size": 8, "cell": "gru"}, "proj_size", "is for the cell lstm"),
        ("mnist", {"heads": 3}, "heads", "expected a divisor of the 128 hidden units"),
        ("mnist", {"heads": 2, "cell": "clockwork"}, "heads", "without groups or projection"),
        ("mnist", {"periods": "1,2"}, "periods", "are for the cell clockwork, got lstm"),
        ("mnist", {"cell": "clockwork", "periods": "2,1"}, "periods", "ascending whole numbers from 1"),
        (
            "mnist",
            {"cell": "clockwork", "periods": "1,2,4"},
            "hidden",
            "a multiple of the 3 periods, got 128",
        ),
        ("mnist", {"cell": "clockwork", "zoneout": 0.1}, "zoneout", "the cell clockwork has none"),
        (
            "mnist",
            {"init": "xavier", "init_range": 0.1},
            "init_range",
            "draws all weights, which does not go with init xavier",
        ),
        ("mnist", {"lr": float("nan")}, "lr", "expected a number above 0, got nan"),
        ("mnist", {"lr": 0}, "lr", "expected a number above 0, got 0"),
        ("mnist", {"bptt": 20}, "bptt", "is for language models"),
        ("mnist", {"tie": True}, "tie", "is for language models"),
        ("mnist", {"wings": 2}, "wings", "no such setting"),
        ("ptb", {"bidirectional": True}, "bidirectional", "must not read what it has to predict"),
        (
            "ptb",
            {"tie": True, "embedding": 100},
            "embedding",
            "tied weights need the size of the output, 200, got 100",
        ),
        ("ptb", {"validation": 0.1}, "validation", "has its own validation split"),
        ("ptb", {"cell": "gru", "forget_bias": 1.0}, "forget_bias", "the cell gru has no forget gate"),
        ("ptb", {"optimizer": "adam", "momentum": 0.9}, "momentum", "adam has none"),
        ("ptb", {"nesterov": True}, "nesterov", "needs sgd with momentum"),
        ("ptb", {"schedule": "cosine", "warmup": 13}, "warmup", "expected less than the 13 epochs"),
        ("ptb", {"warmup": 1}, "warmup", "the ptb schedule has no such option"),
        ("ptb", {"decay": 0}, "decay", "expected a number above 0 to 1, got 0"),
        (
            "ptb",
            {"schedule": "plateau", "factor": 1.0},
            "factor",
            "expected a number above 0 below 1, got 1.0",
        ),
        ("ptb", {"schedule": "linear"}, "schedule", "expected one of constant, ptb, cosine, plateau"),
        ("imagenet", {}, "dataset", "expected one of mnist, ptb, text, series, images, digits, grammar"),
    ],
)
def test_bad_settings_are_named(dataset: str, options: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        make_config(dataset, options)
    assert caught.value.option == field
    assert str(caught.value).startswith(f"{field}: ")


def test_preset_only_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match="preset: expected none for mnist, got 'small'"):
        make_config("mnist", preset="small")
    with pytest.raises(ConfigError, match="preset: expected one of small, medium, large, awd-small for ptb"):
        make_config("ptb", preset="huge")
