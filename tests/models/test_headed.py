"""A model made of given layers and weights: the same numbers, trained, configured, streamed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.cells.registration import make_cell
from lstm_numba.models import SequenceRegressor, headed_model
from lstm_numba.models.network import Network

#: What a layer may be told, cell included.
LAYERS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "lstm without bias": {"bias": False, "num_layers": 2},
    "both directions": {"name": "gru", "bidirectional": True, "num_layers": 2, "dropout": 0.3},
    "projection": {"proj_size": 3, "dtype": "float64"},
    "variant": {"name": "lstm,clip=3", "weight_drop": 0.2},
    "zoneout": {"zoneout": (0.1, 0.4), "recurrent_dropout": 0.2, "recurrent_dropout_kind": "candidate"},
    "heads": {"name": "slstm", "heads": 3, "zoneout": (0.2,) * 4},
    "clockwork": {"name": "clockwork", "periods": (1, 2, 5), "bias": False},
}


def _weights(rnn: Any, outputs: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.standard_normal((outputs, rnn.directions * rnn.output_size)), rng.standard_normal(outputs)


def _layer(name: str = "lstm", **options: Any) -> Any:
    return ln.make_layer(name, 4, 6, seed=3, **options)


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_the_layer_is_the_given_one(options: dict[str, Any]) -> None:
    """All that it was told, and its weights; a configuration makes such a model again."""
    rnn = _layer(**options)
    weight, bias = _weights(rnn)
    model = headed_model(rnn, weight, bias)
    assert repr(model.rnn) == repr(rnn)
    again = SequenceRegressor.from_config(json.loads(json.dumps(model.config())))
    again.load_params(model.params)
    for made in (model, again):
        assert type(made.rnn.cell) is type(rnn.cell)
        assert type(made.rnn.plain_cell) is type(rnn.plain_cell)
        assert made.rnn.params.keys() == rnn.params.keys()
        for name, array in rnn.params.items():
            np.testing.assert_array_equal(made.params[f"rnn.{name}"], array)
        np.testing.assert_array_equal(made.params["output.weight"], weight.astype(rnn.dtype))
        np.testing.assert_array_equal(made.params["output.bias"], bias.astype(rnn.dtype))
    assert again.config() == model.config()
    assert Network.of(again.rnn) == Network.of(rnn)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_of_every_step(dtype: str) -> None:
    rnn = _layer(bias=False, bidirectional=True, dtype=dtype, batch_first=True)
    weight, bias = _weights(rnn)
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(dtype)
    y, _ = rnn(x.swapaxes(0, 1))
    expected = y.swapaxes(0, 1) @ weight.T + bias
    assert_close(headed_model(rnn, weight, bias).scores(x), expected, "forward")
    model = headed_model(rnn, weight.tolist())
    assert_close(model.scores(x), expected - bias, "forward")
    assert rnn.params.keys() == model.rnn.params.keys()
    model.params["output.weight"][...] = 0
    model.rnn.params["weight_ih_l0"][...] = 0
    assert rnn.params["weight_ih_l0"].any()  # the given ones are copied
    assert weight.all()


def test_it_is_trained_and_streamed() -> None:
    """It learns what another layer says behind the same head."""
    rnn, other = _layer(bias=False), ln.make_layer("lstm", 4, 6, seed=8)
    weight, bias = _weights(rnn)
    x = np.random.default_rng(0).standard_normal((40, 7, 4)).astype(np.float32)
    y = headed_model(other, weight, bias).scores(x.swapaxes(0, 1)).swapaxes(0, 1)
    model = headed_model(rnn, weight, bias)
    losses = ln.fit(model, (x, y), epochs=8, batch_size=8, lr=0.02, verbose=False)["loss"]
    assert losses[-1] < 0.5 * losses[0]
    stream = ln.Stream(model)
    scores = model.scores(x[:1].swapaxes(0, 1))
    for sample, want in zip(x[0], scores[:, 0], strict=True):
        assert_close(stream.step(sample), want, "forward")


class Leaky:
    """A cell that nobody registered."""

    gates, states = ("g",), ("h",)

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """Half of what was, and the gate."""
        return {"h": 0.5 * v.h + z.g}


def test_what_does_not_fit_is_named() -> None:
    rnn = _layer(bidirectional=True)
    weight, bias = _weights(rnn)
    cell = ln.Recurrent(make_cell(Leaky), 4, 6)
    several = _layer("slstm", zoneout=(0.1, 0.2, 0.3, 0.3))
    given: Any
    for kind, message, given in (
        (TypeError, "rnn: expected a recurrent layer, got ndarray", (weight, weight)),
        (ValueError, r"weight: expected shape \(O, 12\).* got \(2, 11\)", (rnn, weight[:, 1:])),
        (ValueError, r"weight: expected shape \(O, 12\).* got \(12,\)", (rnn, weight[0])),
        (ValueError, r"weight: expected shape \(O, 12\).* got \(0, 12\)", (rnn, weight[:0])),
        (ValueError, r"bias: expected shape \(2,\).* got \(1, 2\)", (rnn, weight, bias[None])),
        (TypeError, "weight: expected real numbers", (rnn, [["a"] * 12])),
        (ValueError, "rnn: expected a registered cell.* Leaky", (cell, np.ones((1, 6)))),
        (ValueError, "rnn: expected one zoneout of all states but the first", (several, np.ones((1, 6)))),
    ):
        with pytest.raises(kind, match=message) as found:
            headed_model(*given)
        assert "\n" not in str(found.value)


def test_one_zoneout_is_that_of_all_states() -> None:
    found = Network.of(_layer("slstm", zoneout=0.2))
    assert (found.zoneout, found.zoneout_cell) == (0.2, None)
    made = found.recurrent(4, np.random.default_rng(0))
    assert made.zoneout == (0.2,) * 4


def test_a_forget_bias_needs_biases() -> None:
    with pytest.raises(ValueError, match=r"forget_bias: expected 0 beside bias=False, got 1\.0"):
        SequenceRegressor(4, 6, 1, bias=False, forget_bias=1.0)
