"""What an inspection's page holds as JSON for its script: small, and not to be taken for markup."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from lstm_numba.plots.traces import GATE_COLOURS, SIGNED_COLOURS, extent, palette
from lstm_numba.traces.inspection import Answers, ClassAnswers, Inspection, Strip, TokenAnswers
from lstm_numba.traces.statistics import Array
from lstm_numba.traces.views import LayerView
from lstm_numba.training.run import json_line

#: Most bytes of heat maps on a page; units that remember least are left out first.
_BYTES = 600_000
#: Classes that are listed after a step.
_LISTED = 10


def units_shown(it: Inspection) -> int:
    """How many units of each layer the page has room for."""
    rows = len(it.steps) * sum(len(view.values) for view in it.views)
    return max(8, _BYTES // max(rows, 1))


def page_data(it: Inspection) -> str:
    """The page's JSON, in which no character begins a tag or a comment."""
    room = units_shown(it)
    found = {
        "unit": it.unit,
        "steps": list(it.steps),
        "strip": _strip(it.strip),
        "palettes": {
            "gate": _text(palette(GATE_COLOURS)),
            "signed": _text(palette(SIGNED_COLOURS)),
            "grey": _text(palette("gray")),
        },
        "layers": [_layer(view, room) for view in it.views],
        "answers": _answers(it.answers),
    }
    text = json_line(found)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def label_of(view: LayerView, name: str) -> str:
    """A value's name on the page: "gate f"."""
    return f"{view.roles[name]} {name}"


def _layer(view: LayerView, room: int) -> dict[str, Any]:
    arrays = []
    for name, values in view.values.items():
        gate = view.roles[name] == "gate"
        low, high = extent(values, gate)
        order = view.order if values.shape[1] == len(view.order) else np.arange(values.shape[1])
        units = np.sort(order[:room])
        arrays.append(
            {
                "label": label_of(view, name),
                "gate": gate,
                "low": low,
                "high": high,
                "units": units.tolist(),
                "order": order[:room].tolist(),
                "values": _quantised(values[:, units], low, high),
            }
        )
    return {"title": view.title, "arrays": arrays}


def _strip(strip: Strip) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": strip.kind, "names": list(strip.names), "width": strip.values.shape[1]}
    if strip.kind == "tokens":
        return found
    low, high = strip.values.min(axis=0), strip.values.max(axis=0)
    if strip.kind == "picture":
        low, high = np.zeros_like(low), np.ones_like(high)
    else:
        found["read"] = strip.values.tolist()
    found["values"] = _quantised(strip.values, low, np.where(high > low, high, low + 1))
    return found


def _answers(answers: Answers) -> dict[str, Any]:
    if isinstance(answers, TokenAnswers):
        probabilities = answers.likeliest.probabilities
        return {
            "kind": "tokens",
            "names": [list(words) for words in answers.words],
            "p": _rounded(probabilities),
            "bits": _rounded(answers.surprise),
        }
    if isinstance(answers, ClassAnswers):
        best = np.argsort(-answers.probabilities, axis=1, kind="stable")[:, :_LISTED]
        p = _rounded(np.take_along_axis(answers.probabilities, best, axis=1))
        names = list(answers.classes)
        return {"kind": "classes", "names": names, "best": best.tolist(), "p": p, "true": answers.true}
    if answers.forecast:
        return {"kind": "forecast"}
    true = None if answers.true is None else answers.true.tolist()
    return {"kind": "numbers", "names": list(answers.names), "values": answers.values.tolist(), "true": true}


def _rounded(values: Array) -> Any:
    """As lists, of six digits behind the point."""
    return np.round(values, 6).tolist()


def _quantised(values: Array, low: Any, high: Any) -> str:
    """As base64 of a byte each, 0 for `low` and 255 for `high`."""
    scaled = np.round(255 * (values - low) / (high - low))
    return _text(np.clip(scaled, 0, 255).astype(np.uint8).tobytes())


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
