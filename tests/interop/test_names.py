"""From what files call parameters to our names: by prefix, by mapping, by what other libraries call them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damaged_weights import refused
from interop_tools import assert_same, layer

import lstm_numba as ln
from lstm_numba.errors import WeightsError, WeightsWarning
from lstm_numba.interop.files.contents import Contents
from lstm_numba.interop.loading import load
from lstm_numba.interop.names import Target, groups, parse_target, recognise
from lstm_numba.nn.layers import make_layer

State = dict[str, Any]


def saved(path: Path, state: State) -> Path:
    """A file of arrays."""
    np.savez(path, **state)
    return path


@pytest.mark.parametrize(
    ("name", "prefix", "target"),
    [
        ("weight_ih_l0", "", Target("weight_ih")),
        ("lstm.weight_hh_l2_reverse", "lstm.", Target("weight_hh", 2, 1)),
        ("a.b.rnn.bias_ih", "a.b.rnn.", Target("bias_ih")),
        ("enc_w_ih", "enc_", Target("weight_ih")),
        ("W_hh", "", Target("weight_hh")),
        ("dec_b_hh_l1", "dec_", Target("bias_hh", 1)),
        ("cell.bias", "cell.", Target("bias_ih")),
        ("cell.bias_n", "cell.", Target("bias_hh", gates="n")),
        ("params/lstm/ii/kernel", "params/lstm/", Target("weight_ih", gates="i", transposed=True)),
        ("if_.kernel", "", Target("weight_ih", gates="f", transposed=True)),
        ("hf.bias", "", Target("bias_hh", gates="f")),
        ("cell.dense_h.kernel", "cell.", Target("weight_hh", transposed=True)),
    ],
)
def test_what_others_call_parameters(name: str, prefix: str, target: Target) -> None:
    assert recognise(name) == (prefix, target)


@pytest.mark.parametrize(
    "name",
    [
        "embedding.weight",
        "linear.weight",
        "weight_xx_l0",
        "weight_ih_l01",
        "xweight_ih",
        "bias_hh_l0_left",
        "",
    ],
)
def test_what_is_no_parameter(name: str) -> None:
    assert recognise(name) is None


def test_a_bias_alone_is_no_layer() -> None:
    assert groups(["fc.weight", "fc.bias", "lstm.weight_ih_l0", "lstm.bias_ih_l0"]).keys() == {"lstm."}


def test_targets() -> None:
    assert parse_target("weight_ih_l1_reverse[zrn].T") == Target("weight_ih", 1, 1, "zrn", True)
    assert parse_target("bias_hh") == Target("bias_hh")
    for text in ("weight_ih_l01", "weight", "weight_ih_l0[]", "weight_ih_l0.T.T", "weight_ih_l0 ", ""):
        with pytest.raises(WeightsError, match="expected one of weight_ih"):
            parse_target(text)


# -- encoder and decoder in one file, by hand -----------------------------------------------------------


def two_networks(path: Path) -> tuple[Path, Any, Any]:
    """A file as a loop by hand would keep it: two GRUs, embeddings, a linear layer."""
    encoder, decoder = (make_layer("gru", 4, 5, seed=seed) for seed in (1, 2))
    state: State = {"enc_emb": np.ones((3, 4), np.float32), "fc_w": np.full((7, 5), 0.5, np.float32)}
    state |= {"fc_b": np.arange(7, dtype=np.float32), "dec_shift": np.ones(4, np.float32)}
    for start, rnn in (("enc", encoder), ("dec", decoder)):
        for name, array in rnn.state_dict().items():
            kind, matrix, _ = name.split("_")
            state[f"{start}_{kind[0]}_{matrix}"] = array
    return saved(path, state), encoder, decoder


def test_encoder_and_decoder(tmp_path: Path) -> None:
    path, encoder, decoder = two_networks(tmp_path / "w.npz")
    refused(path, r"prefix: expected one of \['dec_', 'enc_'\], got none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an embedding stands before the layer, and is no part of it
        assert_same(ln.load_weights(path, prefix="enc_"), encoder)
    with pytest.warns(WeightsWarning, match="w.npz: not read, as no layer has it: dec_shift"):
        assert_same(ln.load_weights(path, prefix="dec_"), decoder)
    by_name = {f"enc_{kind[0]}_{m}": f"{kind}_{m}_l0" for kind in ("weight", "bias") for m in ("ih", "hh")}
    assert_same(ln.load_weights(path, names=by_name), encoder)
    assert_same(ln.load_weights(path, names={"enc_w_*": "weight_*", "enc_b_*": "bias_*_l0"}), encoder)
    assert_same(ln.load_weights(path, names={"dec_*": "*", "dec_shift": None}), decoder)
    refused(path, "enc_emb: 'emb' is not the name of a recurrent parameter", names="enc_*")
    assert_same(ln.load_weights(path, names={"enc_*": "*", "enc_emb": None}), encoder)


def test_a_prefix_of_several_layers(tmp_path: Path) -> None:
    state = make_layer("gru", 3, 5, seed=1).state_dict()
    path = saved(tmp_path / "w.npz", {f"a.{k}.{name}": array for k in "xy" for name, array in state.items()})
    refused(path, r"prefix: expected one of \['a\.x\.', 'a\.y\.'\], got 'a\.'", prefix="a.")
    assert isinstance(ln.load_weights(path, prefix="a.x"), ln.GRU)


def test_a_prefix_ends_where_a_part_of_the_name_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for joint in ("lstm.", "lstm_", "lstm/", "net.lstm."):
        np.savez(path, **{joint + key: array for key, array in layer("lstm").state_dict().items()})
        parts = joint.rstrip("./_")
        for whole in (joint, parts, parts.partition(".")[0]):
            assert isinstance(ln.load_weights(path, prefix=whole), ln.LSTM)
        for cut in (joint[:2], joint[:-2]):
            refused(path, rf"prefix: no recurrent layer is named '{cut}'; did you mean {joint}\?", prefix=cut)
    refused(path, "no recurrent layer is named 'vocoder'; those in the file: net.lstm.", prefix="vocoder")


def test_a_file_may_say_the_cell_of_each_layer() -> None:
    names = ("gru", "gru-reset-before")
    layers = {f"{name}.": make_layer(name, 3, 5, seed=1) for name in names}
    tensors = {start + key: array for start, rnn in layers.items() for key, array in rnn.state_dict().items()}
    contents = Contents("keras", tensors, {f"{name}.": name for name in names})
    for start, rnn in layers.items():
        assert_same(load(contents, "file", prefix=start).network, rnn)
    assert_same(
        load(contents, "file", prefix="gru.", cell="gru-reset-before").network, layers["gru-reset-before."]
    )


def test_a_star_stands_for_all_of_our_name(tmp_path: Path) -> None:
    """Of two layers, what is before the name would be lost, and one layer be made of both."""
    path = saved(tmp_path / "w.npz", {"enc_w_ih": np.ones((5, 3)), "dec_w_hh": np.ones((5, 5))})
    refused(path, "enc_w_ih: 'enc_w_ih' is not the name of a recurrent parameter", names="*")


def test_a_stack_out_of_cells(tmp_path: Path) -> None:
    rnn = layer("lstm", 2, True)
    state = {}
    for name, array in rnn.state_dict().items():
        way = "back" if name.endswith("_reverse") else "forth"
        parameter, number = name.removesuffix("_reverse").rsplit("_l", 1)
        state[f"cells.{number}.{way}.{parameter}"] = array
    path = saved(tmp_path / "w.npz", state)
    names = {
        f"cells.{number}.{way}.*": f"*_l{number}{end}"
        for number in (0, 1)
        for way, end in (("forth", ""), ("back", "_reverse"))
    }
    assert_same(ln.load_weights(path, names=names), rnn)
    swapped = {key: value.replace("_l0", "_l9").replace("_l1", "_l0") for key, value in names.items()}
    refused(path, "layer 1 is missing, there is a layer 9", names=swapped)


def test_gates_in_another_order_and_transposed(tmp_path: Path) -> None:
    rnn = make_layer("gru", 3, 5, seed=1)
    state = rnn.state_dict()

    def zrn(array: Any) -> Any:
        r, z, n = np.split(array, 3)
        return np.concatenate([z, r, n])

    path = saved(
        tmp_path / "w.npz",
        {
            "kernel": zrn(state["weight_ih_l0"]).T,
            "recurrent": zrn(state["weight_hh_l0"]).T,
            "bias": zrn(state["bias_ih_l0"]),
            "other": zrn(state["bias_hh_l0"]),
        },
    )
    names = {
        "kernel": "weight_ih_l0[zrn].T",
        "recurrent": "weight_hh_l0[zrn].T",
        "bias": "bias_ih_l0[zrn]",
        "other": "bias_hh_l0[zrn]",
    }
    assert_same(ln.load_weights(path, names=names), rnn)
    only_n = {**names, "other": None}
    found = ln.load_weights(path, names=only_n)  # a bias that no name gives is zero
    assert not found.params["bias_hh_l0"].any()
    assert np.array_equal(found.params["bias_ih_l0"], state["bias_ih_l0"])
    for changed, message in (
        ({"kernel": "weight_ih_l0[zr].T"}, r"kernel: shape \(15, 3\) is not of 2 gates"),
        ({"kernel": "weight_ih_l0[zrq].T"}, "gates n, q, r, z: neither an LSTM's nor a GRU's"),
        ({"kernel": "weight_ih_l0[zzn].T"}, "gate z of weight_ih_l0 appears twice"),
        ({"bias": "bias_ih_l0.T"}, r"bias: expected a matrix, got shape \(15,\)"),
        ({"other": "bias_ih_l0[n]"}, "other: .* appears twice|shape"),
        ({"other": "bias_hh_l0[zrnn]"}, "15|is not of 4 gates"),
        ({"reccurent": "bias_hh_l0"}, "no tensor is named 'reccurent'; did you mean recurrent?"),
        ({"k*l*": "bias_hh_l0"}, "expected at most one"),
    ):
        refused_names(path, {**names, **changed}, message)
    refused_names(path, {"kernel": "weight_ih_l0[z].T"}, "is missing")


def refused_names(path: Path, names: dict[str, str | None], message: str) -> None:
    """Loading raises one line."""
    with pytest.raises(WeightsError, match=message) as caught:
        ln.load_weights(path, names=names)
    assert "\n" not in str(caught.value)


def test_two_arrays_for_one_place(tmp_path: Path) -> None:
    state = make_layer("lstm", 3, 5).state_dict()
    path = saved(tmp_path / "w.npz", {**state, "copy": state["bias_hh_l0"]})
    refused(path, "copy: unknown name; names=.*leaves it out")
    refused(path, "copy and bias_hh_l0 are both bias_hh_l0", names={"*_l0": "*", "copy": "bias_hh_l0"})
    assert_same(ln.load_weights(path, names={"*_l0": "*"}), make_layer_like(state))


def make_layer_like(state: State) -> Any:
    """An LSTM with these weights."""
    rnn = ln.LSTM(3, 5)
    rnn.load_state_dict(state)
    return rnn


def test_what_a_layers_module_holds_beside_is_refused(tmp_path: Path) -> None:
    """A layer norm within the LSTM: without it the layer would compute something else."""
    state = {f"lstm.{name}": array for name, array in make_layer("lstm", 3, 5).state_dict().items()}
    path = saved(tmp_path / "w.npz", {**state, "lstm.norm.weight": np.ones(5, np.float32)})
    refused(path, "lstm.norm.weight: unknown name")
    path = saved(tmp_path / "v.npz", {**state, "norm.weight": np.ones(5, np.float32)})
    assert isinstance(ln.load_weights(path), ln.LSTM)


def test_wrong_kinds_of_names(tmp_path: Path) -> None:
    path, *_ = two_networks(tmp_path / "w.npz")
    with pytest.raises(TypeError, match="prefix: expected names or prefix, got both"):
        ln.load_weights(path, names="enc_*", prefix="enc_")
    for names in (["enc_*"], 3):
        with pytest.raises(TypeError, match="names: expected a pattern or a mapping"):
            ln.load_weights(path, names=names)
    with pytest.raises(TypeError, match="names: expected our names or None, got int"):
        ln.load_weights(path, names={"enc_w_ih": 0})
    with pytest.raises(TypeError, match="batch_first: expected head or batch_first, got both"):
        ln.load_weights(path, prefix="dec_", head="fc", batch_first=True)


# -- a linear layer behind -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "head"),
    [
        (("lin.weight", "lin.bias"), "lin"),
        (("fc_w", "fc_b"), "fc"),
        (("top/kernel", "top/bias"), "top"),
        (("one", "two"), {"one": "weight", "two": "bias"}),
        (("lin.weight", None), "lin"),
    ],
)
def test_heads(names: tuple[str, str | None], head: Any, tmp_path: Path) -> None:
    rnn, rng = make_layer("lstm", 3, 5, bidirectional=True, seed=0), np.random.default_rng(0)
    weight, bias = (rng.normal(size=size).astype(np.float32) for size in ((2, 10), (2,)))
    state = {f"rnn.{name}": array for name, array in rnn.state_dict().items()}
    state[names[0]] = weight.T if "kernel" in names[0] else weight
    if names[1] is None:
        bias = np.zeros_like(bias)
    else:
        state[names[1]] = bias
    model = ln.load_weights(saved(tmp_path / "w.npz", state), head=head)
    x = rng.normal(size=(4, 3, 3)).astype(np.float32)
    y, _ = rnn(x)
    np.testing.assert_allclose(model.scores(x), y @ weight.T + bias, rtol=1e-5, atol=1e-6)


def test_heads_that_do_not_fit(tmp_path: Path) -> None:
    path, *_ = two_networks(tmp_path / "w.npz")
    for head, message in (
        ("fcc", "head: no linear layer is named 'fcc'; did you mean fc"),
        ({"fc": "weight"}, "head: no tensor is named 'fc'; did you mean fc_[wb]"),
        ({"fc_b": "bias"}, "expected a name for weight"),
        ({"fc_b": "weight"}, "fc_b: expected a matrix, got shape"),
        ({"fc_w": "weight.T", "fc_b": "bias"}, "weight has 5 rows, bias 7"),
        ({"fc_w": "weight.T"}, r"head: expected \(O, 5\) weights, got shape \(5, 7\)"),
        ({"fc_w": "weigth"}, "expected weight, weight.T and bias"),
    ):
        with pytest.raises(WeightsError, match=message):
            ln.load_weights(path, prefix="dec_", head=head)


def test_lists_of_keras_have_no_head(tmp_path: Path) -> None:
    ln.save_keras(layer("gru"), tmp_path / "k.npz")
    refused(tmp_path / "k.npz", "head: expected none for the lists of Keras' layers", head="fc")
    refused(tmp_path / "k.npz", "prefix: expected none for the lists of Keras' layers", prefix="l0.")


def test_a_head_beside_bare_names(tmp_path: Path) -> None:
    """It is no unknown parameter of the layer."""
    rnn = make_layer("gru", 3, 5, seed=0)
    state = {**rnn.state_dict(), "out_w": np.ones((1, 5), np.float32), "out_b": np.ones(1, np.float32)}
    path = saved(tmp_path / "w.npz", state)
    refused(path, "out_w: unknown name")
    assert_same(ln.load_weights(path, head="out").rnn, rnn)


# -- numbers -------------------------------------------------------------------------------------------


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    rnn = make_layer("lstm", 3, 5, seed=0)
    state = {f"lstm.{name}": np.array(array) for name, array in rnn.state_dict().items()}
    state["lin.weight"], state["lin.bias"] = np.ones((2, 5), np.float32), np.array([0, np.inf], np.float32)
    path = saved(tmp_path / "w.npz", state)
    assert_same(ln.load_weights(path), rnn)
    refused(path, "lin.bias: holds numbers that are not finite", head="lin")
    assert np.isinf(ln.load_weights(path, head="lin", allow_nonfinite=True).output.params["bias"]).any()
    state["lstm.weight_ih_l0"][0, 0] = np.nan
    path = saved(tmp_path / "v.npz", state)
    refused(path, "lstm.weight_ih_l0: holds numbers that are not finite")
    found = ln.load_weights(path, allow_nonfinite=True)
    assert np.isnan(found.params["weight_ih_l0"]).sum() == 1


# -- other libraries -------------------------------------------------------------------------------------


def flat(tree: Any, start: str = "") -> State:
    """Nested dictionaries as names with dots."""
    if not hasattr(tree, "items"):
        return {start[:-1]: np.asarray(tree)}
    found: State = {}
    for key, value in tree.items():
        found |= flat(value, f"{start}{key}.")
    return found


@pytest.mark.parametrize("kind", ["LSTMCell", "OptimizedLSTMCell", "GRUCell"])
def test_flax_cells(kind: str, tmp_path: Path) -> None:
    linen = pytest.importorskip("flax.linen", reason="Flax is not installed")
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    x = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    cell = getattr(linen, kind)(5)
    carry = cell.initialize_carry(jax.random.key(0), x[0].shape)
    params = cell.init(jax.random.key(1), carry, x[0])
    noisy = jax.tree_util.tree_map(
        lambda array: array + 0.1 * jax.random.normal(jax.random.key(2), array.shape), params
    )
    expected = []
    for sample in x:
        carry, y = cell.apply(noisy, carry, sample)
        expected.append(y)
    found, _ = ln.load_weights(saved(tmp_path / "w.npz", flat(noisy)))(x)
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell"])
def test_flax_nnx_cells(kind: str, tmp_path: Path) -> None:
    nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")
    cell = getattr(nnx, kind)(3, 5, rngs=nnx.Rngs(0))
    state = {
        ".".join(map(str, path)): np.asarray(v[...])
        for path, v in nnx.to_flat_state(nnx.state(cell, nnx.Param))
    }
    rng = np.random.default_rng(0)
    for name in state:
        state[name] = state[name] + 0.1 * rng.normal(size=state[name].shape).astype(np.float32)
    flat_state = nnx.to_flat_state(nnx.state(cell, nnx.Param))
    for path, variable in flat_state:
        variable[...] = state[".".join(map(str, path))]
    nnx.update(cell, nnx.from_flat_state(flat_state))
    x = rng.normal(size=(6, 2, 3)).astype(np.float32)
    carry, expected = cell.initialize_carry(x[0].shape, nnx.Rngs(0)), []
    for sample in x:
        carry, y = cell(carry, sample)
        expected.append(np.asarray(y))
    found, _ = ln.load_weights(saved(tmp_path / "w.npz", state))(x)
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_equinox_cells(kind: str, tmp_path: Path) -> None:
    equinox = pytest.importorskip("equinox", reason="Equinox is not installed")
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    cell = getattr(equinox.nn, kind)(3, 5, key=jax.random.key(0))
    state = {
        f"cell.{name}": np.asarray(value) for name, value in vars(cell).items() if hasattr(value, "shape")
    }
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    zero = np.zeros(5, np.float32)
    carry: Any = (zero, zero) if kind == "LSTMCell" else zero
    expected = []
    for sample in x:
        carry = cell(sample, carry)
        expected.append(carry[0] if kind == "LSTMCell" else carry)
    found, _ = ln.load_weights(saved(tmp_path / "w.npz", state))(x[:, None])
    np.testing.assert_allclose(found[:, 0], np.stack(expected), rtol=1e-5, atol=1e-6)
