"""Ensembles: members that are trained at once or by joblib's jobs, and what they predict together."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed, effective_n_jobs

from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.errors import TrainingDiverged
from lstm_numba.estimators.quantiles import middle
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.optim.optimizers import Optimizer
from lstm_numba.training.fitting import fit
from lstm_numba.training.history import History
from lstm_numba.training.model_fitting import fit_models

Array = npt.NDArray[Any]


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute on so many threads, or on all that there are."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(count, int(numba.config.NUMBA_NUM_THREADS)))
    try:
        yield
    finally:
        numba.set_num_threads(before)


# -- training ----------------------------------------------------------------------------------------


def train(
    model: SequenceModel, optimizer: Optimizer, data: Any, *, seed: int, jobs: int | None, **options: Any
) -> list[History]:
    """Train a model, or many models at once: in this process, or in shares that are joblib's jobs.

    The result has the same bits for any number of jobs.

    Parameters
    ----------
    model : SequenceModel
    optimizer : Optimizer
        Of its parameters.
    data : Items
    seed : int
        Of the order of the data; model n's is that plus n.
    jobs : int, optional
        As joblib takes it; of a single model it means nothing.
    **options
        As `lstm_numba.training.fitting.fit` takes them.

    Returns
    -------
    list of History
        One for each model.
    """
    models = model.models or 0
    count = min(effective_n_jobs(jobs), models) if models else 1
    if count == 1:
        if models:
            return fit_models(model, data, optimizer=optimizer, seed=seed, **options)
        return [fit(model, data, optimizer=optimizer, seed=seed, **options)]
    shares = [share.tolist() for share in np.array_split(np.arange(models), count)]
    place = _Place(os.getpid(), max(1, thread_count() // count))
    found = Parallel(n_jobs=count)(
        delayed(_train_share)(
            model, optimizer, data, share, place,
            {**options, "seed": [seed + n for n in share], "verbose": options["verbose"] and share[0] == 0},
        )
        for share in shares
    )  # fmt: skip
    _take_over(model, optimizer, shares, found)
    return [history for part in found for history in part.histories]


class _Place(NamedTuple):
    """Process that gave the jobs, and threads for each of them if they run in it."""

    process: int
    threads: int


class _Trained(NamedTuple):
    """What a job has made of its share."""

    params: dict[str, Array]
    optimizer: dict[str, Any]
    random: list[Any]
    histories: list[History]


def _train_share(
    model: SequenceModel, optimizer: Optimizer, data: Any, share: list[int], place: _Place, options: Any
) -> _Trained:
    """A job: train some of the models."""
    # Copies: joblib may hand arrays over as files that cannot be written to, or as the caller's own.
    model = model.select(share)
    optimizer = optimizer.select(share, model.params)
    # For another process its backend has chosen the threads, as joblib does by NUMBA_NUM_THREADS.
    here = os.getpid() == place.process
    with threads(place.threads) if here else contextlib.nullcontext():
        try:
            histories = fit_models(model, data, optimizer=optimizer, **options)
        except TrainingDiverged as error:
            raise TrainingDiverged(f"members {share[0]} to {share[-1]}, counted anew: {error}") from None
    params = {name: np.array(model.engine.download(array)) for name, array in model.params.items()}
    return _Trained(params, optimizer.state_dict(), model.rng_state(), histories)


def _take_over(
    model: SequenceModel, optimizer: Optimizer, shares: list[list[int]], found: list[_Trained]
) -> None:
    """Put what jobs have made in its place."""
    params = {name: np.array(model.engine.download(array)) for name, array in model.params.items()}
    # Members that stopped have taken less steps.
    state = {
        name: value if np.ndim(value) else np.full(model.models or 1, value)
        for name, value in optimizer.state_dict().items()
    }
    for share, part in zip(shares, found, strict=True):
        for targets, sources in ((params, part.params), (state, part.optimizer)):
            for name, source in sources.items():
                targets[name][share] = source
    model.load_params(params)
    optimizer.load_state_dict(state)
    model.set_rng_state([one for part in found for one in part.random])


def mean_losses(histories: list[History]) -> list[float]:
    """Training loss of each epoch, the mean over the members that were trained in it."""
    curves = [history["loss"] for history in histories]
    epochs = max(map(len, curves))
    return [float(np.mean([curve[k] for curve in curves if k < len(curve)])) for k in range(epochs)]


# -- predictions -------------------------------------------------------------------------------------


def combined(found: Array, loss: str) -> Array:
    """Predictions of an ensemble: means over its members.

    Of Gaussians it is mean and standard deviation of their mixture, in equal parts [1]_.

    Parameters
    ----------
    found : ndarray (n_models, ..., P)
        The members' predictions, see `SequenceRegressor.predict`.
    loss : str

    Returns
    -------
    ndarray (..., P)

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel, C. Blundell, "Simple and scalable predictive uncertainty
       estimation using deep ensembles", NIPS 2017.
    """
    together = found.mean(axis=0)
    if loss == "gaussian":
        together[..., 1] = np.sqrt(np.mean(found[..., 1] ** 2, axis=0) + np.var(found[..., 0], axis=0))
    return np.asarray(together)


def deviation(found: Array, loss: str, levels: Any) -> Array:
    """Standard deviation of an ensemble's predictions: that of the Gaussians' mixture, else of its members.

    Raises
    ------
    ValueError
        There is one member, and it learns none.
    """
    if loss == "gaussian":
        return np.asarray(combined(found, loss)[..., 1])
    if len(found) == 1:
        raise ValueError(
            f"return_std: the loss {loss!r} learns no standard deviation, 'gaussian' does; "
            "that of an ensemble needs n_models > 1"
        )
    return spread(found[..., middle(loss, levels)])


def spread(found: Array) -> Array:
    """Standard deviation over the members, (n_models, ...), of whom these are a sample."""
    return np.asarray(found.std(axis=0, ddof=1))


# -- members -----------------------------------------------------------------------------------------


def member_optimizer(optimizer: Optimizer, fresh: Optimizer, n: int) -> Optimizer:
    """`fresh`, which is of member n's parameters, as far as `optimizer` has come for that member."""
    state = {name: value[n] if np.ndim(value) else value for name, value in optimizer.state_dict().items()}
    fresh.load_state_dict({**state, "steps": int(state["steps"]), "lr": float(state["lr"])})
    return fresh


def member_model(model: SequenceModel, n: int) -> SequenceModel:
    """A copy of one of many models, as a model of its own."""
    return copy.deepcopy(model.model(n))
