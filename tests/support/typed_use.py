"""What a type checker must accept and refuse in a user's program; `check_wheel.py` runs mypy on it.

A user's checks are stricter than the project's: ``mypy --strict``, and pyright where it is installed. mypy
complains of an ``ignore`` where there is no error.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_type

import lstm_numba as ln
from lstm_numba.engines.sparse import SparseRows
from lstm_numba.estimators import RNNClassifier, RNNForecaster, RNNRegressor
from lstm_numba.models.base import Model
from lstm_numba.nn.recurrent import Recurrent


class Leaky:
    """A cell of one's own."""

    gates = ("g",)
    states = ("h",)


LeakyRNN = ln.register_cell(Leaky)


assert_type(ln.LSTM(3, 4, num_layers=2, dropout=0.1, proj_size=2, zoneout=(0.1, 0.2)), ln.LSTM)
ln.LSTM(3, 4, dropuot=0.1)  # type: ignore[call-arg]
ln.LSTM(3, 4, dropout="half")  # type: ignore[arg-type]
ln.LSTM(3)  # type: ignore[call-arg]
ln.GRU(3, 4, reset_after=False, init="orthogonal")
ln.GRU(3, 4, reset_afer=False)  # type: ignore[call-arg]
ln.GRU(3, 4, heads="two")  # type: ignore[arg-type]
ln.ClockworkRNN(3, 4, periods=(1, 2))
ln.ClockworkRNN(3, 4, heads=2)  # type: ignore[call-arg]
assert_type(ln.make_layer("clockwork", 3, 4, periods=(1, 2)), Recurrent)
ln.make_layer("lstm", 3, 4, period=(1, 2))  # type: ignore[call-arg]
LeakyRNN(3, 4, bidirectional=True)
LeakyRNN(3, 4, bidirectionl=True)  # type: ignore[call-arg]

model = ln.SequenceClassifier(3, 4, 2, cell="gru", layers=2, zoneout_cell=0.1)
ln.SequenceClassifier(3, 4, 2, layer=2)  # type: ignore[call-arg]
ln.SequenceRegressor(3, 4, 2, loss="quantile", forget_bias="one")  # type: ignore[arg-type]
ln.LanguageModel(3, 4, tie=True, dtype=np.float64)
ln.LanguageModel(3, 4, tied=True)  # type: ignore[call-arg]

assert_type(ln.load_run("runs/digits"), Model)
assert_type(ln.evaluate(model, (np.zeros((1, 2, 3)), [0])).loss, float)
assert_type(ln.Embedding(3, 4).backward(np.zeros(2, int), np.zeros((2, 4))), SparseRows)


def layers(x: npt.NDArray[np.float32]) -> None:
    """Layers, their passes, streams and parts."""
    every: list[Recurrent] = [
        ln.RNN(3, 4, nonlinearity="relu"),
        ln.CoupledLSTM(3, 4),
        ln.UseGateLSTM(3, 4),
        ln.PeepholeLSTM(3, 4, peephole="full"),
        ln.SLSTM(3, 4, heads=2),
        ln.LayerNormLSTM(3, 4),
        ln.LayerNormGRU(3, 4),
        ln.Recurrent(ln.cells.find_cell("lstm"), 3, 4),
    ]
    for rnn in every:
        y, state, tape = rnn.forward(x)
        dx, dstate, grads = rnn.backward(tape, np.ones_like(y))
        print(dx.shape, dstate, state)
        ln.clip_norm(grads, 1.0)
        ln.clip_values(grads, 1.0)
        ln.check_gradients(rnn)
        ln.Adam(rnn.params, lr=0.01).step(grads)
    stream = ln.Stream(every[0])
    h = stream.step(x[0, 0])
    ln.stream_step(*stream.arguments, x[0, 0], h)
    print(ln.show_cell(LeakyRNN), ln.show(every[0]))
    ln.Linear(3, 4, bias=False).forward(x)


def training(x: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
    """Models, optimizers, schedules and what they return."""
    for optimizer in (ln.SGD, ln.RMSprop, ln.Adam, ln.AdamW):
        optimizer(model.params, lr=0.1)
    plan: list[ln.Schedule] = [
        ln.HoldThenDecay(0.1, hold=2),
        ln.Plateau(0.1),
        ln.Cosine(0.1, epochs=3),
        ln.Schedule(0.1),
    ]
    history = ln.fit(model, (x, labels), epochs=2, schedule=plan[0], verbose=False)
    assert_type(history, ln.History)
    ln.fit(model, ln.SequenceData(x, labels), epoch=2)  # type: ignore[call-arg]
    several = ln.SequenceClassifier(3, 4, 2, models=2)
    ln.fit_models(several, (x, labels), epochs=1, verbose=False)
    print([result.loss for result in ln.evaluate_models(several, (x, labels))])
    print(model.probabilities(x), ln.softmax(x), ln.cross_entropy(x[0], labels), ln.mean_squared_error(x, x))


def weights(rnn: ln.LSTM) -> None:
    """Files and objects of other frameworks."""
    ln.save_weights(rnn, "a.npz")
    ln.save_keras(rnn, "a.safetensors")
    ln.save_onnx(rnn, "a.onnx")
    ln.save_json(rnn, "a.json")
    ln.save_c(rnn, "a.c")
    ln.load_weights("a.npz", dropout=0.1, seed=0)
    ln.load_weights("a.npz", dropuot=0.1)  # type: ignore[call-arg]
    assert_type(ln.load_keras("a.safetensors", batch_first=True), Recurrent)
    assert_type(ln.load_onnx("a.onnx", node=0, batch_first=True), Recurrent)
    assert_type(ln.from_keras(ln.to_keras(rnn)), Recurrent)
    ln.from_torch(ln.to_torch(rnn), dropuot=1)  # type: ignore[call-arg]
    print(ln.read_tensors("a.npz")["weight_ih_l0"].shape, ln.inspect_weights("a.npz"))


def kernels(rnn: ln.LSTM, x: npt.NDArray[np.float32]) -> None:
    """Functions for compiled code, also called from Python."""
    plain = ln.kernels.plain(rnn)
    packed = ln.kernels.pack(plain)
    ln.kernels.pack(rnn)  # type: ignore[arg-type]
    state = (np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32))
    scratch = np.zeros(ln.kernels.scratch_size(packed, 1), np.float32)
    ln.kernels.step(packed, x[0], state, scratch)
    ln.kernels.repack(packed, plain.parameters)
    print(ln.kernels.parameter_count(plain), ln.kernels.reason(0))


def estimators(x: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
    """Scikit-learn's interface, and errors."""
    try:
        RNNClassifier(hidden_size=4, max_epochs=1).fit(x, labels).predict(x)
    except ln.errors.UserError as error:
        print(error)
    RNNRegressor(hidden_size=4, max_epochs=1).fit(x, labels).predict(x)
    RNNForecaster(hidden_size=4, horizon=2, max_epochs=1).fit(x[0])
