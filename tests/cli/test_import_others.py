"""``lstm-numba import`` of networks that others trained: lists, names, heads, nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import invoke
from import_tools import classifier, model_of, refused
from interop_tools import assert_same

import lstm_numba as ln
from lstm_numba.errors import WeightsWarning
from lstm_numba.nn.layers import make_layer


def by_hand(path: Path) -> tuple[Path, Any]:
    """A file as a loop by hand would keep it."""
    rnn = make_layer("gru", 3, 5, seed=1)
    state = {}
    for name, array in rnn.state_dict().items():
        kind, matrix, _ = name.split("_")
        state[f"enc_{kind[0]}_{matrix}"] = array
    np.savez(
        path, **state, enc_shift=np.ones(4), fc_w=np.ones((2, 5), np.float32), fc_b=np.ones(2, np.float32)
    )
    return path, rnn


def test_lists(tmp_path: Path) -> None:
    path, _ = by_hand(tmp_path / "w.npz")
    answer = invoke("import", path, "--list")
    assert answer.status == 0, answer.err
    assert f"    ln.load_weights({str(path)!r})\n    linear layers that fit: head='fc'" in answer.out
    found = invoke("import", path, "--list", "--json").json()
    assert found["format"] == "npz"
    assert found["tensors"][0] == {"name": "enc_w_ih", "shape": [15, 3], "dtype": "float32"}
    assert found["layers"][0]["heads"] == ["fc"]
    assert {path.name for path in tmp_path.iterdir()} == {"w.npz"}


def test_names(tmp_path: Path) -> None:
    path, rnn = by_hand(tmp_path / "w.npz")
    words = ("--names", "enc_w_*=weight_*", "--names", "enc_b_*=bias_*_l0", "--names", "enc_shift=")
    answer = invoke("import", path, *words, "--out", tmp_path / "a.npz")
    assert answer.status == 0, answer.err
    assert answer.out.splitlines()[1] == "ignored: enc_shift, fc_b, fc_w"
    assert_same(ln.load_weights(tmp_path / "a.npz"), rnn)
    answer = invoke("import", path, "--out", tmp_path / "b.npz")
    assert answer.out.splitlines()[2] == "note: not read, as no layer has it: enc_shift"
    assert_same(ln.load_weights(tmp_path / "b.npz"), rnn)


def test_heads(tmp_path: Path) -> None:
    path, rnn = by_hand(tmp_path / "w.npz")
    answer = invoke("import", path, "--head", "fc", "--out", tmp_path / "a.safetensors")
    assert answer.status == 0, answer.err
    assert "with the linear layer: load_weights(..., head='output')" in answer.out
    assert "ignored: enc_shift\n" in answer.out
    model = ln.load_weights(tmp_path / "a.safetensors", head="output")
    assert_same(model.rnn, rnn)
    assert np.all(model.output.params["weight"] == 1)
    assert model.output.params["weight"].shape == (2, 5)


def test_a_head_into_a_run(tmp_path: Path) -> None:
    run = classifier(tmp_path / "digits")
    params = model_of(run).params
    state = {name.replace("rnn.", "lstm.").replace("output.", "fc."): a / 2 for name, a in params.items()}
    np.savez(tmp_path / "w.npz", **state, **params)  # under the model's own names too, which are not wanted
    found = invoke(
        "import",
        tmp_path / "w.npz",
        "--names",
        "lstm.*=*",
        "--head",
        "fc",
        "--run",
        run,
        "--out",
        tmp_path / "new",
        "--json",
    ).json()
    assert found["kept"] == []
    assert found["passed_over"] == sorted(params)
    for name, array in model_of(tmp_path / "new").params.items():
        assert np.array_equal(array, params[name] / 2)


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    state = {name: np.array(array) for name, array in make_layer("lstm", 3, 5).state_dict().items()}
    state["weight_hh_l0"][0, 0] = np.inf
    path, out = tmp_path / "w.npz", tmp_path / "a.npz"
    np.savez(path, **state)
    refused(
        invoke("import", path, "--out", out), tmp_path, {"w.npz"}, "weight_hh_l0: holds numbers that are not"
    )
    assert invoke("import", path, "--out", out, "--allow-nonfinite").status == 0
    assert np.isinf(ln.load_weights(out, allow_nonfinite=True).params["weight_hh_l0"]).sum() == 1


def test_options_that_mean_nothing(tmp_path: Path) -> None:
    path, _ = by_hand(tmp_path / "w.npz")
    lists = tmp_path / "k.npz"
    ln.save_keras(make_layer("gru", 3, 5), lists)
    out, left = tmp_path / "a.npz", {"w.npz", "k.npz"}
    for words, message in (
        ((path, "--list", "--out", out), "--list: can only be combined with --json"),
        ((path, "--list", "--prefix", "enc_"), "--list: can only be combined with --json"),
        ((path,), "--out: expected a file or folder to write, or --list"),
        ((path, "--names", "enc_*", "--out", out), "expected NAME=OURS"),
        ((path, "--names", "=weight_ih", "--out", out), "expected NAME=OURS"),
        ((path, "--names", "a=b", "--names", "a=c", "--out", out), "a is given twice"),
        (
            (path, "--names", "a=b", "--prefix", "enc_", "--out", out),
            "--names: cannot be combined with --prefix",
        ),
        ((path, "--node", "1", "--out", out), "--node: only ONNX models have nodes"),
        ((lists, "--head", "fc", "--out", out), "--head: Keras' lists have none"),
    ):
        refused(invoke("import", *words), tmp_path, left, message, status=2)
    for words, message in (
        ((path, "--names", "a=weight_ih_l0", "--out", out), "names: no tensor is named 'a'"),
        ((path, "--head", "fcc", "--out", out), "no linear layer is named 'fcc'; did you mean fc?"),
        ((path, "--prefix", "dec_", "--out", out), "no recurrent layer is named 'dec_'; did you mean enc_?"),
    ):
        refused(invoke("import", *words), tmp_path, left, str(path), message)


def test_nodes(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    rnn = make_layer("lstm", 3, 5, 2, seed=0)
    path, out = tmp_path / "m.onnx", tmp_path / "w.npz"
    ln.save_onnx(rnn, path)
    assert invoke("import", path, "--node", "1", "--out", out).status == 0
    assert ln.load_weights(out).params["weight_hh_l0"].tobytes() == rnn.params["weight_hh_l1"].tobytes()
    out.unlink()
    refused(invoke("import", path, "--node", "2", "--out", out), tmp_path, {"m.onnx"}, "m.onnx")
    refused(invoke("import", path, "--head", "a", "--out", out), tmp_path, {"m.onnx"}, "--head", status=2)


def test_nodes_of_a_model_that_was_exported(tmp_path: Path) -> None:
    """All of its parameters have names, and its nodes can be had one by one."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    model = ln.SequenceClassifier(3, 5, 2, layers=2, seed=0)
    path, out = tmp_path / "m.onnx", tmp_path / "w.npz"
    ln.save_onnx(model, path)
    assert invoke("import", path, "--node", "1", "--out", out).status == 0
    found = ln.load_weights(out)
    assert found.num_layers == 1
    assert found.params["weight_hh_l0"].tobytes() == model.rnn.params["weight_hh_l1"].tobytes()
    out.unlink()
    assert invoke("import", path, "--head", "output", "--out", out).status == 0
    assert_same(ln.load_weights(out, head="output").rnn, model.rnn)
    with pytest.warns(WeightsWarning, match="only the recurrent layers of the model are read"):
        assert_same(ln.load_onnx(path), model.rnn)
    assert "ln.load_onnx(" in ln.inspect_weights(path).layers[0].command


def test_json_for_plug_ins(tmp_path: Path) -> None:
    model, path = ln.SequenceRegressor(1, 3, 1, per_step=True, seed=0), tmp_path / "w.npz"
    ln.save_weights(model, path)
    answer = invoke("import", path, "--head", "output", "--out", tmp_path / "w.json")
    assert "load_weights(..., head='lin')" in answer.out
    ln.save_json(model, tmp_path / "expected.json")
    assert (tmp_path / "w.json").read_bytes() == (tmp_path / "expected.json").read_bytes()
