"""Inspections made of random numbers, for tests of pictures and pages: no network is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_numba.traces.inspection import (
    Answers,
    ClassAnswers,
    Inspection,
    NumberAnswers,
    Strip,
    TokenAnswers,
)
from lstm_numba.traces.keeping import Keeping
from lstm_numba.traces.statistics import likeliest, shares, surprises, time_constants
from lstm_numba.traces.views import LayerView

#: Texts that a page must not take for markup, nor a picture for a formula.
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"><b onmouseover="alert(1)">',
    "&lt;i&gt;",
    "'onload='",
    "<!--",
    "$x_1$",
    "]]>\u2028",
)

KINDS = ("tokens", "classes", "numbers", "forecast")


def make_view(rng: np.random.Generator, key: str, title: str, steps: int, units: int) -> LayerView:
    """An LSTM's layer."""
    values = {name: rng.uniform(0, 1, (steps, 3, units)) for name in ("i", "f", "o")}
    values["g"], values["h"] = rng.uniform(-1, 1, (2, steps, 3, units))
    roles = {"i": "gate", "f": "gate", "o": "gate", "g": "candidate", "h": "state"}
    return LayerView(
        key,
        title,
        {name: array[:, 0] for name, array in values.items()},
        roles,
        {name: shares(values[name]) for name in ("i", "f", "o")},
        Keeping("f", "h", False),
        time_constants(values["f"]),
    )


def make_inspection(kind: str, steps: int = 8, units: int = 5, layers: int = 2, **more: Any) -> Inspection:
    """An inspection of one of `KINDS`, with hostile names wherever a user may choose them."""
    rng = np.random.default_rng(steps)
    names = tuple((HOSTILE * steps)[:steps])
    titles = [("l0", "layer 1"), ("l1_reverse", "layer 2, reverse"), ("l2", "layer 3")][:layers]
    strip, answers = _answers(kind, rng, steps)
    given: dict[str, Any] = {
        "run": HOSTILE[0],
        "dataset": "text",
        "network": "lstm",
        "input": HOSTILE[1],
        "unit": "token" if kind == "tokens" else "step",
        "steps": names,
        "strip": strip,
        "views": [make_view(rng, key, title, steps, units) for key, title in titles],
        "answers": answers,
        "sequences": 3,
        "counted": 3 * steps,
        "notes": (HOSTILE[2],),
    }
    return Inspection(**{**given, **more})


def _answers(kind: str, rng: np.random.Generator, steps: int) -> tuple[Strip, Answers]:
    if kind == "tokens":
        logits = rng.standard_normal((steps, len(HOSTILE)))
        best = likeliest(logits)
        bits = np.concatenate([[np.nan], surprises(logits[:-1], np.arange(1, steps) % len(HOSTILE))])
        words = tuple(tuple(HOSTILE[k] for k in row) for row in best.tokens)
        return Strip("tokens", np.zeros((steps, 0))), TokenAnswers(best, words, bits)
    if kind == "classes":
        probabilities = rng.dirichlet(np.ones(len(HOSTILE)), steps)
        return Strip("picture", rng.uniform(0, 1, (steps, 4))), ClassAnswers(HOSTILE, probabilities, 1)
    strip = Strip("series", rng.standard_normal((steps, 2)), HOSTILE[:2])
    if kind == "numbers":
        values = rng.standard_normal((steps, 2))
        return strip, NumberAnswers(HOSTILE[1:3], values, values + 1, HOSTILE[1:3], False)
    return strip, NumberAnswers(HOSTILE[:1], rng.standard_normal((3, 1)), None, HOSTILE[:1], True)
