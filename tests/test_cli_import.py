"""``lstm-numba import``: the same bits come back, foreign trainings count, what does not fit is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import DIGITS, GRAMMAR, Answer, invoke
from test_cli_errors import make_run
from test_interop import KERAS, assert_same, layer
from test_interop_files import HEADER, LIES, _Trap, npy, npz, tensors

import lstm_numba as ln
from lstm_numba.data.images import NORMALISATION
from lstm_numba.errors import CheckpointError
from lstm_numba.interop.layers import cell_name
from lstm_numba.interop.models import save_model
from lstm_numba.layers import CELL_NAMES, Recurrent, make_layer
from lstm_numba.models.base import Model
from lstm_numba.training import checkpoint
from lstm_numba.training.run import Run
from lstm_numba.training.successor import create_successor
from lstm_numba.training.tasks import build_task, open_task

FILES = {"onnx": "w.onnx", "torch": "w.safetensors", "keras": "k.npz", "npz": "w.npz"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of two layers and directions."""
    folder = tmp_path_factory.mktemp("import") / "digits"
    answer = invoke(DIGITS, "--layers", 2, "--bidirectional", "--lr", 0.02, "--out", folder)
    assert answer.status == 0, answer.err
    return folder


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model with tied weights, and a cell that shapes do not tell."""
    folder = tmp_path_factory.mktemp("import") / "grammar"
    answer = invoke(GRAMMAR, "--cell", "gru-reset-before", "--tie", "--dropout", 0.1, "--out", folder)
    assert answer.status == 0, answer.err
    return folder


def model_of(run: Path) -> Model:
    """The model of a run's checkpoint."""
    return open_task(run, load_data=False).model


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(rnn: Recurrent, kind: str, path: Path) -> None:
    """Write a layer in a format."""
    {"onnx": ln.save_onnx, "keras": ln.save_keras}.get(kind, ln.save_weights)(rnn, path)


def refused(answer: Answer, folder: Path, left: set[str], *fragments: str, status: int = 1) -> None:
    """One line that says why, and no file that was not there."""
    assert answer.status == status, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    (line,) = answer.err.strip().splitlines()
    for fragment in fragments:
        assert fragment in line
    assert {path.name for path in folder.iterdir()} == left


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
    assert second == "passed over: head?[31m"
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
    # y is multiplied by itself: a layer that leaves this out would compute something else.
    model.graph.node.append(onnx.helper.make_node("Mul", ["y", "y"], ["squared"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("squared", 1, [None, None, 5]))
    path.write_bytes(model.SerializeToString())
    refused(invoke("import", path, "--out", out), tmp_path, left, "m.onnx", "Mul")
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
            for task in ("image_task.ImageTask", "text_task.TextTask"):
                patch.setattr(f"lstm_numba.training.{task}._read", unwanted)
            found = invoke("import", path, "--run", run, "--out", out, "--json").json()
        assert content(run) == before
        expected, actual = model_of(run), model_of(out)
        assert actual.params.keys() == expected.params.keys()
        recurrent = [name for name in expected.params if name.startswith("rnn.")]
        whole = kind in ("torch", "npz")
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
        assert set(content(out)) == set(content(run)) - {"metrics.jsonl"}
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
    assert "no epoch is finished" in answer.err


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
    assert invoke(GRAMMAR, "--epochs", 1, "--cell", "gru", "--out", run).status == 0
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


# -- what is refused ---------------------------------------------------------------------------------

State = dict[str, Any]
#: What is done to a file of all parameters of `digits` -> what the message says.
UNFIT: dict[str, tuple[Callable[[State], Any], str]] = {
    "missing": (lambda s: s.pop("rnn.weight_hh_l1"), "rnn.weight_hh_l1 is missing, expected shape (96, 24)"),
    "half an output": (lambda s: s.pop("output.bias"), "output.bias is missing, expected shape (10,)"),
    "more layers": (
        lambda s: s.update({"rnn.weight_ih_l2": np.zeros((96, 48), np.float32)}),
        "rnn.weight_ih_l2 (96, 48): the model has no such parameter",
    ),
    "extra gate": (
        lambda s: s.update({"rnn.weight_hh_l0": np.zeros((120, 24), np.float32)}),
        "rnn.weight_hh_l0: expected shape (96, 24), got (120, 24)",
    ),
    "transposed": (
        lambda s: s.update({"rnn.weight_hh_l0": s["rnn.weight_hh_l0"].T}),
        "rnn.weight_hh_l0: expected shape (96, 24), got (24, 96)",
    ),
    "other classes": (
        lambda s: s.update({"output.weight": np.zeros((11, 48), np.float32)}),
        "output.weight: expected shape (10, 48), got (11, 48)",
    ),
    "peepholes": (lambda s: s.update({"rnn.weight_ph_l0": np.zeros(72, np.float32)}), "weight_ph_l0 (72,)"),
    "precision": (
        lambda s: s.update({"output.bias": np.zeros(10)}),
        "output.bias: expected float32, got float64",
    ),
    "integers": (
        lambda s: s.update({"output.bias": np.zeros(10, int)}),
        "output.bias: expected float32 or float64",
    ),
    "not a number": (
        lambda s: s["output.bias"].fill(np.nan),
        "output.bias: holds numbers that are not finite",
    ),
    "unknown part": (lambda s: s.update({"norm.weight": s["output.bias"]}), "norm.weight (10,)"),
    "nothing": (lambda s: s.clear(), "rnn.weight_ih_l0 is missing"),
}


@pytest.mark.parametrize("case", list(UNFIT))
def test_parameters_that_do_not_fit(case: str, digits: Path, tmp_path: Path) -> None:
    how, message = UNFIT[case]
    state = {name: np.array(array) for name, array in model_of(digits).params.items()}
    how(state)
    np.savez(tmp_path / "w.npz", **state)
    before = content(digits)
    answer = invoke("import", tmp_path / "w.npz", "--run", digits, "--out", tmp_path / "new")
    refused(answer, tmp_path, {"w.npz"}, "w.npz: ", message)
    assert content(digits) == before


def test_parts_of_a_file(digits: Path, tmp_path: Path) -> None:
    params = model_of(digits).params
    path, n = tmp_path / "w.npz", iter(range(99))

    def new(*words: object, prefix: str, dtype: str = "float32", **more: Any) -> Any:
        changed = {prefix + k: (v / 2).astype(dtype) for k, v in params.items()}
        np.savez(path, **changed, **more)
        return invoke(
            "import", path, "--run", digits, "--out", tmp_path / f"r{next(n)}", *words, "--json"
        ).json()

    for prefix in ("", "module.", "a.b."):
        assert new(prefix=prefix)["kept"] == []
    found = new("--prefix", "model.", prefix="model.", **{"optimizer.rnn.weight_hh_l0": np.zeros(3)})
    assert found["kept"] == []
    assert found["passed_over"] == ["optimizer.rnn.weight_hh_l0"]
    found = new("--prefix", "rnn.", prefix="")
    assert sorted(found["kept"]) == found["passed_over"] == ["output.bias", "output.weight"]
    assert found["parameters"] == sum(a.size for name, a in params.items() if name.startswith("rnn."))
    actual = model_of(Path(found["run"])).params
    for name, array in params.items():
        assert np.array_equal(actual[name], array / 2 if name.startswith("rnn.") else array)
    actual = model_of(Path(new(prefix="", dtype="float16")["run"])).params
    for name, array in params.items():  # float32 holds every float16
        assert np.array_equal(actual[name], (array / 2).astype(np.float16))
    # A module with other names: its recurrent layers are found, the rest is told.
    np.savez(path, **{k.replace("rnn.", "lstm.").replace("output.", "fc."): v for k, v in params.items()})
    answer = invoke("import", path, "--run", digits, "--out", tmp_path / "other")
    assert (
        f"only the recurrent layers are from {path}; from {digits}: output.weight, output.bias" in answer.out
    )
    assert "passed over: fc.bias, fc.weight" in answer.out


def test_tied_weights(grammar: Path, tmp_path: Path) -> None:
    path, left = tmp_path / "w.npz", {"w.npz"}
    assert invoke("export", grammar, "--format", "npz", "--out", path).status == 0
    with np.load(path) as found:
        state = dict(found)
    plain = {name: array for name, array in state.items() if name != "embedding.weight"}
    np.savez(path, **{**state, "output.weight": state["output.weight"] + 1})
    out = tmp_path / "new"
    refused(
        invoke("import", path, "--run", grammar, "--out", out),
        tmp_path,
        left,
        "output.weight differs from embedding.weight",
    )
    np.savez(path, **plain)  # as safetensors.torch.save_model may leave it
    assert invoke("import", path, "--run", grammar, "--out", out).status == 0
    assert model_of(out).params["embedding.weight"].tobytes() == state["embedding.weight"].tobytes()
    assert invoke("evaluate", out).out == invoke("evaluate", grammar).out


def test_cells_that_differ(grammar: Path, tmp_path: Path) -> None:
    path, out, left = tmp_path / "w.npz", tmp_path / "new", {"w.npz"}
    rnn = model_of(grammar).rnn
    other = make_layer("gru", rnn.input_size, rnn.hidden_size)
    for write_file in (ln.save_weights, ln.save_keras):
        write_file(other, path)
        answer = invoke("import", path, "--run", grammar, "--out", out)
        refused(answer, tmp_path, left, "weights of the cell gru, expected gru-reset-before")
    np.savez(path, **other.state_dict())  # does not say its cell, the user does, or the run
    answer = invoke("import", path, "--run", grammar, "--out", out, "--cell", "gru")
    refused(answer, tmp_path, left, "weights of the cell gru, expected gru-reset-before")
    assert invoke("import", path, "--run", grammar, "--out", out).status == 0
    run = tmp_path / "relu"
    assert invoke("train digits --images 40 --hidden 3 --epochs 1 --cell rnn-relu --out", run).status == 0
    ln.save_keras(model_of(run).rnn, path)
    with np.load(path) as found:
        np.savez(path, **found)  # without the cell's name
    found = invoke("import", path, "--run", run, "--out", tmp_path / "again", "--json").json()
    assert (found["format"], found["cell"]) == ("keras", "rnn-relu")


def test_a_run_that_is_there_is_kept(digits: Path, tmp_path: Path) -> None:
    task = open_task(digits, load_data=False)
    for place in (tmp_path, digits):
        before = content(place)
        with pytest.raises(CheckpointError, match="is there already"):
            create_successor(Run.open(digits), task, place)
        assert content(place) == before


def test_names_and_places(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    ln.save_weights(layer("lstm"), path)
    taken = tmp_path / "taken.npz"
    taken.write_bytes(b"precious")
    left = {"w.npz", "taken.npz"}
    here = tmp_path / "none"
    for words, status, message in (
        ((path, "--out", taken), 1, "taken.npz: is there already"),
        ((path, "--run", digits, "--out", digits), 1, "is there already"),
        ((path, "--out", tmp_path / "w.txt"), 1, "ends in .npz or .safetensors"),
        ((path, "--out", tmp_path / "w.pt"), 1, "ends in .npz or .safetensors"),
        ((path, "--out", here / "x.npz"), 1, "No such file"),
        ((here, "--out", tmp_path / "x.npz"), 1, "ends in .onnx, .safetensors or .npz"),
        ((tmp_path / "no.npz", "--out", tmp_path / "x.npz"), 1, "No such file"),
        ((path, "--format", "keras", "--out", tmp_path / "x.npz"), 1, "unknown name"),
        ((path, "--format", "pickle", "--out", tmp_path / "x.npz"), 2, "pickle"),
        ((path, "--cell", "transformer", "--out", tmp_path / "x.npz"), 2, "transformer"),
        ((path, "--cell", "gru", "--out", tmp_path / "x.npz"), 1, "gru has 3 gates"),
        ((path,), 2, "--out"),
        ((path, "--run", here, "--out", tmp_path / "x"), 1, "not a run folder"),
    ):
        refused(invoke("import", *words), tmp_path, left, message, status=status)
    assert taken.read_bytes() == b"precious"
    assert invoke("export", digits, "--format", "torch", "--out", tmp_path / "d.safetensors").status == 0
    answer = invoke("import", tmp_path / "d.safetensors", "--run", digits, "--out", here / "run")
    left |= {"d.safetensors", "not begun"}
    refused(answer, tmp_path, left - {"not begun"}, "No such file")
    bare = make_run(tmp_path / "not begun", "digits")
    answer = invoke("import", tmp_path / "d.safetensors", "--run", bare, "--out", tmp_path / "new")
    refused(answer, tmp_path, left, "there is no checkpoint")


def test_interruption_leaves_nothing(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.npz"
    assert invoke("export", digits, "--format", "npz", "--out", path).status == 0

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lstm_numba.training.checkpoint.save", interrupted)
    answer = invoke("import", path, "--run", digits, "--out", tmp_path / "new")
    refused(answer, tmp_path, {"w.npz"}, "interrupted", status=130)
    monkeypatch.setattr("os.fsync", interrupted)
    for words in (("--out", tmp_path / "new.npz"), ("--run", digits, "--out", tmp_path / "new")):
        refused(invoke("import", path, *words), tmp_path, {"w.npz"}, "interrupted", status=130)


def hostile(folder: Path) -> list[tuple[Path, str]]:
    """Files that lie, and what is said of them."""
    from safetensors.numpy import save_file

    good = layer("lstm", 2, True)
    files: list[tuple[Path, str]] = []
    for name in ("missing", "extra gate", "transposed", "missing layer", "projection", "integers"):
        how, message = LIES[name]
        state = good.state_dict()
        how(state)
        path = folder / f"{name}.safetensors"
        save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, path)
        files.append((path, message.replace("\\", "").split("|")[0]))
    for kind, file in FILES.items():
        path = folder / f"cut-{file}"
        write(good, kind, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        files.append((path, "damaged"))
    huge = npz(folder / "huge.npz", {"weight_hh_l0.npy": npy(HEADER % "(1000000000000,)", b"1234")})
    files.append((huge, "4 bytes do not make shape"))
    header = {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    (folder / "huge.safetensors").write_bytes(tensors(header))
    files.append((folder / "huge.safetensors", "damaged"))
    np.savez(folder / "pickled.npz", weight_hh_l0=np.array([_Trap(folder / "trace")], object))
    files.append((folder / "pickled.npz", "Python objects"))
    (folder / "w.pt").write_bytes(b"cbuiltins\nprint\n(S'x'\ntR.")
    files.append((folder / "w.pt", "can execute code"))
    (folder / "text.onnx").write_text("hello")
    files.append((folder / "text.onnx", "damaged"))
    return files


def test_hostile_files(digits: Path, tmp_path: Path) -> None:
    files = hostile(tmp_path)
    left = {path.name for path, _ in files}
    before = content(digits)
    try:
        import onnx  # noqa: F401
    except ImportError:
        files = [(path, message) for path, message in files if path.suffix != ".onnx"]
    for path, message in files:
        refused(invoke("import", path, "--out", tmp_path / "w.npz"), tmp_path, left, str(path), message)
        answer = invoke("import", path, "--run", digits, "--out", tmp_path / "new")
        refused(answer, tmp_path, left, str(path))
    assert content(digits) == before
