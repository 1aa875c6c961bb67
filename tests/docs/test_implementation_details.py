"""Implementation details of lstm_numba/cells/README.md, by their numbers, beside PyTorch's and Keras' rules.

What is said of this library is tried with its reference in NumPy, to which other tests hold the kernels, and
with the kernels where only they have it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detail_tools import close, numbers
from repository import ROOT

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.models.base import SequenceBatch, TokenBatch

T, B, I, H = 6, 3, 4, 5  # noqa: E741
LENGTHS = np.array([3, 6, 2])


def run(
    rnn: Any, x: np.ndarray, state: Any = None, lengths: Any = None
) -> tuple[np.ndarray, tuple[Any, ...]]:
    """What the reference computes with a layer's parameters."""
    given = rnn.zero_state(x.shape[1]) if state is None else state
    states = given if isinstance(given, tuple) else (given,)
    key = rnn.plain_cell.key
    options = {"num_layers": rnn.num_layers, "bidirectional": rnn.bidirectional, "lengths": lengths}
    return reference.run(key, rnn.state_dict(), x, states, **options)


def of_torch(torch: Any, kind: str, **options: Any) -> tuple[Any, Any]:
    """A module of PyTorch, and the layer with its parameters."""
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(I, H, **options)
    return module, ln.from_torch(module)


def of_keras(keras: Any, kind: str, **options: Any) -> tuple[Any, Any]:
    """A layer of Keras with random parameters, and ours with these; inputs of Keras are (B, T, I)."""
    keras.utils.set_random_seed(0)
    layer = getattr(keras.layers, kind)(H, return_sequences=True, return_state=True, **options)
    layer.build((None, None, I))
    layer.set_weights([numbers(*w.shape, seed=n) / 2 for n, w in enumerate(layer.get_weights())])
    cell = "gru-reset-before" if options.get("reset_after") is False else None
    return layer, ln.from_keras(layer.get_weights(), cell=cell)


@pytest.mark.smoke
def test_every_detail_has_a_test() -> None:
    page = (ROOT / "lstm_numba" / "cells" / "README.md").read_text(encoding="utf-8")
    details = [int(number) for number in re.findall(r"^(\d+)\. \*\*", page, re.MULTILINE)]
    assert details == list(range(1, len(details) + 1))
    found = set()
    for path in Path(__file__).parent.glob("test_*_details.py"):
        for name in re.findall(
            r"^def test_(\d+(?:_to_\d+)?(?:_and_\d+)?)_", path.read_text(encoding="utf-8"), re.M
        ):
            first, last, both = re.fullmatch(r"(\d+)(?:_to_(\d+))?(?:_and_(\d+))?", name).groups()
            found |= set(range(int(first), int(last or first) + 1))
            found |= {int(both)} if both else set()
    assert found == set(details)


# -- parameters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_1_gate_order_is_pytorchs(torch: Any, kind: str) -> None:
    module, _ = of_torch(torch, kind)
    rnn = ln.make_layer(kind.lower(), I, H)
    rnn.load_state_dict({name: array.detach().numpy() for name, array in module.state_dict().items()})
    x = numbers(T, B, I)
    close(module(torch.tensor(x))[0], run(rnn, x)[0])


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_1_keras_order_is_another(keras: Any, kind: str) -> None:
    layer, rnn = of_keras(keras, kind)
    kernel, ours = layer.get_weights()[0], rnn.params["weight_ih_l0"]
    order = {"SimpleRNN": (0,), "LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2)}[kind]  # i f c o are i f g o
    close(ours.reshape(-1, H, I), kernel.T.reshape(-1, H, I)[list(order)], 0)
    x = numbers(T, B, I)
    close(layer(x.swapaxes(0, 1))[0], run(rnn, x)[0].swapaxes(0, 1))


def test_2_only_the_sum_of_two_biases_counts_but_for_a_grus_candidate(torch: Any) -> None:
    x = numbers(T, B, I)
    for kind, changed in (("LSTM", False), ("GRU", True)):
        _, rnn = of_torch(torch, kind)
        before = run(rnn, x)[0]
        rnn.params["bias_ih_l0"] += 1
        rnn.params["bias_hh_l0"] -= 1
        difference = float(np.abs(run(rnn, x)[0] - before).max())
        assert (difference > 0.01) is changed, kind
    assert "bias_ih_l0" not in ln.LSTM(I, H, bias=False).params


def test_2_kerass_gru_alone_has_two_biases(keras: Any) -> None:
    shapes = [of_keras(keras, kind)[0].get_weights()[2].shape for kind in ("LSTM", "GRU")]
    before = of_keras(keras, "GRU", reset_after=False)[0].get_weights()[2].shape
    assert [*shapes, before] == [(4 * H,), (2, 3 * H), (3 * H,)]


def test_3_initial_weights_are_pytorchs(torch: Any) -> None:
    module, hidden = torch.nn.LSTM(30, 64, proj_size=10), 64
    rnn = ln.LSTM(30, 64, proj_size=10, seed=0)
    bound = 1 / np.sqrt(hidden)
    for name, array in rnn.params.items():
        for one in (array, dict(module.named_parameters())[name].detach().numpy()):
            assert 0.9 * bound < np.abs(one).max() <= bound, name
            assert np.std(one) == pytest.approx(bound / np.sqrt(3), rel=0.2), name


def test_3_keras_draws_a_matrix_as_a_whole_and_here_each_gate(keras: Any) -> None:
    layer = keras.layers.LSTM(64)
    layer.build((None, None, 30))
    kernel, recurrent, _ = layer.get_weights()
    assert np.abs(kernel).max() == pytest.approx(np.sqrt(6 / (30 + 4 * 64)), rel=0.02)
    close(recurrent @ recurrent.T, np.eye(64), 1e-5)
    xavier, orthogonal = (ln.LSTM(30, 64, init=init, seed=0).params for init in ("xavier", "orthogonal"))
    assert np.abs(xavier["weight_ih_l0"]).max() == pytest.approx(np.sqrt(6 / (30 + 64)), rel=0.02)
    for gate in np.split(orthogonal["weight_hh_l0"], 4):
        close(gate @ gate.T, np.eye(64), 1e-5)


def test_4_forget_bias() -> None:
    options: dict[str, Any] = {"classes": 2, "cell": "lstm", "seed": 0}
    plain, raised = (ln.SequenceClassifier(I, H, forget_bias=bias, **options) for bias in (0.0, 1.0))
    added = raised.rnn.params["bias_ih_l0"] - plain.rnn.params["bias_ih_l0"]
    close(added, np.repeat([0, 1, 0, 0], H))
    close(raised.rnn.params["bias_hh_l0"], plain.rnn.params["bias_hh_l0"], 0)


def test_4_pytorch_adds_nothing_and_keras_one(torch: Any, keras: Any) -> None:
    module = torch.nn.LSTM(I, 100)
    assert module.bias_ih_l0.detach().abs().max() <= 0.1
    layer = keras.layers.LSTM(H)
    layer.build((None, None, I))
    close(layer.get_weights()[2], np.repeat([0, 1, 0, 0], H), 0)


def test_5_reset_gate_after_the_product_by_default(torch: Any, keras: Any) -> None:
    x = numbers(T, B, I)
    module, rnn = of_torch(torch, "GRU")
    other = ln.GRU(I, H, reset_after=False)
    other.load_state_dict(rnn.state_dict())
    close(module(torch.tensor(x))[0], run(rnn, x)[0])
    assert np.abs(run(other, x)[0] - run(rnn, x)[0]).max() > 0.01
    assert (ln.GRU(I, H).cell.key, keras.layers.GRU(H).reset_after) == ("gru", True)
    layer, before = of_keras(keras, "GRU", reset_after=False)
    assert before.cell.key == "gru-reset-before"
    close(layer(x.swapaxes(0, 1))[0], run(before, x)[0].swapaxes(0, 1))


def test_5_the_update_gate_keeps() -> None:
    rnn = ln.GRU(I, H, seed=0)
    rnn.params["bias_ih_l0"][H : 2 * H] = 100  # z = 1
    h = numbers(1, B, H)
    close(run(rnn, numbers(T, B, I), h)[1][0], h)


def test_6_activations_and_the_two_hard_sigmoids(keras: Any) -> None:
    layer = keras.layers.LSTM(H)
    assert (layer.activation.__name__, layer.recurrent_activation.__name__) == ("tanh", "sigmoid")
    x = np.array([-4.0, -2.6, -1.0, 0.0, 1.0, 2.6, 4.0])
    (f,) = (value for name, value in _variant_functions("lstm,f=HardSigmoid_0.2_0.5") if name == "f")
    close([f(value) for value in x], np.clip(0.2 * x + 0.5, 0, 1))
    close(keras.activations.hard_sigmoid(x.astype(np.float32)), np.clip(x / 6 + 0.5, 0, 1))


def _variant_functions(name: str) -> list[tuple[str, Any]]:
    """The activations that a variant's equations call."""
    from lstm_numba.cells import onnx_variants

    return [
        (letter, lambda x, used=used: onnx_variants.VALUES[used.name](x, *used.numbers))
        for letter, used in onnx_variants.read(name).functions
    ]


def test_7_projection_is_pytorchs(torch: Any) -> None:
    module, rnn = of_torch(torch, "LSTM", proj_size=2, num_layers=2, bidirectional=True)
    x = numbers(T, B, I)
    y, (h, c) = run(rnn, x)
    expected, (last, cells) = module(torch.tensor(x))
    close(y, expected)
    close(h, last)
    close(c, cells)
    assert (y.shape[-1], h.shape[-1], c.shape[-1]) == (4, 2, H)
    assert rnn.params["weight_hh_l0"].shape == (4 * H, 2)


def test_8_layer_normalisation_is_nn_layer_norm_over_all_gates(torch: Any, keras: Any) -> None:
    rnn = ln.LayerNormLSTM(I, H, dtype=np.float64, seed=0)
    x, p = numbers(1, B, I), rnn.params
    # With no state the recurrent product is 0, and so is what it is normalised to.
    z = torch.nn.LayerNorm(4 * H, elementwise_affine=False)(torch.tensor(x[0] @ p["weight_ih_l0"].T))
    i, _, g, o = z.split(H, dim=1)
    c = torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(torch.nn.LayerNorm(H, elementwise_affine=False)(c))
    close(run(rnn, x)[0][0], h, 1e-12)
    assert (torch.nn.LayerNorm(H).eps, keras.layers.LayerNormalization().epsilon) == (1e-5, 1e-3)


def test_9_the_stabiliser_cancels() -> None:
    rnn, x = ln.SLSTM(I, H, dtype=np.float64, seed=0), numbers(T, B, I)
    h, c, n, m = (np.abs(numbers(1, B, H, seed=k)).astype(np.float64) for k in range(4))
    first, _ = run(rnn, x, (h, c, n, m))
    shift = 3.0
    second, _ = run(rnn, x, (h, c * np.exp(-shift), n * np.exp(-shift), m + shift))
    close(first, second, 1e-13)


# -- sequences and states ----------------------------------------------------------------------------


def test_10_and_11_axes_and_states_are_pytorchs(torch: Any) -> None:
    module, rnn = of_torch(torch, "LSTM", num_layers=2, bidirectional=True, batch_first=True)
    assert rnn.batch_first
    x, state = numbers(B, T, I), tuple(numbers(4, B, H, seed=n) for n in (1, 2))
    expected, states = module(torch.tensor(x), tuple(map(torch.tensor, state)))
    y, finals = run(rnn, x.swapaxes(0, 1), state)
    close(y.swapaxes(0, 1), expected)
    for found, wanted in zip(finals, states, strict=True):
        close(found, wanted)
    assert [a.shape for a in ln.SLSTM(I, H).zero_state(B)] == [(1, B, H)] * 4


def test_11_kerass_states_of_two_directions(keras: Any) -> None:
    forward, _ = of_keras(keras, "LSTM")
    layer = keras.layers.Bidirectional(forward)
    layer.build((None, None, I))
    layer.set_weights([numbers(*w.shape, seed=n) / 2 for n, w in enumerate(layer.get_weights())])
    rnn, x = ln.from_keras(layer.get_weights()), numbers(T, B, I)
    y, *states = layer(x.swapaxes(0, 1))
    found, (h, c) = run(rnn, x)
    close(y, found.swapaxes(0, 1))
    for one, other in zip(states, (h[0], c[0], h[1], c[1]), strict=True):
        close(one, other)


def test_12_the_initial_state_is_zero_and_has_a_gradient(torch: Any) -> None:
    module, rnn = of_torch(torch, "LSTM")
    x = numbers(T, B, I)
    zeros = rnn.zero_state(B)
    assert all(not array.any() for array in (*zeros, *ln.SLSTM(I, H).zero_state(B)))
    close(module(torch.tensor(x))[0], module(torch.tensor(x), tuple(torch.tensor(a) for a in zeros))[0], 0)
    y, _, tape = rnn.forward(x)
    close(y, module(torch.tensor(x))[0])
    _, dstate, _ = rnn.backward(tape, np.ones_like(y))
    given = [torch.tensor(a, requires_grad=True) for a in zeros]
    module(torch.tensor(x), tuple(given))[0].sum().backward()
    for found, tensor in zip(dstate, given, strict=True):
        close(found, tensor.grad, 1e-5)


def test_13_kerass_last_output_of_the_backward_direction_is_its_first(keras: Any) -> None:
    layer = keras.layers.Bidirectional(keras.layers.LSTM(H))
    layer.build((None, None, I))
    x = numbers(T, B, I)
    y, _ = run(ln.from_keras(layer.get_weights()), x)
    close(layer(x.swapaxes(0, 1)), np.concatenate([y[-1, :, :H], y[0, :, H:]], axis=1))


def test_14_and_15_padded_sequences_are_pytorchs_packed_ones(torch: Any) -> None:
    module, rnn = of_torch(torch, "LSTM", bidirectional=True)
    x, utilities = numbers(T, B, I), torch.nn.utils.rnn
    packed = utilities.pack_padded_sequence(torch.tensor(x), torch.tensor(LENGTHS), enforce_sorted=False)
    y, states = module(packed)
    for n, length in enumerate(LENGTHS):
        x[length:, n] = np.nan
    found, finals = rnn(x, lengths=LENGTHS)
    close(found, utilities.pad_packed_sequence(y)[0])
    for one, other in zip(finals, states, strict=True):
        close(one, other)
    for n, length in enumerate(LENGTHS):
        assert not found[length:, n].any()
        close(finals[0][0, n], found[length - 1, n, :H], 0)
        close(finals[0][1, n], found[0, n, H:], 0)
    with pytest.raises(RuntimeError, match="greater than 0"):
        utilities.pack_padded_sequence(torch.tensor(x), torch.tensor([0, 6, 2]), enforce_sorted=False)
    assert not rnn(x, lengths=np.array([0, 6, 2]))[0][:, 0].any()


def test_14_and_15_kerass_masks_repeat_the_last_output(keras: Any) -> None:
    layer, rnn = of_keras(keras, "LSTM")
    x = numbers(T, B, I)
    mask = np.arange(T) < LENGTHS[:, None]
    y, h, c = (a.detach().numpy() for a in layer(x.swapaxes(0, 1), mask=keras.ops.convert_to_tensor(mask)))
    found, finals = run(rnn, x, lengths=LENGTHS)
    close(h, finals[0][0])
    close(c, finals[1][0])
    for n, length in enumerate(LENGTHS):
        close(y[n, :length], found[:length, n])
        close(y[n, length:], np.broadcast_to(y[n, length - 1], (T - length, H)), 0)
    inside = np.ones((B, T), bool)
    inside[:, 2] = False  # passed over
    y, h, _ = layer(x.swapaxes(0, 1), mask=keras.ops.convert_to_tensor(inside))
    close(h, run(rnn, np.delete(x, 2, axis=0))[1][0][0])


def test_16_resets_are_calls_one_after_the_other() -> None:
    rnn, x = ln.LSTM(I, H, bidirectional=True, seed=0), numbers(T, B, I)
    starts = np.zeros((T, B), bool)
    starts[2] = True
    y, _ = rnn(x, resets=starts)
    close(y, np.concatenate([run(rnn, x[:2])[0], run(rnn, x[2:])[0]]))


# -- dropout -----------------------------------------------------------------------------------------


def test_17_dropout_is_between_layers_only(torch: Any) -> None:
    x = numbers(T, B, I)
    single = ln.LSTM(I, H, dropout=0.5, seed=0)
    close(single.forward(x)[0], run(single, x)[0])
    with pytest.warns(UserWarning, match="all but last recurrent layer"):
        module = torch.nn.LSTM(I, H, dropout=0.5)
    close(module.train()(torch.tensor(x))[0], module.eval()(torch.tensor(x))[0], 0)
    double = ln.LSTM(I, H, 2, dropout=0.5, seed=0)
    assert np.abs(double.forward(x)[0] - run(double, x)[0]).max() > 0.01


def test_17_and_18_kerass_masks_stay_for_a_sequence_and_differ_by_gate(keras: Any) -> None:
    cell = keras.layers.LSTM(H, dropout=0.5, recurrent_dropout=0.5, seed=0).cell
    ones = keras.ops.ones((20, 30))
    for masks in (cell.get_dropout_mask, cell.get_recurrent_dropout_mask):
        first, again = (np.array([mask.numpy() for mask in masks(ones)]) for _ in range(2))
        close(first, again, 0)
        assert len(first) == 4
        assert np.abs(first[0] - first[1]).max() == 2  # kept elements are divided by 1 - p


def test_18_recurrent_dropout_drops_the_same_units_for_all_gates() -> None:
    rnn, x = ln.LSTM(I, H, recurrent_dropout=0.5, seed=3), numbers(T, B, I)
    y, _, _ = rnn.forward(x)
    mask = np.random.default_rng()
    mask.bit_generator.state = ln.LSTM(I, H, recurrent_dropout=0.5, seed=3).rng.bit_generator.state
    kept = (mask.random((1, B, H), np.float32) >= 0.5) / 0.5
    plain, h = ln.LSTM(I, H, seed=3), np.zeros((B, H))
    params = {name.removesuffix("_l0"): a.astype(np.float64) for name, a in plain.params.items()}
    c = np.zeros((B, H))
    for t in range(T):
        (h, c), _ = reference.lstm_step(x[t], (h * kept[0], c), params)
        close(y[t], h)


def test_17_models_drop_before_their_output_layer_too() -> None:
    options: dict[str, Any] = {"classes": 2, "cell": "lstm", "seed": 0}
    batch = SequenceBatch(numbers(T, 64, I), np.zeros(64, int))
    plain, dropping = (ln.SequenceClassifier(I, H, dropout=p, **options) for p in (0.0, 0.5))
    rows = [model.loss_and_gradients(batch).grads["output.weight"] for model in (plain, dropping)]
    assert np.abs(rows[0] - rows[1]).max() > 0.001
    found = dropping.scores(batch.x)
    close(found, plain.scores(batch.x), 0)


def test_19_weight_drop_drops_elements_of_weight_hh_for_the_whole_call() -> None:
    rnn, plain = (ln.LSTM(I, H, weight_drop=p, seed=3) for p in (0.5, 0.0))
    x = numbers(T, B, I)
    mask = np.random.default_rng()
    mask.bit_generator.state = rnn.rng.bit_generator.state
    kept = (mask.random((4 * H, H), np.float32) >= 0.5) / 0.5
    plain.params["weight_hh_l0"] *= kept.astype(np.float32)
    close(rnn.forward(x)[0], run(plain, x)[0])


def test_19_zoneout_is_the_expectation_at_inference() -> None:
    rnn, plain = (ln.GRU(I, H, zoneout=p, seed=0) for p in (0.25, 0.0))
    x, h = numbers(1, B, I), numbers(1, B, H, seed=1)
    new = run(plain, x, h)[1][0]
    close(rnn(x, h)[1], 0.75 * new + 0.25 * h)


# -- training ----------------------------------------------------------------------------------------


def test_20_and_21_truncated_back_propagation_and_the_loss_of_a_language_model(torch: Any) -> None:
    vocabulary = 7
    model = ln.LanguageModel(vocabulary, H, seed=0)
    tokens = np.random.default_rng(0).integers(0, vocabulary, (2 * T + 1, B))
    first = TokenBatch(tokens[:T], tokens[1 : T + 1])
    second = TokenBatch(tokens[T : 2 * T], tokens[T + 1 :])
    state = model.loss_and_gradients(first).state
    result = model.loss_and_gradients(second, state)

    table, head = torch.nn.Embedding(vocabulary, H), torch.nn.Linear(H, vocabulary)
    rnn = torch.nn.LSTM(H, H)
    for module, part in ((table, "embedding"), (rnn, "rnn"), (head, "output")):
        prefix = f"{part}."
        own = {name.removeprefix(prefix): a for name, a in model.params.items() if name.startswith(prefix)}
        module.load_state_dict({name: torch.tensor(array) for name, array in own.items()})
    _, after = rnn(table(torch.tensor(first.inputs)))
    y, _ = rnn(table(torch.tensor(second.inputs)), tuple(a.detach() for a in after))
    loss = torch.nn.functional.cross_entropy(
        head(y).reshape(-1, vocabulary), torch.tensor(second.targets).reshape(-1)
    )
    loss.backward()
    assert result.loss_sum / result.count == pytest.approx(loss.item(), rel=1e-5)
    for name, tensor in rnn.named_parameters():
        close(result.grads[f"rnn.{name}"], T * tensor.grad, 1e-5)


def test_22_losses_are_means(torch: Any) -> None:
    logits, labels = numbers(B, 4), np.array([1, 3, 0])
    loss, gradient = ln.cross_entropy(logits, labels, weights=np.array([1.0, 1.0, 0.0]))
    given = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(given[:2], torch.tensor(labels[:2]))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    close(gradient, given.grad)


def test_23_clipping_by_norm(torch: Any) -> None:
    grads = {"a": np.full(9, 4e-7, np.float32), "b": np.full(16, 4e-7, np.float32)}
    found = ln.clip_norm(grads, 1e-6)
    assert found.norm == pytest.approx(2e-6, rel=1e-6)
    assert found.scale == pytest.approx(0.5, rel=1e-6)
    tensors = [torch.zeros(len(g), requires_grad=True) for g in grads.values()]
    for tensor, gradient in zip(tensors, grads.values(), strict=True):
        tensor.grad = torch.tensor(gradient)
    torch.nn.utils.clip_grad_norm_(tensors, 1e-6)
    close(tensors[0].grad, grads["a"] * 1e-6 / (2e-6 + 1e-6), 1e-12)  # 1e-6 is added to the norm
    assert ln.clip_norm(grads, 1.0).scale == 1
    params = {"a": np.ones(9, np.float32)}
    nan = {"a": np.full(9, np.nan, np.float32)}
    ln.SGD(params, 1.0).step(nan, scale=ln.clip_norm(nan, 1.0).scale)
    assert (params["a"] == 1).all()
    tensors[0].grad[0] = np.nan
    torch.nn.utils.clip_grad_norm_(tensors, 1.0)
    assert all(tensor.grad.isnan().all() for tensor in tensors)


def test_23_and_24_clipping_in_keras(torch: Any, keras: Any) -> None:
    grads = {"a": numbers(9), "b": numbers(16, seed=1)}
    norms = [np.sqrt(np.sum(np.square(g))) for g in grads.values()]
    given = [keras.ops.convert_to_tensor(g) for g in grads.values()]

    def clipped(**option: float) -> list[np.ndarray]:
        return [g.numpy() for g in keras.optimizers.SGD(1.0, **option)._clip_gradients(given)]

    scale = ln.clip_norm(grads, 1.0).scale
    for found, apart, limited, (name, g) in zip(
        clipped(global_clipnorm=1.0),
        clipped(clipnorm=1.0),
        clipped(clipvalue=0.5),
        grads.items(),
        strict=True,
    ):
        close(found, scale * g)
        close(apart, g / norms[name == "b"])
        close(limited, np.clip(g, -0.5, 0.5), 0)
    tensor = torch.zeros(9, requires_grad=True)
    tensor.grad = torch.tensor(grads["a"])
    torch.nn.utils.clip_grad_value_([tensor], 0.5)
    ln.clip_values(grads, 0.5)
    close(grads["a"], tensor.grad, 0)


def test_29_embedding_and_linear(torch: Any, keras: Any) -> None:
    ours = ln.Embedding(100, 50).params["weight"]
    theirs = keras.layers.Embedding(100, 50)
    theirs.build((None,))
    for weights, bound in ((ours, 0.1), (theirs.get_weights()[0], 0.05)):
        assert 0.98 * bound < np.abs(weights).max() <= bound
    assert torch.nn.Embedding(100, 50).weight.std().item() == pytest.approx(1, rel=0.1)
    for linear in (ln.Linear(16, 500).params, dict(torch.nn.Linear(16, 500).named_parameters())):
        for name in ("weight", "bias"):
            assert 0.98 / 4 < abs(np.asarray(linear[name].tolist())).max() <= 1 / 4


def test_30_float32_and_the_same_bits() -> None:
    rnn, x = ln.LSTM(I, H, seed=0), numbers(T, B, I)
    y, _ = rnn(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(ln.LSTM(I, H, seed=0)(x)[0], y)
    assert 0 < np.abs(y - run(rnn, x)[0]).max() < 1e-6
    # A sum in float32 would end at 2**24.
    many = {"w": np.ones(2**24 + 2**22, np.float32)}
    assert ln.clip_norm(many, 1.0).norm == np.sqrt(2**24 + 2**22)
