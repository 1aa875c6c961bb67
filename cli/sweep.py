"""``lstm-numba sweep``: many trainings with settings that Optuna draws, and what mattered."""

from __future__ import annotations

from pathlib import Path

import click

from lstm_numba.cli.options import POSITIVE, data_dir_option, device_option, json_option, threads_option
from lstm_numba.cli.types import Folder, SectionedCommand, argument, option


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba sweep --example
  lstm-numba sweep sweep.toml
  lstm-numba sweep sweep.toml --jobs 2
  lstm-numba sweep sweep.toml --report
  lstm-numba sweep sweep.toml --storage postgresql://me@host/db --out sweep

""",
)
@argument("file", "[FILE]", "Description of the sweep, in TOML.", required=False, type=click.Path())
@option("Sweep", "--example", is_flag=True, help="Print a commented template of FILE and exit.")
@option(
    "Sweep",
    "--jobs",
    type=POSITIVE,
    default=1,
    show_default=True,
    help="Number of training processes on this machine; they share its threads.",
)
@option(
    "Sweep",
    "--storage",
    metavar="URL",
    help="Storage of the Optuna study.  [default: the SQLite file study.db in the folder]",
)
@option(
    "Sweep",
    "--out",
    type=Folder(),
    metavar="FOLDER",
    help="Folder of the sweep, with one run folder per trial.  [default: sweeps/NAME, from FILE's name]",
)
@option(
    "Sweep",
    "--report",
    is_flag=True,
    help="Report the finished trials without training; also while others train.",
)
@data_dir_option
@device_option
@threads_option
@json_option
def sweep(
    file: str | None,
    example: bool,
    jobs: int,
    storage: str | None,
    out: str | None,
    report: bool,
    data_dir: str | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Search the hyperparameter ranges in FILE; report the best trials and the importances.

    FILE (TOML) holds a train command, fixed options and ranges. Optuna (extra "sweep") samples the options
    of each trial and prunes trials that are worse than others at the same epoch. Each trial is a run folder:
    trial-0000, trial-0001, ... A small FILE:

    \b
      command = "train digits"
      [ranges]
      lr = {low = 1e-4, high = 1e-1, log = true}
      cell = ["lstm", "gru"]

    The same command resumes a sweep that was stopped, even by kill -9. Several processes, also on several
    machines with a shared folder, can work on one sweep: each trial is trained once. For more trials change
    their number in FILE.
    """
    if example:
        from lstm_numba.sweeps.example import EXAMPLE

        click.echo(EXAMPLE, nl=False)
        return
    if file is None:
        raise click.UsageError(
            "Missing argument 'FILE': hyperparameter ranges in TOML; --example prints a template"
        )
    if storage is not None and "://" not in storage:
        raise click.UsageError(f"--storage: expected a URL such as sqlite:///study.db, got {storage!r}")
    from lstm_numba.cli.sweeping import Options, report_sweep, train_sweep
    from lstm_numba.sweeps.reading import read_sweep

    config = read_sweep(file)
    folder = Path("sweeps", config.name) if out is None else Path(out)
    options = Options(file, str(folder), storage, data_dir, device, threads)
    if not report:
        train_sweep(config, options, jobs)
    report_sweep(config, options, as_json)
