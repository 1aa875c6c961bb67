"""Many models in one layer on the device, beside the CPU's: every kind of cell, both ways to run them."""

from __future__ import annotations

from typing import Any

import numpy as np
import own_cells
import pytest
from cuda_tools import cases, download, upload
from recurrent_problems import DISTINCT, pack, unpack
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.cells import CELLS
from lstm_numba.engines.cuda import elementwise, gemm, many_models, plans, reductions
from lstm_numba.engines.cuda.driver import SIMULATED, DeviceLimits
from lstm_numba.engines.cuda.launch import Limits
from lstm_numba.engines.cuda.layout import BlockOfModel, SingleBlock, Sizes
from lstm_numba.nn.clockwork import ClockworkRNN
from lstm_numba.nn.layers import make_layer

MODELS, STEPS, BATCH, INPUTS = 3, 3, 2, 2
#: Lengths of each model's sequences, and those of all.
OWN_LENGTHS, SAME_LENGTHS = ((3, 0), (1, 2), (2, 3)), (3, 1)
NAMES = (*DISTINCT, "peephole-full", "layer-norm-lstm", *(() if SIMULATED else own_cells.NAMES))


@pytest.fixture(params=[BlockOfModel, SingleBlock], ids=["blocks", "in turn"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """Blocks that take models, and models one after the other."""
    monkeypatch.setattr(plans, "FORCED_MODE", request.param)
    return request.param


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that take models."""
    monkeypatch.setattr(plans, "FORCED_MODE", BlockOfModel)


class Problem:
    """A layer of many models with random input, states and gradients of output and states.

    Parameters
    ----------
    make : callable
        Makes the layer, given ``models``, ``seed`` and ``dtype``.
    shared : bool
        Whether all models read the same x.
    lengths : tuple, optional
    sizes : tuple of int
        Models, steps and sequences.
    """

    def __init__(
        self,
        make: Any,
        shared: bool = False,
        lengths: Any = None,
        sizes: tuple[int, int, int] = (MODELS, STEPS, BATCH),
        **given: Any,
    ) -> None:
        self.models, steps, batch = sizes
        self.layer = make(models=self.models, seed=3, dtype=np.float64)
        layer, rng = self.layer, np.random.default_rng(5)
        axes = (batch, steps) if layer.batch_first else (steps, batch)
        shape = (*axes, layer.input_size)
        self.x = rng.standard_normal(shape if shared else (self.models, *shape))
        self.dy = rng.standard_normal((self.models, *axes, layer.directions * layer.output_size))
        shapes = [state.shape for state in unpack(layer.zero_state(batch))]
        self.states, self.dstates = ([rng.standard_normal(one) for one in shapes] for _ in range(2))
        self.lengths, self.given = lengths, given
        if lengths is not None:
            self._forget_what_is_beyond(np.broadcast_to(lengths, (self.models, batch)), steps)

    def _forget_what_is_beyond(self, lengths: Any, steps: int) -> None:
        beyond = np.arange(steps)[:, None] >= lengths[:, None, :]
        beyond = beyond.swapaxes(1, 2) if self.layer.batch_first else beyond
        self.dy[beyond] = np.nan
        self.x[beyond if self.x.ndim > 3 else beyond.all(axis=0)] = np.nan

    def run_on(self, device: str) -> dict[str, Any]:
        """Everything that inference, a forward and a backward pass give, by name."""
        layer = self.layer.to(device)
        layer.rng = [np.random.Generator(np.random.Philox(seed)) for seed in range(self.models)]
        called, end = layer(self.x, pack(self.states), self.lengths, **self.given)
        y, final, tape = layer.forward(self.x, pack(self.states), self.lengths, **self.given)
        kept = layer.state_dict()
        for value in layer.params.values():  # the tape has copies
            layer.engine.assign(value, None)
        dx, dstate, grads = layer.backward(tape, self.dy, pack(self.dstates))
        layer.load_state_dict(kept)
        found = {"called": called, "y": y, "dx": dx}
        for name, states in (("end", end), ("final", final), ("dstate", dstate)):
            found.update({f"{name} {n}": array for n, array in enumerate(unpack(states))})
        arrays = {name: np.array(layer.engine.download(grad)) for name, grad in grads.items()}
        return found | arrays

    def compare(self) -> None:
        """Everything is the same on the device as on the processor."""
        expected, got = self.run_on("cpu"), self.run_on("cuda")
        assert got.keys() == expected.keys()
        for name, array in expected.items():
            kind = "forward" if name.startswith(("called", "y", "end", "final")) else "backward"
            assert_close(got[name], array, kind, name)


def maker(name: str, hidden: int = 5, layers: int = 1, **options: Any) -> Any:
    return lambda **kws: make_layer(name, INPUTS, hidden, layers, **options, **kws)


@pytest.mark.parametrize("name", NAMES)
def test_every_cell(name: str, mode: type) -> None:
    for sizes in cases([(MODELS, STEPS, BATCH)], [(5, 7, 33), (300, 4, 3)]):
        Problem(maker(name, 5 if SIMULATED else 37), sizes=sizes).compare()


def test_what_is_chosen_of_both_ways() -> None:
    Problem(maker("lstm")).compare()


@pytest.mark.parametrize(
    ("lengths", "shared"), [(SAME_LENGTHS, True), (OWN_LENGTHS, False), (OWN_LENGTHS, True)]
)
def test_lengths_in_both_directions(lengths: Any, shared: bool, mode: type) -> None:
    Problem(maker("lstm", 5, 2, bidirectional=True), shared, lengths).compare()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("name", "hidden", "options"),
    [
        ("lstm", 6, {"heads": 2, "bias": False, "batch_first": True}),
        ("peephole", 4, {"heads": 2, "zoneout": 0.3, "bidirectional": True}),
        ("lstm", 5, {"proj_size": 3}),
        ("gru", 5, {"layers": 2, "dropout": 0.4, "weight_drop": 0.3, "recurrent_dropout": 0.2}),
    ],
    ids=["heads", "heads of peepholes", "projection", "dropout"],
)
def test_options(name: str, hidden: int, options: dict[str, Any], shared: bool, blocks: None) -> None:
    Problem(maker(name, hidden, **options), shared, SAME_LENGTHS).compare()


@pytest.mark.parametrize(("each", "to"), [(True, "zeros"), (False, "initial")])
def test_resets(each: bool, to: str, blocks: None) -> None:
    resets = np.random.default_rng(2).random((MODELS, STEPS, BATCH)) < 0.5
    chosen = resets if each else resets[0]
    Problem(maker("gru", bidirectional=True), lengths=OWN_LENGTHS, resets=chosen, reset_to=to).compare()


@pytest.mark.parametrize(
    ("shared", "lengths"), [(False, None), (True, SAME_LENGTHS), (False, OWN_LENGTHS[:2])]
)
def test_clockwork(shared: bool, lengths: Any, blocks: None) -> None:
    def make(**kws: Any) -> ClockworkRNN:
        return ClockworkRNN(INPUTS, 4, 2, periods=(1, 2), bidirectional=True, dropout=0.3, **kws)

    Problem(make, shared, lengths, sizes=(2, 5, 2)).compare()


def test_more_models_than_blocks_of_a_grid(monkeypatch: pytest.MonkeyPatch, blocks: None) -> None:
    for module in (elementwise, gemm, many_models):
        monkeypatch.setattr(module, "MAX_GRID_Z", 2)
    monkeypatch.setattr(reductions, "MAX_GRID_Y", 2)
    Problem(maker("peephole"), sizes=(5, 2, 1)).compare()


def test_a_model_is_a_view_of_its_arrays() -> None:
    many = ln.LSTM(INPUTS, 5, models=MODELS, seed=1, device="cuda")
    x = np.random.default_rng(0).standard_normal((MODELS, STEPS, BATCH, INPUTS)).astype(np.float32)
    y, (h, _) = many(x)
    for n in range(MODELS):
        alone = many.model(n)
        y_n, (h_n, _) = alone(x[n])
        assert_close(y_n, y[n], "forward", f"y of model {n}")
        assert_close(h_n, h[n], "forward", f"h of model {n}")
    two = many.select([2, 0])
    assert_close(two(x[[2, 0]])[0], y[[2, 0]], "forward", "two models")
    many.model(1).engine.assign(many.model(1).params["weight_hh_l0"], None)
    assert not np.any(download(many.params["weight_hh_l0"])[1])
    assert np.any(download(many.params["weight_hh_l0"])[0])


def test_arrays_on_the_device_stay_there_and_may_have_any_strides() -> None:
    many = ln.GRU(INPUTS, 5, models=MODELS, seed=1, device="cuda")
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((MODELS, STEPS, 2 * BATCH, size)).astype(np.float32) for size in (INPUTS, 5))
    state = rng.standard_normal((MODELS, 2, 2 * BATCH, 5)).astype(np.float32)
    expected_y, _, tape = many.forward(x[:, :, :BATCH], state[:, 1:, :BATCH])
    expected_dx, _, _ = many.backward(tape, dy[:, :, :BATCH])
    y, final, tape = many.forward(upload(x)[:, :, :BATCH], upload(state)[:, 1:, :BATCH])
    dx, _, _ = many.backward(tape, upload(dy)[:, :, :BATCH])
    assert all(type(a) is type(upload(x)) for a in (y, final, dx))
    np.testing.assert_array_equal(download(y), expected_y)
    np.testing.assert_array_equal(download(dx), expected_dx)


@pytest.mark.parametrize("backward", [False, True])
def test_which_way_is_estimated_to_be_the_faster(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_models, "device_limits", lambda: DeviceLimits(132, 232_448, (9, 0)))
    monkeypatch.setattr(many_models, "limits", Limits)
    monkeypatch.setattr(plans, "device_limits", lambda: DeviceLimits(132, 232_448, (9, 0)))

    def chosen(models: int, batch: int, hidden: int) -> many_models.Choice:
        known = {"steps": 50, "batch": batch, "hidden": hidden, "output": hidden}
        sizes = Sizes(**(dict.fromkeys(Sizes._fields, 0) | known))
        return many_models.choose(CELLS["lstm"], sizes, models, backward, 4)

    small, large = chosen(256, 16, 32), chosen(2, 20, 1500)
    assert small.tile is not None
    assert small.together < small.apart / 20
    assert large.tile is None
    assert large.apart < large.together / 5
    # Few models have several blocks each, which share the rows.
    assert [chosen(models, 64, 32).row_blocks for models in (8, 1000)] == [16, 1]
    monkeypatch.setenv(plans.VARIABLE, "persistent")
    assert chosen(256, 16, 32).tile is None
