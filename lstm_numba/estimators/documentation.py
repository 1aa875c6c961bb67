"""The parameters and attributes that all estimators have, said once and put into their docstrings."""

from __future__ import annotations

import inspect
from typing import TypeVar

C = TypeVar("C", bound=type)

_PARAMETERS = """
cell : str
    As `lstm_numba.make_layer` takes it: "lstm", "gru", "peephole", ...
hidden_size : int
    Hidden units.
num_layers : int
    Recurrent layers.
bidirectional : bool
    Read in both directions.
dropout : float
    Probability of dropping between the layers and before the output.
max_epochs : int
    Passes over the data.
batch_size : int or "auto"
    Sequences in a batch; "auto" is 64, or all if there are fewer.
learning_rate : float
optimizer : {"adam", "adamw", "sgd", "rmsprop"}
weight_decay : float
    L2 penalty; decoupled for "adamw".
schedule : {"constant", "cosine", "plateau"}
    Learning rate over the epochs.
clip : float, optional
    Largest global norm of the gradient.
early_stopping : bool
    Hold a part of the sequences out, watch the loss on it, and keep the parameters of the best epoch.
    Otherwise all epochs are done, and the last parameters stay.
validation_fraction : float
    That part.
n_iter_no_change : int, optional
    With `early_stopping`: epochs without improvement after which training stops; None never stops early.
tol : float
    Decrease of the watched loss that counts as an improvement.
standardize : bool
    Bring each feature to mean 0 and standard deviation 1 over the training sequences, and numbers that are to
    be predicted too; predictions are in the units of the data.
n_models : int
    Above 1 an ensemble: as many models that differ in their initial weights and in the order of the data, and
    are trained at once; each stops at its own best. Predictions are their means, `return_std` gives their
    spread. The first of them is what ``n_models=1`` would be.
warm_start : bool
    `fit` goes on from what the last one reached, with its standardisation.
random_state : int, RandomState or None
    Source of the initial weights, the order of the sequences, dropout, and what is held out.
n_jobs : int, optional
    Threads; -1 for all. By default those that the library uses anyway: as many as there are cores for the
    process. For an ensemble it is the number of joblib's jobs among which the members are divided for
    training, by the backend of `joblib.parallel_config`; by default they are trained in this process, on all
    threads. Results are the same bits for any number of jobs.
device : {"cpu", "cuda"}
dtype : float32 or float64, optional
    Precision; by default that of X. float32 is about twice as fast.
verbose : bool
    Write the progress to standard error.
"""

_ATTRIBUTES = """
n_features_in_ : int
    Features of a step; of an array (N, T) its columns.
loss_curve_ : list of float
    Training loss of each epoch, of standardised numbers; the mean over the members that were trained in it.
best_loss_ : float
    Lowest loss: on what is held out with `early_stopping`, else in training. The mean of each member's.
n_iter_ : int
    Epochs done, by the member that did most.
histories_ : list of History
    All numbers of the last training of each member, see `lstm_numba.training.history.History`; `history_` is
    that of a single model.
estimators_ : list of estimators
    The members, each a copy that is an estimator of one model.
"""

_INPUT = """
Notes
-----
X is an array (N, T, F) of N sequences of T steps; an array (N, T) of one feature, whose columns must be as
many in `predict` as they were in `fit`; or a list of arrays (T_i, F) or (T_i,) of different lengths.

NaN stands for what is missing. A step of which nothing is known is left out: the sequence goes on as if it
were not there. In a step of which something is known, what is missing is replaced by the last number of that
feature in the sequence, before the first by the training mean.
"""


def document(cls: C) -> C:
    """Put what all estimators share into a docstring, where it says ``{parameters}`` and ``{attributes}``."""
    text = inspect.cleandoc(cls.__doc__ or "")
    for name, shared in (("parameters", _PARAMETERS), ("attributes", _ATTRIBUTES)):
        text = text.replace(f"{{{name}}}", shared.strip())
    head, mark, rest = text.partition("Examples\n--------\n")
    cls.__doc__ = f"{head}{_INPUT.strip()}\n\n{mark}{rest}"
    return cls
