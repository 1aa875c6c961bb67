"""The experiment on the parts of an LSTM: sizes, tasks, measures, claims, and a small run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from lstm_numba.data import reber
from lstm_numba.errors import UserError
from lstm_numba.experiments import intervals, odyssey, odyssey_tasks
from lstm_numba.experiments.odyssey_claims import PARTS, claims

#: The graph of the Reber grammar as the papers draw it: state and symbol -> next state.
GRAPH = {
    (0, "B"): 1, (1, "T"): 2, (1, "P"): 3, (2, "S"): 2, (2, "X"): 4, (3, "T"): 3, (3, "V"): 5,
    (4, "X"): 3, (4, "S"): 6, (5, "P"): 4, (5, "V"): 6, (6, "E"): 7,
}  # fmt: skip


# -- numbers of parameters ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"), [("digits", 28, 10), ("reber", 7, 7)], ids=["digits", "reber"]
)
@pytest.mark.parametrize("cell", ["lstm", "gru", "clockwork"])
def test_units_are_the_nearest(name: str, inputs: int, outputs: int, cell: str) -> None:
    def count(h: int) -> int:
        gates = {"lstm": 4, "gru": 3, "clockwork": 1}[cell]
        recurrent = h * h if cell != "clockwork" else (h // 4) ** 2 * 10  # of 4 x 4 blocks, a triangle
        return gates * (h * inputs + recurrent + 2 * h) + outputs * (h + 1)

    own = odyssey_tasks.task(name, 0)
    for wanted in (300, 1_000, 4_000):
        groups = 4 if cell == "clockwork" else 1
        units, parameters = odyssey.nearest_units(own, cell, wanted, groups)
        sizes = range(groups, 400, groups)
        assert units == min(sizes, key=lambda h: abs(count(h) - wanted))
        assert parameters == count(units)


def test_the_embedding_is_not_counted() -> None:
    own = odyssey_tasks.task("grammar", 0)
    units, parameters = odyssey.nearest_units(own, "rnn", 4_000)
    words, width = own.vocabulary, odyssey_tasks.EMBEDDING
    assert parameters == units * (units + width + 2) + words * (units + 1)


# -- tasks -------------------------------------------------------------------------------------------


def parsed(symbols: str) -> list[str]:
    """The embedded strings of a stream, which must be of whole ones."""
    found, place = [], 0
    while place < len(symbols):
        start, state = place, 0
        assert symbols[place] == "B"
        assert symbols[place + 1] in "TP"
        place += 2
        while state != 7:
            state = GRAPH[state, symbols[place]]
            place += 1
        assert symbols[place] == symbols[start + 1]
        assert symbols[place + 1] == "E"
        place += 2
        found.append(symbols[start:place])
    return found


def test_reber_stream() -> None:
    symbols, decisive = odyssey_tasks.reber_stream(3_000, seed=5)
    strings = parsed("".join(reber.SYMBOLS[n] for n in symbols))
    assert len(strings) == 3_000
    lengths = np.bincount([len(string) - 4 for string in strings])
    shortest, longest = odyssey_tasks.INSIDE
    assert (lengths[:shortest] == 0).all()
    assert len(lengths) == longest + 1
    each = 3_000 / (longest - shortest + 1)
    assert np.abs(lengths[shortest:] - each).max() < 4 * np.sqrt(each)
    ends = np.cumsum([len(string) for string in strings])
    assert np.array_equal(np.flatnonzero(decisive), ends - 2)
    second = sum(string[1] == "T" for string in strings)
    assert abs(second - 1_500) < 4 * np.sqrt(750)


def test_reber_strings_by_number() -> None:
    whole, _ = odyssey_tasks.reber_stream(60, seed=1)
    early, _ = odyssey_tasks.reber_stream(40, seed=1)
    late, _ = odyssey_tasks.reber_stream(20, seed=1, first=40)
    assert np.array_equal(whole, np.concatenate([early, late]))
    assert not np.array_equal(odyssey_tasks.reber_stream(60, seed=2)[0][:300], whole[:300])


def test_no_split_is_part_of_another() -> None:
    own = odyssey_tasks.task("reber", 0)
    texts = {name: symbols.tobytes() for name, symbols in own.splits.items()}
    assert texts["valid"] not in texts["train"]
    assert texts["test"][:1_000] not in texts["train"] + texts["valid"]
    data = odyssey_tasks.task("digits", 0).data
    images = {
        name: {row.tobytes() for row in part.x.rows.reshape(-1, 28 * 28)} for name, part in data.items()
    }
    assert {name: len(rows) for name, rows in images.items()} == odyssey_tasks.IMAGES
    assert not images["valid"] & images["train"]
    assert not images["test"] & (images["train"] | images["valid"])


def test_a_pass_of_windows_goes_on_where_the_last_one_ended() -> None:
    own = odyssey_tasks.task("reber", 0)
    batches = own.batches(3)
    (one, first), (two, again) = next(batches), next(batches)
    assert (first, again) == (True, False)
    assert np.array_equal(one.targets[-1], two.inputs[0])
    other, _ = next(own.batches(4))
    assert not np.array_equal(one.inputs, other.inputs)


# -- measures: a stand-in for a model that says what is told to it -------------------------------------


class Told(NamedTuple):
    loss_sum: float
    correct: int
    count: float


class StandIn:
    """Takes the targets for its guesses where `right` is true of them, which are (T, B)."""

    def __init__(self, right: Any, loss: float = 0.0) -> None:
        self._right, self._loss = right, loss

    def evaluate(self, batch: Any) -> Told:
        targets = batch.labels if hasattr(batch, "labels") else batch.targets
        weights = getattr(batch, "weights", None)
        weights = np.ones(targets.shape) if weights is None else weights
        right = self._right(targets) * weights
        return Told(self._loss * float(weights.sum()), int(right.sum()), float(weights.sum()))


def test_measure_of_digits() -> None:
    own = odyssey_tasks.task("digits", 0)
    sevens = float(np.mean(own.data["test"].y == 7))
    assert 0.05 < sevens < 0.15
    found = own.score(StandIn(lambda labels: labels == 7), "test")
    assert found == pytest.approx(100 * (1 - sevens), abs=1e-9)


def test_measure_of_sentences() -> None:
    own = odyssey_tasks.task("grammar", 0)
    assert own.score(StandIn(np.zeros_like, loss=np.log(12.5)), "test") == pytest.approx(12.5)
    assert own.score(StandIn(np.zeros_like, loss=np.nan), "test") == own.vocabulary
    assert 10 < own.floor < 20


def test_measure_of_reber_strings() -> None:
    """Right guesses of all but the decisive symbols count for nothing, and these alone for all."""
    own = odyssey_tasks.task("reber", 0)
    symbols, decisive = odyssey_tasks.reber_stream(
        odyssey_tasks.STRINGS["valid"], 0, odyssey_tasks.STRINGS["train"]
    )
    length = len(symbols) // odyssey_tasks.BATCH
    streams = decisive[: length * odyssey_tasks.BATCH].reshape(-1, length).T[1:]
    assert own.score(StandIn(lambda targets: streams == 0), "valid") == 100
    assert own.score(StandIn(lambda targets: streams == 1), "valid") == 0
    letters = symbols[: length * odyssey_tasks.BATCH].reshape(-1, length).T[1:]
    share = np.mean(letters[streams == 1] == reber.SYMBOLS.index("P"))
    guess = own.score(StandIn(lambda targets: targets == reber.SYMBOLS.index("T")), "valid")
    assert 45 < guess < 55
    assert guess == pytest.approx(100 * share)


# -- claims ------------------------------------------------------------------------------------------


def table(**tests: tuple[list[float], ...]) -> list[dict[str, Any]]:
    """Rows of two data sets from the tests of each cell on both."""
    rows = []
    for n, data in enumerate(("digits", "reber")):
        own = [
            {"data": data, "cell": cell.replace("_", "-"), "tests": values[n]}
            for cell, values in tests.items()
        ]
        rows += odyssey._compared(own)
    return rows


LSTM = [10.0, 11.0, 12.0]
#: Of this the interval of the difference holds zero.
SOMETIMES = [11.0, 11.0, 50.0]
WORSE, BETTER, ALIKE = [20.0, 21.0, 22.0], [2.0, 3.0, 4.0], [9.0, 11.5, 13.0]


def test_differences_from_the_lstm() -> None:
    rows = table(lstm=(LSTM, LSTM), gru=(WORSE, ALIKE), rnn=(BETTER, WORSE))
    assert [row["beyond"] for row in rows] == [None, "worse", "better", None, "no", "worse"]
    assert rows[1]["difference"] == pytest.approx(10.0)
    assert (rows[1]["test"], rows[1]["low"], rows[1]["high"]) == intervals.mean(WORSE)
    low, high = rows[1]["difference_low"], rows[1]["difference_high"]
    assert (10.0, low, high) == pytest.approx(intervals.difference(WORSE, LSTM))


@pytest.mark.parametrize(
    ("cell", "tests", "held"),
    [
        ("no_forget_gate", (WORSE, WORSE), True),
        ("no_forget_gate", (WORSE, ALIKE), False),
        ("no_output_act", (WORSE, WORSE), True),
        ("no_output_act", (BETTER, WORSE), False),
        ("coupled", (ALIKE, BETTER), True),
        ("coupled", (ALIKE, WORSE), False),
        ("coupled", (ALIKE, SOMETIMES), False),
        ("peephole", (WORSE, ALIKE), True),
        ("peephole", (SOMETIMES, ALIKE), True),
        ("peephole", (BETTER, ALIKE), False),
    ],
)
def test_a_claim_holds_by_its_rule(cell: str, tests: Any, held: bool) -> None:
    found = claims(table(lstm=(LSTM, LSTM), **{cell: tests}))
    assert [claim.held for claim in found] == [held, held]
    assert f"of 1 claims above {int(held)} held" in found[1].because


def test_the_most_critical_parts_stand_first() -> None:
    costs = {"no_forget_gate": 9.0, "no_output_act": 8.0, "no_input_gate": 3.0, "no_output_gate": 2.0}
    costs["no_input_act"] = 1.0
    assert sorted(name.replace("_", "-") for name in costs) == sorted(PARTS)
    tests = {name: ([cost + 9.5, cost + 10.5],) * 2 for name, cost in costs.items()}
    found = claims(table(lstm=([9.5, 10.5],) * 2, **tests))
    ranked = next(claim for claim in found if "mean place" in claim.text)
    assert ranked.held
    assert ranked.because.startswith("no-forget-gate 1, no-output-act 2, no-input-gate 3")
    tests["no_input_gate"] = ([50.0, 51.0], [12.0, 13.0])  # first and third: 2, as no-output-act 2.5
    found = claims(table(lstm=([9.5, 10.5],) * 2, **tests))
    ranked = next(claim for claim in found if "mean place" in claim.text)
    assert not ranked.held
    assert ranked.because.startswith("no-forget-gate 1.5, no-input-gate 2, no-output-act 2.5")


def test_nothing_to_claim_of_other_cells() -> None:
    assert claims(table(lstm=(LSTM, LSTM), gru=(WORSE, WORSE))) == []


# -- a run -------------------------------------------------------------------------------------------


def test_unknown_names() -> None:
    with pytest.raises(UserError, match=r"cells: expected some of rnn, .*no-output-act, got 'lstn'"):
        odyssey.run(cells=["lstn"])
    with pytest.raises(UserError, match="data: expected some of digits, grammar, reber, got 'mnist'"):
        odyssey.run(data=["mnist"])
    with pytest.raises(ValueError, match="seeds: "):
        odyssey.run(seeds=1)


def test_rates_and_states_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thirds at one rate, then down; zeros begin a pass, and what follows a loss that is no number."""
    seen: list[tuple[float, Any]] = []

    class Step:
        def __init__(self, model: Any, optimizer: Any, *, clip: float, carries_state: bool) -> None:
            assert (clip, carries_state) == (1.0, True)

        def __call__(self, batch: Any, state: Any, rate: float) -> Any:
            seen.append((rate, state))
            number = len(seen)
            return SimpleNamespace(loss_sum=np.nan if number == 4 else 1.0, state=number)

    monkeypatch.setattr(odyssey, "TrainingStep", Step)
    monkeypatch.setattr(odyssey_tasks, "WINDOW", 650)
    own = odyssey_tasks.task("reber", 0)  # of 125,000 symbols: 6 windows of 32 streams are a pass
    odyssey.trained(own, "rnn", 2, rate=0.6, updates=9, seed=0)
    assert [state for _, state in seen] == [None, 1, 2, 3, None, 5, None, 7, 8]
    assert [rate for rate, _ in seen] == pytest.approx([0.6] * 7 + [0.4, 0.2])


def test_a_training_learns_and_is_the_same_again() -> None:
    """The outcome is made of trainings that do what they say: all but the first are at the chosen rate."""
    part = odyssey.Part("lstm", ("grammar",), 2_500, (1e-6, 0.02), 40, 2, 0, "cpu")
    found = odyssey.explore(part)["grammar"]
    own = odyssey_tasks.task("grammar", 0)
    assert found["rate"] == 0.02
    assert found["valid"][0] > 200  # it has learnt nothing, of 249 words
    assert found["valid"][1] < 100
    models = [
        odyssey.trained(own, "lstm", found["units"], rate=0.02, updates=40, seed=seed) for seed in (0, 1, 2)
    ]
    scores = [own.score(models[0], "valid"), *(own.score(model, "test") for model in models[1:])]
    assert scores == [found["valid"][1], *found["tests"]]
    assert len(set(found["tests"])) == 2
