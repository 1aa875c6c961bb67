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
    CONTESTANTS,
    CROSSOVER_AXES,
    DEFAULT_CELLS,
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
from lstm_numba.cli.options import POSITIVE, threads_option
from lstm_numba.cli.types import CellName, SectionedCommand, SectionedOption
from lstm_numba.errors import UserError
from lstm_numba.training.settings import DTYPES

_WORDS = "lstm_numba.bench.words"


class _Parsed(click.ParamType):
    """What a function reads that raises ValueError with a message for the user."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text or fail with what was expected."""
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _option(section: str, flag: str, help: str, **attributes: Any) -> Callable[[Any], Any]:
    return click.option(flag, help=help, cls=SectionedOption, section=section, **attributes)


class _BenchCommand(SectionedCommand):
    """Keeps the words of the command line: they belong to the results."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        ctx.meta[_WORDS] = list(args)
        return super().parse_args(ctx, args)


@click.command(
    cls=_BenchCommand,
    epilog="""\b
Examples:
  lstm-numba bench
  lstm-numba bench --cell lstm --shape ptb-small --shape 32x50x64x128 --task training --memory
  lstm-numba bench --sweep hidden=64,128,256 --shape ptb-small --plot pictures --json hidden.json
  lstm-numba bench --sweep batch --cell lstm --contestant cpu-parallel --contestant cuda
  lstm-numba bench --compare before.json after.json
""",
)
@_option(
    "What",
    "--cell",
    "Recurrent cell; MODULE:CLASS is one of your own; may be repeated.  "
    f"[default: {', '.join(DEFAULT_CELLS)}]",
    type=CellName(),
    multiple=True,
)
@_option(
    "What",
    "--task",
    "A whole sequence, forth and back with all gradients, or one step a call; may be repeated.  "
    "[default: all]",
    type=click.Choice(TASKS),
    multiple=True,
)
@_option(
    "What",
    "--shape",
    f"BATCHxSTEPSxINPUTSxHIDDEN, or {', '.join(SHAPES)}; may be repeated.",
    type=_Parsed("shape", parse_shape),
    multiple=True,
)
@_option(
    "What",
    "--preset",
    "Several shapes by one name.  [default: quick, where there is no --shape]",
    type=click.Choice(list(PRESETS)),
)
@_option(
    "What",
    "--sweep",
    f"Vary {', '.join(SWEEPS)} around one shape ({SWEEP_SHAPE} unless --shape names it); "
    "hidden=64,128 names the values.",
    type=_Parsed("axis", parse_sweep),
)
@_option(
    "What",
    "--contestant",
    "Who takes part; may be repeated.  [default: all that are there]",
    type=click.Choice(CONTESTANTS),
    multiple=True,
)
@_option(
    "What",
    "--dtype",
    "Precision of all numbers.",
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
)
@_option("What", "--memory", "Measure the peak memory of training steps too, in new processes.", is_flag=True)
@_option(
    "Protocol", "--turns", "Turns that each contestant gets.", type=POSITIVE, default=11, show_default=True
)
@threads_option
@_option("Output", "--json", "Write everything that was measured.", type=click.Path(dir_okay=False))
@_option(
    "Output",
    "--plot",
    "Draw bars by shape, and curves of a sweep, as PNG and SVG; needs the extra plot.",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
)
@_option(
    "Output",
    "--compare",
    "Run nothing: compare the medians in two files that --json wrote.",
    nargs=2,
    type=click.Path(dir_okay=False),
    metavar="A B",
)
@click.pass_context
def bench(ctx: click.Context, **values: Any) -> None:
    """Compare this library's layers with PyTorch's and ONNX Runtime's, where they are installed.

    On a computer with a CUDA device there are also "cuda", whose arrays lie on the device, "cuda-transfers",
    which copies NumPy arrays there and back, and PyTorch with cuDNN; sweeps over batch and hidden then tell
    from which size on the device is faster than all threads of the processor.

    First everybody's results are checked against a slow, independent reference and against each other: who is
    wrong is not timed, and the exit status is 1. Then they take turns. Compilation is timed apart. Operations
    counted are those of the matrix products.
    """
    if values["compare"]:
        _compare(*map(Path, values["compare"]))
        return
    refused = _run(values)
    if refused:
        ctx.exit(1)


def _compare(first: Path, second: Path) -> None:
    from lstm_numba.benchmarks import report, results

    documents = results.load(first), results.load(second)
    pairs = results.compare(*documents)
    if not pairs:
        raise UserError(f"{first} and {second} have no row and contestant in common")
    click.echo(report.comparison(pairs, (str(first), str(second))))


def _run(values: dict[str, Any]) -> bool:
    """Run the comparison; tell whether somebody was refused."""
    # Before Numba starts its threads: PyTorch imported later shares their OpenMP library, and was seen to run
    # its GRU seventeen times slower.
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401

    from lstm_numba.cli.custom_cells import load_own_cells
    from lstm_numba.cli.plot import require_matplotlib
    from lstm_numba.cli.resources import set_threads

    shapes, sweep = _shapes(values["shape"], values["preset"], values["sweep"])
    if values["plot"]:
        require_matplotlib("--plot")
    output = Path(values["json"]) if values["json"] else None
    if output is not None and not output.absolute().parent.is_dir():
        raise UserError(f"--json {output}: there is no such folder")
    threads = set_threads(values["threads"])
    if sweep is not None and sweep.axis == "threads":
        set_threads(max((*sweep.values, threads)))  # refuses more than there are
    names = [name for name in CONTESTANTS if name in (values["contestant"] or CONTESTANTS)]
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
    """Shapes that the options ask for."""
    if sweep is None:
        names = PRESETS[preset] if preset else () if given else PRESETS["quick"]
        return [*given, *(SHAPES[name] for name in names)], None
    if preset or len(given) > 1:
        raise click.UsageError("--sweep: goes around one shape; give one --shape and no --preset")
    return list(given) or [SHAPES[SWEEP_SHAPE]], sweep


def _fill(document: dict[str, Any], rows: Sequence[Any], names: list[str], values: dict[str, Any]) -> None:
    """Run the rows, print them as they come and put them into the document."""
    from lstm_numba.benchmarks import report, results
    from lstm_numba.benchmarks.runner import Bench, Settings, unavailable
    from lstm_numba.benchmarks.timing import protocol
    from lstm_numba.cli.console import Terminal

    class Progress(Terminal):
        """Row after row on the line that moves: what stays is the table."""

        def on_message(self, text: str) -> None:
            self.move(text)

    absent = unavailable(names)
    command = shlex.join(["lstm-numba", "bench", *click.get_current_context().meta[_WORDS]])
    document.update(results.begin(command, protocol(values["turns"]), absent))
    click.echo(report.heading(document, values["dtype"]))
    present = [name for name in names if name not in absent]
    if not present:
        raise UserError("none of the contestants is here")
    table = report.Table(rows, present)
    click.echo(table.header)
    terminal = Progress()
    bench = Bench(Settings(present, values["dtype"], values["turns"], values["memory"]), terminal)
    document["yardsticks"] = bench.yardsticks
    for result in bench.run(rows):
        terminal.clear()
        document["rows"].append(result)
        document["compile_seconds"] = bench.compile_seconds
        click.echo(table.row(result))


def _finish(document: dict[str, Any], output: Path | None, plot: str | None, sweep: Sweep | None) -> None:
    """Print what is below the table; write the files."""
    from lstm_numba.benchmarks import report

    click.echo(report.closing(document))
    if output is not None:
        from lstm_numba.data.file_io import atomic_write

        atomic_write(output, (json.dumps(document, indent=1) + "\n").encode())
    if plot is not None:
        from lstm_numba.cli import bench_plots, run_plots

        folder = Path(plot)
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in bench_plots.draw(document, sweep.axis if sweep else None).items():
            for path in run_plots.save(picture, folder / name):
                click.echo(f"drawn: {path}", err=True)
