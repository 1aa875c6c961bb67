"""How `lstm_numba.experiments.long_gap` makes and trains a network: the same way for every kind of cell.

* One recurrent layer and a linear layer on its output at the end, "copy": at each step, of which those of the
  answer count. Cross-entropy, "adding": mean squared error, "copy": mean squared error of ones and zeros.
* Adam, whose step is the same for all; gradients clipped to a norm of 1; batches that are never seen twice.
* A network begins with the smallest gap. Where it succeeds it goes on, with all that it has learned, to the
  next one, and is first tried on it as it is. Where it fails, larger gaps are not tried.
* Whether it succeeds is looked up every `CHECK` updates, on sequences that it is not trained on: the root
  mean square error of "adding" is below `TOLERANCE`, of all others `RIGHT` of the sequences have no wrong
  answer.

Initial weights are those that are said to serve the kind of cell best. Recurrent matrices are orthogonal; of
a relu RNN the identity (Le, Jaitly & Hinton 2015). Biases of gates that keep a state are log U(1, T - 1),
those of LSTMs' input gates the negative (C. Tallec, Y. Ollivier, "Can recurrent neural networks warp time?",
ICLR 2018, equation 16), where T is the geometric mean of the smallest and the largest gap, as the network has
to learn both.

The learning rate is the one of 0.003, 0.005, 0.007 and 0.01 with which both kinds of cells did well in trials
with rnn, rnn-relu, lstm, coupled, slstm and gru: gated cells are slow to learn "copy" at lower rates, cells
without gates bridge less at higher ones. T was tried at 10, 30, 100 and 1,000 for gaps from 10 to 1,000.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.cells.layer_norm import LayerNormGRUCell, LayerNormLSTMCell
from lstm_numba.data import gap_tasks
from lstm_numba.data.gap_tasks import Sequences
from lstm_numba.models import SequenceBatch, SequenceClassifier, SequenceRegressor
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.optim.optimizers import Adam
from lstm_numba.training.step import TrainingStep

#: Cells without gates.
UNGATED = ("rnn", "rnn-relu", "clockwork")
#: Sequences of a batch, and updates between two looks at success.
BATCH, CHECK = 16, 25
#: Sequences to look at success, and how many of them are computed together.
HELD_OUT, _TOGETHER = 256, 64
#: Share of sequences without a wrong answer, and root mean square error of "adding", that are a success.
RIGHT, TOLERANCE = 0.99, 0.04
#: Learning rate and bound of the gradients' norm.
RATE, CLIP = 0.007, 1.0
# Sequences to look at success have a seed of their own.
_HELD_OUT_SEED = 1 << 32


class Stage(NamedTuple):
    """What came of one gap.

    Attributes
    ----------
    gap : int
    updates : int
        Made with this gap.
    score : float
        At the end: share of the sequences held out without a wrong answer, of "adding" the root mean square
        error.
    bridged : bool
    """

    gap: int
    updates: int
    score: float
    bridged: bool


def train(
    cell: str,
    task: str,
    gaps: tuple[int, ...],
    *,
    hidden: int,
    updates: int,
    seed: int,
    device: str = "cpu",
) -> list[Stage]:
    """Train a network on one gap after the other until it fails.

    Parameters
    ----------
    cell, task : str
    gaps : tuple of int
        Ascending.
    hidden : int
        Hidden units, H.
    updates : int
        With a gap of 10 at most; see `most_updates`.
    seed : int
        Of weights and sequences.
    device : {"cpu", "cuda"}

    Returns
    -------
    list of Stage
        The last one may be a failure; larger gaps were not tried.
    """
    model = make_model(cell, task, hidden, math.sqrt(gaps[0] * gaps[-1]), seed, device)
    step = TrainingStep(model, Adam(model.params, lr=RATE), clip=CLIP)
    stages: list[Stage] = []
    for gap in gaps:
        stages.append(_stage(step, model, task, gap, most_updates(updates, gap), seed))
        if not stages[-1].bridged:
            break
    return stages


def most_updates(updates: int, gap: int) -> int:
    """Most updates with a gap, of so many with a gap of 10: they fall with its power of 3/5.

    A step takes a time that grows with the gap, and what was learned with a smaller one helps.
    """
    return max(1, round(updates * (10 / gap) ** (3 / 5) / CHECK)) * CHECK


def _stage(step: TrainingStep, model: SequenceModel, task: str, gap: int, most: int, seed: int) -> Stage:
    held_out = gap_tasks.sequences(task, gap, HELD_OUT, seed + _HELD_OUT_SEED)
    done, score = 0, evaluate(model, task, held_out)
    while not succeeds(task, score) and done < most:
        drawn = gap_tasks.sequences(task, gap, CHECK * BATCH, seed, done * BATCH)
        for k in range(CHECK):
            step(batch(task, drawn, slice(k * BATCH, (k + 1) * BATCH)), None, RATE)
        done += CHECK
        score = evaluate(model, task, held_out)
    return Stage(gap, done, score, succeeds(task, score))


def succeeds(task: str, score: float) -> bool:
    """Whether a score is a success; NaN is none."""
    return score < TOLERANCE if task == "adding" else score >= RIGHT


def batch(task: str, drawn: Sequences, which: slice) -> SequenceBatch:
    """Some of the sequences and their answers, as the task's model takes them."""
    features, classes = gap_tasks.TASKS[task].features, gap_tasks.TASKS[task].classes
    inputs, answers = drawn.inputs[:, which], drawn.answers[:, which]
    if task == "adding":
        return SequenceBatch(np.ascontiguousarray(inputs), np.ascontiguousarray(answers.T))
    x = gap_tasks.one_hot(inputs, features)
    if task != "copy":
        return SequenceBatch(x, answers[0].astype(np.int64))
    labels, weights = np.zeros((*x.shape[:2], classes), np.float32), np.zeros(x.shape[:2])
    labels[-len(answers) :], weights[-len(answers) :] = gap_tasks.one_hot(answers, classes), 1.0
    return SequenceBatch(x, labels, weights=weights)


def evaluate(model: SequenceModel, task: str, held_out: Sequences) -> float:
    """The score of `Stage`."""
    found = []
    for begin in range(0, held_out.inputs.shape[1], _TOGETHER):
        which = slice(begin, begin + _TOGETHER)
        answers = held_out.answers[:, which]
        scores = model.scores(batch(task, held_out, which).x)
        if task == "adding":
            found.append((scores[:, 0].astype(np.float64) - answers[0]) ** 2)
        else:
            last = scores[-len(answers) :] if task == "copy" else scores[None]
            found.append((last.argmax(axis=-1) == answers).all(axis=0))
    share = float(np.concatenate(found).mean())
    return math.sqrt(share) if task == "adding" else share


def make_model(
    cell: str, task: str, hidden: int, horizon: float, seed: int, device: str = "cpu"
) -> SequenceModel:
    """The network of a task, with the initial weights of its kind of cell.

    Parameters
    ----------
    cell, task : str
    hidden : int
    horizon : float
        T above, in steps.
    seed : int
    device : {"cpu", "cuda"}
    """
    one = gap_tasks.TASKS[task]
    options: Any = {"cell": cell, "seed": seed, "init": "identity" if cell == "rnn-relu" else "orthogonal"}
    model: SequenceModel
    if task == "adding":
        model = SequenceRegressor(one.features, hidden, 1, **options)
    elif task == "copy":
        model = SequenceRegressor(one.features, hidden, one.classes, per_step=True, **options)
    else:
        model = SequenceClassifier(one.features, hidden, one.classes, **options)
    if cell not in UNGATED:
        _keep_for(model, cell, horizon, np.random.default_rng([seed, 1]))
    return model.to(device)


def _keep_for(model: SequenceModel, cell: str, horizon: float, rng: np.random.Generator) -> None:
    """Set the biases of the gates that keep a state, in the host's memory, and of LSTMs' input gates."""
    hidden = model.rnn.hidden_size
    biases = np.log(rng.uniform(1.0, max(horizon, 3.0) - 1.0, hidden))
    gates, array = _biases(model, cell)
    keep = "z" if "z" in gates else "f"
    for gate, values in ((keep, biases), ("i", -biases)):
        if gate in gates:
            first = gates.index(gate) * hidden
            array[first : first + hidden] = values


def _biases(model: SequenceModel, cell: str) -> tuple[list[str], npt.NDArray[Any]]:
    """Names of blocks of H biases, and the array that holds these one after the other."""
    normalised: dict[str, Any] = {"layer-norm-lstm": LayerNormLSTMCell, "layer-norm-gru": LayerNormGRUCell}
    if cell in normalised:
        return [name.removeprefix("b_") for name in normalised[cell].vectors], model.params[
            "rnn.weight_ph_l0"
        ]
    return list(model.rnn.cell.gates), model.params["rnn.bias_ih_l0"]
