"""``lstm-numba import``: the same bits come back, and what was trained elsewhere counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import GRAMMAR, invoke, one_epoch
from import_tools import FILES, classifier, content, model_of, refused, tied_model, write
from interop_tools import KERAS, assert_same, layer

import lstm_numba as ln
from lstm_numba.data.images import NORMALISATION
from lstm_numba.interop.export import save_model
from lstm_numba.interop.state_dict import cell_name
from lstm_numba.nn.layers import CELL_NAMES, make_layer
from lstm_numba.training import checkpoint
from lstm_numba.training.tasks import build_task, open_task


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier."""
    return classifier(tmp_path_factory.mktemp("import") / "digits")


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model with tied weights."""
    return tied_model(tmp_path_factory.mktemp("import") / "grammar")


# -- a weights file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(FILES))
@pytest.mark.parametrize("name", CELL_NAMES)
def test_weights_files_have_the_bits(name: str, kind: str, tmp_path: Path) -> None:
    if kind == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed")
    if kind == "keras" and name not in KERAS:
        pytest.skip("Keras has no such cell")
    for ending, dtype in (("npz", "float32"), ("safetensors", "float64")):
        rnn = layer(name, 2, True, dtype=dtype)
        if kind == "keras" and name != "gru":  # one bias there: that of our two which is not 0
            for key, array in rnn.params.items():
                array *= not key.startswith("bias_hh")
        path, out = tmp_path / f"{ending}-{FILES[kind]}", tmp_path / f"out.{ending}"
        write(rnn, kind, path)
        found = invoke("import", path, "--out", out, "--json").json()
        assert {key: found[key] for key in ("file", "from", "format", "cell", "dtype")} == {
            "file": str(out),
            "from": str(path),
            "format": kind,
            "cell": name,
            "dtype": dtype,
        }
        sizes = ("input_size", "hidden_size", "layers", "directions", "parameters")
        count = sum(array.size for array in rnn.params.values())
        assert [found[key] for key in sizes] == [3, 5, 2, 2, count]
        back = ln.load_weights(out)
        for key, array in back.params.items():
            if key.startswith("bias_hh") and kind == "keras" and name != "gru":
                assert not array.any()
                rnn.params[key][...] = array  # a zero's sign does not come back
        assert_same(back, rnn)


def test_what_names_do_not_tell(tmp_path: Path) -> None:
    state = {f"encoder.{k}": v for k, v in make_layer("rnn-relu", 3, 5, bias=False).state_dict().items()}
    path = tmp_path / "w.npz"
    np.savez(path, **state, **{"head\x1b[31m": np.zeros(3)})
    assert invoke("import", path, "--out", tmp_path / "a.npz", "--json").json()["cell"] == "rnn"
    answer = invoke("import", path, "--cell", "rnn-relu", "--prefix", "encoder.", "--out", tmp_path / "b.npz")
    assert answer.status == 0, answer.err
    first, second = answer.out.splitlines()
    assert "npz, rnn-relu, no bias, 3 inputs, 1 x 5 units, float32, 40 parameters" in first
    assert second == "ignored: head?[31m"
    back = ln.load_weights(tmp_path / "b.npz")
    assert cell_name(back) == "rnn-relu"
    for key, array in back.params.items():
        assert array.tobytes() == state[f"encoder.{key}"].tobytes()
    np.savez(path, **state, **{name.replace("en", "de", 1): 2 * array for name, array in state.items()})
    left = {"w.npz", "a.npz", "b.npz"}
    out = tmp_path / "c.npz"
    refused(invoke("import", path, "--out", out), tmp_path, left, "prefix: expected one of ['decoder.'")
    found = invoke("import", path, "--prefix", "decoder.", "--out", out, "--json").json()
    assert found["passed_over"] == sorted(state)
    for key, array in ln.load_weights(out).params.items():
        assert array.tobytes() == (2 * state[f"encoder.{key}"]).tobytes()


def test_onnx_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    path, out = tmp_path / "m.onnx", tmp_path / "w.npz"
    ln.save_onnx(layer("gru", batch_first=True), path)
    answer = invoke("import", path, "--out", out)
    assert "batch_first=True" in answer.out
    out.unlink()
    left = {"m.onnx"}
    refused(invoke("import", path, "--out", out, "--cell", "gru"), tmp_path, left, "--cell", status=2)
    refused(invoke("import", path, "--out", out, "--prefix", "x"), tmp_path, left, "--prefix", status=2)
    model = onnx.load_model_from_string(path.read_bytes())
    # y is multiplied by itself: the layer leaves this out, and says so.
    model.graph.node.append(onnx.helper.make_node("Mul", ["y", "y"], ["squared"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("squared", 1, [None, None, 5]))
    path.write_bytes(model.SerializeToString())
    answer = invoke("import", path, "--out", out)
    assert "note: only the model's recurrent node is read, and it computes more (Mul" in answer.out
    out.unlink()
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    refused(invoke("import", path, "--out", out), tmp_path, left, "lstm_numba[onnx]")


# -- a run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(FILES))
def test_runs_have_the_bits(
    kind: str, digits: Path, grammar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("data were loaded")

    for run in (digits, grammar):
        if kind == "onnx":
            pytest.importorskip("onnx", reason="onnx is not installed")
        path, out = tmp_path / f"{run.name}-{FILES[kind]}", tmp_path / run.name
        assert invoke("export", run, "--format", kind, "--out", path).status == 0
        before = content(run)
        with monkeypatch.context() as patch:
            for task in ("classification.ImageTask", "language_modeling.TextTask"):
                patch.setattr(f"lstm_numba.training.{task}._read", unwanted)
            found = invoke("import", path, "--run", run, "--out", out, "--json").json()
        assert content(run) == before
        expected, actual = model_of(run), model_of(out)
        assert actual.params.keys() == expected.params.keys()
        recurrent = [name for name in expected.params if name.startswith("rnn.")]
        whole = kind != "keras"
        assert set(found["taken"]) == set(expected.params if whole else recurrent)
        assert set(found["kept"]) == expected.params.keys() - found["taken"]
        assert found["passed_over"] == []
        assert found["parameters"] == sum(expected.params[name].size for name in found["taken"])
        for name, array in expected.params.items():
            new = actual.params[name]
            if kind == "keras" and "bias_ih" in name:  # Keras has one bias, our sum
                array = array + expected.params[name.replace("_ih_", "_hh_")]
            elif kind == "keras" and "bias_hh" in name:
                array = np.zeros_like(array)
            assert new.tobytes() == array.tobytes(), name
        assert set(content(out)) == set(content(run)) - {"metrics.jsonl", "best.safetensors"}
        for name in content(out).keys() - {"checkpoint.safetensors"}:
            assert content(out)[name] == before[name]
        assert not list(tmp_path.glob("*.tmp"))
        if kind != "keras":
            assert invoke("evaluate", out).out == invoke("evaluate", run).out


@pytest.mark.parametrize("name", ["digits", "grammar"])
def test_training_begins_at_the_first_step(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run, path, out = request.getfixturevalue(name), tmp_path / "w.npz", tmp_path / "new"
    config = json.loads((run / "config.json").read_bytes())
    save_model(build_task(config).model, "npz", path)  # as the run began
    assert invoke("import", path, "--run", run, "--out", out).status == 0
    assert checkpoint.load(out / "checkpoint.safetensors")[1]["step"] == 0
    answer = invoke("train", name, "--resume", out, "--threads", config["threads"])
    assert answer.status == 0, answer.err
    assert (out / "checkpoint.safetensors").read_bytes() == (run / "checkpoint.safetensors").read_bytes()


def test_commands_take_the_new_run(digits: Path, grammar: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for run in (digits, grammar):
        path.unlink(missing_ok=True)
        out = tmp_path / run.name
        assert invoke("export", run, "--format", "torch", "--out", path).status == 0
        assert invoke("import", path, "--run", run, "--out", out).status == 0
        again = tmp_path / f"{run.name}.safetensors"
        assert invoke("export", out, "--format", "torch", "--out", again).status == 0
        assert again.read_bytes() == path.read_bytes()
    words = ("--length", 20, "--seed", 1)
    sampled = invoke("sample", tmp_path / "grammar", *words)
    assert sampled.status == 0
    assert sampled == invoke("sample", grammar, *words)
    images = tmp_path / "x-idx3-ubyte"
    pixels = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)
    images.write_bytes(np.array([0x803, 1, 28, 28], ">i4").tobytes() + pixels.tobytes())
    predicted = [invoke("predict", run, f"{images}:0", "--json") for run in (tmp_path / "digits", digits)]
    assert predicted[0].json() == predicted[1].json()
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    answer = invoke("plot", tmp_path / "digits")
    assert "no learning curves" in answer.err
    assert {Path(line).name for line in answer.out.splitlines()} == {
        "confusion-matrix.png",
        "confusion-matrix.svg",
    }
    answer = invoke("plot", tmp_path / "grammar")
    assert answer.status == 1
    assert "no epoch is complete" in answer.err


def test_trained_in_pytorch(digits: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import load_file, save_file

    class Classifier(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch.nn.LSTM(28, 24, 2, bidirectional=True)
            self.output = torch.nn.Linear(48, 10)

        def forward(self, x: Any) -> Any:
            _, (h, _) = self.rnn(x)
            return self.output(torch.cat([h[-2], h[-1]], dim=1))

    def sequences(images: Any) -> Any:  # rows of pixels, time first
        mean, deviation = NORMALISATION["digits"]
        return torch.from_numpy(((images / 255 - mean) / deviation).astype(np.float32)).transpose(0, 1)

    path, trained, out = tmp_path / "w.safetensors", tmp_path / "trained.safetensors", tmp_path / "run"
    assert invoke("export", digits, "--format", "torch", "--out", path).status == 0
    network, data = Classifier(), open_task(digits)
    network.load_state_dict(load_file(path))
    train, test = data.images("train"), data.images("test")
    adam = torch.optim.Adam(network.parameters(), 0.005)
    for first in range(0, len(train.images), 100):
        x, labels = train.images[first : first + 100], train.labels[first : first + 100]
        adam.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(sequences(x)), torch.from_numpy(labels).long())
        loss.backward()
        adam.step()
    save_file(network.state_dict(), trained)
    with torch.no_grad():
        logits, labels = network(sequences(test.images)), torch.from_numpy(test.labels).long()
    found = invoke("import", trained, "--run", digits, "--out", out, "--json").json()
    assert found["kept"] == []
    result, before = (invoke("evaluate", run, "--json").json() for run in (out, digits))
    assert result["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    assert result["accuracy"] == pytest.approx(float((logits.argmax(1) == labels).double().mean()), abs=1e-9)
    assert abs(result["loss"] - before["loss"]) > 1e-3


def test_language_model_trained_in_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import load_file, save_file

    class LanguageModel(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, vocabulary: int) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(vocabulary, 24)
            self.rnn = torch.nn.GRU(24, 24)
            self.output = torch.nn.Linear(24, vocabulary)

        def loss(self, tokens: Any) -> Any:
            y, _ = self.rnn(self.embedding(tokens[:-1]))
            return torch.nn.functional.cross_entropy(self.output(y), tokens[1:])

    run, path, out = tmp_path / "run", tmp_path / "w.safetensors", tmp_path / "out"
    assert invoke(one_epoch(GRAMMAR), "--cell", "gru", "--out", run).status == 0
    assert invoke("export", run, "--format", "torch", "--out", path).status == 0
    task = open_task(run)
    task.load_data()
    splits = {name: torch.from_numpy(np.asarray(ids, np.int64)) for name, ids in task.corpus.splits.items()}
    network = LanguageModel(len(task.corpus.vocabulary))
    network.load_state_dict(load_file(path))
    adam = torch.optim.Adam(network.parameters(), 0.01)
    for part in splits["train"].split(200):
        adam.zero_grad()
        network.loss(part).backward()
        adam.step()
    path.unlink()
    save_file(network.state_dict(), path)
    assert invoke("import", path, "--run", run, "--out", out).status == 0
    result, before = (invoke("evaluate", folder, "--json").json() for folder in (out, run))
    with torch.no_grad():
        expected = float(network.loss(splits["test"]))
    assert result["loss"] == pytest.approx(expected, rel=1e-5)
    assert result["perplexity"] == pytest.approx(np.exp(expected), rel=1e-4)
    assert before["loss"] - result["loss"] > 0.1
