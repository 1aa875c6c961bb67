"""Drawing text from a language model, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lstm_numba.arguments import integer, non_negative
from lstm_numba.models.base import Array, State
from lstm_numba.models.language_model import LanguageModel
from lstm_numba.nn.losses import softmax


def draw_token(
    logits: Array, rng: np.random.Generator, *, temperature: float = 1.0, top_k: int | None = None
) -> int:
    """Draw a token from the logits.

    Parameters
    ----------
    logits : ndarray (V,)
    rng : numpy.random.Generator
        One number is drawn, none at temperature 0.
    temperature : float
        Divides the scores; 0 takes the most likely token, the first of equals.
    top_k : int, optional
        Draw from that many most likely tokens only; of equals the first.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        `temperature` is negative or not finite, `top_k` less than 1, or a logit NaN or infinity.
    """
    non_negative("temperature", temperature)
    if top_k is not None:
        integer("top_k", top_k)
    scores = np.asarray(logits, dtype=np.float64)
    if not scores.max() < np.inf:  # -inf is an impossible token
        raise ValueError("logits: expected numbers, got NaN or infinity")
    if temperature == 0:
        return int(np.argmax(scores))
    allowed = np.arange(len(scores))
    if top_k is not None and top_k < len(scores):
        allowed = np.sort(np.argsort(-scores, kind="stable")[:top_k])
    # Subtract the largest before dividing, lest a tiny temperature overflow.
    cumulative = np.cumsum(softmax((scores[allowed] - scores.max()) / temperature))
    index = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    return int(allowed[min(index, len(allowed) - 1)])


def generate(
    model: LanguageModel,
    prompt: Sequence[int],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    rng: np.random.Generator | None = None,
) -> Iterator[int]:
    """Continue a text.

    Parameters
    ----------
    model : LanguageModel
    prompt : sequence of int
        Tokens to start with, at least one; not yielded.
    length : int
        Number of tokens to draw.
    temperature, top_k
        See `draw_token`.
    rng : numpy.random.Generator, optional

    Yields
    ------
    int
        The tokens drawn.
    """
    if len(prompt) == 0:
        raise ValueError("prompt: expected at least one token, got none")
    rng = np.random.default_rng() if rng is None else rng
    state: State = None
    ids = np.asarray(prompt, dtype=np.int64).reshape(-1, 1)
    for _ in range(length):
        logits, state = model.next_logits(ids, state)
        token = draw_token(logits[0], rng, temperature=temperature, top_k=top_k)
        yield token
        ids = np.array([[token]])
