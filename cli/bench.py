"""``lstm-numba bench``: recurrent layers beside PyTorch and ONNX Runtime on this computer, CPU and GPU."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from lstm_numba.benchmarks.cases import (
    CROSSOVER_AXES,
    DEFAULT_CELLS,
    DEFAULT_REPEATS,
    IMPLEMENTATIONS,
    PRESETS,
    SHAPES,
    SWEEP_SHAPE,
    SWEEPS,
    TASKS,
    Shape,
    Sweep,
    parse_shape,
    parse_sweep,
    plan_rows,
)
from lstm_numba.benchmarks.conditions import ISAS, Conditions, chosen_isa, run_with_isa, without_switch
from lstm_numba.cli.options import NATURAL, NOT_NEGATIVE, POSITIVE, threads_option
from lstm_numba.cli.shell_values import one_of
from lstm_numba.cli.types import CellName, Choice, Folder, SectionedCommand, SectionedOption
from lstm_numba.errors import UserError
from lstm_numba.training.settings import DTYPES

#: Key of the command-line arguments in Click's context.
_ARGUMENTS = "lstm_numba.bench.arguments"
#: Old names of options, which are still accepted.
_OLD_NAMES = {"contestant": "implementation", "turns": "repeats"}


class _Parsed(click.ParamType):
    """A parameter type from a function that raises ValueError with a message for the user."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text, or fail and say what was expected."""
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _option(section: str, flag: str, help: str, **attributes: Any) -> Callable[[Any], Any]:
    return click.option(flag, help=help, cls=SectionedOption, section=section, **attributes)


class _BenchCommand(SectionedCommand):
    """Keeps the command-line arguments, which are part of the results."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


@click.command(
    cls=_BenchCommand,
    context_settings={"token_normalize_func": lambda name: _OLD_NAMES.get(name, name)},
    epilog="""\b
Examples:
  lstm-numba bench
  lstm-numba bench --cell lstm --shape 32x50x64x128 --task training --memory
  lstm-numba bench --sweep hidden=64,128,256 --plot figures --json hidden.json
  lstm-numba bench --preset all --task inference --busy 2
  lstm-numba bench --isa avx2
  lstm-numba bench --sweep batch --cell lstm --implementation cuda
  lstm-numba bench --compare before.json after.json
""",
)
@_option(
    "What to compare",
    "--cell",
    f"Recurrent cell, as in `train`; may be repeated.  [default: {', '.join(DEFAULT_CELLS)}]",
    type=CellName(),
    multiple=True,
)
@_option(
    "What to compare",
    "--task",
    "inference: forward pass of a whole sequence; training: forward and backward pass with all gradients; "
    "streaming: one time step per call. May be repeated.  [default: all]",
    type=Choice(TASKS),
    multiple=True,
)
@_option(
    "What to compare",
    "--shape",
    "Batch size, time steps, input size and hidden size, as BATCHxSTEPSxINPUTSxHIDDEN; "
    f"or one of {', '.join(SHAPES)}. May be repeated.",
    type=_Parsed("shape", parse_shape),
    shell_complete=one_of(*SHAPES),
    multiple=True,
)
@_option(
    "What to compare",
    "--preset",
    f"Several shapes; quick: {', '.join(PRESETS['quick'])}.  [default: quick, unless --shape is given]",
    type=Choice(list(PRESETS)),
)
@_option(
    "What to compare",
    "--sweep",
    f"Vary one of {', '.join(SWEEPS)} and keep the rest of one shape (--shape, by default {SWEEP_SHAPE}); "
    "hidden=64,128 gives the values.",
    type=_Parsed("axis", parse_sweep),
    shell_complete=one_of(*SWEEPS),
)
@_option(
    "What to compare",
    "--implementation",
    f"Backend to time: {', '.join(IMPLEMENTATIONS)}; may be repeated.  [default: all that can run here]",
    type=Choice(IMPLEMENTATIONS),
    multiple=True,
    metavar="NAME",
)
@_option(
    "What to compare",
    "--dtype",
    "Floating-point type of all arrays.",
    type=Choice(DTYPES),
    default="float32",
    show_default=True,
)
@_option(
    "How to measure",
    "--repeats",
    "Repeats: timings of each backend, of about 0.2 seconds each.",
    type=POSITIVE,
    default=DEFAULT_REPEATS,
    show_default=True,
)
@_option(
    "How to measure",
    "--pause",
    "Pause before each call in milliseconds, as in a program that also does other work.",
    type=NOT_NEGATIVE,
    default=0,
    show_default=True,
)
@_option(
    "How to measure",
    "--busy",
    "Also measure while this many other processes compute without pause.",
    type=NATURAL,
    default=0,
    show_default=True,
)
@_option(
    "How to measure",
    "--isa",
    "Limit all libraries to this instruction set; those that have no such setting are left out.",
    type=Choice(ISAS),
)
@_option(
    "How to measure",
    "--memory",
    "Also measure the peak memory of training steps on the CPU in MiB, each in a new process.",
    is_flag=True,
)
@threads_option
@_option("Output", "--json", "Write all results to this JSON file.", type=click.Path(dir_okay=False))
@_option(
    "Output",
    "--plot",
    "Plot bar charts by shape, or curves of a sweep, as PNG and SVG files; needs the extra plot.",
    type=Folder(),
    metavar="FOLDER",
)
@_option(
    "Output",
    "--compare",
    "Compare the median times in two files written by --json, without running anything.",
    nargs=2,
    type=click.Path(dir_okay=False),
    metavar="A B",
)
@click.pass_context
def bench(ctx: click.Context, **values: Any) -> None:
    """Benchmark recurrent layers against PyTorch and ONNX Runtime, where they are installed.

    On a machine with a CUDA device also: "cuda" with all arrays on the device, "cuda-transfers" with NumPy
    arrays that are copied there and back, and "pytorch-cuda", PyTorch with cuDNN. Sweeps over batch and
    hidden then report the size from which the device is faster than all threads of the CPU.

    All results are first checked against an independent reference and against each other. A backend with
    wrong results is not timed, and the exit status is 1. The others are timed alternately; the table shows
    the median over all repeats. Compilation is timed separately. GFLOP/s count the matrix products only.
    """
    if values["compare"]:
        _compare(*map(Path, values["compare"]))
        return
    if values["isa"] and chosen_isa() != values["isa"]:
        ctx.exit(run_with_isa(values["isa"], ctx.meta[_ARGUMENTS]))
    refused = _run(values)
    if refused:
        ctx.exit(1)


def _compare(first: Path, second: Path) -> None:
    from lstm_numba.benchmarks import report, results

    documents = results.load(first), results.load(second)
    pairs = results.compare(*documents)
    if not pairs:
        raise UserError(f"{first} and {second} have no row and backend in common")
    click.echo(report.comparison(pairs, (str(first), str(second))))


def _run(values: dict[str, Any]) -> bool:
    """Run the comparison; return whether an implementation was refused."""
    # Before Numba starts its threads: imported later, PyTorch shares their OpenMP library, and its GRU was
    # seventeen times slower in one measurement.
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401

    from lstm_numba.cells import GROUPED
    from lstm_numba.cli.custom_cells import load_own_cells
    from lstm_numba.cli.plot import require_matplotlib
    from lstm_numba.cli.resources import set_threads

    shapes, sweep = _shapes(values["shape"], values["preset"], values["sweep"])
    if values["plot"]:
        require_matplotlib("--plot")
    output = Path(values["json"]) if values["json"] else None
    if output is not None and not output.absolute().parent.is_dir():
        raise UserError(f"--json {output}: folder {output.absolute().parent} does not exist")
    threads = set_threads(values["threads"])
    if sweep is not None and sweep.axis == "threads":
        set_threads(max((*sweep.values, threads)))  # refuses more than are available
    names = [name for name in IMPLEMENTATIONS if name in (values["implementation"] or IMPLEMENTATIONS)]
    if set(values["cell"]) & set(GROUPED):
        raise click.UsageError("--cell: clockwork is timed by python -m lstm_numba.benchmarks.clockwork")
    load_own_cells(*values["cell"])
    rows = plan_rows(values["cell"] or DEFAULT_CELLS, shapes, values["task"] or TASKS, threads, sweep)
    document: dict[str, Any] = {}
    try:
        _fill(document, rows, names, values)
    except KeyboardInterrupt:
        document["interrupted"] = True
        raise
    finally:
        set_threads(threads)
        if document.get("rows"):
            if sweep is not None and sweep.axis in CROSSOVER_AXES:
                from lstm_numba.benchmarks.results import crossovers

                document["crossovers"] = crossovers(document["rows"], sweep.axis)
            _finish(document, output, values["plot"], sweep)
    return any(row["refused"] for row in document["rows"])


def _shapes(
    given: Sequence[Shape], preset: str | None, sweep: Sweep | None
) -> tuple[list[Shape], Sweep | None]:
    """The shapes of the options."""
    if sweep is None:
        names = PRESETS[preset] if preset else () if given else PRESETS["quick"]
        return [*given, *(SHAPES[name] for name in names)], None
    if preset or len(given) > 1:
        raise click.UsageError("--sweep varies one shape: give one --shape and no --preset")
    return list(given) or [SHAPES[SWEEP_SHAPE]], sweep


def _fill(document: dict[str, Any], rows: Sequence[Any], names: list[str], values: dict[str, Any]) -> None:
    """Run the rows; print each and add it to the document."""
    from lstm_numba.benchmarks import report, results
    from lstm_numba.benchmarks.registry import unavailable
    from lstm_numba.benchmarks.runner import Bench, Settings
    from lstm_numba.cli.console import Terminal
    from lstm_numba.timing import protocol

    class Progress(Terminal):
        """Shows the current row on the progress line; the table stays."""

        def on_message(self, text: str) -> None:
            self.update(text)

    absent = {**unavailable(names), **without_switch(names)}
    conditions = Conditions(values["pause"] / 1000, values["busy"])
    command = shlex.join(["lstm-numba", "bench", *click.get_current_context().meta[_ARGUMENTS]])
    document.update(results.begin(command, protocol(values["repeats"], *conditions), absent))
    click.echo(report.heading(document, values["dtype"]))
    present = [name for name in names if name not in absent]
    if not present:
        raise UserError("none of the backends is available")
    table = report.Table(rows, present)
    click.echo(table.header)
    terminal = Progress()
    bench = Bench(
        Settings(present, values["dtype"], values["repeats"], values["memory"], conditions), terminal
    )
    document["yardsticks"] = bench.peaks  # an old name, see `lstm_numba.benchmarks.results`
    for result in bench.run(rows):
        terminal.clear()
        document["rows"].append(result)
        document["compile_seconds"] = bench.compile_seconds
        click.echo(table.row(result))


def _finish(document: dict[str, Any], output: Path | None, plot: str | None, sweep: Sweep | None) -> None:
    """Print the lines below the table; write the files."""
    from lstm_numba.benchmarks import report

    click.echo(report.closing(document))
    if output is not None:
        from lstm_numba.data.file_io import atomic_write

        atomic_write(output, (json.dumps(document, indent=1) + "\n").encode())
    if plot is not None:
        from lstm_numba.cli import bench_plots
        from lstm_numba.plots.style import save

        folder = Path(plot)
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in bench_plots.draw(document, sweep.axis if sweep else None).items():
            for path in save(figure, folder / name):
                click.echo(f"drawn: {path}", err=True)
