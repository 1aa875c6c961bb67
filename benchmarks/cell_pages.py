"""The parts of the page about the cells that follow from their code and from committed results.

    python -m lstm_numba.benchmarks.cell_pages lstm_numba/cells/README.md

puts them into the page, between ``<!-- cell NAME -->`` and ``<!-- end of cell -->``: gate order, parameters
and equations of a cell; and between ``<!-- cells TABLE -->`` and ``<!-- end of cells -->`` a table of all of
them. Neither equations nor numbers are typed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

from lstm_numba.benchmarks.cell_equations import block, equations, expression, row_name, subscript
from lstm_numba.benchmarks.markdown import table, with_blocks, write_page
from lstm_numba.cells import BUILT_IN, find_cell
from lstm_numba.cells.expressions import Graph
from lstm_numba.cells.functions import FUNCTIONS
from lstm_numba.cells.onnx_variants import ACTIVATIONS, VALUES
from lstm_numba.cells.parameters import parameter_names, parameter_shape

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
#: Shapes whose times the table has, from those of ``lstm-numba bench``.
SHAPES = ("mnist", "ptb-small", "ptb-medium")
#: Cells as layer classes make them.
CALLS = {
    "rnn": "RNN(I, H)",
    "rnn-relu": 'RNN(I, H, nonlinearity="relu")',
    "lstm": "LSTM(I, H)",
    "lstm-projected": "LSTM(I, H, proj_size=P)",
    "coupled": "CoupledLSTM(I, H)",
    "peephole": "PeepholeLSTM(I, H)",
    "peephole-full": 'PeepholeLSTM(I, H, peephole="full")',
    "use-gate": "UseGateLSTM(I, H)",
    "slstm": "SLSTM(I, H)",
    "gru": "GRU(I, H)",
    "gru-reset-before": "GRU(I, H, reset_after=False)",
    "layer-norm-lstm": "LayerNormLSTM(I, H)",
    "layer-norm-gru": "LayerNormGRU(I, H)",
    "clockwork": "ClockworkRNN(I, H)",
}
#: Sections that have another title than the cell's name.
TITLES = {"lstm-projected": "lstm with proj_size"}


def with_cells(text: str) -> str:
    """A page with the present blocks."""
    text = with_blocks(text, "cell", cell_lines)
    return with_blocks(text, "cells", lambda name: list(TABLES[name]()))


# -- one cell ----------------------------------------------------------------------------------------


def cell_lines(name: str) -> list[str]:
    """How a cell is made, the order of its rows, its parameters and equations."""
    cell, option = find_cell(name), name.removesuffix("-projected")
    command = f"--cell {option}" + (" --proj-size P" if option != name else "")
    gates = {"weight_ih": cell.gates, "weight_hh": cell.recurrent_gates}
    rows = [f"`{w}` {', '.join(row_name(cell, gate) for gate in found)}" for w, found in gates.items()]
    rows += [f"`weight_ph` {', '.join(cell.peepholes)}"] if cell.peepholes else []
    facts = [
        ("layer", f"`ln.{CALLS[name]}`, `{command}`"),
        ("states", ", ".join(cell.states)),
        ("row blocks, in order", "; ".join(rows)),
        ("parameters per unit", f"{per_unit(cell)}, and {biases(cell)} biases"),
    ]
    found = equations(cell)
    notes = []
    for index, (seen, epsilon) in found.normalised.items():
        over = ", ".join(map(inline, seen))
        value = inline(rf"{subscript('N', index)}(a) = (a - \mu) / \sqrt{{\mathrm{{var}} + {epsilon}}}")
        notes.append(f"- {value}: mean and variance over all elements of {over}")
    return ["", *table(["", ""], facts), "", *block(found.lines), *([""] if notes else []), *notes, ""]


def per_unit(cell: Any) -> str:
    """Weights of a unit as a sum, with I inputs, H units and, where h is projected, P outputs."""
    recurrent = "P" if cell.projected else "H"
    parts = [f"{_times(len(cell.gates))}I"]
    parts.append(f"{_times(len(cell.recurrent_gates) + cell.projected)}{recurrent}")
    parts += [str(len(cell.peepholes))] if cell.peepholes else []
    return " + ".join(parts)


def _times(count: int) -> str:
    return f"{count} " if count > 1 else ""


def inline(text: str) -> str:
    """Mathematics within a line, which Markdown must not read."""
    return f"$`{text}`$"


def biases(cell: Any) -> int:
    """Biases of a unit."""
    names = [name for name in parameter_names(cell, True) if name.startswith("bias")]
    return sum(parameter_shape(cell, name, 1, 1)[0] for name in names)


# -- tables ------------------------------------------------------------------------------------------


def overview() -> Iterator[str]:
    """Every cell with its class, and what it costs beside the LSTM."""
    training, forward = training_ratios(), forward_ratios()
    rows = []
    for name in CALLS:
        if name == "clockwork":
            states, weights, share = ("h",), *clockwork_costs()
        else:
            cell = find_cell(name)
            states, weights, share = cell.states, per_unit(cell), multiplications(cell)
        title = TITLES.get(name, name)
        rows.append(
            (
                f"[`{title}`](#{title.replace(' ', '-').replace('=', '')})",
                f"`ln.{CALLS[name].partition('(')[0]}`",
                ", ".join(states),
                weights,
                f"{share:.2f}",
                *(_ratio(found.get(name)) for found in (training, forward)),
            )
        )
    head = ["cell", "class", "states", "weights per unit", "multiplications",
            "training, AVX-512", "forward, AVX2"]  # fmt: skip
    yield from table(head, rows)


def multiplications(cell: Any) -> float:
    """Multiplications of the products of a step over the LSTM's, with I = H and P = H/2."""
    inputs, recurrent = len(cell.gates), len(cell.recurrent_gates)
    return (inputs + (recurrent + 1) / 2) / 8 if cell.projected else (inputs + recurrent) / 8


def clockwork_costs(periods: Sequence[int] = (1, 2, 4, 8)) -> tuple[str, float]:
    """Weights per unit, in the mean, and `multiplications`: group k reads x and the groups from k on."""
    count = len(periods)
    weights = Fraction(count + 1, 2 * count)
    share = sum((1 + (count - k) / count) / count / period for k, period in enumerate(periods)) / 8
    return f"I + {weights} H", share


def _ratio(values: list[float] | None) -> str:
    """The same number of each shape."""
    return "" if values is None else ", ".join(f"{value:.2f}" for value in values)


def training_ratios() -> dict[str, list[float]]:
    """Cell -> time of a training pass over the LSTM's, for each of `SHAPES`, where it was measured."""
    found: dict[str, list[float]] = {"lstm": [1.0] * len(SHAPES)}
    options = {(r["option"], r["shape"]["name"]): r["ratio"] for r in _rows("zen5-avx512/lstm-options")}
    times = {
        (row["cell"], row["shape"]["name"]): row["contestants"]["cpu-parallel"]["median"]
        for row in _rows("zen5-avx512/layers")
        if row["task"] == "training"
    }
    found["gru"] = [times["gru", shape] / times["lstm", shape] for shape in SHAPES]
    for name in CALLS:
        option = "proj_size=H/2" if name == "lstm-projected" else name
        if (option, SHAPES[0]) in options:
            found[name] = [options[option, shape] for shape in SHAPES]
    return found


def forward_ratios() -> dict[str, list[float]]:
    """Cell -> time of the forward pass of training over the LSTM's, for each of `SHAPES`."""
    times = {
        (row["cell"], row["shape"]["name"]): median(row["seconds"]["forward"])
        for row in _rows("zen3-avx2/trace_cost")
    }
    return {name: [times[name, s] / times["lstm", s] for s in SHAPES] for name, s in times if s == SHAPES[0]}


def experiments() -> Iterator[str]:
    """What networks of each cell reached in the committed experiments."""
    gaps = {row["cell"]: row for row in _rows("experiments/long-gap") if row["task"] == "all"}
    reached = {(row["data"], row["cell"]): row for row in _rows("experiments/odyssey")}
    rows = []
    for name in (*BUILT_IN, "clockwork"):
        share = gaps[name]["gap 1000"]
        tests = [reached[data, name] for data in ("digits", "grammar", "reber")]
        rows.append(
            (
                f"`{name}`",
                f"{gaps[name]['bridged']:,.0f}",
                f"{100 * (share or 0):.0f} %",
                *(f"{row['test']:.3g}{_verdict(row)}" for row in tests),
            )
        )
    head = ["cell", "largest gap bridged", "runs that bridged 1,000 steps", "digits: error, %",
            "grammar: perplexity", "reber: error, %"]  # fmt: skip
    yield from table(head, rows)


def _verdict(row: Mapping[str, Any]) -> str:
    return f" ({row['beyond']})" if row.get("beyond") in ("better", "worse") else ""


def activations() -> Iterator[str]:
    """The activations of the variants, with their numbers alpha and beta and the defaults of these."""
    graph = Graph(FUNCTIONS)
    x, *letters = (graph.symbol("argument", name) for name in ("x", r"\alpha", r"\beta"))
    rows = []
    for name, defaults in ACTIVATIONS.items():
        value = expression(VALUES[name](x, *letters[: len(defaults)])).replace(r" \odot ", " ")
        numbers = ", ".join("required" if default is None else f"{default:g}" for default in defaults)
        rows.append((f"`{name}`", inline(value), numbers))
    yield from table(["activation", "value", "alpha, beta by default"], rows)


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "overview": overview,
    "experiments": experiments,
    "activations": activations,
}


def _rows(name: str) -> list[dict[str, Any]]:
    """Rows of a result file."""
    found: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return found


if __name__ == "__main__":
    write_page(__doc__, "a page with such blocks", lambda text, _: with_cells(text))
