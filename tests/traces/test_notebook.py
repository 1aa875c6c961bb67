"""`ln.show`: weights against NumPy, traces against a trace, HTML that holds nothing but text."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.linalg import eigvals, svd

import lstm_numba as ln
from lstm_numba.traces.notebook import Shown
from lstm_numba.traces.weights import gate_weights


def test_weights_of_each_gate() -> None:
    layer = ln.LSTM(3, 4, num_layers=2, bidirectional=True, seed=0)
    rows = {(row.layer, row.gate): row for row in gate_weights(layer)}
    assert len(rows) == 16
    for n, gate in enumerate("ifgo"):
        block = np.float64(layer.params["weight_hh_l1_reverse"][4 * n : 4 * n + 4])
        biases = [layer.params[f"bias_{kind}_l1_reverse"][4 * n : 4 * n + 4] for kind in ("ih", "hh")]
        row = rows["layer 2, reverse", gate]
        assert row.radius == pytest.approx(abs(eigvals(block)).max())
        assert row.largest == pytest.approx(svd(block)[1][0])
        assert row.bias == pytest.approx(np.mean(biases[0] + biases[1]), abs=1e-7)


def test_weights_of_heads_are_those_of_the_whole() -> None:
    layer = ln.GRU(3, 6, heads=2, seed=0)
    (row,) = (row for row in gate_weights(layer) if row.gate == "z")
    rows = np.float64(layer.params["weight_hh_l0"])  # by head, then r, z, q
    blocks = rows[3:6], rows[12:15]
    assert row.radius == pytest.approx(max(abs(eigvals(block)).max() for block in blocks))


def test_what_is_not_there_is_not_made_up() -> None:
    rows = gate_weights(ln.LSTM(3, 4, proj_size=2, bias=False))
    assert all(row.bias is None and row.radius is None and row.largest for row in rows)
    n, q = (row for row in gate_weights(ln.GRU(3, 4)) if row.gate in "nq")
    assert n.radius is None  # of the candidate the recurrent part is q
    assert q.radius is not None


def test_a_layer_with_an_input() -> None:
    layer = ln.LSTM(3, 4, seed=0)
    x = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)
    found = ln.show(layer, x, lengths=[6, 3])
    trace = layer.trace(x, lengths=[6, 3])
    f = np.concatenate([trace["f_l0"][:, 0], trace["f_l0"][:3, 1]])
    np.testing.assert_allclose(found.views[0].constants, -1 / np.log(f.mean(axis=0)), rtol=1e-5)
    assert "f keeps" in repr(found)
    shown = found._repr_html_()
    assert shown.count("<img alt=") == 1
    assert "Heat maps of i, f, g, o, h, c in layer 1" in shown
    assert ln.show(trace)._repr_html_().count("<img") == 1
    assert trace._repr_html_() == ln.show(trace)._repr_html_()


def test_a_page_is_saved_and_other_names_are_refused(tmp_path: Path) -> None:
    rnn = ln.GRU(2, 3, seed=0)
    trace = rnn.trace(np.ones((4, 1, 2), np.float32))
    shown = ln.show(trace)
    shown.save(tmp_path / "trace.html")
    page = (tmp_path / "trace.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert shown._repr_html_() in page
    with pytest.raises(KeyError, match=r"rl0; did you mean r_l0\?"):
        trace["rl0"]
    with pytest.raises(KeyError, match=r"cell state; there are r_l0, z_l0, n_l0, h_l0"):
        trace["cell state"]
    assert trace.get("q") is None
    assert "q" not in trace


def test_layers_show_themselves() -> None:
    layer = ln.GRU(3, 4, 2, seed=0)
    shown = layer._repr_html_()
    assert shown == ln.show(layer)._repr_html_()
    assert "GRU(3, 4, num_layers=2, dtype=float32)" in shown
    assert shown.count("<tr>") == 1 + 2 * 4
    assert repr(ln.show(ln.SequenceClassifier(3, 4, 2))).startswith("Recurrent(LSTMCell, 3, 4")


def test_zoneout_lengthens_memories() -> None:
    x = np.zeros((3, 1, 3), np.float32)
    layer = ln.LSTM(3, 4, zoneout=(0.0, 0.5), seed=0)
    (view,) = ln.show(layer, x).views
    f = layer.trace(x)["f_l0"].mean(axis=(0, 1))
    np.testing.assert_allclose(view.constants, -1 / np.log(0.5 + 0.5 * f), rtol=1e-5)


def test_a_cell_of_gates_alone_has_no_weights_to_show() -> None:
    assert "no gate alone decides" in repr(ln.show(ln.RNN(3, 4), np.zeros((2, 1, 3), np.float32)))


def test_text_is_escaped() -> None:
    assert "<b>" not in Shown("<b>'\"")._repr_html_()


def test_without_matplotlib_the_numbers_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("lstm_numba.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    shown = ln.show(ln.LSTM(3, 4), np.zeros((2, 1, 3), np.float32))._repr_html_()
    assert "lstm_numba[plot]" in shown
    assert "f keeps" in shown


def test_refusals() -> None:
    layer = ln.LSTM(3, 4)
    with pytest.raises(TypeError, match="value: expected a layer, a model or a trace, got int"):
        ln.show(3)
    with pytest.raises(TypeError, match="x: a trace has its input already"):
        ln.show(layer.trace(np.zeros((2, 1, 3), np.float32)), np.zeros((2, 1, 3), np.float32))
    with pytest.raises(ValueError, match="x: expected"):
        ln.show(layer, np.zeros((2, 1, 5), np.float32))
