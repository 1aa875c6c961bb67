"""An inspection as one HTML page that needs no other file, no network and no library.

Everything that comes from a user or a file goes through `text`. A content security policy lets this page's
own script and style run, known by their digests, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_numba.plots.style import dark, rendered
from lstm_numba.traces.inspection import (
    ClassAnswers,
    Inspection,
    NumberAnswers,
    TokenAnswers,
    mean_surprise,
)
from lstm_numba.traces.page_data import page_data, units_shown
from lstm_numba.traces.page_script import SCRIPT
from lstm_numba.traces.page_style import STYLE
from lstm_numba.traces.pictures import Draw
from lstm_numba.traces.statistics import LEFT, RIGHT, Array
from lstm_numba.traces.views import LayerView
from lstm_numba.wording import plural

#: Most steps whose names stand under the heat maps, and most tokens in the row that marks the current one.
_NAMED = 90
#: Most units, of all layers together, and most numbers that a table holds.
_UNITS, _CELLS = 1200, 20_000
#: What is said of pictures that a table has beside them.
_TABLE = "The table below has the numbers."


def text(value: Any) -> str:
    """Anything as text of a page: no character of it is markup."""
    return html.escape(str(value), quote=True)


def page(it: Inspection, figures: Mapping[str, Draw]) -> str:
    """The page.

    Parameters
    ----------
    it : Inspection
    figures : dict of callable
        From `lstm_numba.traces.pictures.pictures`; of those of gates and states the page draws its own.
    """
    sections = {"Step by step": _steps(it), "Gates and states": _maps(it)}
    answers = _answers(it, figures)
    sections[answers[0]] = answers[1]
    if it.views[0].shares:
        sections["Open and closed gates"] = _saturation(it, figures)
    sections["Memory"] = _memory(it, figures)
    title = f"{it.run}: {it.network}, reading {it.input}"
    names = {heading: f"part-{n}" for n, heading in enumerate(sections)}
    links = "".join(f'<li><a href="#{name}">{text(heading)}</a></li>' for heading, name in names.items())
    parts = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{text(heading)}</h2>{sections[heading]}'
        "</section>\n"
        for heading, name in names.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">To the content</a>\n'
        f"<header><h1>{text(title)}</h1>{_facts(it)}</header>\n"
        f'<nav aria-label="Parts of this page"><ul>{links}</ul></nav>\n'
        "<noscript><p>Without JavaScript the heat maps are not drawn here; they lie beside this page as PNG "
        "and SVG files. The tables hold all other numbers.</p></noscript>\n"
        f'<main id="main" tabindex="-1">\n{parts}</main>\n'
        f'<script type="application/json" id="data">{page_data(it)}</script>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _policy() -> str:
    digest = {
        name: hashlib.sha256(code.encode()).digest() for name, code in (("script", SCRIPT), ("style", STYLE))
    }
    sources = {name: f"'sha256-{base64.b64encode(value).decode()}'" for name, value in digest.items()}
    return f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; img-src data:"


def _facts(it: Inspection) -> str:
    over = f"{plural(it.counted, 'step')} of {plural(it.sequences, 'sequence')}"
    rows = [
        ("Run", f"{it.run} ({it.dataset})"),
        ("Network", it.network),
        ("Input", f"{it.input}, {plural(len(it.steps), it.unit)}"),
        ("Shares and memories", f"over {over}"),
        *(("Note", note) for note in it.notes),
    ]
    return f'<dl class="facts">{"".join(f"<dt>{text(a)}</dt><dd>{text(b)}</dd>" for a, b in rows)}</dl>'


# -- parts --------------------------------------------------------------------------------------------


def _steps(it: Inspection) -> str:
    """The slider, the sequence, and the answers after a step."""
    count = len(it.steps)
    tokens = ""
    if it.strip.kind == "tokens":
        items = "".join(f"<li>{text(step)}</li>" for step in it.steps)
        tokens = f'<ol class="tokens" id="sequence" aria-label="The tokens that were read">{items}</ol>'
    return (
        f"<p>Move through the {text(it.unit)}s with the slider (arrow keys, Home and End too) or the "
        "buttons. The answers here and the heat maps below follow.</p>"
        '<div class="controls" role="group" aria-label="Step">'
        '<button type="button" id="before">Previous</button>'
        f'<label for="step">Step</label><input type="range" id="step" min="1" max="{count}" value="1">'
        '<button type="button" id="after">Next</button></div>'
        f'{tokens}<p id="where" aria-live="polite"></p>{_answer_table(it)}'
    )


def _answer_table(it: Inspection) -> str:
    """A table that the script fills with the answers after a step."""
    answers = it.answers
    if isinstance(answers, NumberAnswers):
        if answers.forecast:
            return ""
        return _table("Predicted after this step", ["", "predicted", "true"], body="answers")
    if isinstance(answers, TokenAnswers):
        heads = ["token", "probability", "as a bar"]
        return _table("The likeliest next tokens", heads, body="answers")
    heads = ["class", "probability", "as a bar"]
    return _table(f"The likeliest classes after this {it.unit}", heads, body="answers")


def _maps(it: Inspection) -> str:
    """Controls of the heat maps, their place, and the values of a unit."""
    layers = "".join(f'<option value="{n}">{text(view.title)}</option>' for n, view in enumerate(it.views))
    memory = '<option value="memory">by memory, longest first</option>' if it.views[0].kept else ""
    largest = max(view.values[name].shape[1] for view in it.views for name in view.values)
    shown = units_shown(it)
    fewer = (
        f"<p>The {shown} units of each layer that remember longest are shown.</p>" if shown < largest else ""
    )
    beneath = ""
    if it.strip.kind == "tokens" and len(it.steps) <= _NAMED:
        names = "".join(f"<li>{text(step)}</li>" for step in it.steps)
        beneath = f'<ol class="axis" id="axis" aria-hidden="true">{names}</ol>'
    elif it.strip.kind != "tokens":
        names = "the image, step by step"
        if it.strip.kind == "series":
            names = ", ".join(it.strip.names) + (" (from the top)" if len(it.strip.names) > 1 else "")
        beneath = (
            f'<figure><figcaption>Input: {text(names)}</figcaption><canvas id="input" class="low" role="img" '
            'aria-label="The input at each step, on the axis of the heat maps"></canvas></figure>'
        )
    return (
        "<p>Each row is a unit, numbered from 0, each column a step. The outlined column is the step chosen "
        "above, the outlined row the unit chosen here; a click on a heat map chooses both.</p>"
        + fewer
        + '<div class="controls" role="group" aria-label="Heat maps">'
        f'<label for="layer">Layer</label><select id="layer">{layers}</select>'
        f'<label for="order">Units</label><select id="order">{memory}'
        '<option value="number">by number</option></select>'
        '<label for="unit">Unit</label><input type="number" id="unit" min="0" value="'
        f'{int(it.views[0].order[0])}"></div>'
        '<p class="quiet">Gates, 0 to 1: '
        '<canvas class="scale" data-palette="gate" aria-hidden="true"></canvas>'
        " others, negative to positive: "
        '<canvas class="scale" data-palette="signed" aria-hidden="true"></canvas></p>'
        f'<div class="maps"><div id="maps"></div>{beneath}</div>'
        f'<p id="values-of" aria-live="polite"></p>{_table("Values", ["", "value"], body="values")}'
    )


def _answers(it: Inspection, figures: Mapping[str, Draw]) -> tuple[str, str]:
    """Heading and content of what the network answered at all steps."""
    answers = it.answers
    if isinstance(answers, TokenAnswers):
        mean = mean_surprise(answers)
        known = (
            f"The mean is {mean:.2f} bits per token, a perplexity of {2**mean:.4g}."
            if np.isfinite(mean)
            else ""
        )
        rows = [
            [n + 1, step, bits, *_pairs(words, row)]
            for n, (step, bits, words, row) in enumerate(
                zip(it.steps, answers.surprise, answers.words, answers.likeliest.probabilities, strict=True)
            )
        ]
        heads = [
            "step",
            "token",
            "surprise (bits)",
            *(f"{k + 1}. likeliest next" for k in range(len(rows[0]) - 3)),
        ]
        explained = (
            "<p>A token that the network gave the probability p is a surprise of −log<sub>2</sub> p bits: 0 "
            f"if it was certain, 1 if it was as likely as not. {text(known)}</p>"
        )
        picture = _picture(figures["surprise"], f"Bars of the surprise of each token. {known} {_TABLE}")
        return "Surprise", explained + picture + _every_step(heads, rows)
    if isinstance(answers, ClassAnswers):
        heads = ["step", *answers.classes]
        rows = [[n + 1, *map(float, row)] for n, row in enumerate(answers.probabilities)]
        best = answers.classes[int(np.argmax(answers.probabilities[-1]))]
        said = f"The answer after {it.unit} {len(it.steps)} is {best}"
        said += "." if answers.true is None else f"; the true class is {answers.classes[answers.true]}."
        picture = _picture(
            figures["probabilities"], f"Curves of the probability of each class. {said} {_TABLE}"
        )
        return "Probabilities", f"<p>{text(said)}</p>{picture}" + _every_step(heads, rows)
    name = "forecast" if answers.forecast else "predictions"
    heads = ["step ahead" if answers.forecast else "step", *answers.names]
    rows = [[n + 1, *map(float, row)] for n, row in enumerate(answers.values)]
    if answers.true is not None:
        heads += [f"true {column}" for column in answers.names]
        rows = [[*row, *map(float, true)] for row, true in zip(rows, answers.true, strict=True)]
    picture = _picture(figures[name], f"Curves of the {name}. {_TABLE}")
    return name.capitalize(), picture + _every_step(heads, rows)


def _every_step(heads: Sequence[Any], rows: list[list[Any]]) -> str:
    """A table of all steps, or of every second, third ... where that is too much for a page."""
    leap = -(-len(rows) * len(heads) // _CELLS)
    name = "All steps" if leap == 1 else f"One step in {leap} (--json gives all)"
    return _folded(name, heads, [*rows[: len(rows) - 1 : leap], rows[-1]])


def _pairs(words: Sequence[str], probabilities: Any) -> list[str]:
    return [f"{word} {100 * p:.1f} %" for word, p in zip(words, probabilities, strict=True)]


def _saturation(it: Inspection, figures: Mapping[str, Draw]) -> str:
    gates = list(it.views[0].shares)
    heads = ["layer", "unit", *(f"{gate} {side}" for gate in gates for side in (f"< {LEFT}", f"> {RIGHT}"))]
    rows = [
        [view.title, int(unit), *(float(side[unit]) for gate in gates for side in view.shares[gate])]
        for view in it.views
        for unit in np.sort(_listed(it, view))
    ]
    explained = (
        f"<p>A dot is a unit: across, the share of steps at which its gate was below {LEFT} (left-saturated, "
        f"closed); upwards, above {RIGHT} (right-saturated, open). After Karpathy, Johnson and Fei-Fei, "
        "“Visualizing and understanding recurrent networks”, 2015, figure 3.</p>"
    )
    picture = _picture(figures["saturation"], f"Scatter plots of these shares, one for each gate. {_TABLE}")
    return explained + picture + _folded(f"Shares by unit{_fewer(it)}", heads, rows)


def _memory(it: Inspection, figures: Mapping[str, Draw]) -> str:
    kept = it.views[0].kept
    if kept is None:
        return (
            "<p>No gate of this cell alone decides how much of a state is kept, so that no time constant is "
            "given.</p>"
        )
    rows = [
        [view.title, rank + 1, int(unit), _length(view.constants[unit])]
        for view in it.views
        if view.constants is not None
        for rank, unit in enumerate(_listed(it, view))
    ]
    explained = (
        f"<p>At each step state {text(kept.state)} is multiplied by {text(kept)}. With the mean m of that "
        "factor, after −1 / log m steps a fraction 1/e of what was there is left.</p>"
    )
    picture = _picture(figures["memory"], f"Curves of the time constants, the longest first. {_TABLE}")
    heads = ["layer", "rank", "unit", "time constant (steps)"]
    return explained + picture + _folded(f"Units by memory{_fewer(it)}", heads, rows)


def _listed(it: Inspection, view: LayerView) -> Array:
    """The units of a layer that tables list: those that remember longest, where there are too many."""
    found: Array = view.order[: max(8, _UNITS // len(it.views))]
    return found


def _fewer(it: Inspection) -> str:
    """What is left out of a table of units."""
    count, every = len(_listed(it, it.views[0])), len(it.views[0].order)
    return f", the first {count:,} of {every:,} in this order (--json gives all)" if count < every else ""


def _length(steps: float) -> float | str:
    return "without end" if np.isinf(steps) else float(steps)


# -- pieces -------------------------------------------------------------------------------------------


def _table(caption: str, heads: Sequence[Any], rows: Iterable[Sequence[Any]] = (), body: str = "") -> str:
    """A table whose first row and column are headings; `body` is the id of one that the script fills."""
    titles = "".join(f'<th scope="col">{text(head)}</th>' if head != "" else "<td></td>" for head in heads)
    name = f' id="{body}"' if body else ""
    head = f' id="{body}-head"' if body else ""
    lines = "".join(f"<tr>{''.join(_cell(n, value) for n, value in enumerate(row))}</tr>" for row in rows)
    return (
        f"<table><caption{head}>{text(caption)}</caption><thead><tr>{titles}</tr></thead>"
        f"<tbody{name}>{lines}</tbody></table>"
    )


def _cell(n: int, value: Any) -> str:
    shown = text("" if value != value else f"{value:.4g}" if isinstance(value, float) else value)
    if n == 0:
        return f'<th scope="row">{shown}</th>'
    return f'<td class="number">{shown}</td>' if isinstance(value, (int, float)) else f"<td>{shown}</td>"


def _folded(caption: str, heads: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table that opens on demand, and that the keyboard can scroll."""
    return (
        f'<details><summary>Table: {text(caption)}</summary><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{text(caption)}">{_table(caption, heads, rows)}</div></details>'
    )


def _picture(draw: Draw, alternative: str) -> str:
    """A figure in the page, for light screens and for dark ones."""
    light = _data(draw())
    with dark():
        other = _data(draw())
    return (
        f'<picture class="picture"><source media="(prefers-color-scheme: dark)" srcset="{other}">'
        f'<img class="picture" alt="{text(alternative)}" src="{light}"></picture>'
    )


def _data(figure: Any) -> str:
    """A figure as a data URI, in the form that takes less."""
    forms = {"svg": "image/svg+xml", "png": "image/png"}
    content = {form: rendered(figure, form) for form in forms}
    form = min(content, key=lambda name: len(content[name]))
    return f"data:{forms[form]};base64,{base64.b64encode(content[form]).decode('ascii')}"
