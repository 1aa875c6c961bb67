"""``lstm-numba import``: files that do not fit, or not what they claim, get one line and leave nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import invoke, make_run
from damaged_weights import HEADER, LIES, Trap, npy, npz, tensors
from import_tools import FILES, classifier, content, model_of, refused, tied_model, write
from interop_tools import layer

import lstm_numba as ln
from lstm_numba.errors import CheckpointError
from lstm_numba.nn.layers import make_layer
from lstm_numba.training.run import Run
from lstm_numba.training.tasks import open_task
from lstm_numba.training.warm_start import create_successor


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier."""
    return classifier(tmp_path_factory.mktemp("import") / "digits")


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model with tied weights."""
    return tied_model(tmp_path_factory.mktemp("import") / "grammar")


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
    assert "ignored: fc.bias, fc.weight" in answer.out


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
        with pytest.raises(CheckpointError, match="already exists"):
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
        ((path, "--out", taken), 1, "taken.npz: already exists"),
        ((path, "--run", digits, "--out", digits), 1, "already exists"),
        ((path, "--out", tmp_path / "w.txt"), 1, "ends in .npz, .safetensors or .json"),
        ((path, "--out", tmp_path / "w.pt"), 1, "ends in .npz, .safetensors or .json"),
        ((path, "--out", here / "x.npz"), 1, "No such file"),
        ((here, "--out", tmp_path / "x.npz"), 1, "ends in .npz, .safetensors, .pt,"),
        ((tmp_path / "no.npz", "--out", tmp_path / "x.npz"), 1, "no such file"),
        ((path, "--format", "keras", "--out", tmp_path / "x.npz"), 1, "unknown name"),
        ((path, "--format", "pickle", "--out", tmp_path / "x.npz"), 2, "pickle"),
        ((path, "--cell", "transformer", "--out", tmp_path / "x.npz"), 2, "transformer"),
        ((path, "--cell", "gru", "--out", tmp_path / "x.npz"), 1, "gru has 3 gates"),
        ((path,), 2, "--out"),
        ((path, "--run", here, "--out", tmp_path / "x"), 1, "none does not exist"),
    ):
        refused(invoke("import", *words), tmp_path, left, message, status=status)
    assert taken.read_bytes() == b"precious"
    assert invoke("export", digits, "--format", "torch", "--out", tmp_path / "d.safetensors").status == 0
    answer = invoke("import", tmp_path / "d.safetensors", "--run", digits, "--out", here / "run")
    left |= {"d.safetensors", "not begun"}
    refused(answer, tmp_path, left - {"not begun"}, "No such file")
    bare = make_run(tmp_path / "not begun", "digits")
    answer = invoke("import", tmp_path / "d.safetensors", "--run", bare, "--out", tmp_path / "new")
    refused(answer, tmp_path, left, "the checkpoint does not exist")


def test_interruption_leaves_nothing(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.npz"
    assert invoke("export", digits, "--format", "npz", "--out", path).status == 0

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lstm_numba.training.checkpoint.encode", interrupted)
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
    np.savez(folder / "pickled.npz", weight_hh_l0=np.array([Trap(folder / "trace")], object))
    files.append((folder / "pickled.npz", "Python objects"))
    (folder / "w.pt").write_bytes(b"cbuiltins\nprint\n(S'x'\ntR.")
    files.append((folder / "w.pt", "names the function builtins.print, which is not executed"))
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
