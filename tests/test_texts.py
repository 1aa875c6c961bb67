"""The text of each public object, as Python and notebooks print it."""

from __future__ import annotations

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.models.base import StepResult
from lstm_numba.nn.tape import Tape
from lstm_numba.wording import plural


def test_linear_and_embedding() -> None:
    assert repr(ln.Linear(5, 3)) == "Linear(5, 3, dtype=float32)"
    assert repr(ln.Linear(5, 3, bias=False, dtype=np.float64)) == "Linear(5, 3, bias=False, dtype=float64)"
    assert repr(ln.Embedding(50, 8)) == "Embedding(50, 8, dtype=float32)"


PARAMS = {"w": np.zeros(3, np.float32)}


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: ln.SGD(PARAMS, 0.5), "SGD(lr=0.5)"),
        (lambda: ln.SGD(PARAMS, 1, 0.9, nesterov=True), "SGD(lr=1.0, momentum=0.9, nesterov=True)"),
        (lambda: ln.Adam(PARAMS), "Adam(lr=0.001)"),
        (lambda: ln.Adam(PARAMS, betas=(0.8, 0.99)), "Adam(lr=0.001, betas=(0.8, 0.99))"),
        (lambda: ln.AdamW(PARAMS, 0.1), "AdamW(lr=0.1)"),
        (lambda: ln.AdamW(PARAMS, 0.1, weight_decay=0), "AdamW(lr=0.1, weight_decay=0.0)"),
        (lambda: ln.RMSprop(PARAMS, eps=1e-6), "RMSprop(lr=0.01, eps=1e-06)"),
        (lambda: ln.Schedule(0.1), "Schedule(lr=0.1)"),
        (lambda: ln.HoldThenDecay(1.0, hold=6), "HoldThenDecay(lr=1.0, hold=6)"),
        (lambda: ln.Cosine(0.1, 10), "Cosine(lr=0.1, epochs=10)"),
        (lambda: ln.Cosine(0.1, 10, warmup=0.5), "Cosine(lr=0.1, epochs=10, warmup=0.5)"),
        (lambda: ln.Plateau(0.1, patience=3), "Plateau(lr=0.1, patience=3)"),
    ],
)  # fmt: skip
def test_optimizers_and_schedules(made: object, text: str) -> None:
    assert callable(made)
    assert repr(made()) == text


def test_a_changed_learning_rate_shows() -> None:
    rule = ln.Adam(PARAMS)
    rule.lr = 0.25
    assert repr(rule) == "Adam(lr=0.25)"


def test_models() -> None:
    # 2 * 4 * 5 * (3 + 5 + 2) of the layer, 3 * 10 + 3 of the output
    assert repr(ln.SequenceClassifier(3, 5, 3, bidirectional=True)) == (
        "SequenceClassifier(\n"
        "  (rnn): Recurrent(LSTMCell, 3, 5, bidirectional=True, dtype=float32)\n"
        "  (output): Linear(10, 3, dtype=float32)\n"
        "  parameters: 433\n"
        ")"
    )
    assert repr(ln.SequenceRegressor(3, 4, 2, cell="gru", loss="quantile", per_step=True)) == (
        "SequenceRegressor(\n"
        "  (rnn): Recurrent(GRUCell, 3, 4, dtype=float32)\n"
        "  (output): Linear(4, 6, dtype=float32)\n"
        "  loss: quantile 0.1, 0.5, 0.9, at every step\n"
        "  parameters: 138\n"
        ")"
    )
    assert "\n  loss: huber\n" in repr(ln.SequenceRegressor(3, 4, 2, loss="huber"))


def test_language_models() -> None:
    free = ln.LanguageModel(50, 8, embedding=4, dtype=np.float64)
    assert repr(free) == (
        "LanguageModel(\n"
        "  (embedding): Embedding(50, 4, dtype=float64)\n"
        "  (rnn): Recurrent(LSTMCell, 4, 8, dtype=float64)\n"
        "  (output): Linear(8, 50, dtype=float64)\n"
        "  parameters: 1,098\n"
        ")"
    )
    tied = repr(ln.LanguageModel(50, 8, tie=True, cell="rnn")).splitlines()
    # 50 * 8 of the table, 8 * (8 + 8 + 2) of the layer, 50 of the bias
    assert tied[4:] == ["  tied: output.weight is embedding.weight", "  parameters: 594", ")"]


def test_sequence_data() -> None:
    def text(x: object, y: object, **more: object) -> str:
        return repr(ln.SequenceData(x, y, **more))

    x = np.zeros((4, 5, 3))
    assert text(x, [0, 2, 1, 0]) == "SequenceData(4 sequences of 5 steps, 3 features; classes 0 to 2)"
    ragged = [np.zeros((steps, 1)) for steps in (5, 9)]
    numbers = np.zeros((2, 2))
    assert text(ragged, numbers) == "SequenceData(2 sequences of 5 to 9 steps, 1 feature; 2 targets)"
    assert text(x[:1, :1], np.zeros((1, 1, 1)), weights=[1.0]) == (
        "SequenceData(1 sequence of 1 step, 3 features; 1 target a step, weights)"
    )


class Engine:
    """Stands for an engine whose numbers come later."""

    def __init__(self, in_flight: int) -> None:
        self.in_flight, self.fetched = in_flight, 0

    def fetch(self, totals: np.ndarray) -> object:
        """Count."""
        self.fetched += 1
        return totals.copy


def test_step_result_does_not_wait() -> None:
    totals = np.zeros(8)
    totals[:2] = 3.25, 7
    later, now = Engine(1), Engine(0)
    result = StepResult(later, totals, 32, 0.1, {"w": np.zeros(2)})  # type: ignore[arg-type]
    assert repr(result) == "StepResult(count=32, on its device, gradients of 1 parameter)"
    assert later.fetched == 0
    result.fetch()
    assert repr(result).startswith("StepResult(count=32, loss_sum=3.25, correct=7, ")
    early = StepResult(now, totals, 2.5, 0.1)  # type: ignore[arg-type]
    assert repr(early) == "StepResult(count=2.5, loss_sum=3.25, correct=7)"
    totals[0] = 4  # the text has not kept what it saw
    assert early.loss_sum == 4


def test_streams_and_tapes() -> None:
    layer = ln.LSTM(3, 4, seed=0)
    tape = Tape(layer, layer.cell, (2, 1, 3))
    assert repr(tape) == "Tape(LSTM(3, 4, dtype=float32), x (2, 1, 3), used up)"
    tape.saved.append(0)
    assert repr(tape) == "Tape(LSTM(3, 4, dtype=float32), x (2, 1, 3))"
    assert repr(ln.Stream(layer, 2)) == "Stream(LSTM(3, 4, dtype=float32), batch=2)"
    assert repr(ln.kernels.CStep(layer)) == "CStep(LSTM(3, 4, dtype=float32), batch=1)"
    head = ln.Linear(4, 2, bias=False)
    text = "LSTM(3, 4, dtype=float32), head=Linear(4, 2, bias=False, dtype=float32), batch=1"
    assert repr(ln.Stream(layer, head=head)) == f"Stream({text})"
    assert repr(ln.kernels.CStep(layer, head=head)) == f"CStep({text})"
    model = ln.SequenceClassifier(3, 4, 2, seed=0)
    assert repr(ln.PredictionStream(model)) == "PredictionStream(SequenceClassifier, 3 features, 2 outputs)"


def test_plural() -> None:
    assert [plural(n, "step") for n in (0, 1, 2323)] == ["0 steps", "1 step", "2,323 steps"]
