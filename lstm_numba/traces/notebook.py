"""Layers and traces as a notebook shows them, and a terminal."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.models.base import Model
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.nn.trace import Trace
from lstm_numba.traces.inspection import Strip
from lstm_numba.traces.summary import layer_lines
from lstm_numba.traces.views import LayerView, layer_views
from lstm_numba.traces.weights import GateWeights, gate_weights

#: Most layers and directions that are drawn, and most steps.
_DRAWN, _STEPS = 4, 400
#: Inches: a figure's width, and a heat map's height.
_SIZE = 6.4, 0.7


class Shown:
    """What `show` returns: HTML for a notebook, text for a terminal.

    Attributes
    ----------
    title : str
    weights : list of GateWeights
        Of a layer without an input.
    views : list of LayerView
        Of a trace: values of the first sequence, statistics of all.
    """

    def __init__(
        self, title: str, weights: Sequence[GateWeights] = (), views: Sequence[LayerView] = ()
    ) -> None:
        self.title, self.weights, self.views = title, list(weights), list(views)

    def __repr__(self) -> str:
        return "\n".join([self.title, *self._lines()])

    def _lines(self) -> list[str]:
        if self.views:
            return [line for view in self.views for line in layer_lines(view)]
        rows = [_HEADS, *(list(map(_number, row)) for row in self.weights)]
        widths = [max(len(row[n]) for row in rows) for n in range(len(_HEADS))]
        return [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]

    def _repr_html_(self) -> str:
        parts = [f"<p><code>{_text(self.title)}</code></p>"]
        if self.views:
            parts += [f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in self._lines())}</ul>"]
            parts += _pictures(self.views)
        else:
            parts += [_table(_HEADS, [list(map(_number, row)) for row in self.weights])]
        return f"<div>{''.join(parts)}</div>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as an HTML page, which needs no other file.

        Parameters
        ----------
        path : path
            Its folder must exist; a file there is overwritten.
        """
        head = f'<!DOCTYPE html>\n<meta charset="utf-8">\n<title>{_text(self.title)}</title>\n'
        Path(path).write_text(f"{head}{self._repr_html_()}\n", encoding="utf-8")


#: Headings of the weights' statistics.
_HEADS = ["layer", "gate", "mean bias", "spectral radius", "largest singular value"]


def show(
    value: Any,
    x: Any = None,
    state: Any = None,
    lengths: Any = None,
    resets: Any = None,
    reset_to: str = "zeros",
    *,
    extras: Mapping[str, Any] | None = None,
) -> Shown:
    """A layer at a glance; with an input, what it does inside.

    Parameters
    ----------
    value : Recurrent, Model or Trace
        A layer, the model whose layers are meant, or a trace.
    x, state, lengths, resets, reset_to, extras
        As for a call of the layer. Without `x`: statistics of the recurrent weights of each gate. With it:
        heat maps of the first sequence (extra "plot"), the share of steps at which gates are closed and open,
        and the units that remember longest, over all sequences.

    Returns
    -------
    Shown
        With a text, and HTML, which a notebook shows. Layers and traces show themselves so, too.

    Raises
    ------
    TypeError, ValueError
        The value is none of these, or an argument does not fit the layer.

    Examples
    --------
    >>> import lstm_numba as ln
    >>> ln.show(ln.RNN(2, 1, init="xavier", bias=False, seed=0))
    RNN(2, 1, bias=False, dtype=float32)
    layer    gate  mean bias  spectral radius  largest singular value
    layer 1  h     -          1.59             1.59
    """
    if isinstance(value, Trace):
        if x is not None:
            raise TypeError("x: a trace has its input already, expected none beside it")
        return Shown(repr(value), views=layer_views(value, 0.0, _STEPS))
    rnn = value.rnn if isinstance(value, Model) else value
    if not isinstance(rnn, Recurrent):
        raise TypeError(f"value: expected a layer, a model or a trace, got {type(value).__name__}")
    if x is None:
        return Shown(repr(rnn), gate_weights(rnn))
    trace = rnn.trace(x, state, lengths, resets, reset_to, extras=extras)
    return Shown(repr(rnn), views=layer_views(trace, rnn.zoneout, _STEPS))


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f'<th scope="col">{_text(head)}</th>' for head in heads)
    lines = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def _pictures(views: Sequence[LayerView]) -> list[str]:
    """Heat maps as images within the HTML, or what is missing for them."""
    try:
        from lstm_numba.plots.style import rendered
        from lstm_numba.plots.traces import heat_maps
    except ImportError:
        return ["<p>Heat maps need matplotlib: pip install 'lstm_numba[plot]'</p>"]
    found = []
    for view in views[:_DRAWN]:
        steps = len(next(iter(view.values.values())))
        if not steps:
            continue
        named = [str(n) for n in range(steps)]
        nothing, ordered = Strip("nothing", np.zeros((steps, 0))), view.kept is not None
        figure = heat_maps(
            view.values, view.roles, view.order, ordered, named, "step", nothing, view.title, _SIZE
        )
        content = base64.b64encode(rendered(figure, "png")).decode("ascii")
        names = ", ".join(view.values)
        text = _text(f"Heat maps of {names} in {view.title}, by unit and step")
        found.append(f'<img alt="{text}" width="640" src="data:image/png;base64,{content}">')
    if len(views) > _DRAWN:
        found.append(f"<p>{len(views) - _DRAWN} more are not drawn.</p>")
    return found
