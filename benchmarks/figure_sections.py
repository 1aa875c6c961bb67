"""What `lstm_numba.benchmarks.figures` measures of a processor: programs, their options, their tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lstm_numba.benchmarks.figure_tables import (
    NAMES,
    busy_table,
    clockwork_table,
    epochs_table,
    memory_table,
    options_table,
    peers_table,
    share_table,
    steps_table,
    streams_table,
)
from lstm_numba.benchmarks.own_tables import own_data_table, settings_table

#: A table's lines, of a section's file.
Table = Callable[[Mapping[str, Any]], "list[str]"]


class Section(NamedTuple):
    """A program that measures, the words after it, its table, what that is of, and more for its own page."""

    module: str
    words: Sequence[str]
    table: Table
    title: str
    details: Table = lambda document: []


def _words(option: str, names: Sequence[str]) -> list[str]:
    return [word for name in names for word in (option, name)]


def _bench(words: str, table: Table, title: str, *details: Table) -> Section:
    cells = _words("--cell", list(NAMES))
    return Section("lstm_numba", ["bench", *cells, *words.split()], table, title, *details)


def _options(words: str, others: Sequence[str], title: str) -> Section:
    return Section(
        "lstm_numba.benchmarks.layer_options",
        [*words.split(), *_words("--other", others)],
        options_table,
        title,
    )


def _epochs(words: str, title: str) -> Section:
    return Section(
        "lstm_numba.benchmarks.epochs", words.split(), epochs_table, f"{title}: time per epoch of training"
    )


_TASKS = "--task inference --task training"
_BUSY = "--shape mnist --shape ptb-small --shape ptb-medium --shape sequence-256"
_OTHERS = ("coupled", "peephole", "peephole-full", "use-gate", "slstm", "layer-norm-lstm")
SECTIONS: dict[str, Section] = {
    "layers": _bench(
        f"--preset all {_TASKS} --repeats 7",
        peers_table,
        "Layers: time of the peer over ours (above 1: ours is faster)",
        share_table,
    ),
    "cold": _bench(
        "--preset all --task inference --pause 30 --repeats 7",
        peers_table,
        "The same for inference, each call after a pause of 30 ms",
    ),
    **{
        f"busy-{count}": _bench(
            f"{_BUSY} {_TASKS} --busy {count} --repeats 7",
            busy_table,
            f"Beside {count} process{'es' * (count > 1)} that compute{'s' * (count == 1)} without end",
        )
        for count in (1, 2, 4)
    },
    "steps": Section(
        "lstm_numba.benchmarks.jit_step",
        ["--repeats", "9"],
        steps_table,
        "One step per call, one sequence, 16 inputs, 64 units",
        streams_table,
    ),
    "lstm-options": _options(
        "--cell lstm", _OTHERS, "Time of other cells and options over the plain LSTM's (multiplications)"
    ),
    "gru-options": _options("--cell gru", ["layer-norm-gru"], "The same for the GRU"),
    "clockwork": Section(
        "lstm_numba.benchmarks.clockwork",
        [
            *_words("--shape", ["mnist", "ptb-small", "ptb-medium", "ptb-large"]),
            *_words("--groups", ["2", "4"]),
        ],
        clockwork_table,
        "Time of a clockwork RNN over a plain RNN's of as many units (multiplications)",
    ),
    "memory": _bench(
        "--preset all --task training --repeats 1 --memory "
        "--implementation cpu-parallel --implementation pytorch",
        memory_table,
        "Peak memory of a training step, beyond weights and input",
    ),
    "mnist-lstm": _epochs("mnist --cell lstm --epochs 3", "MNIST, LSTM"),
    "mnist-gru": _epochs("mnist --cell gru --epochs 3 --rounds 1", "MNIST, GRU"),
    "ptb-small": _epochs("ptb --preset small --epochs 1 --rounds 1", "Penn Treebank, small"),
    "ptb-medium": _epochs("ptb --preset medium --epochs 1 --rounds 1", "Penn Treebank, medium"),
    "own-data": Section(
        "lstm_numba.benchmarks.own_data",
        [],
        own_data_table,
        "The estimators on real data: mean of the seeds (lowest to highest)",
        settings_table,
    ),
}
#: Sections that read MNIST or PTB.
ON_DATA = [name for name, section in SECTIONS.items() if section.module.endswith("epochs")]
