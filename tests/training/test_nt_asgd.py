"""Runs that average: what is evaluated, kept and used; stopped anywhere they go on with the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from cli_tools import invoke
from training_tools import Crash, CrashAt, foretold, lines_without_times, write_text

import lstm_numba as ln
from lstm_numba.errors import CheckpointError, UserError
from lstm_numba.training import checkpoint
from lstm_numba.training.callbacks import Outcome, Reporter
from lstm_numba.training.config import ConfigError, make_config
from lstm_numba.training.presets import PRESETS
from lstm_numba.training.run import Run
from lstm_numba.training.tasks import build_task, open_task
from lstm_numba.training.trainer import Trainer

#: Losses on valid that the training is told: after the third epoch it begins to average.
LOSSES = (2.0, 1.5, 2.1, 1.4)
AWD: dict[str, Any] = {
    "hidden": 8, "embedding": 8, "layers": 2, "tie": True, "dropout": 0.2, "dropout_kind": "sequence",
    "embedding_dropout": 0.1, "weight_drop": 0.2, "batch_size": 4, "bptt": 20, "optimizer": "nt-asgd",
    "nonmono": 1, "lr": 1.0, "momentum": 0.0, "nesterov": False, "schedule": "constant", "epochs": 4,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(threads)


def configuration(folder: Path, **more: Any) -> dict[str, Any]:
    data = {"file": str(write_text(folder / "text.txt"))}
    return make_config("text", {"threads": None, "checkpoint_every": 60.0, **AWD, **more}, data=data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Run]:
    """A training that was never stopped."""
    folder = tmp_path_factory.mktemp("nt-asgd")
    return foretold(folder / "run", configuration(folder), LOSSES), Run.open(folder / "run")


class Messages(Reporter):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_message(self, text: str) -> None:
        """Keep it."""
        self.texts.append(text)


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The parameters after each step of such a training, by its number; what it told, and its trainer."""
    folder = tmp_path_factory.mktemp("spied")
    config, messages = configuration(folder), Messages()
    found: dict[str, Any] = {"messages": messages}
    plain = Trainer._take_step

    def take_step(self: Trainer, rate: float) -> None:
        plain(self, rate)
        params = self.task.model.params.items()
        found[str(self.optimizer.steps)] = {name: array.astype(np.float64) for name, array in params}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_take_step", take_step)
        foretold(folder / "run", config, LOSSES, messages)
    return found


def test_the_model_of_a_run_is_the_mean_since_the_trigger(
    finished: tuple[Outcome, Run], parameters: dict[str, Any]
) -> None:
    outcome, run = finished
    per_epoch = outcome.step // 4
    tensors, meta = checkpoint.load(run.checkpoint_path)
    assert meta["optimizer"] == {"losses": [*LOSSES], "averaged": per_epoch + 1}
    steps = [parameters[str(step)] for step in range(3 * per_epoch, outcome.step + 1)]
    for name, last in steps[-1].items():
        mean = np.mean([one[name] for one in steps], axis=0)
        np.testing.assert_allclose(tensors[f"model.{name}"], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(tensors[f"raw.{name}"], last)
        assert np.abs(mean - last).max() > 1e-3, name
    assert not any(name.startswith("optimizer.") for name in tensors)
    loaded = ln.load_run(run.folder)
    for name, array in loaded.params.items():
        np.testing.assert_array_equal(array, tensors[f"model.{name}"])


def test_averages_are_evaluated_kept_and_tested(finished: tuple[Outcome, Run]) -> None:
    outcome, run = finished
    last, best = open_task(run, which="last"), open_task(run, which="best")
    assert last.evaluate("test") == outcome.evaluations["test"]
    assert (outcome.best.epoch, run.best_path.exists()) == (4, True) if outcome.best else False
    assert best.evaluate("test") == last.evaluate("test")
    # The raw parameters are others.
    tensors, _ = checkpoint.load(run.checkpoint_path)
    last.model.load_params({name: tensors[f"raw.{name}"] for name in last.model.params})
    assert last.evaluate("test") != outcome.evaluations["test"]


def test_the_trigger_is_told_and_logged(finished: tuple[Outcome, Run], parameters: dict[str, Any]) -> None:
    outcome, run = finished
    (line,) = [line for line in run.metrics() if line["kind"] == "averaging"]
    step = 3 * outcome.step // 4
    assert (line["epoch"], line["step"], line["split"], line["loss"]) == (3, step, "valid", 2.1)
    (text,) = [text for text in parameters["messages"].texts if "averag" in text]
    assert text == f"the loss on valid has stopped falling: averaging after step {step}"


@pytest.mark.parametrize("every", [0.0, 60.0], ids=["each step saved", "each epoch saved"])
def test_stopped_and_resumed_it_has_the_same_bits(
    finished: tuple[Outcome, Run], tmp_path: Path, every: float
) -> None:
    """Before the trigger and after it; in the middle of an epoch and while one is repeated."""
    outcome, run = finished
    config = configuration(tmp_path, checkpoint_every=every)
    steps, crashes = outcome.step // 4, 0
    for length in (steps + 2, steps, 2, 2 * steps, 3):
        try:
            foretold(tmp_path / "run", config, LOSSES, CrashAt(length))
            break
        except Crash:
            crashes += 1
    again = foretold(tmp_path / "run", config, LOSSES)
    assert crashes >= 3
    assert again.evaluations["test"] == outcome.evaluations["test"]
    other = Run.open(tmp_path / "run")
    assert lines_without_times(other) == lines_without_times(run)
    tensors, meta = checkpoint.load(other.checkpoint_path)
    wanted, truth = checkpoint.load(run.checkpoint_path)
    assert tensors.keys() == wanted.keys()
    for name, array in wanted.items():
        assert tensors[name].tobytes() == array.tobytes(), name
    for name in ("rng", "optimizer", "best", "evaluations"):
        assert meta[name] == truth[name]


def test_before_the_trigger_it_is_plain_gradient_descent(tmp_path: Path) -> None:
    """And a training that ends before it says so."""
    ends, messages = [], {"sgd": Messages(), "nt-asgd": Messages()}
    for optimizer, kept in messages.items():
        config = configuration(tmp_path, optimizer=optimizer, epochs=2)
        foretold(tmp_path / optimizer, config, (2.0, 1.5), kept)
        ends.append(checkpoint.load(tmp_path / optimizer / "checkpoint.safetensors")[0])
    assert ends[0].keys() == ends[1].keys()
    for name, array in ends[0].items():
        np.testing.assert_array_equal(ends[1][name], array)
    assert [text for text in messages["sgd"].texts if "averag" in text] == []
    assert [text for text in messages["nt-asgd"].texts if "averag" in text] == [
        "nt-asgd never averaged, and trained as sgd does: the loss on valid never rose as --nonmono 1 asks"
    ]


def test_a_checkpoint_without_its_averages_is_refused(finished: tuple[Outcome, Run], tmp_path: Path) -> None:
    _, run = finished
    tensors, meta = checkpoint.load(run.checkpoint_path)
    other = Run.create(tmp_path / "run", run.config)
    del tensors["raw.output.bias"]
    checkpoint.save(other.checkpoint_path, tensors, {**meta, "complete": False})
    with pytest.raises(CheckpointError, match=r"does not fit this run's .*: params: output\.bias is missing"):
        Trainer(build_task(other.config), other).train()


def test_without_a_validation_split_it_is_refused() -> None:
    for dataset in ("digits", "mnist", "images"):
        options = {"optimizer": "nt-asgd", "validation": 0}
        data = {"file": "x"} if dataset == "images" else {}
        with pytest.raises(ConfigError, match="optimizer: nt-asgd needs a validation split, got --valid"):
            make_config(dataset, options, data=data)
    assert make_config("digits", {"optimizer": "nt-asgd"})["validation"] == 0.1
    with pytest.raises(ConfigError, match="momentum: nt-asgd has none; sgd and rmsprop do"):
        make_config("ptb", {"optimizer": "nt-asgd", "momentum": 0.5})
    for name in ("embedding_dropout", "input_dropout"):
        with pytest.raises(ConfigError, match=f"{name}: is for language models, digits trains none"):
            make_config("digits", {name: 0.1})


def test_the_preset_converts_the_papers_numbers() -> None:
    """30, 0.25 and 1.2e-6 are for a mean over time, of which the sum over a window is `bptt` times."""
    config = make_config("ptb", preset="awd-small")
    steps = config["bptt"]
    rate, norm, decay, gradient = 30.0, 0.25, 1.2e-6, 0.02
    weight = 0.7
    for factor in (1.0, 40.0):  # below the norm, and clipped
        mean = factor * gradient
        wanted = rate * (min(1.0, norm / mean) * mean + decay * weight)
        ours = steps * mean
        clipped = min(1.0, config["clip"] / ours) * ours
        assert config["lr"] * (clipped + config["weight_decay"] * weight) == pytest.approx(wanted, rel=1e-12)
    assert config["optimizer"] == "nt-asgd"
    assert PRESETS["awd-small"].keys() >= PRESETS["small"].keys()


ABLATION = {
    "full": ("", {}),
    "no weight drop": ("--weight-drop 0", {"weight_drop": 0.0}),
    "element dropout": ("--dropout-kind element", {"dropout_kind": "element"}),
    "not tied": ("--no-tie", {"tie": False}),
    "sgd": ("--optimizer sgd", {"optimizer": "sgd"}),
}


@pytest.mark.parametrize("name", ABLATION)
def test_an_option_takes_a_part_of_the_preset_away(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words, changed = ABLATION[name]
    seen: list[dict[str, Any]] = []

    def build_task(config: dict[str, Any], **_: Any) -> Any:
        seen.append(config)
        raise UserError("seen")

    monkeypatch.setattr("lstm_numba.training.tasks.build_task", build_task)
    answer = invoke("train ptb --preset awd-small --threads 1", *words.split())
    assert "seen" in answer.err
    full = make_config("ptb", {"threads": 1}, preset="awd-small")
    assert all(full[field] != value for field, value in changed.items())
    assert seen == [{**full, **changed}]


def test_text_of_help() -> None:
    text = " ".join(invoke("train ptb --help").out.split())
    assert "[small|medium|large|awd-small]" in text
    assert "[sgd|adam|adamw|rmsprop|nt-asgd]" in text
    for option in ("dropout-kind", "embedding-dropout", "input-dropout", "output-dropout", "nonmono"):
        assert f"--{option}" in text
