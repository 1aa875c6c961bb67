"""What a model of text believes in: probabilities of whole sentences, by the chain rule, without sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int32]
#: Texts (T, N), token numbers -> probabilities of the token that follows each, (N, V).
Next = Callable[[Tokens], Array]


def sentence_probability(following: Next, texts: Tokens, sentence: Sequence[int]) -> float:
    """Probability that a text goes on with a sentence, in the mean over the texts before it.

    Parameters
    ----------
    following : callable
        The model.
    texts : ndarray (T, N)
        Texts that may stand before the sentence, equally likely, T at least 1.
    sentence : sequence of int
    """
    return float(
        np.exp(_token_logs(following, texts, np.array(sentence, np.int32)[:, None]).sum(axis=0)).mean()
    )


def expected_loss(following: Next, texts: Tokens, sentences: Sequence[Sequence[int]]) -> float:
    """Mean loss of a token, in nats, where each text is followed by each sentence, all equally likely.

    Parameters
    ----------
    following, texts
        See `sentence_probability`.
    sentences : sequence of sequences of int
        Of the same length.
    """
    count = texts.shape[1]
    table = np.array(sentences, np.int32).T
    before, after = np.tile(texts, table.shape[1]), np.repeat(table, count, axis=1)
    return float(-_token_logs(following, before, after).mean())


def _token_logs(following: Next, texts: Tokens, after: Tokens) -> Array:
    """Logarithms of the probabilities of the tokens `after` (S, N or 1) the texts, (S, N)."""
    columns = np.arange(texts.shape[1])
    after = np.broadcast_to(after, (len(after), len(columns)))
    rows = [
        np.log(following(np.concatenate([texts, after[:place]]))[columns, after[place]])
        for place in range(len(after))
    ]
    return np.array(rows)


def likely_sentences(
    following: Next, texts: Tokens, stop: int, threshold: float, length: int
) -> dict[tuple[int, ...], float]:
    """All sentences that a model finds likely at the start of a sentence.

    A beginning is at least as likely as whatever it begins, so none is missed.

    Parameters
    ----------
    following, texts
        See `sentence_probability`.
    stop : int
        The token that ends a sentence.
    threshold : float
        Least probability.
    length : int
        Most tokens, with the stop.

    Returns
    -------
    dict
        Sentences, with the stop, and their probabilities, the likeliest first.
    """
    count = texts.shape[1]
    found: dict[tuple[int, ...], float] = {}
    prefixes, weights = (
        np.zeros((1, 0), np.int32),
        np.ones((1, count)),
    )  # one row each; a column for each text
    for _ in range(length):
        read = np.concatenate([np.tile(texts, len(prefixes)), np.repeat(prefixes, count, axis=0).T])
        following_each = following(read).reshape(len(prefixes), count, -1)
        joint = weights[:, :, None] * following_each
        rows, tokens = np.nonzero(joint.mean(axis=1) >= threshold)
        longer = np.concatenate([prefixes[rows], tokens[:, None].astype(np.int32)], axis=1)
        weights = joint[rows, :, tokens]
        ended = tokens == stop
        for sentence, weight in zip(longer[ended].tolist(), weights[ended], strict=True):
            found[tuple(sentence)] = float(weight.mean())
        prefixes, weights = longer[~ended], weights[~ended]
        if len(prefixes) == 0:
            break
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
