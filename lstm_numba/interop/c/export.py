"""Models and layers as a C99 header: the weights, and one function that computes a step.

The header needs <math.h> alone, allocates nothing and has no variables: what changes is in a struct of the
caller. It compiles as C++ too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_numba._version import __version__
from lstm_numba.cells import display_name
from lstm_numba.data.file_io import atomic_write
from lstm_numba.engines.number_losses import GAUSSIAN, variance
from lstm_numba.errors import WeightsError
from lstm_numba.interop.c.cell import CCell
from lstm_numba.interop.c.writer import Array, Dialect, comment, identifier
from lstm_numba.models.base import Model
from lstm_numba.models.language_model import LanguageModel
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.nn.heads import HeadParams
from lstm_numba.nn.recurrent import Recurrent

if TYPE_CHECKING:
    from lstm_numba.training.series_description import SeriesDescription

#: Facts that are not written into the comment as they are too long.
_LONGEST_FACT = 300


def save_c(
    model: Model | Recurrent,
    path: str | os.PathLike[str],
    *,
    series: SeriesDescription | None = None,
    facts: Mapping[str, str] | None = None,
) -> int:
    """Write a model or a layer of one direction as a C99 header that computes it step by step.

    Of ``net.h`` there are the struct ``net_state``, ``net_init(net_state *state)``, which begins a sequence
    with zeros, and ``net_step(net_state *state, const float *x, float *y)``, which reads ``NET_INPUTS``
    numbers and writes ``NET_OUTPUTS``; of a `LanguageModel` ``net_step(net_state *state, int token, float
    *y)``. ``y`` has the scores of the output layer after this step, of a layer its output; it may be NULL
    where they are not needed, as before the end of a sequence that is classified, and may be x. ``float`` is
    ``double`` for a float64 model. Every cell is translated from its equations, also those of users.

    Parameters
    ----------
    model : LanguageModel, SequenceClassifier, SequenceRegressor or Recurrent
    path : path
        ``.h``; an existing file is replaced atomically. The names begin with its stem.
    series : SeriesDescription, optional
        What a run of series knows of its data (`Run.series`). Then x and, of numbers, y are in the units of
        the data; of a Gaussian y has mean and standard deviation, quantiles may be crossed.
    facts : mapping of str to str, optional
        Further lines of the comment.

    Returns
    -------
    int
        Number of parameters written; a tied matrix is one.

    Raises
    ------
    WeightsError
        A step in C cannot be what the model computes: both directions, groups of periods, extras, a forecast
        relative to the window's end; a weight is not finite; or the file has another suffix.
    TypeError
        It is neither model nor layer.
    OSError
        The file cannot be written.
    """
    path = Path(path)
    if not isinstance(model, Recurrent | LanguageModel | SequenceModel):
        raise TypeError(f"model: expected a model or a recurrent layer, got {type(model).__name__}")
    if path.suffix != ".h":
        raise WeightsError(f"{path}: expected a name that ends in .h")
    header = _Header(model, path.name, identifier(path.stem), series)
    atomic_write(path, header.text(facts or {}).encode())
    return header.parameters


def _check(rnn: Recurrent, series: SeriesDescription | None) -> None:
    """Refuse by name what cannot be computed step by step."""
    if rnn.bidirectional:
        raise WeightsError("rnn: bidirectional layers read a sequence from its end too, a step in C cannot")
    if hasattr(rnn, "periods"):
        raise WeightsError("rnn: a step in C has no groups of periods, as a ClockworkRNN has")
    if series is not None and series.relative:
        raise WeightsError(
            "series: the forecasts are relative to the window's last step, which a step in C does not know; "
            "ONNX has them"
        )


class _Header:
    """A header in the making.

    Parameters
    ----------
    model : Model or Recurrent
    name, prefix : str
        The file's name, and what the names in it begin with.
    series : SeriesDescription or None
    """

    def __init__(self, model: Any, name: str, prefix: str, series: SeriesDescription | None) -> None:
        self._model, self._name, self._prefix = model, name, prefix
        self._rnn = rnn = model if isinstance(model, Recurrent) else model.rnn
        self._series = series
        _check(rnn, series)
        self._dialect = Dialect(rnn.dtype, prefix)
        width = rnn.hidden_size // rnn.heads
        self._cell = CCell(rnn.cell, self._dialect, width, rnn.proj_size or width, rnn.bias)
        arrays = {n: np.asarray(model.engine.download(array)) for n, array in model.params.items()}
        self.parameters = sum(array.size for array in arrays.values())
        self._params = {n: array for n, array in arrays.items() if n.startswith(("embedding.", "output."))}
        self._constants: list[str] = []
        self._bytes = 0
        self._weights: dict[str, Array] = {}  # of a layer or head; all have the same
        self._tied = "output.weight" not in self._params and "output.bias" in self._params

    @property
    def _inputs(self) -> int:
        return self._rnn.input_size

    @property
    def _outputs(self) -> int:
        bias = self._params.get("output.bias")
        return self._rnn.output_size if bias is None else bias.size

    @property
    def _language(self) -> bool:
        return "embedding.weight" in self._params

    def _add(self, name: str, array: Array, what: str) -> str:
        """Add a constant array and return its name in C."""
        full = f"{self._prefix}_{name}"
        self._constants += ["", *self._dialect.array(full, array, what)]
        self._bytes += array.size * self._dialect.dtype.itemsize
        return full

    def text(self, facts: Mapping[str, str]) -> str:
        """The whole file."""
        calls = self._layers()
        step = self._step(calls)
        functions = self._functions()
        guard = f"{self._prefix.upper()}_H"
        parts = [
            *self._comment(facts), f"#ifndef {guard}", f"#define {guard}", "", "#include <math.h>", "",
            *self._macros(), "", *self._struct(), *self._constants, "", *functions, "", *step, "",
            f"#endif /* {guard} */",
        ]  # fmt: skip
        return "\n".join(parts) + "\n"

    # -- weights and calls -------------------------------------------------------------------------

    def _layers(self) -> list[str]:
        """Add the weights of all layers and heads; returns the calls of their steps."""
        rnn, calls = self._rnn, []
        state = rnn.state_dict()
        x, inputs = "input", f"{self._prefix.upper()}_INPUTS"
        if self._language:
            inputs = str(rnn.input_size)
        for layer in range(rnn.num_layers):
            end = f"_l{layer}"
            own = {n.removesuffix(end): array for n, array in state.items() if n.endswith(end)}
            for head, params in enumerate(HeadParams(rnn.heads).of(own)):
                name = end if rnn.heads == 1 else f"{end}_head{head}"
                self._weights = self._cell.weights(params)
                arrays = {
                    key: self._add(f"{key}{name}", array, self._shape(key, array))
                    for key, array in self._weights.items()
                }
                offset = f" + {head * self._cell.sizes[-1]}" if head else ""
                states = [f"state->{s}[{layer}]{offset}" for s in self._cell.states]
                calls.append(self._cell.call(arrays, inputs, x, states))
            x, inputs = f"state->{self._cell.states[0]}[{layer}]", str(rnn.output_size)
        return calls

    def _shape(self, name: str, array: Array) -> str:
        if array.ndim == 1:
            return f"{name}: {array.size}"
        what = "a row for each input" if "weight" in name else "a row for each slot"
        return f"{name}: {array.shape[0]} x {array.shape[1]}, {what}"

    # -- parts of the file -------------------------------------------------------------------------

    def _comment(self, facts: Mapping[str, str]) -> list[str]:
        rnn, prefix, t = self._rnn, self._prefix, self._dialect.type
        layers = f"{rnn.num_layers} layer{'s' if rnn.num_layers > 1 else ''} of {rnn.hidden_size} units"
        what = type(self._model).__name__
        lines = [
            f"{self._name}: a {what}, written by lstm_numba {__version__}.",
            "",
            f"Cell {display_name(rnn.cell)}, {layers}, {self._inputs} inputs, {self._outputs} outputs, {t}, "
            f"{self.parameters:,} parameters.",
            f"Constants: {self._bytes:,} bytes; {prefix}_state: {self._state_size():,} bytes.",
            "",
            f"    {prefix}_state state;",
            f"    {t} y[{prefix.upper()}_OUTPUTS];",
            f"    {prefix}_init(&state);         -- before each sequence",
            f"    {prefix}_step(&state, {'token' if self._language else 'x'}, y);  -- each step",
            "",
            *self._usage(),
        ]
        for name, text in facts.items():
            if len(text) <= _LONGEST_FACT:
                lines.append(f"{name.rpartition('.')[2]}: {text}")
        return ["/*", *(f" * {comment(line)}".rstrip() for line in lines), " */"]

    def _usage(self) -> list[str]:
        model, lines = self._model, []
        if self._language:
            count = len(self._params["embedding.weight"])
            lines.append(
                f"token is one of 0 to {count - 1}, which is not checked; y has the scores of the next"
            )
            lines.append("one. Where y is NULL they are not computed.")
        elif isinstance(model, Recurrent):
            lines.append("y has the last layer's output; it may be NULL.")
        elif isinstance(model, SequenceModel):
            when = "of this step" if model.per_step else "of the sequence as far as it has been read"
            lines.append(f"y has the scores {when}. Where y is NULL they are not computed.")
        if self._series is not None:
            lines.append("x and, of numbers, y are in the units of the data; x has no missing numbers.")
            if self._series.window is not None:
                lines.append(f"A prediction is that of a window: init, then {self._series.window} steps.")
        return lines

    def _macros(self) -> list[str]:
        upper, found = self._prefix.upper(), []
        if not self._language:
            found.append(f"#define {upper}_INPUTS {self._inputs}")
        found.append(f"#define {upper}_OUTPUTS {self._outputs}")
        word = f"#define {upper}_RESTRICT"  # without it few compilers vectorise with -O2
        return [*found, "#ifdef __cplusplus", f"{word} __restrict", "#else", f"{word} restrict", "#endif"]

    def _members(self) -> dict[str, tuple[int, ...]]:
        """Arrays in the struct."""
        rnn = self._rnn
        sizes = [rnn.output_size, *[rnn.hidden_size] * (len(self._cell.states) - 1)]
        found: dict[str, tuple[int, ...]] = {
            state: (rnn.num_layers, size) for state, size in zip(self._cell.states, sizes, strict=True)
        }
        found |= {name: (size,) for name, size in self._cell.work.items()}
        return found | ({"scaled": (self._inputs,)} if self._series is not None else {})

    def _state_size(self) -> int:
        return self._dialect.dtype.itemsize * sum(map(int, map(np.prod, self._members().values())))

    def _struct(self) -> list[str]:
        """What changes: the states, then what only a step needs."""
        t = self._dialect.type
        lines = ["typedef struct {"]
        for name, shape in self._members().items():
            what = "" if name in self._cell.states else " /* used within a step */"
            lines.append(f"    {t} {name}{''.join(f'[{size}]' for size in shape)};{what}")
        return [*lines, f"}} {self._prefix}_state;"]

    def _functions(self) -> list[str]:
        t, prefix, lines = self._dialect.type, self._prefix, []
        cell = self._cell.function(self._weights)
        calls = self._cell.calls | ({"exp", "sqrt"} if self._gaussian else set())
        for name in sorted(calls):
            helper = self._dialect.helper(name)
            lines += [*helper, ""] if helper else []
        lines += [
            "/* z += W x: the columns of W are neighbours in memory. */",
            f"static inline void {prefix}_multiply(",
            f"    int rows, int columns, const {t} *w, const {t} *x, {t} *{prefix.upper()}_RESTRICT z)",
            "{",
            "    for (int k = 0; k < columns; ++k)",
            "        for (int n = 0; n < rows; ++n)",
            "            z[n] += w[k * rows + n] * x[k];",
            "}",
            "",
            f"/* One step of a layer: {comment(display_name(self._rnn.cell))}. */",
            *cell,
            "",
            f"static inline void {prefix}_init({prefix}_state *state)",
            "{",
        ]
        zero = self._dialect.number(0)
        for name, size in zip(self._cell.states, self._cell.sizes, strict=True):
            lines.append(f"    for (int k = 0; k < {self._rnn.num_layers}; ++k)")
            lines.append(f"        for (int n = 0; n < {size * self._rnn.heads}; ++n)")
            lines.append(f"            state->{name}[k][n] = {zero};")
        return [*lines, "}"]

    @property
    def _gaussian(self) -> bool:
        model = self._model
        numbers = isinstance(model, SequenceRegressor) and model.loss.kind == GAUSSIAN
        return numbers and self._series is not None

    def _step(self, calls: list[str]) -> list[str]:
        t, prefix, upper = self._dialect.type, self._prefix, self._prefix.upper()
        lines = []
        x = "int token" if self._language else f"const {t} *x"
        if self._language:
            table = self._params["embedding.weight"]
            name = self._add("embedding", table, f"embedding: {table.shape[0]} x {table.shape[1]}")
            lines.append(f"const {t} *input = {name} + token * {table.shape[1]};")
        elif self._series is not None:
            it = self._series.inputs
            mean = self._add("input_mean", it.mean, f"input_mean: {len(it.mean)}")
            scale = self._add("input_scale", it.scale, f"input_scale: {len(it.scale)}")
            lines += [
                f"const {t} *input = state->scaled;",
                f"for (int k = 0; k < {upper}_INPUTS; ++k)",
                f"    state->scaled[k] = (x[k] - {mean}[k]) / {scale}[k];",
            ]
        else:
            lines.append(f"const {t} *input = x;")
        lines += [*calls, "if (y) {", *(f"    {line}" for line in self._output()), "}"]
        head = f"static inline void {prefix}_step({prefix}_state *state, {x}, {t} *y)"
        return [head, "{", *(f"    {line}" for line in lines), "}"]

    def _output(self) -> list[str]:
        """What is written to y."""
        prefix, loop = self._prefix, f"for (int n = 0; n < {self._prefix.upper()}_OUTPUTS; ++n)"
        last = f"state->{self._cell.states[0]}[{self._rnn.num_layers - 1}]"
        if "output.bias" not in self._params:
            return [loop, f"    y[n] = {last}[n];"]
        bias = self._add("output_bias", self._params["output.bias"], f"output_bias: {self._outputs}")
        width = self._rnn.output_size
        if self._tied:  # the embedding's rows
            return [
                f"{loop} {{",
                f"    y[n] = {bias}[n];",
                f"    for (int k = 0; k < {width}; ++k)",
                f"        y[n] += {prefix}_embedding[n * {width} + k] * {last}[k];",
                "}",
            ]
        weight = np.ascontiguousarray(self._params["output.weight"].T)
        name = self._add("output_weight", weight, self._shape("output_weight", weight))
        lines = [loop, f"    y[n] = {bias}[n];"]
        lines.append(f"{prefix}_multiply({prefix.upper()}_OUTPUTS, {width}, {name}, {last}, y);")
        return lines + self._in_units(loop)

    def _in_units(self, loop: str) -> list[str]:
        """Undo the standardisation of the targets."""
        it, model = self._series, self._model
        if it is None or not isinstance(model, SequenceRegressor):
            return []
        lines, width = [], model.loss.width
        count = self._outputs // (len(it.targets) * width)
        moved = np.ones(width)
        if self._gaussian:
            moved[1:] = 0.0
            sqrt, exp = self._dialect.math("sqrt"), self._dialect.math("exp")
            least = self._dialect.number(float(variance(np.array(-np.inf))))
            lines.append(f"for (int n = 1; n < {self._outputs}; n += 2)")
            lines.append(f"    y[n] = {sqrt}({exp}(y[n]) + {least});")
        scale = np.tile(np.repeat(it.outputs.scale, width), count)
        shift = np.tile(np.outer(it.outputs.mean, moved).reshape(-1), count)
        names = [
            self._add(f"output_{name}", array, f"output_{name}: {array.size}")
            for name, array in (("scale", scale), ("shift", shift))
        ]
        return [*lines, loop, f"    y[n] = y[n] * {names[0]}[n] + {names[1]}[n];"]
