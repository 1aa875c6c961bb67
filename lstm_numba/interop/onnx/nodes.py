"""Recurrent nodes of any ONNX model, one by one: which there are, and their parameters.

Only what a node's weights depend on is looked at, not what it reads, its initial states or what follows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.errors import WeightsError, printable
from lstm_numba.interop.onnx.graph import Constants, Model, Scope, naming, open_model, walk
from lstm_numba.interop.onnx.operators import Markers, operator_name
from lstm_numba.interop.onnx.parameters import Parameters, is_recurrent, parameters_of

#: Operators that someone may take for one that is read, and those of them with quantized weights.
_SIMILAR, _QUANTIZED = re.compile("LSTM|GRU|RNN"), re.compile("Quant|^Q")
#: Nodes that a message lists, and characters of a name in it.
_LISTED, _SHOWN = 8, 48

#: How a node is chosen: by its number, its name or that of an output.
Choice = int | str


class NodeRecord(NamedTuple):
    """A recurrent node of a model.

    Parameters
    ----------
    number : int
        From 0, in the order of the file; `lstm_numba.load_onnx` takes it as `node`.
    name : str
        As in the file, where names may be empty and need not be unique.
    outputs : tuple of str
        Names of its outputs, which are unique in a graph; "" where omitted.
    where : str
        The way to its graph, such as ``If_0/then_branch``; empty for the model's graph.
    operator : str
        LSTM, GRU or RNN, or something similar that is not read, with its domain.
    cell : str or None
        The cell that computes the same. This and what follows is None if `error` says why it is not read.
    inputs, hidden, directions : int or None
        Features I, hidden units H, and 2 if it runs both ways.
    peepholes, batch_first : bool or None
        Whether it has peepholes, and whether its input is (B, T, I).
    error : str or None
        Why it cannot be read.
    """

    number: int
    name: str
    outputs: tuple[str, ...]
    where: str
    operator: str
    cell: str | None = None
    inputs: int | None = None
    hidden: int | None = None
    directions: int | None = None
    peepholes: bool | None = None
    batch_first: bool | None = None
    error: str | None = None


class Candidate(NamedTuple):
    """A node that is recurrent or similar, and where it stands."""

    number: int
    scope: Scope
    node: Any  # onnx.NodeProto


def list_nodes(path: str | os.PathLike[str]) -> list[NodeRecord]:
    """The recurrent nodes of an ONNX model, also in branches, loops and functions.

    Parameters
    ----------
    path : path

    Returns
    -------
    list of NodeRecord
        In the order of the file; empty if there are none.

    Raises
    ------
    WeightsError
        The file is missing or damaged, or the package ``onnx`` is not installed.
    """
    model = open_model(path)
    with naming(path):
        return NodeReader(model).records()


def describe(record: NodeRecord) -> str:
    """A node in one line, safe for a terminal: number, name, where it stands, operator and sizes."""
    name = record.name or next(filter(None, record.outputs), "")
    place = f" in {_short(record.where)}" if record.where else ""
    what = f"{record.number}: {_short(name)!r}{place}, {printable(record.operator, 60)}"
    if record.error is not None:
        return f"{what}, not read"
    way = "both directions" if record.directions == 2 else "forward"
    parts = [f"{what} I={record.inputs} H={record.hidden}", way]
    parts += ["peepholes"] * bool(record.peepholes) + ["batch first"] * bool(record.batch_first)
    return ", ".join(parts)


def _short(name: str) -> str:
    """The end of a name, which tells more than its beginning."""
    return printable(name if len(name) <= _SHOWN else f"...{name[-_SHOWN:]}")


def _unlike(node: Any) -> str:
    """Why a node that is no LSTM, GRU or RNN is not read."""
    if _QUANTIZED.search(node.op_type):
        return "quantized networks are not read"
    return "no operator of ONNX' own, of which LSTM, GRU and RNN are read"


class NodeReader:
    """Finds the recurrent nodes of a model and reads those that are asked for.

    Parameters
    ----------
    model : Model
    allow_nonfinite : bool
        Whether weights may be NaN or infinite.
    """

    def __init__(self, model: Model, allow_nonfinite: bool = False) -> None:
        self._markers = Markers(model.size)
        self._constants = Constants(self._markers)
        self._allow_nonfinite = allow_nonfinite
        found = [(scope, node) for scope, node in walk(model) if _SIMILAR.search(node.op_type)]
        self.candidates = [Candidate(number, *at) for number, at in enumerate(found)]

    def read(self, candidate: Candidate) -> Parameters:
        """A node's cell and parameters.

        Raises
        ------
        WeightsError
            No layer computes the same, or its weights are not constants.
        """
        number, scope, node = candidate
        what = f"{operator_name(node)[:60]} {_short(node.name) or number}"
        if not is_recurrent(node):
            raise WeightsError(f"{what}: {_unlike(node)}")
        given = [*node.input, *[""] * 8]
        names = {"W": given[1], "R": given[2], "B": given[3], "P": given[7] if node.op_type == "LSTM" else ""}
        weights = []
        for letter, name in names.items():
            try:
                array = self._constants.value(scope, name)
            except WeightsError as error:
                raise WeightsError(f"{what}: {letter}: {error}") from None
            if array is not None:
                self._markers.spend(array.shape)  # a copy in our order
            weights.append(array)
        return parameters_of(node, weights, what, self._allow_nonfinite)

    def records(self) -> list[NodeRecord]:
        """All of them."""
        return [self._record(candidate) for candidate in self.candidates]

    def _record(self, candidate: Candidate) -> NodeRecord:
        number, scope, node = candidate
        record = NodeRecord(number, node.name, tuple(node.output), scope.where, operator_name(node))
        try:
            found = self.read(candidate)
        except WeightsError as error:
            return record._replace(error=str(error))
        return record._replace(
            cell=found.cell,
            inputs=found.inputs,
            hidden=found.hidden,
            directions=found.directions,
            peepholes="weight_ph" in found.params[0],
            batch_first=found.batch_first,
        )

    def choose(self, choices: Sequence[Choice] | None) -> list[Parameters]:
        """The nodes that are asked for, or the only one.

        Parameters
        ----------
        choices : sequence of int and str, optional
            Numbers, names, or names of outputs.

        Raises
        ------
        WeightsError
            There is no such node, several are called so, or one of them cannot be read.
        """
        self.check_any()
        return [self.read(self._find(choice)) for choice in ([None] if choices is None else choices)]

    def check_any(self) -> None:
        """Refuse a model without a node that can be read, and say what similar node there is."""
        if not any(is_recurrent(candidate.node) for candidate in self.candidates):
            similar = [f"{operator_name(c.node)[:60]}: {_unlike(c.node)}" for c in self.candidates]
            raise WeightsError("; ".join(["holds no LSTM, GRU or RNN node", *similar[:1]]))

    def _find(self, choice: Choice | None) -> Candidate:
        if choice is None:
            found, problem = self.candidates, "which of its recurrent nodes?"
        elif isinstance(choice, str):
            names = [(candidate.node.name, *candidate.node.output) for candidate in self.candidates]
            found = [self.candidates[k] for k, own in enumerate(names) if choice and choice in own]
            count = f"{len(found)} nodes are" if found else "no recurrent node or output of one is"
            problem = f"{count} called {_short(choice)!r}"
        else:
            found = self.candidates[choice : choice + 1]
            problem = f"expected a number from 0 to {len(self.candidates) - 1}, got {choice}"
        if len(found) != 1:
            raise WeightsError(f"node: {problem}; {self.listing()}")
        return found[0]

    def listing(self) -> str:
        """How to choose, and the nodes that there are, for a message."""
        records = [describe(self._record(candidate)) for candidate in self.candidates[:_LISTED]]
        count = len(self.candidates)
        listed = "; ".join([*records, *(["..."] if count > _LISTED else [])])
        return f"choose by node=NUMBER or node='NAME' of {count}: {listed}"


def checked_choice(node: Any) -> list[Choice] | None:
    """Check the argument `node`.

    Raises
    ------
    TypeError, ValueError
        It is no number from 0, name or list of them.
    """
    if node is None:
        return None
    parts = node if isinstance(node, (list, tuple)) else [node]
    for part in parts or [parts]:
        if isinstance(part, bool) or not isinstance(part, (str, int, np.integer)):
            raise TypeError(f"node: expected a number, a name or a list of them, got {node!r}"[:200])
    return [part if isinstance(part, str) else integer("node", part, 0) for part in parts]
