"""Models: whole-model gradients by central differences, dropout's places, initial weights, sampling."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import pytest
from tolerances import assert_close

from lstm_numba.engines.sparse import SparseRows
from lstm_numba.models import LanguageModel, SequenceBatch, SequenceClassifier, SequenceRegressor, TokenBatch
from lstm_numba.models.base import Model, StepResult
from lstm_numba.models.sampling import draw_token, generate

_EPS = 1e-5


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine waking other threads costs more than these models compute."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(threads)


def _check_gradients(model: Model, step: Callable[[], StepResult], samples: int = 6) -> None:
    """Compare some numbers of every parameter's gradient with central differences, dropout masks fixed."""
    masks = model.rng_state()

    def run() -> StepResult:
        model.set_rng_state(masks)
        return step()

    result = run()
    grads = {n: g.to_dense() if isinstance(g, SparseRows) else g.copy() for n, g in result.grads.items()}
    assert grads.keys() == model.params.keys()
    rng = np.random.default_rng(9)
    for name, array in model.params.items():
        assert grads[name].shape == array.shape
        flat = array.reshape(-1)
        # Half of the places where the gradient is large, so that a table's untouched rows are not all.
        largest = np.argsort(-np.abs(grads[name].reshape(-1)))[: samples // 2]
        places = np.unique(np.concatenate([largest, rng.integers(0, flat.size, samples // 2)]))
        differences = np.empty(len(places))
        for k, place in enumerate(places):
            kept = flat[place]
            flat[place] = kept + _EPS
            up = run().objective
            flat[place] = kept - _EPS
            differences[k] = (up - run().objective) / (2 * _EPS)
            flat[place] = kept
        assert np.any(differences != 0), name
        assert_close(grads[name].reshape(-1)[places], differences, "central differences", name)


def _window(rng: np.random.Generator, vocabulary: int, weights: bool = False) -> TokenBatch:
    ids = rng.integers(0, vocabulary, (5, 3))
    weight = None
    if weights:
        weight = np.ones((4, 3))
        weight[2:, 1] = 0
    return TokenBatch(ids[:-1], ids[1:], weight)


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "embedding": 4},
        {"cell": "lstm", "layers": 2, "dropout": 0.4, "tie": True, "init_range": 0.5},
        {"cell": "gru", "dropout": 0.3, "weight_drop": 0.4, "embedding": 7, "init": "orthogonal"},
        {"cell": "lstm", "tie": True, "weights": True, "init_range": 0.3},
    ],
    ids=["plain", "tied dropout", "gru dropout", "tied weights"],
)
def test_language_model_gradients(options: dict[str, Any]) -> None:
    weights = options.pop("weights", False)
    model = LanguageModel(11, 5, dtype=np.float64, seed=3, **options)
    rng = np.random.default_rng(4)
    batch = _window(rng, 11, weights)
    zero = model.zero_state(3)
    state = (
        tuple(0.3 * rng.standard_normal(a.shape) for a in zero)
        if isinstance(zero, tuple)
        else 0.3 * rng.standard_normal(zero.shape)
    )
    _check_gradients(model, lambda: model.loss_and_gradients(batch, state))


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm"},
        {"cell": "gru", "bidirectional": True, "lengths": True},
        {
            "cell": "lstm",
            "layers": 2,
            "bidirectional": True,
            "dropout": 0.4,
            "weight_drop": 0.3,
            "lengths": True,
        },
    ],
    ids=["plain", "gru lengths", "deep"],
)
def test_classifier_gradients(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    lengths = np.array([4, 1, 3]) if options.pop("lengths", False) else None
    model = SequenceClassifier(3, 4, 6, dtype=np.float64, seed=1, **options)
    batch = SequenceBatch(rng.standard_normal((4, 3, 3)), np.array([5, 0, 2]), lengths)
    _check_gradients(model, lambda: model.loss_and_gradients(batch))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "mae", "bidirectional": True},
        {"loss": "huber", "per_step": True},
        {"loss": "quantile", "per_step": True, "dropout": 0.3, "layers": 2},
        {"loss": "gaussian"},
    ],
)
def test_regressor_gradients(options: dict[str, Any]) -> None:
    """Sequences of different lengths, of which some targets are missing and some count double."""
    rng = np.random.default_rng(5)
    model = SequenceRegressor(3, 4, 2, cell="gru", seed=1, dtype=np.float64, **options)
    shape = (5, 6, 2) if options.get("per_step") else (6, 2)
    weights = rng.integers(3, size=shape).astype(np.float64)
    labels = np.where(weights > 0, rng.standard_normal(shape), np.nan)
    x, lengths = rng.standard_normal((5, 6, 3)), np.array([5, 1, 3, 5, 2, 4])
    batch = SequenceBatch(x, labels, lengths, weights)
    _check_gradients(model, lambda: model.loss_and_gradients(batch))


def test_weights_of_sequences_are_as_so_many_of_them() -> None:
    rng = np.random.default_rng(6)
    x, weights = rng.standard_normal((5, 4, 3)), np.array([2.0, 0.0, 1.0, 3.0])
    many = np.repeat(np.arange(4), weights.astype(int))
    for model, labels in (
        (SequenceClassifier(3, 4, 3, cell="gru", seed=1, dtype=np.float64), rng.integers(3, size=4)),
        (SequenceRegressor(3, 4, 2, cell="gru", seed=1, dtype=np.float64), rng.standard_normal((4, 2))),
        (
            SequenceRegressor(3, 4, 2, cell="gru", seed=1, dtype=np.float64, per_step=True),
            rng.standard_normal((5, 4, 2)),
        ),
    ):
        weighted = model.loss_and_gradients(SequenceBatch(x, labels, None, weights))
        expected = {name: np.array(gradient) for name, gradient in weighted.grads.items()}
        objective, count = weighted.objective, weighted.count
        chosen = labels[many] if labels.ndim < 3 else labels[:, many]
        repeated = model.loss_and_gradients(SequenceBatch(np.ascontiguousarray(x[:, many]), chosen))
        assert count == repeated.count
        assert_close(objective, repeated.objective, "loss")
        for name, gradient in repeated.grads.items():
            assert_close(gradient, expected[name], "backward", name)


def test_steps_beyond_the_end_count_nowhere() -> None:
    rng = np.random.default_rng(8)
    model = SequenceRegressor(3, 4, 1, cell="gru", seed=1, dtype=np.float64, per_step=True)
    x, labels = rng.standard_normal((5, 2, 3)), rng.standard_normal((5, 2, 1))
    for weights in (None, np.ones((5, 2))):
        both = model.evaluate(SequenceBatch(x, labels, np.array([5, 2]), weights))
        alone = [
            model.evaluate(SequenceBatch(x[:t, n : n + 1], labels[:t, n : n + 1]))
            for n, t in ((0, 5), (1, 2))
        ]
        assert both.count == 7
        assert_close(both.loss_sum, sum(one.loss_sum for one in alone), "forward")


def test_regressor_predicts_what_its_loss_means() -> None:
    """Numbers beside their definition from the scores; a single loss by hand."""
    rng = np.random.default_rng(7)
    x, labels = rng.standard_normal((4, 3, 2)), rng.standard_normal((3, 2))
    gaussian = SequenceRegressor(2, 4, 2, cell="gru", loss="gaussian", seed=0, dtype=np.float64)
    scores = gaussian.scores(x).reshape(3, 2, 2)
    mean, spread = np.moveaxis(gaussian.predict(x), -1, 0)
    np.testing.assert_array_equal(mean, scores[..., 0])
    np.testing.assert_allclose(spread**2, np.exp(scores[..., 1]) + 1e-6, rtol=1e-12)
    expected = np.mean(0.5 * (np.log(2 * np.pi * spread**2) + ((labels - mean) / spread) ** 2))
    assert_close(gaussian.evaluate(SequenceBatch(x, labels)).objective, expected, "backward")
    levels = (0.2, 0.5, 0.7)
    pinball = SequenceRegressor(
        2, 4, 2, cell="gru", loss="quantile", quantiles=levels, seed=0, dtype=np.float64
    )
    scores = pinball.scores(x).reshape(3, 2, 3)
    np.testing.assert_array_equal(pinball.predict(x), np.sort(scores, axis=-1))
    under = labels[..., None] - scores
    expected = np.mean(np.maximum(np.multiply(levels, under), np.multiply(np.array(levels) - 1, under)))
    assert_close(pinball.evaluate(SequenceBatch(x, labels)).objective, expected, "backward")
    for wrong in (labels[:, :1], labels[0]):
        with pytest.raises(ValueError, match="labels: expected 2 targets"):
            pinball.evaluate(SequenceBatch(x, wrong))
    with pytest.raises(ValueError, match="finite numbers where the weight is positive"):
        pinball.evaluate(SequenceBatch(x, np.where(labels > 0, np.nan, labels)))


def test_objectives_are_what_they_are_said_to_be() -> None:
    """Language model: summed over time, averaged over the batch. Classifier: averaged over the batch."""
    rng = np.random.default_rng(6)
    model = LanguageModel(7, 4, dtype=np.float64, seed=0)
    batch = _window(rng, 7)
    result = model.loss_and_gradients(batch)
    logits = []
    state = None
    for ids in batch.inputs:
        scores, state = model.next_logits(ids[None], state)
        logits.append(scores)
    z = np.array(logits)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    taken = np.take_along_axis(log_p, batch.targets[..., None], axis=-1)
    assert result.loss_sum == pytest.approx(-taken.sum(), rel=1e-12)
    assert result.objective == pytest.approx(-taken.sum() / 3, rel=1e-12)
    assert result.count == 12
    assert result.correct == np.count_nonzero(z.argmax(axis=-1) == batch.targets)
    for name, final in zip(("h", "c"), zip(result.state, state, strict=True), strict=True):
        assert_close(final[0], final[1], "forward", name)

    classifier = SequenceClassifier(2, 3, 4, dtype=np.float64, seed=0)
    x, labels = rng.standard_normal((5, 6, 2)), rng.integers(0, 4, 6)
    outcome = classifier.loss_and_gradients(SequenceBatch(x, labels))
    p = classifier.probabilities(x)[np.arange(6), labels]
    assert outcome.objective == pytest.approx(-np.log(p).mean(), rel=1e-12)
    assert outcome.count == 6


def test_windows_with_carried_state_are_the_whole_text() -> None:
    """Loss over two windows with the state carried equals the loss of one long window."""
    rng = np.random.default_rng(7)
    model = LanguageModel(9, 6, layers=2, dtype=np.float64, seed=0)
    ids = rng.integers(0, 9, (9, 2))
    whole = model.evaluate(TokenBatch(ids[:-1], ids[1:]))
    first = model.evaluate(TokenBatch(ids[:3], ids[1:4]))
    second = model.evaluate(TokenBatch(ids[3:-1], ids[4:]), first.state)
    assert first.loss_sum + second.loss_sum == pytest.approx(whole.loss_sum, rel=1e-12)
    assert first.correct + second.correct == whole.correct
    trained = model.loss_and_gradients(TokenBatch(ids[3:-1], ids[4:]), first.state)
    assert trained.loss_sum == pytest.approx(second.loss_sum, rel=1e-12)


def test_weights_leave_padding_out() -> None:
    rng = np.random.default_rng(8)
    model = LanguageModel(9, 4, dtype=np.float64, seed=0)
    ids = rng.integers(0, 9, (4, 2))
    weights = np.array([[1, 1], [1, 1], [1, 0]])
    result = model.evaluate(TokenBatch(ids[:-1], ids[1:], weights))
    left = model.evaluate(TokenBatch(ids[:-1, :1], ids[1:, :1]))
    right = model.evaluate(TokenBatch(ids[:2, 1:], ids[1:3, 1:]))
    assert result.loss_sum == pytest.approx(left.loss_sum + right.loss_sum, rel=1e-12)
    assert result.count == 5


def test_dropout_stands_where_zaremba_put_it() -> None:
    """Non-recurrent connections only: after the embedding, between the layers, before the output."""
    model = LanguageModel(7, 40, layers=2, dropout=0.5, dtype=np.float64, seed=0)
    model.rng.bit_generator.state = np.random.Philox(5).state
    seen: dict[str, Any] = {}
    forward, score = model.rnn.forward, model._score

    def spy_forward(x: Any, state: Any = None, lengths: Any = None, **options: Any) -> Any:
        seen["x"], seen["training"] = x.copy(), options["training"]
        seen["y"], final, tape = forward(x, state, lengths, **options)
        return seen["y"], final, tape

    def spy_score(rows: Any, *arguments: Any, **options: Any) -> Any:
        seen["rows"] = rows.copy()
        return score(rows, *arguments, **options)

    model.rnn.forward = spy_forward  # type: ignore[method-assign]
    model._score = spy_score  # type: ignore[method-assign]
    batch = _window(np.random.default_rng(0), 7)
    model.loss_and_gradients(batch)
    table = model.params["embedding.weight"][batch.inputs]
    for got, full in ((seen["x"], table), (seen["rows"].reshape(seen["y"].shape), seen["y"])):
        dropped = got == 0
        assert 0.3 < dropped.mean() < 0.7
        np.testing.assert_allclose(got[~dropped], 2 * full[~dropped], rtol=1e-14)
    assert model.rnn.dropout == 0.5
    assert seen["training"]
    # In evaluation nothing is dropped: the same loss twice, and none of the stream is used.
    before = model.rng_state()
    assert model.evaluate(batch).loss_sum == model.evaluate(batch).loss_sum
    assert model.rng_state() == before


@pytest.mark.smoke
def test_equal_seeds_give_equal_models_and_other_seeds_others() -> None:
    batch = _window(np.random.default_rng(0), 7)

    def bits(seed: int) -> list[bytes]:
        model = LanguageModel(7, 6, layers=2, dropout=0.3, seed=seed)
        result = model.loss_and_gradients(batch)
        dense = [g.to_dense() if isinstance(g, SparseRows) else g for g in result.grads.values()]
        return [a.tobytes() for a in (*model.params.values(), *dense)]

    assert bits(1) == bits(1)
    assert all(one != other for one, other in zip(bits(1), bits(2), strict=True))


def test_initial_weights() -> None:
    model = LanguageModel(500, 30, layers=2, init_range=0.1, seed=0)
    for name, array in model.params.items():
        assert np.abs(array).max() <= 0.1, name
        # A uniform sample of n numbers reaches within 20 / n of the ends but once in e**10 times.
        assert array.max() > 0.1 * (1 - 40 / array.size), name
        assert array.min() < -0.1 * (1 - 40 / array.size), name
    raised = LanguageModel(500, 30, layers=2, init_range=0.1, forget_bias=1.5, seed=0)
    for name, array in raised.params.items():
        expected = model.params[name].copy()
        if name.startswith("rnn.bias_ih"):
            expected[30:60] += np.float32(1.5)
        np.testing.assert_array_equal(array, expected)
    with pytest.raises(ValueError, match="forget_bias: GRUCell has no forget gate"):
        LanguageModel(5, 3, cell="gru", forget_bias=1.0)
    # Both precisions begin at the same place.
    double = SequenceClassifier(3, 4, 2, dtype=np.float64, seed=5)
    single = SequenceClassifier(3, 4, 2, dtype=np.float32, seed=5)
    for name, array in double.params.items():
        np.testing.assert_array_equal(array.astype(np.float32), single.params[name])


def test_loading_parameters_of_other_names() -> None:
    model = SequenceClassifier(3, 4, 6, seed=0)
    given = {"rnn.weight_ih": model.params["rnn.weight_ih_l0"], **model.params}
    with pytest.raises(ValueError, match=r"rnn.weight_ih is unknown; did you mean rnn.weight_ih_l0\?"):
        model.load_params(given)
    with pytest.raises(ValueError, match=r"params: x is unknown; there are rnn.weight_ih_l0, .*output.bias$"):
        model.load_params({"x": np.zeros(1)})
    with pytest.raises(ValueError, match=r"params: output.bias is missing"):
        model.load_params({name: array for name, array in model.params.items() if name != "output.bias"})


def test_configuration_makes_the_same_model_again() -> None:
    model = LanguageModel(
        9, 4, layers=2, dropout=0.2, weight_drop=0.1, tie=True, init="xavier", forget_bias=1, seed=3
    )
    other = LanguageModel.from_config(json.loads(json.dumps(model.config())), seed=3)
    assert other.config() == model.config()
    assert (other.rnn.weight_drop, other.rnn.dropout) == (0.1, 0.2)
    assert "output.weight" not in model.params
    assert model.output.params["weight"] is model.params["embedding.weight"]
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, other.params[name])
    classifier = SequenceClassifier(3, 4, 2, cell="gru", bidirectional=True, dtype=np.float64, seed=3)
    again = SequenceClassifier.from_config(json.loads(json.dumps(classifier.config())), seed=4)
    again.load_params(classifier.params)
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    np.testing.assert_array_equal(classifier.logits(x), again.logits(x))
    with pytest.raises(ValueError, match=r"params: output\.bias is missing"):
        again.load_params({n: a for n, a in classifier.params.items() if n != "output.bias"})
    with pytest.raises(ValueError, match=r"params: expected float64 \(2,\) for output\.bias"):
        again.load_params({**classifier.params, "output.bias": np.zeros(3)})
    with pytest.raises(ValueError, match="embedding: tied weights need the size of the output, 4, got 5"):
        LanguageModel(9, 4, tie=True, embedding=5)


def test_memory_of_logits_and_gradients_is_used_again() -> None:
    model = LanguageModel(50, 8, seed=0)
    batch = _window(np.random.default_rng(0), 50)
    first = model.loss_and_gradients(batch).grads["output.weight"]
    kept = first.copy()
    second = model.loss_and_gradients(batch).grads["output.weight"]
    assert second is first
    np.testing.assert_array_equal(second, kept)


# -- sampling ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classifier", "regressor", "language model", "evaluation"])
def test_threads_call_a_model_at_the_same_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has what it would have alone, also where another one computes between two steps of it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, 5, 2, 3)).astype(np.float32)
    tokens = rng.integers(0, 7, (24, 5, 2))
    classifier = SequenceClassifier(3, 4, 6, cell="gru", seed=0)
    regressor = SequenceRegressor(3, 4, 2, per_step=True, bidirectional=True, seed=0)
    text = LanguageModel(7, 4, seed=0)
    call: Callable[[int], Any] = {
        "classifier": lambda n: classifier.scores(x[n]),
        "regressor": lambda n: regressor.predict(x[n]),
        "language model": lambda n: text.next_logits(tokens[n])[0],
        "evaluation": lambda n: text.evaluate(TokenBatch(tokens[n], tokens[n - 1])).loss_sum,
    }[kind]
    expected, engine = [np.array(call(n)) for n in range(len(x))], classifier.engine
    matmul = engine.matmul

    def interrupted(*arguments: Any, **options: Any) -> Any:
        found = matmul(*arguments, **options)
        time.sleep(0.002)
        return found

    monkeypatch.setattr(engine, "matmul", interrupted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(call, range(len(x))))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.2, 0.2, 0.1]))
    rng = np.random.default_rng(0)

    def frequencies(**options: Any) -> Any:
        draws = [draw_token(logits, rng, **options) for _ in range(4000)]
        return np.bincount(draws, minlength=4) / 4000

    # Five standard deviations of a frequency of one half.
    bound = 5 * 0.5 / np.sqrt(4000)
    assert np.abs(frequencies() - [0.5, 0.2, 0.2, 0.1]).max() < bound
    squares = np.array([0.25, 0.04, 0.04, 0.01])
    assert np.abs(frequencies(temperature=0.5) - squares / squares.sum()).max() < bound
    assert np.abs(frequencies(top_k=2) - [5 / 7, 2 / 7, 0, 0]).max() < bound
    assert frequencies(top_k=1)[0] == 1
    assert frequencies(temperature=0)[0] == 1
    assert draw_token(1e4 * logits, rng, temperature=1e-6) == 0
    for options, text in (
        ({"temperature": -1.0}, "temperature: expected a finite number that is not negative, got -1.0"),
        ({"top_k": 0}, "top_k: expected an integer >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=text):
            draw_token(logits, rng, **options)
    with pytest.raises(ValueError, match="logits: expected numbers, got NaN"):
        draw_token(np.array([0.0, np.nan]), rng)


def test_generated_text_is_what_the_model_says() -> None:
    model = LanguageModel(12, 8, init_range=1.0, seed=0)
    tokens = list(generate(model, [3, 1], 6, temperature=0))
    text = [3, 1]
    for token in tokens:  # every time the whole text anew, without a carried state
        logits, _ = model.next_logits(np.array(text)[:, None])
        assert token == logits[0].argmax()
        text.append(token)
    one = list(generate(model, [0], 20, rng=np.random.default_rng(1)))
    assert one == list(generate(model, [0], 20, rng=np.random.default_rng(1)))
    assert one != list(generate(model, [0], 20, rng=np.random.default_rng(2)))
    with pytest.raises(ValueError, match="prompt: expected at least one token"):
        next(generate(model, [], 1))
