"""Signatures show every option with its default; what is no option is refused with the nearest one."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.interop.options import LayerOptions as LoadedLayerOptions
from lstm_numba.interop.options import Options
from lstm_numba.models.network import Network, NetworkOptions
from lstm_numba.nn.options import AnyLayerOptions, LayerOptions
from lstm_numba.signatures import explicit
from lstm_numba.wording import shown


@ln.register_cell
class Leaky:
    """A cell of one's own."""

    gates = ("g",)
    states = ("h",)

    def forward(self, z: Any, v: Any) -> dict[str, Any]:
        """Half of what was, and the gate."""
        return {"h": 0.5 * v.h + z.g}


LAYERS = {
    ln.RNN: {"nonlinearity": "tanh"},
    ln.GRU: {"reset_after": True},
    ln.PeepholeLSTM: {"peephole": "diagonal"},
    **{
        layer: {}
        for layer in (
            ln.LSTM, ln.CoupledLSTM, ln.UseGateLSTM, ln.SLSTM, ln.LayerNormLSTM, ln.LayerNormGRU, Leaky,
        )
    },
}  # fmt: skip


def defaults(function: Any) -> dict[str, Any]:
    """The arguments of a function that have a default."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def test_text_of_a_signature() -> None:
    assert str(inspect.signature(ln.GRU)).replace("'", "") == (
        "(input_size: int, hidden_size: int, num_layers: int = 1, *, reset_after: bool = True,"
        " bias: bool = True, batch_first: bool = False, dropout: float = 0.0, dropout_kind: str = element,"
        " weight_drop: float = 0.0, zoneout: float | tuple[float, ...] = 0.0, recurrent_dropout: float = 0.0,"
        " recurrent_dropout_kind: str = sequence, bidirectional: bool = False, proj_size: int = 0,"
        " heads: int = 1, dtype: Any = <class numpy.float32>, device: str = cpu,"
        " seed: int | np.random.Generator | Sequence[int | np.random.Generator] | None = None,"
        " init: str = uniform, models: int | None = None) -> None"
    )


LOADERS = (ln.load_weights, ln.load_keras, ln.load_onnx, ln.from_keras, ln.from_torch)
#: An error has a message; help of what Numba compiles is that of Numba's class, its signature is in order.
CALLABLES = [
    name
    for name in ln.__all__
    if callable(getattr(ln, name)) and name not in ("GradientError", "stream_step")
]


@pytest.mark.parametrize("name", CALLABLES)
def test_help_shows_arguments_by_name(name: str) -> None:
    thing = getattr(ln, name)
    parameters = inspect.signature(thing).parameters.values()
    assert [p.name for p in parameters if p.kind is p.VAR_KEYWORD] == []
    first = pydoc.render_doc(thing, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    shown_names = re.search(rf"^(?:class )?{name}\((.*?)\)(?: ->.*)?$", first, re.MULTILINE)
    assert shown_names is not None
    if inspect.isclass(thing):
        assert all(re.search(rf"\b{p.name}\b", first) for p in parameters)
    else:
        assert all(re.search(rf"\b{p.name}\b", shown_names[1]) for p in parameters)


@pytest.mark.parametrize("function", LOADERS, ids=lambda function: function.__name__)
def test_loaders_show_the_options_that_weights_leave_open(function: Callable[..., Any]) -> None:
    assert Options._field_defaults.items() <= defaults(function).items()
    assert typing.get_type_hints(LoadedLayerOptions) == typing.get_type_hints(Options)
    with pytest.raises(TypeError, match=r"dropuot: no such option; did you mean dropout\?"):
        function("file", dropuot=0.1)


def test_options_of_loaders_are_recurrents() -> None:
    recurrent = inspect.signature(ln.Recurrent).parameters
    assert {name: recurrent[name].default for name in Options._fields} == Options._field_defaults


def test_dir_and_star_import_are_what_is_public() -> None:
    # In a process of its own: here modules are attributes of the package already, by other imports.
    source = "from lstm_numba import *; print(*(name for name in list(globals()) if name not in before))"
    command = [sys.executable, "-c", f"before = {{'before', *globals()}}; {source}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = {name: getattr(ln, name) for name in printed.split()}
    assert set(names) == set(ln.__all__) == set(dir(ln))
    assert len(set(ln.__all__)) == len(ln.__all__)
    assert {name for name in ln.__all__ if inspect.ismodule(names[name])} == {
        "cells", "data", "errors", "kernels",
    }  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_layers_show_the_options_of_recurrent(layer: type) -> None:
    assert defaults(layer) == {**defaults(ln.Recurrent), **LAYERS[layer]}
    kinds = [p.kind for p in inspect.signature(layer).parameters.values()]
    assert kinds[:3] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 3
    assert set(kinds[3:]) == {inspect.Parameter.KEYWORD_ONLY}


def test_make_layer_shows_the_options_of_any_layer() -> None:
    assert defaults(ln.make_layer) == {**defaults(ln.Recurrent), "periods": (1, 2, 4, 8)}


@pytest.mark.parametrize(
    ("model", "own"),
    [
        (ln.SequenceClassifier, {"bidirectional": False, "models": None}),
        (
            ln.LanguageModel,
            {"embedding": None, "tie": False, "embedding_dropout": 0.0, "input_dropout": None},
        ),
        (
            ln.SequenceRegressor,
            {
                "loss": "mse",
                "quantiles": (0.1, 0.5, 0.9),
                "per_step": False,
                "bidirectional": False,
                "models": None,
            },
        ),
    ],
)
def test_models_show_the_fields_of_network(model: type, own: dict[str, Any]) -> None:
    assert defaults(model) == {**own, "seed": None, "device": "cpu", **Network._field_defaults}


def test_help_shows_them() -> None:
    shown_help = pydoc.render_doc(ln.SequenceClassifier, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    assert "zoneout_cell: 'float | None' = None" in shown_help
    assert "**options:" not in shown_help


def test_type_hints_resolve() -> None:
    hints = typing.get_type_hints(ln.LSTM.__init__)
    assert hints["seed"] == int | np.random.Generator | Sequence[int | np.random.Generator] | None
    assert hints["input_size"] is int
    assert "options" not in hints
    assert typing.get_type_hints(ln.LanguageModel.__init__)["zoneout_cell"] == float | None


def test_type_checkers_read_the_same_options() -> None:
    hints = typing.get_type_hints(ln.Recurrent.__init__)
    named = {name: hints[name] for name in defaults(ln.Recurrent) if name != "num_layers"}
    assert typing.get_type_hints(LayerOptions) == named
    named["periods"] = typing.get_type_hints(ln.ClockworkRNN.__init__)["periods"]
    assert typing.get_type_hints(AnyLayerOptions) == named
    fields = typing.get_type_hints(Network)
    assert typing.get_type_hints(NetworkOptions) == {name: fields[name] for name in Network._field_defaults}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ln.LSTM(3, 4, dropuot=0.1), "dropuot: no such option; did you mean dropout?"),
        (lambda: ln.GRU(3, 4, reset_afer=True), "reset_afer: no such option; did you mean reset_after?"),
        (lambda: Leaky(3, 4, layers=2), "layers: no such option; did you mean num_layers?"),
        (lambda: ln.Recurrent(None, 3, 4, zoneuot=1), "zoneuot: no such option; did you mean zoneout?"),
        (lambda: ln.LanguageModel(9, 4, tied=True), "tied: no such option; did you mean tie?"),
        (lambda: ln.SequenceClassifier(3, 4, 2, lyers=2), "lyers: no such option; did you mean layers?"),
        (lambda: ln.SequenceRegressor(3, 4, 2, quantile=(0.5,)), "quantile: .* did you mean quantiles?"),
        (
            lambda: ln.ClockworkRNN(3, 4, heads=2),
            "heads: no such option; expected one of num_layers, periods, bias, batch_first, dropout, "
            "dropout_kind, bidirectional, dtype, device, seed, init",
        ),
        (lambda: ln.make_layer("clockwork", 3, 4, heads=2), "heads: no such option; expected one of num_l"),
        (lambda: ln.make_layer("lstm", 3, 4, periods=(1, 2)), "periods: no such option; expected one of"),
    ],
)
def test_other_options_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message.replace("?", r"\?")):
        call()


def test_other_faults_are_pythons() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'hidden_size'"):
        ln.LSTM(3)  # type: ignore[call-arg]


def test_layers_are_copied_and_pickled_as_before() -> None:
    layer = ln.PeepholeLSTM(3, 4, peephole="full", num_layers=2, seed=1)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(other) == "PeepholeLSTM(3, 4, num_layers=2, dtype=float32)"
        np.testing.assert_array_equal(other.params["weight_hh_l1"], layer.params["weight_hh_l1"])


def test_subclasses_say_what_they_add() -> None:
    class Tagged(ln.LSTM):
        @explicit(ln.LSTM.__init__)
        def __init__(self, *sizes: int, tag: str = "a", **options: Any) -> None:
            super().__init__(*sizes, **options)
            self.tag = tag

    assert defaults(Tagged) == {"tag": "a", **defaults(ln.LSTM)}
    assert Tagged(3, 4, tag="b", bias=False).tag == "b"
    with pytest.raises(TypeError, match="tga: no such option; did you mean tag"):
        Tagged(3, 4, tga="b")


def test_shown_leaves_out_defaults_and_what_is_not_kept() -> None:
    class Thing:
        def __init__(self, size: int, gone: int = 1, rate: float = 0.1, name: str = "a") -> None:
            self.size, self.rate, self.name = size, rate, name

    assert shown(Thing(3)) == "Thing(size=3)"
    assert shown(Thing(3, 2, 0.2, "b"), ("rate",)) == "Thing(size=3, rate=0.2, name='b')"
    assert shown(Thing(3), ("rate",)) == "Thing(size=3, rate=0.1)"
