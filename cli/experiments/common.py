"""What the experiments' commands share: their options, and how they show an `Outcome`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstm_numba.cli.console import Terminal, print_json, warn
from lstm_numba.cli.options import NATURAL, device_option, json_option, threads_option
from lstm_numba.cli.types import F, Folder, option

if TYPE_CHECKING:
    from lstm_numba.experiments.outcome import Outcome


def common_options(name: str) -> Callable[[F], F]:
    """Seed, device, threads, folder of the pictures, and JSON."""
    decorators = [
        option(
            "Experiment",
            "--seed",
            type=NATURAL,
            default=0,
            show_default=True,
            help="Random seed of data and weights.",
        ),
        device_option,
        threads_option,
        option(
            "Output",
            "--out",
            type=Folder(),
            metavar="FOLDER",
            default=f"experiments/{name}",
            show_default=True,
            help="Folder for the figures.",
        ),
        json_option,
    ]

    def apply(function: F) -> F:
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return apply


def conduct(
    run: Callable[..., Outcome],
    draw: Callable[[], Callable[[Mapping[str, Any]], Mapping[str, Any]]],
    settings: Mapping[str, Any],
    *,
    device: str,
    threads: int | None,
    out: str,
    as_json: bool,
) -> None:
    """Run an experiment, write its pictures, and print its table and claims.

    Parameters
    ----------
    run : callable
        Called with the settings, ``device`` and ``progress``.
    draw : callable
        Imports and returns the function that draws the outcome's document: figures by their files' names.
        Not called without matplotlib.
    settings : dict
    device, threads, out, as_json
        The common options.
    """
    from lstm_numba.cli.plot import require_matplotlib
    from lstm_numba.cli.resources import choose_device, set_threads
    from lstm_numba.errors import UserError

    device = choose_device(device)
    set_threads(threads)
    terminal = Terminal()
    outcome = run(
        **settings,
        device=device,
        progress=lambda done, total, what: terminal.on_part(done, total, what),
    )
    terminal.clear()
    document = outcome.document()
    try:
        require_matplotlib("a figure")
    except UserError as error:
        warn(str(error))
        document["files"] = []
    else:
        document["files"] = _pictures(draw()(document), Path(out))
    if as_json:
        from lstm_numba.benchmarks.results import machine

        print_json({**document, "machine": machine()})
        return
    click.echo(table(outcome.columns, outcome.rows))
    for path in document["files"]:
        click.echo(path)
    for claim in outcome.claims:
        click.echo(claim.line())


def _pictures(figures: Mapping[str, Any], folder: Path) -> list[str]:
    from lstm_numba.plots.style import save

    folder.mkdir(parents=True, exist_ok=True)
    return [str(path) for name, figure in figures.items() for path in save(figure, folder / name)]


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as text in columns, numbers to the right."""
    cells = [[_text(row.get(name)) for name in columns] for row in rows]
    numbers = [all(isinstance(row.get(name), (int, float, type(None))) for row in rows) for name in columns]
    widths = [max(len(name), *(len(row[n]) for row in cells)) for n, name in enumerate(columns)]
    lines = [
        "  ".join(
            f"{text:>{width}}" if right else f"{text:<{width}}"
            for text, width, right in zip(line, widths, numbers, strict=True)
        ).rstrip()
        for line in [list(columns), *cells]
    ]
    return "\n".join(lines)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)
