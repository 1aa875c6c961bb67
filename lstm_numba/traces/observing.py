"""Traces a run's network on an input: a text, a picture, or a window of a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_numba.data.corpus import EOS
from lstm_numba.data.images import image_sequences
from lstm_numba.errors import UserError, printable
from lstm_numba.traces.inspection import ClassAnswers, Inspection, Strip, TokenAnswers
from lstm_numba.traces.statistics import Array, likeliest, surprises
from lstm_numba.traces.views import LayerView, layer_views
from lstm_numba.training.classification import ImageTask
from lstm_numba.training.language_modeling import TextTask
from lstm_numba.training.task import Task
from lstm_numba.wording import plural

#: Without an input, shares and time constants are over so many test images, groups or windows, or tokens.
ITEMS, TOKENS = 100, 2000
#: Most numbers that a trace may hold, for all layers, and most steps that are shown.
_NUMBERS, SHOWN = 1 << 26, 800
#: Tokens that are shown of the test text.
_WORDS, _CHARACTERS = 30, 80
#: Tokens listed for each step.
_LISTED = 5
#: Parts of a sequence that are answered at once.
_PARTS = 64
#: What stands for characters that cannot be seen.
_VISIBLE = {"\n": "↵", "\t": "⇥", " ": "␣"}


def affordable(rnn: Any, steps: int, wanted: int) -> int:
    """How many of `wanted` sequences of so many steps may be traced at once; at least one."""
    cell = rnn.plain_cell
    numbers = (len(cell.traced) + len(cell.states)) * rnn.hidden_size * rnn.num_layers * rnn.directions
    return max(1, min(wanted, _NUMBERS // (numbers * max(steps, 1))))


def observed(rnn: Any, x: Any, lengths: Any = None, shown: int = SHOWN) -> list[LayerView]:
    """The layers' views of a trace.

    Raises
    ------
    UserError
        A number is not finite.
    """
    views = layer_views(rnn.trace(x, lengths=lengths), rnn.zoneout, shown)
    for view in views:
        if not all(np.isfinite(values).all() for values in view.values.values()):
            raise UserError(
                "the network's numbers overflow: its weights, or the input's numbers, are too large"
            )
    return views


def by_prefixes(answer: Callable[[Array, Array], Array], x: Array) -> Array:
    """What a model answers if a sequence ends after each of its steps.

    Of one direction that is what its head makes of h after the step; the reverse direction begins anew at
    each end.

    Parameters
    ----------
    answer : callable
        Of sequences (T, B, I) and their lengths (B,).
    x : ndarray (T, I)

    Returns
    -------
    ndarray (T, ...)
    """
    parts = []
    for first in range(0, len(x), _PARTS):
        ends = np.arange(first + 1, min(first + _PARTS, len(x)) + 1)
        parts.append(answer(np.repeat(x[: ends[-1], None], len(ends), axis=1), ends))
    return np.concatenate(parts)


def cut_notes(shown: int, total: int, unit: str) -> list[str]:
    """What is said where not all steps are shown."""
    if shown == total:
        return []
    return [f"the first {shown:,} of {plural(total, unit)} are shown; answers after the last one are not"]


def network_text(task: Task) -> str:
    """The recurrent layers in words: "bidirectional gru, 2 layers of 32 units"."""
    rnn = task.model.rnn
    way = "bidirectional " if rnn.directions == 2 else ""
    layers = plural(rnn.num_layers, "layer")
    return f"{way}{task.config['cell']}, {layers} of {plural(rnn.hidden_size, 'unit')}"


# -- language models ----------------------------------------------------------------------------------


def observe_text(task: TextTask, run: str, text: str | None = None) -> Inspection:
    """A language model reads a text, from a state of zeros.

    Parameters
    ----------
    task : TextTask
    run : str
        Name of the run.
    text : str, optional
        By default the beginning of the test text is shown, and more of it is read.

    Raises
    ------
    UserError
        The text is empty, or has a token outside the vocabulary.
    """
    corpus, model = task.corpus, task.model
    notes = ["the state before the first token is zero"]
    if text is None:
        ids = task.split_ids("test")[: affordable(model.rnn, 1, TOKENS)]
        shown, source = _beginning(corpus.level, ids, corpus.index.get(EOS)), "the beginning of the test text"
    else:
        ids = corpus.encode(text)
        shown, source = min(len(ids), affordable(model.rnn, 1, SHOWN)), "the given text"
        notes += cut_notes(shown, len(ids), "token")
        if not len(ids):
            raise UserError("the text is empty: expected at least one token")
        ids = ids[:shown]
    views = observed(model.rnn, model.embedding.forward(np.asarray(ids, np.int64)[:, None]), None, shown)
    download = model.engine.download
    weight, bias = (
        np.asarray(download(model.output.params[name]), np.float64) for name in ("weight", "bias")
    )
    logits = views[-1].values["h"].astype(np.float64) @ weight.T + bias
    best = likeliest(logits, _LISTED)
    bits = np.concatenate([[math.nan], surprises(logits[:-1], ids[1:shown])])
    words = tuple(tuple(visible(corpus.vocabulary[k]) for k in row) for row in best.tokens)
    return Inspection(
        run,
        task.config["dataset"],
        network_text(task),
        source,
        "token",
        tuple(visible(corpus.vocabulary[int(number)]) for number in ids[:shown]),
        Strip("tokens", np.zeros((shown, 0))),
        views,
        TokenAnswers(best, words, bits),
        1,
        len(ids),
        tuple(notes),
    )


def visible(token: str) -> str:
    """A token with signs for white space, and for what cannot be printed."""
    return printable("".join(_VISIBLE.get(c, c) for c in token), 60)


def _beginning(level: str, ids: Array, end: int | None) -> int:
    """Tokens to show of a text: whole sentences, if they are not too long."""
    most = min(len(ids), _CHARACTERS if level == "char" else _WORDS)
    ends: list[int] = [] if end is None else np.flatnonzero(ids[:most] == end).tolist()
    return ends[-1] + 1 if ends and ends[-1] >= most // 3 else most


# -- images -------------------------------------------------------------------------------------------


def observe_image(
    task: ImageTask, run: str, name: str | None = None, pixels: Array | None = None
) -> Inspection:
    """A classifier reads an image.

    Parameters
    ----------
    task : ImageTask
    run : str
        Name of the run.
    name, pixels : str, ndarray uint8 of the form's shape, optional
        By default the first test image is shown, and more of them are read.
    """
    model, view, true = task.model, task.config["data"].get("view", "rows"), None
    if pixels is None:
        images = task.images("test")
        batch = images.images[: affordable(model.rnn, task.sequence_steps, min(ITEMS, len(images)))]
        name, true = "test image 0", int(images.labels[0])
    else:
        batch = pixels[None]
    x = image_sequences(np.ascontiguousarray(batch), view, model.dtype, form=task.form)
    answers = by_prefixes(model.probabilities, x[:SHOWN, 0])
    if not np.isfinite(answers).all():
        raise UserError("the model's outputs are not finite: its weights are too large")
    steps = min(len(x), SHOWN)
    unit = "row" if view == "rows" else "pixel"
    notes = cut_notes(steps, len(x), unit)
    if view == "permuted":
        notes.append("the pixels are read in a fixed random order")
    if model.rnn.directions == 2:
        notes.append(
            f"both directions: the answer after a {unit} is that to the image that ends there, which the "
            f"reverse direction reads from that {unit} back"
        )
    return Inspection(
        run,
        task.config["dataset"],
        network_text(task),
        str(name),
        unit,
        tuple(f"{unit} {n + 1}" for n in range(steps)),
        Strip("picture", _ink(x[:steps, 0], task.form.shape)),
        observed(model.rnn, x),
        ClassAnswers(task.classes, answers, true),
        x.shape[1],
        x.shape[0] * x.shape[1],
        tuple(notes),
    )


def _ink(x: Array, shape: tuple[int, ...]) -> Array:
    """What was read at each step, from 0, the darkest, to 1; of colours their mean."""
    grey = x.reshape(len(x), -1, 3).mean(axis=2) if len(shape) == 3 else x
    low, high = grey.min(), grey.max()
    found: Array = (grey - low) / max(high - low, 1e-12)
    return found
