"""How networks are made and trained for the gap: initial weights, what they see, when it is a success."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_numba import reference
from lstm_numba.data import gap_tasks
from lstm_numba.experiments import gap_training
from lstm_numba.experiments.gap_training import (
    UNGATED,
    batch,
    evaluate,
    make_model,
    most_updates,
    succeeds,
    train,
)
from lstm_numba.experiments.long_gap import CELLS

GATED = [cell for cell in CELLS if cell not in UNGATED]


def kept(cell: str, params: dict[str, Any], states: int, hidden: int) -> Any:
    """What is left after a step of a state of 1 where all weights are 0, by the reference."""
    zeroed = {
        name: value if name.startswith("bias") or "_ph" in name else 0 * value
        for name, value in params.items()
    }
    if not cell.startswith("layer-norm") and "weight_ph_l0" in zeroed:
        zeroed["weight_ph_l0"] = 0 * zeroed["weight_ph_l0"]  # peepholes; of the others, gains and shifts
    first = [np.ones((1, 1, hidden)), *[np.ones((1, 1, hidden))] * (states - 1)]
    if cell == "slstm":
        first[3] = np.zeros((1, 1, hidden))
    _, finals = reference.run(cell, zeroed, np.zeros((1, 1, 8)), first)
    state = finals[min(1, states - 1)]
    return (state * np.exp(finals[3]) if cell == "slstm" else state)[0, 0]


@pytest.mark.smoke
@pytest.mark.parametrize("cell", GATED)
def test_gates_keep_a_state_for_the_horizon(cell: str) -> None:
    """The odds of keeping are uniform from 1 to T - 1; of LSTMs those of writing are their reciprocal."""
    hidden, horizon = 64, 100.0
    model = make_model(cell, "order", hidden, horizon, seed=3)
    params = model.rnn.state_dict()
    share = kept(cell, params, len(model.rnn.plain_cell.states), hidden)
    odds = share / (1 - share)
    assert odds.min() > 0.99
    assert odds.max() < 99.1
    assert odds.mean() == pytest.approx(50.0, abs=4 * 98 / np.sqrt(12 * hidden))
    assert odds.std() == pytest.approx(98 / np.sqrt(12), rel=0.25)
    gates = list(model.rnn.plain_cell.gates)
    if "i" in gates:
        writing = params["bias_ih_l0"][gates.index("i") * hidden :][:hidden]
        np.testing.assert_allclose(np.exp(writing), 1 / odds, rtol=1e-3)


@pytest.mark.smoke
def test_recurrent_weights_of_cells_without_gates() -> None:
    for task in ("adding", "copy"):
        weights = make_model("rnn", task, 16, 100.0, seed=1).rnn.state_dict()["weight_hh_l0"]
        np.testing.assert_allclose(weights @ weights.T, np.eye(16), atol=1e-5)
        assert np.abs(weights - np.eye(16)).max() > 0.1
        relu = make_model("rnn-relu", task, 16, 100.0, seed=1).rnn.state_dict()
        np.testing.assert_array_equal(relu["weight_hh_l0"], np.eye(16))
        assert not relu["bias_ih_l0"].any()
    clockwork = make_model("clockwork", "order", 16, 100.0, seed=1).rnn.state_dict()
    group = clockwork["weight_hh_l0_g2"]
    np.testing.assert_allclose(group @ group.T, np.eye(4), atol=1e-5)


@pytest.mark.smoke
def test_a_model_for_each_task() -> None:
    outputs = {
        task: make_model("lstm", task, 8, 30.0, seed=0).params["output.weight"].shape
        for task in gap_tasks.TASKS
    }
    assert outputs == {"adding": (1, 8), "order": (4, 8), "reber": (7, 8), "copy": (2, 8)}
    one, same, other = (
        make_model("gru", "copy", 8, 30.0, seed).params["rnn.bias_ih_l0"] for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1


@pytest.mark.smoke
def test_what_a_batch_holds() -> None:
    drawn = gap_tasks.sequences("copy", 6, 5, seed=1)
    found = batch("copy", drawn, slice(1, 4))
    assert found.x.shape == (11, 3, 4)
    np.testing.assert_array_equal(found.x.argmax(-1), drawn.inputs[:, 1:4])
    np.testing.assert_array_equal(found.labels[-3:].argmax(-1), drawn.answers[:, 1:4])
    np.testing.assert_array_equal(found.weights, np.repeat([[0.0], [1.0]], [8, 3], axis=0) * np.ones(3))
    drawn = gap_tasks.sequences("adding", 6, 5, seed=1)
    found = batch("adding", drawn, slice(2, 5))
    np.testing.assert_array_equal(found.x, drawn.inputs[:, 2:5])
    np.testing.assert_array_equal(found.labels[:, 0], drawn.answers[0, 2:5])
    drawn = gap_tasks.sequences("order", 6, 5, seed=1)
    found = batch("order", drawn, slice(0, 2))
    np.testing.assert_array_equal(found.x.sum(axis=-1), 1.0)
    np.testing.assert_array_equal(found.labels, drawn.answers[0, :2])


class Knowing:
    """Stands for a model that knows the answers, but for one symbol or a constant error."""

    def __init__(self, task: str, drawn: gap_tasks.Sequences, wrong: int, error: float) -> None:
        self.task, self.answers, self.error = task, drawn.answers.copy(), error
        if task != "adding":
            self.answers[-1, :wrong] ^= 1
        self.steps = len(drawn.inputs)
        self.done = 0

    def scores(self, x: Any) -> Any:
        """Scores of the next sequences."""
        answers = self.answers[:, self.done : self.done + x.shape[1]]
        self.done += x.shape[1]
        if self.task == "adding":
            return answers.T + np.float32(self.error)
        right = np.eye(8, dtype=np.float32)[answers]
        if self.task == "copy":
            return np.concatenate([np.zeros((self.steps - 3, *right.shape[1:]), np.float32), right])
        return right[0]


@pytest.mark.smoke
@pytest.mark.parametrize("task", gap_tasks.TASKS)
def test_scores_and_success(task: str) -> None:
    drawn = gap_tasks.sequences(task, 8, 200, seed=1)
    scores: list[float] = []
    for wrong, error in ((0, 0.0), (2, 0.039), (3, 0.041)):
        model: Any = Knowing(task, drawn, wrong, error)
        scores.append(evaluate(model, task, drawn))
    expected = [0.0, 0.039, 0.041] if task == "adding" else [1.0, 0.99, 0.985]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert [succeeds(task, score) for score in scores] == [True, True, False]
    assert not succeeds(task, float("nan"))


@pytest.mark.smoke
def test_most_updates_fall_with_the_gap() -> None:
    assert [most_updates(2500, gap) for gap in (10, 30, 100, 300, 1000)] == [2500, 1300, 625, 325, 150]
    assert most_updates(1, 1000) == gap_training.CHECK


def test_training_goes_from_gap_to_gap_until_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """An RNN that latches a symbol over 6 steps, over 12 and 40 too; that does not learn, fails."""
    options: dict[str, Any] = {"hidden": 12, "updates": 1000, "seed": 2}
    stages = train("rnn", "reber", (6, 12, 40), **options)
    assert [stage.gap for stage in stages] == [6, 12, 40]
    assert all(stage.bridged and stage.score >= 0.99 for stage in stages)
    assert stages[0].updates >= 25
    assert train("rnn", "reber", (6, 12, 40), **options) == stages
    monkeypatch.setattr(gap_training, "RATE", 1e-9)
    failed = train("rnn", "reber", (6, 12), **{**options, "updates": 50})
    assert [(stage.gap, stage.updates, stage.bridged) for stage in failed] == [(6, 75, False)]
    assert failed[0].score < 0.99
