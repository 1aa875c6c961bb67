"""Dropout on connections that are not recurrent: a mask for each element, or one for all steps."""

from __future__ import annotations

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.engines import engine
from lstm_numba.engines.dropout_masks import RowShare, draw_mask
from lstm_numba.nn.dropout import dropout

P = 0.3
CPU = engine("cpu")


def philox(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@pytest.mark.parametrize("steps", [1, 2, 7, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_mask_for_all_steps(steps: int, dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal((steps, 40, 50)).astype(dtype)
    y, mask = dropout(CPU, philox(5), x, P, "sequence")
    kept = dtype(1 / (1 - P))
    np.testing.assert_array_equal(mask, np.broadcast_to(mask[:1], x.shape))
    assert set(np.unique(mask)) == {dtype(0), kept}
    # Five standard deviations of the part that is dropped, of 2,000 draws and not of as many for each step.
    assert abs(np.mean(mask == 0) - P) < 5 * np.sqrt(P * (1 - P) / 2000)
    np.testing.assert_array_equal(y, x * mask)
    assert not np.array_equal(mask[:, 0], mask[:, 1])  # sequences have masks of their own
    # The stream is that of the library's other masks.
    np.testing.assert_array_equal(mask[:1], draw_mask(philox(5), (1, 40, 50), P, dtype))


def test_one_mask_for_each_element_is_as_before() -> None:
    x = np.ones((7, 4, 5), np.float32)
    _, mask = dropout(CPU, philox(5), x, P)
    np.testing.assert_array_equal(mask, draw_mask(philox(5), x.shape, P))
    assert not np.array_equal(mask[0], mask[1])
    # What has no time has no mask for all of it.
    _, rows = dropout(CPU, philox(5), x[0], P, "sequence")
    np.testing.assert_array_equal(rows, draw_mask(philox(5), (4, 5), P))


def test_given_arrays_are_used() -> None:
    x, mask = np.ones((3, 4, 5), np.float32), np.full((3, 4, 5), 9, np.float32)
    y, drawn = dropout(CPU, philox(5), x, P, "sequence", x, mask)
    assert y is x
    assert drawn is mask
    np.testing.assert_array_equal(x, mask)


def test_each_of_many_models_draws_its_own() -> None:
    x = np.ones((2, 6, 4, 5), np.float32)
    _, mask = dropout(CPU, [philox(5), philox(6)], x, P, "sequence")
    for n, seed in enumerate((5, 6)):
        np.testing.assert_array_equal(mask[n], dropout(CPU, philox(seed), x[n], P, "sequence")[1])
    assert not np.array_equal(mask[0], mask[1])


def test_a_share_of_the_rows_has_their_masks() -> None:
    whole = dropout(CPU, philox(5), np.ones((6, 8, 5), np.float32), P, "sequence")[1]
    share = RowShare(philox(5))
    share.first, share.stop, share.total = 2, 5, 8
    mask = dropout(CPU, share, np.ones((6, 3, 5), np.float32), P, "sequence")[1]  # type: ignore[arg-type]
    np.testing.assert_array_equal(mask, whole[:, 2:5])


@pytest.mark.parametrize("batch_first", [False, True])
def test_layers_draw_it_between_them(batch_first: bool) -> None:
    """The second layer reads what the first gives times the mask: in both passes."""
    options = {"dtype": np.float64, "batch_first": batch_first}
    layer = ln.LSTM(3, 6, 2, dropout=P, dropout_kind="sequence", seed=0, **options)
    parts = [ln.LSTM(3, 6, seed=0, **options), ln.LSTM(6, 6, seed=0, **options)]
    for n, part in enumerate(parts):
        for name, array in part.params.items():
            array[...] = layer.params[name.replace("l0", f"l{n}")]
    shape = (4, 9) if batch_first else (9, 4)
    x = np.random.default_rng(1).standard_normal((*shape, 3))
    layer.rng = philox(7)
    y, _, tape = layer.forward(x)
    none, mask = tape.masks
    assert none is None
    drawn = draw_mask(philox(7), (1, 4, 6), P, np.float64)
    np.testing.assert_array_equal(mask, np.broadcast_to(drawn, (9, 4, 6)))
    mask = mask.swapaxes(0, 1) if batch_first else mask
    below, _, first = parts[0].forward(x)
    expected, _, second = parts[1].forward(np.ascontiguousarray(below * mask))
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    dx, _, _ = layer.backward(tape, np.ones_like(y))
    above, _, _ = parts[1].backward(second, np.ones_like(y))
    truth, _, _ = parts[0].backward(first, np.ascontiguousarray(above * mask))
    np.testing.assert_allclose(dx, truth, rtol=1e-10)
    np.testing.assert_array_equal(layer(x)[0], layer.forward(x, training=False)[0])


def test_the_kind_is_checked_and_shown() -> None:
    with pytest.raises(ValueError, match="dropout_kind: expected element or sequence, got 'step'"):
        ln.GRU(3, 4, dropout_kind="step")
    with pytest.raises(ValueError, match="dropout_kind: expected element or sequence, got 'step'"):
        ln.LanguageModel(5, 4, dropout_kind="step")
    text = "GRU(3, 4, num_layers=2, dropout=0.1, dropout_kind='sequence', dtype=float32)"
    assert repr(ln.GRU(3, 4, 2, dropout=0.1, dropout_kind="sequence")) == text
    clockwork = ln.ClockworkRNN(3, 4, periods=(1, 2), dropout_kind="sequence")
    assert "dropout_kind='sequence'" in repr(clockwork)
